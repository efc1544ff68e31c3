"""Every script in tutorials/ runs from beginning to end, and makes its pictures."""

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))


def needs(script: Path) -> set[str]:
    """The packages that a script imports."""
    found = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("script", TUTORIALS, ids=lambda script: script.stem)
def test_tutorial_runs(script, tmp_path):
    absent = sorted(name for name in needs(script) if find_spec(name) is None)
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    if "kernels.cuda" in script.read_text():
        pytest.importorskip("numba_cuda")
    surroundings = {
        **os.environ,
        "MPLBACKEND": "agg",
        "PYTHONPATH": str(ROOT),
        "TUTORIAL_PICTURES": str(tmp_path),
        "TUTORIAL_SAMPLES": "2000",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=tmp_path, env=surroundings, timeout=600,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    pictures = list(tmp_path.glob("*.png"))
    assert pictures and all(picture.stat().st_size > 1000 for picture in pictures)


IN_KERAS = {
    r"^(from minitorch_ciml import .*), grad\b": r"import torch\n\1",
    r"^(from minitorch_ciml import .*), keras\b": r"import keras\n\1",
    r"from minitorch_ciml\.keras": "from keras",
    # Gradients belong to Keras' backend, here PyTorch.
    r"grad\(loss, model\.trainable_weights\)": (
        "torch.autograd.grad(loss, [w.value for w in model.trainable_weights])"
    ),
    r"(def memory\(layer\):\n.*?\n    x = )Tensor\(": r"\1__import__('torch').tensor(",
    r"^keras\.utils\.plot_model\(.*$": "",  # needs Graphviz
}
# Runs scripts in Keras, each in a copy of one process that has imported what they need: that takes
# longer than they do. `assert` is left out, as what a tutorial claims of trainings is not asserted.
RUN_IN_KERAS = """
import inspect
import sys
from multiprocessing import get_context
from pathlib import Path

import keras
import matplotlib.pyplot
import torch

from minitorch_ciml import datasets, viz

fit = keras.Model.fit


def fit_little(self, *args, **kwargs):
    given = inspect.signature(fit).bind(self, *args, **kwargs).arguments
    return fit(**given | {"x": given["x"][:64], "y": given["y"][:64], "epochs": 1})


def run(script):
    exec(compile(Path(script).read_text(), script, "exec", optimize=1), {"__name__": "__main__"})


keras.Model.fit = fit_little
failed = []
for script in sys.argv[1:]:
    process = get_context("fork").Process(target=run, args=(script,))
    process.start()
    process.join()
    if process.exitcode:
        failed.append(Path(script).name)
sys.exit(f"failed in Keras: {', '.join(failed)}" if failed else 0)
"""


def test_tutorials_are_keras_scripts(tmp_path):
    """With another import line they run in Keras (what they claim of trainings is not asserted)."""
    for package in ("keras", "torch"):
        pytest.importorskip(package)
    for script in TUTORIALS[2:9]:
        source = script.read_text()
        for ours, theirs in IN_KERAS.items():
            source = re.sub(ours, theirs, source, flags=re.M)
        assert "minitorch_ciml.keras" not in source and "import keras" in source
        (tmp_path / script.name).write_text(source)
    surroundings = {
        **os.environ,
        "KERAS_BACKEND": "torch",
        "MPLBACKEND": "agg",
        "PYTHONPATH": str(ROOT),
        "TUTORIAL_PICTURES": str(tmp_path),
        "TUTORIAL_SAMPLES": "2000",
        "OMP_NUM_THREADS": "1",  # PyTorch's threads and those of tests beside it only wait
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN_IN_KERAS, *sorted(tmp_path.glob("*.py"))], cwd=tmp_path,
        env=surroundings, timeout=600, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_there_are_tutorials():
    assert [script.stem[:2] for script in TUTORIALS] == [f"{i:02}" for i in range(1, 11)]
    overview = (ROOT / "docs" / "index.md").read_text()
    assert all(f"(tutorials/{script.name})" in overview for script in TUTORIALS)
