"""What must not wear out: memory over many steps, threads, backward passes that break."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import helixml as hx
from helixml import nn, optim

STEPS = """
import sys
import numpy as np
import helixml as hx
from helixml import nn, optim

def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * 4096

rng = np.random.default_rng(0)
x, y = hx.tensor(rng.normal(size=(4, 3))), hx.tensor(rng.normal(size=(4, 2)))
hidden, head = nn.Linear(3, 5), nn.Linear(5, 2)
parameters = [*hidden.parameters(), *head.parameters()]
optimizer = optim.AdamW(parameters, lr=1e-3)
x, y = x.astype("float32"), y.astype("float32")
for step in range(1, int(sys.argv[1]) + 1):
    loss = hx.square(head(hx.tanh(hidden(x))) - y).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 1000:
        early = resident()
print(resident() - early)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_after_many_steps_is_what_it_was_after_a_few():
    grown = subprocess.check_output([sys.executable, "-c", STEPS, "100000"], text=True)
    assert int(grown) <= 2**20


def work(seed):
    """Build a graph of some hundred nodes; return its value and gradients."""
    rng = np.random.default_rng(seed)
    x = hx.tensor(rng.normal(size=(6, 6)), requires_grad=True)
    w = hx.tensor(rng.normal(size=(6, 6)), requires_grad=True)
    y = x
    for step in range(40):
        y = hx.tanh(y @ w / 3 + x[step % 6])
        if step % 7 == 0:
            with hx.no_grad():
                y * 2  # one thread's mode is no other's
    y.sum().backward()
    return y.detach().numpy(), x.grad.numpy(), w.grad.numpy()


def test_threads_build_graphs_side_by_side():
    expected = [work(seed) for seed in range(8)]
    found = [[] for _ in range(8)]
    errors = []
    start = threading.Barrier(8)

    def run(number):
        start.wait()
        try:
            for _ in range(5):
                found[number].append(work(number))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for exact, several in zip(expected, found, strict=True):
        assert len(several) == 5
        for results in several:
            assert [r.tobytes() for r in results] == [e.tobytes() for e in exact]


def test_threads_share_leaves_that_they_only_read():
    w = hx.tensor(np.random.default_rng(0).normal(size=(8, 8)), requires_grad=True)
    found = {}

    def run(number):
        x = hx.full((8, 8), float(number), dtype="float64")
        (g,) = hx.autograd.gradients(hx.sin(x @ w).sum(), [w])
        found[number] = g.numpy()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert w.grad is None
    for number, g in found.items():
        x = np.full((8, 8), float(number))
        assert np.allclose(g, x.T @ np.cos(x @ w.detach().numpy()))


class Broken(Exception):
    """What a hook raises in the middle of backward."""


def refuse(_):
    raise Broken


@pytest.mark.parametrize("depth", [1, 10, 19])
def test_after_an_error_in_the_middle_of_backward_all_is_as_before(depth):
    x = hx.tensor([0.5, -0.25], requires_grad=True, dtype="float64")
    w = hx.tensor([1.5, 0.5], requires_grad=True, dtype="float64")

    def graph(break_at):
        y = x
        for step in range(20):
            y = hx.sin(y * w)
            if step == break_at:
                y.register_hook(refuse)
        return y.sum()

    graph(None).backward()
    good = x.grad.numpy().copy(), w.grad.numpy().copy()
    x.grad = w.grad = None
    loss = graph(depth)
    node = weakref.ref(loss)
    with pytest.raises(Broken):
        loss.backward()
    assert hx.is_recording()
    assert x.grad is None  # the walk never came there
    assert w.grad is None
    del loss
    gc.collect()
    assert node() is None
    graph(None).backward()
    assert np.array_equal(x.grad.numpy(), good[0])
    assert np.array_equal(w.grad.numpy(), good[1])


def test_an_error_in_one_threads_backward_is_its_own():
    layer = nn.Linear(3, 3)
    optimizer = optim.SGD(layer.parameters(), lr=0.0)
    results = []

    def run(number):
        x = hx.full((2, 3), float(number + 1))
        for step in range(20):
            y = layer(x).sum()
            if (number + step) % 2:
                y.register_hook(refuse)
            try:
                found = hx.autograd.gradients(y, list(layer.parameters()))
            except Broken:
                continue
            results.append((number, [g.numpy() for g in found]))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    optimizer.step()
    assert len(results) == 40
    for number, (weight, bias) in results:
        assert np.allclose(weight, 2.0 * (number + 1))
        assert np.allclose(bias, 2.0)
