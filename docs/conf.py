"""Sphinx: `sphinx-build -W docs docs/_build/html`. Needs `pip install -e '.[docs]'`, no network."""

import inspect
import os
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent

project = "minitorch_ciml"
author = "the minitorch_ciml contributors"
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "conf.py", "make_pictures.py"]
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["graphs.css"]
default_role = "code"  # docstrings write `x` for code
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# Tutorials are Python scripts in percent format; each becomes a page with its output and pictures.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds per cell, for a laptop that does other things, too
os.environ.setdefault("TUTORIAL_SAMPLES", "10000")  # of 60,000: minutes less, the same to see
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # pyplot's, too, on the page
# A warning in a tutorial is an error, as in the tests; one of Jupyter's about its future is not.
os.environ["PYTHONWARNINGS"] = "error,ignore::PendingDeprecationWarning"

shutil.copytree(
    ROOT / "tutorials", DOCS / "tutorials", dirs_exist_ok=True, ignore=lambda _, names: [
        name for name in names if not name.endswith(".py")
    ],
)  # fmt: skip


def _escaped(line: str) -> str:
    """A line of a docstring, with what reStructuredText would read as markup taken literally.

    Our docstrings are plain text with `code` and *emphasis*, and full of formulas: a ** b, |x|, x_.
    """
    parts = re.split(r"(``[^`]+``|`[^`]+`|(?<![\w*])\*[A-Za-z][\w ]*\*(?![\w*]))", line)
    return "".join(
        part if i % 2 else re.sub(r"(?<!\\)([*|]|_(?=\W|$))", r"\\\1", part)
        for i, part in enumerate(parts)
    )


def _escape_docstring(app, what, name, obj, options, lines) -> None:
    lines[:] = [line if line.lstrip().startswith(">>>") else _escaped(line) for line in lines]


def _signature(op) -> str:
    """The inputs of an op, read off its derivative rule: (g, y, *inputs, **params)."""
    rule = next((r for r in op.rules if r is not None), op.joint or op.ref)
    names = list(inspect.signature(rule).parameters)[0 if rule is op.ref else 2 :] if rule else []
    return ", ".join(name for name in names if name not in ("needs", "how")) or "..."


def _write_ops_page(app) -> None:
    """reference/ops.rst: every public op, by module, with its formula."""
    public = import_module("minitorch_ciml.ops")
    by_module: dict[str, list[str]] = {}
    for path in sorted((ROOT / "minitorch_ciml" / "ops").glob("[a-z]*.py")):
        module = import_module(f"minitorch_ciml.ops.{path.stem}")
        names = [n for n in getattr(module, "__all__", []) if n in public.__all__]
        by_module.setdefault(path.stem, []).extend(names)
    lines = [
        "Ops", "===", "",
        "All of these are in ``minitorch_ciml.ops``, but the last two families: those of images",
        "are in ``minitorch_ciml.ops.image``, and control flow is in ``keras.ops`` only.", "",
    ]  # fmt: skip
    for module, names in by_module.items():
        if names:
            lines += [module, "-" * len(module), ""]
        for name in sorted(names):
            thing = getattr(public, name)
            if inspect.isfunction(thing):
                lines += [f".. autofunction:: minitorch_ciml.ops.{name}", ""]
            elif hasattr(thing, "rules"):
                doc = [_escaped(line) for line in (inspect.getdoc(thing) or "").splitlines()]
                lines += [f".. py:function:: minitorch_ciml.ops.{name}({_signature(thing)})", ""]
                lines += [*(f"   {line}" for line in doc), ""]
    for title, place in (("image", "ops.image"), ("control flow", "keras.ops.control")):
        lines += [title, "-" * len(title), ""]
        for name in import_module(f"minitorch_ciml.{place}").__all__:
            lines += [f".. autofunction:: minitorch_ciml.{place}.{name}", ""]
    _write_page("ops", lines)


def _classes(module) -> list[str]:
    """The names of the classes that a module, or one below it, has for its users."""
    return sorted(
        name for name, thing in vars(module).items()
        if inspect.isclass(thing) and name == thing.__name__ and name[0].isupper()
        and thing.__module__.startswith(module.__name__)
    )  # fmt: skip


def _write_keras_page(app) -> None:
    """reference/keras.rst: every class of the Keras facade, by module."""
    lines = [
        "The Keras facade", "================", "",
        "Names and arguments are those of Keras 3, and so is what they mean: its documentation",
        "applies. ``from minitorch_ciml import keras`` first.", "",
    ]  # fmt: skip
    for title, place in (
        ("Models", "models"), ("Layers", "layers"), ("Losses", "losses"), ("Metrics", "metrics"),
        ("Optimizers", "optimizers"), ("Schedules", "optimizers.schedules"),
        ("Callbacks", "callbacks"), ("Initializers", "initializers"),
        ("Regularizers", "regularizers"), ("Constraints", "constraints"),
    ):  # fmt: skip
        module = import_module(f"minitorch_ciml.keras.{place}")
        lines += [title, "-" * len(title), ""]
        for name in _classes(module):
            lines += [f".. autoclass:: minitorch_ciml.keras.{place}.{name}", ""]
    _write_page("keras", lines)


def _write_gpu_page(app) -> None:
    """reference/gpu.rst: the newest results of `benchmarks.gpu`, if there are any."""
    sys.path.insert(0, str(ROOT))
    picture = import_module("benchmarks.gpu_picture")
    _write_page("gpu", picture.page(picture.RESULTS, DOCS / "_static" / "gpu.svg"))


def _write_page(name: str, lines: list[str]) -> None:
    """reference/<name>.rst, left alone where it says the same already: Sphinx looks at its date."""
    page = DOCS / "reference" / f"{name}.rst"
    text = "\n".join(lines)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def setup(app) -> None:
    app.connect("builder-inited", _write_ops_page)
    app.connect("builder-inited", _write_keras_page)
    app.connect("builder-inited", _write_gpu_page)
    app.connect("autodoc-process-docstring", _escape_docstring, priority=400)  # before napoleon
