"""DLPack: arrays on the GPU for other libraries, and theirs for us (the array API's `__dlpack__`).

An array is handed over as a *capsule*: a pointer to a structure that says where the elements lie
and whom to call when they are no longer needed. Until then the array's memory is kept here. Newer
capsules, "versioned" ones, can say that nobody may write; older ones cannot, so they get a copy.

Work in another library's stream is ordered by events on the GPU, and not by waiting, but for one
case: memory that was taken from another library is its own again only when it has been copied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_void_p
from typing import Any

import numpy as np

from minitorch_ciml.kernels.cuda.memory import CudaArray, check_contiguous, empty
from minitorch_ciml.kernels.cuda.runtime import runtime

_VERSION = (1, 0)
_READ_ONLY, _IS_COPIED = 1, 2  # bits of `flags`

# DLDataTypeCode of each kind of dtype; bfloat16 ("V") has one of its own.
_CODES = {"i": 0, "u": 1, "f": 2, "V": 4, "b": 6}


class _Device(Structure):
    _fields_ = [("type", c_int32), ("number", c_int32)]


class _DataType(Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class _Array(Structure):
    """DLTensor."""

    _fields_ = [
        ("data", c_void_p), ("device", _Device), ("ndim", c_int32), ("dtype", _DataType),
        ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


class _Managed(Structure):
    """DLManagedTensor: what the older capsules point to."""

    _fields_ = [("array", _Array), ("context", c_void_p), ("deleter", c_void_p)]


class _ManagedVersioned(Structure):
    """DLManagedTensorVersioned."""

    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", c_void_p),
        ("deleter", c_void_p), ("flags", ctypes.c_uint64), ("array", _Array),
    ]  # fmt: skip


_KINDS = {b"dltensor": _Managed, b"dltensor_versioned": _ManagedVersioned}


def _python(name: str, result: Any, *arguments: Any) -> Callable:
    """A function of Python's C interface."""
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_new_capsule = _python("PyCapsule_New", ctypes.py_object, c_void_p, c_char_p, c_void_p)
_is_valid = _python("PyCapsule_IsValid", ctypes.c_int, c_void_p, c_char_p)
_pointer = _python("PyCapsule_GetPointer", c_void_p, c_void_p, c_char_p)
_set_name = _python("PyCapsule_SetName", ctypes.c_int, c_void_p, c_char_p)

_Deleter = ctypes.CFUNCTYPE(None, c_void_p)

# --- ours, for others -----------------------------------------------------------------------------

# By the structure's address: the structure, its shape, the array, and the stream of who has it.
_given: dict[int, tuple] = {}
# Arrays that came back, and the streams in which they may still be read.
_returned: list[tuple[CudaArray, Any]] = []


def _take_back(address: int) -> None:
    """The deleter. It may be called at any time, so it does nothing but to write down."""
    entry = _given.pop(address, None)
    if entry is not None:
        _returned.append(entry[2:])


def _drop(capsule: int) -> None:
    """What happens to a capsule that goes away: nobody may ever have taken what is in it."""
    for name in _KINDS:
        if _is_valid(capsule, name):
            _take_back(_pointer(capsule, name))


_deleter, _destructor = _Deleter(_take_back), ctypes.PYFUNCTYPE(None, c_void_p)(_drop)
for _callback in (_deleter, _destructor):  # other libraries call them until the process ends
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_callback))


def _settle() -> None:
    """Lets memory that came back serve again, after what others have yet to do with it."""
    while _returned:
        array, stream = _returned.pop()
        runtime().order(stream, runtime().stream)
        del array


def capsule_of(
    array: CudaArray,
    stream: int | None = None,
    max_version: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A capsule with the array, read-only; or with a copy that may be written to.

    Args:
        stream: where the other library is going to work: None or 1 for CUDA's default stream, 2 for
            the one of each thread, -1 if it sees to the order itself, or a stream's number.
        max_version: the newest capsules it knows; without, the older kind, which has a copy.
        copy: True: a copy; False: none.

    Raises:
        BufferError: `copy=False`, and the other library knows only the older kind.
        ValueError: `stream` is 0, which the standard does not allow.
    """
    versioned = max_version is not None and max_version[0] >= 1
    if copy is False and not versioned:
        raise BufferError(
            "__dlpack__: tensors are immutable, and capsules of DLPack before 1.0 cannot say so; "
            "pass max_version=(1, 0), or copy=True."
        )
    stream = runtime().stream_of_others(stream)
    _settle()
    copied = bool(copy) or not versioned
    array = array.copy() if copied else array
    runtime().order(runtime().stream, stream)
    shape = (c_int64 * array.ndim)(*array.shape)
    strides = (c_int64 * array.ndim)(*_strides(array.shape))
    described = _Array(
        data=runtime().address(array) if array.size else None,
        device=_Device(*runtime().dlpack_device),
        ndim=array.ndim,
        dtype=_DataType(_CODES[array.dtype.kind], 8 * array.dtype.itemsize, 1),
        shape=shape,
        strides=strides,
    )
    end = ctypes.cast(_deleter, c_void_p)
    managed: Structure
    if versioned:
        flags = _IS_COPIED if copied else _READ_ONLY
        managed = _ManagedVersioned(*_VERSION, deleter=end, flags=flags, array=described)
    else:
        managed = _Managed(array=described, deleter=end)
    address = ctypes.addressof(managed)
    _given[address] = (managed, (shape, strides), array, stream)
    name = b"dltensor_versioned" if versioned else b"dltensor"
    return _new_capsule(address, name, ctypes.cast(_destructor, c_void_p))


def _strides(shape: tuple[int, ...]) -> list[int]:
    """In elements."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return strides[::-1]


# --- theirs, for us -------------------------------------------------------------------------------


def taken(x: Any) -> CudaArray:
    """A copy of an array that another library has on this process's GPU.

    Raises:
        BufferError: it is not there, or its capsule is used or too new.
        TypeError: its dtype is not known.
        ValueError: its elements do not lie one after the other.
    """
    device = tuple(map(int, x.__dlpack_device__()))
    if device != runtime().dlpack_device:
        raise BufferError(
            f"from_dlpack: the array is on DLPack device {device}, this process's GPU is "
            f"{runtime().dlpack_device}; move the array there first."
        )
    try:
        capsule = x.__dlpack__(stream=runtime().dlpack_stream, max_version=_VERSION)
    except TypeError:  # from before versions
        capsule = x.__dlpack__(stream=runtime().dlpack_stream)
    name, managed = _opened(capsule)
    if isinstance(managed, _ManagedVersioned) and managed.major > _VERSION[0]:
        raise BufferError(
            f"from_dlpack: the array comes as DLPack {managed.major}.{managed.minor}; versions up "
            "to 1 can be read."
        )
    _set_name(id(capsule), _USED[name])  # from now on it is for us to end
    try:
        return _copied(managed.array)
    finally:
        if managed.deleter:
            _Deleter(managed.deleter)(ctypes.addressof(managed))


_USED = {name: b"used_" + name for name in _KINDS}


def _opened(capsule: Any) -> tuple[bytes, Any]:
    """The capsule's name, and the structure in it."""
    for name, kind in _KINDS.items():
        if _is_valid(id(capsule), name):
            return name, kind.from_address(_pointer(id(capsule), name))
    raise BufferError("from_dlpack: got no DLPack capsule, or one that was taken already.")


def _copied(theirs: _Array) -> CudaArray:
    shape = tuple(theirs.shape[: theirs.ndim]) if theirs.ndim else ()
    dtype = _dtype(theirs.dtype)
    if shape and theirs.strides:
        check_contiguous(shape, theirs.strides[: theirs.ndim], 1)
    array = empty(shape, dtype)
    if array.size:
        runtime().copy_from_address(array, theirs.data + theirs.byte_offset, None)
    return array


def _dtype(given: _DataType) -> np.dtype:
    """NumPy's dtype of a DLPack type."""
    kinds = {code: kind for kind, code in _CODES.items()}
    kind, size = kinds.get(given.code), given.bits // 8
    if kind == "V" and size == 2:
        return np.dtype("bfloat16")
    if kind is None or kind == "V" or given.lanes != 1 or given.bits not in (8, 16, 32, 64):
        raise TypeError(
            f"from_dlpack: the array has DLPack type {given.code} with {given.bits} bits and "
            f"{given.lanes} lanes; expected bools, integers or floats."
        )
    return np.dtype(f"{kind}{size}")
