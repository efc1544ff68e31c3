"""Which kernels have never run in the machine: `python tests/ptx_machine/executed.py LOG`."""

import sys
from pathlib import Path

from minitorch_ciml.kernels.cuda import report


def main(log: str) -> None:
    """Compares what the tests wrote to `MINITORCH_CIML_PTX_LOG` with all kernels there are."""
    lines = set(Path(log).read_text().splitlines())
    kernels = report.all_kernels()
    every = {f"{k.name} ({' '.join(s)})": k.name for k in kernels for s in k.signatures}
    missing = sorted(every.keys() - lines)
    print("\n".join(missing))
    ran = {every[line] for line in lines & every.keys()}
    print(
        f"{len(ran)} of {len(kernels)} kernels ran, "
        f"{len(every) - len(missing)} of {len(every)} with their types"
    )


if __name__ == "__main__":
    main(sys.argv[1])
