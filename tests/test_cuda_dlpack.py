"""DLPack on the (simulated) GPU: what is handed over, what is taken, and in which order.

The simulated GPU's memory is the host's and says so, so NumPy, PyTorch and JAX can read its
capsules, and it can read theirs. What is asked of a real driver, one that writes it down shows.
"""

import ctypes
import gc

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

import minitorch_ciml as mt
from minitorch_ciml.kernels.cuda import SIMULATED, dlpack, memory, runtime
from minitorch_ciml.kernels.cuda.memory import memory_info
from minitorch_ciml.kernels.cuda.runtime import NotCapturable, Runtime
from tests.test_cuda_runtime import FakeDriver

if not SIMULATED:
    pytest.skip("NumPy cannot read a real GPU's memory", allow_module_level=True)

VERSION = (1, 0)
DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
          "float16", "float32", "float64"]  # fmt: skip


def gpu(array):
    return mt.Tensor(np.asarray(array)).to("cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 1, 3)])
def test_there_and_back(dtype, shape):
    values = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2 + 1, dtype)
    x = gpu(values)
    np.testing.assert_array_equal(there := np.from_dlpack(x), values)
    assert there.dtype == values.dtype and (not there.flags.writeable or not there.size)
    y = mt.from_dlpack(values, device="cuda")
    assert y.device == "cuda" and y.dtype == values.dtype and y.shape == shape
    np.testing.assert_array_equal(y.numpy(), values)


def test_a_simulated_tensor_does_not_pretend_to_be_on_a_gpu():
    assert gpu([1.0]).__dlpack_device__() == (1, 0)


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_other_libraries_read_it_and_it_reads_theirs(library):
    other = pytest.importorskip(library)
    values = np.arange(6, dtype="float32").reshape(2, 3)
    np.testing.assert_array_equal(np.asarray(other.from_dlpack(gpu(values))), values)
    theirs = other.asarray(values) if library == "jax.numpy" else other.tensor(values)
    np.testing.assert_array_equal(mt.from_dlpack(theirs, device="cuda").numpy(), values)
    np.testing.assert_array_equal(mt.from_dlpack(theirs).numpy(), values)


def test_bfloat16_travels():
    torch = pytest.importorskip("torch")
    mt.keras.config.set_dtype_policy("mixed_bfloat16")
    mt.keras.config.set_dtype_policy("float32")
    x = gpu([1.5, -2.0]).astype("bfloat16")
    y = torch.from_dlpack(x)
    assert y.dtype == torch.bfloat16 and y.tolist() == [1.5, -2.0]
    z = mt.from_dlpack(y, device="cuda")
    assert z.dtype.name == "bfloat16" and z.astype("float32").tolist() == [1.5, -2.0]


def test_newer_libraries_share_the_memory_and_older_ones_get_a_copy():
    x = gpu([1.0, 2.0])
    newer = np.from_dlpack(x)
    assert newer.ctypes.data == x.value.elements.ctypes.data

    class Older:
        __dlpack_device__ = x.__dlpack_device__

        def __dlpack__(self, stream=None):
            return x.__dlpack__(stream=stream)

    torch = pytest.importorskip("torch")
    older = torch.from_dlpack(Older())
    older += 1
    assert older.tolist() == [2, 3] and x.tolist() == [1, 2]
    own = np.from_dlpack(x, copy=True)
    own += 1  # a copy may be written to
    assert x.tolist() == [1, 2]
    with pytest.raises(BufferError, match="capsules of DLPack before 1.0"):
        x.__dlpack__(copy=False)


def test_the_memory_is_kept_until_the_other_library_lets_go():
    gc.collect()
    dlpack._settle()
    before = memory_info().used
    x = gpu(np.arange(1000.0))
    there = np.from_dlpack(x)
    del x
    gc.collect()
    others = [gpu(np.zeros(1000)) for _ in range(4)]  # nothing of it is handed out
    np.testing.assert_array_equal(there, np.arange(1000.0))
    del there, others
    gc.collect()
    dlpack._settle()
    assert memory_info().used == before and not dlpack._given


def test_a_capsule_that_nobody_takes_gives_its_memory_back():
    dlpack._settle()
    before = memory_info().used
    for version in (None, VERSION):
        capsule = gpu([1.0]).__dlpack__(max_version=version)
        assert len(dlpack._given) == 1 and memory_info().used > before
        del capsule
        gc.collect()
        dlpack._settle()
        assert not dlpack._given and memory_info().used == before


class Once:
    """Hands over one and the same capsule every time."""

    def __init__(self, capsule, device=(1, 0)):
        self.capsule, self.device = capsule, device

    def __dlpack__(self, **how):
        return self.capsule

    def __dlpack_device__(self):
        return self.device


def test_a_capsule_is_taken_once():
    x = Once(np.arange(3.0).__dlpack__())
    assert mt.from_dlpack(x, device="cuda").tolist() == [0, 1, 2]
    with pytest.raises(BufferError, match="one that was taken already"):
        mt.from_dlpack(x, device="cuda")
    ours = Once(gpu([4.0]).__dlpack__(max_version=VERSION))
    assert np.from_dlpack(ours).tolist() == [4]
    assert "used_dltensor_versioned" in repr(ours.capsule)


def test_what_is_taken_is_given_back_also_after_an_error():
    x = gpu([1.0, 2.0])
    dlpack._settle()
    mt.from_dlpack(x, device="cuda")
    assert not dlpack._given and len(dlpack._returned) == 1
    dlpack._settle()
    with pytest.raises(ValueError, match="not contiguous"):
        mt.from_dlpack(np.arange(6.0).reshape(2, 3).T, device="cuda")
    with pytest.raises(TypeError, match="DLPack type 5 with 64 bits"):
        mt.from_dlpack(np.zeros(2, "complex64"), device="cuda")


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: mt.from_dlpack([1.0]), TypeError, "expected an array with __dlpack__, got a list"),
        (lambda: mt.from_dlpack(Once(None, (2, 3))), BufferError, r"device \(2, 3\), this process"),
        (lambda: mt.from_dlpack(gpu(1.0), "cuda", copy=False), BufferError, "leave out copy=False"),
        (lambda: gpu(1.0).__dlpack__(stream=0), ValueError, "no streams, got stream 0"),
        (lambda: gpu(1.0).__dlpack__(dl_device=(2, 0)), BufferError, "use .to"),
        (lambda: mt.Tensor(1.0).__dlpack__(copy=False), BufferError, "copy=False"),
        (lambda: mt.from_dlpack(Once(3), "cuda"), BufferError, "got no DLPack capsule"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- on a real GPU, as far as a driver that only writes down can show it --------------------------


@pytest.fixture
def real(monkeypatch):
    """A runtime for a GPU with number 1, whose memory is a host array's."""
    host = np.zeros(512, "uint8")
    driver = FakeDriver(
        cuDeviceGetCount=2, cuStreamCreate=5, cuMemAlloc=host.ctypes.data, cuEventCreate="event"
    )
    made = Runtime(1, driver=driver)
    for module in (dlpack, memory, runtime):
        monkeypatch.setattr(module, "runtime", lambda: made)
    block = memory.Block(memory.Pool(), host.ctypes.data, 512)
    x = mt.Tensor.constant(memory.CudaArray((2, 2), "float32", block, 16))
    driver.calls.clear()
    with memory.using(block.pool):  # the simulated GPU's memory is no address
        yield x, driver
    dlpack._returned.clear()


def order(driver):
    return [c[1] for c in driver.calls if c[0] in ("cuEventRecord", "cuStreamWaitEvent")]


@pytest.mark.parametrize("given, stream", [(None, 1), (1, 1), (2, 2), (77, 77)])
def test_the_other_librarys_stream_waits_for_ours(real, given, stream):
    x, driver = real
    capsule = x.__dlpack__(stream=given, max_version=VERSION)
    assert order(driver) == [("event", 5), (stream, "event", 0)]
    _, managed = dlpack._opened(capsule)
    there = managed.array
    assert (there.device.type, there.device.number) == x.__dlpack_device__() == (2, 1)
    assert there.data == x.value.pointer and there.byte_offset == 0 and managed.flags == 1
    assert there.shape[:2] == [2, 2] and there.strides[:2] == [2, 1]
    driver.calls.clear()
    del capsule
    assert not driver.calls  # written down only: a deleter may be called at any time
    dlpack._settle()
    assert order(driver) == [("event", stream), (5, "event", 0)]  # before it serves again


def test_a_library_that_sees_to_the_order_itself(real):
    x, driver = real
    x.__dlpack__(stream=-1, max_version=VERSION)
    assert not order(driver)
    with pytest.raises(ValueError, match="stream 0 is ambiguous"):
        x.__dlpack__(stream=0)


def test_nothing_is_handed_over_while_a_step_is_captured(real):
    x, _ = real
    dlpack.runtime().capturing = True
    with pytest.raises(NotCapturable, match="handing an array to another library"):
        x.__dlpack__()


def test_an_array_on_the_gpu_is_copied_after_the_other_library_was_told_our_stream(real):
    x, driver = real
    asked = []

    class Theirs(Once):
        def __dlpack__(self, **how):
            asked.append(how)
            return self.capsule

    theirs = Theirs(x.__dlpack__(stream=-1, max_version=VERSION), (2, 1))
    driver.calls.clear()
    y = mt.from_dlpack(theirs)
    assert y.device == "cuda" and asked == [{"stream": 5, "max_version": VERSION}]
    copies = [c for c in driver.calls if c[0] in ("cuMemcpyDtoDAsync", "cuStreamSynchronize")]
    assert copies[0][1] == (y.value.pointer, x.value.pointer, 16, 5) and copies[1][1] == (5,)


def test_the_structures_have_the_standards_layout():
    """Of the C structures on a 64-bit machine, from dlpack.h."""
    assert ctypes.sizeof(dlpack._Array) == 48
    assert dlpack._Managed.deleter.offset == 56
    v = dlpack._ManagedVersioned
    assert (v.context.offset, v.deleter.offset, v.flags.offset, v.array.offset) == (8, 16, 24, 32)
