"""Pooling on the CPU.  For now the NumPy reference under its final names."""

from minitorch_ciml.kernels.reference_conv import (
    avg_pool,
    avg_pool_grad,
    max_pool,
    max_pool_gather,
    max_pool_grad,
)

__all__ = ["avg_pool", "avg_pool_grad", "max_pool", "max_pool_gather", "max_pool_grad"]
