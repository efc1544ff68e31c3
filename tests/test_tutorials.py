"""Every script in tutorials/ runs from beginning to end, and makes its pictures."""

import ast
import os
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
    surroundings = {
        **os.environ,
        "MPLBACKEND": "agg",
        "PYTHONPATH": str(ROOT),
        "TUTORIAL_PICTURES": str(tmp_path),
        "TUTORIAL_SAMPLES": "2000",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=tmp_path, env=surroundings, timeout=300,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    pictures = list(tmp_path.glob("*.png"))
    assert pictures and all(picture.stat().st_size > 1000 for picture in pictures)


def test_there_are_tutorials():
    assert [script.stem[:2] for script in TUTORIALS] == [f"{i:02}" for i in range(1, 10)]
    overview = (ROOT / "docs" / "index.md").read_text()
    assert all(f"(tutorials/{script.name})" in overview for script in TUTORIALS)
