"""`keras.ops`: the functions of `minitorch_ciml.ops`, which also build models.

Called on a model's symbolic tensors (`keras.Input`), a function becomes a layer; on anything else
it is the same function as in `minitorch_ciml.ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from minitorch_ciml import ops
from minitorch_ciml.keras.symbolic import any_symbolic, symbolic_call

__all__ = list(ops.__all__)


def _symbolic_too(name: str) -> Callable:
    function = getattr(ops, name)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any_symbolic((args, kwargs)):
            return symbolic_call(name, *args, **kwargs)
        return function(*args, **kwargs)

    return call


for _name in __all__:
    globals()[_name] = _symbolic_too(_name)
