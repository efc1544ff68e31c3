"""The GPU at hand: its streams, its memory, and how kernels are loaded and started on it.

Kernels go to one stream, in order, and nothing here waits for the GPU but a copy to the host,
`synchronize` and `wait_for`. A second stream copies the next batch while the first computes;
*events* order the two. What one training step puts into the stream can be *captured* as a graph,
and started again as a whole.

`Runtime` speaks to NVIDIA's driver (`cuda.bindings.driver`), `SimulatedRuntime` does the same
without a GPU.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.kernels.cuda import SIMULATED, require_package
from minitorch_ciml.kernels.cuda.compiler import OLDEST

if TYPE_CHECKING:
    from minitorch_ciml.kernels.cuda.compiler import Binary, Capability
    from minitorch_ciml.kernels.cuda.memory import CudaArray

_DEFAULT_SHARED = 48 * 1024  # a kernel must ask for more than this
_DLPACK_CUDA = 2
_LEGACY_STREAM = 1  # the number by which all libraries know CUDA's default stream

# Where launchers say which of the processes on this machine this one is.
_LOCAL_RANKS = (
    "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK",
    "PALS_LOCAL_RANKID", "SLURM_LOCALID",
)  # fmt: skip


class CudaError(RuntimeError):
    """What the driver reports."""


class NotCapturable(RuntimeError):
    """While a step is captured, something is done that cannot be part of a graph."""


class Runtime:
    """One GPU.

    Args:
        index: its number; if left out, ranks on one machine take one after the other.
        driver: the module of the driver's functions.

    Attributes:
        index: its number among those that this process sees.
        name: as the driver calls it.
        capability: its compute capability, such as (9, 0).
        multiprocessors: how many it has.
        stream: where kernels go.
        copies: where the next batch is copied.
        capturing: whether what goes to `stream` is captured, and not done.
    """

    simulated = False

    def __init__(self, index: int | None = None, driver: Any = None):
        if driver is None:
            require_package()
            from cuda.bindings import driver
        self._driver: Any = driver
        count = self._device_count()
        self.index = _own_index(count) if index is None else index
        if self.index >= count:
            raise RuntimeError(f"there is no GPU {index}; this process sees {count}, from 0 on.")
        device = self._call(driver.cuDeviceGet(self.index))
        self.name = self._call(driver.cuDeviceGetName(128, device)).decode().strip("\0 ")
        attribute = driver.CUdevice_attribute
        self.capability: Capability = (
            self._attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device),
            self._attribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device),
        )
        if self.capability < OLDEST:
            raise RuntimeError(
                f"the GPU {self.name} has compute capability {_dotted(self.capability)}; "
                f"{_dotted(OLDEST)} or newer is needed."
            )
        self._check_driver()
        self.multiprocessors = self._attribute(
            attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device
        )
        self._context = self._call(driver.cuDevicePrimaryCtxRetain(device))
        self._threads = threading.local()  # those that know the context
        self._enter()
        # Not the default stream: that one waits for all others.
        flags = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.stream = self._call(driver.cuStreamCreate(flags))
        self.copies = self._call(driver.cuStreamCreate(flags))
        self.capturing = False

    def _device_count(self) -> int:
        try:
            self._call(self._driver.cuInit(0))
            count = self._call(self._driver.cuDeviceGetCount())
        except Exception as error:
            reason = str(error).partition(". ")[0] or type(error).__name__
            raise RuntimeError(
                f"the device 'cuda' needs an NVIDIA GPU and its driver; none was found ({reason}). "
                "Use the device 'cpu', or simulate one, slowly: MINITORCH_CIML_SIMULATE_CUDA=1."
            ) from None
        if count == 0:
            raise RuntimeError(
                "the device 'cuda' needs an NVIDIA GPU; the driver lists none (is "
                "CUDA_VISIBLE_DEVICES empty?). Use the device 'cpu'."
            )
        return count

    def _check_driver(self) -> None:
        """A driver runs code that was made for its own generation of CUDA or an older one."""
        made_for = _toolkit_generation()
        driver = self._call(self._driver.cuDriverGetVersion())  # 12040 is 12.4
        if made_for is not None and driver // 1000 < made_for:
            raise RuntimeError(
                f"the NVIDIA driver is one for CUDA {driver // 1000}.{driver % 1000 // 10}, the "
                f"installed compiler makes code for CUDA {made_for}; update the driver, or install "
                f"numba-cuda[cu{driver // 1000}]."
            )

    def _enter(self) -> None:
        """The driver works in the context that the calling thread has set."""
        self._call(self._driver.cuCtxSetCurrent(self._context))
        self._threads.entered = True

    def _attribute(self, which: Any, device: Any) -> int:
        return self._call(self._driver.cuDeviceGetAttribute(which, device))

    def _call(self, returned: tuple) -> Any:
        """A driver function's results; its error raised."""
        status, *results = returned
        if status != self._driver.CUresult.CUDA_SUCCESS:
            if status == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
                raise MemoryError("the GPU is out of memory")
            _, text = self._driver.cuGetErrorString(status)
            raise CudaError(f"CUDA: {status.name}: {(text or b'').decode()}")
        return results[0] if len(results) == 1 else tuple(results) or None

    def _ready(self) -> Any:
        """The driver, for this thread."""
        if not hasattr(self._threads, "entered"):
            self._enter()
        return self._driver

    def _ready_outside_graphs(self, doing: str) -> Any:
        if self.capturing:
            raise NotCapturable(f"{doing} while a step is captured")
        return self._ready()

    # --- kernels ----------------------------------------------------------------------------

    def load(self, binary: Binary, shared: int) -> Any:
        """The kernel, ready to be launched with `shared` bytes of shared memory."""
        driver = self._ready()
        module = self._call(driver.cuModuleLoadData(binary.code))
        function = self._call(driver.cuModuleGetFunction(module, binary.symbol.encode()))
        if shared > _DEFAULT_SHARED:
            most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call(driver.cuFuncSetAttribute(function, most, shared))
        return function

    def launch(self, function: Any, grid: tuple, block: tuple, shared: int, arguments: int) -> None:
        """Puts a kernel into the stream; `arguments` is the address of their addresses."""
        started = self._ready().cuLaunchKernel(
            function, *grid, *block, shared, self.stream, arguments, 0
        )
        self._call(started)

    def synchronize(self) -> None:
        """Waits until the GPU has done all work."""
        driver = self._ready_outside_graphs("waiting for the GPU")
        self._call(driver.cuStreamSynchronize(self.copies))
        self._call(driver.cuStreamSynchronize(self.stream))

    # --- order between the streams ----------------------------------------------------------

    def event(self) -> Any:
        """A mark that can be set in a stream and waited for."""
        flag = self._driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
        return self._call(self._ready().cuEventCreate(flag))

    def mark(self, event: Any, stream: Any) -> None:
        """Sets the mark behind what is in the stream now."""
        self._call(self._ready().cuEventRecord(event, stream))

    def follow(self, stream: Any, event: Any) -> None:
        """What goes to the stream from now on waits for the mark; the host does not."""
        self._call(self._ready().cuStreamWaitEvent(stream, event, 0))

    def wait_for(self, event: Any) -> None:
        """The host waits until the mark is reached."""
        self._call(self._ready_outside_graphs("waiting").cuEventSynchronize(event))

    def order(self, first: Any, then: Any) -> None:
        """What goes to stream `then` from now on waits for what is in `first`; None: no stream."""
        if first is not None and then is not None:
            event = self.event()
            self.mark(event, first)
            self.follow(then, event)
            self._call(self._driver.cuEventDestroy(event))

    # --- graphs -----------------------------------------------------------------------------

    def begin_capture(self) -> None:
        """From now on, what goes to the stream is written down, and not done."""
        # Relaxed: the batch after this one may be copied, and memory be asked for, meanwhile.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        self._call(self._ready().cuStreamBeginCapture(self.stream, mode))
        self.capturing = True

    def end_capture(self) -> Any:
        """What was written down since `begin_capture`, ready to be started."""
        self.capturing = False
        graph = self._call(self._driver.cuStreamEndCapture(self.stream))
        try:
            return self._call(self._driver.cuGraphInstantiate(graph, 0))
        finally:
            self._call(self._driver.cuGraphDestroy(graph))

    def abort_capture(self) -> None:
        """Forgets what was written down."""
        self.capturing = False
        # An error here says that the capture has failed, which is known.
        status, graph = self._driver.cuStreamEndCapture(self.stream)
        if status == self._driver.CUresult.CUDA_SUCCESS and graph is not None:
            self._call(self._driver.cuGraphDestroy(graph))

    def start(self, graph: Any) -> None:
        """Puts a captured graph into the stream."""
        self._call(self._ready().cuGraphLaunch(graph, self.stream))

    def discard(self, graph: Any) -> None:
        """Frees a captured graph."""
        self._call(self._ready().cuGraphExecDestroy(graph))

    # --- memory -----------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> int:
        return int(self._call(self._ready().cuMemAlloc(nbytes)))

    def free(self, pointer: int) -> None:
        """Gives memory back; the driver waits for what still uses it."""
        self._call(self._ready_outside_graphs("freeing memory").cuMemFree(pointer))

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and bytes in all."""
        return self._call(self._ready().cuMemGetInfo())

    def pinned(self, nbytes: int) -> np.ndarray:
        """Host memory (bytes) that the GPU reads and writes by itself, while the host goes on."""
        address = int(self._call(self._ready().cuMemHostAlloc(nbytes, 0)))
        buffer = (ctypes.c_uint8 * nbytes).from_address(address)
        weakref.finalize(buffer, self._driver.cuMemFreeHost, address).atexit = False
        return np.frombuffer(buffer, np.uint8)

    def copy(self, target: CudaArray, source: CudaArray) -> None:
        self._call(
            self._ready().cuMemcpyDtoDAsync(
                target.pointer, source.pointer, target.nbytes, self.stream
            )
        )

    def address(self, array: CudaArray) -> int:
        """Where the array begins, for others who use it."""
        return array.pointer

    @property
    def stream_number(self) -> int:
        """The stream, for others who use what comes out of it."""
        return int(self.stream)

    def copy_from_address(self, target: CudaArray, address: int, stream: int | None) -> None:
        """From another library's memory on this GPU, after what is in its stream now.

        The host waits for it: the memory may be freed as soon as this returns.
        """
        driver = self._ready_outside_graphs("copying from another library")
        if stream is not None:
            self.order(stream, self.stream)
        self._call(driver.cuMemcpyDtoDAsync(target.pointer, address, target.nbytes, self.stream))
        self._call(driver.cuStreamSynchronize(self.stream))

    def stream_of_others(self, stream: int | None) -> int | None:
        """The stream that another library names in DLPack's way; None if there is no order."""
        self._ready_outside_graphs("handing an array to another library")
        if stream == 0:
            raise ValueError(
                "__dlpack__: stream 0 is ambiguous; pass 1 for CUDA's default stream, 2 for the "
                "one of each thread."
            )
        return None if stream == -1 else stream or _LEGACY_STREAM

    @property
    def dlpack_device(self) -> tuple[int, int]:
        """The GPU, as DLPack calls it."""
        return (_DLPACK_CUDA, self.index)

    @property
    def dlpack_stream(self) -> int | None:
        """The stream, for another library that hands over an array with DLPack."""
        return self.stream_number

    def copy_to_device(self, target: CudaArray, source: np.ndarray) -> None:
        """From ordinary memory: the driver has read it when this returns."""
        driver = self._ready_outside_graphs("copying from the host")
        self._call(
            driver.cuMemcpyHtoDAsync(target.pointer, source.ctypes.data, target.nbytes, self.stream)
        )

    def copy_ahead(self, target: CudaArray, source: np.ndarray) -> None:
        """From pinned memory, in the second stream; until it is done, `source` must not change."""
        self._call(
            self._ready().cuMemcpyHtoDAsync(
                target.pointer, source.ctypes.data, target.nbytes, self.copies
            )
        )

    def copy_to_host(self, target: np.ndarray, source: CudaArray) -> None:
        driver = self._ready_outside_graphs("copying to the host")
        self._call(
            driver.cuMemcpyDtoHAsync(target.ctypes.data, source.pointer, source.nbytes, self.stream)
        )
        self._call(driver.cuStreamSynchronize(self.stream))

    def clear(self, array: CudaArray) -> None:
        self._call(self._ready().cuMemsetD8Async(array.pointer, 0, array.nbytes, self.stream))


def _dotted(capability: Capability) -> str:
    return ".".join(map(str, capability))


def _own_index(count: int) -> int:
    """Ranks on one machine take its GPUs one after the other."""
    ranks = [os.environ[name] for name in _LOCAL_RANKS if os.environ.get(name, "").isdecimal()]
    return int(ranks[0]) % count if ranks else 0


def _toolkit_generation() -> int | None:
    """The CUDA generation that the installed linker makes code for."""
    for package in ("nvidia-nvjitlink", "nvidia-nvjitlink-cu12"):
        try:
            return int(version(package).partition(".")[0])
        except PackageNotFoundError:
            continue
    return None


class SimulatedRuntime:
    """The simulator's GPU: its memory is the host's, and all work is done when a call returns.

    But not in the second stream: a copy there is done as late as the events allow, so that a
    missing wait shows.
    """

    index = 0
    name = "simulated GPU"
    capability: Capability = (9, 0)
    multiprocessors = 4
    stream, copies = "stream", "copies"
    simulated = True

    # What other libraries are told: its memory is the host's, and no stream orders anything there.
    dlpack_device, dlpack_stream = (1, 0), None

    def __init__(self) -> None:
        self._captured: list[Callable[[], None]] | None = None
        self._pending: list[Callable[[], None]] = []  # in the second stream
        self._marks: dict[int, int] = {}  # how much of it an event stands behind
        self._done = 0  # how much of it was ever done
        self._events = 0

    @property
    def capturing(self) -> bool:
        return self._captured is not None

    def _do(self, work: Callable[[], None]) -> None:
        """Work for the stream: done now, or captured."""
        if self._captured is None:
            work()
        else:
            self._captured.append(work)

    def _outside_graphs(self, doing: str) -> None:
        if self.capturing:
            raise NotCapturable(f"{doing} while a step is captured")

    def launch(self, run: Callable[[], None]) -> None:
        self._do(run)

    def synchronize(self) -> None:
        self._outside_graphs("waiting for the GPU")
        self._catch_up(self._done + len(self._pending))

    def event(self) -> int:
        self._events += 1
        return self._events

    def mark(self, event: int, stream: str) -> None:
        # Work in the first stream is done already, so nothing has to wait for it.
        self._marks[event] = self._done + len(self._pending) if stream == self.copies else 0

    def follow(self, stream: str, event: int) -> None:
        self._catch_up(self._marks.get(event, 0))

    def wait_for(self, event: int) -> None:
        self._outside_graphs("waiting")
        self._catch_up(self._marks.get(event, 0))

    def _catch_up(self, until: int) -> None:
        while self._done < until:
            self._pending.pop(0)()
            self._done += 1

    def begin_capture(self) -> None:
        self._captured = []

    def end_capture(self) -> list:
        assert self._captured is not None
        graph, self._captured = self._captured, None
        return graph

    def abort_capture(self) -> None:
        self._captured = None

    def start(self, graph: list) -> None:
        for work in graph:
            work()

    def discard(self, graph: list) -> None:
        graph.clear()

    def allocate(self, nbytes: int) -> np.ndarray:
        return np.full(nbytes, 0xFF, np.uint8)  # NaN, as floats

    def free(self, pointer: np.ndarray) -> None:
        self._outside_graphs("freeing memory")
        pointer[...] = 0xFF  # whoever still reads it shall see it

    def memory(self) -> tuple[int, int]:
        return (0, 0)

    def pinned(self, nbytes: int) -> np.ndarray:
        return np.full(nbytes, 0xFF, np.uint8)

    def copy(self, target: CudaArray, source: CudaArray) -> None:
        to, elements = target.elements, source.elements

        def work() -> None:
            to[...] = elements

        self._do(work)

    def address(self, array: CudaArray) -> int:
        return array.elements.ctypes.data

    def stream_of_others(self, stream: int | None) -> None:
        self._outside_graphs("handing an array to another library")
        if stream is not None:
            raise ValueError(f"__dlpack__: the simulated GPU has no streams, got stream {stream}.")

    def order(self, first: str | None, then: str | None) -> None:
        """Work is done when a call returns, so there is no order but that of the calls."""

    def copy_from_address(self, target: CudaArray, address: int, stream: int | None) -> None:
        self._outside_graphs("copying from another library")
        source = (ctypes.c_uint8 * target.nbytes).from_address(address)
        to, elements = target.elements, np.frombuffer(source, target.dtype)
        to[...] = elements.view(to.dtype)

    def copy_to_device(self, target: CudaArray, source: np.ndarray) -> None:
        self._outside_graphs("copying from the host")
        target.elements[...] = source.reshape(-1).view(target.elements.dtype)

    def copy_ahead(self, target: CudaArray, source: np.ndarray) -> None:
        to = target.elements

        def work() -> None:
            to[...] = source.reshape(-1).view(to.dtype)

        self._pending.append(work)

    def copy_to_host(self, target: np.ndarray, source: CudaArray) -> None:
        self._outside_graphs("copying to the host")
        target.reshape(-1)[...] = source.elements.view(target.dtype)

    def clear(self, array: CudaArray) -> None:
        elements = array.elements

        def work() -> None:
            elements[...] = 0

        self._do(work)


_runtime: Any = None


def runtime() -> Any:
    """The GPU that this process uses: a `Runtime`, or the simulated one."""
    return _runtime if _runtime is not None else choose(None)


def choose(index: int | None) -> Any:
    """Makes this process use GPU `index`: any if it is None. It keeps the one it has.

    Raises:
        RuntimeError: there is none, or the process uses another one already.
    """
    global _runtime
    if _runtime is None:
        if SIMULATED:
            require_package()
        _runtime = SimulatedRuntime() if SIMULATED else Runtime(index)
    if index not in (None, _runtime.index):
        raise RuntimeError(
            f"this process uses GPU {_runtime.index} and cannot use GPU {index} as well; one "
            "process uses one GPU (choose it before anything else, or with CUDA_VISIBLE_DEVICES)."
        )
    return _runtime
