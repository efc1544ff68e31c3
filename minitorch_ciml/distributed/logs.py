"""What each rank writes, kept apart: `MINITORCH_CIML_LOGS=folder`.

Rank 0 keeps the terminal. The others write to `folder/rank-0001.txt` and so on: also what libraries
write. Why a rank ends the job is still said on the terminal.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

FOLDER = "MINITORCH_CIML_LOGS"

_terminal: TextIO | None = None


def keep_apart(rank: int) -> None:
    """Lets this rank write to a file of its own, if the variable asks for it and it is not rank 0.

    A job that is started again adds to the files.
    """
    global _terminal
    folder = os.environ.get(FOLDER)
    if not folder or rank == 0 or _terminal is not None:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    _terminal = os.fdopen(os.dup(2), "w")
    with open(Path(folder, f"rank-{rank:04d}.txt"), "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def say(text: str) -> None:
    """Writes to the standard error, wherever it goes, and to the terminal."""
    for stream in (sys.stderr, _terminal):
        if stream is not None:
            stream.write(text)
            stream.flush()
