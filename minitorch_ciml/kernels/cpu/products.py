"""Matrix products on our own threads: one large, or many small ones inside of a task.

BLAS brings threads of its own. They spin while they wait, on the cores that the next kernel's
threads want, and the other way round (see `openblas`). So products that are worth several threads
run on ours; what is smaller goes to BLAS, on one thread.

    pack(b, first, row_step, column_step, inner, columns, packed)
    product(a, a_rows, step, inner, packed, columns, y, y_rows, False)

is y[y_rows[r] + j] = sum over k < inner of a[a_rows[r] + k * step] * b[first + k * row_step +
j * column_step]: either side may be transposed, and lie anywhere in a larger array. All arrays are
flat and contiguous; addresses count elements. `multiply` is made of them.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from minitorch_ciml.kernels import openblas
from minitorch_ciml.kernels.cpu import vector
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.loads import (
    addresses,
    clear,
    copy,
    load,
    load_at,
    load_turned,
    prefetch_at,
    store,
    store_at,
    store_rows,
)
from minitorch_ciml.kernels.cpu.simd import add as plus
from minitorch_ciml.kernels.cpu.simd import full, lanes, outer_fma
from minitorch_ciml.kernels.cpu.threads import WORTH_THREADS, task, threads_for
from minitorch_ciml.kernels.reference import linalg as reference

# Rows of a tile; it is two vectors wide. The sums, two vectors of b and a number of a must fit.
TILE = 12 if vector.REGISTERS == 32 else 6
# Rows of the last tiles: with few sums they would wait for each other, and for their numbers of b.
LOW_TILE = 8 if vector.REGISTERS == 32 else 4
# What is soon needed is asked for beforehand, so that no sum waits for memory: the places of a
# tile's results so many steps before they are written, and rows of b before they are read.
AHEAD, ROWS_AHEAD = 48, 16

# A part of a large product: at most so many rows and multiplications per sum, so that what it reads
# again and again, rows of a and packed columns of b, stays in the second cache; and of some widths,
# the largest of which there are enough parts for many threads.
ROWS, DEPTH, WIDTHS, PARTS = 22 * TILE, 392, (256, 128, 64), 24
# Half of the least width, where all would be one part, and half of the rows, where it still is.
NARROW = 32
# So many multiplications OpenBLAS does on one thread without being told to.
FREE = 1 << 18
# So many BLAS does: it is faster on one thread, if only it stays on one.
SMALL = WORTH_THREADS if openblas.knows_its_threads() else FREE
# Up to here BLAS' preparations cost more than NumPy's plain loop.
TINY = 1 << 10
# Products of so few rows are bound by the memory of b, which must not be copied first: measured,
# 1 x 2304 by 2304 x 128 took 17 us with BLAS and over 100 us here.
FEW = 4
# A small result of a long sum is computed in up to so many parts, each of which adds so many.
UNITS, INNER = 32, 512
# Rows that are a multiple of so many bytes apart share one set of lines of the first cache: what a
# tile reads would evict each other, and is copied together first.
PAGE = 4096


@kernel
def packed_size(b, inner, columns):
    """Elements that `pack` writes: panels of two vectors, the last one filled up with zeros."""
    width = 2 * lanes(b)
    return (columns + width - 1) // width * width * inner


@kernel
def pack(b, first, row_step, column_step, inner, columns, packed):
    """Copies b in the order in which `product` reads it: panel by panel of two vectors' width."""
    width = 2 * lanes(b)
    to = 0
    for start in range(0, columns, width):
        count = min(width, columns - start)
        at = first + start * column_step
        if column_step == 1:
            for k in range(inner):
                copy(packed, to + k * width, b, at + k * row_step, count)
                clear(packed, to + k * width + count, width - count)
        else:
            _pack_turned(b, at, row_step, column_step, inner, count, packed, to)
        to += inner * width


@kernel
def _pack_turned(b, first, row_step, column_step, inner, count, packed, to):
    """One panel of a b whose columns are contiguous: square by square, the rest one by one."""
    step = lanes(b)
    width = 2 * step
    squares = inner // step * step if row_step == 1 and count == width else 0
    for k in range(0, squares, step):
        for half in range(2):
            square = load_turned(b, first + k + half * step * column_step, column_step)
            store_rows(packed, to + k * width + half * step, width, square)
    for k in range(squares, inner):
        for j in range(count):
            packed[to + k * width + j] = b[first + k * row_step + j * column_step]
        clear(packed, to + k * width + count, width - count)


def _tiles(height, vectors, fresh=False):
    """Compiles what computes rows `first` to `last` of a panel's results, in tiles of that
    height and of one or two vectors' width.

    The panel of b begins at `b_at`, one row of it every `b_step`. A `fresh` one is not packed
    yet: it is now, to `panel`, which costs nothing beside the arithmetic.
    """
    sums = height * vectors

    @kernel
    def tiles(
        a, a_rows, first, last, step, inner, b, b_at, b_step, packed, panel, spill, y, y_rows,
        start, count, add,
    ):  # fmt: skip
        for r in range(first, last, height):
            at = addresses(a_rows, r, last - 1, height)
            to = addresses(y_rows, r, last - 1, height)
            acc = full(y, 0.0, sums)
            for k in range(inner):
                if k == inner - AHEAD:
                    prefetch_at(y, to, start, vectors)
                row = load(b, b_at + k * b_step, vectors)
                if fresh:
                    prefetch_at(b, (b_at,), (k + ROWS_AHEAD) * b_step, vectors)
                    store(packed, panel + k * vectors * lanes(y), row)
                acc = outer_fma(acc, a, at, k * step, row)
            if r + height <= last and count == vectors * lanes(y):
                # Added in the end: a sum of short sums is more precise than a long one.
                store_at(y, to, start, plus(acc, load_at(y, to, start, vectors)) if add else acc)
                continue
            store(spill, 0, acc)
            for t in range(min(height, last - r)):
                place = y_rows[r + t] + start
                for j in range(count):
                    value = spill[t * vectors * lanes(y) + j]
                    y[place + j] = value + (y[place + j] if add else 0)

    return tiles


_fresh, _high, _low = _tiles(TILE, 2, fresh=True), _tiles(TILE, 2), _tiles(LOW_TILE, 2)
_narrow = _tiles(TILE, 1)


@kernel
def _in_high_tiles(rows):
    """How many rows are computed in high tiles: none, or few, are computed for nothing."""
    rest = rows % TILE
    if rest > LOW_TILE:
        return rows
    return rows - rest - (TILE if 0 < rest <= 2 * LOW_TILE - TILE and rows > TILE else 0)


@kernel
def _rows_of_panel(
    a, a_rows, first, step, inner, packed, panel, spill, y, y_rows, start, count, add
):
    """The results of one packed panel in the rows from `first` on."""
    rows, width = a_rows.size, 2 * lanes(y)
    where = (packed, panel, width, packed, panel, spill, y, y_rows, start, count, add)
    if count <= lanes(y):
        _narrow(a, a_rows, first, rows, step, inner, *where)
        return
    whole = first + _in_high_tiles(rows - first)
    _high(a, a_rows, first, whole, step, inner, *where)
    _low(a, a_rows, whole, rows, step, inner, *where)


@kernel
def product(a, a_rows, step, inner, packed, columns, y, y_rows, add):
    """y = a b for a packed b, or y += a b; see the module."""
    width = 2 * lanes(y)
    spill = np.empty(TILE * width, y.dtype)
    for start in range(0, columns, width):
        count, panel = min(width, columns - start), start * inner
        where = (packed, panel, spill, y, y_rows, start, count, add)
        _rows_of_panel(a, a_rows, 0, step, inner, *where)


@kernel
def pack_product(a, a_rows, step, inner, b, first, row_step, packed, columns, y, y_rows, add):
    """The same for a b whose rows are contiguous, which is packed by the way."""
    width = 2 * lanes(y)
    spill = np.empty(TILE * width, y.dtype)
    for start in range(0, columns, width):
        count, panel, done = min(width, columns - start), start * inner, 0
        if count == width and a_rows.size >= TILE:
            done, fresh = TILE, (b, first + start, row_step, packed, panel, spill)
            _fresh(a, a_rows, 0, TILE, step, inner, *fresh, y, y_rows, start, count, add)
        else:
            pack(b, first + start, row_step, 1, inner, count, packed[panel:])
        where = (packed, panel, spill, y, y_rows, start, count, add)
        _rows_of_panel(a, a_rows, done, step, inner, *where)


@kernel
def places(first, step, count):
    """first, first + step, ...: the rows of a matrix."""
    rows = np.empty(count, np.int64)
    for i in range(count):
        rows[i] = first + i * step
    return rows


@kernel
def _finish(y, to, count, width, row_step, bias, relu):
    """act(y + bias) for a part of y that is still in the cache."""
    for r in range(count):
        for j in range(width):
            v = y[to + r * row_step + j] + bias[j]
            y[to + r * row_step + j] = y.dtype.type(0) if relu and v <= 0 else v


@task
def _multiply_part(i, a, row_step, step, b, b_row_step, b_column_step, sizes, y, bias, relu):
    """Part of the rows and columns, and of the inner dimension: one of `pieces` sums."""
    rows, inner, columns, pieces, height, width = sizes
    across = (columns + width - 1) // width
    piece, part = i % pieces, i // pieces
    row, column = part // across * height, part % across * width
    count, width = min(height, rows - row), min(width, columns - column)
    first, last = piece * inner // pieces, (piece + 1) * inner // pieces
    packed = np.empty(packed_size(b, min(DEPTH, last - first), width), b.dtype)
    start = (piece * rows + row) * columns + column
    to = places(start, columns, count)
    pitch = DEPTH + lanes(a)
    gathers = step == 1 and row_step * a.itemsize % PAGE == 0
    near = np.empty(count * pitch if gathers else 0, a.dtype)
    for k in range(first, last, DEPTH):
        depth = min(DEPTH, last - k)
        b_at = k * b_row_step + column * b_column_step
        at = row * row_step + k * step
        source, from_ = a, places(at, row_step, count)
        if gathers:
            for r in range(count):
                copy(near, r * pitch, a, at + r * row_step, depth)
            source, from_ = near, places(0, pitch, count)
        add = k > first
        if b_column_step == 1:
            pack_product(source, from_, step, depth, b, b_at, b_row_step, packed, width, y, to, add)
        else:
            pack(b, b_at, b_row_step, b_column_step, depth, width, packed)
            product(source, from_, step, depth, packed, width, y, to, add)
    if bias.size > 0:
        _finish(y, start, count, width, columns, bias[column:], relu)


@task
def _sum_piece(i, parts, y):
    start, stop = i * PAGE, min((i + 1) * PAGE, y.size)
    for j in range(start, stop):
        total = parts[j]
        for piece in range(1, parts.size // y.size):
            total += parts[piece * y.size + j]
        y[j] = total


@entry
def _multiply(
    most, parts, a, row_step, step, b, b_row_step, b_column_step, sizes, y, sums, bias, relu
):
    pieces = sizes[3]
    results = y if pieces == 1 else sums
    work = (a, row_step, step, b, b_row_step, b_column_step, sizes, results, bias, relu)
    _multiply_part(parts * pieces, most, work)
    if pieces > 1:
        _sum_piece((y.size + PAGE - 1) // PAGE, most, (sums, y))


def _with_steps(x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """A matrix as a flat array, and the steps to the next row and to the next column."""
    if x.T.flags.carray:
        return x.T.reshape(-1), 1, x.shape[0]
    x = x if x.flags.carray else np.array(x, order="C")
    return x.reshape(-1), x.shape[1], 1


def _part(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a part: blocks of rows of almost one height, whole tiles."""
    down = max(1, -(-rows // ROWS))
    wide = (width for width in WIDTHS if down * -(-columns // width) >= PARTS)
    width = next(wide, WIDTHS[-1])
    if down == 1 and columns <= width:
        down, width = (1, NARROW) if columns > NARROW else (2, width)
    return -(-max(1, rows) // (down * TILE)) * TILE, width


@lru_cache(maxsize=8)
def _nothing(dtype: np.dtype) -> np.ndarray:
    return np.empty(0, dtype)


def _by_blas(a: np.ndarray, b: np.ndarray, multiplications: int) -> np.ndarray:
    if multiplications <= TINY:
        # Not np.matmul, which takes 2 us more and now and then warns of numbers that are not there.
        return a.dot(b)
    if FREE < multiplications <= SMALL and len(a) > FEW and a.shape[1] == b.shape[0]:
        return openblas.product_on_one_thread(reference.for_blas(a), reference.for_blas(b))
    return reference.matmul(a, b)


def multiply(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, relu: bool = False
) -> np.ndarray:
    """a b, or max(a b + bias, 0) and the like, for matrices of float32 or float64, also transposed
    ones. The sums of more than a few rows are the same for any number of threads.
    """
    (rows, inner), columns = a.shape, b.shape[1]
    multiplications = rows * inner * columns
    if multiplications <= SMALL or rows <= FEW or vector.VECTOR_BITS < 256:
        y = _by_blas(a, b, multiplications)
        if bias is not None:
            y += bias
        return np.maximum(y, 0, out=y) if relu else y
    y = empty((rows, columns), a.dtype)
    height, width = _part(rows, columns)
    parts = -(-rows // height) * -(-columns // width)
    pieces = 1 if bias is not None else max(1, min(UNITS // parts, inner // INNER))
    sums = empty((pieces * y.size,), y.dtype) if pieces > 1 else _nothing(y.dtype)
    sizes = (rows, inner, columns, pieces, height, width)
    added = _nothing(y.dtype) if bias is None else bias
    _multiply(
        threads_for(multiplications), parts, *_with_steps(a), *_with_steps(b), sizes,
        y.reshape(-1), sums, added, relu,
    )  # fmt: skip
    return y


def matmul(
    a: np.ndarray, b: np.ndarray, *, transpose_a: bool = False, transpose_b: bool = False
) -> np.ndarray:
    """(..., M, K) times (..., K, N), each with its last two axes swapped if so told.

    One large product is on our threads, the others are as NumPy does them.
    """
    if transpose_a:
        a = a.swapaxes(-1, -2)
    if transpose_b:
        b = b.swapaxes(-1, -2)
    if b.ndim == 2 and a.dtype == b.dtype and a.dtype.char in "fd" and a.shape[-1] == b.shape[0]:
        if a.ndim == 2:
            return multiply(a, b)
        if a.flags.c_contiguous and a.size:
            return multiply(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])
    return reference.matmul(a, b)


matmul_grad = partial(reference.matmul_grad, product=matmul)
