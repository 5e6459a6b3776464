"""Graphs: recorded, taken from a tape and made by hand; run, priced and searched."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helixml as hx
from helixml import hardware
from helixml.errors import DTypeError, GraphError, GraphFreedError, ShapeError, ValueRangeError
from helixml.hardware import ComputeGraph, GraphBuilder, Operation, Spec, record
from helixml.profiler import profile


def array(*shape, seed=0):
    return hx.tensor(np.random.default_rng(seed).uniform(0.1, 0.9, shape).astype(np.float32))


def same(own, other):
    return np.array_equal(np.asarray(own.detach().numpy()), np.asarray(other.detach().numpy()))


def setting(x):
    y = x * 2.0
    y[1] = x[0]
    return y + y


def gathered(x):
    places = hx.argmax(x, axis=-1)
    return hx.take_along_axis(x, hx.expand_dims(places, -1), axis=-1)


FUNCTIONS = {
    "products": lambda x: hx.exp(x @ x.mT) - 1.0,
    "several results": lambda x: hx.split(x, (1, 3), axis=-1),
    "a dict": lambda x: {"sum": x.sum(), "parts": [hx.max(x), (x, -x)]},
    "sequences": lambda x: hx.concat([x, hx.stack([x[0], x[1], x[2]])]),
    "views": lambda x: hx.reshape(x.mT, (2, 6))[:, ::2],
    "fused": lambda x: hx.softmax(hx.silu(x)) * hx.ops.rms_norm(x, hx.ones((4,))),
    "writes to items": setting,
    "integers": gathered,
    "wide numbers": lambda x: hx.sum(x.astype("float64")) / 3,
    "a scan": lambda x: hx.linear_scan(x, x, axis=-1),
    "constants": lambda x: x @ hx.eye(4) + hx.arange(4),
    "choices": lambda x: hx.where(x > 0.5, x, 0.0),
    "complex numbers": lambda x: hx.abs(hx.fft.fft(x)),
    "the input": lambda x: x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_has_the_bits_of_its_function(name):
    function = FUNCTIONS[name]
    graph = record(function, array(3, 4))
    x = array(3, 4, seed=1)
    own, own_form = hx.autograd.structures.flatten(graph(x))
    wanted, form = hx.autograd.structures.flatten(function(x))
    assert own_form == form
    assert all(same(*pair) for pair in zip(own, wanted, strict=True))


def models():
    rng = hx.random.Rng(0)
    config = hx.models.MambaConfig(hidden_size=8, num_hidden_layers=2, vocab_size=16)
    yield "mamba", hx.models.MambaLM(config, rng=rng), rng.integers(0, 16, (2, 5))
    yield "attention", hx.nn.MultiHeadAttention(8, 2, rng=rng), rng.normal((2, 5, 8))
    yield "lstm", hx.nn.LSTM(4, 6, rng=rng), rng.normal((2, 5, 4))


@pytest.mark.parametrize(("model", "x"), [pytest.param(m, x, id=name) for name, m, x in models()])
def test_a_graph_of_a_model_has_its_values_and_counts_what_the_profiler_does(model, x):
    model.eval()
    graph = record(model, x)
    with profile() as p, hx.no_grad():
        wanted = model(x)
    own = hx.autograd.structures.flatten(graph(x))[0]
    wanted = hx.autograd.structures.flatten(wanted)[0]
    assert all(same(*pair) for pair in zip(own, wanted, strict=True))
    assert graph.flops == p.flops > 0
    assert graph.bytes == p.bytes


def test_shapes_flops_and_bytes_are_those_of_the_formulas():
    graph = record(lambda x, w, b: hx.sum(hx.tanh(x @ w) + b), array(5, 3), array(3, 7), array(7))
    found = [(o.op, o.outputs[0].shape, o.flops, o.bytes) for o in graph.operations]
    assert found == [
        ("matmul", (5, 7), 2 * 5 * 3 * 7, 4 * (15 + 21 + 35)),
        ("tanh", (5, 7), 35, 4 * 70),
        ("add", (5, 7), 35, 4 * (35 + 7 + 35)),
        ("sum", (), 34, 4 * 36),
    ]
    assert graph.flops == 210 + 35 + 35 + 34
    assert [o.outputs[0].dtype.name for o in graph.operations] == ["float32"] * 4
    assert graph.operations[0].intensity == 210 / 284


def test_a_graph_reads_as_text():
    text = str(record(lambda x: hx.sum(x @ hx.ones((4, 2)), axis=0), array(3, 4)))
    assert text.splitlines() == [
        "inputs: x0 float32[3, 4]",
        "constants: c0 float32[4, 2]",
        "  v0 float32[3, 2] = matmul(x0 float32[3, 4], c0 float32[4, 2])  48 FLOPs, 104 bytes",
        "  v1 float32[2] = sum(v0 float32[3, 2], axis=(0,), keepdims=False)  4 FLOPs, 32 bytes",
        "outputs: v1",
        "2 operations, 52 FLOPs, 136 bytes",
    ]


def test_constants_are_kept_as_they_were():
    w = hx.ones((4,))
    graph = record(lambda x: x * w, array(4))
    with hx.no_grad():
        w.assign_(5.0)
    x = array(4, seed=2)
    assert same(graph(x), x)


def test_gradients_flow_through_a_graph():
    graph = record(lambda x: hx.sum(hx.square(x)), array(3))
    x = hx.tensor([1.0, 2.0, 3.0], requires_grad=True)
    graph(x).backward()
    assert x.grad.tolist() == [2.0, 4.0, 6.0]


def test_a_graph_runs_on_another_device(other_device):
    graph = record(lambda x: hx.exp(x) @ hx.ones((4, 2)), array(3, 4))
    result = graph(array(3, 4).to(other_device))
    assert result.device == other_device
    np.testing.assert_allclose(result.numpy(), graph(array(3, 4)).numpy(), rtol=1e-6)


def test_a_graph_runs_in_a_thread_of_its_own():
    graph = record(hx.exp, array(4))
    runs = [graph.start(array(4, seed=seed)) for seed in range(4)]
    for seed, run in enumerate(runs):
        assert same(run.wait(), hx.exp(array(4, seed=seed)))
        assert run.is_done


def test_an_error_in_a_thread_is_raised_where_it_is_waited_for(monkeypatch):
    graph = record(hx.exp, array(4))
    go = threading.Event()

    def fail(operation, values):
        go.wait(5)
        raise GraphError("graph: broken.")

    monkeypatch.setattr(hardware.graph, "run", fail)
    run = graph.start(array(4))
    with pytest.raises(TimeoutError, match="not done after"):
        run.wait(0.01)
    go.set()
    with pytest.raises(GraphError, match=r"broken"):
        run.wait()


# What cannot be held


def branching(x):
    return x * 2.0 if x.sum().item() > 5.4 else x * 3.0


def test_values_read_in_python_are_refused_where_they_matter():
    x = hx.full((6,), 0.9004)  # a little less, and the branch is another
    with pytest.raises(GraphError, match=r"something else than its graph. Hint: it reads values"):
        record(branching, x)
    assert same(record(branching, x, check=False)(x), x * 2.0)


def test_random_numbers_are_refused():
    rng = hx.random.Rng(0)
    with pytest.raises(GraphError, match="draws random"):
        record(lambda x: x + rng.normal((3,)), array(3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: 3, r"returned a int, which is no tensor"),
        (lambda x: x.assign_(0.0), r"writes in place to a tensor of shape \(3,\)"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused(function, message):
    with pytest.raises(GraphError, match=message):
        record(function, array(3))


def test_writing_to_a_constant_is_refused():
    total = hx.zeros((3,))

    def running(x):
        y = total + x
        total.assign_(y)
        return y

    with pytest.raises(GraphError, match=r"writes in place .* Hint: model.eval\(\)"):
        record(running, array(3))


def test_ops_that_write_are_refused():
    w, g, m = hx.ones((3,)), hx.ones((3,)), hx.zeros((3,))
    settings = {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
    with pytest.raises(GraphError, match="sgd_ writes to its inputs"):
        record(lambda x: hx.ops.sgd_(w, g, m, **settings), array(3))


def test_recording_leaves_the_engine_as_it_was():
    op = hx.exp
    before = dict(vars(op))
    with pytest.raises(ZeroDivisionError):
        record(lambda x: hx.exp(x) / (1 // 0), array(3))
    assert vars(op).get("run") == before.get("run")
    with pytest.raises(DTypeError, match=r"input 0 is a float"):
        record(lambda x: x, 1.0)


def test_bad_operands_of_a_graph_are_refused():
    graph = record(hx.exp, array(3))
    with pytest.raises(ShapeError, match=r"takes 1 tensors, got 2. Hint: x0 float32\[3\]"):
        graph(array(3), array(3))
    with pytest.raises(ShapeError, match=r"x0 is \(3,\), got \(4,\)"):
        graph(array(4))
    with pytest.raises(DTypeError, match=r"x0 is float32, got float64"):
        graph(array(3).astype("float64"))
    with pytest.raises(DTypeError, match=r"x0 is a ndarray"):
        graph(np.ones(3, np.float32))


# From a tape


def test_a_loss_gives_its_operations():
    w = hx.tensor(np.ones((3, 2), np.float32), requires_grad=True)
    b = hx.tensor(np.ones(2, np.float32), requires_grad=True)
    x = array(4, 3)
    loss = hx.mean(hx.square(x @ w + b))
    graph = hardware.from_loss(loss)
    assert [o.op for o in graph.operations] == ["matmul", "add", "square", "mean"]
    assert graph.inputs == {"leaf0": Spec((3, 2)), "leaf1": Spec((2,))}
    assert graph.operations[0].flops == 2 * 4 * 3 * 2
    assert same(graph(w, b), loss)
    loss.backward()  # nothing was taken from the tape


def test_the_loss_of_a_model_runs_again_from_its_parameters(with_kernels):
    rng = hx.random.Rng(0)
    config = hx.models.MambaConfig(hidden_size=8, num_hidden_layers=1, vocab_size=16)
    model, ids = hx.models.MambaLM(config, rng=rng), rng.integers(0, 16, (2, 6))
    parameters = dict(model.named_parameters())
    loss = hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
    graph = hardware.from_loss(loss, parameters)
    assert set(graph.inputs) == set(parameters)
    assert same(graph(*[parameters[name] for name in graph.inputs]), loss)
    with profile() as p:
        hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
    assert 0 < graph.flops <= p.flops  # what needs no gradient is not on the tape


def test_what_a_tape_does_not_keep_is_said():
    w = hx.tensor([1.0, 2.0], requires_grad=True)
    graph = hardware.from_loss(hx.sum(w + hx.ones((2,))))
    assert graph.operations[0].operands == ("leaf0", "?")
    assert graph.operations[0].flops == 2
    with pytest.raises(GraphError, match=r"add cannot run: .* its input 'y', .* Hint: .*record"):
        graph(w)


def test_a_loss_without_a_graph_is_refused():
    with pytest.raises(GraphError, match=r"there is no graph. Hint: hardware.record"):
        hardware.from_loss(hx.ones(()))
    with pytest.raises(DTypeError, match="takes a Tensor, not float"):
        hardware.from_loss(1.0)
    x = hx.tensor([1.0], requires_grad=True)
    y = hx.sum(hx.exp(x))
    y.backward()
    with pytest.raises(GraphFreedError):
        hardware.from_loss(y)


# By hand


def test_a_graph_is_built_by_hand():
    build = GraphBuilder()
    x = build.input("x", (2, 3))
    first, second = build.add("split", x, sizes=(1, 2), axis=1)
    graph = build.graph(build.add("concat", second, first, axis=1), build.add("add", x, 1.0))
    y = array(2, 3)
    joined, more = graph(y)
    assert same(joined, hx.concat([y[:, 1:], y[:, :1]], axis=1))
    assert same(more, y + 1.0)


def test_a_builder_refuses_unknown_names():
    build = GraphBuilder()
    build.input("x", (2,))
    with pytest.raises(GraphError, match=r"no value 'z'. Hint: there are x"):
        build.add("exp", "z")
    with pytest.raises(GraphError, match="value 'x' already"):
        build.input("x", (3,))
    with pytest.raises(ValueRangeError, match=r"no op 'expp'. Hint: did you mean 'exp'"):
        build.add("expp", "x")
    with pytest.raises(GraphError, match=r"std is made of other ops"):
        build.add("std", "x")


def step(result, *operands):
    specs = tuple(Spec((2,)) for _ in operands)
    return Operation("add", specs, (Spec((2,)),), operands, (result,))


def test_operations_that_wait_for_each_other_are_refused():
    circle = [step("a", "x", "c"), step("b", "a", "x"), step("c", "b", "x"), step("d", "x", "x")]
    with pytest.raises(GraphError, match=r"3 operations wait .* circle: a = add, b = add, c = add"):
        ComputeGraph(circle, {"x": Spec((2,))}, ["d"])
    with pytest.raises(GraphError, match=r"'a' is made twice"):
        ComputeGraph([step("a", "x", "x")] * 2, {"x": Spec((2,))}, ["a"])
    with pytest.raises(GraphError, match=r"add reads 'y', which nothing makes"):
        ComputeGraph([step("a", "x", "y")], {"x": Spec((2,))}, ["a"])
    with pytest.raises(GraphError, match=r"an output is 'b', which nothing makes"):
        ComputeGraph([step("a", "x", "x")], {"x": Spec((2,))}, ["b"])


@st.composite
def webs(draw):
    """Operations that read any two of those before them, shuffled."""
    count = draw(st.integers(1, 8))
    operations = []
    for i in range(count):
        sources = st.sampled_from(["x", *[f"v{j}" for j in range(i)]])
        operations.append(step(f"v{i}", draw(sources), draw(sources)))
    costs = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    return operations, draw(st.permutations(operations)), costs


@given(webs())
def test_operations_come_after_what_they_read_and_the_path_is_the_longest(web):
    operations, shuffled, costs = web
    graph = ComputeGraph(shuffled, {"x": Spec((2,))}, [operations[-1].results[0]])
    place = {o.results[0]: i for i, o in enumerate(graph.operations)}
    assert sorted(place) == sorted(o.results[0] for o in operations)
    cost = {o.results[0]: c for o, c in zip(operations, costs, strict=True)}
    reads = {o.results[0]: [x for x in o.operands if x != "x"] for o in operations}
    for name, sources in reads.items():
        assert all(place[source] < place[name] for source in sources)

    def paths(name):  # every chain that ends here
        yield [name]
        for source in reads[name]:
            for path in paths(source):
                yield [*path, name]

    every = itertools.chain.from_iterable(paths(name) for name in reads)
    longest = max(sum(cost[name] for name in path) for path in every)
    path, total = graph.critical_path(lambda o: cost[o.results[0]])
    assert total == longest == sum(cost[o.results[0]] for o in path)
    for before, after in itertools.pairwise(path):
        assert before.results[0] in after.operands


def test_elementwise_chains_are_found():
    def function(x):
        y = hx.exp(x * 2.0) + 1.0  # three in a row
        return hx.sum(y) + hx.sum(hx.sqrt(y))  # y has two readers

    found = hardware.fusions(record(function, array(5)))
    assert [([o.op for o in f.operations], f.advice, f.saved_bytes) for f in found] == [
        (["multiply", "exp", "add"], "", 2 * 2 * 5 * 4)
    ]
    assert str(found[0]) == "multiply > exp > add: saves 80 bytes"
    returned = record(lambda x: (y := hx.exp(x), y + 1.0), array(5))
    assert hardware.fusions(returned) == []


w, b, k = array(4, 4), array(4), array(3, 4)
FUSED = {
    "linear(": (lambda x: x @ w + b, lambda x: hx.linear(x, w.mT, b)),
    '"silu"': (lambda x: hx.silu(hx.linear(x, w, b)), lambda x: hx.linear(x, w, b, "silu")),
    '"gelu"': (lambda x: hx.gelu(hx.linear(x, w, b)), lambda x: hx.linear(x, w, b, "gelu")),
    "silu(": (lambda x: x * hx.sigmoid(x), hx.silu),
    "silu_gate": (lambda x: k * hx.silu(x), lambda x: hx.ops.silu_gate(k, x)),
    "gelu_gate": (lambda x: hx.gelu(x) * k, lambda x: hx.ops.gelu_gate(k, x)),
    "log_softmax": (lambda x: hx.log(hx.softmax(x)), hx.log_softmax),
    "attention": (
        lambda x: hx.softmax(x @ k.mT * 0.5) @ k,
        lambda x: hx.attention(x, k, k, scale=0.5),
    ),
    "causal_conv1d": (
        lambda x: hx.silu(hx.causal_conv1d(x[None], array(3, 2), array(3))),
        lambda x: hx.causal_conv1d(x[None], array(3, 2), array(3), "silu"),
    ),
    "fft_conv": (
        lambda x: hx.fft.irfft(hx.fft.rfft(x, n=8) * hx.fft.rfft(k, n=8), n=8)[:, :4],
        lambda x: hx.fft_conv(x[None], k)[0],
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_ops_that_helixml_has_are_found_and_compute_the_same(name):
    apart, together = FUSED[name]
    x = array(3, 4, seed=3)
    found = hardware.fusions(record(apart, x))
    assert [name in fusion.advice for fusion in found] == [True]
    np.testing.assert_allclose(apart(x).numpy(), together(x).numpy(), rtol=1e-5, atol=1e-6)
    assert hardware.fusions(record(together, x)) == []


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x @ w + k,  # no bias: a matrix
        lambda x: hx.sigmoid(x) * k.sum(),  # not its own gate
        lambda x: hx.silu(x) * b,  # other shapes
        lambda x: hx.softmax(x @ w, axis=0) @ w,  # over queries
        lambda x: w[:3] @ w @ hx.softmax(x @ w).mT,  # the weights come last
        lambda x: hx.silu(hx.linear(x, w, b, "gelu")),
    ],
)
def test_what_only_looks_like_it_is_left_alone(function):
    assert [f for f in hardware.fusions(record(function, array(3, 4))) if f.advice] == []


def test_an_operation_says_its_class():
    kinds = {
        "matmul": "product",
        "exp": "elementwise",
        "sum": "reduction",
        "fft": "spectral",
        "fft_conv": "convolution",
        "causal_conv1d": "convolution",
        "selective_scan": "state_space",
        "attention": "attention",
        "softmax": "normalisation",
        "concat": "movement",
        "cholesky": "general",
    }
    for op, kind in kinds.items():
        assert Operation(op, (), (), (), ()).kind == kind
        assert kind in hardware.CLASSES


def test_an_operation_of_a_spec_is_that_of_a_tensor():
    made = hardware.operation("take", (5, 2), Spec((3,), "int64"), axis=0)
    assert made.outputs == (Spec((3, 2)),)
    assert made.inputs == (Spec((5, 2)), Spec((3,), "int64"))
    assert hardware.operation("add", (3,), 2.0).operands == ("x0", 2.0)
    with pytest.raises(DTypeError, match="list is no operand"):
        hardware.operation("exp", [1.0])
    with pytest.raises(GraphError, match="writes to its inputs"):
        hardware.operation("scale_many_", (3,), scale=2.0)
