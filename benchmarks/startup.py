"""What comes before the first result: import, first step, memory, and the size on disk."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from configparser import ConfigParser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from benchmarks.framework import FRAMEWORKS, OURS, missing
from benchmarks.machine import ROOT, environment
from benchmarks.runner import Settings
from benchmarks.summary import summarise

NAMES = (OURS, "torch", "jax", "keras-torch", "keras-jax")
CNN, CIFAR = "CNN, batch 32, step", "CIFAR CNN, batch 256, step"
_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def measure(settings: Settings, peers: list[str], say: Callable[[str], None]) -> dict[str, Any]:
    """For each framework: seconds to import and to the first step, bytes of memory and on disk.

    "cold" is a first step with an empty cache of compiled kernels, "warm" the next process' with
    the cache that the first has left. The peers, as they are set by default, leave none.
    """
    rounds = 1 if settings.rounds <= 5 else 5
    found: dict[str, Any] = {}
    names = [name for name in NAMES if name == OURS or name in peers]
    for name in names:
        absent = missing(name)
        found[name] = {"skipped": f"{absent} is not installed"} if absent else {}
    present = [name for name in names if not missing(name)]
    samples: dict[str, dict[str, list[float]]] = {
        name: {"import": [], "cold": [], "warm": [], "memory_cnn": [], "memory_cifar": []}
        for name in present
    }
    for number in range(rounds):
        for name in present:
            say(f"start of {name}, round {number + 1} of {rounds}")
            for key, value in _once(name, settings.threads).items():
                samples[name][key].append(value)
    for name in present:
        found[name] = {key: summarise(values) for key, values in samples[name].items()}
        found[name]["size"] = installed_size(FRAMEWORKS[name].packages)
    return found


def _once(name: str, threads: int) -> dict[str, float]:
    known = FRAMEWORKS[name]
    with tempfile.TemporaryDirectory() as cache:
        variables = environment(threads) | known.environment | {"NUMBA_CACHE_DIR": cache}
        code = _TIMED.format(known.statement)
        imported = _python(["-c", code], variables)
        cold = _probe(name, CNN, variables)
        warm = _probe(name, CNN, variables) if name == OURS else cold
        large = _probe(name, CIFAR, variables)
    return {
        "import": float(imported), "cold": cold["first_step"], "warm": warm["first_step"],
        "memory_cnn": warm["memory"], "memory_cifar": large["memory"],
    }  # fmt: skip


def _probe(name: str, workload: str, variables: dict[str, str]) -> dict[str, float]:
    arguments = ["-m", "benchmarks.probe", name, workload, repr(time.time())]
    return json.loads(_python(arguments, variables).splitlines()[-1])


def _python(arguments: list[str], variables: dict[str, str]) -> str:
    return subprocess.check_output(
        [sys.executable, *arguments], env=variables, text=True, stderr=subprocess.DEVNULL
    )


# --- size on disk ---------------------------------------------------------------------------------


def installed_size(packages: tuple[str, ...]) -> dict[str, int]:
    """The bytes of the packages and of all that they depend on, by distribution.

    A package that is used from its checkout counts with its source files.
    """
    sizes: dict[str, int] = {}
    todo = list(packages)
    while todo:
        name = _normal(todo.pop())
        if name in sizes:
            continue
        if name == _normal(OURS):
            sizes[name] = _folder_size(ROOT / OURS)
            todo += _own_requirements()
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:  # a dependency that this system does not need
            continue
        sizes[name] = sum(_file_size(Path(str(f.locate()))) for f in found.files or ())
        todo += _requirements(found)
    return sizes


def _requirements(found: Distribution) -> list[str]:
    return [r for r in found.requires or () if "extra ==" not in r]


def _own_requirements() -> list[str]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["options"]["install_requires"].split()


def _normal(requirement: str) -> str:
    """The distribution's name, as names are compared: "Jinja2>=3; ..." is "jinja2"."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def _folder_size(folder: Path) -> int:
    return sum(_file_size(p) for p in folder.rglob("*") if "__pycache__" not in p.parts)


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() and path.suffix != ".pyc" else 0
