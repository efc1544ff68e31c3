"""Tiles on tensor cores, which multiply small matrices that a warp holds together.

- bfloat16 and float16, summed up in float32;
- float32 as TF32: 10 bits of the mantissa instead of 23;
- float32 as 3xTF32: x = X + x' with X, x' in TF32, and x y = X Y + X y' + x' Y, which leaves out
  2^-22 of the product: about float32's precision for three products.

A block computes a tile of the result, going along the summed index k in slices of 64 bytes. Copies
from global to shared memory run by themselves, two slices ahead. Slices lie in shared memory as
their lines lie in global memory, but so that the eight lines that are read together lie in
different banks: a few bytes more in each line see to that, or, in lines of 64 bytes, that part c of
line i lies at place c ^ (i // 2 % 4). Matrix products and convolutions both do this:

    for s in range(1 - STAGES, slices):
        if s >= 0:    wait for slice s, and for all threads
        start to copy slice s + STAGES - 1
        if s >= 0:    multiply slice s

A kernel can only use numbers, arrays and functions from around it, so what follows are functions
that make functions for a tile, as in `tiles.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from numba import cuda, float32, int32

from minitorch_ciml import config
from minitorch_ciml.kernels.cuda.intrinsics import (
    bf16_to_f32,
    i32,
    pack_bf16,
    pack_f16,
    to_tf32,
)
from minitorch_ciml.kernels.cuda.mma import (
    ldsm4,
    ldsm4_words,
    ldsm4_words_transposed,
    mma_bf16,
    mma_f16,
    mma_tf32,
)
from minitorch_ciml.kernels.cuda.runtime import runtime
from minitorch_ciml.kernels.cuda.shared_memory import cp_async4, cp_async16, lds
from minitorch_ciml.kernels.cuda.tiles import in_turn

NEEDS = (8, 0)  # the compute capability that has the instructions
STAGES = 3  # slices in shared memory: one in use, two on their way
ALIGNED = 64  # bytes that shared memory must begin at a multiple of
_LINE = 64  # bytes of a slice along k
_STEP = 32  # bytes along k that a product of tensor cores takes
WARP_ROWS, WARP_COLUMNS = 16, 8  # of one product


@dataclass(frozen=True)
class CoreTile:
    """A block's share of the result, and each of its warps'.

    Attributes:
        rows, columns: of the tile.
        tall, wide: rows and columns of a warp's part; multiples of 16.
        speed: of its inner loop, compared with the large tile's.
    """

    rows: int
    columns: int
    tall: int
    wide: int
    speed: float

    slice = _LINE // 2  # k that a share is a multiple of: a slice of the smallest numbers

    @property
    def threads(self) -> int:
        return 32 * (self.rows // self.tall) * (self.columns // self.wide)

    @property
    def resident(self) -> int:
        """Blocks of it that a multiprocessor needs to be busy."""
        return 512 // self.threads

    @property
    def side_by_side(self) -> int:
        """Warps beside each other."""
        return self.columns // self.wide

    @property
    def products(self) -> tuple[int, int]:
        """Products of tensor cores that a warp computes for each k, down and across."""
        return self.tall // WARP_ROWS, self.wide // WARP_COLUMNS

    @property
    def part(self) -> int:
        """Numbers of the result that a thread has."""
        down, over = self.products
        return 4 * down * over

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}"


LARGE = CoreTile(128, 128, 64, 32, speed=1.0)
MIDDLE = CoreTile(128, 64, 32, 32, speed=0.9)  # for 3xTF32, which holds each factor twice
SMALL = CoreTile(64, 64, 32, 32, speed=0.7)


@dataclass(frozen=True)
class Side:
    """How a factor's slices lie in shared memory: in lines of k, or lines of the other index.

    Attributes:
        tile: whose slices they are.
        size: bytes of a number.
        is_left: whether it is the left factor.
        is_along_k: whether lines, in global memory as well, go along k.
        own_depth: k of a slice, if that is not 64 bytes of them.
    """

    tile: CoreTile
    size: int
    is_left: bool
    is_along_k: bool
    own_depth: int | None = None

    @property
    def depth(self) -> int:
        """k of a slice."""
        return self.own_depth or _LINE // self.size

    @property
    def steps(self) -> int:
        """Products of tensor cores along a slice."""
        return self.depth * self.size // _STEP

    @property
    def lines(self) -> int:
        """Lines of a slice."""
        return self._width if self.is_along_k else self.depth

    @property
    def is_turned(self) -> bool:
        """Whether lines have 64 bytes, and their parts change places.

        Eight threads copy two lines at a time: with bytes between them these would share banks.
        """
        return self._length * self.size == _LINE

    @property
    def pitch(self) -> int:
        """Bytes from line to line."""
        # Words of four bytes are read by rows t, t + 4 and columns g; rows of 16 bytes by eights.
        pad = 32 if self.size == 4 and not self.is_along_k else 16
        return self._length * self.size + (0 if self.is_turned else pad)

    @property
    def chunks(self) -> int:
        """Chunks of 16 bytes in a line."""
        return self._length * self.size // 16

    @property
    def each(self) -> int:
        """Numbers of a chunk."""
        return 16 // self.size

    @property
    def step(self) -> int:
        """Lines that are copied at a time."""
        return self.tile.threads // self.chunks

    @property
    def rounds(self) -> int:
        """How often a thread copies."""
        return self.lines // self.step

    @property
    def bytes(self) -> int:
        """Bytes of a slice."""
        return self.lines * self.pitch

    @property
    def _width(self) -> int:
        return self.tile.rows if self.is_left else self.tile.columns

    @property
    def _length(self) -> int:
        return self.depth if self.is_along_k else self._width


@cache
def part_of(side: Side) -> Callable:
    """Where part `chunk` of a line lies in a slice: bytes from its start."""
    pitch, is_turned = side.pitch, side.is_turned

    @cuda.jit(device=True, forceinline=True)
    def part(line, chunk):
        if is_turned:
            chunk = i32(chunk ^ (i32(line >> 1) & 3))
        return i32(line * pitch + chunk * 16)

    return part


@cache
def copy_of(side: Side) -> Callable:
    """Starts the copies of a slice of a matrix in global memory, which begins at `start`.

    The slice is from `k` on, and ends at `end` if that is nearer; of the other index it has the
    numbers from `first` on, of `extent`. `address`: of the slice in shared memory.
    """
    is_along_k, pitch, part = side.is_along_k, side.pitch, part_of(side)
    chunks, step, rounds, each = side.chunks, side.step, side.rounds, side.each
    word = 4 // side.size  # numbers in four bytes

    @cuda.jit(device=True, forceinline=True)
    def copy(address, array, start, first, extent, k, end, line_length, by_chunks, thread):
        line, at = i32(thread // chunks), i32(thread % chunks * each)
        if is_along_k:
            row, place, rows, places = i32(first + line), i32(k + at), extent, end
        else:
            row, place, rows, places = i32(k + line), i32(first + at), end, extent
        to = i32(address + part(line, i32(thread % chunks)))  # steps are multiples of 8 lines
        source = i32(start + row * line_length + place)
        for i in range(rounds):
            own, here = i32(to + i * step * pitch), i32(source + i * step * line_length)
            is_line = row + i * step < rows
            if by_chunks:
                cp_async16(own, array, here, is_line and place < places)
            else:
                for w in range(4):
                    is_valid = is_line and place + w * word < places
                    cp_async4(i32(own + 4 * w), array, i32(here + w * word), is_valid)

    return copy


@cache
def place_of(side: Side) -> Callable:
    """Where a lane reads a slice, in bytes from its start, for the warp's part from `first` on."""
    pitch, size, is_left, is_along_k = side.pitch, side.size, side.is_left, side.is_along_k
    is_float, part = size == 4, part_of(side)

    @cuda.jit(device=True, forceinline=True)
    def place(first, lane):
        if is_along_k:
            if is_left:
                row, chunk = lane & 15, lane >> 4
            else:
                row, chunk = (lane & 7) + (lane >> 4) * 8, (lane >> 3) & 1
            return part(i32(first + row), chunk)
        if is_float:
            return i32((lane & 3) * pitch + (first + (lane >> 2)) * 4)
        if is_left:
            k, half = (lane & 7) + (lane >> 4) * 8, (lane >> 3) & 1
        else:
            k, half = (lane & 7) + ((lane >> 3) & 1) * 8, lane >> 4
        return part(k, i32((first + half * 8) * size >> 4))

    return place


@cache
def _read_of(side: Side) -> Callable:
    """`read(address, step, i)`: four registers.

    Of the left factor these are a 16 x 8 matrix of words, of the right one two 8 x 8 ones beside
    each other: words hold one float32 or two smaller numbers along k.
    """
    pitch, size, is_left, is_turned = side.pitch, side.size, side.is_left, side.is_turned
    across = 16 * size  # bytes from one 16 rows or columns to the next, in a line of them
    below = _STEP // size * pitch  # bytes from one product's k to the next

    if side.is_along_k:
        read_rows = ldsm4 if size == 4 else ldsm4_words

        @cuda.jit(device=True, forceinline=True)
        def read(address, step, i):
            if is_turned:  # the second half of a line is where the first one is not
                return read_rows(i32((address ^ (step * _STEP)) + i * 16 * pitch))
            return read_rows(i32(address + i * 16 * pitch + step * _STEP))

    elif size == 4:

        @cuda.jit(device=True, forceinline=True)
        def read(address, step, i):
            at = i32(address + step * below + i * across)
            a, b = lds(at), lds(i32(at + 8 * size))  # eight rows or columns further
            c, d = lds(i32(at + 4 * pitch)), lds(i32(at + 4 * pitch + 8 * size))
            if is_left:
                return a, b, c, d
            return a, c, b, d

    else:

        @cuda.jit(device=True, forceinline=True)
        def read(address, step, i):
            if is_turned:
                return ldsm4_words_transposed(i32((address ^ (i * across)) + step * below))
            return ldsm4_words_transposed(i32(address + step * below + i * across))

    return read


@cache
def multiply_of(tile: CoreTile, numbers: Numbers, left: Side, right: Side) -> Callable:
    """Adds the product of two slices to what a warp has of the tile."""
    make = _multiply_thrice if numbers.is_thrice else _multiply_once
    return make(tile, numbers, left.steps, _read_of(left), _read_of(right))


@cache
def multiply_held_of(tile: CoreTile, numbers: Numbers, right: Side) -> Callable:
    """Adds the product of numbers of two bytes, which a warp holds as sums of others, and a slice.

    `held` are 16 rows of them. One function for each step, as in `tiles.multiply_of`.
    """
    (_, over), multiply, pack, read_b = (
        tile.products,
        numbers.multiply,
        numbers.pack,
        _read_of(right),
    )

    def step_of(step: int) -> Callable:
        @cuda.jit(device=True, forceinline=True)
        def add_product(total, held, b_at):
            o = 8 * step
            a0, a1 = pack(held[o], held[o + 1]), pack(held[o + 2], held[o + 3])
            a2, a3 = pack(held[o + 4], held[o + 5]), pack(held[o + 6], held[o + 7])
            for j in range(over // 2):
                b0, b1, b2, b3 = read_b(b_at, step, j)
                o = 8 * j
                total[o], total[o + 1], total[o + 2], total[o + 3] = multiply(
                    a0, a1, a2, a3, b0, b1, total[o], total[o + 1], total[o + 2], total[o + 3]
                )
                total[o + 4], total[o + 5], total[o + 6], total[o + 7] = multiply(
                    a0, a1, a2, a3, b2, b3, total[o + 4], total[o + 5], total[o + 6], total[o + 7]
                )

        return add_product

    return in_turn([step_of(step) for step in range(right.steps)])


def _multiply_once(
    tile: CoreTile, numbers: Numbers, steps: int, read_a: Callable, read_b: Callable
) -> Callable:
    (down, over), multiply = tile.products, numbers.multiply
    a_held, b_held, register = 4 * down, 2 * over, numbers.register

    @cuda.jit(device=True, forceinline=True)
    def add_product(total, a_at, b_at):
        a = cuda.local.array(a_held, register)
        b = cuda.local.array(b_held, register)
        for step in range(steps):
            for i in range(down):
                a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3] = read_a(a_at, step, i)
            for j in range(over // 2):
                b[4 * j], b[4 * j + 1], b[4 * j + 2], b[4 * j + 3] = read_b(b_at, step, j)
            for i in range(down):
                for j in range(over):
                    o = 4 * (i * over + j)
                    total[o], total[o + 1], total[o + 2], total[o + 3] = multiply(
                        a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3], b[2 * j], b[2 * j + 1],
                        total[o], total[o + 1], total[o + 2], total[o + 3],
                    )  # fmt: skip

    return add_product


def _multiply_thrice(
    tile: CoreTile, numbers: Numbers, steps: int, read_a: Callable, read_b: Callable
) -> Callable:
    """`_multiply_once` for 3xTF32; the small products are added first."""
    (down, over), multiply = tile.products, numbers.multiply
    a_held = 4 * down

    @cuda.jit(device=True, forceinline=True)
    def add_product(total, a_at, b_at):
        a = cuda.local.array(a_held, float32)
        a2 = cuda.local.array(a_held, float32)
        b = cuda.local.array(4, float32)
        b2 = cuda.local.array(4, float32)
        for step in range(steps):
            for i in range(down):
                a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3] = read_a(a_at, step, i)
            for i in range(4 * down):
                rounded = to_tf32(a[i])
                a2[i] = to_tf32(a[i] - rounded)
                a[i] = rounded
            for j in range(over):
                if j % 2 == 0:
                    b[0], b[1], b[2], b[3] = read_b(b_at, step, j // 2)
                    for v in range(4):
                        rounded = to_tf32(b[v])
                        b2[v] = to_tf32(b[v] - rounded)
                        b[v] = rounded
                v = 2 * (j % 2)
                for i in range(down):
                    o = 4 * (i * over + j)
                    c0, c1, c2, c3 = multiply(
                        a2[4 * i], a2[4 * i + 1], a2[4 * i + 2], a2[4 * i + 3],
                        b[v], b[v + 1], total[o], total[o + 1], total[o + 2], total[o + 3],
                    )  # fmt: skip
                    c0, c1, c2, c3 = multiply(
                        a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3], b2[v], b2[v + 1],
                        c0, c1, c2, c3,
                    )  # fmt: skip
                    total[o], total[o + 1], total[o + 2], total[o + 3] = multiply(
                        a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3], b[v], b[v + 1],
                        c0, c1, c2, c3,
                    )  # fmt: skip

    return add_product


@cuda.jit(device=True, forceinline=True)
def _multiply_tf32(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """Rounds the factors, where the hardware would cut them off."""
    return mma_tf32(
        to_tf32(a0), to_tf32(a1), to_tf32(a2), to_tf32(a3), to_tf32(b0), to_tf32(b1), c0, c1, c2, c3
    )


@cuda.jit(device=True, forceinline=True)
def _as_it_is(x):
    return x


@cuda.jit(device=True, forceinline=True)
def _f16_to_f32(x):
    return float32(x)


@dataclass(frozen=True)
class Numbers:
    """How the factors' numbers are multiplied.

    Attributes:
        name: of the arithmetic.
        code: of the numbers in memory.
        size: their bytes.
        widen: a number as float32.
        multiply: one product of tensor cores.
        pack: two float32 as numbers of two bytes in one register.
        is_thrice: three of them for each product.
    """

    name: str
    code: str
    size: int
    widen: Callable
    multiply: Callable
    pack: Callable | None = None
    is_thrice: bool = False

    @property
    def register(self) -> Any:
        """The type of the registers that a warp holds factors in."""
        return float32 if self.size == 4 else int32


TF32 = Numbers("tf32", "f4", 4, _as_it_is, _multiply_tf32)
TF32X3 = Numbers("tf32x3", "f4", 4, _as_it_is, mma_tf32, is_thrice=True)
BF16 = Numbers("bf16", "bf2", 2, bf16_to_f32, mma_bf16, pack_bf16)
F16 = Numbers("f16", "f2", 2, _f16_to_f32, mma_f16, pack_f16)

# Which tiles there are, the largest first, and whether they can compute a share of a sum. Shares
# are kept in float32: for smaller numbers that takes kernels of their own. Float32 that is too
# small for these tiles stays on ordinary cores.
TILES: dict[Numbers, tuple[tuple[CoreTile, bool], ...]] = {
    TF32: ((LARGE, True),),
    TF32X3: ((MIDDLE, True),),
    BF16: ((LARGE, False), (SMALL, True)),
    F16: ((LARGE, False), (SMALL, True)),
}
_OF_FLOAT32 = {"high": TF32X3, "medium": TF32}
_OF_TWO_BYTES = {"f2": F16, "bf2": BF16}


def arithmetic(code: str, narrowest: int) -> Numbers | None:
    """How tensor cores multiply numbers of this type on this GPU; None where they do not.

    `narrowest`: the smallest side of the result, of which float32 needs half a tile.
    """
    if runtime().capability < NEEDS:
        return None
    if code == "f4" and narrowest >= LARGE.rows // 2:
        return _OF_FLOAT32.get(config.get_float32_matmul_precision())
    return _OF_TWO_BYTES.get(code)


@cuda.jit(device=True, forceinline=True)
def following(turn):
    """The stage after this one."""
    return i32(turn + 1) if turn < STAGES - 1 else int32(0)
