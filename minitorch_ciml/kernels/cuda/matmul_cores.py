"""Matrix products on tensor cores, which multiply small matrices that a warp holds together.

- bfloat16 and float16, summed up in float32;
- float32 as TF32: 10 bits of the mantissa instead of 23;
- float32 as 3xTF32: x = X + x' with X, x' in TF32, and x y = X Y + X y' + x' Y, which leaves out
  2^-22 of the product: about float32's precision for three products.

A block computes a tile of the result, going along the summed index k in slices of 64 bytes. Copies
from global to shared memory run by themselves, two slices ahead. Slices lie in shared memory as
their lines lie in global memory; a few bytes more in each line let the eight lines that are read
together lie in different banks.

What limits it: a 128 x 128 tile costs 64 operations for each byte of float32 that is read, 128 for
two-byte numbers. An H100 does 150 to 300 operations on tensor cores in the time in which its memory
brings a byte, but 5 times as much comes from the cache that tiles share: bound by the rate at which
shared memory feeds the tensor cores. Larger products of Hopper's own instructions would lift that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.intrinsics import (
    bf16_to_f32,
    cp_async4,
    cp_async16,
    cp_async_commit,
    cp_async_wait1,
    i32,
    lds,
    ldsm4,
    ldsm4_words,
    ldsm4_words_transposed,
    mma_bf16,
    mma_f16,
    mma_tf32,
    pack_bf16,
    pack_f16,
    smem_addr,
    store2,
    store_word,
    to_tf32,
)
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.matmul_tiles import at_least, batch_start, tile_of

NEEDS = (8, 0)  # the compute capability that has the instructions
STAGES = 3  # slices in shared memory: one in use, two on their way
_LINE = 64  # bytes of a slice along k
_STEPS = 2  # products of tensor cores along a slice: 32 bytes each
_WARP_ROWS, _WARP_COLUMNS = 16, 8  # of one product


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
    def name(self) -> str:
        return f"{self.rows}x{self.columns}"


LARGE = CoreTile(128, 128, 64, 32, speed=1.0)
MIDDLE = CoreTile(128, 64, 32, 32, speed=0.9)  # for 3xTF32, which holds each factor twice
SMALL = CoreTile(64, 64, 32, 32, speed=0.7)


class _Side:
    """How a factor's slices lie in shared memory: in lines of k, or lines of the other index."""

    def __init__(self, width: int, size: int, threads: int, is_along_k: bool):
        self.is_along_k = is_along_k
        self.size = size  # bytes of a number
        self.depth = _LINE // size  # k of a slice
        self.lines, length = (width, self.depth) if is_along_k else (self.depth, width)
        # Words of four bytes are read by rows t, t + 4 and columns g; rows of 16 bytes by eights.
        pad = 32 if size == 4 and not is_along_k else 16
        self.pitch = length * size + pad
        self.chunks = length * size // 16  # of 16 bytes, in a line
        self.step = threads // self.chunks  # lines that are copied at a time
        self.bytes = self.lines * self.pitch


def _copy(side: _Side) -> Callable:
    """Starts the copies of a slice of a factor."""
    is_along_k, size, pitch = side.is_along_k, side.size, side.pitch
    chunks, step, rounds = side.chunks, side.step, side.lines // side.step
    each, word = 16 // size, 4 // size  # numbers in a chunk, and in four bytes

    @cuda.jit(device=True, forceinline=True)
    def copy(address, array, start, first, extent, k, end, line_length, by_chunks, thread):
        line, at = i32(thread // chunks), i32(thread % chunks * each)
        for i in range(rounds):
            own = i32(line + i * step)
            if is_along_k:
                row, place, rows, places = i32(first + own), i32(k + at), extent, end
            else:
                row, place, rows, places = i32(k + own), i32(first + at), end, extent
            to = i32(address + own * pitch + at * size)
            source = i32(start + row * line_length + place)
            if by_chunks:
                cp_async16(to, array, source, row < rows and place < places)
            else:
                for w in range(4):
                    is_valid = row < rows and place + w * word < places
                    cp_async4(i32(to + 4 * w), array, i32(source + w * word), is_valid)

    return copy


def _fragments(side: _Side, is_left: bool) -> tuple[Callable, Callable]:
    """`place(first, lane)`: where a lane reads; `read(address, step, i)`: four registers.

    Of the left factor these are a 16 x 8 matrix of words, of the right one two 8 x 8 ones beside
    each other: words hold one float32 or two smaller numbers along k.
    """
    pitch, size, is_along_k = side.pitch, side.size, side.is_along_k
    is_float = size == 4
    across = 16 * size  # bytes from one 16 rows or columns to the next, in a line of them
    below = (_LINE // _STEPS) // size * pitch  # bytes from one product's k to the next

    if is_along_k:
        read_rows = ldsm4 if is_float else ldsm4_words

        @cuda.jit(device=True, forceinline=True)
        def place(first, lane):
            if is_left:
                row, chunk = lane & 15, lane >> 4
            else:
                row, chunk = (lane & 7) + (lane >> 4) * 8, (lane >> 3) & 1
            return i32((first + row) * pitch + chunk * 16)

        @cuda.jit(device=True, forceinline=True)
        def read(address, step, i):
            return read_rows(i32(address + i * 16 * pitch + step * 32))

        return place, read

    if is_float:

        @cuda.jit(device=True, forceinline=True)
        def place(first, lane):
            return i32((lane & 3) * pitch + (first + (lane >> 2)) * 4)

        @cuda.jit(device=True, forceinline=True)
        def read(address, step, i):
            at = i32(address + step * below + i * across)
            a, b = lds(at), lds(i32(at + 8 * size))  # eight rows or columns further
            c, d = lds(i32(at + 4 * pitch)), lds(i32(at + 4 * pitch + 8 * size))
            if is_left:
                return a, b, c, d
            return a, c, b, d

        return place, read

    @cuda.jit(device=True, forceinline=True)
    def place(first, lane):
        if is_left:
            k, half = (lane & 7) + (lane >> 4) * 8, (lane >> 3) & 1
        else:
            k, half = (lane & 7) + ((lane >> 3) & 1) * 8, lane >> 4
        return i32(k * pitch + (first + half * 8) * size)

    @cuda.jit(device=True, forceinline=True)
    def read(address, step, i):
        return ldsm4_words_transposed(i32(address + step * below + i * across))

    return place, read


def _multiply_once(tile: CoreTile, multiply: Callable, left: tuple, right: tuple) -> Callable:
    """Adds the product of two slices to what a warp has of the tile."""
    down, over = tile.tall // _WARP_ROWS, tile.wide // _WARP_COLUMNS
    read_a, read_b = left[1], right[1]

    @cuda.jit(device=True, forceinline=True)
    def add_product(total, a, b, a2, b2, a_at, b_at):
        for step in range(_STEPS):
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


def _multiply_thrice(tile: CoreTile, multiply: Callable, left: tuple, right: tuple) -> Callable:
    """`_multiply_once` for 3xTF32; the small products are added first."""
    down, over = tile.tall // _WARP_ROWS, tile.wide // _WARP_COLUMNS
    read_a, read_b = left[1], right[1]

    @cuda.jit(device=True, forceinline=True)
    def add_product(total, a, b, a2, b2, a_at, b_at):
        for step in range(_STEPS):
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
def multiply_tf32(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """Rounds the factors, where the hardware would cut them off."""
    return mma_tf32(
        to_tf32(a0), to_tf32(a1), to_tf32(a2), to_tf32(a3), to_tf32(b0), to_tf32(b1), c0, c1, c2, c3
    )


@cuda.jit(device=True, forceinline=True)
def as_it_is(x):
    return x


@cuda.jit(device=True, forceinline=True)
def f16_to_f32(x):
    return float32(x)


@cuda.jit(device=True, forceinline=True)
def put_f4(y, to, p, q, count, is_aligned):
    """Writes as many of two neighbouring numbers as there are, of an aligned two all or none."""
    if is_aligned:
        if count > 0:
            store2(y, to, p, q)
    else:
        if count > 0:
            y[to] = p
        if count > 1:
            y[to + 1] = q


def _put_packed(pack: Callable) -> Callable:
    """`put_f4` for numbers of two bytes, whose lines have an even length here."""

    @cuda.jit(device=True, forceinline=True)
    def put(y, to, p, q, count, is_aligned):
        if count > 0:
            store_word(y, to, pack(p, q))

    return put


@dataclass(frozen=True)
class Numbers:
    """How the factors' numbers are multiplied.

    Attributes:
        name: of the arithmetic.
        code: of the numbers in memory.
        size: their bytes.
        widen: a number as float32.
        put: writes two float32 as numbers of the kind, as `put_f4` does.
        multiply: one product of tensor cores.
        is_thrice: three of them for each product.
    """

    name: str
    code: str
    size: int
    widen: Callable
    put: Callable
    multiply: Callable
    is_thrice: bool = False


TF32 = Numbers("tf32", "f4", 4, as_it_is, put_f4, multiply_tf32)
TF32X3 = Numbers("tf32x3", "f4", 4, as_it_is, put_f4, mma_tf32, is_thrice=True)
BF16 = Numbers("bf16", "bf2", 2, bf16_to_f32, _put_packed(pack_bf16), mma_bf16)
F16 = Numbers("f16", "f2", 2, f16_to_f32, _put_packed(pack_f16), mma_f16)


def _product(
    numbers: Numbers, tile: CoreTile, is_sum: bool, transpose_a: bool, transpose_b: bool
) -> Kernel:
    """As `matmul_tiles`' kernel; `is_sum`: the result is float32, to be added to others."""
    size = numbers.size
    left = _Side(tile.rows, size, tile.threads, not transpose_a)
    right = _Side(tile.columns, size, tile.threads, transpose_b)
    copy_a, copy_b = _copy(left), _copy(right)
    reads_a, reads_b = _fragments(left, True), _fragments(right, False)
    place_a, place_b = reads_a[0], reads_b[0]
    combine = _multiply_thrice if numbers.is_thrice else _multiply_once
    add_product = combine(tile, numbers.multiply, reads_a, reads_b)
    widen, put = numbers.widen, put_f4 if is_sum else numbers.put
    register = float32 if size == 4 else int32
    rows, columns, tall, wide, depth = tile.rows, tile.columns, tile.tall, tile.wide, left.depth
    down, over = tall // _WARP_ROWS, wide // _WARP_COLUMNS
    part, a_held, b_held = 4 * down * over, 4 * down, 4 if numbers.is_thrice else 2 * over
    a_rest, b_rest = (a_held, b_held) if numbers.is_thrice else (1, 1)
    side_by_side = columns // wide  # warps
    a_bytes, stage = left.bytes, left.bytes + right.bytes
    kind = "nt"[transpose_a] + "nt"[transpose_b] + ("_sum" if is_sum else "")

    @kernel(
        "Y* T* T* T*" + " i4" * 15, Y=("f4" if is_sum else numbers.code,), T=(numbers.code,),
        threads=tile.threads, blocks=tile.resident, shared=STAGES * stage, needs=NEEDS,
        name=f"matmul_cores.product_{numbers.name}_{tile.name}_{kind}",
    )  # fmt: skip
    def product(
        y, a, b, bias, m, n, k, share, batch, inner, a_outer, a_inner, b_outer, b_inner,
        a_by_chunks, b_by_chunks, y_by_twos, has_bias, is_relu,
    ):  # fmt: skip
        shared = cuda.shared.array(0, float32)
        total = cuda.local.array(part, float32)
        a_part = cuda.local.array(a_held, register)
        b_part = cuda.local.array(b_held, register)
        a_part2 = cuda.local.array(a_rest, float32)
        b_part2 = cuda.local.array(b_rest, float32)
        for i in range(part):
            total[i] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        number = i32(batch + cuda.blockIdx.z)
        row, column = tile_of(
            i32(cuda.blockIdx.x), i32((m + rows - 1) // rows), i32((n + columns - 1) // columns)
        )
        row, column = i32(row * rows), i32(column * columns)
        a_start = batch_start(number, inner, a_outer, a_inner)
        b_start = batch_start(number, inner, b_outer, b_inner)
        a_line = m if transpose_a else k
        b_line = k if transpose_b else n
        first = i32(cuda.blockIdx.y * share)
        end = i32(min(k, first + share))

        lane, warp = i32(thread & 31), i32(thread >> 5)
        own_row, own_column = i32(warp // side_by_side * tall), i32(warp % side_by_side * wide)
        base = smem_addr(shared)
        a_place = i32(base + place_a(own_row, lane))
        b_place = i32(base + a_bytes + place_b(own_column, lane))
        slices = i32((end - first + depth - 1) // depth)
        for s in range(STAGES - 1):  # beyond the end, zeros
            at, to = i32(first + s * depth), i32(base + s * stage)
            copy_a(to, a, a_start, row, m, at, end, a_line, a_by_chunks, thread)
            copy_b(i32(to + a_bytes), b, b_start, column, n, at, end, b_line, b_by_chunks, thread)
            cp_async_commit()
        turn, next_turn = int32(0), int32(STAGES - 1)
        for s in range(slices):
            cp_async_wait1()
            cuda.syncthreads()  # all have this slice, and none needs the last one any more
            at, to = i32(first + (s + STAGES - 1) * depth), i32(base + next_turn * stage)
            copy_a(to, a, a_start, row, m, at, end, a_line, a_by_chunks, thread)
            copy_b(i32(to + a_bytes), b, b_start, column, n, at, end, b_line, b_by_chunks, thread)
            cp_async_commit()
            a_at, b_at = i32(a_place + turn * stage), i32(b_place + turn * stage)
            add_product(total, a_part, b_part, a_part2, b_part2, a_at, b_at)
            turn = i32(turn + 1) if turn < STAGES - 1 else int32(0)
            next_turn = i32(next_turn + 1) if next_turn < STAGES - 1 else int32(0)

        lowest = float32(0.0 if is_relu else -float32(3.4e38) * float32(10.0))
        own_row = i32(row + own_row + (lane >> 2))
        own_column = i32(column + own_column + (lane & 3) * 2)
        y_start = i32((number * cuda.gridDim.y + cuda.blockIdx.y) * m * n)
        for j in range(over):
            c = i32(own_column + j * _WARP_COLUMNS)
            b0 = b1 = float32(0.0)
            if has_bias and c < n:
                b0 = widen(bias[c])
                if c + 1 < n:
                    b1 = widen(bias[c + 1])
            for i in range(down):
                o = 4 * (i * over + j)
                total[o] = at_least(total[o] + b0, lowest)
                total[o + 1] = at_least(total[o + 1] + b1, lowest)
                total[o + 2] = at_least(total[o + 2] + b0, lowest)
                total[o + 3] = at_least(total[o + 3] + b1, lowest)
        for i in range(2 * down):
            r = i32(own_row + i * 8)
            at = i32(y_start + r * n + own_column)
            if r < m:
                for j in range(over):
                    more = i32(n - own_column - j * _WARP_COLUMNS)
                    o = 4 * (i // 2 * over + j) + i % 2 * 2
                    put(y, i32(at + j * _WARP_COLUMNS), total[o], total[o + 1], more, y_by_twos)

    return product


# Which tiles there are, and whether they can compute a share of a sum. Shares are kept in float32:
# for smaller numbers that takes kernels of their own. Float32 that is too small for these tiles
# stays on ordinary cores.
TILES: dict[Numbers, tuple[tuple[CoreTile, bool], ...]] = {
    TF32: ((LARGE, True),),
    TF32X3: ((MIDDLE, True),),
    BF16: ((LARGE, False), (SMALL, True)),
    F16: ((LARGE, False), (SMALL, True)),
}
PRODUCT = {
    (numbers, tile, is_sum, transpose_a, transpose_b): _product(
        numbers, tile, is_sum, transpose_a, transpose_b
    )
    for numbers, tiles in TILES.items()
    for tile, can_share in tiles
    for is_sum in ((False, True) if can_share and numbers.size == 2 else (False,))
    for transpose_a in (False, True)
    for transpose_b in (False, True)
}
