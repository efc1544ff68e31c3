"""The GPU's runtime without a GPU: its calls to a driver that only writes them down, and errors."""

import gc
import subprocess
import sys
from enum import IntEnum
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

import minitorch_ciml as mt
from minitorch_ciml.kernels import steps
from minitorch_ciml.kernels.cuda import SIMULATED, memory, runtime, transfer
from minitorch_ciml.kernels.cuda.elementwise import cast
from minitorch_ciml.kernels.cuda.graph import Graph
from minitorch_ciml.kernels.cuda.memory import MemoryInfo, Pool, memory_info, to_device, zeros
from minitorch_ciml.kernels.cuda.runtime import CudaError, NotCapturable, Runtime
from minitorch_ciml.kernels.cuda.transfer import Feeder, Staging

of_the_simulator = pytest.mark.skipif(not SIMULATED, reason="its memory is the host's")


class Status(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_LAUNCH_FAILED = 719


class FakeDriver:
    """Answers as `cuda.bindings.driver` does, and keeps a list of what it was asked."""

    CUresult = Status

    def __init__(self, **answers):
        self.calls = []
        self.answers = {
            "cuDeviceGetCount": 1,
            "cuDeviceGetName": b"Fake GPU\0\0",
            "cuDeviceGetAttribute": 9,
            "cuDriverGetVersion": 13000,
            "cuStreamCreate": "stream",
            "cuMemAlloc": 0x1000,
            "cuMemGetInfo": (10, 100),
        } | answers

    def __getattr__(self, name):
        from cuda.bindings import driver

        real = getattr(driver, name)  # a function or enumeration that does not exist is an error
        if not name.startswith("cu"):
            return real

        def call(*arguments):
            self.calls.append((name, arguments))
            answer = self.answers.get(name, ())
            if isinstance(answer, Status):
                return (answer, None)
            if name == "cuGetErrorString":
                return (Status.CUDA_SUCCESS, b"a failure")
            if isinstance(answer, tuple):
                return (Status.CUDA_SUCCESS, *answer)
            return (Status.CUDA_SUCCESS, answer)

        return call

    def names(self):
        return [name for name, _ in self.calls]


def array(pointer, nbytes=64):
    return SimpleNamespace(pointer=pointer, nbytes=nbytes)


# --- what is asked of the driver ------------------------------------------------------------------


def test_a_runtime_takes_the_primary_context_and_two_streams():
    driver = FakeDriver()
    gpu = Runtime(driver=driver)
    assert (gpu.name, gpu.capability, gpu.multiprocessors) == ("Fake GPU", (9, 9), 9)
    assert driver.names().count("cuStreamCreate") == 2
    assert "cuDevicePrimaryCtxRetain" in driver.names()


def test_every_thread_enters_the_context_once():
    from threading import Thread

    driver = FakeDriver()
    gpu = Runtime(driver=driver)

    def work():
        gpu.launch("kernel", (1, 1, 1), (32, 1, 1), 0, 0)
        gpu.launch("kernel", (1, 1, 1), (32, 1, 1), 0, 0)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    work()
    assert driver.names().count("cuCtxSetCurrent") == 2
    assert driver.names().count("cuLaunchKernel") == 4


def test_a_graph_is_captured_started_and_freed():
    driver = FakeDriver(cuStreamEndCapture="graph", cuGraphInstantiate="ready")
    gpu = Runtime(driver=driver)
    gpu.begin_capture()
    gpu.launch("kernel", (1, 1, 1), (32, 1, 1), 0, 0)
    for forbidden in (
        gpu.synchronize,
        lambda: gpu.copy_to_host(np.zeros(16, "f4"), array(8)),
        lambda: gpu.copy_to_device(array(8), np.zeros(16, "f4")),
        lambda: gpu.free(8),
    ):
        with pytest.raises(NotCapturable, match="while a step is captured"):
            forbidden()
    graph = gpu.end_capture()
    gpu.start(graph)
    gpu.discard(graph)
    of_graph = [call for call in driver.calls if "Graph" in call[0] or "Capture" in call[0]]
    assert [name for name, _ in of_graph] == [
        "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy",
        "cuGraphLaunch", "cuGraphExecDestroy",
    ]  # fmt: skip
    assert of_graph[4][1] == ("ready", "stream")


def test_an_aborted_capture_leaves_nothing():
    driver = FakeDriver(cuStreamEndCapture="graph")
    gpu = Runtime(driver=driver)
    gpu.begin_capture()
    gpu.abort_capture()
    assert not gpu.capturing and driver.names()[-1] == "cuGraphDestroy"
    gpu.synchronize()


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers, index, message",
    [
        ({"cuInit": Status.CUDA_ERROR_NO_DEVICE}, None, "needs an NVIDIA GPU and its driver"),
        ({"cuDeviceGetCount": 0}, None, "the driver lists none"),
        ({}, 3, "there is no GPU 3; this process sees 1"),
        ({"cuDeviceGetAttribute": 6}, None, "compute capability 6.6; 7.5 or newer is needed"),
        ({"cuDriverGetVersion": 12040}, None, "driver is one for CUDA 12.4, .* CUDA 13"),
    ],
)
def test_what_is_missing_is_said(answers, index, message, monkeypatch):
    monkeypatch.setattr(runtime, "_toolkit_generation", lambda: 13)
    with pytest.raises(RuntimeError, match=message) as caught:
        Runtime(index, FakeDriver(**answers))
    assert "\n" not in str(caught.value)


def test_the_drivers_errors_have_their_names():
    gpu = Runtime(driver=FakeDriver(cuLaunchKernel=Status.CUDA_ERROR_LAUNCH_FAILED))
    with pytest.raises(CudaError, match="CUDA_ERROR_LAUNCH_FAILED: a failure"):
        gpu.launch("kernel", (1, 1, 1), (32, 1, 1), 0, 0)


def test_out_of_memory_says_what_is_held(monkeypatch):
    gpu = Runtime(driver=FakeDriver(cuMemAlloc=Status.CUDA_ERROR_OUT_OF_MEMORY))
    monkeypatch.setattr(memory, "runtime", lambda: gpu)
    with pytest.raises(MemoryError, match=r"4,096 bytes asked for, .* 10 of 100 free; use a small"):
        Pool().allocate(4096)


@pytest.mark.parametrize(
    "code, error",
    [
        ("import sys; sys.modules['numba_cuda'] = None\nmt.set_device('cuda')", "pip install"),
        ("mt.set_device('cuda')", "needs an NVIDIA GPU"),
        ("mt.Tensor([1.0]).to('cuda')", "needs an NVIDIA GPU"),
        (
            "import sys; from minitorch_ciml.__main__ import main\n"
            "sys.exit(main(['train', '--device', 'cuda']))",
            "train: error: --device cuda: the device 'cuda' needs an NVIDIA GPU",
        ),
    ],
)
def test_choosing_a_gpu_fails_at_once_where_there_is_none(code, error):
    """In a process without the simulator, on a machine without a GPU."""
    try:
        Runtime()
        pytest.skip("there is a GPU")
    except (RuntimeError, ImportError):
        pass
    done = subprocess.run(
        [sys.executable, "-c", f"import minitorch_ciml as mt\n{code}"], capture_output=True,
        text=True, env={"MINITORCH_CIML_SIMULATE_CUDA": "0", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode and error in done.stderr.splitlines()[-1]


def test_another_gpu_than_the_one_in_use_is_refused():
    mt.set_device("cuda:0")
    mt.set_device("cpu")
    with pytest.raises(RuntimeError, match="uses GPU 0 and cannot use GPU 1"):
        mt.set_device("cuda:1")
    with pytest.raises(ValueError, match="device 'cuda:x' is not known"):
        mt.set_device("cuda:x")


def test_ranks_on_a_machine_take_its_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "5")
    assert Runtime(driver=FakeDriver(cuDeviceGetCount=4)).index == 1


# --- memory ---------------------------------------------------------------------------------------


def test_memory_info_counts_what_is_used_held_and_the_peak():
    before = memory_info()
    x = zeros((1 << 18,), "float32")
    during = memory_info()
    assert during.used - before.used == 1 << 20 and during.peak >= during.used
    del x
    after = memory_info()
    assert isinstance(after, MemoryInfo)
    assert after.used == before.used and after.held == during.held
    assert mt.memory_info() == after


# --- recorded steps -------------------------------------------------------------------------------


def test_a_replay_reads_new_inputs_and_new_numbers():
    x, step = to_device(np.ones(3, "float32")), 0
    drawn = []

    def compute():
        drawn.append(step)
        return (float(step),)

    def work():
        factor = steps.numbers(compute, "float32", "cuda")
        steps.each_time(lambda: drawn.append("again"))
        x_now = cast(x, "float64")
        return mt.ops.multiply(mt.Tensor.constant(x_now), mt.Tensor.constant(factor)).value

    graph = Graph(work)
    assert drawn == [0, "again"]
    results = []
    for step in (0, 1, 2):
        x[...] = np.full(3, 10.0**step, "float32")
        results.append(graph.replay().numpy()[0])
    assert results == [0.0, 10.0, 200.0]
    assert drawn == [0, "again", 1, "again", 2, "again"]


def test_a_graphs_memory_is_its_own_until_it_ends():
    x = to_device(np.arange(4, dtype="float32"))
    graph = Graph(lambda: cast(cast(x, "float64"), "float32"))
    held = graph.pool.held
    assert held and graph.result._block.pool is graph.pool
    others = [zeros((4,), "float64") for _ in range(8)]  # nothing of the graph's is handed out
    np.testing.assert_array_equal(graph.replay().numpy(), np.arange(4))
    before = memory_info().held
    del graph, others
    gc.collect()
    assert memory_info().held == before  # it serves others now


def test_what_cannot_be_recorded_is_given_back():
    x = to_device(np.zeros(2, "float32"))
    with pytest.raises(NotCapturable, match="copying to the host"):
        Graph(lambda: cast(x, "float64").numpy())
    assert not runtime.runtime().capturing
    np.testing.assert_array_equal(x.numpy(), 0)


# --- batches on their way -------------------------------------------------------------------------


def test_batches_arrive_whole_although_the_host_runs_ahead():
    """The simulator copies as late as it may: a place packed too early would show."""
    feeder = Feeder()
    rng = np.random.default_rng(0)
    sent = [
        [rng.integers(0, 255, (n, 3)).astype("uint8"), rng.random(n).astype("float32")]
        for n in (4, 4, 2, 5, 1)
    ]
    arrived = []
    for arrays in sent:
        parcel = feeder.send(arrays)
        arrived.append(parcel.take(["float32", "float32"]))
    for arrays, there in zip(sent, arrived):
        for a, b in zip(arrays, there):
            assert b.dtype == "float32"
            np.testing.assert_array_equal(b.numpy(), a)


def test_a_parcel_is_taken_into_arrays_that_are_there():
    feeder, target = Feeder(), zeros((3,), "float32")
    for value in (1, 2, 3):
        feeder.send([np.full(3, value, "uint8")]).take(["float32"], [target])
        np.testing.assert_array_equal(target.numpy(), value)


def test_the_copy_waits_for_the_place_and_the_kernels_for_the_copy():
    driver = FakeDriver(cuStreamCreate="s", cuMemHostAlloc=0)
    gpu = Runtime(driver=driver)
    gpu.stream, gpu.copies = "kernels", "copies"
    place, copied, taken = np.zeros(64, "u1"), "copied", "taken"
    gpu.follow(gpu.copies, taken)
    gpu.copy_ahead(array(8), place)
    gpu.mark(copied, gpu.copies)
    gpu.follow(gpu.stream, copied)
    last = [(name, arguments) for name, arguments in driver.calls[-4:]]
    assert last[0] == ("cuStreamWaitEvent", ("copies", "taken", 0))
    assert last[1][0] == "cuMemcpyHtoDAsync" and last[1][1][-1] == "copies"
    assert last[2] == ("cuEventRecord", ("copied", "copies"))
    assert last[3] == ("cuStreamWaitEvent", ("kernels", "copied", 0))


def test_an_array_goes_to_the_host_and_back_and_is_there_in_time():
    """The simulator copies as late as it may: work that did not wait would see the old elements."""
    x = to_device(np.arange(3, dtype="float32"))
    staging = Staging(x)
    for step in range(3):
        np.testing.assert_array_equal(staging.fetch(), np.arange(3) * 2.0**step)
        staging.send(staging.host * 2)
        y = cast(x, "float64")
        staging.send(np.arange(3) * 2.0 ** (step + 1))
        np.testing.assert_array_equal(y.numpy(), np.arange(3) * 2.0 ** (step + 1))


def test_the_host_waits_for_nothing_on_the_way_to_the_gpu(monkeypatch):
    driver = FakeDriver(
        cuStreamCreate="s", cuMemHostAlloc=(place := np.zeros(64, "u1")).ctypes.data
    )
    gpu = Runtime(driver=driver)
    gpu.stream, gpu.copies = "kernels", "copies"
    monkeypatch.setattr(transfer, "runtime", lambda: gpu)
    staging = Staging(SimpleNamespace(pointer=8, nbytes=64, dtype=np.dtype("float32")))
    driver.calls.clear()
    staging.send(np.ones(16, "float32"))
    assert driver.names() == [
        "cuEventSynchronize",  # of the copy before this one, which is done
        "cuEventRecord", "cuStreamWaitEvent", "cuMemcpyHtoDAsync", "cuEventRecord",
        "cuStreamWaitEvent",
    ]  # fmt: skip
    assert place.view("float32").sum() == 16 and driver.calls[3][1][-1] == "copies"


# --- other libraries ------------------------------------------------------------------------------


class Foreign:
    """An array of another library, as its interface describes it."""

    def __init__(self, array, **changes):
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "version": 3,
            "data": (array.ctypes.data, False), "strides": None, "stream": 1,
        } | changes  # fmt: skip

    __cuda_array_interface__: dict = {}


@of_the_simulator
def test_other_libraries_see_a_tensors_memory(monkeypatch):
    x = mt.Tensor(np.arange(6, dtype="float32").reshape(2, 3)).to("cuda")
    # The simulated GPU's memory must not be taken for a GPU's.
    assert not hasattr(x, "__cuda_array_interface__")
    assert not hasattr(mt.Tensor([1.0]), "__cuda_array_interface__")
    monkeypatch.setattr(memory, "runtime", lambda: Runtime(driver=FakeDriver(cuStreamCreate=5)))
    y = memory.CudaArray((2, 3), "float32", SimpleNamespace(pointer=0x1000), 256)
    assert y.__cuda_array_interface__ == {
        "shape": (2, 3), "typestr": "<f4", "data": (0x1100, True), "strides": None, "version": 3,
        "stream": 5,
    }  # fmt: skip


@of_the_simulator
def test_an_array_of_another_library_is_copied_after_its_stream():
    array = np.arange(4, dtype="int64")
    x = mt.Tensor(Foreign(array))
    array[:] = 0
    assert x.tolist() == [0, 1, 2, 3] and x.device == "cuda"
    with pytest.raises(ValueError, match="not contiguous"):
        mt.Tensor(Foreign(array, shape=(2,), strides=(16,)))
    driver = FakeDriver()
    gpu = Runtime(driver=driver)
    gpu.copy_from_address(array_like := SimpleNamespace(pointer=8, nbytes=32), 99, 1)
    assert driver.names()[-6:] == [
        "cuEventCreate", "cuEventRecord", "cuStreamWaitEvent", "cuEventDestroy",
        "cuMemcpyDtoDAsync", "cuStreamSynchronize",
    ]  # fmt: skip
    assert driver.calls[-2][1][:2] == (array_like.pointer, 99)
