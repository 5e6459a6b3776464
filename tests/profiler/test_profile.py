"""What a profile sees: modules, memory, the trace; failures, nested blocks and threads."""

import functools
import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import helixml as hx
from helixml._core.composed import Fused
from helixml.errors import ShapeError, ValueRangeError
from helixml.nn import Module
from helixml.profiler import profile


def array(*shape):
    return hx.tensor(np.random.default_rng(0).standard_normal(shape, np.float32))


def small_model(**sizes):
    sizes = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2, **sizes}
    return hx.models.MambaLM(hx.models.MambaConfig(**sizes), rng=hx.random.Rng(0))


def ids(batch, length):
    return hx.random.Rng(1).integers(0, 16, (batch, length))


def methods():
    op = hx.add
    return op.run_pair, op.run, op.pull, Fused.__call__, Fused.pull, Module.__call__


# Who is charged


def test_ops_are_charged_to_the_module_that_called_them():
    class Half(Module):
        def __init__(self):
            self.inner = hx.nn.Linear(3, 3, rng=hx.random.Rng(0))

        def forward(self, x):
            return self.twice(self.inner(x))

        def twice(self, x):
            return x * 2

    model = hx.nn.Sequential(Half(), hx.nn.Linear(3, 2, rng=hx.random.Rng(1)))
    with profile() as p:
        (model(array(4, 3)) + 1).sum().backward()
    forward = [(call.op, call.module) for call in p.calls if not call.backward]
    assert forward == [
        ("linear", "Sequential.0.inner"),
        ("multiply", "Sequential.0"),
        ("linear", "Sequential.1"),
        ("add", ""),
        ("sum", ""),
    ]
    assert {c.module for c in p.calls if c.backward and c.op == "multiply"} == {"Sequential.0"}
    paths = ["", "Sequential", "Sequential.0", "Sequential.0.inner", "Sequential.1"]
    totals = {total.module: total for total in p.by_module()}
    assert list(totals) == paths
    assert totals["Sequential"].calls == 1
    assert totals["Sequential"].flops + totals[""].flops == p.flops
    assert totals["Sequential"].forward_seconds >= totals["Sequential.0"].forward_seconds > 0


def test_methods_beside_forward_belong_to_their_module():
    model = small_model()
    with profile() as p, hx.no_grad():
        model.chunk(ids(2, 3), model.init_state(2))
    modules = {call.module for call in p.calls}
    assert "MambaLM.backbone.layers.1.mixer.conv1d" in modules
    assert "MambaLM.backbone.norm_f" in modules
    assert next(total for total in p.by_module() if total.module == "MambaLM").calls >= 1


def test_the_table_has_all_ops_and_what_they_add_up_to():
    x = array(4, 4)
    with profile() as p:
        x @ x + x
        x + x
    lines = p.table().splitlines()
    assert lines[0].split() == ["op", "calls", "ms", "FLOPs", "bytes", "GFLOP/s"]
    cells = {line.split()[0]: line.split() for line in lines[1:]}
    assert cells["matmul"][1:2] + cells["matmul"][3:5] == ["1", "128", "192"]
    assert cells["add"][1] == "2"
    assert cells["all"][3] == "160"
    assert len({len(line) for line in lines}) == 1
    assert "(no module)" in p.table(by="module")
    assert str(p).startswith(p.table())
    with pytest.raises(ValueRangeError, match="by='size'"):
        p.table(by="size")


# Memory


def numpy_bytes():
    traces = tracemalloc.take_snapshot().traces
    return sum(trace.size for trace in traces if trace.domain == np.lib.tracemalloc_domain)


@pytest.mark.usefixtures("on_the_cpu")
def test_live_memory_is_what_numpy_allocated():
    x = array(100, 120)  # 48 kB: smaller than the blocks of the cache
    tracemalloc.start()
    try:
        with profile() as p:
            before = numpy_bytes()
            kept = [x * float(n) for n in range(20)]
            views = [y.mT for y in kept]
            assert p.live_memory == 21 * x.nbytes  # and x itself, which was read
            assert abs(numpy_bytes() - before - 20 * x.nbytes) < 0.01 * 20 * x.nbytes
            del kept
            assert p.live_memory == 21 * x.nbytes  # the views keep it
            del views[5:]
        assert p.live_memory == 6 * x.nbytes
        assert p.peak_memory == 21 * x.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("on_the_cpu", "with_kernels")
def test_memory_of_a_models_graph_is_what_numpy_allocated():
    model = small_model(hidden_size=32, num_hidden_layers=4)
    x, y = ids(2, 32), ids(2, 32)
    hx.cross_entropy(model(x), y).backward()
    gc.collect()
    tracemalloc.start()
    try:
        with profile() as p:
            before = numpy_bytes()
            loss = hx.cross_entropy(model(x), y)
            gc.collect()
            made = numpy_bytes() - before
            read = sum(parameter.nbytes for parameter in model.parameters())
            read += x.nbytes + y.nbytes
            assert abs(p.live_memory - read - made) < 0.01 * made
            held = p.peak_memory
            loss.backward()
            del loss
            gc.collect()
            assert p.live_memory < held <= p.peak_memory
    finally:
        tracemalloc.stop()


BLOCKS = """
import numpy as np
import helixml as hx

x = hx.tensor(np.ones((1 << 20,), np.float32))  # 4 MiB: blocks of powers of two are not rounded
before = hx.cpu.memory_stats()["in_use"]
with hx.profiler.profile() as p:
    y = hx.exp(x)
    z = y * y + y
    del y
    w = [z * float(n) for n in range(3)]
    w.clear()
    z = hx.sqrt(z)
print(p.peak_memory - x.nbytes, hx.cpu.memory_stats()["peak"] - before)
print(p.live_memory - x.nbytes, hx.cpu.memory_stats()["in_use"] - before)
"""


@pytest.mark.usefixtures("with_kernels")
def test_peak_memory_is_that_of_the_cache_of_blocks():
    with_kernels = {**os.environ, "HELIXML_KERNELS": "1", "HELIXML_DEVICE": "cpu"}
    output = subprocess.check_output([sys.executable, "-c", BLOCKS], text=True, env=with_kernels)
    for line in output.splitlines():
        found, wanted = map(int, line.split())
        assert wanted > 0
        assert abs(found - wanted) <= 0.01 * wanted


# The trace


def test_the_trace_is_json_whose_events_nest(tmp_path):
    model = small_model()
    with profile() as p:
        hx.cross_entropy(model(ids(2, 5)), ids(2, 5)).backward()
        p.write_trace(tmp_path / "early.json")  # while the block is open
    p.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["cat"] for event in spans} == {"module", "op", "backward"}
    stack = []
    for event in sorted(spans, key=lambda event: (event["ts"], -event["dur"])):
        begin, end = round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)
        assert begin >= 0
        while stack and stack[-1][1] <= begin:
            stack.pop()
        if stack:
            assert end <= stack[-1][1], f"{event['name']} leaves {stack[-1][0]}"
        stack.append((event["name"], end))
    names = {event["name"] for event in spans}
    assert {"selective_scan", "MambaLM.backbone.layers.0.mixer"} <= names
    total = sum(int(event["args"]["flops"]) for event in spans if event["cat"] == "backward")
    assert total == sum(call.flops for call in p.calls if call.backward)
    held = [event["args"]["bytes"] for event in events if event["ph"] == "C"]
    assert max(held) == p.peak_memory
    threads = [event for event in events if event["name"] == "thread_name"]
    assert [event["args"]["name"] for event in threads] == [threading.current_thread().name]


# When it goes otherwise


def test_after_a_block_everything_is_as_it_was():
    before = methods()
    attributes = set(vars(hx.add))
    with profile():
        assert methods() != before
    assert methods() == before
    assert set(vars(hx.add)) == attributes


def test_an_exception_leaves_the_block_and_is_noted(tmp_path):
    before = methods()
    with pytest.raises(ShapeError), profile() as p:
        array(3) + array(3)
        small_model()(ids(2, 3))
        hx.linear(array(3), array(2, 2))
    assert methods() == before
    assert [call.flops for call in p.calls][:1] == [3]
    last = p.calls[-1]
    assert (last.op, last.flops) == ("linear", None)
    p.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [e["name"] for e in events if "error" in e.get("args", {})] == ["linear"]


def test_an_error_has_the_same_text_inside_a_block():
    def text():
        with pytest.raises(ShapeError) as caught:
            array(2, 3) @ array(2, 3)
        return str(caught.value)

    outside = text()
    with profile():
        assert text() == outside


def test_values_and_gradients_are_the_same_inside_a_block():
    def run():
        model = small_model()
        hx.cross_entropy(model(ids(2, 5)), ids(2, 5)).backward()
        return [parameter.grad.numpy() for parameter in model.parameters()]

    outside = run()
    with profile():
        inside = run()
    for a, b in zip(outside, inside, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nested_blocks_see_what_ran_inside_them():
    x = array(5)
    with profile() as outer:
        x + x
        with profile() as inner:
            y = x * x
        hx.negative(x)
    assert [call.op for call in outer.calls] == ["add", "multiply", "negative"]
    assert [call.op for call in inner.calls] == ["multiply"]
    assert inner.peak_memory == 2 * x.nbytes  # x was known already
    assert inner.live_memory == outer.live_memory == 2 * y.nbytes
    assert inner.seconds < outer.seconds


def test_blocks_that_overlap_in_two_threads_both_go_on():
    x = array(5)
    before = methods()
    opened, closed = threading.Event(), threading.Event()

    def other():
        with profile():
            opened.set()
            closed.wait()

    thread = threading.Thread(target=other)
    with profile() as p:
        thread.start()
        opened.wait()
        x + x
    assert methods() != before  # the other one listens still
    closed.set()
    thread.join()
    assert methods() == before
    assert p.flops == 5


def test_ops_of_all_threads_are_seen_each_in_its_own(tmp_path):
    model = hx.nn.Sequential(hx.nn.Linear(6, 6, rng=hx.random.Rng(0)), hx.tanh)
    x = array(8, 6)

    def work():
        for _ in range(20):
            model(x).sum().backward()

    with profile() as p:
        alone = [threading.Thread(target=work, name=f"worker {n}") for n in range(4)]
        for thread in alone:
            thread.start()
        for thread in alone:
            thread.join()
    linear = [call for call in p.calls if call.op == "linear" and not call.backward]
    assert len(linear) == 80
    assert {call.module for call in linear} == {"Sequential.0"}
    assert len({call.thread for call in linear}) in range(1, 5)  # numbers may be used again
    p.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names <= {f"worker {n}" for n in range(4)}


def test_other_devices_are_seen_too(other_device):
    x = hx.ones((3, 4), device=other_device)
    with profile() as p:
        (x @ x.mT).sum()
    assert p.flops == 2 * 3 * 3 * 4 + 8


def test_a_second_derivative_is_seen():
    x = array(3)
    x.requires_grad = True
    with profile() as p:
        g = hx.autograd.gradients((x * x * x).sum(), x, create_graph=True)
        g.sum().backward()
    assert sum(call.backward for call in p.calls) > 5
    assert p.flops > 3 * 3


def test_what_a_checkpoint_computes_again_counts_as_calls_of_its_own():
    model, text = small_model(), ids(2, 6)
    counts = []
    for run in (model, functools.partial(hx.autograd.checkpoint, model)):
        with profile() as p:
            hx.sum(run(text)).backward()
        totals = {(t.op, t.backward): (t.calls, t.flops, t.bytes) for t in p.by_op()}
        once = totals.pop(("sum", False))  # outside of the model
        gradients = {name: found for name, found in totals.items() if name[1]}
        calls = {name: found for name, found in totals.items() if not name[1]}
        added = calls.pop(("add", False))  # gradients are added up as well
        counts.append((once, gradients, calls, added))
    (_, gradients, calls, added), (_, same, twice, more) = counts
    assert same == gradients and counts[0][0] == counts[1][0]
    assert twice == {name: tuple(2 * n for n in found) for name, found in calls.items()}
    assert more > added
