"""How what tensor cores have computed is written: from where the lanes of a warp hold it.

With g, t = divmod(lane, 4) a lane has columns 2t and 2t + 1 of rows g and g + 8 of every 16 x 8
numbers: eight bytes of float32, of which four lanes fill a sector of memory, but only four bytes of
smaller numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.cores import LARGE, WARP_COLUMNS, CoreTile, Numbers
from minitorch_ciml.kernels.cuda.intrinsics import i32, store2, store_word, store_words
from minitorch_ciml.kernels.cuda.tiles import at_least, in_turn


@cache
def write_of(tile: CoreTile, numbers: Numbers, is_sum: bool, start_of: Callable) -> Callable:
    """Writes a warp's part of the tile, with bias and with what is below `lowest` raised to it.

    `start_of(rows, row)` is the element of y with which a row of the result begins, or -1 if there
    is none. Of `column`, the lane's first one, and those right of it, `count` are there; `bias_at`
    is its element of the bias. `by_8_bytes`: whether rows begin at a multiple of so many, and
    consist of them. `is_sum`: y is float32, to be added to others.

    One function for each 16 columns: of a loop over them the compiler would keep the numbers in
    memory.
    """
    down, over = tile.products
    put = _put_f4
    if numbers.pack and not is_sum:  # the large tile leaves no registers for an exchange
        put = _put_words(numbers.pack) if tile == LARGE else _put_packed(numbers.pack)
    two = _two_of(numbers.widen)

    def columns(j: int) -> Callable:
        first = WARP_COLUMNS * j

        @cuda.jit(device=True, forceinline=True)
        def write(y, bias, total, rows, row, column, bias_at, count, by_8_bytes, has_bias, lowest):
            more, here, at = i32(count - first), i32(column + first), i32(bias_at + first)
            known = more if has_bias else int32(0)
            b0, b1 = two(bias, at, known)
            b2, b3 = two(bias, i32(at + WARP_COLUMNS), i32(known - WARP_COLUMNS))
            for h in range(2 * down):
                start = start_of(rows, i32(row + 8 * h))
                o = 4 * (h // 2 * over + j) + h % 2 * 2
                v0, v1 = at_least(total[o] + b0, lowest), at_least(total[o + 1] + b1, lowest)
                v2, v3 = at_least(total[o + 4] + b2, lowest), at_least(total[o + 5] + b3, lowest)
                there = more if start >= 0 else int32(0)
                put(y, i32(start + here), v0, v1, v2, v3, there, by_8_bytes)

        return write

    return in_turn([columns(j) for j in range(0, over, 2)])


@cache
def _two_of(widen: Callable) -> Callable:
    """As many of two neighbouring numbers as there are, as float32; else 0."""

    @cuda.jit(device=True, forceinline=True)
    def two(array, at, count):
        a = b = float32(0.0)
        if count > 0:
            a = widen(array[at])
            if count > 1:
                b = widen(array[i32(at + 1)])
        return a, b

    return two


@cuda.jit(device=True, forceinline=True)
def _put_f4(y, to, v0, v1, v2, v3, count, by_8_bytes):
    """Writes two neighbouring float32, and two that are 8 columns further, if they are there."""
    further, beyond = i32(to + WARP_COLUMNS), i32(count - WARP_COLUMNS)
    if by_8_bytes:
        if count > 0:
            store2(y, to, v0, v1)
        if beyond > 0:
            store2(y, further, v2, v3)
    else:
        if count > 0:
            y[to] = v0
        if count > 1:
            y[i32(to + 1)] = v1
        if beyond > 0:
            y[further] = v2
        if beyond > 1:
            y[i32(further + 1)] = v3


@cache
def _put_words(pack: Callable) -> Callable:
    """`_put_f4` for numbers of two bytes, whose lines have an even length here."""

    @cuda.jit(device=True, forceinline=True)
    def put(y, to, v0, v1, v2, v3, count, by_8_bytes):
        if count > 0:
            store_word(y, to, pack(v0, v1))
        if count > WARP_COLUMNS:
            store_word(y, i32(to + WARP_COLUMNS), pack(v2, v3))

    return put


@cache
def _put_packed(pack: Callable) -> Callable:
    """`_put_words` in whole sectors.

    Neighbouring lanes exchange words, so that each writes two beside each other.
    """

    @cuda.jit(device=True, forceinline=True)
    def put(y, to, v0, v1, v2, v3, count, by_8_bytes):
        word, other = pack(v0, v1), pack(v2, v3)
        if by_8_bytes:
            is_odd = cuda.laneid & 1
            got = cuda.shfl_xor_sync(0xFFFFFFFF, word if is_odd else other, 1)
            if is_odd:
                word = got
            else:
                other = got
            first = i32(WARP_COLUMNS - 2) if is_odd else int32(0)
            if first < count:
                store_words(y, i32(to + first), word, other)
        else:
            if count > 0:
                store_word(y, to, word)
            if count > WARP_COLUMNS:
                store_word(y, i32(to + WARP_COLUMNS), other)

    return put
