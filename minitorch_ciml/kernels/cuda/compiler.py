"""From a Python function to machine code for one GPU architecture; no GPU is needed for it.

numba makes PTX, NVIDIA's linker (nvJitLink) assembles it. The very same way is taken when a kernel
is launched and when the tests look at its registers. What was compiled is kept on disk, under its
`fingerprint`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cuda import require_package
from minitorch_ciml.kernels.cuda.fingerprint import fingerprint
from minitorch_ciml.kernels.garbage import collected_later

Capability = tuple[int, int]
OLDEST = (7, 5)  # what CUDA 13 still compiles for
_DROPPED = "row_stack"  # the old name of NumPy's vstack


@dataclass(frozen=True)
class Binary:
    """A compiled kernel, and what it takes of a multiprocessor.

    Attributes:
        symbol: its name in the code.
        registers: 32-bit registers of each thread, of 65,536 that a multiprocessor has.
        shared: bytes of shared memory of each block, without what is asked for at launch.
        spilled: bytes that did not fit into registers.
        stack: bytes of local memory of each thread.
        doubles: whether it computes in float64, which most GPUs do slowly.
        serialized: whether Hopper's tensor cores must wait after each of its products.
        code: the machine code (ELF).
    """

    symbol: str
    registers: int
    shared: int
    spilled: int
    stack: int
    doubles: bool
    serialized: bool
    code: bytes


def architecture(capability: Capability) -> str:
    """The assembler's name, with the features of that very generation from Hopper on."""
    major, minor = capability
    return f"sm_{major}{minor}{'a' if major >= 9 else ''}"


def compiled(
    function: Callable, types: tuple, capability: Capability, bounds: tuple[int, int]
) -> Binary:
    """The kernel `function` for arguments of these numba types, from the cache or compiled now.

    Args:
        function: a plain Python function.
        types: one numba type per argument.
        capability: the GPU's compute capability, such as (9, 0).
        bounds: threads of a block at most, and blocks per multiprocessor at least.
    """
    key = repr((fingerprint(function), str(types), capability, bounds))
    path = _folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.kernel"
    found = _read(path)
    if found is None:
        with collected_later():
            found = _compile(function, types, capability, bounds)
        _write(path, found)
    return found


def _compile(function: Callable, types: tuple, capability: Capability, bounds: tuple) -> Binary:
    linker = _tools()[1]
    text = ptx(function, types, capability, bounds)
    options = linker.LinkerOptions(
        arch=architecture(capability), verbose=True, ptxas_options=["-v"]
    )
    linking = linker.Linker(linker.ObjectCode.from_ptx(text.encode()), options=options)
    code = bytes(linking.link("cubin").code)
    symbol = re.search(r"\.entry ([\w$]+)", text)
    assert symbol is not None, "numba always makes one entry"
    report = linking.get_info_log()
    return Binary(
        symbol=symbol[1],
        registers=_number(r"[Uu]sed (\d+) registers", report),
        shared=_number(r"(\d+) bytes smem", report),
        spilled=_number(r"(\d+) bytes spill stores", report)
        + _number(r"(\d+) bytes spill loads", report),
        stack=_number(r"(\d+) bytes stack frame", report),
        doubles=re.search(r"\.f64", text) is not None,
        serialized="instructions are serialized" in report,
        code=code,
    )


def ptx(function: Callable, types: tuple, capability: Capability, bounds: tuple) -> str:
    """What numba makes of a kernel, before it is assembled; arguments as of `compiled`."""
    compiler, _, dispatcher = _tools()
    # Functions that the kernel calls ask for the GPU at hand; the answer is the GPU in question.
    dispatcher.get_current_device = lambda: _Target(capability)
    generation = (*capability, "a") if capability >= (9, 0) else capability
    (text,) = _lowered(function, types, bounds).get_asm_strs(cc=generation)
    return text


@lru_cache(maxsize=32)
def _lowered(function: Callable, types: tuple, bounds: tuple) -> Any:
    """numba's part of the work, which is the longest one, and the same for all GPUs."""
    library, _ = _tools()[0]._compile_pyfunc_with_fixup(
        function, types, device=False, cc=OLDEST, abi="numba", launch_bounds=bounds
    )
    return library


def _number(pattern: str, text: str) -> int:
    return max(map(int, re.findall(pattern, text)), default=0)


@dataclass(frozen=True)
class _Target:
    compute_capability: Capability


@cache
def _tools() -> tuple[Any, Any, Any]:
    require_package()
    import cuda.core
    import numba.cuda.compiler
    import numba.cuda.dispatcher

    _load_arrays()
    return numba.cuda.compiler, cuda.core, numba.cuda.dispatcher


def _load_arrays() -> None:
    """numba-cuda 0.30 looks, when it is loaded, for a name that NumPy 2.5 no longer has."""
    if hasattr(np, _DROPPED):
        return
    setattr(np, _DROPPED, np.vstack)
    try:
        import numba.cuda.np.arrayobj  # noqa: F401  (its import is what counts)
    finally:
        delattr(np, _DROPPED)


# --- the cache on disk --------------------------------------------------------------------------


@cache
def _folder() -> Path:
    """A folder of the user's, or one for this process alone where that cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "minitorch_ciml" / "cuda"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="minitorch_ciml-cuda-"))
    return folder


def _read(path: Path) -> Binary | None:
    try:
        header, _, code = path.read_bytes().partition(b"\n")
        return Binary(**json.loads(header), code=code)
    except (OSError, ValueError, TypeError):  # absent, or not whole
        return None


def _write(path: Path, binary: Binary) -> None:
    """Atomically: many processes may compile the same kernel at the same time."""
    header = {name: value for name, value in asdict(binary).items() if name != "code"}
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(json.dumps(header).encode() + b"\n" + binary.code)
    os.replace(file.name, path)
