"""A process per framework, that builds and runs workloads when told over a pipe.

Requests and answers are lines of JSON. `python -m benchmarks.worker NAME` is the worker's side,
`Worker` the other. The clock is read in the worker: the pipe's time is not part of the result.
"""

from __future__ import annotations

import gc
import json
import os
import select
import subprocess
import sys
import tempfile
from time import perf_counter
from typing import Any

from benchmarks import framework
from benchmarks.framework import FRAMEWORKS, Run
from benchmarks.machine import stay_on_cores
from benchmarks.workloads import BY_NAME

PATIENCE = 900.0  # seconds; compiling a large model may take minutes


class WorkerError(Exception):
    """The worker could not do it; the message is its own."""


class Worker:
    """The runner's side.

    Args:
        name: a key of `FRAMEWORKS`.
        environment: the variables for the process.
    """

    def __init__(self, name: str, environment: dict[str, str]):
        self.name = name
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, bufsize=1,
            env=environment | FRAMEWORKS[name].environment,
        )  # fmt: skip

    def ask(self, do: str, **arguments: Any) -> Any:
        """Sends a request and waits for the answer.

        Raises:
            WorkerError: the request failed, or the process died or did not answer in time.
        """
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
            line = self._process.stdout.readline() if ready else ""
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the process of {self.name} ended: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["answer"]

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def _last_words(self) -> str:
        """Ends the process; its exit status (negative: a signal) and the last line it wrote."""
        self._process.kill()
        status = self._process.wait()
        self._log.seek(0)
        return f"{status}, " + (self._log.read().strip().splitlines() or ["without a word"])[-1]

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


class Service:
    """The worker's side: answers one request after the other."""

    def __init__(self, name: str):
        self.framework = framework.create(name)
        self.runs: dict[str, Run] = {}

    def modes(self, workload: str) -> list[str]:
        return self.framework.modes(BY_NAME[workload])

    def build(self, workload: str, mode: str) -> float:
        """Builds it and does one unit, which may compile; returns the seconds of both."""
        start = perf_counter()
        self.runs[mode] = self.framework.build(BY_NAME[workload], mode)
        self.runs[mode](1)
        return perf_counter() - start

    def run(self, mode: str, units: int) -> float:
        """The seconds that so many units take."""
        start = perf_counter()
        counted = self.runs[mode](units)
        return perf_counter() - start if counted is None else counted

    def drop(self) -> None:
        """Forgets what was built."""
        self.runs.clear()
        gc.collect()

    def losses(self, workload: str, steps: int) -> list[float]:
        return self.framework.losses(BY_NAME[workload], steps)


def serve(name: str) -> None:
    """Answers requests from standard input until it ends."""
    stay_on_cores()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not get between the answers
    service: Service | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            service = service or Service(name)
            answer = {"answer": getattr(service, request.pop("do"))(**request)}
        except Exception as error:  # any failure of a framework is a result, not an end
            text = str(error).strip() or "no message"
            answer = {"error": f"{type(error).__name__}: {text.splitlines()[0]}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    serve(sys.argv[1])
