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
from minitorch_ciml.distributed.exchange import (
    PARTS,
    add_gradients,
    all_sum,
    average_gradients,
    exchange_for_part,
)
from minitorch_ciml.distributed.launch import limit_threads, promise, promised_rank
