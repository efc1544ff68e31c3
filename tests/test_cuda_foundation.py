"""What the CUDA kernels stand on: signatures, the simulator's barriers, memory, devices."""

import os

import numpy as np
import pytest

pytest.importorskip("numba_cuda")
from numba import cuda, float32, int32

import minitorch_ciml as mt
from minitorch_ciml import Tensor, ops
from minitorch_ciml.kernels.cuda import SIMULATED, memory
from minitorch_ciml.kernels.cuda.elementwise import merged
from minitorch_ciml.kernels.cuda.launch import KERNELS, Kernel, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, Pool, empty, to_device, zeros
from minitorch_ciml.kernels.cuda.runtime import runtime

WARP = 0xFFFFFFFF
of_the_simulator = pytest.mark.skipif(
    "MINITORCH_CIML_PTX" in os.environ, reason="compiled code has no elements and no local arrays"
)
without_a_gpu = pytest.mark.skipif(
    not SIMULATED, reason="a GPU does not look for it, and may wait forever"
)


def arrays(n: int) -> tuple[CudaArray, CudaArray]:
    return to_device(np.arange(n, dtype="float32")), zeros((n,), "float32")


@pytest.fixture(autouse=True)
def kernels_of_this_file():
    """The kernels made here are not the package's: they leave its list again."""
    before = list(KERNELS)
    yield
    KERNELS[:] = before


def declared(function, signature="f4* f4* i4", **options) -> Kernel:
    return kernel(signature, **options)(function)


# --- kernels --------------------------------------------------------------------------------------


def double(y, x, n):
    i = cuda.grid(1)
    if i < n:
        y[i] = x[i] + x[i]


def test_a_kernel_runs_for_what_it_declares():
    x, y = arrays(70)
    declared(double)(3, 32, y, x, 70)
    np.testing.assert_array_equal(y.numpy(), 2 * x.numpy())


def test_other_types_are_refused():
    x, y = arrays(4)
    with pytest.raises(TypeError, match=r"double does not exist for \(f4\* f8\* i4\); cast first"):
        declared(double)(1, 32, y, to_device(np.zeros(4)), 4)
    with pytest.raises(TypeError, match=r"got a ndarray; move it with .to\('cuda'\)"):
        declared(double)(1, 32, y, np.zeros(4, "float32"), 4)


@without_a_gpu
def test_blocks_have_at_most_the_declared_threads():
    x, y = arrays(4)
    with pytest.raises(ValueError, match="blocks of 64 threads at most"):
        declared(double, threads=64)(1, 128, y, x, 4)


def test_variables_give_one_signature_for_each_combination():
    made = kernel("T* U* T", T=("f4", "f8"), U=("i4", "i8"))(double)
    assert len(made.signatures) == 4
    assert ("f8*", "i4*", "f8") in made.signatures


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_it_compiles_without_a_gpu(capability):
    binary = declared(double).compile(("f4*", "f4*", "i4"), capability)
    assert binary.code.startswith(b"\x7fELF")
    assert 0 < binary.registers <= 32
    assert (binary.spilled, binary.stack, binary.shared, binary.doubles) == (0, 0, 0, False)


def test_the_report_sees_float64_and_shared_memory():
    def careless(y, x, n):
        shared = cuda.shared.array(64, float32)
        shared[cuda.threadIdx.x] = x[cuda.threadIdx.x] * 0.1  # a float64
        cuda.syncthreads()
        y[cuda.threadIdx.x] = shared[63 - cuda.threadIdx.x]

    binary = declared(careless).compile(("f4*", "f4*", "i4"), (8, 0))
    assert binary.doubles
    assert binary.shared == 64 * 4


# --- the simulator --------------------------------------------------------------------------------


def test_barriers_order_the_threads():
    def reverse(y, x, n):
        shared = cuda.shared.array(96, float32)
        i = cuda.threadIdx.x
        shared[i] = x[i]
        cuda.syncthreads()
        y[i] = shared[n - 1 - i]

    x, y = arrays(96)
    declared(reverse)(1, 96, y, x, 96)
    np.testing.assert_array_equal(y.numpy(), x.numpy()[::-1])


def test_warps_exchange_values():
    def sums(y, x, n):
        value = x[cuda.threadIdx.x]
        for step in (16, 8, 4, 2, 1):
            value += cuda.shfl_xor_sync(WARP, value, step)
        y[cuda.threadIdx.x] = value

    x, y = arrays(64)
    declared(sums)(1, 64, y, x, 64)
    expected = np.repeat(x.numpy().reshape(2, 32).sum(1), 32)
    np.testing.assert_array_equal(y.numpy(), expected)


def test_two_shared_arrays_on_one_line_are_two():
    def swap(y, x, n):
        a, b = cuda.shared.array(32, float32), cuda.shared.array(32, float32)
        i = cuda.threadIdx.x
        a[i], b[i] = x[i], -x[i]
        cuda.syncthreads()
        y[i] = a[31 - i] + b[i]

    x, y = arrays(32)
    declared(swap)(1, 32, y, x, 32)
    np.testing.assert_array_equal(y.numpy(), x.numpy()[::-1] - x.numpy())


@without_a_gpu
def test_a_barrier_behind_a_return_is_an_error():
    def wrong(y, x, n):
        if cuda.threadIdx.x >= n:
            return
        cuda.syncthreads()

    x, y = arrays(8)
    with pytest.raises(RuntimeError, match="do not meet: .*has returned"):
        declared(wrong)(1, 32, y, x, 8)


@without_a_gpu
def test_half_a_warp_at_another_barrier_is_an_error():
    def wrong(y, x, n):
        if cuda.threadIdx.x < 16:
            cuda.syncwarp()
        else:
            cuda.syncthreads()

    x, y = arrays(8)
    with pytest.raises(RuntimeError, match="do not meet"):
        declared(wrong)(1, 32, y, x, 8)


@of_the_simulator
def test_indices_are_checked():
    def before(y, x, n):
        y[cuda.threadIdx.x - 1] = x[0]

    def behind(y, x, n):
        y[0] = x[n]

    x, y = arrays(8)
    with pytest.raises(IndexError, match="writes element -1 of 8"):
        declared(before)(1, 1, y, x, 8)
    with pytest.raises(IndexError, match="reads element 8 of 8"):
        declared(behind)(1, 1, y, x, 8)


@of_the_simulator
def test_memory_that_nobody_wrote_is_nan():
    def unset(y, x, n):
        shared, own = cuda.shared.array(4, float32), cuda.local.array(4, float32)
        y[0], y[1] = shared[0], own[0]

    x, y = arrays(2)
    declared(unset)(1, 1, y, x, 2)
    assert np.isnan(y.numpy()).all()
    with memory.using(Pool()):
        assert np.isnan(empty((3,), "float64").numpy()).all()


def test_division_by_zero_is_infinite_as_on_a_gpu():
    def divide(y, x, n):
        y[0] = float32(1) / x[0]
        y[1] = int32(7) // int32(2)

    x, y = arrays(2)
    declared(divide)(1, 1, y, x, 2)
    assert y.tolist() == [np.inf, 3]


# --- memory ---------------------------------------------------------------------------------------


def test_a_freed_block_is_used_again():
    with memory.using(Pool()) as pool:
        first = empty((1000,), "float32")
        address = runtime().address(first)
        assert (pool.used, pool.held) == (4096, 4096)
        del first
        assert (pool.used, pool.held) == (0, 4096)
        second = empty((900,), "float32")
        assert runtime().address(second) == address
        third = empty((2**20,), "float32")
        assert pool.used == 4096 + 2**22
        del second, third
        pool.release()
        assert pool.held == 0


def test_a_view_keeps_its_memory_alive():
    with memory.using(Pool()) as pool:
        x = to_device(np.arange(12.0).reshape(4, 3))
        rows = x.rows(1, 3).reshape(-1)
        del x
        assert pool.used == 512
        assert rows.tolist() == [3, 4, 5, 6, 7, 8]


def test_arrays_are_not_copied_to_the_host_silently():
    with pytest.raises(TypeError, match="call .numpy()"):
        np.asarray(to_device(np.zeros(3)))


def test_assign_takes_what_fits():
    x = zeros((2, 2), "float32")
    x.assign(np.ones((2, 2), "float32"))
    assert x.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match=r"expected shape \(2, 2\) and float32, got \(2,\)"):
        x.assign(np.ones(2, "float32"))


def test_too_large_an_array_is_refused():
    with pytest.raises(ValueError, match="at most 2,147,483,647"):
        empty((2**16, 2**15), "float32")


# --- broadcasting ---------------------------------------------------------------------------------


def test_axes_are_merged_where_all_inputs_agree():
    assert merged((4, 3), [(4, 3), (3,)]) == ([4, 3], [[3, 1], [0, 1]])
    assert merged((2, 3, 4), [(2, 3, 4), (2, 1, 1)]) == ([2, 12], [[12, 1], [1, 0]])
    assert merged((5, 1, 7), [(5, 1, 7), (5, 1, 7)]) == ([35], [[1], [1]])


def test_more_alternating_axes_than_a_kernel_takes():
    a = np.arange(2 * 3 * 2 * 3 * 2).reshape(2, 1, 3, 1, 2, 1, 3, 1, 2, 1).astype("float32")
    b = np.arange(2.0**5, dtype="float32").reshape(1, 2, 1, 2, 1, 2, 1, 2, 1, 2)
    with mt.device("cuda"):
        y = Tensor(a) + Tensor(b)
    np.testing.assert_array_equal(y.numpy(), a + b)


# --- tensors on a device --------------------------------------------------------------------------


def test_minus_zero_is_a_constant_of_its_own():
    dtype = np.dtype("float32")
    plus, minus = memory.constant(0.0, dtype), memory.constant(-0.0, dtype)
    assert not np.signbit(plus.numpy()) and np.signbit(minus.numpy())
    assert memory.constant(0.0, dtype) is plus and memory.constant(-0.0, dtype) is minus
    with mt.device("cuda"):
        assert (mt.Tensor([1.0]) / -0.0).item() == -np.inf
        assert (mt.Tensor([1.0]) / 0.0).item() == np.inf


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "uint32", "uint64"])
def test_rare_integers_can_be_moved_and_cast_and_say_so_where_that_is_all(dtype):
    values = np.array([[3, 1], [0, 2]], dtype)
    x = mt.Tensor(values).to("cuda")
    for moved in (ops.transpose(x), ops.concatenate([x, x]), x[:, 0], ops.flip(x, 1)):
        assert moved.dtype == dtype and moved.device == "cuda"
    for other in ("float32", "int32", "bool", "uint8"):
        np.testing.assert_array_equal(x.astype(other).numpy(), values.astype(other))
        np.testing.assert_array_equal(x.astype(other).astype(dtype).numpy(),
                                      values.astype(other).astype(dtype))  # fmt: skip
    table = mt.Tensor(np.arange(8.0).reshape(4, 2)).to("cuda")
    np.testing.assert_array_equal(table[x].numpy(), table.numpy()[values])
    for refused in (lambda: x + x, lambda: ops.argmax(x), lambda: ops.cumsum(x), lambda: x == x):
        with pytest.raises(TypeError, match=f"not on the GPU for {dtype}; cast first") as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_bytes_are_summed_up_as_numpy_does():
    x = np.array([200, 100, 7], "uint8")
    found = ops.cumsum(mt.Tensor(x).to("cuda"), axis=0)
    assert found.dtype == "uint64" and found.tolist() == np.cumsum(x).tolist()


def test_tensors_are_made_on_the_current_device():
    with mt.device("cuda"):
        x = Tensor([1.0, 2.0])
        assert x.device == ops.zeros(3).device == (x * 2 + 1).device == "cuda"
        assert "device='cuda'" in repr(x)
    assert Tensor([1.0]).device == "cpu"
    with mt.device("gpu"):
        assert mt.get_device() == "cuda"


def test_gradients_cross_devices():
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x.to("cuda") * 3
    assert y.device == "cuda"
    y.backward(Tensor([1.0, 10.0, 100.0]).to("cuda"))
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [3, 30, 300]


@pytest.mark.parametrize("swap", [False, True])
def test_devices_are_not_mixed_silently(swap):
    pair = [Tensor([1.0]), Tensor([1.0]).to("cuda")]
    with pytest.raises(TypeError, match="add: the inputs live on different devices"):
        ops.add(*(reversed(pair) if swap else pair))


def test_numbers_and_plain_arrays_go_where_the_tensor_is():
    x = Tensor([1.0, 2.0]).to("cuda")
    assert (x + 1).device == (np.ones(2, "float32") + x).device == "cuda"
    assert (x + np.ones(2, "float32")).tolist() == [2, 3]


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device 'tpu' is not known; there are: cpu, cuda"):
        mt.set_device("tpu")
