"""What numba does not offer by itself: the one module that speaks LLVM and PTX.

Each intrinsic has a `twin`: what the simulator runs in its place.
"""

from __future__ import annotations

import numpy as np
from numba.cuda.extending import intrinsic

from minitorch_ciml.kernels.cuda.simulator import twin


@intrinsic
def like(typing_context, x, value):
    """`value` in the type of the number x."""

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], signature.args[1], signature.return_type)

    return x(x, value), generate


@twin(like)
def _like(x, value):
    return np.asarray(x).dtype.type(value)
