"""The GPU at hand: its stream, its memory, and how kernels are loaded and started on it.

All work goes to one stream, in order, and nothing here waits for the GPU but a copy to the host and
`synchronize`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from minitorch_ciml.kernels.cuda import SIMULATED, require_package
from minitorch_ciml.kernels.cuda.compiler import OLDEST

if TYPE_CHECKING:
    from minitorch_ciml.kernels.cuda.compiler import Binary, Capability
    from minitorch_ciml.kernels.cuda.memory import CudaArray

_DEFAULT_SHARED = 48 * 1024  # a kernel must ask for more than this


class Runtime:
    """One GPU.

    Attributes:
        name: as the driver calls it.
        capability: its compute capability, such as (9, 0).
        multiprocessors: how many it has.
        stream: where all work goes.
    """

    def __init__(self, index: int = 0):
        require_package()
        from cuda.bindings import driver

        self._driver = driver
        try:
            self._call(driver.cuInit(0))
            count = self._call(driver.cuDeviceGetCount())
        except Exception as error:
            raise RuntimeError(
                f"the device 'cuda' needs an NVIDIA GPU and its driver; none was found ({error}). "
                "Use the device 'cpu', or simulate one, slowly: MINITORCH_CIML_SIMULATE_CUDA=1."
            ) from None
        if index >= count:
            raise RuntimeError(f"there is no GPU {index}; this process sees {count} of them.")
        device = self._call(driver.cuDeviceGet(index))
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
        self.multiprocessors = self._attribute(
            attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device
        )
        self._context = self._call(driver.cuDevicePrimaryCtxRetain(device))
        self._call(driver.cuCtxSetCurrent(self._context))
        flags = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.stream = self._call(driver.cuStreamCreate(flags))

    def _attribute(self, which: Any, device: Any) -> int:
        return self._call(self._driver.cuDeviceGetAttribute(which, device))

    def _call(self, returned: tuple) -> Any:
        """A driver function's results; its error raised."""
        status, *results = returned
        if status != self._driver.CUresult.CUDA_SUCCESS:
            if status == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
                raise MemoryError("the GPU is out of memory")
            _, text = self._driver.cuGetErrorString(status)
            raise RuntimeError(f"CUDA: {status.name}: {(text or b'').decode()}")
        return results[0] if len(results) == 1 else tuple(results) or None

    # --- kernels ----------------------------------------------------------------------------

    def load(self, binary: Binary, shared: int) -> Any:
        """The kernel, ready to be launched with `shared` bytes of shared memory."""
        driver = self._driver
        module = self._call(driver.cuModuleLoadData(binary.code))
        function = self._call(driver.cuModuleGetFunction(module, binary.symbol.encode()))
        if shared > _DEFAULT_SHARED:
            most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call(driver.cuFuncSetAttribute(function, most, shared))
        return function

    def launch(self, function: Any, grid: tuple, block: tuple, shared: int, arguments: int) -> None:
        """Puts a kernel into the stream; `arguments` is the address of their addresses."""
        started = self._driver.cuLaunchKernel(
            function, *grid, *block, shared, self.stream, arguments, 0
        )
        self._call(started)

    def synchronize(self) -> None:
        """Waits until the GPU has done all work."""
        self._call(self._driver.cuStreamSynchronize(self.stream))

    # --- memory -----------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> int:
        return int(self._call(self._driver.cuMemAlloc(nbytes)))

    def free(self, pointer: int) -> None:
        self._call(self._driver.cuMemFree(pointer))

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and bytes in all."""
        return self._call(self._driver.cuMemGetInfo())

    def copy(self, target: CudaArray, source: CudaArray) -> None:
        self._call(
            self._driver.cuMemcpyDtoDAsync(
                target.pointer, source.pointer, target.nbytes, self.stream
            )
        )

    def copy_to_device(self, target: CudaArray, source: np.ndarray) -> None:
        """From ordinary memory: the driver has read it when this returns."""
        self._call(
            self._driver.cuMemcpyHtoDAsync(
                target.pointer, source.ctypes.data, target.nbytes, self.stream
            )
        )

    def copy_to_host(self, target: np.ndarray, source: CudaArray) -> None:
        self._call(
            self._driver.cuMemcpyDtoHAsync(
                target.ctypes.data, source.pointer, source.nbytes, self.stream
            )
        )
        self.synchronize()

    def clear(self, array: CudaArray) -> None:
        self._call(self._driver.cuMemsetD8Async(array.pointer, 0, array.nbytes, self.stream))


def _dotted(capability: Capability) -> str:
    return ".".join(map(str, capability))


class SimulatedRuntime:
    """The simulator's GPU: its memory is the host's, and all work is done when a call returns."""

    name = "simulated GPU"
    capability: Capability = (9, 0)
    multiprocessors = 4

    def synchronize(self) -> None:
        pass

    def allocate(self, nbytes: int) -> np.ndarray:
        return np.full(nbytes, 0xFF, np.uint8)  # NaN, as floats

    def free(self, pointer: np.ndarray) -> None:
        pass

    def memory(self) -> tuple[int, int]:
        return (0, 0)

    def copy(self, target: CudaArray, source: CudaArray) -> None:
        target.elements[...] = source.elements

    def copy_to_device(self, target: CudaArray, source: np.ndarray) -> None:
        target.elements[...] = source.reshape(-1).view(target.elements.dtype)

    def copy_to_host(self, target: np.ndarray, source: CudaArray) -> None:
        target.reshape(-1)[...] = source.elements.view(target.dtype)

    def clear(self, array: CudaArray) -> None:
        array.elements[...] = 0


@cache
def runtime() -> Any:
    """The GPU that this process uses: a `Runtime`, or the simulated one."""
    return SimulatedRuntime() if SIMULATED else Runtime()
