"""minitorch_ciml: a readable autograd engine with numba kernels and a Keras-like API.

from minitorch_ciml import keras            # the Keras script's import line, changed
from minitorch_ciml import Scalar, Tensor   # the engine underneath
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from minitorch_ciml import ops
from minitorch_ciml._version import __version__ as __version__
from minitorch_ciml.autograd import (
    GradientError,
    GraphError,
    Op,
    Parameter,
    Scalar,
    Tensor,
    Variable,
    check_grads,
    from_dlpack,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    vjp,
)
from minitorch_ciml.config import (
    device,
    enable_grad,
    floatx,
    get_device,
    no_grad,
    set_device,
    set_float32_matmul_precision,
    set_floatx,
)
from minitorch_ciml.kernels.host import set_num_threads

if _TYPE_CHECKING:  # at run time, `__getattr__` imports these when they are first used
    from minitorch_ciml import datasets, keras, viz
    from minitorch_ciml.kernels.cuda.memory import memory_info, synchronize

__all__ = [
    "GradientError", "GraphError", "Op", "Parameter", "Scalar", "Tensor", "Variable",
    "check_grads", "datasets", "device", "enable_grad", "floatx", "from_dlpack", "get_device",
    "grad", "hessian", "hvp", "jacobian", "jvp", "keras", "memory_info", "no_grad", "ops",
    "set_device", "set_float32_matmul_precision", "set_floatx", "set_num_threads", "synchronize",
    "vjp", "viz",
]  # fmt: skip


def __getattr__(name: str):
    if name in ("keras", "viz", "datasets"):
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    if name in ("memory_info", "synchronize"):  # of the GPU
        from minitorch_ciml.kernels.cuda import memory

        return getattr(memory, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
