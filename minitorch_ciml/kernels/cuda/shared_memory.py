"""Shared memory by 32-bit addresses, and copies to it that arrive later.

Shared memory has addresses of 32 bits here, in bytes, as the hardware has them (`smem_addr`): they
cost half the registers and a third of the instructions of numba's indices. numba makes 64-bit
integers of a sum of two 32-bit ones; an address is cut back to 32 bits where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from minitorch_ciml.kernels.cuda import SIMULATED
from minitorch_ciml.kernels.cuda.ptx import F32, I32, ptx, resized, twinned

if SIMULATED:
    from minitorch_ciml.kernels.cuda.simulator import current

_SHARED = 3  # LLVM's address space


def _smem_addr(array):
    """The address of an array in shared memory, in bytes."""
    return current().block.address(array)


def _smem_addr_typing(context: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        data = context.make_array(array)(context, builder, value=values[0]).data
        shared = builder.addrspacecast(data, data.type.pointee.as_pointer(_SHARED))
        return builder.ptrtoint(shared, I32)

    return types.int32(array), generate


smem_addr = twinned(_smem_addr_typing, _smem_addr)


_ELEMENTS = {types.float32: (F32, 4), types.float64: (ir.DoubleType(), 8)}


def _shared_place(builder: Any, address: Any, kind: Any, pointee: Any) -> Any:
    address = resized(builder, address, kind, 32)
    return builder.inttoptr(address, pointee.as_pointer(_SHARED))


def _shared_loads(n: int, kind: Any, function: Callable) -> Any:
    element, size = _ELEMENTS[kind]
    pointee = ir.VectorType(element, n) if n > 1 else element

    def typing(context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            place = _shared_place(builder, values[0], sig.args[0], pointee)
            loaded = builder.load(place, align=min(16, n * size))
            if n == 1:
                return loaded
            parts = [builder.extract_element(loaded, I32(i)) for i in range(n)]
            return context.make_tuple(builder, sig.return_type, parts)

        return (types.UniTuple(kind, n) if n > 1 else kind)(address), generate

    return twinned(typing, function)


def _shared_stores(n: int, kind: Any, function: Callable) -> Any:
    element, size = _ELEMENTS[kind]
    pointee = ir.VectorType(element, n) if n > 1 else element

    def typing(context: Any, address: Any, *values: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            place = _shared_place(builder, values[0], sig.args[0], pointee)
            stored = values[1]
            if n > 1:
                stored = pointee(ir.Undefined)
                for i, value in enumerate(values[1:]):
                    stored = builder.insert_element(stored, value, I32(i))
            builder.store(stored, place, align=min(16, n * size))
            return context.get_dummy_value()

        return types.void(address, *[kind] * n), generate

    return twinned(typing, function)


_BYTES = {np.float32: 4, np.float64: 8}


def _words(address: int, n: int, element: type) -> np.ndarray:
    """n numbers in shared memory; the address must be a multiple of their size, of 16 at most."""
    size = n * _BYTES[element]
    if address % min(16, size):
        raise IndexError(f"a kernel reads or writes {size} bytes at {address}: not aligned.")
    return current().block.window(address, size, element)


def _lds(address):
    """The float at an address of shared memory."""
    return _words(address, 1, np.float32)[0]


def _lds2(address):
    """Two floats at an address of shared memory that is a multiple of 8."""
    return tuple(_words(address, 2, np.float32))


def _lds4(address):
    """Four floats at an address of shared memory that is a multiple of 16."""
    return tuple(_words(address, 4, np.float32))


def _lds4_f8(address):
    """Four float64 at an address of shared memory that is a multiple of 16."""
    return tuple(_words(address, 4, np.float64))


def _sts(address, value):
    """Writes a float to an address of shared memory."""
    _words(address, 1, np.float32)[0] = value


def _sts4(address, a, b, c, d):
    """Writes four floats to an address of shared memory that is a multiple of 16."""
    _words(address, 4, np.float32)[:] = a, b, c, d


def _sts_f8(address, value):
    """Writes a float64 to an address of shared memory."""
    _words(address, 1, np.float64)[0] = value


def _sts4_f8(address, a, b, c, d):
    """Writes four float64 to an address of shared memory that is a multiple of 16."""
    _words(address, 4, np.float64)[:] = a, b, c, d


lds = _shared_loads(1, types.float32, _lds)
lds2 = _shared_loads(2, types.float32, _lds2)
lds4 = _shared_loads(4, types.float32, _lds4)
lds4_f8 = _shared_loads(4, types.float64, _lds4_f8)
sts = _shared_stores(1, types.float32, _sts)
sts4 = _shared_stores(4, types.float32, _sts4)
sts_f8 = _shared_stores(1, types.float64, _sts_f8)
sts4_f8 = _shared_stores(4, types.float64, _sts4_f8)


# --- asynchronous copies from global to shared memory ---------------------------------------------


def _copy_later(size: int, address: int, array: Any, i: int, valid: bool) -> None:
    """Until the thread waits for the copy, its target is NaN."""
    itemsize = array.elements.itemsize
    n = size // itemsize
    if address % size or (valid and i * itemsize % size):
        raise IndexError(f"a kernel copies {size} bytes from element {i} to {address}: not aligned")
    thread = current()
    target = thread.block.window(address, size)
    target[:] = 0xFF
    if valid:
        array[i], array[i + n - 1]  # checks the indices
    source = array.elements[i : i + n].view(np.uint8) if valid else 0
    thread.copies[-1].append((target, source))


_CP_ASYNC = "cp.async.{}.shared.global [$0], [$1], {}, $2;"


@ptx(_CP_ASYNC.format("ca", 4), "", "r g n4")
def cp_async4(address, array, i, valid):
    """Starts to copy 4 bytes from element `i` to shared memory; zeros if it is not valid.

    Copies need capability 8.0, and both sides aligned to their size.
    """
    _copy_later(4, address, array, i, valid)


@ptx(_CP_ASYNC.format("cg", 16), "", "r g n16")
def cp_async16(address, array, i, valid):
    """Starts to copy 16 bytes from element `i` to shared memory; zeros if it is not valid."""
    _copy_later(16, address, array, i, valid)


@ptx("cp.async.commit_group;", "", "")
def cp_async_commit():
    """Makes the copies that this thread has started since the last call a group."""
    current().copies.append([])


def _wait_for_copies(pending: int) -> None:
    copies = current().copies
    while len(copies) > pending + 1:
        for target, source in copies.pop(0):
            target[:] = source


@ptx("cp.async.wait_group 0;", "", "")
def cp_async_wait0():
    """Waits until all groups of this thread's copies have arrived."""
    _wait_for_copies(0)


@ptx("cp.async.wait_group 1;", "", "")
def cp_async_wait1():
    """Waits until all groups but the last one have arrived."""
    _wait_for_copies(1)
