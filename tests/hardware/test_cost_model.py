"""The cost model: what it learns from points, how it chooses, what the suite can be asked."""

import json
import math
from dataclasses import replace

import pytest

import helixml as hx
from helixml import hardware
from helixml.errors import DeviceError, ValueRangeError
from helixml.hardware import (
    CostModel,
    Measured,
    Spec,
    cost_model,
    operation,
    optimal,
    probes,
    suite,
)
from helixml.hardware.capabilities import Capabilities, cache_file
from helixml.hardware.memory import MemoryUse

RATE, BANDWIDTH, LATENCY = 1e11, 1e10, 1e-6
TOLD = Capabilities("cpu", "P", 2, (), (), "", BANDWIDTH, RATE, RATE / 2, LATENCY)


@pytest.fixture(autouse=True)
def told(monkeypatch, tmp_path):
    """Have devices measured already, and files of figures here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        cost_model, "capabilities", lambda device: replace(TOLD, device=str(device))
    )


def ideal(flops, count):
    return LATENCY + max(flops / RATE, count / BANDWIDTH)


def add(n):
    return operation("add", (n,), (n,))


def product(n):
    return operation("matmul", (n, n), (n, n))


def test_without_points_the_roofline_holds():
    model = CostModel("cpu", LATENCY, BANDWIDTH, RATE, RATE / 2, {})
    assert model.predict(add(1000)) == pytest.approx(ideal(1000, 12_000))
    assert model.predict(product(512)) == pytest.approx(ideal(2 * 512**3, 12 * 512**2))
    wide = operation("matmul", *[Spec((512, 512), "float64")] * 2)
    assert model.predict(wide) == pytest.approx(LATENCY + 2 * 512**3 / (RATE / 2))


def test_measured_points_are_met_and_between_them_lies_a_line():
    def slow(n):
        return ideal(n, 12 * n) * (2.0 if n < 5000 else 8.0)

    fitted = [Measured(add(n), slow(n)) for n in (1000, 100_000)]
    model = CostModel.fit_to("cpu", fitted)
    for n in (1000, 100_000):
        assert model.predict(add(n)) == pytest.approx(slow(n))
    low, high = math.log(ideal(1000, 12_000)), math.log(ideal(100_000, 1_200_000))
    middle = 10_000
    part = (math.log(ideal(middle, 12 * middle)) - low) / (high - low)
    expected = ideal(middle, 12 * middle) * 2.0 * 4.0**part
    assert model.predict(add(middle)) == pytest.approx(expected)
    assert model.predict(add(10)) == pytest.approx(2.0 * ideal(10, 120))  # flat beyond
    assert model.predict(add(10**6)) == pytest.approx(8.0 * ideal(10**6, 12 * 10**6))


def test_what_was_not_measured_is_as_slow_as_its_class_or_as_all():
    fitted = [
        *[Measured(add(n), 3.0 * ideal(n, 12 * n)) for n in (1000, 10_000)],
        *[Measured(product(n), 5.0 * ideal(2 * n**3, 12 * n * n)) for n in (256, 512)],
    ]
    model = CostModel.fit_to("cpu", fitted)
    assert model.predict(operation("exp", (1500,))) == pytest.approx(3.0 * ideal(1500, 12_000))
    assert model.predict(operation("concat", (99,), (99,))) > 0
    linear = operation("linear", (300, 300), (300, 300), None)
    assert model.predict(linear) == pytest.approx(5.0 * model.ideal(linear))


def test_the_error_is_that_of_points_that_were_not_fitted():
    fitted = [Measured(add(n), ideal(n, 12 * n)) for n in (1000, 100_000)]
    tested = [
        Measured(add(5000), 2.0 * ideal(5000, 60_000)),  # predicted half of it
        Measured(add(7000), 0.8 * ideal(7000, 84_000)),  # a quarter more
        Measured(add(9000), ideal(9000, 108_000)),
    ]
    model = CostModel.fit_to("cpu", fitted, tested)
    assert model.tested == 3
    assert model.error == pytest.approx((0.5 + 0.25 + 0.0) / 3)
    assert "error 25.0% on 3 points" in str(model)
    assert math.isnan(CostModel.fit_to("cpu", fitted).error)
    with pytest.raises(ValueRangeError, match="no point to fit on"):
        CostModel.fit_to("cpu", [])


def test_a_graph_costs_what_its_operations_do():
    model = CostModel("cpu", LATENCY, BANDWIDTH, RATE, RATE, {})
    graph = hardware.record(lambda x: hx.exp(x) + x @ x, hx.ones((8, 8)))
    parts = [model.predict(o) for o in graph.operations]
    assert model.predict(graph) == pytest.approx(sum(parts))
    path, seconds = graph.critical_path(model.predict)
    assert seconds == pytest.approx(max(parts[0], parts[1]) + parts[2])
    assert path[-1].op == "add"


def test_a_model_is_fitted_once_and_kept(monkeypatch):
    calls = []

    def seconds(call, device, *, budget):
        calls.append(device)
        return 1e-4

    monkeypatch.setattr(probes, "seconds", seconds)
    monkeypatch.setattr(suite, "FIT", (16, 64))
    monkeypatch.setattr(suite, "TEST", (50,))
    monkeypatch.setattr(suite, "ROWS", suite.ROWS[:3])
    monkeypatch.setattr(suite, "_STORE", 1 << 10)
    monkeypatch.setattr(cost_model, "ROUNDS", 1)
    first = CostModel.fit("cpu")
    assert len(calls) == 3 * len(suite.ROWS)
    assert first.tested == len(suite.ROWS)
    assert set(first.curves) >= {row.op for row in suite.ROWS}
    assert CostModel.fit("cpu") == first
    assert len(calls) == 3 * len(suite.ROWS)
    path = cache_file("cpu", "cost-model")
    for text in ("{", "[]", json.dumps({"curves": 3}), json.dumps({"curves": {}, "points": []})):
        path.write_text(text)
        assert CostModel.fit("cpu") == first
    assert len(calls) == 15 * len(suite.ROWS)
    with pytest.raises(DeviceError, match="no TPU backend"):
        CostModel.fit("tpu")


def test_slow_calls_end_a_row_and_the_least_time_counts(monkeypatch):
    times = iter([0.001, 0.1, 0.0005, 0.2])
    monkeypatch.setattr(probes, "seconds", lambda *_, **__: next(times))
    row = [suite.Point("exp", (hx.ones((n,)),), {}) for n in (1, 2, 3)]
    found = cost_model.measured("cpu", [row], rounds=2)
    assert [m.seconds for m in found.values()] == [0.0005, 0.1]
    assert [m.operation.outputs[0].shape for m in found.values()] == [(1,), (2,)]


@pytest.mark.parametrize("which", ["fit", "test"])
def test_every_point_of_the_suite_can_be_called(which, monkeypatch):
    monkeypatch.setattr(suite, "FIT", suite.FIT[:4])
    monkeypatch.setattr(suite, "TEST", suite.TEST[:2])
    monkeypatch.setattr(suite, "_STORE", 1 << 17)
    seen = set()
    for row in suite.points(which, "cpu"):
        for point in row:
            with hx.no_grad():
                point.call()()
                made = operation(point.op, *point.operands, **point.attributes)
            assert made.op == point.op
            seen.add((made.op, made.kind, *[spec.shape for spec in made.inputs if spec]))
    assert len({op for op, *_ in seen}) == len(suite.ROWS) == 20
    assert len({kind for _, kind, *_ in seen}) >= 7


def test_points_to_test_on_are_others_than_those_to_fit_on():
    assert not set(suite.FIT) & set(suite.TEST)
    assert sum(size <= row.most for row in suite.ROWS for size in suite.TEST) >= 50


# Choosing


def model(device, latency, rate, bandwidth=BANDWIDTH):
    return CostModel(device, latency, bandwidth, rate, rate, {})


MODELS = {"cpu": model("cpu", 1e-5, 1e12), "reference": model("reference", 1e-6, 1e9)}


def test_the_device_with_the_shortest_time_is_chosen():
    choose = {"among": list(MODELS), "models": MODELS}
    assert optimal("matmul", (4, 4), (4, 4), **choose).name == "reference"
    assert optimal("matmul", (64, 64), (64, 64), **choose).name == "cpu"
    made = product(64)
    times = hardware.estimates(made, list(MODELS), MODELS)
    assert times == {name: m.predict(made) for name, m in MODELS.items()}
    assert optimal(made, **choose).name == min(times, key=times.get)


def test_devices_without_the_dtype_are_not_chosen():
    halves = [Spec((4, 4), "bfloat16")] * 2
    models = {**MODELS, "array_api_strict": model("array_api_strict", 1e-9, 1e15)}
    among = [name for name in models if name in {d.name for d in hx.devices()}]
    assert optimal("matmul", *halves, among=among, models=models).name == "reference"
    with pytest.raises(DeviceError, match=r"no device of none computes with float32"):
        optimal("matmul", (4, 4), (4, 4), among=[], models=models)


def test_strategies_weigh_memory(monkeypatch):
    free = {}
    monkeypatch.setattr(
        "helixml.hardware.catalogue.memory",
        lambda device: MemoryUse(device, 0, 0, 10**9, free[device]),
    )

    def chosen(strategy, **left):
        free.update(left)
        return optimal(
            *("matmul", (64, 64), (64, 64)),
            among=list(MODELS),
            models=MODELS,
            strategy=strategy,
        ).name

    needs = 3 * 64 * 64 * 4
    assert chosen("performance", cpu=needs, reference=10**9) == "cpu"
    assert chosen("balanced", cpu=needs, reference=10**9) == "reference"
    assert chosen("balanced", cpu=2 * needs, reference=10**9) == "cpu"
    assert chosen("balanced", cpu=needs, reference=needs) == "cpu"
    assert chosen("memory", cpu=10**8, reference=10**9) == "reference"
    assert chosen("memory", cpu=10**9, reference=10**9) == "cpu"  # then the time decides
    assert chosen("performance", cpu=needs - 1, reference=needs) == "reference"
    assert chosen("performance", cpu=None, reference=0) == "cpu"  # not told: it may have it
    with pytest.raises(DeviceError, match=r"matmul needs 49,152 bytes, and no device"):
        chosen("performance", cpu=0, reference=0)
    with pytest.raises(ValueRangeError, match="strategy is 'fast'"):
        optimal("exp", (3,), strategy="fast")


@pytest.mark.slow
def test_a_fitted_model_foresees_other_points(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = CostModel.fit("cpu", refresh=True)
    assert found.tested >= 50
    assert found.error < 0.6  # 0.08 where nothing else runs; the bench says how much
