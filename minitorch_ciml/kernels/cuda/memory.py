"""`CudaArray`: an array in the GPU's memory; and the pool that this memory comes from.

A `CudaArray` is always contiguous, in C order. What only changes the shape, or takes rows from the
front, is a view of the same memory; everything else is a kernel.

Asking the driver for memory waits for the GPU, so freed blocks are kept and handed out again. All
work is done in one stream, in order, so a block can be reused while its last user still runs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from threading import RLock
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np

from minitorch_ciml import kernels
from minitorch_ciml.kernels.cuda.launch import code_of
from minitorch_ciml.kernels.cuda.runtime import runtime

Shape = tuple[int, ...]

_SMALL = 1 << 20  # blocks below 1 MiB come in powers of two, larger ones in multiples of it
_MOST_ELEMENTS = 2**31 - 1  # indices in kernels are 32-bit


class Block:
    """Some bytes of the GPU's memory; they return to their pool when nobody holds the block."""

    __slots__ = ("pool", "pointer", "size")

    def __init__(self, pool: Pool, pointer: Any, size: int):
        self.pool = pool
        self.pointer = pointer
        self.size = size

    def __del__(self) -> None:
        self.pool.take_back(self)


class _Usage:
    """What all pools together have handed out, in bytes; and the lock of all of them."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.lock = RLock()  # a block may be taken back in the middle of another's allocation

    def change(self, by: int) -> None:
        self.now += by
        self.peak = max(self.peak, self.now)


_usage = _Usage()


class Pool:
    """Blocks of memory, by size: those that are free, and how much there is in all.

    Attributes:
        held: bytes taken from the driver.
        used: bytes that are in use now.
    """

    def __init__(self) -> None:
        self.held = self.used = 0
        self._free: defaultdict[int, list[Any]] = defaultdict(list)
        self._heir: Pool | None = None
        self._usage = _usage  # held here, since blocks come back until the interpreter has ended
        _pools.add(self)

    def allocate(self, nbytes: int) -> Block:
        size = _class_of(nbytes)
        with self._usage.lock:
            free = self._free[size]
            pointer = free.pop() if free else self._new(size)
            self.used += size
            self._usage.change(size)
        return Block(self, pointer, size)

    def _new(self, size: int) -> Any:
        try:
            pointer = runtime().allocate(size)
        except MemoryError:
            _main.release()
            try:
                pointer = runtime().allocate(size)
            except MemoryError:
                info = memory_info()
                raise MemoryError(
                    f"the GPU is out of memory: {size:,} bytes asked for, {info.used:,} in use and "
                    f"{info.held - info.used:,} kept for captured steps here, {info.free:,} of "
                    f"{info.total:,} free; use a smaller batch or model."
                ) from None
        self.held += size
        return pointer

    def take_back(self, block: Block) -> None:
        with self._usage.lock:
            pool = self._heir or self
            pool.used -= block.size
            pool._free[block.size].append(block.pointer)
            self._usage.change(-block.size)

    def close(self) -> None:
        """Leaves all memory to the main pool: now what is free, the rest when it comes back."""
        with self._usage.lock:
            self._heir = _main
            _main.held += self.held
            _main.used += self.used
            self.held = self.used = 0
            for size, pointers in self._free.items():
                _main._free[size] += pointers
            self._free.clear()

    def release(self) -> None:
        """Gives what is not in use back to the driver."""
        with self._usage.lock:
            for size, pointers in self._free.items():
                while pointers:
                    runtime().free(pointers.pop())
                    self.held -= size


class MemoryInfo(NamedTuple):
    """The GPU's memory, in bytes.

    Attributes:
        used: in arrays of this process.
        peak: the most that ever were.
        held: taken from the driver: what is used, and what is kept for reuse.
        free, total: of the whole GPU.
    """

    used: int
    peak: int
    held: int
    free: int
    total: int


def memory_info() -> MemoryInfo:
    """How much of the GPU's memory is used, and by whom."""
    held = sum(pool.held for pool in _pools)
    return MemoryInfo(_usage.now, _usage.peak, held, *runtime().memory())


def synchronize() -> None:
    """Waits until the GPU has done all work: before a clock is read, for example."""
    runtime().synchronize()


_pools: WeakSet[Pool] = WeakSet()
_main = Pool()
_pool: ContextVar[Pool] = ContextVar("pool", default=_main)


@contextmanager
def using(pool: Pool) -> Iterator[Pool]:
    """New arrays inside the block take their memory from `pool`."""
    token = _pool.set(pool)
    try:
        yield pool
    finally:
        _pool.reset(token)


def outside_graphs() -> AbstractContextManager:
    """New arrays inside the block are not in the memory of the step that is being recorded."""
    return using(_main)


def pool() -> Pool:
    """The pool that new arrays come from."""
    return _pool.get()


def _class_of(nbytes: int) -> int:
    if nbytes <= 512:
        return 512
    if nbytes < _SMALL:
        return 1 << (nbytes - 1).bit_length()
    return -(-nbytes // _SMALL) * _SMALL


class CudaArray:
    """An array in the GPU's memory: contiguous, in C order.

    Attributes:
        shape, dtype, size, ndim, nbytes: as NumPy's.
        pointer_type: what kernels call it: "f4*" for float32.
    """

    __slots__ = ("shape", "dtype", "size", "pointer_type", "_block", "_offset")

    # NumPy's operators leave the work to Tensor, or raise.
    __array_ufunc__ = None

    def __init__(self, shape: Shape, dtype: Any, block: Block | None = None, offset: int = 0):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.size = math.prod(shape)
        self.pointer_type = code_of(self.dtype) + "*"
        if self.size > _MOST_ELEMENTS:
            raise ValueError(
                f"an array of shape {shape} has {self.size:,} elements; the GPU's kernels take "
                f"at most {_MOST_ELEMENTS:,}."
            )
        self._block = block or _pool.get().allocate(self.nbytes)
        self._offset = offset  # in bytes

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def pointer(self) -> int:
        """The address of the first element."""
        return self._block.pointer + self._offset

    @property
    def is_aligned(self) -> bool:
        """Whether the first element's address is a multiple of 16 bytes."""
        return self._offset % 16 == 0

    @property
    def elements(self) -> np.ndarray:
        """The elements, flat; in the simulator, where the GPU's memory is the host's."""
        dtype = {"b1*": np.uint8, "bf2*": np.uint16}.get(self.pointer_type, self.dtype)
        return np.frombuffer(self._block.pointer, dtype, self.size, self._offset)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """For CuPy, PyTorch, numba and mpi4py: they use this very memory, and must not write to it.

        Work on it has to wait for `stream`. The simulated GPU has none: its memory is the host's.
        """
        if runtime().simulated:
            raise AttributeError("the simulated GPU's memory is no GPU's; use DLPack or .numpy()")
        if self.pointer_type == "bf2*":
            raise AttributeError("the CUDA array interface has no bfloat16; cast it to float32")
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (runtime().address(self), True),
            "strides": None,
            "version": 3,
            "stream": runtime().stream_number,
        }

    # --- copies -----------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """A copy in the host's memory; waits for the GPU."""
        host = np.empty(self.shape, self.dtype)
        if self.size:
            runtime().copy_to_host(host, self)
        return host

    def copy(self) -> CudaArray:
        return empty(self.shape, self.dtype).assign(self)

    def __deepcopy__(self, memo: dict) -> CudaArray:
        return self.copy()

    def __reduce__(self) -> tuple:
        """Pickled are the elements; whoever reads them needs a GPU, too."""
        return to_device, (self.numpy(),)

    def assign(self, source: CudaArray | np.ndarray) -> CudaArray:
        """Takes over the elements of an array of the same shape and dtype, from either side."""
        if source.shape != self.shape or source.dtype != self.dtype:
            raise ValueError(
                f"assign: expected shape {self.shape} and {self.dtype}, got {source.shape} and "
                f"{source.dtype}."
            )
        if self.size:
            if isinstance(source, CudaArray):
                runtime().copy(self, source)
            else:
                runtime().copy_to_device(self, np.ascontiguousarray(source))
        return self

    def item(self) -> Any:
        """The only element, as a Python number; waits for the GPU."""
        return self.numpy().item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    # --- changes in place -------------------------------------------------------------------

    def __setitem__(self, index: Any, value: Any) -> None:
        """`array[...] = value`: a number, or an array of the same shape from either side."""
        if index not in (Ellipsis, ()):
            raise TypeError("an array on the GPU takes array[...] = value only.")
        if isinstance(value, np.ndarray) and value.ndim:
            self.assign(value.astype(self.dtype, copy=False))
        elif isinstance(value, CudaArray):
            self.assign(value.astype(self.dtype, copy=False))
        elif self.size and value == 0:
            runtime().clear(self)
        elif self.size:
            self._set("copy", value)

    def __iadd__(self, other: Any) -> CudaArray:
        return self._change("add", other)

    def __isub__(self, other: Any) -> CudaArray:
        return self._change("subtract", other)

    def __imul__(self, other: Any) -> CudaArray:
        return self._change("multiply", other)

    def __itruediv__(self, other: Any) -> CudaArray:
        return self._change("divide", other)

    def _change(self, operation: str, other: Any) -> CudaArray:
        return self._set(operation, self, other)

    def _set(self, operation: str, *inputs: Any) -> CudaArray:
        from minitorch_ciml.kernels.cuda.table import TABLE

        arrays = [
            x if isinstance(x, CudaArray) else constant(np.asarray(x).item(), self.dtype)
            for x in inputs
        ]
        return TABLE[operation](*arrays, out=self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(
            f"an array of shape {self.shape} lives on the GPU, and is not copied to the host "
            "silently; call .numpy()."
        )

    # --- views ------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> CudaArray:
        """The same elements in another shape; one size may be -1."""
        sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if -1 in sizes:
            known = -math.prod(sizes)
            sizes = tuple(self.size // (known or 1) if n == -1 else n for n in sizes)
        if math.prod(sizes) != self.size:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {sizes}")
        return CudaArray(tuple(map(int, sizes)), self.dtype, self._block, self._offset)

    def rows(self, start: int, stop: int) -> CudaArray:
        """The rows from `start` to `stop`, as a view."""
        step = self.nbytes // (self.shape[0] or 1)
        shape = (stop - start, *self.shape[1:])
        return CudaArray(shape, self.dtype, self._block, self._offset + start * step)

    def __getitem__(self, index: Any) -> CudaArray:
        """`array[a:b]`: the rows as a view. For all other indices there are kernels."""
        if not isinstance(index, slice) or index.step not in (None, 1) or not self.shape:
            raise TypeError("an array on the GPU gives views of rows, array[a:b], only.")
        start, stop, _ = index.indices(self.shape[0])
        return self.rows(start, max(start, stop))

    def block(self, start: int, shape: Shape) -> CudaArray:
        """The elements from number `start`, one after another, as a view of that shape."""
        offset = self._offset + start * self.dtype.itemsize
        return CudaArray(shape, self.dtype, self._block, offset)

    def as_integers(self, itemsize: int) -> CudaArray:
        """The same memory, flat, as unsigned integers of that many bytes."""
        n = self.nbytes // itemsize
        return CudaArray((n,), f"u{itemsize}", self._block, self._offset)

    def as_dtype(self, shape: Shape, dtype: Any) -> CudaArray:
        """The same memory as elements of another dtype, in a shape that fits."""
        return CudaArray(shape, dtype, self._block, self._offset)

    def astype(self, dtype: Any, copy: bool = True) -> CudaArray:
        """The elements as another dtype; a copy unless it is the same and `copy` is False."""
        from minitorch_ciml.kernels.cuda.elementwise import cast

        if self.dtype == np.dtype(dtype):
            return self.copy() if copy else self
        return cast(self, np.dtype(dtype))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"CudaArray(shape={self.shape}, dtype={self.dtype})"


kernels.register(CudaArray, "cuda")


def empty(shape: Shape, dtype: Any) -> CudaArray:
    """An array whose elements are whatever was there."""
    return CudaArray(shape, dtype)


def from_interface(interface: dict[str, Any]) -> CudaArray:
    """A copy of an array of another library, from its `__cuda_array_interface__`.

    Raises:
        ValueError: its elements do not lie one after the other.
    """
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    if interface.get("strides") is not None:
        check_contiguous(shape, interface["strides"], dtype.itemsize)
    array = empty(shape, dtype)
    if array.size:
        runtime().copy_from_address(array, interface["data"][0], interface.get("stream"))
    return array


def check_contiguous(shape: Shape, strides: Sequence[int], step: int) -> None:
    """Raises an error unless elements with these strides lie one after the other, `step` apart."""
    if math.prod(shape) == 0:
        return
    for n, given in zip(reversed(shape), reversed(strides)):
        if n > 1 and given != step:
            raise ValueError(
                f"the array of shape {shape} is not contiguous; make it so first, for example "
                "with cupy.ascontiguousarray(x) or x.contiguous()."
            )
        step *= n


# Arrays that were copied to the GPU, by what is in them; None where nobody asked.
_remembered: ContextVar[dict[tuple, CudaArray] | None] = ContextVar("remembered", default=None)


@contextmanager
def remembering(arrays: dict[tuple, CudaArray]) -> Iterator[None]:
    """Inside the block, equal host arrays are copied once, and found in `arrays` afterwards.

    A step that is recorded cannot copy from the host; what the step before has copied, too (zeros
    to begin with, a causal mask), is taken for a constant.
    """
    token = _remembered.set(arrays)
    try:
        yield
    finally:
        _remembered.reset(token)


def to_device(array: np.ndarray) -> CudaArray:
    """A copy of a NumPy array in the GPU's memory."""
    known = _remembered.get()
    if known is None:
        return empty(array.shape, array.dtype).assign(array)
    key = (array.shape, code_of(array.dtype), array.tobytes())
    if key not in known:
        with outside_graphs():
            known[key] = empty(array.shape, array.dtype).assign(array)
    return known[key]


def zeros(shape: Shape, dtype: Any) -> CudaArray:
    """An array of zeros."""
    array = empty(shape, dtype)
    if array.size:
        runtime().clear(array)
    return array


def full(shape: Shape, value: float, dtype: Any) -> CudaArray:
    """An array filled with one number."""
    array = empty(tuple(shape), dtype)
    array[...] = value
    return array


def constant(value: bool | int | float, dtype: np.dtype) -> CudaArray:
    """A number as an array of shape (); never written, so equal numbers share one."""
    is_minus_zero = value == 0 and math.copysign(1, value) < 0  # equal to 0, and another number
    return _constant(value, dtype, is_minus_zero)


@lru_cache(maxsize=4096)
def _constant(value: bool | int | float, dtype: np.dtype, is_minus_zero: bool) -> CudaArray:
    with outside_graphs():
        return to_device(np.asarray(value, dtype))
