"""Every differentiable function, with the names and meanings of NumPy and `keras.ops`."""

from minitorch_ciml.ops import attention as _attention
from minitorch_ciml.ops import blocks as _blocks
from minitorch_ciml.ops import conv as _conv
from minitorch_ciml.ops import counting as _counting
from minitorch_ciml.ops import creation as _creation
from minitorch_ciml.ops import ctc as _ctc
from minitorch_ciml.ops import decompositions as _decompositions
from minitorch_ciml.ops import fourier as _fourier
from minitorch_ciml.ops import (
    image,  # as `ops.image`: its functions have short names, like `resize`
)
from minitorch_ciml.ops import indexing as _indexing
from minitorch_ciml.ops import linalg as _linalg
from minitorch_ciml.ops import losses as _losses
from minitorch_ciml.ops import math as _math
from minitorch_ciml.ops import methods as _methods  # gives tensors their methods
from minitorch_ciml.ops import nn as _nn
from minitorch_ciml.ops import normalization as _normalization
from minitorch_ciml.ops import norms as _norms
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
from minitorch_ciml.ops.linalg import *  # noqa: F403
from minitorch_ciml.ops.losses import *  # noqa: F403
from minitorch_ciml.ops.math import *  # noqa: F403
from minitorch_ciml.ops.nn import *  # noqa: F403
from minitorch_ciml.ops.normalization import *  # noqa: F403
from minitorch_ciml.ops.norms import *  # noqa: F403
from minitorch_ciml.ops.pool import *  # noqa: F403
from minitorch_ciml.ops.rearrangement import *  # noqa: F403
from minitorch_ciml.ops.recurrent import *  # noqa: F403
from minitorch_ciml.ops.reduce import *  # noqa: F403
from minitorch_ciml.ops.scatter import *  # noqa: F403
from minitorch_ciml.ops.shape import *  # noqa: F403
from minitorch_ciml.ops.statistics import *  # noqa: F403

# Last, because the function `shape` shares its name with a module.
from minitorch_ciml.ops.creation import *  # noqa: F403  # isort: skip

__all__ = [
    name
    for module in (
        _attention, _blocks, _conv, _counting, _creation, _ctc, _decompositions, _fourier,
        _indexing, _linalg, _losses, _math, _nn, _normalization, _norms, _pool,
        _rearrangement, _recurrent, _reduce, _scatter, _shape, _statistics,
    )
    for name in module.__all__
]  # fmt: skip
