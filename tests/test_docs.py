"""The documentation: complete, linked, and its examples run."""

import ast
import contextlib
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import minitorch_ciml
from minitorch_ciml import autograd, datasets, keras, ops, viz
from minitorch_ciml.__main__ import main
from minitorch_ciml.compat import horovod

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PACKAGE = ROOT / "minitorch_ciml"
PAGES = sorted(
    page for page in DOCS.rglob("*.md") if "_build" not in page.parts and page.name != "index.md"
)


PUBLIC = [
    minitorch_ciml, autograd, ops, viz, datasets, keras, horovod,
    *(getattr(keras, name) for name in (
        "activations", "callbacks", "config", "constraints", "distribution", "initializers",
        "layers", "losses", "metrics", "models", "optimizers", "random", "regularizers", "saving",
        "utils",
    )),
]  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_name_says_what_it_is(module):
    names = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    things = {name: getattr(module, name) for name in names}
    own = {name: x for name, x in things.items()
           if (inspect.isclass(x) or inspect.isfunction(x))
           and x.__module__.startswith("minitorch_ciml")}  # fmt: skip
    assert own
    # A class' own words, not those that it inherits.
    silent = [name for name, x in own.items() if len((x.__doc__ or "").split()) < 2]
    for name, x in own.items():
        for method, function in vars(x).items() if inspect.isclass(x) else ():
            if not method.startswith("_") and inspect.isfunction(function):
                if not inspect.getdoc(getattr(x, method)):
                    silent.append(f"{name}.{method}")
    assert sorted(set(silent)) == []


@pytest.mark.parametrize("name", sorted(ops.__all__))
def test_every_public_op_says_what_it_does(name):
    thing = getattr(ops, name)
    doc = inspect.getdoc(thing) or ""
    assert doc != inspect.getdoc(type(thing)), f"{name} has no description of its own"
    assert "=" in doc or len(doc.split()) >= 3, f"{name}: {doc!r} says too little"


@pytest.mark.parametrize("script", TUTORIALS, ids=lambda script: script.stem)
def test_every_tutorial_is_a_page(script):
    assert "tutorials/*" in (DOCS / "index.md").read_text()  # the glob that lists them all
    cells = re.split(r"^# %%.*$", script.read_text(), flags=re.M)
    assert re.match(r"\s*# # \d+\. \w", cells[1]), "a tutorial begins with a cell that has a title"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_is_in_the_table_of_contents(page):
    entry = str(page.relative_to(DOCS).with_suffix(""))
    assert re.search(rf"^{entry}$", (DOCS / "index.md").read_text(), re.M)


@pytest.mark.parametrize("page", [README, DOCS / "index.md", *PAGES], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    made = {DOCS / "tutorials" / script.name for script in TUTORIALS}
    made |= {DOCS / "reference/ops", DOCS / "reference/gpu"}
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        path = (page.parent / target).resolve()
        assert path in made or path.exists() or path.with_suffix(".md").exists(), target


@pytest.mark.parametrize("page", [README, CONTRIBUTING, *PAGES], ids=lambda page: page.stem)
def test_files_that_are_named_exist(page):
    for name in re.findall(r"[a-z][\w/]*/\w+\.py\b", page.read_text()):
        assert any((root / name).exists() for root in (ROOT, PACKAGE, PACKAGE / "kernels")), name


def test_the_map_of_the_cpu_kernels_has_them_all():
    files = {path.name for path in (PACKAGE / "kernels" / "cpu").glob("[a-z]*.py")}
    table = (DOCS / "guide" / "kernels.md").read_text().partition("on the CPU\n\nNumba")[2]
    named = re.findall(r"`(\w+\.py)`", table)
    assert sorted(named) == sorted(files)


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """A mnist.npz of noise, for examples that load MNIST."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 64), ("test", 32)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, 28, 28), dtype="uint8")
        arrays[f"y_{split}"] = rng.integers(0, 10, n, dtype="uint8")
    file = tmp_path_factory.mktemp("digits") / "mnist.npz"
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize(
    "page",
    [
        README,
        *(
            DOCS / f"{name}.md"
            for name in (
                "index",
                "quickstart",
                "keras",
                "guide/data",
                "guide/ops",
                "guide/debugging",
            )
        ),
    ],
    ids=lambda page: page.stem,
)
def test_examples_run(page, tmp_path, monkeypatch, capsys, few_digits):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINITORCH_CIML_DATA", str(few_digits))
    examples = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    assert examples
    names: dict = {}  # a page's examples follow each other
    for example in examples:
        exec(example, names)


@pytest.mark.parametrize("page", [README, *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.stem)
def test_examples_name_what_exists(page):
    """Also those that need a GPU, several processes or a file: they are Python, with true names."""
    modules = {"keras": keras, "ops": ops, "viz": viz, "hvd": horovod, "datasets": datasets}
    for example in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S):
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.Attribute):
                path = ast.unparse(node).split(".")
                thing = modules.get(path[0])
                for name in path[1:] if thing is not None else ():
                    assert hasattr(thing, name), ast.unparse(node)
                    thing = getattr(thing, name)
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("minitorch_ciml"):
                module = import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        import_module(f"{node.module}.{alias.name}")


OPTIONS = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@pytest.mark.parametrize("page", [README, DOCS / "quickstart.md"], ids=lambda page: page.stem)
def test_options_of_the_command_line_exist(page, capsys):
    said = set(OPTIONS.findall(page.read_text())) - {"--help"}
    for command in ([], ["train"], ["evaluate"], ["info"], ["bench"]):
        with contextlib.suppress(SystemExit):
            main([*command, "--help"])
    assert said <= set(OPTIONS.findall(capsys.readouterr().out))


def test_what_the_keras_page_says_is_there():
    text = (DOCS / "keras.md").read_text().partition("## What is there\n")[2].partition("\n## ")[0]
    places = [
        keras, keras.Model, keras.layers, keras.layers.Normalization, keras.optimizers,
        keras.callbacks, keras.models, keras.datasets, keras.utils, keras.visualization,
    ]  # fmt: skip
    # Not keras.ops, arguments, suffixes of files, or what PyTorch has.
    names = set(re.findall(r"`([A-Za-z]\w*)`", text)) - {"call", "DataLoader"}
    assert len(names) > 60
    assert not [name for name in names if not any(hasattr(place, name) for place in places)]


def test_site_builds_without_warnings(tmp_path):
    for package in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(package)
    # The scripts themselves are run by test_tutorials.
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-D", "nb_execution_mode=off",
         "-d", tmp_path / "doctrees", DOCS, tmp_path / "html"],
        check=True, timeout=300,
    )  # fmt: skip
    assert (tmp_path / "html" / "tutorials" / "01_scalar_engine.html").exists()
