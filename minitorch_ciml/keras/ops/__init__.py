"""`keras.ops`: the functions of `minitorch_ciml.ops`, which also build models.

Called on a model's symbolic tensors (`keras.Input`), a function becomes a layer; on anything else
it is the same function as in `minitorch_ciml.ops`. Control flow (`scan`, `cond`, ...) is here only.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from minitorch_ciml import ops as _ops
from minitorch_ciml.keras.ops import control as _control
from minitorch_ciml.keras.ops import image as image
from minitorch_ciml.keras.ops import linalg as linalg
from minitorch_ciml.keras.ops import nn as nn
from minitorch_ciml.keras.ops import numpy as numpy
from minitorch_ciml.keras.ops.calling import KNOWN as _KNOWN
from minitorch_ciml.keras.ops.calling import all_as_keras as _all_as_keras
from minitorch_ciml.keras.ops.calling import as_known as _as_known
from minitorch_ciml.keras.ops.table import FUNCTIONS as _FUNCTIONS

if _TYPE_CHECKING:  # editors and type checkers cannot see what is made below
    from minitorch_ciml.keras.ops.control import *  # noqa: F403
    from minitorch_ciml.ops import *  # noqa: F403

    def __getattr__(name: str) -> _Any: ...  # for mypy, which does not follow `ops.__all__`


__all__: list[str] = []
__all__ += _ops.__all__
__all__ += _control.__all__

globals().update(_all_as_keras(__all__))
globals().update({name: _as_known(name, _FUNCTIONS[name]) for name in _KNOWN})


def __dir__() -> list[str]:
    return [*__all__, "image", "linalg", "nn", "numpy"]
