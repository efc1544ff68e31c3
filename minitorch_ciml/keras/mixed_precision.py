"""Mixed precision: 16-bit arithmetic with float32 weights (`keras.mixed_precision`)."""

from minitorch_ciml.keras.dtype_policies import (
    DTypePolicy,
    dtype_policy,
    set_dtype_policy,
)
from minitorch_ciml.keras.optimizers.loss_scale import LossScaleOptimizer

Policy = DTypePolicy
global_policy, set_global_policy = dtype_policy, set_dtype_policy

__all__ = [
    "DTypePolicy", "LossScaleOptimizer", "Policy", "dtype_policy", "global_policy",
    "set_dtype_policy", "set_global_policy",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
