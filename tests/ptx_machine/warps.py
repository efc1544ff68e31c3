"""What the lanes of a warp do together: shuffles, votes, ldmatrix, mma; and barriers.

"PTX ISA", 9.7.9 (shfl), 9.7.13 (barriers, votes) and 9.7.14 (matrices). A segment begins at each of
them, and threads only go on when all of the warp are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ptx_machine.operands import Binder
from ptx_machine.program import Instruction

if TYPE_CHECKING:
    from ptx_machine.machine import Step, Wave

_WARP = 32
_ALL = 0xFFFFFFFF
_LANES = np.arange(_WARP)
_G, _T = np.divmod(_LANES, 4)  # "groupID" and "threadID_in_group" of the manual


def _by_warp(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, _WARP, *values.shape[1:])


def _check_members(binder: Binder, word: str) -> Step:
    """All kernels name all lanes; others would meet in parts of a warp."""
    members = binder.read(word, np.uint32)

    def check(w: Wave) -> None:
        if (members(w) != _ALL).any():
            raise NotImplementedError(f"lanes {members(w)} of a warp alone")

    return check


def barrier(binder: Binder, i: Instruction) -> Step:
    """bar.sync, bar.warp.sync: who waits is the scheduler's affair."""
    if i.parts[1] == "warp":
        check = _check_members(binder, i.operands[0])

        def meet(w: Wave) -> None:
            check(w)
            w.meet(warps=True)

        return meet
    assert len(i.operands) == 1, "a barrier of a part of a block"

    return lambda w: w.meet(warps=False)


def shuffle(binder: Binder, i: Instruction) -> Step:
    mode, kind = i.parts[2], np.dtype(np.uint32)
    target, _, flag = i.operands[0].partition("|")
    put, put_flag = binder.write(target, kind), binder.write(flag or "_", np.bool_)
    value, by, bounds = (
        binder.read(word, dtype) for word, dtype in zip(i.operands[1:4], (kind, np.int32, np.int32))
    )
    check = _check_members(binder, i.operands[4])

    def step(w: Wave) -> None:
        check(w)
        b, c = by(w) & 31, bounds(w)
        segment, clamp = c >> 8 & 31, c & 31
        first, last = w.lane & segment, (w.lane & segment) | (clamp & ~segment & 31)
        source = {
            "up": w.lane - b, "down": w.lane + b, "bfly": w.lane ^ b,
            "idx": first | (b & ~segment & 31),
        }[mode]  # fmt: skip
        inside = source >= last if mode == "up" else source <= last
        source = np.where(inside, source, w.lane)
        everyone = np.arange(w.size)
        put(w, np.broadcast_to(value(w), w.size)[everyone - w.lane + source])
        put_flag(w, inside)

    return step


def vote(binder: Binder, i: Instruction) -> Step:
    mode = i.parts[2]
    put = binder.write(i.operands[0], np.uint32 if mode == "ballot" else np.bool_)
    value, check = binder.read(i.operands[1], np.bool_), _check_members(binder, i.operands[2])

    def step(w: Wave) -> None:
        check(w)
        votes = _by_warp(np.broadcast_to(value(w), w.size))
        if mode == "ballot":
            result = (votes.astype(np.uint64) << _LANES.astype(np.uint64)).sum(axis=1)
        elif mode == "uni":
            result = votes.all(axis=1) | ~votes.any(axis=1)
        else:
            result = {"any": votes.any, "all": votes.all}[mode](axis=1)
        put(w, np.repeat(result, _WARP).astype(np.uint32 if mode == "ballot" else np.bool_))

    return step


# --- matrices -------------------------------------------------------------------------------------


def load_matrices(binder: Binder, i: Instruction) -> Step:
    """ldmatrix: lanes 8 m to 8 m + 7 name the rows of matrix m, of 16 bytes each.

    Lane 4 r + c gets the two numbers of 16 bits that begin at column 2 c of row r; with .trans, of
    the transposed matrix.
    """
    assert i.parts[-1] == "b16" and "m8n8" in i.parts, i.text
    puts = [binder.write(word, np.uint32) for word in i.operands[0]]
    address, count = binder.address(i.operands[1]), len(i.operands[0])
    transposed = "trans" in i.parts

    def step(w: Wave) -> None:
        threads = np.flatnonzero(w.active)
        naming = threads[w.lane[threads] < 8 * count]
        rows = w.shared.load(naming, address(w)[naming], np.dtype(np.uint8), 16)
        halves = rows.view(np.uint16).reshape(-1, count, 8, 8)  # [warp, matrix, row, column]
        if transposed:
            halves = halves.swapaxes(2, 3)
        words = np.ascontiguousarray(halves).view(np.uint32)  # [warp, matrix, row, word]
        for m, put in enumerate(puts):
            full = np.zeros(w.size, np.uint32)
            full[threads] = words[:, m].reshape(-1)
            put(w, full)

    return step


def _tf32(words: np.ndarray) -> np.ndarray:
    """The lower 13 bits are not looked at."""
    return (words & np.uint32(0xFFFFE000)).view(np.float32)


def _pairs(words: np.ndarray) -> np.ndarray:
    """(..., n) words as (..., n, 2) halves, the lower first."""
    return np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1)


def bf16(halves: np.ndarray) -> np.ndarray:
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f16(halves: np.ndarray) -> np.ndarray:
    return halves.astype(np.uint16).view(np.float16).astype(np.float32)


def _fragments_tf32(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """m16n8k8, .tf32: a0 to a3 at rows g, g + 8, g, g + 8 and columns t, t, t + 4, t + 4; b0, b1 at
    rows t, t + 4 and column g."""
    left = np.empty((len(a), 16, 8))
    right = np.empty((len(b), 8, 8))
    for n, (row, column) in enumerate(((0, 0), (8, 0), (0, 4), (8, 4))):
        left[:, _G + row, _T + column] = _tf32(a[..., n])
    for n, row in enumerate((0, 4)):
        right[:, _T + row, _G] = _tf32(b[..., n])
    return left, right


def _fragments_halves(value: Callable) -> Callable:
    def fragments(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """m16n8k16: a0, a1 at row g and columns 2t, 2t + 1; a2, a3 8 rows below; a4, a5 8 columns
        on; a6, a7 both. b0, b1 at rows 2t, 2t + 1 and column g; b2, b3 8 rows below."""
        left = np.empty((len(a), 16, 16))
        right = np.empty((len(b), 16, 8))
        for n in range(8):
            row = _G + (0 if n < 2 or 4 <= n < 6 else 8)
            column = 2 * _T + n % 2 + (0 if n < 4 else 8)
            left[:, row, column] = value(_pairs(a[..., n // 2])[..., n % 2])
        for n in range(4):
            right[:, 2 * _T + n % 2 + (0 if n < 2 else 8), _G] = value(
                _pairs(b[..., n // 2])[..., n % 2]
            )
        return left, right

    return fragments


_FRAGMENTS = {
    ("m16n8k8", "tf32"): _fragments_tf32,
    ("m16n8k16", "bf16"): _fragments_halves(bf16),
    ("m16n8k16", "f16"): _fragments_halves(f16),
}


def multiply(binder: Binder, i: Instruction) -> Step:
    """mma.sync: D = A B + C; c0, c1 at row g and columns 2t, 2t + 1, c2, c3 8 rows below."""
    shape, row, col, d_type, a_type, b_type, c_type = i.parts[3:]
    assert (row, col, d_type, c_type) == ("row", "col", "f32", "f32") and a_type == b_type, i.text
    fragments = _FRAGMENTS[shape, a_type]
    puts = [binder.write(word, np.float32) for word in i.operands[0]]
    a, b = ([binder.read(word, np.uint32) for word in words] for words in i.operands[1:3])
    c = [binder.read(word, np.float32) for word in i.operands[3]]

    def registers(w: Wave, reads: list) -> np.ndarray:
        return _by_warp(np.stack([np.broadcast_to(read(w), w.size) for read in reads], axis=-1))

    def step(w: Wave) -> None:
        left, right = fragments(registers(w, a), registers(w, b))
        product = left @ right
        before = registers(w, c)
        for n, put in enumerate(puts):
            sums = product[:, _G + 8 * (n // 2), 2 * _T + n % 2] + before[..., n]
            put(w, sums.astype(np.float32).reshape(-1))

    return step


INSTRUCTIONS = {
    "bar": barrier, "barrier": barrier, "shfl": shuffle, "vote": vote, "ldmatrix": load_matrices,
    "mma": multiply,
}  # fmt: skip
