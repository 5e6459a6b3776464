"""Captured steps as graphs of CUDA, beside the step itself: the same bits, in fewer commands."""

import gc

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml.backends import registry
from helixml.backends.cuda.graphs import DeviceGraph


@pytest.fixture
def there(device):
    """Have tensors made on the device."""
    with config.using(device=device):
        yield registry.get(device)


def graphs(captured):
    return [
        graph
        for program in captured._programs
        for graph in program.names.values()
        if isinstance(graph, DeviceGraph)
    ]


def language_model(seed=0, dropout=0.0):
    settings = hx.models.MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2)
    model = hx.models.MambaLM(settings, rng=hx.random.Rng(seed))
    optimizer = hx.optim.AdamW(hx.optim.decay_groups(model.parameters(), 0.1), lr=1e-2)
    noise = hx.random.Rng(seed + 1)

    def step(x, target):
        logits = model(x).reshape(-1, 32)
        if dropout:
            logits = hx.random.dropout(logits, dropout, rng=noise)
        loss = hx.cross_entropy(logits, target.reshape(-1))
        loss.backward()
        hx.optim.clip_grad_norm(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, model


def batch(rng):
    ids = hx.tensor(rng.integers(0, 32, (2, 10)))
    return ids[:, :-1], ids[:, 1:]


def same(mine, theirs):
    return mine.numpy().tobytes() == theirs.numpy().tobytes()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_language_model_learns_with_the_same_bits(there, dropout):
    own, other = language_model(dropout=dropout), language_model(dropout=dropout)
    captured = hx.capture(own[0], strict=True)
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(9):
        x, target = batch(rng)
        kept.append((captured(x, target), other[0](x, target)))
    assert all(same(a, b.detach()) for a, b in kept)  # those of long ago as well
    assert all(same(p, q) for p, q in zip(own[1].parameters(), other[1].parameters(), strict=True))
    found = graphs(captured)
    assert captured.replays == 6
    assert len(found) in (2, 3)  # before and behind the loss; dropout parts the first
    assert not any(graph.reason for graph in found)
    assert all(graph.captures <= 3 for graph in found)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_training_in_16_bits_has_the_same_bits(there, precision):
    def update(captured):
        settings = hx.models.MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2)
        model = hx.models.MambaLM(settings, rng=hx.random.Rng(0))
        return hx.training.Update(
            model,
            hx.optim.AdamW(model.parameters(), lr=1e-2),
            lambda model, xy: hx.cross_entropy(model(xy[0]), xy[1]),
            precision=precision,
            captured=captured,
        )

    own, other = update(True), update(False)
    rng = np.random.default_rng(0)
    for _ in range(6):
        pair = batch(rng)
        assert own.step([pair]) == other.step([pair])
    assert all(same(p, q) for p, q in zip(own.parameters, other.parameters, strict=True))
    assert own._differentiate.replays == 3
    found = graphs(own._differentiate)
    assert found and not any(graph.reason for graph in found)


def test_a_replay_asks_for_few_commands_and_no_memory(there):
    cp = there._cp
    if not hasattr(cp, "cuemu"):
        pytest.skip("a GPU does not count")
    own, _ = language_model()
    captured = hx.capture(own, strict=True)
    rng = np.random.default_rng(0)

    def commands(step):  # of kernels and CuPy's functions; what a graph launches is none
        x, target = batch(rng)
        cp.cuemu.reset()
        step(x, target)
        return sum(cp.cuemu.launches.values()) + sum(cp.cuemu.library_launches.values())

    for _ in range(6):
        captured(*batch(rng))
    # Outside of both graphs are the embedding, the loss, clipping and two groups' updates.
    assert commands(captured) < 30
    assert cp.cuemu.device_allocations == 0
    assert commands(own) > 80


def test_gradients_that_are_kept_stay_what_they_were(there):
    w = hx.nn.Parameter(hx.tensor([1.0, 2.0, 3.0]))

    def step(x):
        hx.sum(hx.tanh(hx.exp(w * x) * 0.1) * x).backward()
        gradient, w.grad = w.grad, None
        return gradient

    captured = hx.capture(step, strict=True)
    kept = [captured(hx.full((3,), 0.1 * i)) for i in range(8)]
    for i, gradient in enumerate(kept):
        y = np.exp(np.array([1.0, 2.0, 3.0]) * 0.1 * i) * 0.1
        goal = (0.1 * i) ** 2 * y * (1 - np.tanh(y) ** 2)
        np.testing.assert_allclose(gradient.numpy(), goal, rtol=1e-5)
    assert graphs(captured)[0].captures == 2


def test_gradients_add_up_over_replays(there):
    w = hx.nn.Parameter(hx.tensor([1.0, 2.0]))
    captured = hx.capture(lambda x: hx.sum(hx.exp(hx.sin(w * x) * 0.5)).backward(), strict=True)
    for _ in range(2):  # without a gradient, and with one
        captured(hx.tensor([0.5, 1.0]))
    twin = hx.nn.Parameter(w.detach())
    w.grad = None
    for i in range(10):
        x = hx.tensor([0.1 * i, 1.0])
        captured(x)
        hx.sum(hx.exp(hx.sin(twin * x) * 0.5)).backward()
        assert same(w.grad, twin.grad), i
    assert captured.replays > 4


def test_a_parameter_with_another_array_is_followed(there):
    w = hx.nn.Parameter(hx.tensor([1.0, 2.0]))
    captured = hx.capture(hx.no_grad()(lambda x: hx.exp(hx.sin(w * x)) * 2 + 1), strict=True)
    for i in range(12):
        if i in (5, 7, 8, 10):
            with hx.no_grad():
                w.assign_(hx.tensor([float(i), 1.0]))
        x = hx.tensor([0.5, i])
        expected = np.exp(np.sin(w.numpy() * x.numpy())) * 2 + 1
        np.testing.assert_allclose(captured(x).numpy(), expected, rtol=1e-5)


def test_views_of_what_a_graph_made_keep_it(there):
    captured = hx.capture(lambda x: hx.exp(hx.sin(x) + 1) * 2 + 1, strict=True)
    rows = [captured(hx.full((2, 3), float(i)))[1:, 0] for i in range(9)]
    for i, row in enumerate(rows):
        np.testing.assert_allclose(row.numpy(), [np.exp(np.sin(i) + 1) * 2 + 1], rtol=1e-5)


class Watch:
    """Counts the calls of a function."""

    def __init__(self, run):
        self.run = run
        self.calls = 0

    def __call__(self, *operands):
        self.calls += 1
        return self.run(*operands)


def test_what_cannot_be_captured_is_called(there):
    run = Watch(lambda x: (there.asarray(there.to_numpy(x) + 1),))
    graph = there.device_graph(run)
    for value in (1.0, 2.0):
        x = there.asarray(np.array([value], np.float32))
        assert there.to_numpy(graph(x)[0]).tolist() == [value + 1]
    assert run.calls == 3  # the first in vain
    assert "captur" in graph.reason.lower()


@pytest.mark.parametrize(("said", "captures"), [((), 4), ((0,), 1)])
def test_operands_that_move_are_copied_and_those_that_stay_are_not(there, said, captures):
    run = Watch(lambda x, y: (there.add(there.multiply(x, y), y),))
    graph = there.device_graph(run, said)
    y = there.asarray(np.array([10.0], np.float32))
    kept = []
    for value in range(6):
        x = there.asarray(np.array([value], np.float32))
        kept.append(x)
        assert there.to_numpy(graph(x, y)[0]).tolist() == [value * 10 + 10]
    assert run.calls == graph.captures == captures
    assert graph._staged.keys() == {0}


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (lambda x: x[:, :-1], ""),
        (lambda x: x.T[::2], ""),
        (lambda x: x[:0, :-1], ""),
        (lambda x: x[::-1], "turned round"),
        (lambda x: np.broadcast_to(x[:1], x.shape), "share memory"),
    ],
)
def test_operands_with_gaps_keep_them(there, view, reason):
    graph = there.device_graph(lambda x: (there.add(x, x),), (0,))
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    for i in range(4):
        x = there._cp.asarray(host + i)
        x = there._cp.broadcast_to(x[:1], x.shape) if "share" in reason else view(x)
        assert np.array_equal(there.to_numpy(graph(x)[0]), 2 * view(host + i))
    assert (reason in graph.reason) if reason else not graph.reason
    assert graph.captures == 1


def test_a_step_whose_memory_never_stays_is_called_as_it_is(there):
    run = Watch(lambda *xs: tuple(there.negative(x) for x in xs))
    graph = there.device_graph(run)
    xs = [there.asarray(np.array([float(i)], np.float32)) for i in range(9)]
    kept = []
    for i in range(9):
        kept.append(xs[i])
        xs[i] = there.asarray(np.array([i + 0.5], np.float32))
        found = graph(*xs)
        assert [there.to_numpy(x)[0] for x in found] == [-there.to_numpy(x)[0] for x in xs]
    assert graph.reason


def test_memory_is_counted_and_given_back(there):
    gc.collect()  # graphs of other tests
    w = hx.nn.Parameter(hx.ones((64, 64)))
    captured = hx.capture(hx.no_grad()(lambda x: hx.exp(hx.sin(x @ w) * 0.1).mean()), strict=True)
    x = hx.ones((64, 64))
    for _ in range(5):
        captured(x)
    assert captured.replays == 2
    kept = [graph.memory()[1] for graph in graphs(captured)]
    counted = there.memory()["held"]
    assert sum(kept) >= w.nbytes
    captured.forget()
    gc.collect()
    assert there.memory()["held"] == counted - sum(kept)
