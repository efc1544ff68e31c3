"""The house: imports run one way, `import minitorch_ciml` is light, and it is quick."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import minitorch_ciml
from minitorch_ciml import Op

PACKAGE = Path(minitorch_ciml.__file__).parent

# A module may import from its own layer and from those before it.
LAYERS = [
    "_version", "config", "kernels", "autograd", "ops", "datasets", "distributed", "keras",
    "compat", "viz", "top",
]  # fmt: skip

# Imports inside functions that point upwards, on request of the user only.
EXCEPTIONS = {("autograd.graph", "viz"), ("keras.utils", "viz"), ("keras.visualization", "viz")}


def _layer(module: str) -> str:
    first = module.split(".")[0] if module else "top"
    return first if first in LAYERS else "top"


def _imports(path: Path) -> list[str]:
    """The modules of the package that a file imports, anywhere in it, without the prefix."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "minitorch_ciml":
                found += [alias.name for alias in node.names]
            elif node.module.startswith("minitorch_ciml."):
                found.append(node.module.removeprefix("minitorch_ciml."))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found += [n.removeprefix("minitorch_ciml.") for n in names if "minitorch_ciml." in n]
    return found


def test_imports_run_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        if path.parent == PACKAGE and path.stem in ("__init__", "__main__", "info"):
            continue
        for imported in _imports(path):
            target = _layer(imported)
            if (module, target) in EXCEPTIONS or target == "top":
                continue
            if LAYERS.index(target) > LAYERS.index(_layer(module)):
                wrong.append(f"{module} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_the_walk_finds_a_wrong_import(tmp_path):
    source = "def f():\n    from minitorch_ciml.keras.layers import Dense\n"
    path = tmp_path / "engine.py"
    path.write_text(source)
    assert _imports(path) == ["keras.layers"]
    assert LAYERS.index(_layer("keras.layers")) > LAYERS.index(_layer("autograd.engine"))


def test_no_module_takes_what_another_one_calls_private():
    """But for the ops that a function of `ops` records: `_reshape` is the `Op` of `reshape`."""
    taken = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "minitorch_ciml."
            ):
                names = [a.name for a in node.names if a.name.startswith("_")]
                for name in (n for n in names if not n.startswith("__")):
                    if not isinstance(getattr(import_module(node.module), name), Op):
                        taken.append(f"{path.relative_to(PACKAGE)}: {node.module}.{name}")
    assert not taken, "\n".join(taken)


def _in_fresh_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_loads_nothing_heavy():
    heavy = "{'numba', 'matplotlib', 'h5py', 'rich', 'mpi4py'}"
    for module in ("minitorch_ciml", "minitorch_ciml.keras", "minitorch_ciml.viz"):
        loaded = _in_fresh_python(f"import sys, {module}; print({heavy} & set(sys.modules))")
        assert loaded == "set()", f"import {module} loads {loaded}"
