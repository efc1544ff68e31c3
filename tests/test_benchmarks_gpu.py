"""The GPU's benchmark runs, at tiny sizes in the simulator: its code is known to work."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda")

from benchmarks import gpu, gpu_parts, gpu_picture
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
    ("prepare", ["14 of 14 kernels compiled"]),
    ("matmul", [f"matmul 10x8 by 8x6, {p}" for p in ("float32", "3xTF32", "TF32", "bfloat16")]),
])  # fmt: skip
def test_part(name, titles):
    rows, notes = [], []
    PARTS[name].run(lambda **row: rows.append(row), notes.append, True, float("inf"))
    for title in titles:
        (row,) = [row for row in rows if row["what"].startswith(title)]
        assert row["seconds"] > 0
        # JAX computes on the CPU here: its code is known to work, too.
        has_peers = find_spec("jax") and title != "adam" and name != "prepare"
        assert not has_peers or "JAX" in row["peers"]
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
    def in_own_process(name, tiny, seconds, found):
        if name == "conv":
            found["error"] = "exit status 1"
        else:
            found["rows"] = [{"what": "fine", "seconds": 1e-3, "peers": {"peer": 2e-3}}]
        yield

    monkeypatch.setattr(gpu, "_in_own_process", in_own_process)
    path = tmp_path / "results.json"
    assert gpu.main(["--only", "conv", "matmul", "--output", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "conv (did not end well)" in shown
    assert "peer    2.00 ms (2.00x)" in shown
    assert json.loads(path.read_text())["parts"]["conv"]["error"]


def test_a_part_that_never_ends_is_ended_with_what_it_has_started(tmp_path, monkeypatch):
    """What it told until then is in the file all the time."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/__init__.py").touch()
    (tmp_path / "benchmarks/gpu.py").write_text(
        "import json, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('row', json.dumps({'what': 'child', 'value': child.pid}), flush=True)\n"
        "print('row {', end='', flush=True)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "_LOOK", 0.1)
    monkeypatch.setattr(gpu, "_GRACE", 1.0)
    found = {}
    looks = list(gpu._in_own_process("matmul", False, 1.0, found))
    assert len(looks) > 5 and "not done after 2 s" in found["error"]
    ((title, child),) = [(row["what"], row["value"]) for row in found["rows"]]
    assert title == "child" and found["seconds"] < 10
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] in "ZX"


def test_what_fails_is_noted_and_the_rest_goes_on(monkeypatch):
    calls = []

    def contest(contestants, wait, tiny):
        calls.append(contestants)
        if len(calls) == 2:
            raise MemoryError("the GPU is out of memory")
        return dict.fromkeys(contestants, 1.0)

    monkeypatch.setattr(gpu_parts, "contest", contest)
    rows, notes = [], []
    PARTS["matmul"].run(lambda **row: rows.append(row), notes.append, True, float("inf"))
    assert len(rows) == 3
    assert "matmul 10x8 by 8x6, 3xTF32: MemoryError: the GPU is out of memory" in notes
