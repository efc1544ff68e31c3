"""The cache of compiled kernels: many processes may fill the same empty one at the same time."""

import os
import subprocess
import sys

PROCESSES = 4

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


def start(cache):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", STEP], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def result(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return output


def files(cache):
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.nb?")}


def test_processes_that_start_at_once_share_an_empty_cache(tmp_path):
    first, *others = [result(p) for p in [start(tmp_path) for _ in range(PROCESSES)]]
    assert others == [first] * (PROCESSES - 1)
    filled = files(tmp_path)
    assert filled
    assert not list(tmp_path.rglob("tmp*"))  # files are written beside and then put in place
    assert result(start(tmp_path)) == first  # what they left is whole
    assert files(tmp_path) == filled  # and was all that was needed
