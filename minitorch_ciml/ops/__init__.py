"""Every differentiable function, with the names and meanings of NumPy and `keras.ops`."""

from minitorch_ciml.ops import attention as _attention
from minitorch_ciml.ops import blocks as _blocks
from minitorch_ciml.ops import conv as _conv
from minitorch_ciml.ops import counting as _counting
from minitorch_ciml.ops import creation as _creation
from minitorch_ciml.ops import ctc as _ctc
from minitorch_ciml.ops import decompositions as _decompositions
from minitorch_ciml.ops import fourier as _fourier
from minitorch_ciml.ops import image as image  # its functions have short names: `resize`
from minitorch_ciml.ops import indexing as _indexing
from minitorch_ciml.ops import joining as _joining
from minitorch_ciml.ops import linalg as _linalg
from minitorch_ciml.ops import losses as _losses
from minitorch_ciml.ops import math as _math
from minitorch_ciml.ops import methods as _methods  # noqa: F401  (gives tensors their methods)
from minitorch_ciml.ops import nn as _nn
from minitorch_ciml.ops import normalization as _normalization
from minitorch_ciml.ops import norms as _norms
from minitorch_ciml.ops import order as _order
from minitorch_ciml.ops import pool as _pool
from minitorch_ciml.ops import rearrangement as _rearrangement
from minitorch_ciml.ops import recurrent as _recurrent
from minitorch_ciml.ops import reduce as _reduce
from minitorch_ciml.ops import scatter as _scatter
from minitorch_ciml.ops import shape as _shape
from minitorch_ciml.ops import statistics as _statistics
from minitorch_ciml.ops.attention import *  # noqa: F403
from minitorch_ciml.ops.blocks import *  # noqa: F403
from minitorch_ciml.ops.conv import *  # noqa: F403
from minitorch_ciml.ops.counting import *  # noqa: F403
from minitorch_ciml.ops.ctc import *  # noqa: F403
from minitorch_ciml.ops.decompositions import *  # noqa: F403
from minitorch_ciml.ops.fourier import *  # noqa: F403
from minitorch_ciml.ops.indexing import *  # noqa: F403
from minitorch_ciml.ops.joining import *  # noqa: F403
from minitorch_ciml.ops.linalg import *  # noqa: F403
from minitorch_ciml.ops.losses import *  # noqa: F403
from minitorch_ciml.ops.math import *  # noqa: F403
from minitorch_ciml.ops.nn import *  # noqa: F403
from minitorch_ciml.ops.normalization import *  # noqa: F403
from minitorch_ciml.ops.norms import *  # noqa: F403
from minitorch_ciml.ops.order import *  # noqa: F403
from minitorch_ciml.ops.pool import *  # noqa: F403
from minitorch_ciml.ops.rearrangement import *  # noqa: F403
from minitorch_ciml.ops.recurrent import *  # noqa: F403
from minitorch_ciml.ops.reduce import *  # noqa: F403
from minitorch_ciml.ops.scatter import *  # noqa: F403
from minitorch_ciml.ops.shape import *  # noqa: F403
from minitorch_ciml.ops.statistics import *  # noqa: F403

# Last, because the function `shape` shares its name with a module.
from minitorch_ciml.ops.creation import *  # noqa: F403  # isort: skip

# One line per module: so tools that only read the code understand it, too.
__all__: list[str] = []
__all__ += _attention.__all__
__all__ += _blocks.__all__
__all__ += _conv.__all__
__all__ += _counting.__all__
__all__ += _creation.__all__
__all__ += _ctc.__all__
__all__ += _decompositions.__all__
__all__ += _fourier.__all__
__all__ += _indexing.__all__
__all__ += _joining.__all__
__all__ += _linalg.__all__
__all__ += _losses.__all__
__all__ += _math.__all__
__all__ += _nn.__all__
__all__ += _normalization.__all__
__all__ += _norms.__all__
__all__ += _order.__all__
__all__ += _pool.__all__
__all__ += _rearrangement.__all__
__all__ += _recurrent.__all__
__all__ += _reduce.__all__
__all__ += _scatter.__all__
__all__ += _shape.__all__
__all__ += _statistics.__all__


def __dir__() -> list[str]:
    return [*__all__, "image"]
