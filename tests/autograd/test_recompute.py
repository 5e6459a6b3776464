"""checkpoint: the same gradients, the same random draws, and less memory on the tape."""

import numpy as np
import pytest

import helixml as hx
from helixml import config, hardware
from helixml._core import saving, tape
from helixml.autograd import checkpoint, checkpoint_sequence, gradients, saved_hooks
from helixml.errors import GraphError, InplaceError, ValueRangeError


def stage(w):
    return lambda x: hx.softmax(hx.tanh(x @ w)) * hx.exp(-x)


def leaves(count, n=6):
    rng = np.random.default_rng(0)
    return [hx.tensor(rng.normal(size=(n, n)) / 3, requires_grad=True) for _ in range(count)]


def run_plain(stages, x):
    for f in stages:
        x = f(x)
    return x


def address(array):
    """Return where the memory of an array of any device begins, or a number that stands for it."""
    for name in ("__array_interface__", "__cuda_array_interface__"):
        if told := getattr(array, name, None):
            return told["data"][0]
    return array.data_ptr() if hasattr(array, "data_ptr") else id(array)


def kept_bytes(y):
    """Bytes of all arrays that the nodes behind ``y`` keep, each counted once."""
    kept = {}

    def count(value):
        if isinstance(value, tape.Saved):
            count(value.array)
        elif isinstance(value, tuple):
            for item in value:
                count(item)
        elif isinstance(value, saving.Packed):
            segment = getattr(value.unpack, "__self__", None)
            for item in getattr(segment, "inputs", ()):
                count(item)
            for item in getattr(segment, "values", {}).values():
                count(item._array)
        elif hasattr(value, "nbytes"):
            kept[address(value)] = value.nbytes

    for node in tape.collect([y._node]):
        count(node.saved)
    return sum(kept.values())


def test_gradients_are_equal_bit_by_bit():
    x, *ws = leaves(4)

    def loss(call):
        return run_plain([lambda v, w=w: call(stage(w), v) for w in ws], x).sum()

    expected = gradients(loss(lambda f, v: f(v)), (x, *ws))
    found = gradients(loss(checkpoint), (x, *ws))
    for got, want in zip(found, expected, strict=True):
        assert got.numpy().tobytes() == want.numpy().tobytes()


def test_the_tape_keeps_less():
    x, *ws = leaves(13, n=32)
    stages = [stage(w) for w in ws]
    y = run_plain(stages, x)
    z = checkpoint_sequence(stages, x, every=4)
    one = 32 * 32 * 8
    weights = 13 * one  # leaves are kept by their owner anyway
    assert kept_bytes(y) - weights > 12 * one
    # the inputs of two groups; that of the first is a leaf
    assert kept_bytes(z) - weights <= 3 * one
    assert np.array_equal(y.numpy(), z.numpy())


def test_memory_falls():
    if hardware.memory().in_use is None or not config.get().kernels:
        pytest.skip("nobody counts the bytes in this configuration")
    w = hx.tensor(np.eye(256) * 0.5, dtype="float32", requires_grad=True)
    x = hx.ones((256, 256))
    stages = [stage(w)] * 16

    def in_use(run):
        before = hardware.memory().in_use
        y = run()
        return hardware.memory().in_use - before, y

    plain, y = in_use(lambda: run_plain(stages, x))
    less, z = in_use(lambda: checkpoint_sequence(stages, x))
    assert less < 0.25 * plain
    a, b = (gradients(v.sum(), w).numpy() for v in (y, z))
    assert a.tobytes() == b.tobytes()


def test_values_that_were_computed_again_are_dropped_as_they_are_read():
    x, *ws = leaves(3)
    y = checkpoint(lambda x: run_plain([stage(w) for w in ws], x), x)
    before = kept_bytes(y)
    gradients(y.sum(), (x, *ws), retain_graph=True)
    assert kept_bytes(y) == before


def test_dropout_is_the_same_and_streams_do_not_go_on():
    x = hx.tensor(np.ones((4, 50)), requires_grad=True)
    own = hx.random.Rng(5)

    def f(x):
        return hx.dropout(x, 0.5) + 10 * hx.dropout(x, 0.3, rng=own) * hx.sin(x)

    hx.random.seed(3)
    own.load_state(hx.random.Rng(5).state)
    expected = f(x)
    gradient = gradients(expected.sum(), x).numpy()
    hx.random.seed(3)
    own.load_state(hx.random.Rng(5).state)
    y = checkpoint(f, x)
    states = [hx.random.default_rng().state, own.state]
    assert np.array_equal(y.numpy(), expected.numpy())
    assert np.array_equal(gradients(y.sum(), x).numpy(), gradient)
    assert [hx.random.default_rng().state, own.state] == states
    hx.random.seed(0)


def test_nested_checkpoints():
    x, *ws = leaves(4)
    rng = hx.random.Rng(2)
    f = stage(ws[0])

    def inner(v):
        return stage(ws[1])(hx.dropout(v, 0.2, rng=rng)) * hx.dropout(v, 0.2, rng=rng)

    def outer(call):
        def g(v):
            return stage(ws[2])(call(inner, hx.sin(f(v))) + call(inner, v))

        rng.load_state(hx.random.Rng(2).state)
        return call(g, x * 2.0).sum()

    expected = gradients(outer(lambda f, v: f(v)), (x, *ws))
    y = outer(checkpoint)
    assert len({id(n) for n in tape.collect([y._node])}) > 8
    for got, want in zip(gradients(y, (x, *ws)), expected, strict=True):
        assert got.numpy().tobytes() == want.numpy().tobytes()


def test_second_order():
    x, w = leaves(2)

    def second(call):
        y = (call(stage(w), x) ** 2).sum()
        first = gradients(y, (x, w), create_graph=True)
        return gradients(sum((g * g).sum() for g in first), (x, w))

    expected = second(lambda f, v: f(v))
    for got, want in zip(second(checkpoint), expected, strict=True):
        assert np.allclose(got.numpy(), want.numpy(), rtol=1e-12, atol=1e-14)


def test_retained_graphs_can_be_walked_again():
    x, w = leaves(2)
    y = checkpoint(stage(w), x).sum()
    first = gradients(y, (x, w), retain_graph=True)
    second = gradients(y, (x, w))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


def test_structures_options_and_several_results():
    x, w = leaves(2)

    def f(pair, *, scale):
        return {"y": hx.exp(pair[0] @ pair[1]) * scale}, hx.sin(pair[0])

    def loss(call):
        first, second = call(f, (x * 1.0, w), scale=2.0)
        return first["y"].sum() + (second * second).sum()

    expected = gradients(loss(lambda f, *a, **k: f(*a, **k)), (x, w))
    for got, want in zip(gradients(loss(checkpoint), (x, w)), expected, strict=True):
        assert np.array_equal(got.numpy(), want.numpy())


def test_a_gradient_within():
    x, w = leaves(2)

    def f(x):
        return hx.grad(lambda v: (hx.tanh(v @ w) ** 2).sum())(x * x) * hx.exp(x)

    expected = gradients(f(x).sum(), (x, w))
    for got, want in zip(gradients(checkpoint(f, x).sum(), (x, w)), expected, strict=True):
        assert np.allclose(got.numpy(), want.numpy(), rtol=1e-13)


def test_inside_of_functions_that_differentiate():
    x = np.array([0.3, 0.7])
    f = lambda x: (hx.exp(hx.sin(x)) * x).sum()  # noqa: E731
    g = lambda x: checkpoint(f, x)  # noqa: E731
    assert np.array_equal(hx.grad(g)(x).numpy(), hx.grad(f)(x).numpy())
    a, b = hx.autograd.hessian(g)(x), hx.autograd.hessian(f)(x)
    assert np.allclose(a.numpy(), b.numpy(), rtol=1e-14)


def test_with_hooks_of_the_user():
    x, w = leaves(2)
    expected = gradients(stage(w)(x * 2.0).sum(), (x, w))
    with saved_hooks(lambda t: t.numpy(copy=True), hx.tensor):
        y = checkpoint(stage(w), x * 2.0).sum()
    for got, want in zip(gradients(y, (x, w)), expected, strict=True):
        assert np.array_equal(got.numpy(), want.numpy())


def test_nothing_is_done_without_recording():
    x, w = leaves(2)
    with hx.no_grad():
        assert not checkpoint(stage(w), x).requires_grad
    assert not checkpoint(hx.sin, hx.ones(2)).requires_grad


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"every": 1},
        {"every": 100},
        {"at": [0, -1]},
        {"at": []},
        {"memory": 0},
        {"memory": 2000},
        {"memory": 10**9},
    ],
)
def test_strategies_have_the_same_gradients(options):
    x, *ws = leaves(6)
    stages = [stage(w) for w in ws]
    expected = gradients(run_plain(stages, x).sum(), (x, *ws))
    found = gradients(checkpoint_sequence(stages, x, **options).sum(), (x, *ws))
    for got, want in zip(found, expected, strict=True):
        assert got.numpy().tobytes() == want.numpy().tobytes()


def test_a_budget_is_used_and_kept():
    x, *ws = leaves(9, n=32)
    stages = [stage(w) for w in ws]
    calls = []

    def counted(k):
        def run(x):
            calls.append(k)
            return stages[k](x)

        return run

    budget = 100_000
    y = checkpoint_sequence([counted(k) for k in range(8)], x, memory=budget)
    one = 32 * 32 * 8
    everything = kept_bytes(run_plain(stages[:8], x))
    assert budget / 2 < kept_bytes(y) <= budget + (8 + 9) * one < everything  # inputs, leaves
    gradients(y.sum(), x)
    again = calls[8:]
    assert 0 < len(again) < 8
    assert again == sorted(again, reverse=True)


def test_stages_may_be_a_module():
    rng = hx.random.Rng(0)
    model = hx.nn.Sequential(*[hx.nn.Linear(3, 3, rng=rng) for _ in range(4)], hx.tanh)
    x = hx.ones((2, 3))
    model(x).sum().backward()
    expected = [p.grad.tolist() for p in model.parameters()]
    for p in model.parameters():
        p.grad = None
    checkpoint_sequence(model, x, every=2).sum().backward()
    assert [p.grad.tolist() for p in model.parameters()] == expected


def test_wrong_strategies_say_so():
    with pytest.raises(ValueRangeError, match="every=0 must be 1 or more"):
        checkpoint_sequence([hx.sin], hx.ones(1), every=0)
    with pytest.raises(ValueRangeError, match="at names stage 1, there are 1"):
        checkpoint_sequence([hx.sin], hx.ones(1), at=[1])
    with pytest.raises(ValueRangeError, match="takes one of every=, at= and memory="):
        checkpoint_sequence([hx.sin], hx.ones(1), every=1, at=[0])
    with pytest.raises(ValueRangeError, match="memory=-1 must be 0 or more bytes"):
        checkpoint_sequence([hx.sin], hx.ones(1), memory=-1)


def test_a_function_that_does_something_else_says_so():
    x = hx.tensor([1.0], requires_grad=True)
    calls = []

    def f(x):
        calls.append(1)
        return hx.exp(x) if len(calls) == 1 else hx.exp(hx.sin(x))

    y = checkpoint(f, x * 1.0)
    with pytest.raises(GraphError, match="kept 1 values for its gradient the first time and 2"):
        y.backward()


@pytest.mark.parametrize(
    ("sizes", "text"),
    [((5, 4), "4 random words are drawn where there were 5"), ((5, 0), "1 draws fewer"),
     ((0, 5), "5 random words are drawn where there were 0")],
)  # fmt: skip
def test_other_draws_say_so(sizes, text):
    x = hx.tensor([1.0], requires_grad=True)
    rng, queue = hx.random.Rng(0), iter(sizes)

    def f(x):
        if size := next(queue):
            rng.uniform((size,))
        return hx.exp(x)

    y = checkpoint(f, x)
    with pytest.raises(GraphError, match=f"Draws: {text}"):
        y.backward()


def test_overwritten_inputs_and_leaves_are_noticed():
    x = hx.tensor([1.0], requires_grad=True)
    b = hx.tensor([2.0], requires_grad=True)
    c = hx.tensor([2.0])
    y = checkpoint(lambda c: hx.exp(x + b) * hx.sin(c + x), c)
    c.assign_(3.0)
    with pytest.raises(InplaceError, match="checkpoint: its backward pass reads 'an input'"):
        y.backward()
    y = checkpoint(lambda x: hx.exp(x + b), x)  # a sum keeps nothing: only the guard sees this
    with hx.no_grad():
        b.assign_(5.0)
    with pytest.raises(InplaceError, match=r"checkpoint: a leaf of shape \(1,\)"):
        y.backward()
