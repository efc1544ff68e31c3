"""A process that trains once, from nothing: `python -m benchmarks.probe FRAMEWORK WORKLOAD BEGIN`.

Prints as JSON the seconds from BEGIN (a `time.time()`) to the end of the first training step, and
the most memory that the process has had after ten more.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks import framework
from benchmarks.machine import stay_on_cores
from benchmarks.workloads import BY_NAME


def main(name: str, workload: str, begin: str) -> None:
    """Prints the two numbers."""
    stay_on_cores()
    run = framework.create(name).build(BY_NAME[workload], "eager")
    run(1)
    first = time.time() - float(begin)
    run(10)
    import resource  # not on every system

    unit = 1 if sys.platform == "darwin" else 1024
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"first_step": first, "memory": memory}))


if __name__ == "__main__":
    main(*sys.argv[1:])
