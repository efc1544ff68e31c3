"""Tensor cores: products of small matrices by a warp, and how it reads them from shared memory.

The lanes of a warp hold the matrices of `mma` and `ldmatrix` together: see "Matrix fragments" in
NVIDIA's PTX manual.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitorch_ciml.kernels.cuda import SIMULATED
from minitorch_ciml.kernels.cuda.ptx import ptx

if SIMULATED:
    from minitorch_ciml.kernels.cuda.simulator import by_warp, current


def _matrices(addresses: list) -> np.ndarray:
    """(4, 8, 8) of 16 bits: what each group of 8 lanes names the rows of."""
    window = current().block.window
    return np.concatenate([window(a, 16, np.uint16) for a in addresses]).reshape(4, 8, 8)


def _words_of_lanes(matrices: np.ndarray, element: type) -> list:
    """For each lane its word of each matrix: lane 4 r + c has word c of row r."""
    words = np.ascontiguousarray(matrices).view(element).reshape(4, 32)
    return list(zip(*words))


_LDMATRIX = "ldmatrix.sync.aligned.m8n8.x4{}.shared.b16 {{$0, $1, $2, $3}}, [$4];"


@ptx(_LDMATRIX.format(""), "rrrr", "r")
def ldsm4_words(address):
    """Four matrices of 8 rows of 16 bytes; lane 8 m + r names the address of row r of matrix m.

    Lane 4 r + c gets word c of row r of each of them.
    """
    return by_warp("ldmatrix", address, lambda given: _words_of_lanes(_matrices(given), np.int32))


@ptx(_LDMATRIX.format(".trans"), "rrrr", "r")
def ldsm4_words_transposed(address):
    """As `ldsm4_words`, each matrix transposed as 8 x 8 elements of 16 bits."""
    return by_warp(
        "ldmatrix transposed", address,
        lambda given: _words_of_lanes(_matrices(given).swapaxes(1, 2), np.int32),
    )  # fmt: skip


@ptx(_LDMATRIX.format(""), "bbbb", "r")
def ldsm4(address):
    """`ldsm4_words`, as floats: matrices of 8 x 4 floats, of which lane 4 r + c gets [r, c]."""
    return by_warp("ldmatrix", address, lambda given: _words_of_lanes(_matrices(given), np.float32))


# --- products -------------------------------------------------------------------------------------


def _factors(words: np.ndarray, pairs: Any) -> tuple[np.ndarray, np.ndarray]:
    """A (16, K) and B (K, 8) from the lanes' registers (32, 6): four of A, then two of B.

    Register r of A is at row g + 8 (r % 2), word t + 4 (r // 2), of B at word t + 4 r, column g.
    """
    a = np.empty((16, 8), words.dtype)
    b = np.empty((8, 8), words.dtype)
    g, t = np.divmod(np.arange(32), 4)
    for r in range(4):
        a[g + 8 * (r % 2), t + 4 * (r // 2)] = words[:, r]
    b[t, g], b[t + 4, g] = words[:, 4], words[:, 5]
    return pairs(a), pairs(np.ascontiguousarray(b.T)).T


def _multiplied(kind: str, registers: tuple, pairs: Any, c: tuple) -> tuple:
    """This lane's part of A B + C."""

    def results(given: list) -> list:
        a, b = _factors(np.array([registers for registers, _ in given]), pairs)
        product = a.astype(np.float64) @ b.astype(np.float64)
        # [row half, row, pair of columns, column of the pair], the second and third a lane's
        own = product.reshape(2, 8, 4, 2).transpose(1, 2, 0, 3).reshape(32, 4)
        sums = (own + np.array([c for _, c in given])).astype(np.float32)
        return list(map(tuple, sums))

    return by_warp(kind, (registers, c), results)


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
