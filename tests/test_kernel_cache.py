"""The cache of compiled kernels: many processes may fill the same empty one at the same time, and
the package may be installed where its user cannot write.
"""

import ctypes
import itertools
import os
import resource
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numba.core.bytecode import FunctionIdentity

import minitorch_ciml
from minitorch_ciml.kernels.cpu import jit, threads
from minitorch_ciml.kernels.cpu.cache import CodeFiles

# Calling a function in a new process before it begins needs a fork, of which JAX warns wherever
# another test has imported it.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

PACKAGE = Path(minitorch_ciml.__file__).parent

# A few kernels of each kind: on one thread, on all threads, and an optimizer's.
STEP = """
import numpy as np
from minitorch_ciml import keras
keras.utils.set_random_seed(1)
x, y = np.linspace(-1, 1, 600, dtype="float32").reshape(60, 10), np.arange(60) % 3
layers = [keras.layers.Dense(12, "relu"), keras.layers.Dense(3, "softmax")]
model = keras.Sequential([keras.Input((10,)), *layers])
model.compile("adam", "sparse_categorical_crossentropy")
print(model.train_on_batch(x, y), float(np.abs(model.get_weights()[0]).sum()))
"""


# Trains models whose kernels are closures of the same factories, one after the other.
TRAIN = """
import sys
import numpy as np
from minitorch_ciml import keras
from minitorch_ciml.keras import layers
x = np.sin(np.arange(8 * 7 * 7 * 5, dtype="float32")).reshape(8, 7, 7, 5)
y = np.arange(8) % 3
FIRST = {"plain": lambda: layers.Conv2D(6, 3, 2, activation="relu"),
         "depthwise": lambda: layers.DepthwiseConv2D(3, 2, activation="relu")}
for name in sys.argv[1:]:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([FIRST[name](), layers.Flatten(), layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    losses = [float(model.train_on_batch(x, y)) for _ in range(3)]
    print(name, *losses, *[float(np.abs(w).sum()) for w in model.get_weights()])
"""

WITHOUT_NUMBA = """
from minitorch_ciml import kernels
find = kernels.find
kernels.find = lambda device, name: find("reference", name)
"""

# One kernel.
KERNEL = """
import numpy as np
from minitorch_ciml.kernels.cpu import elementwise
x = np.linspace(-1, 1, 100_000, dtype="float32")
(y,) = elementwise.relu_grad(x, x, x, needs=(True,))
print(float(y.sum()))
"""


def python(code, *arguments, before=None, **variables):
    """Starts a process, which calls ``before`` first."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | variables
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, preexec_fn=before,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def result(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return output


def files(cache):
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.nb?")}


def test_processes_that_train_at_once_share_an_empty_cache(tmp_path):
    """Two train one model, a third another. Then one trains both, with what they compiled."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    at_once = [python(TRAIN, name, **cache) for name in ("plain", "depthwise", "plain")]
    plain, depthwise, same = map(result, at_once)
    assert plain == same
    filled = files(tmp_path)
    assert filled
    assert not list(tmp_path.rglob("tmp*"))  # files are written beside and then put in place
    again = result(python(TRAIN, "depthwise", "plain", **cache))
    assert again == depthwise + plain
    assert files(tmp_path) == filled  # what they left is whole, and all that was needed
    expected = result(python(WITHOUT_NUMBA + TRAIN, "depthwise", "plain", **cache))
    assert files(tmp_path) == filled
    np.testing.assert_allclose(numbers(again), numbers(expected), rtol=1e-4)


IMPATIENT = "from minitorch_ciml.kernels.cpu import jit; jit.PATIENCE = 0"


def test_what_comes_from_the_cache_is_not_announced_as_compiled(tmp_path):
    complaints = []
    for _ in range(2):
        process = python(IMPATIENT + KERNEL, NUMBA_CACHE_DIR=str(tmp_path))
        complaints.append(process.communicate(timeout=300)[1])
        assert process.returncode == 0
    assert complaints == ["Compiling kernels for this machine, once ...\n", ""]


def numbers(text):
    return [[float(word) for word in line.split()[1:]] for line in text.splitlines()]


# --- an installation that its user cannot write -------------------------------------------------


def obey_permissions():
    """In a process of root's: it can no longer write what its permissions forbid."""
    drop_from_bounds, may_override_permissions = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
    if ctypes.CDLL(None).prctl(drop_from_bounds, may_override_permissions, 0, 0, 0):
        raise OSError("root keeps its capabilities")


@pytest.fixture
def installed(tmp_path):
    """A copy of the package that cannot be written; beside it a home that can."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if os.name != "posix" or (is_root and not sys.platform.startswith("linux")):
        pytest.skip("here, who runs the tests can write everywhere")
    site, home = tmp_path / "site", tmp_path / "home"
    shutil.copytree(PACKAGE, site / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    paths = (*site.rglob("*"), site)
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def begin(code):
        variables = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
        before = obey_permissions if is_root else None
        code = f"import os; os.chdir({str(home)!r})" + code
        return python(code, before=before, PYTHONPATH=str(site), **variables)

    yield site, home, begin
    for path in paths:
        path.chmod(0o755)


def test_kernels_of_a_read_only_installation_are_kept_in_the_users_cache(installed):
    site, home, begin = installed
    before = sorted(site.rglob("*"))
    first, second = [result(p) for p in [begin(STEP), begin(STEP)]]
    assert first == second
    filled = files(home / ".cache")
    assert filled
    assert sorted(site.rglob("*")) == before
    assert result(begin(STEP)) == first
    assert files(home / ".cache") == filled


def test_where_nothing_can_be_written_every_process_compiles_for_itself(installed):
    site, home, begin = installed
    home.chmod(0o555)
    before = sorted(home.parent.rglob("*"))
    try:
        assert float(result(begin(KERNEL))) > 0
    finally:
        home.chmod(0o755)
    assert sorted(home.parent.rglob("*")) == before


def no_large_files():
    """What a used-up quota does: writing a file of more than 2,000 bytes fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


def test_a_full_disk_costs_time_only(tmp_path):
    process = python(STEP, before=no_large_files, NUMBA_CACHE_DIR=str(tmp_path))
    _, complaints = process.communicate(timeout=300)
    assert process.returncode == 0
    assert complaints.count("compiled kernels cannot be kept in ") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # no part of a file


def test_damaged_files_are_replaced(tmp_path):
    """As a machine leaves them that went down: shorter, empty, or with zeros in them."""
    first = result(python(STEP, NUMBA_CACHE_DIR=str(tmp_path)))
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*.nbc")}
    assert len(whole) > 3
    damages = [
        lambda code: code[: len(code) // 2],
        lambda code: b"",
        lambda code: code[: len(code) // 2].ljust(len(code), b"\0"),
    ]
    damaged = {path: damages[i % 3](code) for i, (path, code) in enumerate(whole.items())}
    for path, code in damaged.items():
        path.write_bytes(code)
    assert result(python(STEP, NUMBA_CACHE_DIR=str(tmp_path))) == first
    assert not [path for path, code in damaged.items() if path.read_bytes() == code]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(whole)


def test_two_that_save_at_once_do_not_mix_their_code(tmp_path, monkeypatch):
    """One saves a kernel for its arguments while another saves it for others."""
    ours, theirs = (CodeFiles(str(tmp_path), "kernel", stamp=1) for _ in range(2))
    replace = Path.replace

    def meanwhile(self, target):
        monkeypatch.setattr(Path, "replace", replace)
        theirs.save("float64", "their code")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    ours.save("float32", "our code")
    for files in (ours, theirs):
        assert files.load("float32") == "our code"
        assert files.load("float64") == "their code"
    assert CodeFiles(str(tmp_path), "kernel", stamp=2).load("float32") is None


# --- code from the cache -------------------------------------------------------------------------


def test_parts_of_the_same_name_are_not_confused(monkeypatch):
    """Numba counts functions in each process: what two of them have cached may be named alike."""

    def made(place):
        monkeypatch.setattr(FunctionIdentity, "_unique_ids", itertools.count(1_000_000))

        @jit.kernel
        def part(x):
            y = np.sort(np.cumsum(x))  # too long to be inlined
            return np.sort(np.diff(y))[place] + np.sort(np.sort(np.cumsum(y)))[place]

        @njit(pipeline_class=jit._EntryCompiler)
        def run(x):
            return part(x) + part(2 * x)

        run(np.arange(3.0))
        return run

    least, most = made(0), made(-1)
    x = np.array([2.0, 5.0, 3.0])  # sums 2 7 10, their differences 3 5, their sums 2 9 19
    assert (least(x), most(x)) == (3 * (3 + 2), 3 * (5 + 19))


def home_of(value):
    """The module in which a kernel, or an intrinsic, is written; None for anything else."""
    written = getattr(value, "py_func", None) or getattr(value, "_defn", None)
    return getattr(written, "__module__", None)


COMPILERS = {"elementwise", "elementwise_gradient", "entry", "inlined", "kernel", "parallel"}


def test_kernels_are_compiled_anew_when_what_they_are_made_of_changes():
    """Numba watches a kernel's own file, and the cache those whose kernels others are made of."""
    watched = {path.stem for path in jit._FOUNDATION}
    for path in (PACKAGE / "kernels" / "cpu").glob("[a-z]*.py"):
        module = import_module(f"minitorch_ciml.kernels.cpu.{path.stem}")
        if COMPILERS & set(vars(module)):  # otherwise it only calls kernels, from Python
            homes = {home_of(value) for value in vars(module).values()}
            others = homes - {None, module.__name__}
            assert {home.rpartition(".")[2] for home in others} <= watched, path.name


def test_a_kernel_that_a_factory_made_watches_the_file_of_its_function(tmp_path):
    """The loop is written in `each`; the function of numbers is not."""
    path = tmp_path / "halves.py"
    path.write_text("def half(x):\n    return x / 2\n")
    specification = spec_from_file_location("halves", path)
    halves = module_from_spec(specification)
    specification.loader.exec_module(halves)
    stamps = set()
    for when in (1_000_000, 2_000_000):
        os.utime(path, (when, when))
        run = threads.parallel(lambda i, x: None, f"test.{when}", halves.half)
        stamps.add(run._cache._cache_file.stamp)
    assert len(stamps) == 2
