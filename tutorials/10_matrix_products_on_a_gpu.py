# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     name: python3
#     display_name: Python 3
#     language: python
# ---

# %% [markdown]
# # 10. Matrix products on a GPU
#
# Nearly all work of a neural network is matrix products. Here is the way from the first kernel
# that anyone would write to the one that this package uses, in Python, one idea at a time.
#
# On a machine with an NVIDIA GPU each kernel is measured. Without one the simulator runs them,
# exactly and slowly (it needs one more package: `pip install greenlet`), and what is said about
# speed is a *prediction* for an H100.

# %%
import os
from ctypes.util import find_library
from pathlib import Path
from time import perf_counter

os.environ.setdefault("MINITORCH_CIML_SIMULATE_CUDA", "0" if find_library("cuda") else "1")

import matplotlib.pyplot as plt
import numpy as np
from numba import cuda, float32

from minitorch_ciml.kernels.cuda import SIMULATED
from minitorch_ciml.kernels.cuda.intrinsics import i32, load4, store4, to_tf32
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.matmul import matmul
from minitorch_ciml.kernels.cuda.memory import empty, to_device
from minitorch_ciml.kernels.cuda.mma import mma_tf32
from minitorch_ciml.kernels.cuda.runtime import runtime

pictures = Path(os.environ.get("TUTORIAL_PICTURES", "."))
N = 64 if SIMULATED else 4096  # the matrices are N x N; N is a multiple of 64

rng = np.random.default_rng(0)
A, B = (rng.normal(size=(N, N)).astype("float32") for _ in range(2))
a, b = to_device(A), to_device(B)
exact = A.astype("float64") @ B.astype("float64")
found = {}  # of each kernel: operations per byte of memory, bound and measured speed in TFLOP/s

# %% [markdown]
# ## What bounds a kernel
#
# An H100 does 67 million million operations per second in float32 (67 TFLOP/s) and reads 3.35 TB
# from its memory. So a kernel that does fewer than 67 / 3.35 = 20 operations for each byte that it
# reads waits for memory: that is the *roofline*. There is a second one. A multiprocessor does 128
# multiply-adds in a cycle, but reads only 32 numbers from shared memory. A kernel that reads r
# numbers for each multiply-add gets at most 1 / (4 r) of the peak.

# %%
MEMORY, PEAK, TENSOR_PEAK = 3.35, 67, 495  # TB/s; TFLOP/s in float32, and of tensor cores in TF32


def run(name, multiply, per_byte, reads, peak=PEAK, tolerance=1e-5):
    """Checks a kernel against NumPy, and notes how fast it can be and how fast it is."""
    y = empty((N, N), "float32")
    multiply(y)
    error = np.abs(y.numpy() - exact).max() / np.abs(exact).max()
    assert error < tolerance, f"{name}: error {error:.1e}"
    bound = min(MEMORY * per_byte, peak / max(1, 4 * reads))
    speed = None
    if not SIMULATED:
        runtime().synchronize()
        start = perf_counter()
        for _ in range(10):
            multiply(y)
        runtime().synchronize()
        speed = 10 * 2 * N**3 / (perf_counter() - start) / 1e12
    found[name] = per_byte, bound, speed
    told = "not measured" if speed is None else f"measured {speed:.1f}"
    print(f"{name}: error {error:.1e}, at most {bound:.1f} TFLOP/s predicted, {told}")


# %% [markdown]
# ## 1. A thread for each element
#
# A kernel is a function that thousands of threads run; each finds out which one it is. 32 threads
# with neighbouring x are a *warp*: they run together, and what they read side by side comes in one
# go. For each k a warp reads 32 numbers of b and one of a (all its threads have the same row): 132
# bytes for 64 operations.


# %%
@kernel("f4* f4* f4* i4", threads=256)
def naive(y, a, b, n):
    column = i32(cuda.blockIdx.x * 16 + cuda.threadIdx.x)
    row = i32(cuda.blockIdx.y * 16 + cuda.threadIdx.y)
    total = float32(0)
    for k in range(n):
        total += a[i32(row * n + k)] * b[i32(k * n + column)]
    y[i32(row * n + column)] = total


run("naive", lambda y: naive((N // 16, N // 16), (16, 16), y, a, b, N), 64 / 132, 0)

# %% [markdown]
# ## 2. Shared memory
#
# Threads of a *block* share some memory on the chip. They fetch a 16 x 16 tile of a and one of b
# together, wait for each other (`syncthreads`), and each number is used 16 times: 4 operations for
# each byte. But each multiply-add reads two numbers from shared memory, which allows an eighth of
# the peak.


# %%
@kernel("f4* f4* f4* i4", threads=256)
def tiled(y, a, b, n):
    a_tile = cuda.shared.array((16, 16), float32)
    b_tile = cuda.shared.array((16, 16), float32)
    x, z = cuda.threadIdx.x, cuda.threadIdx.y
    column, row = i32(cuda.blockIdx.x * 16 + x), i32(cuda.blockIdx.y * 16 + z)
    total = float32(0)
    for first in range(0, n, 16):
        a_tile[z, x] = a[i32(row * n + first + x)]
        b_tile[z, x] = b[i32((first + z) * n + column)]
        cuda.syncthreads()  # all is there
        for k in range(16):
            total += a_tile[z, k] * b_tile[k, x]
        cuda.syncthreads()  # nobody needs it any more
    y[i32(row * n + column)] = total


run("shared memory", lambda y: tiled((N // 16, N // 16), (16, 16), y, a, b, N), 4, 2)

# %% [markdown]
# ## 3. Registers
#
# So a thread must use what it reads more often, too: it computes 4 x 4 elements. For each k it
# reads 4 numbers of a and 4 of b, and does 16 multiply-adds: half a number each. The block's tile
# is now 64 x 64, which is 16 operations for each byte of memory. `cuda.local.array` with constant
# indices becomes registers.


# %%
@kernel("f4* f4* f4* i4", threads=256)
def in_registers(y, a, b, n):
    a_tile = cuda.shared.array((16, 64), float32)  # k first
    b_tile = cuda.shared.array((16, 64), float32)
    total = cuda.local.array(16, float32)
    for i in range(16):
        total[i] = float32(0)
    thread = i32(cuda.threadIdx.x)
    x, z = i32(thread % 16), i32(thread // 16)
    column, row = i32(cuda.blockIdx.x * 64), i32(cuda.blockIdx.y * 64)
    for first in range(0, n, 16):
        for i in range(4):  # 16 x 64 numbers of each, by 256 threads
            a_tile[x, z + 16 * i] = a[i32((row + z + 16 * i) * n + first + x)]
            b_tile[z, x + 16 * i] = b[i32((first + z) * n + column + x + 16 * i)]
        cuda.syncthreads()
        for k in range(16):
            for i in range(4):
                for j in range(4):
                    total[4 * i + j] += a_tile[k, z + 16 * i] * b_tile[k, x + 16 * j]
        cuda.syncthreads()
    for i in range(4):
        for j in range(4):
            y[i32((row + z + 16 * i) * n + column + x + 16 * j)] = total[4 * i + j]


run("registers", lambda y: in_registers((N // 64, N // 64), 256, y, a, b, N), 16, 0.5)

# %% [markdown]
# ## 4. Vectors
#
# One instruction can move 16 bytes. `load4` and `store4` do, from addresses that are a multiple of
# it: a quarter of the instructions for the same numbers. The bounds are the same; more of the
# instructions do arithmetic.


# %%
@kernel("f4* f4* f4* i4", threads=256)
def by_vectors(y, a, b, n):
    a_tile = cuda.shared.array(16 * 64, float32, alignment=16)
    b_tile = cuda.shared.array(16 * 64, float32, alignment=16)
    total = cuda.local.array(16, float32)
    left = cuda.local.array(4, float32)
    right = cuda.local.array(4, float32)
    for i in range(16):
        total[i] = float32(0)
    thread = i32(cuda.threadIdx.x)
    x, z = i32(thread % 16 * 4), i32(thread // 16 * 4)  # of the thread's 4 x 4 elements
    column, row = i32(cuda.blockIdx.x * 64), i32(cuda.blockIdx.y * 64)
    for first in range(0, n, 16):
        k, m = i32(thread % 4 * 4), i32(thread // 4)
        p, q, r, s = load4(a, i32((row + m) * n + first + k))
        a_tile[k * 64 + m], a_tile[(k + 1) * 64 + m] = p, q
        a_tile[(k + 2) * 64 + m], a_tile[(k + 3) * 64 + m] = r, s
        p, q, r, s = load4(b, i32((first + thread // 16) * n + column + x))
        store4(b_tile, i32(thread // 16 * 64 + x), p, q, r, s)
        cuda.syncthreads()
        for k in range(16):
            left[0], left[1], left[2], left[3] = load4(a_tile, i32(k * 64 + z))
            right[0], right[1], right[2], right[3] = load4(b_tile, i32(k * 64 + x))
            for i in range(4):
                for j in range(4):
                    total[4 * i + j] += left[i] * right[j]
        cuda.syncthreads()
    for i in range(4):
        at, o = i32((row + z + i) * n + column + x), 4 * i
        store4(y, at, total[o], total[o + 1], total[o + 2], total[o + 3])


run("vectors", lambda y: by_vectors((N // 64, N // 64), 256, y, a, b, N), 16, 0.5)

# %% [markdown]
# ## 5. The shipped kernel
#
# `matmul` in float32 goes on in the same way: 8 x 8 elements for a thread (a quarter of a number
# for each multiply-add) and tiles of 128 x 128 (32 operations for each byte). It fetches the next
# tiles while it multiplies these, takes matrices of any size, transposed or not, and shares out k
# where there are few tiles. By its instructions it can reach 86% of the peak.
# It is in `kernels/cuda/matmul_tiles.py` and `tiles.py`, and you have seen its ideas.

# %%
run("shipped, float32", lambda y: y.assign(matmul(a, b)), 32, 0.25)

# %% [markdown]
# ## 6. Tensor cores
#
# GPUs have units that multiply small matrices: the 32 lanes of a warp hold a 16 x 8 matrix A, an
# 8 x 8 matrix B and the 16 x 8 result together, and one instruction adds A B to it. For float32 the
# factors are rounded to TF32, which has 10 bits of mantissa: an error about 1e-3 instead of 1e-7,
# seven times as fast as it gets. `mma_tf32` tells which lane holds what.
#
# This kernel gives each warp 16 x 8 elements, and reads its factors directly from memory. It shows
# the instruction, and that it is not enough: 2.7 operations for each byte. Tensor cores need larger
# tiles than anything else, so the shipped kernel (`matmul_cores.py`, `cores.py`) has 128 x 128 here
# as well, and lets the copies to shared memory run by themselves.


# %%
@kernel("f4* f4* f4* i4", threads=32, needs=(8, 0))
def by_tensor_cores(y, a, b, n):
    lane = i32(cuda.threadIdx.x)
    g, t = i32(lane // 4), i32(lane % 4)
    column, row = i32(cuda.blockIdx.x * 8), i32(cuda.blockIdx.y * 16)
    c0 = c1 = c2 = c3 = float32(0)
    for first in range(0, n, 8):
        upper, lower = i32((row + g) * n + first + t), i32((row + g + 8) * n + first + t)
        a0, a1, a2, a3 = a[upper], a[lower], a[upper + 4], a[lower + 4]
        b0 = b[i32((first + t) * n + column + g)]
        b1 = b[i32((first + t + 4) * n + column + g)]
        a0, a1, a2, a3 = to_tf32(a0), to_tf32(a1), to_tf32(a2), to_tf32(a3)
        c0, c1, c2, c3 = mma_tf32(a0, a1, a2, a3, to_tf32(b0), to_tf32(b1), c0, c1, c2, c3)
    at = i32((row + g) * n + column + 2 * t)
    y[at], y[at + 1] = c0, c1
    at = i32(at + 8 * n)
    y[at], y[at + 1] = c2, c3


if runtime().capability >= by_tensor_cores.needs:
    run(
        "tensor cores, one warp",
        lambda y: by_tensor_cores((N // 8, N // 16), 32, y, a, b, N),
        2 * 16 * 8 / (4 * (16 + 8)),
        0,
        peak=TENSOR_PEAK,
        tolerance=2e-3,
    )

# %% [markdown]
# ## The roofline
#
# The line is what memory and arithmetic allow; circles are predicted bounds, crosses are measured.
# Each idea moves to the right, to more operations for each byte, until arithmetic is the limit.

# %%
figure, axes = plt.subplots(figsize=(7, 4.5))
intensity = np.geomspace(0.2, 300, 200)
for peak, name in ((PEAK, "float32"), (TENSOR_PEAK, "TF32 on tensor cores")):
    axes.loglog(intensity, np.minimum(MEMORY * intensity, peak), label=f"an H100, {name}")
for number, (name, (per_byte, bound, speed)) in enumerate(found.items()):
    axes.plot(per_byte, bound, "o", color="black", mfc="none")
    if speed is not None:
        axes.plot(per_byte, speed, "x", color="red")
    how = {"ha": "right", "xytext": (-6, 4)} if number in (3, 5) else {"xytext": (6, -12)}
    axes.annotate(name, (per_byte, bound), textcoords="offset points", size=8, **how)
axes.set(xlabel="operations for each byte read from memory", ylabel="TFLOP/s")
axes.set_title("Predicted bounds" + ("" if SIMULATED else ", and what was measured"))
axes.grid(alpha=0.3)
axes.legend()
figure.savefig(pictures / "10_roofline.png", dpi=150, bbox_inches="tight")

# %% [markdown]
# ## Go on
#
# - `python -m minitorch_ciml.kernels.cuda.report matmul` compiles the package's kernels for four
#   generations of GPUs and tells how many registers they take: no GPU is needed.
# - Make a mistake: leave out the first `syncthreads`, or read beyond the end. In the simulator the
#   result is NaN, or an error says what was read; a GPU computes something.
