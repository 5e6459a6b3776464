"""`hx.explain_memory`: what the graph keeps, counted by hand."""

import inspect

import numpy as np
import pytest

import helixml as hx
from helixml.backends import registry
from helixml.errors import DTypeError, GraphError

pytestmark = pytest.mark.usefixtures("plain_settings")


def test_the_total_is_what_a_hand_counts():
    w = hx.tensor(np.ones((4, 3), np.float32), requires_grad=True)  # 48 bytes
    x = hx.tensor(np.ones((2, 3), np.float32))  # 24 bytes
    y = x @ w.mT  # keeps x alone: w's gradient is wanted
    z = hx.exp(y)  # keeps its result, 2 * 4 * 4 = 32 bytes
    loss = (z * z).sum()  # keeps z twice: the same storage
    report = hx.explain_memory(loss)
    assert report.total == 24 + 32
    assert report.leaves == 0
    kept = [(e.op, e.name, e.bytes, e.read_by) for e in report.entries]
    assert ("matmul", "x", 24, ("y",)) in kept
    assert sum(e.bytes for e in report.entries if e.shape == (2, 4)) == 32
    assert report.nodes == 5


def test_leaves_are_told_apart_and_dropped_graphs_keep_nothing():
    w = hx.tensor(np.ones(5), requires_grad=True)
    loss = (w * w).sum()
    report = hx.explain_memory(loss)
    assert (report.total, report.leaves) == (40, 40)
    loss.backward()
    assert hx.explain_memory(loss).total == 0


def test_a_view_keeps_the_whole_array():
    w = hx.tensor([2.0], requires_grad=True)
    x = hx.tensor(np.ones(100, np.float32))
    report = hx.explain_memory((x[:1] * w).sum())
    (entry,) = report.entries
    assert (entry.shape, entry.bytes) == ((1,), 400)


def test_lines_are_known_in_debug_mode_only():
    w = hx.tensor([2.0], requires_grad=True)
    assert hx.explain_memory(hx.exp(w)).entries[0].line == ""
    with hx.debug.trace_lines():
        line = inspect.currentframe().f_lineno + 1
        y = hx.exp(w)
    assert hx.explain_memory(y).entries[0].line == f"{__file__}:{line}"


@pytest.mark.skipif("silu" not in registry.get("cpu").kernels, reason="the kernels are not built")
def test_kernels_keep_their_inputs_and_residuals():
    x = hx.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    loss = hx.cross_entropy(x, np.array([0, 1]))
    report = hx.explain_memory(loss)
    assert all(e.read_by == () for e in report.entries)
    assert {e.name for e in report.entries} >= {"logits", "target"}


def test_what_hooks_put_away_counts_as_what_they_keep():
    x = hx.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    halves = hx.autograd.saved_hooks(lambda v: v.astype("float16"), lambda v: v.astype("float32"))
    with halves:
        y = hx.exp(x * 1.0)
    assert hx.explain_memory(y).total == 12


def test_the_table_is_sorted_and_ends_with_the_total():
    w = hx.tensor(np.ones(5), requires_grad=True)
    lines = str(hx.explain_memory(hx.exp(w * 2.0).sum())).splitlines()
    assert lines[0].split() == ["bytes", "op", "value", "shape", "dtype", "read", "by", "line"]
    assert lines[-1] == "40 bytes kept by 3 nodes, 0 of them in leaves"


def test_without_a_graph_it_says_so():
    with pytest.raises(GraphError, match="there is no graph"):
        hx.explain_memory(hx.ones(3))
    with pytest.raises(DTypeError, match="takes a Tensor, not float"):
        hx.explain_memory(1.0)
