"""What a user meets in an editor: every public module lists its names, and nothing else."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import minitorch_ciml
from minitorch_ciml import Scalar, Tensor, keras
from minitorch_ciml.ops.methods import METHODS

APPLICATIONS = [
    name for name in keras.applications.__all__
    if isinstance(getattr(keras.applications, name), ModuleType)
]  # fmt: skip
MODULES = [
    "", "autograd", "compat.horovod", "datasets", "distributed", "keras", "ops", "ops.image",
    "ops.random", "viz",
    *(f"keras.{name}" for name in keras.__all__ if isinstance(getattr(keras, name), ModuleType)),
    *(f"keras.applications.{name}" for name in APPLICATIONS),
    *(f"keras.ops.{name}" for name in ("image", "linalg", "nn", "numpy")),
    "keras.optimizers.schedules", "keras.preprocessing.image", "keras.preprocessing.sequence",
]  # fmt: skip
# They make their functions from a table; editors see those of `minitorch_ciml.ops`.
FROM_A_TABLE = {f"keras.ops.{n}" for n in ("image", "linalg", "nn", "numpy")}


def _import(name: str) -> ModuleType:
    return import_module(f"minitorch_ciml.{name}".rstrip("."))


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_shows_its_public_names_only(name):
    module = _import(name)
    shown = dir(module)
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) <= set(shown)
    for public in shown:
        thing = getattr(module, public)
        # What is shown beside `__all__` is a public module, such as `ops.image`.
        assert public in module.__all__ or f"{name}.{public}" in MODULES
        if isinstance(thing, ModuleType):
            assert thing.__name__.startswith("minitorch_ciml.")


@pytest.mark.parametrize("name", [n for n in MODULES if n not in FROM_A_TABLE])
def test_tools_that_only_read_the_code_find_the_names(name):
    """Editors and type checkers understand lists of strings and `+= module.__all__`."""
    for node in ast.parse(Path(_import(name).__file__).read_text()).body:
        if isinstance(node, ast.AugAssign) and ast.unparse(node.target) == "__all__":
            assert ast.unparse(node.value).endswith(".__all__")
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            assert all(isinstance(item, str) for item in ast.literal_eval(node.value))


def test_names_of_keras_modules_are_keras_names():
    peer = pytest.importorskip("keras")
    own = {"DistributedProfiler", "RowLoader", "MobileNetV3Large", "MobileNetV3Small"}
    for name in [m for m in MODULES if m.startswith("keras.") and m != "keras.ops"]:
        place = peer
        for part in name.split(".")[1:]:
            place = getattr(place, part)
        module = _import(name)
        theirs = {n for n in dir(place) if not n.startswith("_") and hasattr(module, n)}
        assert theirs <= set(dir(module)), f"{name}.__all__ lacks some"
        extra = set(module.__all__) - set(dir(place)) - own
        if name == "keras.metrics":  # Keras has the functions of most losses here, we of all
            extra -= set(keras.losses.__all__)
        assert not extra - {"accuracy"}, name


CLASSES = [
    getattr(module, name) for module in (keras.layers, keras.optimizers) for name in module.__all__
    if isinstance(getattr(module, name), type)
]  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_help_shows_all_arguments(cls):
    """Also those that go to a base, under the names and with the defaults that Keras has."""
    ours = inspect.signature(cls).parameters
    assert not any(p.kind is p.VAR_KEYWORD for p in ours.values())
    peer = getattr(pytest.importorskip("keras").layers, cls.__name__, None)
    if peer is not None:
        theirs = inspect.signature(peer.__init__).parameters
        for name in theirs.keys() & ours.keys() - {"self"}:
            if isinstance(theirs[name].default, (str, bool, int)):
                assert ours[name].default == theirs[name].default, name


@pytest.mark.parametrize("cls", [Tensor, Scalar])
def test_editors_see_what_is_installed_later(cls):
    """The block `if TYPE_CHECKING:` of a class declares it, and nothing that is not there."""
    module = ast.parse(Path(inspect.getsourcefile(cls)).read_text())
    (body,) = [n.body for n in module.body if getattr(n, "name", None) == cls.__name__]
    (block,) = [n for n in body if isinstance(n, ast.If)]
    declared = {n.name for n in block.body if isinstance(n, ast.FunctionDef)}
    declared |= {n.target.id for n in block.body if isinstance(n, ast.AnnAssign)}
    declared |= {t.id for n in block.body if isinstance(n, ast.Assign) for t in n.targets}
    assert all(hasattr(cls, name) for name in declared)
    assert cls is not Tensor or set(METHODS) <= declared


def test_a_type_checker_accepts_a_users_script(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(
        "from minitorch_ciml import Tensor, keras, ops\n"
        "from minitorch_ciml.keras import Sequential, layers\n"
        "from minitorch_ciml.keras.layers import Dense\n"
        "x = ops.matmul(Tensor([[1.0]]), keras.ops.ones((1, 1)))\n"
        "model = Sequential([keras.Input((1,)), layers.Dense(2, activation='relu'), Dense(1)])\n"
        "model.compile('adam', keras.losses.MeanSquaredError(), metrics=['mae'])\n"
        "losses: list[float] = model.fit([[1.0]], [[2.0]]).history['loss']\n"
        "total: Tensor = (2 * Tensor([1.0])).sum()\n"
        "print(keras.metrics.mean_squared_error(x, x), keras.ops.image.resize)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
         "--cache-dir", tmp_path / "cache", script],
        capture_output=True, text=True, cwd=Path(minitorch_ciml.__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
