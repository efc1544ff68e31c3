"""N ranks give the result of one; failures end the job; Horovod's names. Runs `tests/mpi/*.py`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mpi_runs import ENVIRONMENT, PYTHONS, ROOT, SCRIPTS, Launcher, differences, short

from minitorch_ciml import config, distributed, keras
from minitorch_ciml.autograd import Parameter
from minitorch_ciml.distributed import launch
from minitorch_ciml.keras.distribution.crew import interleaved
from minitorch_ciml.keras.models.data import ArrayBatches, part_of


@pytest.fixture(params=PYTHONS, ids=short)
def mpirun(request):
    """`mpirun(n, script, *arguments)` runs a script of `tests/mpi` on n ranks."""
    return Launcher(request.param)


@pytest.fixture
def first_mpirun():
    """For what does not depend on which MPI there is."""
    return Launcher(PYTHONS[0])


# --- N ranks are one rank -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    """Where one process without a launcher has written its results; a function of the dtype."""
    folder = tmp_path_factory.mktemp("one")
    done = set()

    def path(dtype, *cases):
        if (dtype, cases) not in done:
            subprocess.run(
                [sys.executable, str(SCRIPTS / "train.py"), dtype, str(folder / dtype), *cases],
                check=True, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            done.add((dtype, cases))
        return folder / dtype

    return path


@pytest.mark.parametrize(
    ("n", "dtype", "cases", "tolerance"),
    [
        (4, "float64", [], 1e-12),  # all cases
        (2, "float32", ["adam", "sgd", "rmsprop", "early_stopping"], 1e-6),
        # One rank's small biases with Ftrl and Adadelta are 4e-6 from those in float64, too.
        (2, "float32", ["every_optimizer"], 5e-6),
        (3, "float32", ["dropout", "class_weight", "batch_norm"], 1e-6),
    ],
)
def test_n_ranks_give_what_one_gives(mpirun, one_rank, tmp_path, n, dtype, cases, tolerance):
    if not mpirun.is_first and not cases:
        cases = ["dropout", "batch_norm", "two_outputs", "loader", "early_stopping"]
    expected = one_rank(dtype, *cases)
    done = mpirun(n, "train.py", dtype, tmp_path / "n", *cases)
    assert done.returncode == 0, done.stderr
    names = cases or sorted({p.name.split(".")[1] for p in expected.parent.glob(f"{dtype}.*")})
    assert names
    for case in names:
        for rank in range(n):
            errors = differences(f"{expected}.{case}.0.npz", f"{tmp_path}/n.{case}.{rank}.npz")
            assert max(errors.values()) < tolerance, (case, rank, errors)


def test_deterministic_weights_do_not_depend_on_the_number_of_ranks(first_mpirun, tmp_path):
    cases = ["adam", "dropout", "convolution", "on_batch"]
    for n in (1, 2, 4):
        done = first_mpirun(n, "train.py", "float32", tmp_path / str(n), "deterministic", *cases)
        assert done.returncode == 0, done.stderr
    for case in cases:
        one = np.load(f"{tmp_path}/1.{case}.0.npz")
        names = [name for name in one if name.startswith("weight")]
        for file in (f"2.{case}.1", f"4.{case}.0", f"4.{case}.3"):
            found = np.load(f"{tmp_path}/{file}.npz")
            assert all(np.array_equal(one[name], found[name]) for name in names), file


def test_deterministic_refuses_what_it_cannot_do(monkeypatch):
    distribution = keras.distribution
    monkeypatch.setattr(distributed.Communicator, "size", 3)
    with pytest.raises(ValueError, match="needs 1, 2, 4 or 8 ranks, .* got 3 ranks"):
        distribution.DataParallel(deterministic=True)
    monkeypatch.undo()
    monkeypatch.setattr(distributed, "limit_threads", lambda *a, **k: None)
    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    model.compile("sgd", "mse")
    distribution.set_distribution(distribution.DataParallel(deterministic=True))
    try:
        with pytest.raises(ValueError, match="cannot train BatchNormalization"):
            model.fit(np.ones((4, 2)), np.ones((4, 2)), verbose=0)
    finally:
        distribution.set_distribution(None)


def test_gradients_on_a_gpu_go_through_the_host(first_mpirun):
    """In the simulator: two ranks there, one rank on the CPU."""
    done = first_mpirun(2, "gpu.py", "gpu", MINITORCH_CIML_SIMULATE_CUDA="1")
    assert done.returncode == 0, done.stderr
    alone = first_mpirun(1, "gpu.py", "cpu")
    numbers = [
        np.array(re.findall(r"(?:loss|weights) ([\d.]+)", d.stdout), float) for d in (done, alone)
    ]
    assert "on cuda" in done.stdout and "on cpu" in alone.stdout and len(numbers[1]) == 3
    np.testing.assert_allclose(numbers[0].reshape(2, 3), [numbers[1]] * 2, rtol=1e-5)


def test_the_users_number_of_threads_is_told(first_mpirun):
    done = first_mpirun(2, "plain.py", MINITORCH_CIML_DISTRIBUTE="1", NUMBA_NUM_THREADS="3")
    assert "minitorch_ciml: 2 ranks on 1 host, 3 threads each" in done.stderr


def test_overlap_on_a_gpu_is_refused(first_mpirun):
    done = first_mpirun(2, "gpu.py", "gpu", "overlap", MINITORCH_CIML_SIMULATE_CUDA="1")
    assert done.returncode == 1
    assert "ValueError: overlap=True: gradients on a GPU are sent after backward" in done.stderr


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("exception", 1, "[rank 1] KeyError: 'lost on rank 1'"),
        ("exit", 3, "[rank 1] sys.exit: status 3"),
        ("data", 1, "the ranks do not do the same: the data: 40 samples"),
        # The launcher says these itself.
        ("kill", 9, r"(?i)rank:? 1\b[^\n]*(\n[^\n]*){0,3}(signal|code:) ?9|signal 9"),
    ],
)
def test_a_failure_on_one_rank_ends_the_job(mpirun, how, code, message):
    done = mpirun(2, "broken.py", how, timeout=90)
    assert "the end" not in done.stdout
    if how == "kill":
        assert done.returncode != 0
        assert re.search(message, done.stderr + done.stdout), done.stderr + done.stdout
    else:
        assert done.returncode == code
        assert message in done.stderr


@pytest.mark.parametrize(
    ("how", "where"),
    [("quiet", "gradient exchange"), ("alone", "allgather_object")],
)
def test_a_rank_that_ends_early_does_not_hang_the_others(mpirun, how, where):
    done = mpirun(2, "broken.py", how, timeout=90, MINITORCH_CIML_TIMEOUT="2")
    assert done.returncode != 0
    says = re.findall(r"\[rank (\d)\] waits for the other ranks in (.+?) \(", done.stderr)
    # Which of the two is first is a matter of chance.
    assert says and set(says) <= {("0", where), ("1", "the end of the script")}, done.stderr


def test_logs_of_all_ranks_are_kept_apart(first_mpirun, tmp_path):
    done = first_mpirun(2, "broken.py", "leave", timeout=90, MINITORCH_CIML_LOGS=tmp_path / "logs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the end") == 1 and "rank 1:" not in done.stdout
    (file,) = (tmp_path / "logs").iterdir()
    assert file.name == "rank-0001.txt"
    assert "rank 1: 1 epochs" in file.read_text()
    done = first_mpirun(
        2, "broken.py", "exception", timeout=90, MINITORCH_CIML_LOGS=tmp_path / "logs"
    )
    for text in (file.read_text(), done.stderr):
        assert "[rank 1] KeyError: 'lost on rank 1'" in text


def test_the_launcher_hands_on_the_signal_to_save(mpirun, tmp_path):
    job = subprocess.Popen(
        [*mpirun.command, "-n", "2", mpirun.python, str(SCRIPTS / "resumed.py"), str(tmp_path)],
        env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    metadata = tmp_path / "backup" / "training_metadata.json"
    deadline = time.monotonic() + 40
    while not metadata.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=30)
    assert job.returncode == 75, output
    assert "SIGUSR1: saved before step" in output
    assert metadata.exists() and not (tmp_path / "weights.npz").exists()


def test_slurm_scripts_are_correct_bash_and_ask_for_a_signal():
    scripts = sorted((ROOT / "tutorials" / "slurm").glob("*.sh"))
    assert len(scripts) == 4
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)
        text = script.read_text()
        assert "mpirun -n" in text or "srun --mpi" in text
        if "--nodes=2" in text:
            assert "USR1@120" in text and "scontrol requeue" in text


def test_killed_trainings_resume(first_mpirun):
    done = subprocess.run(
        [first_mpirun.python, str(SCRIPTS / "kill_and_resume.py"), "--runs", "2", "--seed", "3",
         "--launcher", " ".join(first_mpirun.command)],
        capture_output=True, text=True, timeout=200, env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"2 runs, [1-9]\d* interruptions survived", done.stdout), done.stdout


def test_ranks_stop_together(mpirun):
    done = mpirun(2, "broken.py", "leave", timeout=90)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        assert f"rank {rank}: 1 epochs, stopped [True, True]" in done.stdout


def test_the_watchdog_ends_a_hang(mpirun):
    done = mpirun(2, "broken.py", "stuck", timeout=90, MINITORCH_CIML_TIMEOUT="2")
    assert done.returncode != 0
    assert "waits for the other ranks in gradient exchange (its call " in done.stderr
    assert "gradients.py" in done.stderr  # where it stands


def test_a_wait_is_announced_and_limits_are_checked(monkeypatch, capsys):
    from minitorch_ciml.distributed import failures

    monkeypatch.setattr(failures, "_PATIENCE", 0)
    monkeypatch.setenv("MINITORCH_CIML_TIMEOUT", "30")
    dog = failures.Watchdog(3, pytest.fail)
    dog.begin("barrier")
    time.sleep(1.5)  # it looks once per second
    dog.end()
    said = capsys.readouterr().err
    assert "[rank 3] has waited for the other ranks in barrier" in said
    monkeypatch.setenv("MINITORCH_CIML_TIMEOUT", "soon")
    with pytest.raises(ValueError, match="got 'soon', expected a number of seconds"):
        failures.Watchdog(0, pytest.fail)


def test_ranks_that_do_not_see_each_other_are_an_error():
    pytest.importorskip("mpi4py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMPI_COMM_WORLD_SIZE": "2"}
    environment = {k: v for k, v in environment.items() if not k.startswith("PMI")}
    code = "from minitorch_ciml import distributed; distributed.init()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    if "MPI cannot be used" in done.stderr:
        pytest.skip("mpi4py has no MPI library")
    assert "started 2 ranks, but mpi4py's library" in done.stderr
    assert "sees 1: every process would train alone" in done.stderr


def test_ranks_without_a_distribution_are_warned():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PMI_SIZE": "2", "PMI_RANK": "0"}
    code = (
        "from minitorch_ciml import keras; m = keras.Sequential([keras.layers.Dense(1)]);"
        "m.compile('sgd', 'mse'); m.fit([[1.0]], [[1.0]], verbose=0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert "started 2 ranks, but each of them trains alone" in done.stderr


def test_a_script_that_knows_nothing_of_ranks(first_mpirun):
    done = first_mpirun(3, "plain.py", MINITORCH_CIML_DISTRIBUTE="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Epoch 2/2") == 1  # rank 0 alone shows progress and summary
    assert done.stdout.count("Total params") == 1
    weights = re.findall(r"weights \d+\.\d{12}", done.stdout)  # the ranks' lines may be mixed
    assert len(weights) == 3 and len(set(weights)) == 1


# --- Horovod ------------------------------------------------------------------------------------


def test_a_horovod_script_on_two_ranks(first_mpirun, tmp_path):
    done = first_mpirun(2, "horovod_script.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epochs 6 ranks 2" in done.stdout
    assert "Epoch 1/6" in done.stdout and done.stdout.count("Epoch 6/6") == 1
    assert (tmp_path / "model.keras").exists() and (tmp_path / "best.keras").exists()


def test_a_horovod_script_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "horovod_script.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epochs 6 ranks 1" in done.stdout


@pytest.mark.parametrize("n", [1, 2])
def test_a_horovod_script_learns_mnist(first_mpirun, tmp_path, n):
    data = os.environ.get("MINITORCH_CIML_DATA")
    if not data:
        pytest.skip("MINITORCH_CIML_DATA does not say where the real MNIST is")
    if n == 1:
        command = [sys.executable, str(SCRIPTS / "horovod_mnist.py"), str(tmp_path)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=200,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
    else:
        done = first_mpirun(n, "horovod_mnist.py", tmp_path, timeout=200)
    assert done.returncode == 0, done.stderr
    found = re.search(rf"ranks {n}, validation accuracy ([\d.]+)", done.stdout)
    assert found and float(found[1]) >= 0.98, done.stdout
    assert (tmp_path / "mnist.keras").exists()


def test_communicator_and_horovod_functions(mpirun, tmp_path):
    done = mpirun(3, "functions.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all right") == 3


def test_floats_of_16_bits(mpirun, tmp_path):
    """On one machine, and as between two and three, where gradients go over the network."""
    pytest.importorskip("ml_dtypes")
    results = []
    for n in (2, 3):
        path = tmp_path / f"{n}"
        done = mpirun(n, "halves.py", path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("all right") == n
        lines = [line.split() for line in path.read_text().splitlines()]
        results.append({name: list(map(float, numbers)) for name, *numbers in lines})
    for name, precision in (("float16", 2.0**-10), ("bfloat16", 2.0**-7)):
        np.testing.assert_allclose(*[r[name] for r in results], rtol=0, atol=16 * precision)


def test_horovod_names_need_init(monkeypatch):
    from minitorch_ciml.compat import horovod as hvd
    from minitorch_ciml.distributed import communicator

    monkeypatch.setattr(communicator, "_current", None)
    with pytest.raises(ValueError, match=r"hvd.init\(\) first"):
        hvd.rank()
    hvd.init()
    assert (hvd.rank(), hvd.size(), hvd.local_rank(), hvd.cross_size()) == (0, 1, 0, 1)
    with pytest.raises(ValueError, match="expected hvd.Average or hvd.Sum"):
        hvd.DistributedOptimizer(keras.optimizers.SGD(), op=hvd.Max)
    with pytest.raises(ValueError, match="average_aggregated_gradients"):
        hvd.DistributedOptimizer(keras.optimizers.SGD(), backward_passes_per_step=2)


def test_horovod_warmup_and_schedule():
    from minitorch_ciml.compat.horovod.keras import callbacks

    x = np.zeros((8, 2), "float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    decay = callbacks.LearningRateScheduleCallback(0.5, lambda epoch: 0.1**epoch, start_epoch=1)
    history = model.fit(x, x[:, :1], epochs=3, verbose=0, callbacks=[decay])
    np.testing.assert_allclose(history.history["lr"], [1.0, 0.05, 0.005], rtol=1e-6)
    smooth = callbacks.LearningRateScheduleCallback(
        1.0, lambda epoch: 1 + epoch, staircase=False, end_epoch=2
    )
    history = model.fit(x, x[:, :1], batch_size=2, epochs=3, verbose=0, callbacks=[smooth])
    np.testing.assert_allclose(history.history["lr"], [1.75, 2.75, 2.75], rtol=1e-6)


def test_horovod_momentum_correction():
    from minitorch_ciml.compat.horovod.keras import callbacks

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0, momentum=0.8), "mse")
    seen = []
    see = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(model.optimizer.momentum)
    )
    x = np.zeros((4, 2), "float32")
    for correct, expected in ((True, [0.8, 0.8, 0.4, 0.8]), (False, [0.8] * 4)):
        seen.clear()
        model.optimizer.learning_rate = 1.0
        decay = callbacks.LearningRateScheduleCallback(
            1.0, lambda epoch: 0.5**epoch, momentum_correction=correct
        )
        model.fit(x, x[:, :1], batch_size=2, epochs=2, verbose=0, callbacks=[decay, see])
        np.testing.assert_allclose(seen, expected)
    assert model.optimizer.momentum == 0.8


# --- one process --------------------------------------------------------------------------------


def test_one_process_is_a_communicator():
    alone = distributed.Communicator()
    x = np.arange(3.0)
    assert alone.allreduce(x) is x and alone.broadcast(x) is x
    assert alone.allgather_object(5) == [5] and alone.broadcast_object("a") == "a"
    assert len(alone.allgather(x)) == 1
    with pytest.raises(ValueError, match="expected one of sum, mean, min, max"):
        alone.allreduce(x, "product")
    with pytest.raises(ValueError, match="the mean of int64"):
        alone.allreduce(np.arange(3), "mean")
    with pytest.raises(ValueError, match="root is 1"):
        alone.broadcast(x, 1)


def test_the_launcher_is_known_by_its_variables(monkeypatch):
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "PMIX_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launch.promise().size == 1
    monkeypatch.setenv("SLURM_NTASKS", "8")  # also set in the batch script
    assert launch.promise().size == 1
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert launch.promise() == (4, "srun")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "16")
    assert launch.promise() == (16, "Open MPI")


def test_threads_are_shared_by_unbound_ranks(monkeypatch):
    monkeypatch.setattr(launch.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    assert launch.threads_per_rank(2) == 4
    assert launch.threads_per_rank(16) == 1
    monkeypatch.setattr(launch, "usable_cores", lambda: 3)  # bound to three cores of its own
    assert launch.threads_per_rank(2) == 3


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_parts_cover_every_batch_once(ranks):
    source = ArrayBatches(np.arange(25), batch_size=6, seed=3)
    whole = [x for x, _, _ in source.epoch(1)]
    parts = [[shard[0] for shard in source.parts(1, r, ranks)] for r in range(ranks)]
    for i, batch in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([p[i] for p in parts]), batch)
    sizes = [part_of(6, r, ranks).own for r in range(ranks)]
    assert sum(sizes) == 6 and max(sizes) - min(sizes) <= 1


def test_a_part_of_a_batch_gives_its_share_of_the_loss():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 7), rng.dirichlet(np.ones(3), 7)
    for reduction in ("sum_over_batch_size", "sum"):
        loss = keras.losses.SparseCategoricalCrossentropy(reduction=reduction, dtype="float64")
        shares = []
        for rank in range(3):
            part = part_of(7, rank, 3)
            rows = slice(part.first, part.first + part.own)
            with config.working_on(part):
                shares.append(loss(y[rows], p[rows]).item())
        np.testing.assert_allclose(np.mean(shares), loss(y, p).item(), rtol=1e-12)


def test_backward_tells_watchers_when_gradients_are_complete():
    from minitorch_ciml import grad
    from minitorch_ciml.autograd import backward

    a, b = Parameter(np.full(2, 3.0)), Parameter(np.full(2, 5.0))
    seen = []

    def watch(lineage, targets, gradients):
        return lambda record: seen.append((record.op.name, b in gradients, a in gradients))

    backward.watchers.append(watch)
    try:
        loss = (a * a * b).sum()
        grad(loss, [a, b])
        grad((a * b).sum(), [a, b], create_graph=True)  # not watched: it is no end
    finally:
        backward.watchers.remove(watch)
    assert seen == [("sum", False, False), ("multiply", True, False), ("multiply", True, True)]


def test_exchange_and_devices_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="compression: got 'int8', expected None or 'float16'"):
        distributed.GradientExchange(compression="int8")
    data_parallel = keras.distribution.DataParallel
    with pytest.raises(ValueError, match="got 2 devices for 1 ranks"):
        data_parallel(devices=["cpu:0", "cpu:1"])
    with pytest.raises(ValueError, match="expected names such as 'cpu:0'"):
        data_parallel(devices=["tpu:0"])
    assert data_parallel(devices=["cpu:0"]).size == 1
    with pytest.raises(ValueError, match="gave \\[1\\] rows for 3 numbers"):
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        loader = keras.distribution.RowLoader(lambda rows: (np.ones((1, 2)), np.ones(1)), 3)
        model.fit(loader, verbose=0)


def test_gradients_that_only_other_ranks_have_are_used():
    a, b = Parameter(np.ones(2)), Parameter(np.ones(3))
    optimizer = keras.optimizers.SGD(1.0)

    def exchange(buffers, gradients):  # as if another rank had a gradient of 2 for all
        (buffer,) = buffers
        buffer.gather(gradients[0])
        buffer.gradient += 2
        buffer.gradient /= 2
        buffer.present[...] = 1
        return True

    optimizer.exchange = exchange
    optimizer.apply([np.full(2, 4.0), None], [a, b])
    np.testing.assert_allclose(a.numpy(), 1 - 3)
    np.testing.assert_allclose(b.numpy(), 1 - 1)


def test_outputs_of_ranks_are_put_in_the_order_of_the_data():
    counts = np.array([[2, 0], [1, 1]])
    whole = interleaved([np.array([0, 1]), np.array([2, 3])], counts)
    assert whole.tolist() == [0, 1, 2, 3]


def test_distribution_has_keras_names():
    distribution = keras.distribution
    assert distribution.list_devices() == ["cpu:0"] and distribution.list_devices("gpu") == []
    with pytest.raises(TypeError, match="expected a DataParallel or None"):
        distribution.set_distribution("all")
    try:
        distribution.set_distribution(distribution.DataParallel())
        assert distribution.distribution().size == 1
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
        assert model.predict(np.ones((3, 2)), verbose=0).shape == (3, 1)
    finally:
        distribution.set_distribution(None)
    assert distribution.distribution() is None


@pytest.mark.parametrize("name", ["mpirun", "mpiexec.hydra", "mpirun.openmpi"])
def test_the_launcher_is_found_by_all_of_its_names(tmp_path, name):
    shutil.copy(shutil.which("sh"), tmp_path / name)
    code = "import os; from minitorch_ciml.distributed import launcher as it;"
    code += "print(it._launcher_above(os.getppid()))"
    shell = f"{sys.executable} -c '{code}'; echo $$"
    done = subprocess.run(
        [tmp_path / name, "-c", shell], capture_output=True, text=True, timeout=60,
        env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    found, pid = done.stdout.split()
    assert found == pid
