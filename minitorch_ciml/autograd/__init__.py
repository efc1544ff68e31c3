"""The autograd engine. Read `engine.py`, then `backward.py`: the idea of the whole package."""

from minitorch_ciml.autograd.arithmetic import identity
from minitorch_ciml.autograd.calculus import hessian, hvp, jacobian, jvp, vjp
from minitorch_ciml.autograd.check import GradientError, check_grads
from minitorch_ciml.autograd.engine import GraphError, Op, Variable, grad
from minitorch_ciml.autograd.scalar import Scalar
from minitorch_ciml.autograd.tensor import Parameter, Tensor, from_dlpack

__all__ = [
    "GradientError", "GraphError", "Op", "Parameter", "Scalar", "Tensor", "Variable",
    "check_grads", "from_dlpack", "grad", "hessian", "hvp", "identity", "jacobian", "jvp", "vjp",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
