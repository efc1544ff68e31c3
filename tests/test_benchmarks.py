"""The machinery of the benchmarks: statistics, workers, files, tables. No time is asserted."""

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import framework, machine, report, scalar_mlp, startup, summary, workloads
from benchmarks.__main__ import main
from benchmarks.framework import FRAMEWORKS, OURS, NotAvailable
from benchmarks.runner import Settings, add_shares, higher, run_group
from benchmarks.scalar_peer import Value
from benchmarks.worker import Service, Worker, WorkerError
from minitorch_ciml import Scalar, keras, ops

TINY = Settings(rounds=2, seconds=0.0, compiled=False, threads=1)
FORWARD = workloads.BY_NAME["scalar MLP, forward"]


# --- statistics ---------------------------------------------------------------------------------


def test_summary_has_median_and_quartiles():
    found = summary.summarise([4.0, 1.0, 2.0, 3.0, 5.0])
    assert found == {"median": 3.0, "q1": 2.0, "q3": 4.0, "least": 1.0, "rounds": 5}


def test_ratio_pairs_the_rounds():
    # The machine was ten times slower in the second round: the ratio does not see it.
    assert summary.ratio([2.0, 20.0], [1.0, 10.0])["median"] == 2.0
    assert summary.ratio([2.0, 20.0], [1.0, 10.0])["q3"] == 2.0


def test_best_mode_is_the_fastest_that_could_be_measured():
    modes = {
        "eager": {"seconds": {"median": 2.0}},
        "channels_last": {"seconds": {"median": 1.0}},
        "compile": {"unavailable": "no compiler"},
    }
    assert summary.best_mode(modes) == "channels_last"
    assert summary.best_mode({"compile": {"unavailable": "no compiler"}}) is None


def test_share_of_peak_is_the_roofline():
    peak = {"flops": 100.0, "bytes": 10.0}
    assert summary.share_of_peak(50.0, 0.0, 1.0, peak) == 0.5
    assert summary.share_of_peak(50.0, 8.0, 1.0, peak) == 0.8


# --- workloads ----------------------------------------------------------------------------------


def test_names_are_unique_and_groups_are_known():
    assert len(workloads.BY_NAME) == len(workloads.WORKLOADS)
    assert {w.group for w in workloads.WORKLOADS} <= set(report.GROUPS)


def test_arithmetic_of_the_cnn():
    layers = (26**2 * 9 * 16, 24**2 * 9 * 16 * 16, 2304 * 128, 1280)
    assert workloads.MODELS["cnn"].forward == tuple(2 * n for n in layers)
    assert workloads.MODELS["cnn"].training == 6 * sum(layers) - 2 * layers[0]


@pytest.mark.parametrize("name", workloads.MODELS)
def test_data_fit_the_model(name):
    workload = next(w for w in workloads.WORKLOADS if w.model == name and w.task in ("fit", "step"))
    x, y = workloads.make_data(workload)
    assert x.shape == (workload.batch, *workloads.MODELS[name].input)
    assert x.dtype == np.float32 and len(y) == len(x)


def test_initial_weights_are_glorots_and_always_the_same():
    w, b = workloads.initial_weights(((3, 3, 4, 8), (8,)))
    assert np.abs(w).max() <= (6 / (9 * 12)) ** 0.5 and not b.any()
    np.testing.assert_array_equal(w, workloads.initial_weights(((3, 3, 4, 8),))[0])


def test_cycle_gives_items_in_turn():
    following = workloads.cycle(["a", "b"])
    assert {following(), following()} == {"a", "b"}


# --- frameworks ---------------------------------------------------------------------------------


def test_scalar_engines_agree():
    results = []
    for number, tanh in ((Scalar, ops.tanh), (Value, Value.tanh)):
        weights = scalar_mlp.make_weights(number)
        loss = scalar_mlp.loss(weights, [number(0.1 * i) for i in range(4)], tanh)
        loss.backward()
        results.append([float(w.grad) for layer in weights for row in layer for w in row])
    assert any(results[0])
    np.testing.assert_allclose(*results, rtol=1e-12)


def test_nodes_are_those_that_the_engine_records():
    loss = scalar_mlp.loss(scalar_mlp.make_weights(Scalar), [Scalar(0.1)] * 4, ops.tanh)
    recorded, todo = set(), [loss]
    while todo:
        variable = todo.pop()
        if variable.record is not None and variable not in recorded:
            recorded.add(variable)
            todo += variable.record.inputs
    assert len(recorded) == scalar_mlp.nodes()


def float32_in_jax():
    """The tests of ops switch JAX to float64 for the whole process."""
    import jax

    return jax.enable_x64(False)


@pytest.mark.parametrize("peer", ["torch", "jax"])
@pytest.mark.parametrize("name", ["CNN, batch 32, step", "MLP, batch 128, step"])
def test_all_compute_the_same(peer, name):
    pytest.importorskip(peer, reason=f"the peer {peer} is not installed")
    from benchmarks import jax_peer, ours, torch_peer

    peers = {"torch": torch_peer.Torch, "jax": jax_peer.Jax}
    workload = workloads.BY_NAME[name]
    expected = ours.create().losses(workload, 3)
    assert expected[0] != expected[2]
    with float32_in_jax() if peer == "jax" else nullcontext():
        losses = peers[peer]().losses(workload, 3)
    # Adam's first steps divide by roots of tiny numbers, which enlarges rounding.
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_ready_made_networks_are_the_same(name):
    pytest.importorskip("torch", reason="the peer torch is not installed")
    from benchmarks.keras_models import build_model
    from benchmarks.torch_models import build_model as build_torch_model

    model, peer = build_model(keras, name, 1e-3), build_torch_model(name)
    assert sum(w.size for w in model.trainable_weights) == sum(w.numel() for w in peer.parameters())
    # The arithmetic of Keras' layers, of which the dense one is the last.
    total = 2 * model.layers[-1].kernel.size
    for layer in model.layers:
        if "Conv" in type(layer).__name__:
            total += 2 * np.prod(layer.output.shape[1:3]) * layer.kernel.size
    assert total == sum(workloads.MODELS[name].forward)


@pytest.mark.parametrize("name", [w.name for w in workloads.WORKLOADS if w.group == "h"])
def test_our_toys_run(name):
    framework.create(OURS).build(workloads.BY_NAME[name], "default")(1)


def test_a_task_that_a_framework_lacks_is_not_available():
    with pytest.raises(NotAvailable, match="has no task 'fit'"):
        framework.create("closures").build(workloads.BY_NAME["CNN, batch 32, fit"], "default")


# --- workers and runner -------------------------------------------------------------------------


def test_service_builds_runs_and_drops():
    service = Service("closures")
    assert service.modes(FORWARD.name) == ["default"]
    assert service.build(FORWARD.name, "default") > 0
    assert service.run("default", 3) > 0
    service.drop()
    with pytest.raises(KeyError):
        service.run("default", 1)


def test_worker_answers_and_tells_errors():
    worker = Worker("closures", machine.environment(1))
    try:
        assert worker.ask("build", workload=FORWARD.name, mode="default") > 0
        with pytest.raises(WorkerError, match="has no task 'fit'"):
            worker.ask("build", workload="CNN, batch 32, fit", mode="default")
        assert worker.ask("run", mode="default", units=2) > 0
    finally:
        worker.close()


def test_worker_that_ends_is_an_error(monkeypatch):
    unknown = FRAMEWORKS["closures"]._replace(module="nothing")
    monkeypatch.setitem(FRAMEWORKS, "closures", unknown)
    worker = Worker("closures", machine.environment(1))
    worker._process.kill()
    with pytest.raises(WorkerError, match="the process of closures ended: -9, without a word"):
        worker.ask("modes", workload=FORWARD.name)
    worker.close()


def test_environment_sets_threads_and_frees_openblas(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    variables = machine.environment(3)
    assert "OPENBLAS_CORETYPE" not in variables
    assert {variables[f"{n}_NUM_THREADS"] for n in ("OMP", "MKL", "OPENBLAS", "NUMBA")} == {"3"}


# --- report -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    """A report on the scalar engine, and on a peer that is not installed."""
    rows = [w for w in workloads.WORKLOADS if w.group == "l"]
    results = run_group(rows, TINY, lambda name: None)
    peak = {"flops": 1e9, "bytes": 1e9}
    results[0]["flop"] = 1e6
    results[1]["frameworks"]["torch"] = {"skipped": "torch is not installed", "best": None}
    add_shares(results, peak)
    return {
        "machine": machine.describe(1), "peak": peak, "results": results, "startup": {},
        "agreement": [{"name": "CNN", "losses": {}, "error": 1e-7}], "load_after": 0.5,
    }  # fmt: skip


def test_results_have_everybodys_times_and_ratios(measured):
    result = measured["results"][0]
    ours = result["frameworks"][OURS]["modes"]["default"]
    assert len(ours["samples"]) == ours["seconds"]["rounds"] == 2
    assert result["best_peer"] == "closures" and result["ratios"]["closures"]["median"] > 0
    share = result["frameworks"][OURS]["share"]
    assert share == pytest.approx(1e-3 / ours["seconds"]["median"])


def test_report_is_written_printed_and_drawn(measured, tmp_path, capsys):
    path = report.write_json(measured, tmp_path)
    assert json.loads(path.read_text())["results"][1]["name"] == "scalar MLP, backward"
    report.print_report(measured)
    printed = capsys.readouterr().out
    assert "scalar MLP, backward" in printed and "skipped" in printed
    assert "the losses differ by 1.0e-07" in printed
    (picture,) = report.draw_ratios(measured, path)
    assert picture == path.with_suffix(".svg") and "</svg>" in picture.read_text()


def test_what_is_not_available_is_listed_with_the_reason():
    entries = {"eager": {}, "compile": {"unavailable": "no compiler"}}
    results = [{"name": "CNN", "frameworks": {"torch": {"modes": entries}, "jax": {}}}]
    expected = ["CNN: torch (compile) is not available: no compiler"]
    assert report.unavailable(results) == expected
    entries["compile"]["unavailable"] = framework.LEFT_OUT
    assert report.unavailable(results) == []


def test_the_higher_peak_counts():
    assert higher({"flops": 2.0, "bytes": 1.0}, {"flops": 1.0, "bytes": 3.0}) == {
        "flops": 2.0, "bytes": 3.0,
    }  # fmt: skip


def test_startup_table_shows_everybody(capsys):
    keys = ("import", "cold", "warm", "memory_cnn", "memory_cifar")
    found = {key: summary.summarise([2.0]) for key in keys} | {"size": {"numpy": 2_000_000}}
    table = report.startup_table({OURS: found, "torch": {"skipped": "not installed"}})
    assert table.row_count == 2


@pytest.mark.parametrize(
    "seconds, text", [(2.5, "2.5 s"), (0.0025, "2.5 ms"), (2.5e-6, "2.5 us"), (2.5e-9, "2.5 ns")]
)
def test_times_have_units(seconds, text):
    assert report.seconds_text(seconds) == text


def test_installed_size_follows_dependencies():
    sizes = startup.installed_size((OURS,))
    assert {"minitorch-ciml", "numpy", "numba", "llvmlite"} <= set(sizes)
    assert sizes["llvmlite"] > 10**6
    assert startup._normal("Jinja2>=3; python_version > '3'") == "jinja2"


def test_unknown_group_is_refused():
    with pytest.raises(SystemExit, match="there is no 'z'; expected some of a,b"):
        main(["--only", "z"])


def test_unknown_peer_is_refused():
    with pytest.raises(SystemExit, match="there is no 'tensorflow'; expected some of torch,jax"):
        main(["--peers", "tensorflow"])


def test_a_mode_that_cannot_be_built_costs_itself_only(monkeypatch):
    def without_compiler(worker, do, **arguments):
        if worker.name == "closures" and do == "modes":
            return ["default", "compile"]
        if arguments.get("mode") == "compile":
            raise WorkerError("InductorError: there is no C++ compiler")
        return ask(worker, do, **arguments)

    ask = Worker.ask
    monkeypatch.setattr(Worker, "ask", without_compiler)
    (result,) = run_group([FORWARD], replace(TINY, compiled=True), lambda name: None)
    assert result["frameworks"]["closures"]["best"] == "default"
    assert result["best_peer"] == "closures"
    (line,) = report.unavailable([result])
    assert line.endswith("closures (compile) is not available: "
                         "InductorError: there is no C++ compiler")  # fmt: skip
    (result,) = run_group([FORWARD], TINY, lambda name: None)
    assert report.unavailable([result]) == []  # left out, which is not worth a line


def test_quick_runs_have_all_windows_and_channels():
    shapes = {
        (w.sizes["kernel"], w.sizes["channels"])
        for w in workloads.WORKLOADS
        if w.quick and w.model == "conv_kernel_grad"
    }
    assert {(k, c) for k in (1, 3, 5) for c in (16, 32, 64, 128, 256)} <= shapes


def test_a_worker_that_dies_costs_its_result_only(monkeypatch):
    def fragile(worker, do, **arguments):
        if worker.name == "closures" and do == "run" and arguments["units"] > 0:
            worker._process.kill()
        return ask(worker, do, **arguments)

    ask = Worker.ask
    monkeypatch.setattr(Worker, "ask", fragile)
    rows = [w for w in workloads.WORKLOADS if w.group == "l"]
    for result in run_group(rows, TINY, lambda name: None):
        entries = result["frameworks"]
        assert "ended: -9" in entries["closures"]["modes"]["default"]["unavailable"]
        assert entries[OURS]["best"] == "default" and result["best_peer"] is None
