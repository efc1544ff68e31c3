"""What numba does not offer of the GPU, in PTX, the GPU's assembly language.

This is the one place with PTX, but for Hopper's matrix products, which are in `warpgroup.py`.

An intrinsic is a Python function that tells, exactly, what an instruction does. The simulator runs
it as it stands; a GPU gets the PTX that is written above it, or the LLVM instructions.

Shared memory has addresses of 32 bits here, in bytes, as the hardware has them (`smem_addr`): they
cost half the registers and a third of the instructions of numba's indices. numba makes 64-bit
integers of a sum of two 32-bit ones; an address is cut back to 32 bits where it is used.

The lanes of a warp hold the matrices of `mma` and `ldmatrix` together: see "Matrix fragments" in
NVIDIA's PTX manual.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types, uint16, uint32
from numba.cuda.extending import intrinsic

from minitorch_ciml.kernels.cuda import SIMULATED

if SIMULATED:
    from minitorch_ciml.kernels.cuda.simulator import collect, current, twin

_I1, _I16, _I32, _I64 = map(ir.IntType, (1, 16, 32, 64))
_F32 = ir.FloatType()
_GLOBAL, _SHARED = 1, 3  # LLVM's address spaces

# What each letter stands for in `ptx`: the type for numba, and for LLVM.
_NUMBA = {"f": types.float32, "b": types.float32, "r": types.int32, "l": types.int64}
_LLVM = {"f": _F32, "b": _I32, "r": _I32, "l": _I64}


def twinned(typing: Callable, function: Callable) -> Any:
    """The intrinsic that `typing` makes, which the simulator replaces by `function`."""
    typing.__name__ = typing.__qualname__ = function.__name__
    context = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD)
    typing.__signature__ = Signature([context, *signature(function).parameters.values()])
    made = intrinsic(typing)
    if SIMULATED:
        twin(made)(function)
    return made


def ptx(
    text: str, result: str, arguments: str, *, pure: bool = False, memory: bool = True
) -> Callable[[Callable], Any]:
    """Makes a function that tells what a PTX instruction does an intrinsic of it.

    Args:
        text: PTX, with $0, $1, ... for the results and then the arguments.
        result: one letter for each 32-bit register of the result: f float, r integer, b float
            where the instruction wants its bare bits.
        arguments: one letter for each: f, b float; r, l integers, of 32 and 64 bits; g an element
            of global memory, for which the intrinsic has two arguments, a pointer and an index; n16
            and the like 16 or 0 bytes, as a condition says.
        pure: the compiler may move it or leave it out; not so where lanes work together.
        memory: it reads or writes memory.
    """
    letters = arguments.split() if " " in arguments else list(arguments)

    def decorate(function: Callable) -> Any:
        def typing(context: Any, *given: Any) -> Any:
            taken = iter(given)
            accepted: list[Any] = []
            for letter in letters:
                if letter == "g":
                    accepted += [next(taken), next(taken)]
                elif letter in "fb":
                    next(taken)
                    accepted.append(types.float32)
                else:
                    accepted.append(next(taken))
            return _result_type(result)(*accepted), generate

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            operands = _operands(builder, letters, zip(values, sig.args))
            constraints = [f"={_constraint(letter)}" for letter in result]
            constraints += [_constraint(letter) for letter in letters]
            if memory and not pure:
                constraints.append("~{memory}")
            made = [_LLVM[letter] for letter in result]
            returned = made[0] if len(made) == 1 else ir.LiteralStructType(made)
            if not made:
                returned = ir.VoidType()
            shape = ir.FunctionType(returned, [operand.type for operand in operands])
            assembly = ir.InlineAsm(shape, text, ",".join(constraints), side_effect=not pure)
            called = builder.call(assembly, operands)
            if not made:
                return context.get_dummy_value()
            parts = [called]
            if len(made) > 1:
                parts = [builder.extract_value(called, i) for i in range(len(made))]
            parts = [builder.bitcast(p, _F32) if r == "b" else p for p, r in zip(parts, result)]
            if len(made) == 1:
                return parts[0]
            return context.make_tuple(builder, sig.return_type, parts)

        return twinned(typing, function)

    return decorate


def _result_type(result: str) -> Any:
    if not result:
        return types.void
    if len(result) == 1:
        return _NUMBA[result]
    return types.UniTuple(_NUMBA[result[0]], len(result))


def _constraint(letter: str) -> str:
    return {"g": "l", "n": "r", "b": "r"}.get(letter[0], letter)


def _operands(builder: Any, letters: list[str], given: Any) -> list[Any]:
    operands = []
    for letter in letters:
        value, kind = next(given)
        if letter == "g":
            index, index_kind = next(given)
            element = builder.gep(value, [resized(builder, index, index_kind, 64)])
            pointee = element.type.pointee
            element = builder.addrspacecast(element, pointee.as_pointer(_GLOBAL))
            operands.append(builder.ptrtoint(element, _I64))
        elif letter[0] == "n":
            wanted = builder.icmp_unsigned("!=", value, value.type(0))
            operands.append(builder.select(wanted, _I32(int(letter[1:])), _I32(0)))
        elif letter == "f":
            operands.append(value)
        elif letter == "b":
            operands.append(builder.bitcast(value, _I32))
        else:
            operands.append(resized(builder, value, kind, 32 if letter == "r" else 64))
    return operands


def resized(builder: Any, value: Any, kind: Any, bits: int) -> Any:
    """An integer with that many bits."""
    if value.type.width > bits:
        return builder.trunc(value, ir.IntType(bits))
    if value.type.width < bits:
        extend = builder.sext if getattr(kind, "signed", False) else builder.zext
        return extend(value, ir.IntType(bits))
    return value


# --- numbers --------------------------------------------------------------------------------------


def _i32(x: int) -> int:
    """An integer, cut to 32 bits: keeps index arithmetic from becoming 64-bit."""
    return (int(x) + 2**31) % 2**32 - 2**31


def _i32_typing(context: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return resized(builder, values[0], sig.args[0], 32)

    return types.int32(x), generate


i32 = twinned(_i32_typing, _i32)


def _cast(source: Any, target: Any, function: Callable) -> Any:
    """The same 32 bits as another type."""

    def typing(context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return builder.bitcast(values[0], _F32 if target == types.float32 else _I32)

        return target(source), generate

    return twinned(typing, function)


def _bits(x: Any) -> int:
    """The 32 bits of a float, as an unsigned integer."""
    return int(np.float32(x).view(np.uint32))


def _from_bits(x: int) -> np.float32:
    """The float that has these 32 bits."""
    return np.uint32(int(x) & 0xFFFFFFFF).view(np.float32)


def _like(x, value):
    """`value` in the type of the number x."""
    return np.asarray(value).astype(np.asarray(x).dtype)[()]


def _like_typing(context: Any, x: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return context.cast(builder, values[1], sig.args[1], sig.return_type)

    return x(x, value), generate


like = twinned(_like_typing, _like)
bits = _cast(types.float32, types.uint32, _bits)
from_bits = _cast(types.uint32, types.float32, _from_bits)


@cuda.jit(device=True)
def bf16_to_f32(x):
    """The float32 of a bfloat16, which is its upper half, given as an integer of 16 bits."""
    return from_bits(uint32(x) << uint32(16))


@cuda.jit(device=True)
def f32_to_bf16(x):
    """The nearest bfloat16, as an integer of 16 bits; of two that are as near, the even one."""
    word = bits(x)
    if (word & uint32(0x7FFFFFFF)) > uint32(0x7F800000):  # NaN stays NaN
        return uint16(0x7FC0)
    return uint16((word + uint32(0x7FFF) + ((word >> uint32(16)) & uint32(1))) >> uint32(16))


def _rounded_bf16(x: Any) -> int:
    word = _bits(x)
    if word & 0x7FFFFFFF > 0x7F800000:
        return 0x7FC0
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16 & 0xFFFF


@ptx("cvt.rn.bf16x2.f32 $0, $2, $1;", "r", "ff", pure=True)
def pack_bf16(low, high):
    """Two floats, rounded to bfloat16, in one register. Needs capability 8.0."""
    return _i32(_rounded_bf16(low) | _rounded_bf16(high) << 16)


@ptx("cvt.rn.f16x2.f32 $0, $2, $1;", "r", "ff", pure=True)
def pack_f16(low, high):
    """Two floats, rounded to float16, in one register. Needs capability 8.0."""
    low, high = (int(np.float16(x).view(np.uint16)) for x in (low, high))
    return _i32(low | high << 16)


@ptx("cvt.rna.tf32.f32 $0, $1;", "b", "f", pure=True)
def to_tf32(x):
    """A float with the 10 nearest bits of its mantissa; of two as near, the larger. Needs 8.0."""
    if not np.isfinite(x):
        return x
    return _from_bits((_bits(x) + 0x1000) & 0xFFFFE000)


@ptx("ex2.approx.ftz.f32 $0, $1;", "f", "f", pure=True)
def exp2_fast(x):
    """2^x, with a relative error of 2^-22 or less; one instruction."""
    return np.exp2(np.float32(x))


@ptx("rsqrt.approx.ftz.f32 $0, $1;", "f", "f", pure=True)
def rsqrt_fast(x):
    """1 / sqrt(x), with a relative error of 2^-22 or less; one instruction."""
    return np.float32(1) / np.sqrt(np.float32(x))


# --- vectors: up to 16 bytes in one instruction ---------------------------------------------------


def _element(context: Any, builder: Any, kind: Any, value: Any, index: Any, index_kind: Any) -> Any:
    """The address of an element: of global memory by pointer, or of a shared or local array."""
    index = resized(builder, index, index_kind, 64)
    if isinstance(kind, types.CPointer):
        element = builder.gep(value, [index], inbounds=True)
        return builder.addrspacecast(element, element.type.pointee.as_pointer(_GLOBAL))
    data = context.make_array(kind)(context, builder, value=value).data
    return builder.gep(data, [index], inbounds=True)


def _as_vector(builder: Any, element: Any, n: int) -> tuple[Any, int]:
    """The address as that of n elements, and its alignment in bytes."""
    kind = element.type.pointee
    size = {_F32: 4, ir.DoubleType(): 8, ir.HalfType(): 2}.get(kind) or kind.width // 8
    vector = ir.VectorType(kind, n).as_pointer(element.type.addrspace)
    return builder.bitcast(element, vector), min(16, n * size)


def _loads(n: int, function: Callable) -> Any:
    def typing(context: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            kinds = sig.args
            element = _element(context, builder, kinds[0], values[0], values[1], kinds[1])
            vector, alignment = _as_vector(builder, element, n)
            loaded = builder.load(vector, align=alignment)
            parts = [builder.extract_element(loaded, _I32(i)) for i in range(n)]
            return context.make_tuple(builder, sig.return_type, parts)

        return types.UniTuple(array.dtype, n)(array, index), generate

    return twinned(typing, function)


def _stores(n: int, function: Callable) -> Any:
    def typing(context: Any, array: Any, index: Any, *values: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            kinds = sig.args
            element = _element(context, builder, kinds[0], values[0], values[1], kinds[1])
            target, alignment = _as_vector(builder, element, n)
            vector = ir.VectorType(element.type.pointee, n)(ir.Undefined)
            for i, value in enumerate(values[2:]):
                vector = builder.insert_element(vector, value, _I32(i))
            builder.store(vector, target, align=alignment)
            return context.get_dummy_value()

        return types.void(array, index, *[array.dtype] * n), generate

    return twinned(typing, function)


def _aligned(array: Any, i: int, n: int) -> None:
    elements = getattr(array, "elements", array)
    if (i * elements.itemsize) % min(16, n * elements.itemsize):
        raise IndexError(f"a kernel reads or writes {n} elements from {i}, which is not aligned.")


def _load2(array, i):
    """Two elements from number `i`, which is even."""
    _aligned(array, i, 2)
    return (array[i], array[i + 1])


def _load4(array, i):
    """Four elements from number `i`, which is a multiple of four."""
    _aligned(array, i, 4)
    return (array[i], array[i + 1], array[i + 2], array[i + 3])


def _store2(array, i, a, b):
    """Writes two elements from number `i`, which is even."""
    _aligned(array, i, 2)
    array[i], array[i + 1] = a, b


def _store4(array, i, a, b, c, d):
    """Writes four elements from number `i`, which is a multiple of four."""
    _aligned(array, i, 4)
    array[i], array[i + 1], array[i + 2], array[i + 3] = a, b, c, d


# From a pointer to global memory, or an array in shared memory declared with `alignment=16`.
load2, load4 = _loads(2, _load2), _loads(4, _load4)
store2, store4 = _stores(2, _store2), _stores(4, _store4)


@ptx("st.global.b32 [$0], $1;", "", "gr")
def store_word(array, i, word):
    """Writes two numbers of 16 bits from element `i`, which is even, the lower half first."""
    _aligned(array, i, 2)
    array[i], array[i + 1]  # checks the indices
    array.elements[i : i + 2].view(np.uint16)[:] = word & 0xFFFF, word >> 16 & 0xFFFF


# --- shared memory by 32-bit addresses ------------------------------------------------------------


def _smem_addr(array):
    """The address of an array in shared memory, in bytes."""
    return current().block.address(array)


def _smem_addr_typing(context: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        data = context.make_array(array)(context, builder, value=values[0]).data
        shared = builder.addrspacecast(data, data.type.pointee.as_pointer(_SHARED))
        return builder.ptrtoint(shared, _I32)

    return types.int32(array), generate


smem_addr = twinned(_smem_addr_typing, _smem_addr)


_ELEMENTS = {types.float32: (_F32, 4), types.float64: (ir.DoubleType(), 8), types.int32: (_I32, 4)}


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
            parts = [builder.extract_element(loaded, _I32(i)) for i in range(n)]
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
                    stored = builder.insert_element(stored, value, _I32(i))
            builder.store(stored, place, align=min(16, n * size))
            return context.get_dummy_value()

        return types.void(address, *[kind] * n), generate

    return twinned(typing, function)


def _words(address: int, n: int, dtype: Any) -> np.ndarray:
    """n numbers in shared memory; the address must be a multiple of their size, of 16 at most."""
    size = n * np.dtype(dtype).itemsize
    if address % min(16, size):
        raise IndexError(f"a kernel reads or writes {size} bytes at {address}: not aligned.")
    return current().block.window(address, size).view(dtype)


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


def _lds_word(address):
    """The 32-bit integer at an address of shared memory."""
    return int(_words(address, 1, np.int32)[0])


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
lds_word = _shared_loads(1, types.int32, _lds_word)
sts = _shared_stores(1, types.float32, _sts)
sts4 = _shared_stores(4, types.float32, _sts4)
sts_f8 = _shared_stores(1, types.float64, _sts_f8)
sts4_f8 = _shared_stores(4, types.float64, _sts4_f8)


def _rows_of_matrices(address: int) -> np.ndarray:
    """(4, 8, 8) of 16 bits: what each group of 8 lanes names the rows of."""
    addresses = collect("ldmatrix", address)
    rows = [np.frombuffer(current().block.window(a, 16), np.uint16) for a in addresses]
    return np.stack(rows).reshape(4, 8, 8)


_LDMATRIX = "ldmatrix.sync.aligned.m8n8.x4{}.shared.b16 {{$0, $1, $2, $3}}, [$4];"


@ptx(_LDMATRIX.format(""), "rrrr", "r")
def ldsm4_words(address):
    """Four matrices of 8 rows of 16 bytes; lane 8 m + r names the address of row r of matrix m.

    Lane 4 r + c gets word c of row r of each of them.
    """
    words = _rows_of_matrices(address).view(np.int32)
    row, column = divmod(current().number % 32, 4)
    return tuple(map(int, words[:, row, column]))


@ptx(_LDMATRIX.format(".trans"), "rrrr", "r")
def ldsm4_words_transposed(address):
    """As `ldsm4_words`, each matrix transposed as 8 x 8 elements of 16 bits."""
    words = np.ascontiguousarray(_rows_of_matrices(address).swapaxes(1, 2)).view(np.int32)
    row, column = divmod(current().number % 32, 4)
    return tuple(map(int, words[:, row, column]))


@ptx(_LDMATRIX.format(""), "bbbb", "r")
def ldsm4(address):
    """`ldsm4_words`, as floats: matrices of 8 x 4 floats, of which lane 4 r + c gets [r, c]."""
    words = _rows_of_matrices(address).view(np.float32)
    row, column = divmod(current().number % 32, 4)
    return tuple(words[:, row, column])


# --- asynchronous copies from global to shared memory ---------------------------------------------


def _copy_later(size: int, address: int, array: Any, i: int, valid: bool) -> None:
    """Until the thread waits for the copy, its target is NaN."""
    itemsize = array.elements.itemsize
    n = size // itemsize
    if address % size or (valid and i * itemsize % size):
        raise IndexError(f"a kernel copies {size} bytes from element {i} to {address}: not aligned")
    target = current().block.window(address, size)
    target[:] = 0xFF
    if valid:
        array[i], array[i + n - 1]  # checks the indices
    source = array.elements[i : i + n].view(np.uint8) if valid else 0
    current().copies[-1].append((target, source))


_CP_ASYNC = "cp.async.{}.shared.global [$0], [$1], {}, $2;"


@ptx(_CP_ASYNC.format("ca", 4), "", "r g n4")
def cp_async4(address, array, i, valid):
    """Starts to copy 4 bytes from element `i` to shared memory; zeros if it is not valid.

    Copies need capability 8.0, and both sides aligned to their size.
    """
    _copy_later(4, address, array, i, valid)


@ptx(_CP_ASYNC.format("ca", 8), "", "r g n8")
def cp_async8(address, array, i, valid):
    """Starts to copy 8 bytes from element `i` to shared memory; zeros if it is not valid."""
    _copy_later(8, address, array, i, valid)


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


@ptx("cp.async.wait_group 2;", "", "")
def cp_async_wait2():
    """Waits until all groups but the last two have arrived."""
    _wait_for_copies(2)


# --- tensor cores: products of small matrices by a warp -------------------------------------------


def _gathered(values: list, count: int, pairs: Any) -> tuple[np.ndarray, np.ndarray]:
    """A (16, K) and B (K, 8) from what the lanes hold: `count` registers of A, then those of B.

    Register r of A is at row g + 8 (r % 2), word t + 4 (r // 2), of B at word t + 4 r, column g.
    """
    words = np.array(values)  # (32 lanes, registers)
    a = np.empty((16, 8), words.dtype)
    b = np.empty((8, 8), words.dtype)
    g, t = np.divmod(np.arange(32), 4)
    for r in range(count):
        a[g + 8 * (r % 2), t + 4 * (r // 2)] = words[:, r]
    b[t, g], b[t + 4, g] = words[:, count], words[:, count + 1]
    return pairs(a), pairs(np.ascontiguousarray(b.T)).T


def _multiplied(kind: str, registers: tuple, pairs: Any, c: tuple) -> tuple:
    """This lane's part of A B + C."""
    values = collect(kind, registers)
    warp = current().number // 32
    cache = current().block.products
    if cache.get(warp, (None, None))[0] is not values:  # all lanes get the same list
        a, b = _gathered(values, 4, pairs)
        cache[warp] = (values, a.astype(np.float64) @ b.astype(np.float64))
    product = cache[warp][1]
    g, t = divmod(current().number % 32, 4)
    places = ((g, 2 * t), (g, 2 * t + 1), (g + 8, 2 * t), (g + 8, 2 * t + 1))
    return tuple([np.float32(product[place] + ci) for place, ci in zip(places, c)])


def cut_to_tf32(words: np.ndarray) -> np.ndarray:
    """The hardware looks at the upper 19 bits alone."""
    return (words.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def bf16_words(halves: np.ndarray) -> np.ndarray:
    """bfloat16, given as integers, as float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _bf16_pairs(words: np.ndarray) -> np.ndarray:
    return bf16_words(np.ascontiguousarray(words.astype(np.int32)).view(np.uint16))


def _f16_pairs(words: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(words.astype(np.int32)).view(np.float16)


_MMA = (
    "mma.sync.aligned.{}.row.col.f32.{}.f32 {{$0, $1, $2, $3}}, {{$4, $5, $6, $7}}, {{$8, $9}}, "
    "{{$10, $11, $12, $13}};"
)


@ptx(_MMA.format("m16n8k8", "tf32.tf32"), "ffff", "bbbbbbffff", memory=False)
def mma_tf32(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """A B + C of a warp, A 16 x 8, B 8 x 8, C 16 x 8, the factors as TF32. Needs capability 8.0.

    With g, t = divmod(lane, 4), a lane holds A[g, t], A[g + 8, t], A[g, t + 4], A[g + 8, t + 4];
    B[t, g], B[t + 4, g]; C[g, 2t], C[g, 2t + 1], C[g + 8, 2t], C[g + 8, 2t + 1].
    """
    return _multiplied("mma_tf32", (a0, a1, a2, a3, b0, b1), cut_to_tf32, (c0, c1, c2, c3))


@ptx(_MMA.format("m16n8k16", "bf16.bf16"), "ffff", "rrrrrrffff", memory=False)
def mma_bf16(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """A B + C of a warp, A 16 x 16, B 16 x 8 of bfloat16, C 16 x 8 of floats. Needs 8.0.

    As `mma_tf32`, with pairs A[g, 2t : 2t + 2] in the place of A[g, t], likewise along B's columns.
    """
    registers = (a0, a1, a2, a3, b0, b1)
    return _multiplied("mma_bf16", registers, _bf16_pairs, (c0, c1, c2, c3))


@ptx(_MMA.format("m16n8k16", "f16.f16"), "ffff", "rrrrrrffff", memory=False)
def mma_f16(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """`mma_bf16` for float16."""
    registers = (a0, a1, a2, a3, b0, b1)
    return _multiplied("mma_f16", registers, _f16_pairs, (c0, c1, c2, c3))
