"""Functions with Horovod's names and meanings. They need `init()` first."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.autograd import Tensor
from minitorch_ciml.distributed.communicator import (
    Communicator,
    init,
    is_initialized,
    shares_work,
)
from minitorch_ciml.distributed.gradients import GradientExchange
from minitorch_ciml.ops import random

Average, Sum, Min, Max = "mean", "sum", "min", "max"


class Compression:
    """How gradients travel over the network: as they are, or in half the size."""

    none = None
    fp16 = "float16"


def _ranks() -> Communicator:
    if not is_initialized():
        raise ValueError("Horovod's names need hvd.init() first; call it once at the start.")
    return init()


def rank() -> int:
    """The number of this process, from 0."""
    return _ranks().rank


def size() -> int:
    """The number of processes."""
    return _ranks().size


def local_rank() -> int:
    """The number of this process among those on this machine."""
    return _ranks().local_rank


def local_size() -> int:
    """The number of processes on this machine."""
    return _ranks().local_size


def cross_rank() -> int:
    """The number of this machine, among those that have this local rank."""
    return _ranks().cross_rank


def cross_size() -> int:
    """The number of machines that have this local rank."""
    return _ranks().cross_size


# --- values -------------------------------------------------------------------------------------


def allreduce(
    value: Any,
    name: str | None = None,
    average: bool | None = None,
    op: str | None = None,
    **ignored: Any,
) -> Any:
    """The mean (or what `op` says) of the ranks' values: tensors, arrays or numbers.

    Args:
        value: of one shape on all ranks; not changed.
        name: not needed.
        average: Horovod's older way to say `op`: True for Average, False for Sum.
        op: Average, Sum, Min or Max.

    Returns:
        A tensor for a tensor, a float for a number, otherwise an array.
    """
    if op is None:
        op = Average if average is None or average else Sum
    array = _array(value)
    if op == Average and array.dtype.kind in "biu":
        array = array.astype(np.float64)
    return _like(value, _ranks().allreduce(array, op))


def broadcast(value: Any, root_rank: int = 0, name: str | None = None, **ignored: Any) -> Any:
    """The value of rank `root_rank`: a tensor, an array or a number of one shape on all ranks."""
    return _like(value, _ranks().broadcast(_array(value), root_rank))


def allgather(value: Any, name: str | None = None, **ignored: Any) -> Any:
    """The ranks' values along their first axis, in the order of the ranks."""
    pieces = _ranks().allgather(np.atleast_1d(_array(value)))
    whole = np.concatenate(pieces)
    return Tensor(whole) if isinstance(value, Tensor) else whole


def broadcast_object(obj: Any, root_rank: int = 0, name: str | None = None) -> Any:
    """The object of rank `root_rank`: anything that pickle can handle."""
    return _ranks().broadcast_object(obj, root_rank)


def allgather_object(obj: Any, name: str | None = None) -> list:
    """The objects of all ranks, in their order."""
    return _ranks().allgather_object(obj)


def broadcast_variables(variables: Any, root_rank: int = 0) -> None:
    """Gives the variables of all ranks the values of rank `root_rank`."""
    _ranks().broadcast_variables(variables, root_rank)


def broadcast_global_variables(root_rank: int = 0) -> None:
    """Makes all ranks continue the random numbers of `root_rank`; models take a callback.

    There is no list of all variables here: `callbacks.BroadcastGlobalVariablesCallback` broadcasts
    those of the model that is trained.
    """
    random.set_state(_ranks().broadcast_object(random.get_state(), root_rank))


def barrier() -> None:
    """Waits until all ranks have come here."""
    _ranks().barrier()


def _array(value: Any) -> np.ndarray:
    """A copy, on the host."""
    return np.array(value.numpy() if isinstance(value, Tensor) else value)


def _like(value: Any, array: np.ndarray) -> Any:
    if isinstance(value, Tensor):
        return Tensor(array)
    if isinstance(value, np.ndarray):
        return array
    return array.item() if array.ndim == 0 else array


# --- training -----------------------------------------------------------------------------------


def DistributedOptimizer(
    optimizer: Any,
    name: str | None = None,
    device_dense: str = "",
    device_sparse: str = "",
    compression: Any = Compression.none,
    sparse_as_dense: bool = False,
    gradient_predivide_factor: float = 1.0,
    op: str = Average,
    backward_passes_per_step: int = 1,
    average_aggregated_gradients: bool = False,
    **ignored: Any,
) -> Any:
    """The same optimizer, which from now on averages the ranks' gradients before it uses them.

    In `fit`, and in a loop of your own with `grad` and `optimizer.apply`.

    Args:
        optimizer: one of `keras.optimizers`.
        op: Average or Sum.
        backward_passes_per_step: update once in so many steps.
        average_aggregated_gradients: with their mean; must be True then.
        compression: Compression.none or Compression.fp16.
        name, device_dense, device_sparse, sparse_as_dense, gradient_predivide_factor: accepted as
            Horovod has them; they change nothing.

    Raises:
        ValueError: another `op`, or gradients that should be added up over steps.
        RuntimeError: `keras.distribution` shares the work already.
    """
    if op not in (Average, Sum):
        raise ValueError(f"DistributedOptimizer: got op={op!r}, expected hvd.Average or hvd.Sum.")
    if shares_work():
        raise RuntimeError(
            "DistributedOptimizer: keras.distribution averages the gradients already; use one."
        )
    if backward_passes_per_step > 1:
        if not average_aggregated_gradients:
            raise ValueError(
                "DistributedOptimizer: backward_passes_per_step takes the mean of the gradients "
                "here; pass average_aggregated_gradients=True, and adapt the learning rate."
            )
        optimizer.gradient_accumulation_steps = backward_passes_per_step
    if _ranks().size > 1:
        optimizer.exchange = GradientExchange(op == Average, compression)
    return optimizer
