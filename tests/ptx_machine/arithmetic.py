"""Instructions on numbers: for all threads, of which the active ones get the results.

"PTX ISA", 9.7.1 to 9.7.8 and cvt of 9.7.9. Instructions whose result the manual leaves open within
bounds (.approx) are computed exactly and rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ptx_machine.operands import Binder
from ptx_machine.program import TYPES, Instruction

if TYPE_CHECKING:
    from ptx_machine.machine import Step, Wave

_DOUBLE_WIDTH = {
    np.dtype(a): np.dtype(b) for a, b in (("i2", "i4"), ("u2", "u4"), ("i4", "i8"), ("u4", "u8"))
}


def _kind(i: Instruction) -> np.dtype:
    return np.dtype(TYPES[i.parts[-1]])


def _flushed(x: np.ndarray) -> np.ndarray:
    """.ftz: subnormal numbers count as zeros of their sign."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


def _finished(i: Instruction, compute: Callable) -> Callable:
    """With what the instruction's modifiers say of its numbers and its result."""
    made = compute
    directed = {"rz", "rm", "rp"} & set(i.parts)
    if directed:
        assert i.parts[-1] == "f32", i.text
        made = _directed(*directed, compute)
    if "sat" in i.parts:
        assert _kind(i).kind == "f", i.text
        unbounded = made
        made = lambda *x: np.nan_to_num(np.clip(unbounded(*x), 0, 1), nan=0.0)  # noqa: E731
    if "ftz" in i.parts:
        exact = made
        made = lambda *x: _flushed(exact(*map(_flushed, x)))  # noqa: E731
    return made


def _directed(mode: str, compute: Callable) -> Callable:
    """In float64, and then rounded to zero, down, or up."""

    def made(*x: np.ndarray) -> np.ndarray:
        exact = compute(*[np.asarray(value, np.float64) for value in x])
        near = exact.astype(np.float32)
        if mode == "rz":
            return np.where(np.abs(near) > np.abs(exact), np.nextafter(near, np.float32(0)), near)
        too_far = near > exact if mode == "rm" else near < exact
        towards = np.float32(-np.inf if mode == "rm" else np.inf)
        return np.where(too_far, np.nextafter(near, towards), near)

    return made


def _plain(function: Callable) -> Callable[[Binder, Instruction], Step]:
    """An instruction whose operands and result are all of its type."""

    def make(binder: Binder, i: Instruction) -> Step:
        kind = _kind(i)
        put = binder.write(i.operands[0], kind)
        reads = [binder.read(word, kind) for word in i.operands[1:]]
        compute = _finished(i, function)
        if len(reads) == 1:
            (a,) = reads
            return lambda w: put(w, compute(a(w)))
        if len(reads) == 2:
            a, b = reads
            return lambda w: put(w, compute(a(w), b(w)))
        return lambda w: put(w, compute(*[read(w) for read in reads]))

    return make


# --- products -------------------------------------------------------------------------------------


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a b + c, rounded once (in float64: but for cases between two numbers)."""
    if a.dtype == np.float16:
        wide = a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)
        return wide.astype(np.float16)
    if a.dtype == np.float32:
        return (np.multiply(a, b, dtype=np.float64) + c).astype(np.float32)
    product, error = _exact_product(a, b)
    total = product + c
    part = total - product
    rest = (product - (total - part)) + (c - part) + error
    return np.where(np.isfinite(total) & np.isfinite(rest), total + rest, a * b + c)


def _exact_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a b and its rounding error. Source: Dekker, 1971."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaled = x * np.float64(2**27 + 1)
    high = scaled - (scaled - x)
    return high, x - high


def _high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The upper half of a product."""
    a, b = np.broadcast_arrays(a, b)
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = _DOUBLE_WIDTH[a.dtype]
        return (a.astype(wide) * b.astype(wide) >> bits).astype(a.dtype)
    products = [int(x) * int(y) >> bits for x, y in zip(a.flat, b.flat)]
    return np.array([p % (1 << bits) for p in products], np.uint64).view(a.dtype).reshape(a.shape)


def multiply(binder: Binder, i: Instruction) -> Step:
    """mul and mad, of floats and of integers (.lo, .hi, .wide)."""
    kind = _kind(i)
    adds = i.parts[0] == "mad"
    result = _DOUBLE_WIDTH[kind] if "wide" in i.parts else kind
    put = binder.write(i.operands[0], result)
    a, b = (binder.read(word, kind) for word in i.operands[1:3])
    c = binder.read(i.operands[3], result) if adds else None
    if kind.kind == "f":
        function = _finished(i, fma if adds else np.multiply)
        return lambda w: put(w, function(a(w), b(w), *([c(w)] if c else [])))
    if "wide" in i.parts:
        compute = lambda x, y: x.astype(result) * y.astype(result)  # noqa: E731
    else:
        compute = _high if "hi" in i.parts else np.multiply
    if c is None:
        return lambda w: put(w, compute(a(w), b(w)))
    return lambda w: put(w, compute(a(w), b(w)) + c(w))


def fused(binder: Binder, i: Instruction) -> Step:
    if i.parts[-1] in ("f16x2", "bf16", "bf16x2"):
        raise NotImplementedError(i.text)
    return _plain(fma)(binder, i)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers: towards zero."""
    if a.dtype.kind == "f":
        return a / b
    return (a - _remainder(a, b)) // b if a.dtype.kind == "i" else a // b


def _remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the sign of the first."""
    return np.fmod(a, b)


def _least(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A number, if one of the two is NaN; -0 is less than +0."""
    if a.dtype.kind != "f":
        return np.minimum(a, b)
    return np.where((a == b) & np.signbit(a), a, np.fmin(a, b))


def _most(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind != "f":
        return np.maximum(a, b)
    return np.where((a == b) & np.signbit(a), b, np.fmax(a, b))


def extreme(least: bool) -> Callable[[Binder, Instruction], Step]:
    def make(binder: Binder, i: Instruction) -> Step:
        if "NaN" in i.parts:
            return _plain(np.minimum if least else np.maximum)(binder, i)
        return _plain(_least if least else _most)(binder, i)

    return make


# --- numbers of many words ------------------------------------------------------------------------


def with_carry(binder: Binder, i: Instruction) -> Step:
    """add, sub, mad of 32 bits that take a carry (addc, subc, madc) or leave one (.cc)."""
    assert i.parts[-1] == "u32", i.text
    name = i.parts[0].removesuffix("c")
    takes, leaves = i.parts[0].endswith("c"), "cc" in i.parts
    put = binder.write(i.operands[0], np.uint32)
    reads = [binder.read(word, np.uint32) for word in i.operands[1:]]

    def step(w: Wave) -> None:
        a, b, *c = (np.asarray(read(w), np.uint64) for read in reads)
        carry = w.carry.astype(np.uint64) if takes else np.uint64(0)
        if name == "sub":
            total = a - b - carry
        elif name == "add":
            total = a + b + carry
        else:
            product = a * b
            part = product >> np.uint64(32) if "hi" in i.parts else product & np.uint64(2**32 - 1)
            total = part + c[0] + carry
        put(w, np.broadcast_to(total, w.size).astype(np.uint32))
        if leaves:
            left = np.broadcast_to(total >> np.uint64(32) != 0, w.size)
            w.carry = left if w.mask is None else np.where(w.mask, left, w.carry)

    return step


def _or_with_carry(plain: Callable) -> Callable[[Binder, Instruction], Step]:
    return lambda binder, i: (with_carry if "cc" in i.parts else plain)(binder, i)


# --- bits -----------------------------------------------------------------------------------------


def shift(to_left: bool) -> Callable[[Binder, Instruction], Step]:
    """Shifts by more than the width leave nothing, or the sign."""

    def make(binder: Binder, i: Instruction) -> Step:
        kind = _kind(i)
        put, value = binder.write(i.operands[0], kind), binder.read(i.operands[1], kind)
        by = binder.read(i.operands[2], np.uint32)
        bits = 8 * kind.itemsize

        def step(w: Wave) -> None:
            x, n = value(w), by(w)
            most = np.minimum(n, bits - 1).astype(kind)
            shifted = x << most if to_left else x >> most
            lost = x >> (bits - 1) if kind.kind == "i" and not to_left else np.zeros_like(x)
            put(w, np.where(n < bits, shifted, lost))

        return step

    return make


def funnel(binder: Binder, i: Instruction) -> Step:
    """shf: shifts two registers as one, and takes the upper (.l) or lower (.r) half."""
    to_left, clamps = i.parts[1] == "l", i.parts[2] == "clamp"
    put = binder.write(i.operands[0], np.uint32)
    low, high, by = (binder.read(word, np.uint32) for word in i.operands[1:])

    def step(w: Wave) -> None:
        both = high(w).astype(np.uint64) << np.uint64(32) | low(w).astype(np.uint64)
        n = (np.minimum(by(w), 32) if clamps else by(w) & np.uint32(31)).astype(np.uint64)
        moved = (both << n) >> np.uint64(32) if to_left else both >> n
        put(w, (moved & np.uint64(0xFFFFFFFF)).astype(np.uint32))

    return step


def insert_bits(binder: Binder, i: Instruction) -> Step:
    """bfi d, a, b, start, length: a's lowest bits into b."""
    kind = np.dtype(f"u{_kind(i).itemsize}")
    put = binder.write(i.operands[0], kind)
    a, b = (binder.read(word, kind) for word in i.operands[1:3])
    start, length = (binder.read(word, np.uint32) for word in i.operands[3:])

    def step(w: Wave) -> None:
        s, n = np.uint64(start(w) & 255), np.uint64(length(w) & 255)
        mask = ((np.uint64(1) << n) - np.uint64(1)) << s
        wide = (b(w).astype(np.uint64) & ~mask) | (a(w).astype(np.uint64) << s & mask)
        put(w, wide.astype(kind))

    return step


def extract_bits(binder: Binder, i: Instruction) -> Step:
    """bfe d, a, start, length."""
    kind = _kind(i)
    put, value = binder.write(i.operands[0], kind), binder.read(i.operands[1], kind)
    start, length = (binder.read(word, np.uint32) for word in i.operands[2:])
    bits = 8 * kind.itemsize

    def step(w: Wave) -> None:
        s, n = start(w).astype(np.int64) & 255, length(w).astype(np.int64) & 255
        assert np.all((n > 0) & (s + n <= bits)), i.text
        left = (bits - s - n).astype(kind)
        put(w, (value(w) << left) >> (bits - n).astype(kind))

    return step


def permute(binder: Binder, i: Instruction) -> Step:
    """prmt: each byte of the result is one of eight, or its sign."""
    assert len(i.parts) == 2, i.text
    put = binder.write(i.operands[0], np.uint32)
    a, b, choice = (binder.read(word, np.uint32) for word in i.operands[1:])

    def step(w: Wave) -> None:
        both = b(w).astype(np.uint64) << np.uint64(32) | a(w).astype(np.uint64)
        chosen, result = choice(w).astype(np.uint64), np.zeros(w.size, np.uint64)
        for n in range(4):
            selector = chosen >> np.uint64(4 * n)
            byte = both >> (selector & np.uint64(7)) * np.uint64(8) & np.uint64(255)
            sign = (byte >> np.uint64(7)) * np.uint64(255)
            byte = np.where(selector & np.uint64(8), sign, byte)
            result |= byte << np.uint64(8 * n)
        put(w, result.astype(np.uint32))

    return step


def _counted(function: Callable) -> Callable[[Binder, Instruction], Step]:
    """A number of bits, of 32 bits itself."""

    def make(binder: Binder, i: Instruction) -> Step:
        kind = np.dtype(f"u{_kind(i).itemsize}")
        put, value = binder.write(i.operands[0], np.uint32), binder.read(i.operands[1], kind)
        return lambda w: put(w, function(value(w)).astype(np.uint32))

    return make


def _leading_zeros(x: np.ndarray) -> np.ndarray:
    bits = 8 * x.dtype.itemsize
    found = np.full(x.shape, bits)
    for n in range(bits):
        found = np.where(x >> x.dtype.type(n) & x.dtype.type(1), bits - 1 - n, found)
    return found


def _reversed_bits(x: np.ndarray) -> np.ndarray:
    result = np.zeros_like(x)
    bits = 8 * x.dtype.itemsize
    for n in range(bits):
        one = x >> x.dtype.type(n) & x.dtype.type(1)
        result |= one << x.dtype.type(bits - 1 - n)
    return result


def logic3(binder: Binder, i: Instruction) -> Step:
    """lop3: any function of three bits, as a table."""
    put = binder.write(i.operands[0], np.uint32)
    reads = [binder.read(word, np.uint32) for word in i.operands[1:4]]
    table = int(i.operands[4], 0)

    def step(w: Wave) -> None:
        a, b, c = (read(w) for read in reads)
        result = np.zeros(w.size, np.uint32)
        for n in range(8):
            if table >> n & 1:
                result |= (a if n & 4 else ~a) & (b if n & 2 else ~b) & (c if n & 1 else ~c)
        put(w, result)

    return step


# --- comparisons ----------------------------------------------------------------------------------

_COMPARISONS: dict[str, Callable] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater,
    "hs": np.greater_equal,
}  # fmt: skip


def _comparison(name: str, kind: np.dtype) -> Callable:
    """Of floats: with a "u" true if one is NaN, without it false."""
    if kind.kind != "f":
        return _COMPARISONS[name]
    if name == "num":
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    if name == "nan":
        return lambda a, b: np.isnan(a) | np.isnan(b)
    if name.endswith("u"):
        return lambda a, b: _COMPARISONS[name[:-1]](a, b) | np.isnan(a) | np.isnan(b)
    if name == "ne":
        return lambda a, b: (a != b) & ~np.isnan(a) & ~np.isnan(b)
    return _COMPARISONS[name]


def _compared(i: Instruction, binder: Binder) -> Callable[[Wave], np.ndarray]:
    """What setp and set find, with .and, .or, .xor of another predicate."""
    kind = _kind(i)
    compare = _comparison(i.parts[1], kind)
    if "ftz" in i.parts:
        exact = compare
        compare = lambda x, y: exact(_flushed(x), _flushed(y))  # noqa: E731
    a, b = (binder.read(word, kind) for word in i.operands[1:3])
    if len(i.operands) == 3:
        return lambda w: compare(a(w), b(w))
    c = binder.read(i.operands[3], np.bool_)
    join = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[i.parts[2]]
    return lambda w: join(compare(a(w), b(w)), c(w))


def set_predicate(binder: Binder, i: Instruction) -> Step:
    target, _, contrary = i.operands[0].partition("|")
    assert not contrary, i.text
    put, found = binder.write(target, np.bool_), _compared(i, binder)
    return lambda w: put(w, np.asarray(found(w)))


def set_number(binder: Binder, i: Instruction) -> Step:
    """set: 1.0, or all bits, where it is true."""
    result = np.dtype(TYPES[i.parts[-2]])
    put, found = binder.write(i.operands[0], result), _compared(i, binder)
    yes = np.array(1.0 if result.kind == "f" else -1).astype(result)
    return lambda w: put(w, np.where(found(w), yes, result.type(0)))


def select(binder: Binder, i: Instruction) -> Step:
    kind = _kind(i)
    put = binder.write(i.operands[0], kind)
    a, b = (binder.read(word, kind) for word in i.operands[1:3])
    which = binder.read(i.operands[3], np.bool_)
    return lambda w: put(w, np.where(which(w), a(w), b(w)))


def test(binder: Binder, i: Instruction) -> Step:
    kind = _kind(i)
    put, value = binder.write(i.operands[0], np.bool_), binder.read(i.operands[1], kind)
    tiny = np.finfo(kind).tiny
    function = {
        "finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan,
        "number": lambda x: ~np.isnan(x), "normal": lambda x: np.isfinite(x) & (np.abs(x) >= tiny),
        "subnormal": lambda x: (x != 0) & (np.abs(x) < tiny),
    }[i.parts[1]]  # fmt: skip
    return lambda w: put(w, function(value(w)))


# --- moves and conversions ------------------------------------------------------------------------


def move(binder: Binder, i: Instruction) -> Step:
    """mov; a list on one side is put together from parts, or taken apart, the lowest first."""
    kind = _kind(i)
    target, source = i.operands
    if isinstance(target, list):
        part = np.dtype(f"u{kind.itemsize // len(target)}")
        puts = [binder.write(word, part) for word in target]
        value = binder.read(source, np.dtype(f"u{kind.itemsize}"))

        def take_apart(w: Wave) -> None:
            parts = np.broadcast_to(value(w), w.size).copy().view(part).reshape(w.size, -1)
            for n, put in enumerate(puts):
                put(w, parts[:, n].copy())

        return take_apart
    put = binder.write(target, kind)
    if isinstance(source, list):
        part = np.dtype(f"u{kind.itemsize // len(source)}")
        values = [binder.read(word, part) for word in source]

        def put_together(w: Wave) -> None:
            parts = [np.broadcast_to(value(w), w.size) for value in values]
            put(w, np.stack(parts, axis=1).reshape(-1).view(kind))

        return put_together
    value = binder.read(source, kind)
    return lambda w: put(w, value(w))


_ROUNDED = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def _to_integer(x: np.ndarray, target: np.dtype) -> np.ndarray:
    """The nearest number of the type; NaN becomes zero."""
    limits = np.iinfo(target)
    wide = np.asarray(x, np.float64)
    inside = np.where((wide >= limits.min) & (wide < float(limits.max)), wide, 0).astype(target)
    result = np.where(wide >= float(limits.max), limits.max, inside)
    result = np.where(wide < limits.min, limits.min, result)
    return np.where(np.isnan(wide), 0, result).astype(target)


def to_bf16(x: np.ndarray) -> np.ndarray:
    """To the nearest bfloat16, of two that are as near the even one; as 16 bits."""
    word = x.astype(np.float32).view(np.uint32)
    lowest = word >> np.uint32(16) & np.uint32(1)
    nearest = (word + np.uint32(0x7FFF) + lowest) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), nearest).astype(np.uint16)


def to_tf32(x: np.ndarray) -> np.ndarray:
    """.rna: to the nearest number with 10 bits after the point, of two as near away from zero."""
    word = x.view(np.uint32)
    nearest = (word + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), nearest, word)


def convert(binder: Binder, i: Instruction) -> Step:
    to, of = i.parts[-2:]
    if to in ("f16x2", "bf16x2"):
        return _convert_two(binder, i)
    if to == "tf32":
        assert i.parts[1] == "rna" and of == "f32", i.text
        put, value = binder.write(i.operands[0], np.uint32), binder.read(i.operands[1], np.float32)
        return lambda w: put(w, to_tf32(value(w)))
    if "bf16" in (to, of):
        return _convert_bf16(binder, i)
    target, source = np.dtype(TYPES[to]), np.dtype(TYPES[of])
    put, value = binder.write(i.operands[0], target), binder.read(i.operands[1], source)
    assert not {"rz", "rm", "rp", "rna"} & set(i.parts), i.text
    whole = [_ROUNDED[part] for part in i.parts if part in _ROUNDED]

    def compute(x: np.ndarray) -> np.ndarray:
        if "ftz" in i.parts and x.dtype == np.float32:
            x = _flushed(x)
        for function in whole:
            x = function(x)
        if source.kind == "f" and target.kind != "f":
            return _to_integer(x, target)
        if "sat" in i.parts:
            return _saturated(x, target)
        return x.astype(target)

    return lambda w: put(w, compute(value(w)))


def _saturated(x: np.ndarray, target: np.dtype) -> np.ndarray:
    if target.kind == "f":
        return np.nan_to_num(np.clip(x, 0, 1), nan=0.0).astype(target)
    limits = np.iinfo(target)
    return np.array([min(max(int(v), limits.min), limits.max) for v in x.flat]).astype(target)


def _convert_bf16(binder: Binder, i: Instruction) -> Step:
    to, of = i.parts[-2:]
    if of == "bf16":
        put, value = binder.write(i.operands[0], np.float32), binder.read(i.operands[1], np.uint16)
        assert to == "f32", i.text
        return lambda w: put(w, (value(w).astype(np.uint32) << np.uint32(16)).view(np.float32))
    assert of == "f32" and "rn" in i.parts, i.text
    put, value = binder.write(i.operands[0], np.uint16), binder.read(i.operands[1], np.float32)
    return lambda w: put(w, to_bf16(value(w)))


def _convert_two(binder: Binder, i: Instruction) -> Step:
    """d, a, b: a becomes the upper half of d, b the lower one."""
    assert i.parts[1] == "rn" and i.parts[-1] == "f32" and len(i.parts) == 4, i.text
    put = binder.write(i.operands[0], np.uint32)
    high, low = (binder.read(word, np.float32) for word in i.operands[1:])

    def narrow(x: np.ndarray) -> np.ndarray:
        if i.parts[-2] == "bf16x2":
            return to_bf16(x).astype(np.uint32)
        return x.astype(np.float16).view(np.uint16).astype(np.uint32)

    return lambda w: put(w, narrow(high(w)) << np.uint32(16) | narrow(low(w)))


def _exp2(x: np.ndarray) -> np.ndarray:
    return np.exp2(x.astype(np.float64)).astype(x.dtype)


def _by_double(function: Callable) -> Callable:
    return lambda x: function(x.astype(np.float64)).astype(x.dtype)


INSTRUCTIONS: dict[str, Callable[[Binder, Instruction], Any]] = {
    "add": _or_with_carry(_plain(np.add)), "sub": _or_with_carry(_plain(np.subtract)),
    "mul": multiply, "mad": _or_with_carry(multiply), "addc": with_carry, "subc": with_carry,
    "madc": with_carry,
    "fma": fused, "div": _plain(_quotient), "rem": _plain(_remainder),
    "abs": _plain(np.abs), "neg": _plain(np.negative), "min": extreme(True), "max": extreme(False),
    "rcp": _plain(lambda x: 1 / x), "sqrt": _plain(np.sqrt),
    "rsqrt": _plain(_by_double(lambda x: 1 / np.sqrt(x))), "ex2": _plain(_exp2),
    "lg2": _plain(_by_double(np.log2)), "sin": _plain(_by_double(np.sin)),
    "cos": _plain(_by_double(np.cos)), "tanh": _plain(_by_double(np.tanh)),
    "copysign": _plain(lambda sign, x: np.copysign(x, sign)),
    "and": _plain(np.bitwise_and), "or": _plain(np.bitwise_or), "xor": _plain(np.bitwise_xor),
    "not": _plain(np.invert), "shl": shift(True), "shr": shift(False), "shf": funnel,
    "bfi": insert_bits, "bfe": extract_bits, "prmt": permute, "lop3": logic3,
    "popc": _counted(np.bitwise_count), "clz": _counted(_leading_zeros),
    "brev": _plain(_reversed_bits), "setp": set_predicate, "set": set_number, "selp": select,
    "testp": test, "mov": move, "cvt": convert,
}  # fmt: skip
