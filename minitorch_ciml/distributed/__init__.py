"""Several processes as one: communicators, the exchange of gradients, and failures.

`init()` gives the communicator: of one process, or of all ranks that an MPI launcher started.
Horovod's functions (`rank`, `allreduce`, `DistributedOptimizer`, ...) are here, too. How training
uses them is in `keras.distribution`.
"""

from minitorch_ciml.distributed.communicator import (
    Communicator,
    MPICommunicator,
    init,
    is_initialized,
    leads,
    share_work,
    shares_work,
)
from minitorch_ciml.distributed.functions import (
    Average,
    Compression,
    DistributedOptimizer,
    Max,
    Min,
    Sum,
    allgather,
    allgather_object,
    allreduce,
    barrier,
    broadcast,
    broadcast_global_variables,
    broadcast_object,
    broadcast_variables,
    cross_rank,
    cross_size,
    local_rank,
    local_size,
    rank,
    size,
)
from minitorch_ciml.distributed.gradients import (
    GradientExchange,
    exchange_for_part,
    set_exchange,
)
from minitorch_ciml.distributed.launch import limit_threads, promise, promised_rank, visible_gpus
from minitorch_ciml.distributed.profile import profile
from minitorch_ciml.distributed.sums import PARTS, all_sum, average_in_fixed_order

__all__ = [
    "Average", "Communicator", "Compression", "DistributedOptimizer", "GradientExchange", "Max",
    "MPICommunicator", "Min", "PARTS", "Sum", "all_sum", "allgather", "allgather_object",
    "allreduce", "average_in_fixed_order", "barrier", "broadcast", "broadcast_global_variables",
    "broadcast_object", "broadcast_variables", "cross_rank", "cross_size", "exchange_for_part",
    "init", "is_initialized", "leads", "limit_threads", "local_rank", "local_size", "profile",
    "promise", "promised_rank", "rank", "set_exchange", "share_work", "shares_work", "size",
    "visible_gpus",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
