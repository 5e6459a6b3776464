"""bench/: workers take turns and must agree; every question can be asked. Nothing is timed."""

import ast
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

QUESTION = """
import os
from bench.turns import Case, normal

def cases(*, quick=False):
    return [Case("sum", "total", normal((4, 5)), {"scale": 2.0}), Case("none", "absent", normal())]
"""
SIDE = """
import os

def total(x, scale):
    def run():
        os.write(LOG, NAME)
        return [SCALE * scale * x.sum(axis=1)]
    return run, lambda: os.write(LOG, b".")

NAME, SCALE = {name!r}, {scale}
LOG = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print("what a library prints is no answer")
"""


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("bench.turns")


@pytest.fixture
def workers(turns, tmp_path, monkeypatch):
    """Return what starts two workers of a trivial question, as (ours, peer)."""
    (tmp_path / "easy.py").write_text(QUESTION)
    log = str(tmp_path / "log")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def start(scale=1.0):
        for name, factor in (("a", 1.0), ("b", scale)):
            text = SIDE.format(name=name.encode(), scale=factor, log=log)
            (tmp_path / f"side_{name}.py").write_text(text)
        return [turns.Worker(sys.executable, "easy", f"side_{name}") for name in "ab"]

    start.log = Path(log)
    return start


@pytest.fixture
def case(turns):
    return turns.Case("sum", "total", turns.normal((4, 5)), {"scale": 2.0})


def test_workers_take_turns_and_the_rounds_ratios_are_kept(turns, workers, case):
    ours, peer = workers()
    with ours, peer:
        figure = turns.compare(case, 0, (ours, peer), "b", quick=True)
    assert len(figure.ratios) == turns.QUICK_ROUNDS
    assert min(figure.ratios) <= figure.ratio <= max(figure.ratios)
    # One call each to begin with, one measured to choose the repeats, then the rounds.
    calls = workers.log.read_text()
    assert calls.replace(".", "").startswith("ab")
    assert calls.count(".") == calls.count("a") + calls.count("b")  # each call is reset
    changes = sum(x != y for x, y in zip(calls[1::2], calls[3::2], strict=False))
    assert changes == 2 * (2 + turns.QUICK_ROUNDS) - 1


def test_sides_that_disagree_are_not_timed(turns, workers, case):
    ours, peer = workers(scale=1.001)
    with ours, peer, pytest.raises(turns.WorkerError, match=r"sum: results differ by 0\.001"):
        turns.compare(case, 0, (ours, peer), "b", quick=True)
    assert workers.log.read_text() == ".a.b"


def test_a_result_that_is_nan_or_of_another_shape_does_not_agree(turns):
    for other in (np.array([1.0, np.nan]), np.ones(3), np.ones((2, 1))):
        assert not turns.greatest_error([np.ones(2)], [other]) <= 1


def test_what_fails_in_a_worker_is_raised_here_and_the_worker_goes_on(turns, workers, tmp_path):
    ours, peer = workers()
    with ours, peer:
        with pytest.raises(turns.WorkerError, match=r"side_a: AttributeError: .*'absent'"):
            ours.ask("begin", number=1, quick=True, file=str(tmp_path / "results"))
        ours.ask("begin", number=0, quick=True, file=str(tmp_path / "results.npz"))


def test_a_worker_that_ends_is_reported(turns, workers):
    with turns.Worker(sys.executable, "easy", "side_a") as worker:
        worker._process.kill()
        with pytest.raises(turns.WorkerError, match="ended with exit code -9"):
            worker.ask("measure", repeats=1)


def test_figures_fit_the_table(turns):
    table = importlib.import_module("bench.__main__")
    figure = turns.Figure.of_rounds("a", "b", [2.0, 4.0, 2.0], [4.0, 4.0, 6.0])
    assert table.cells(figure) == ["a", "b", "2 ms", "4 ms", "2", "1 - 3"]
    assert table.cells(turns.Figure("a", 12_345.6)) == ["a", "", "12.3 s", "", "", ""]
    assert table.cells(turns.Figure("a", 0.0123))[2] == "12.3 us"
    assert table.cells(turns.Figure("a", 1234, unit="bytes"))[2] == "1,234 bytes"
    alone = turns.Figure("a", 0.5, "b", 2e7, (4.0,), "ulp")
    assert table.cells(alone) == ["a", "b", "0.5 ulp", "2e+07 ulp", "4", ""]


def test_accuracy_is_measured_by_the_last_place_of_exact_numbers(turns):
    accuracy = importlib.import_module("bench.accuracy")
    found = np.array([1, 1.5, 1e-45, np.inf], np.float32)
    exact = np.array([1, 1.5, 2.8e-45, 1e39], np.longdouble)  # 1e39 overflows
    assert round(accuracy.in_last_places(found, (exact, exact)), 2) == 1
    exact[:2] -= np.array([0.25, 0.5], np.longdouble) * 2.0**-23
    assert round(accuracy.in_last_places(found[:2], (exact[:2], exact[:2])), 2) == 0.5
    assert accuracy.in_last_places(found, (np.ones(4), np.ones(4))) == np.inf
    assert accuracy.in_eps_of_largest(found[:2], np.array([1 + 2.0**-22, 2])) == 2.0**21


@pytest.mark.parametrize("name", ["tanh", "erf", "gelu", "silu", "softplus", "log1p", "gelu_gate"])
def test_exact_derivatives_are_those_of_exact_values(turns, name):
    exact = importlib.import_module("bench.exact")
    step = exact.WIDE(2) ** -16
    operands = [np.linspace(0.1, 3, 31).astype(exact.WIDE) * sign for sign in (1, -0.3)]
    operands = operands[: 2 if name.endswith("_gate") else 1]
    function = getattr(exact, name)
    for i in range(len(operands)):
        up, down = (
            [x + sign * step * (i == j) for j, x in enumerate(operands)] for sign in (1, -1)
        )
        wanted = (function(*up)[0] - function(*down)[0]) / (2 * step)
        slope = function(*operands)[1 + i]
        slope = slope[0] if isinstance(slope, tuple) else slope
        assert np.abs(slope - wanted).max() < 2 * float(step) ** 2


def names():
    files = sorted((ROOT / "bench").glob("*.py"))
    tools = {"__init__", "__main__", "bits_per_byte", "exact", "machine", "probes", "turns"}
    tools |= {"layers", "memory", "worker"}
    return [file.stem for file in files if file.stem not in tools]


def test_the_command_knows_every_question(turns):
    assert sorted(importlib.import_module("bench.__main__").NAMES) == names()


def defined(node):
    """Return what a statement of a module gives a name to."""
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


@pytest.mark.parametrize("name", names())
def test_every_question_can_be_imported_and_lists_what_both_sides_can_do(turns, name):
    question = importlib.import_module(f"bench.{name}")
    if not hasattr(question, "cases"):
        assert callable(question.run)
        return
    peer = ast.parse((ROOT / "bench" / "peers" / f"{name}.py").read_text())  # PyTorch is not here
    peers = {name for node in peer.body for name in defined(node)}
    ours = importlib.import_module(f"bench.ours.{name}")
    for quick in (False, True):
        cases = question.cases(quick=quick)
        assert cases
        assert len({case.what for case in cases}) == len(cases)
        for case in cases:
            assert case.name in peers
            assert callable(getattr(ours, case.name))
            assert 0 < case.tolerance < 0.05


@pytest.mark.slow
def test_layers_are_compared_in_a_table(turns, tmp_path, capsys):
    (tmp_path / "text").write_bytes(b"To be, or not to be, that is the question.\n" * 70)
    tiny = [
        *("--text", str(tmp_path / "text"), "--set=model.hidden_size=8"),
        *("--set=model.num_hidden_layers=1", "--set=data.context=16"),
    ]
    layers = importlib.import_module("bench.layers")
    layers.main(["--seconds", "0.1", "GRU", "Transformer", "--", *tiny])
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| model | parameters | bytes seen") and rule.count("-:|") == 4
    assert [row.split(" | ")[0] for row in rows] == ["| GRU", "| Transformer"]
    assert all(3 < float(row.split(" | ")[4].rstrip(" |")) < 9 for row in rows)


def test_layers_that_are_not_compared(turns, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module("bench.layers").main(["Elman"])
    assert "there is no Elman; there are Mamba, Mamba-2" in capsys.readouterr().err


def test_layers_are_compared_at_about_the_same_size(turns):
    settings = importlib.import_module("helixml.training").TrainConfig()
    make_model = importlib.import_module("helixml.training.byte_model").make_model
    rng = importlib.import_module("helixml").random.Rng(0)
    for name, changes in importlib.import_module("bench.layers").MODELS.items():
        words = [f"{key}={value}" for key, value in changes.items()]
        model = make_model(settings.with_assignments(words), rng)
        count = sum(parameter.size for parameter in model.parameters())
        assert 1.79e6 < count < 1.83e6, name
