"""A GPU without a GPU: NVIDIA's driver, as far as the package calls it, and the machine behind it.

    MINITORCH_CIML_PTX=9.0 MINITORCH_CIML_SIMULATE_CUDA=0 pytest tests/test_cuda_fit.py

runs the very code that speaks to a real GPU (`Runtime`, packed arguments, the pool of memory, two
streams, graphs), where the simulator has code of its own. It, too, is as unkind as the manual
("CUDA Driver API", version 13.0) allows: work in a stream is done as late as the calls permit,
memory of the host that the GPU reads by itself is read then, and what a driver refuses is refused:
empty grids, too many threads, waiting while a step is captured, memory that nobody has.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cuda import launch, runtime
from minitorch_ciml.kernels.cuda.compiler import Binary, Capability
from ptx_machine.launches import ptx_of
from ptx_machine.machine import Machine, machine
from ptx_machine.memory import Global

_PARAMETERS = {
    "u64": np.uint64, "u32": np.uint32, "f32": np.float32, "f64": np.float64, "b64": np.uint64,
    "b32": np.uint32, "s32": np.int32, "s64": np.int64,
}  # fmt: skip
_DEFAULT_SHARED = 48 * 1024
_MOST_BLOCKS = (2**31 - 1, 65535, 65535)

# The PTX that machine code was made from: the machine cannot run the latter.
_SOURCES: dict[bytes, str] = {}

Work = Callable[[], None]


def install(capability: str) -> None:
    """From now on, this process has a GPU of that capability, such as "9.0"."""
    major, minor = map(int, capability.split("."))
    compile_ = launch.Kernel.compile

    def compile_and_note(
        kernel: launch.Kernel, signature: tuple[str, ...], capability: Capability
    ) -> Binary:
        binary = compile_(kernel, signature, capability)
        _SOURCES[binary.code] = ptx_of(kernel, signature, capability)
        return binary

    launch.Kernel.compile = compile_and_note  # type: ignore[method-assign]
    runtime._runtime = runtime.Runtime(driver=Driver((major, minor)))


class _Refused(Exception):
    """An error of the driver, by its name."""


@dataclass
class _Stream:
    work: deque[Work] = field(default_factory=deque)
    done: int = 0
    captured: list[Work] | None = None

    def put(self, work: Work) -> None:
        if self.captured is not None:
            self.captured.append(work)
        else:
            self.work.append(work)

    @property
    def end(self) -> int:
        return self.done + len(self.work)

    def run(self, until: int) -> None:
        while self.done < until:
            self.done += 1
            self.work.popleft()()


@dataclass
class _Function:
    machine: Machine
    parameters: list[type]
    most_threads: int
    most_shared: int = _DEFAULT_SHARED


class Driver:
    """Answers as `cuda.bindings.driver` does: with a status, and the results."""

    def __init__(self, capability: Capability):
        self._capability = capability
        self._memory = Global()
        self._blocks: dict[int, np.ndarray] = {}  # by address
        self._pinned: dict[int, np.ndarray] = {}
        self._streams: list[_Stream] = []
        # Behind how much work of which stream an event stands; None: in a step being captured.
        self._events: dict[int, tuple[_Stream, int] | None] = {}
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        from cuda.bindings import driver

        real = getattr(driver, name)  # what does not exist is an error
        if not name.startswith("cu"):
            return real
        answer = getattr(type(self), f"_{name}", None)
        assert answer is not None, f"the stand-in for the driver has no {name}"

        def call(*arguments: Any) -> tuple:
            try:
                found = answer(self, *arguments)
            except _Refused as error:
                return (getattr(driver.CUresult, str(error)), None)
            results = found if isinstance(found, tuple) else () if found is None else (found,)
            return (driver.CUresult.CUDA_SUCCESS, *results)

        return call

    # --- the GPU ----------------------------------------------------------------------------

    def _cuInit(self, flags: int) -> None:
        pass

    def _cuDriverGetVersion(self) -> int:
        return 13000

    def _cuDeviceGetCount(self) -> int:
        return 1

    def _cuDeviceGet(self, index: int) -> int:
        return index

    def _cuDeviceGetName(self, length: int, device: int) -> bytes:
        return b"PTX machine\0"

    def _cuDeviceGetAttribute(self, attribute: Any, device: int) -> int:
        major, minor = self._capability
        return {
            "COMPUTE_CAPABILITY_MAJOR": major, "COMPUTE_CAPABILITY_MINOR": minor,
            "MULTIPROCESSOR_COUNT": 4,
        }[attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_")]  # fmt: skip

    def _cuDevicePrimaryCtxRetain(self, device: int) -> str:
        return "context"

    def _cuCtxSetCurrent(self, context: str) -> None:
        assert context == "context"

    def _cuGetErrorString(self, status: Any) -> bytes:
        return status.name.encode()

    # --- kernels ----------------------------------------------------------------------------

    def _cuModuleLoadData(self, code: bytes) -> str:
        if code[:4] != b"\x7fELF":
            raise _Refused("CUDA_ERROR_INVALID_IMAGE")
        return _SOURCES[code]

    def _cuModuleGetFunction(self, text: str, symbol: bytes) -> _Function:
        entry = re.search(r"\.entry [\w$]+\((.*?)\)(.*?)\{", text, re.S)  # there is but one
        assert entry is not None, text[:1000]
        kinds = re.findall(r"\.param \.(\w+)", entry[1])
        threads = re.search(r"\.maxntid (\d+)", entry[2])
        most = int(threads[1]) if threads else 1024
        return _Function(machine(text), [_PARAMETERS[kind] for kind in kinds], most)

    def _cuFuncSetAttribute(self, function: _Function, attribute: Any, value: int) -> None:
        assert attribute.name == "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"
        function.most_shared = value

    def _cuLaunchKernel(
        self, function: _Function, gx: int, gy: int, gz: int, bx: int, by: int, bz: int,
        shared: int, stream: int, arguments: int, extra: int,
    ) -> None:  # fmt: skip
        grid, block = (gx, gy, gz), (bx, by, bz)
        threads = math.prod(block)
        if not all(0 < n <= most for n, most in zip(grid, _MOST_BLOCKS)):
            raise _Refused("CUDA_ERROR_INVALID_VALUE")
        if not 0 < threads <= function.most_threads or shared > function.most_shared:
            raise _Refused("CUDA_ERROR_INVALID_VALUE")
        places = (ctypes.c_void_p * len(function.parameters)).from_address(arguments)
        values = [
            np.frombuffer((ctypes.c_uint8 * np.dtype(kind).itemsize).from_address(place), kind)[0]
            for place, kind in zip(places, function.parameters)
        ]

        def work() -> None:
            function.machine.launch(grid, block, values, self._memory.again(), shared)

        self._stream(stream).put(work)

    # --- streams ----------------------------------------------------------------------------

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _stream(self, number: int) -> _Stream:
        return self._streams[number - 1]

    def _cuStreamCreate(self, flags: Any) -> int:
        self._streams.append(_Stream())
        return len(self._streams)

    def _waited_for(self, stream: _Stream) -> _Stream:
        if stream.captured is not None:
            raise _Refused("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        return stream

    def _cuStreamSynchronize(self, number: int) -> None:
        stream = self._waited_for(self._stream(number))
        stream.run(stream.end)

    def _cuEventCreate(self, flags: Any) -> int:
        return self._number()

    def _cuEventDestroy(self, event: int) -> None:
        self._events.pop(event, None)

    def _cuEventRecord(self, event: int, number: int) -> None:
        stream = self._stream(number)
        self._events[event] = None if stream.captured is not None else (stream, stream.end)

    def _cuStreamWaitEvent(self, number: int, event: int, flags: int) -> None:
        stream = self._stream(number)
        if event not in self._events:  # never recorded: there is nothing to wait for
            return
        place = self._events[event]
        if (place is None) != (stream.captured is not None):
            raise _Refused("CUDA_ERROR_STREAM_CAPTURE_ISOLATION")
        if place is not None:
            first, until = place
            stream.put(lambda: first.run(until))

    def _cuEventSynchronize(self, event: int) -> None:
        if event in self._events:
            place = self._events[event]
            if place is None:
                raise _Refused("CUDA_ERROR_CAPTURED_EVENT")
            stream, until = place
            stream.run(until)

    # --- graphs -----------------------------------------------------------------------------

    def _cuStreamBeginCapture(self, number: int, mode: Any) -> None:
        if self._stream(number).captured is not None:
            raise _Refused("CUDA_ERROR_ILLEGAL_STATE")
        self._stream(number).captured = []

    def _cuStreamEndCapture(self, number: int) -> list[Work]:
        stream = self._stream(number)
        if stream.captured is None:
            raise _Refused("CUDA_ERROR_ILLEGAL_STATE")
        graph, stream.captured = stream.captured, None
        return graph

    def _cuGraphInstantiate(self, graph: list[Work], flags: int) -> list[list[Work]]:
        return [graph.copy()]  # in a list, since a list of work may be empty

    def _cuGraphDestroy(self, graph: list[Work]) -> None:
        graph.clear()

    def _cuGraphLaunch(self, ready: list[list[Work]], number: int) -> None:
        for work in ready[0]:
            self._stream(number).put(work)

    def _cuGraphExecDestroy(self, ready: list[list[Work]]) -> None:
        ready.clear()

    # --- memory -----------------------------------------------------------------------------

    def _cuMemAlloc(self, nbytes: int) -> int:
        if nbytes <= 0:
            raise _Refused("CUDA_ERROR_INVALID_VALUE")
        block = np.full(nbytes, 0xFF, np.uint8)
        address = self._memory.add(block, 0, nbytes)
        self._blocks[address] = block
        return address

    def _cuMemFree(self, address: int) -> None:
        if address not in self._blocks:
            raise _Refused("CUDA_ERROR_INVALID_VALUE")
        for stream in self._streams:
            self._waited_for(stream).run(stream.end)
        self._blocks.pop(address)[...] = 0xFF
        self._memory.take_away(address)

    def _cuMemGetInfo(self) -> tuple[int, int]:
        used = sum(block.nbytes for block in self._blocks.values())
        return (1 << 34) - used, 1 << 34

    def _cuMemHostAlloc(self, nbytes: int, flags: int) -> int:
        if nbytes <= 0:
            raise _Refused("CUDA_ERROR_INVALID_VALUE")
        buffer = np.full(nbytes, 0xFF, np.uint8)
        self._pinned[buffer.ctypes.data] = buffer
        return buffer.ctypes.data

    def _cuMemFreeHost(self, address: int) -> None:
        self._pinned.pop(int(address))[...] = 0xFF

    def _there(self, address: int, nbytes: int) -> np.ndarray:
        """Bytes of the GPU's memory."""
        for start, block in self._blocks.items():
            if start <= address and address + nbytes <= start + block.nbytes:
                return block[address - start : address - start + nbytes]
        raise _Refused("CUDA_ERROR_INVALID_VALUE")

    def _is_pinned(self, address: int) -> bool:
        return any(start <= address < start + b.nbytes for start, b in self._pinned.items())

    def _copy(self, target: np.ndarray, source: np.ndarray, number: int) -> None:
        def work() -> None:
            target[...] = source

        self._stream(number).put(work)

    def _cuMemcpyDtoDAsync(self, to: int, source: int, nbytes: int, number: int) -> None:
        self._copy(self._there(int(to), nbytes), self._there(int(source), nbytes), number)

    def _cuMemcpyHtoDAsync(self, to: int, source: int, nbytes: int, number: int) -> None:
        here = _host(source, nbytes)
        if not self._is_pinned(source):  # read before the call returns, if nothing is captured
            self._waited_for(self._stream(number))
            here = here.copy()
        self._copy(self._there(int(to), nbytes), here, number)

    def _cuMemcpyDtoHAsync(self, to: int, source: int, nbytes: int, number: int) -> None:
        self._copy(_host(to, nbytes), self._there(int(source), nbytes), number)

    def _cuMemsetD8Async(self, to: int, value: int, nbytes: int, number: int) -> None:
        self._copy(self._there(int(to), nbytes), np.uint8(value), number)  # type: ignore[arg-type]


def _host(address: int, nbytes: int) -> np.ndarray:
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), np.uint8)
