"""The GPU's benchmark runs, at tiny sizes in the simulator: its code is known to work."""

import json

import pytest

pytest.importorskip("numba_cuda")

from benchmarks import gpu
from benchmarks.gpu_parts import PARTS


def test_the_command_writes_a_file_and_prints_a_table(tmp_path, capsys):
    path = tmp_path / "results.json"
    assert gpu.main(["--tiny", "--only", "environment", "launches", "--output", str(path)]) == 0
    report = json.loads(path.read_text())
    rows = {row["what"]: row for part in report["parts"].values() for row in part["rows"]}
    assert rows["GPU"]["value"] == "simulated GPU"
    assert rows["100 additions, a graph"]["seconds"] > 0
    shown = capsys.readouterr().out
    assert "== launches" in shown and "a + b, 256 numbers" in shown


@pytest.mark.parametrize("name, titles", [
    ("conv", ["conv ", "conv_input_grad ", "conv_kernel_grad "]),
    ("bandwidth", ["softmax", "adam"]),
    ("models", ["xor, batch 4"]),
])  # fmt: skip
def test_part(name, titles):
    rows, notes = [], []
    PARTS[name].run(lambda **row: rows.append(row), notes.append, True, float("inf"))
    for title in titles:
        (row,) = [row for row in rows if row["what"].startswith(title)]
        assert row["seconds"] > 0
    assert all("Error" not in text for text in notes), notes


def test_a_part_that_fails_loses_itself_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "_in_own_process", lambda name, *rest: (
        {"rows": [], "notes": [], "seconds": 1.0, "error": "exit status 1"}
        if name == "conv" else
        {"rows": [{"what": "fine", "seconds": 1e-3, "peers": {"peer": 2e-3}}], "notes": ["hm"]}
    ))  # fmt: skip
    path = tmp_path / "results.json"
    assert gpu.main(["--only", "conv", "matmul", "--output", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "conv (did not end well)" in shown
    assert "peer    2.00 ms (2.00x)" in shown
    assert json.loads(path.read_text())["parts"]["conv"]["error"]
