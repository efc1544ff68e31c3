"""The GPU's benchmark runs, at tiny sizes in the simulator: its code is known to work."""

import json
from importlib.util import find_spec

import pytest

pytest.importorskip("numba_cuda")

from benchmarks import gpu, gpu_picture
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
    ("matmul", [f"matmul 10x8 by 8x6, {p}" for p in ("float32", "3xTF32", "TF32", "bfloat16")]),
])  # fmt: skip
def test_part(name, titles):
    rows, notes = [], []
    PARTS[name].run(lambda **row: rows.append(row), notes.append, True, float("inf"))
    for title in titles:
        (row,) = [row for row in rows if row["what"].startswith(title)]
        assert row["seconds"] > 0
        # JAX computes on the CPU here: its code is known to work, too.
        assert "JAX" in row["peers"] or not find_spec("jax") or title == "adam"
    if name == "models":
        assert {"ours, eager", "ours, TF32", "ours, mixed_bfloat16"} <= set(row["peers"])
    assert all("Error" not in text for text in notes), notes


def test_the_page_says_what_was_measured_or_that_nothing_was(tmp_path):
    picture = tmp_path / "gpu.svg"
    simulated = {"tiny": True, "date": "2026-01-01T00:00:00", "parts": {}}
    (tmp_path / "2026-01-02_gpu.json").write_text(json.dumps(simulated))
    assert "No GPU has measured" in "\n".join(gpu_picture.page(tmp_path, picture))
    assert not picture.exists()
    rows = [{"what": "GPU", "value": "A GPU"}]
    products = [{"what": "matmul", "seconds": 1e-3, "peers": {"cuBLAS": 8e-4, "JAX": 2e-3}}]
    for day, part in (("01", []), ("03", products), ("02", [])):
        report = {"tiny": False, "date": f"2026-01-{day}T00:00:00", "parts": {
            "environment": {"rows": rows, "notes": []}, "matmul": {"rows": part, "notes": []},
        }}  # fmt: skip
        (tmp_path / f"2026-01-{day}_gpu.json").write_text(json.dumps(report))
    page = "\n".join(gpu_picture.page(tmp_path, picture))
    assert "on 2026-01-03: A GPU." in page and "cuBLAS  800.00 us (0.80x)" in page
    assert picture.read_text().count("<svg") == 1


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
