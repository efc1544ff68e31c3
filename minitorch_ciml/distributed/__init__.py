"""Several processes as one: communicators, the exchange of gradients, and failures.

`init()` gives the communicator: of one process, or of all ranks that an MPI launcher started.
How training uses it is in `keras.distribution`.
"""

from minitorch_ciml.distributed.communicator import (
    Communicator,
    MPICommunicator,
    init,
    is_initialized,
    leads,
    share_work,
)
from minitorch_ciml.distributed.gradients import (
    GradientExchange,
    exchange_for_part,
    set_exchange,
)
from minitorch_ciml.distributed.launch import limit_threads, promise, promised_rank, visible_gpus
from minitorch_ciml.distributed.profile import profile
from minitorch_ciml.distributed.sums import PARTS, all_sum, average_in_fixed_order
