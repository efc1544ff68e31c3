"""Compiled kernels, run on the CPU by the rules of NVIDIA's PTX manual (`ptx_machine`).

Here is a sample of the simulator's tests: all kinds of tensor cores, and some of each other kind of
kernel. All of them run with compiled code under `MINITORCH_CIML_PTX=9.0`; see CONTRIBUTING.md.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

import test_cuda_attention as of_attention
import test_cuda_conv as of_conv
import test_cuda_kernels as of_kernels
import test_cuda_matmul as of_matmul
import test_cuda_optimizer as of_optimizer
import test_cuda_pool as of_pool
from ptx_machine import launches
from ptx_machine.driver import Driver
from ptx_machine.machine import Machine
from ptx_machine.memory import Global

from minitorch_ciml.kernels.cuda import attention, conv, cores, matmul
from minitorch_ciml.kernels.cuda import matmul_warpgroup as warpgroup
from minitorch_ciml.kernels.cuda.memory import to_device
from minitorch_ciml.kernels.cuda.runtime import CudaError, Runtime

bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
RNG = np.random.default_rng(0)

# --- the machine ----------------------------------------------------------------------------------

HEAD = """
.version 8.0
.target sm_90a
.address_size 64
.visible .entry kernel(.param .u64 kernel_param_0)
{
    .shared .align 1024 .b8 room[16384];
    .reg .pred %p<9>;
    .reg .f32 %f<9>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<9>;
    ld.param.u64 %rd1, [kernel_param_0];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;   // y[thread]
    shl.b32 %r2, %r1, 2;
    mov.u32 %r3, room;
    add.s32 %r4, %r3, %r2;      // room[thread]
    mov.f32 %f1, 0f3F800000;
"""


def run(body, threads=64, y=None, blocks=1):
    """What the threads leave in y, one float each."""
    y = np.full(threads, np.nan, np.float32) if y is None else y
    memory = Global()
    address = np.uint64(memory.add(y.view(np.uint8), 0, y.nbytes))
    Machine(HEAD + body + "ret;\n}").launch((blocks, 1, 1), (threads, 1, 1), [address], memory, 0)
    return y


def test_accesses_are_checked():
    np.testing.assert_array_equal(run("st.global.f32 [%rd3], %f1;"), 1)
    with pytest.raises(IndexError, match="4 bytes at 256 of an array"):
        run("st.global.f32 [%rd3+4], %f1;")
    with pytest.raises(IndexError, match="not aligned"):
        run("ld.global.f32 %f2, [%rd3+2];")
    with pytest.raises(IndexError, match="8 bytes of shared memory at 1028: not aligned"):
        run("ld.shared.v2.f32 {%f2, %f3}, [%r4];")
    with pytest.raises(IndexError, match="4 bytes at 17408 of shared memory"):
        run("ld.shared.f32 %f2, [%r3+16384];")


NEIGHBOUR = """
    st.shared.f32 [%r4], %f1;
    {}
    xor.b32 %r5, %r4, {};
    ld.shared.f32 %f2, [%r5];
    st.global.f32 [%rd3], %f2;
"""


def test_warps_that_use_shared_memory_without_a_barrier():
    np.testing.assert_array_equal(run(NEIGHBOUR.format("bar.sync 0;", 128)), 1)
    with pytest.raises(RuntimeError, match="a warp reads shared memory that another has written"):
        run(NEIGHBOUR.format("", 128))
    later = "bar.sync 0; ld.shared.f32 %f3, [%r5]; st.shared.f32 [%r4], %f3;"
    with pytest.raises(
        RuntimeError, match="a warp overwrites shared memory that another may still"
    ):
        run(NEIGHBOUR.format("bar.sync 0;", 128) + later)


def test_lanes_need_not_keep_step():
    np.testing.assert_array_equal(run(NEIGHBOUR.format("bar.warp.sync -1;", 4)), 1)
    with pytest.raises(RuntimeError, match="a thread reads shared memory that another has written"):
        run(NEIGHBOUR.format("", 4))


def test_blocks_that_use_the_same_memory():
    with pytest.raises(RuntimeError, match="a block overwrites global memory that another writes"):
        run("st.global.f32 [%rd3], %f1;", blocks=2)
    other = "mov.u32 %r5, %ctaid.x; setp.eq.u32 %p1, %r5, 0; "
    with pytest.raises(RuntimeError, match="a block overwrites global memory that another may"):
        run(other + "ld.global.f32 %f2, [%rd3]; @%p1 st.global.f32 [%rd3], %f1;", blocks=2)
    found = run("atom.global.add.f32 %f2, [%rd1], %f1;", y=np.zeros(1, np.float32), blocks=40)
    assert found == 40 * 64


def test_barriers_that_not_all_threads_reach():
    with pytest.raises(RuntimeError, match="one has returned, another waits at bar.sync 0"):
        run("setp.lt.u32 %p1, %r1, 32; @%p1 ret; bar.sync 0;")
    with pytest.raises(RuntimeError, match="do not meet"):
        run("setp.lt.u32 %p1, %r1, 7; @%p1 ret; bar.warp.sync -1;")


def test_threads_that_part_meet_again():
    """Each goes round a loop as often as its number says; then all lanes vote."""
    found = run("""
        mov.f32 %f2, 0f00000000;
        mov.u32 %r5, 0;
    $loop:
        setp.ge.u32 %p1, %r5, %r1;
        @%p1 bra $after;
        add.f32 %f2, %f2, %f1;
        add.s32 %r5, %r5, 1;
        bra.uni $loop;
    $after:
        setp.eq.u32 %p2, %r5, 40;
        vote.sync.any.pred %p3, %p2, -1;
        @%p3 add.f32 %f2, %f2, 0f42C80000;
        st.global.f32 [%rd3], %f2;
    """)
    np.testing.assert_array_equal(found, np.arange(64) + np.repeat([0, 100], 32))


def test_copies_arrive_when_they_are_waited_for():
    copy = "cp.async.ca.shared.global [%r4], [%rd3], 4, 4; cp.async.commit_group; "
    then = "ld.shared.f32 %f2, [%r4]; add.f32 %f2, %f2, %f1; st.global.f32 [%rd3], %f2;"
    wait = "cp.async.wait_group {}; "
    y = np.arange(64, dtype=np.float32)
    np.testing.assert_array_equal(run(copy + wait.format(0) + then, y=y.copy()), y + 1)
    assert np.isnan(run(copy + then, y=y.copy())).all()
    assert np.isnan(run(copy + wait.format(1) + then, y=y.copy())).all()


def product(
    fence="fence.proxy.async.shared::cta;", before="wgmma.fence.sync.aligned;", between="", after=""
):
    """The sum that each thread has of a product of ones: 8, since k has 8 steps."""
    ones = "".join(f"st.shared.f32 [%r4+{512 * i}], %f1;" for i in range(18))
    return run(
        f"""{ones} {fence} bar.sync 0;
        cvt.u64.u32 %rd4, %r3;
        shr.u64 %rd4, %rd4, 4;
        or.b64 %rd5, %rd4, {1 << 62 | 64 << 32 | 1 << 16};
        add.s64 %rd6, %rd5, 512;
        mov.f32 %f2, 0f00000000; mov.f32 %f3, %f2; mov.f32 %f4, %f2; mov.f32 %f5, %f2;
        {before}
        wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {{%f2, %f3, %f4, %f5}}, %rd5, %rd6,
            1, 1, 1;
        wgmma.commit_group.sync.aligned;
        {between}
        wgmma.wait_group.sync.aligned 0;
        {after}
        st.global.f32 [%rd3], %f5;""",
        threads=128,
    )


def test_products_of_warp_groups():
    np.testing.assert_array_equal(product(), 8)
    with pytest.raises(RuntimeError, match="a sum was changed"):
        product(between="add.f32 %f5, %f5, %f1;")
    with pytest.raises(RuntimeError, match="reads shared memory that another has written"):
        product(between="bar.sync 0; st.shared.f32 [%r4], %f2;")
    with pytest.raises(RuntimeError, match="overwrites shared memory that another may still read"):
        product(after="st.shared.f32 [%r4], %f2;")
    with pytest.raises(RuntimeError, match="without fence.proxy.async"):
        product(fence="")
    with pytest.raises(RuntimeError, match=r"without a wgmma.fence"):
        product(before="")


# --- the driver -----------------------------------------------------------------------------------


@pytest.fixture
def gpu():
    """What speaks to a real driver, and the one that stands in for it."""
    return Runtime(driver=Driver((9, 0)))


def there(gpu, values):
    """An array on that GPU."""
    array = SimpleNamespace(pointer=gpu.allocate(values.nbytes), nbytes=values.nbytes)
    gpu.copy_to_device(array, values)
    return array


def fetched(gpu, array):
    values = np.empty(array.nbytes // 4, np.float32)
    gpu.copy_to_host(values, array)
    return values


def test_work_in_a_stream_is_done_late(gpu):
    """But what is copied from ordinary memory is read before the call returns."""
    values, pinned = np.ones(4, np.float32), gpu.pinned(16).view(np.float32)
    x, y = there(gpu, values), there(gpu, values)
    values[:] = 2
    gpu.copy_ahead(y, pinned)
    pinned[:] = 3
    event = gpu.event()
    gpu.mark(event, gpu.copies)
    np.testing.assert_array_equal(fetched(gpu, x), 1)
    np.testing.assert_array_equal(fetched(gpu, y), 1)  # nothing waited for the second stream
    gpu.follow(gpu.stream, event)
    np.testing.assert_array_equal(fetched(gpu, y), 3)


def test_a_graph_is_run_when_it_is_started(gpu):
    x, y = (there(gpu, np.full(4, i, np.float32)) for i in (1, 2))
    gpu.begin_capture()
    gpu.copy(y, x)
    event = gpu.event()
    gpu.mark(event, gpu.copies)
    with pytest.raises(CudaError, match="CAPTURE_ISOLATION"):
        gpu.follow(gpu.stream, event)
    graph = gpu.end_capture()
    np.testing.assert_array_equal(fetched(gpu, y), 2)
    gpu.start(graph)
    np.testing.assert_array_equal(fetched(gpu, y), 1)


def test_what_a_driver_refuses(gpu):
    function = SimpleNamespace(most_threads=64, most_shared=48 * 1024, parameters=[])
    for grid, block, shared in (
        ((0, 1, 1), (32, 1, 1), 0), ((1, 65536, 1), (32, 1, 1), 0), ((1, 1, 1), (128, 1, 1), 0),
        ((1, 1, 1), (32, 1, 1), 50_000),
    ):  # fmt: skip
        with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_VALUE"):
            gpu.launch(function, grid, block, shared, 0)
    x = there(gpu, np.ones(4, np.float32))
    gpu.free(x.pointer)
    for refused in (lambda: gpu.free(x.pointer), lambda: fetched(gpu, x), lambda: gpu.allocate(0)):
        with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_VALUE"):
            refused()


def test_training_by_way_of_the_driver():
    """In a process of its own, without the simulator: recorded steps, and batches sent ahead."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_cuda_fit.py", "-k", "mlp or fetched"],
        env=os.environ | {"MINITORCH_CIML_PTX": "9.0", "MINITORCH_CIML_SIMULATE_CUDA": "0"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


# --- kernels --------------------------------------------------------------------------------------

PLAIN = {"transpose_a": False, "transpose_b": False}
BOTH = {"transpose_a": True, "transpose_b": True}


def warp_groups(numbers, flags):
    tile, _ = warpgroup.TILES[numbers][0]
    return lambda patch: of_matmul.test_warp_groups((numbers, tile), flags, patch)


def on_cores(numbers):
    return lambda patch: of_conv.test_tensor_cores(numbers, 0, of_conv.ON_CORES[1], patch)


# The GPU that the code is for, and a test of the simulator's.
SAMPLE = {
    "wgmma of bfloat16, along m and n": (
        "9.0", warp_groups(cores.BF16, {"transpose_a": True, "transpose_b": False}),
    ),
    "wgmma of 3xTF32, along k": ("9.0", warp_groups(cores.TF32X3, PLAIN)),
    "mma of TF32": (
        "8.0", lambda patch: of_matmul.test_float32_on_tensor_cores("medium", PLAIN, patch),
    ),
    "mma of float16": (
        "8.0",
        lambda patch: of_matmul.test_small_floats_in_tiles("float16", BOTH, cores.SMALL, patch),
    ),
    "float32": ("7.5", lambda patch: of_matmul.test_sizes((33, 31, 17), PLAIN, "float32")),
    "convolutions, bfloat16": ("8.0", on_cores(cores.BF16)),
    "convolutions, float32": ("7.5", lambda _: of_conv.test_small(of_conv.CASES[0], "float32")),
    "attention, float16": (
        "9.0", lambda _: of_attention.test_two_bytes("float16", *of_attention.TWO_BYTES[1]),
    ),
    "attention, float32": ("7.5", lambda _: of_attention.test_in_tiles(*of_attention.TILES[0])),
    "softmax": ("9.0", lambda _: of_kernels.test_softmax("softmax", (3, 1100))),
    "sorting": ("7.5", lambda _: of_kernels.test_sorting_is_stable(1027)),
    "random words": ("9.0", lambda _: of_pool.test_random_words(3, 5, 2)),
    "clipping": ("9.0", lambda _: of_optimizer.test_clip_norm(70_000, 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_compiled_kernels(name, monkeypatch):
    capability, test = SAMPLE[name]
    with launches.running(capability) as executed:
        test(monkeypatch)
        assert executed


# --- what accesses to memory cost -----------------------------------------------------------------


def normal(*shape, dtype="float32"):
    return to_device(RNG.standard_normal(shape).astype(dtype))


def product_of(numbers, tile, dtype, **flags):
    """One tile of a product."""

    def run(patch):
        of_matmul.only(patch, tile)
        patch.setattr(cores, "arithmetic", lambda code, narrowest: numbers)
        m, n, k = tile.rows, tile.columns, 256 // np.dtype(dtype).itemsize
        a = normal(*((k, m) if flags["transpose_a"] else (m, k)), dtype=dtype)
        b = normal(*((n, k) if flags["transpose_b"] else (k, n)), dtype=dtype)
        matmul.matmul(a, b, **flags)

    return run


def convolutions(numbers, dtype):
    """Forward and both gradients, of channels that come in parts of 16 bytes."""

    def run(patch):
        patch.setattr(
            conv, "arithmetic", lambda code, *sizes: numbers if code == numbers.code else None
        )
        how = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
        x, w, g = (normal(*s, dtype=dtype) for s in ((2, 8, 8, 32), (3, 3, 32, 64), (2, 8, 8, 64)))
        conv.conv(x, w, **how)
        conv.conv_input_grad(g, w, input_shape=x.shape, **how)
        conv.conv_kernel_grad(x, g, kernel_shape=w.shape, **how)

    return run


def attentions(size):
    """Forward and gradients."""

    def run(patch):
        q, mask = normal(1, 64, 2, size, dtype=bfloat16), to_device(np.ones((1, 1, 1, 1), bool))
        y, saved = attention.attention(q, q, q, mask, scale=0.2)
        needs = (True, True, True, False)
        attention.attention_grad(y, y, q, q, q, mask, needs=needs, saved=saved, scale=0.2)

    return run


ALONG_K = {"transpose_a": False, "transpose_b": True}
BUSY = {
    "mma of bfloat16, along k": product_of(cores.BF16, cores.SMALL, bfloat16, **ALONG_K),
    "mma of bfloat16, across": product_of(cores.BF16, cores.SMALL, bfloat16, transpose_a=True,
                                          transpose_b=False),
    "mma of TF32": product_of(cores.TF32, cores.LARGE, "float32", **PLAIN),
    "wgmma of bfloat16": product_of(
        cores.BF16, warpgroup.TILES[cores.BF16][1][0], bfloat16, **PLAIN
    ),
    "convolutions of bfloat16": convolutions(cores.BF16, bfloat16),
    "attention, 32 features": attentions(32),
    "attention, 64 features": attentions(64),
}  # fmt: skip


@pytest.mark.parametrize("name", BUSY)
def test_no_bank_conflicts_and_whole_sectors(name, monkeypatch):
    """Where lines come in parts of 16 bytes, accesses cost what they must."""
    with launches.running("9.0"), launches.counting() as counted:
        BUSY[name](monkeypatch)
    tiled = {n: counts for n, counts in counted.items() if "cores" in n or "warpgroup" in n}
    assert tiled
    for kernel, traffic in tiled.items():
        for instruction, (_, least, actual) in traffic.counts.items():
            assert actual == least, f"{kernel}: {instruction}"
        assert any("16 bytes, shared" in instruction for instruction in traffic.counts)
