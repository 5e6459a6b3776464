"""FLOPs that ops declare, against counts by hand: plain formulas of sizes."""

import numpy as np
import pytest

import helixml as hx
from helixml._core.composed import Composite, Fused
from helixml._core.op import REGISTRY
from helixml.profiler import profile

ops = hx.ops


def array(*shape):
    return hx.tensor(np.random.default_rng(0).uniform(0.1, 0.9, shape).astype(np.float32))


def whole(*shape, high=3):
    return hx.tensor(np.random.default_rng(1).integers(0, high, shape))


x, row, column = array(3, 4), array(4), array(3, 1)
yes = x > 0.5
cube, matrix = array(2, 3, 4), array(4, 5)
whole_x, bits = whole(3, 4), whole(3, 4, high=8)
logits, goals = array(6, 5), whole(6, high=5)
past = array(2, 3, 3)
u, delta, gate = array(2, 3, 5), array(2, 3, 5), array(2, 3, 5)
systems, tall = array(2, 6, 6) + 6 * hx.eye(6), array(8, 3)
A, B, C, D = -array(3, 4), array(2, 4, 5), array(2, 4, 5), array(3)
settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "step": 1}
descent = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
plain_descent = {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}

ONE = "negative abs sign sqrt square exp expm1 log log1p sin cos tanh sigmoid erf floor ceil round"
ONE += " isfinite isnan isinf"
TWO = "add subtract multiply divide floor_divide remainder pow maximum minimum equal not_equal less"
TWO += " less_equal greater greater_equal"
TRUTH = "logical_and logical_or logical_xor"
BITS = "bitwise_and bitwise_or bitwise_xor"
FOLDS = "sum prod max min argmax argmin"
FREE = {
    "reshape": lambda: hx.reshape(x, (2, 6)),
    "permute_dims": lambda: hx.permute_dims(x, (1, 0)),
    "broadcast_to": lambda: hx.broadcast_to(row, (3, 4)),
    "flip": lambda: hx.flip(x),
    "roll": lambda: hx.roll(x, 1),
    "tril": lambda: hx.tril(x),
    "triu": lambda: hx.triu(x),
    "astype": lambda: hx.astype(x, "float64"),
    "copy": lambda: hx.copy(x),
    "concat": lambda: hx.concat([x, x]),
    "split": lambda: hx.split(x, (1, 2)),
    "part": lambda: x[1:, ::2],
    "take": lambda: hx.take(x, whole(2)),
    "take_along_axis": lambda: hx.take_along_axis(x, whole(3, 2)),
    "expand_dims": lambda: hx.expand_dims(x, 1),
    "matrix_transpose": lambda: x.mT,
    "pad": lambda: hx.pad(x, 1, mode="reflect"),
    "unfold": lambda: hx.unfold(x, 2),
}

# Of ssd: 6 steps, 2 heads of 5 channels, one group, 4 states.
SSD = ((1, 6, 2, 5), (1, 6, 2), (2,), (1, 6, 1, 4), (1, 6, 1, 4), (2,))
CASES = [
    *[(name, lambda name=name: getattr(hx, name)(x), 3 * 4) for name in ONE.split()],
    *[(name, lambda name=name: getattr(hx, name)(x, column), 3 * 4) for name in TWO.split()],
    *[(name, lambda name=name: getattr(hx, name)(yes, yes), 3 * 4) for name in TRUTH.split()],
    *[(name, lambda name=name: getattr(hx, name)(bits, bits), 3 * 4) for name in BITS.split()],
    *[
        (name, lambda name=name: getattr(hx, name)(x, axis=1), 3 * (4 - 1))
        for name in FOLDS.split()
    ],
    *[(name, call, 0) for name, call in FREE.items()],
    ("add of a broadcast row", lambda: cube + row, 2 * 3 * 4),
    ("add of a number", lambda: x + 2.0, 12),
    ("add of a number before", lambda: 2 + x, 12),
    ("add of a list", lambda: hx.add(x, [1.0, 2.0, 3.0, 4.0]), 12),
    ("logical_not", lambda: hx.logical_not(yes), 12),
    ("bitwise_invert", lambda: hx.bitwise_invert(bits), 12),
    ("where", lambda: hx.where(yes, x, 0), 12),
    ("any", lambda: hx.any(yes), 12 - 1),
    ("all", lambda: hx.all(yes, axis=0), 4 * (3 - 1)),
    ("sum over all", lambda: hx.sum(x), 12 - 1),
    ("sum of nothing", lambda: hx.zeros((0, 3)).sum(axis=0), 0),
    ("sum_to", lambda: ops.movement.sum_to(cube, (4,)), 2 * 3 * 4 - 4),
    ("mean", lambda: x.mean(axis=0), 4 * (3 - 1) + 4),
    ("var", lambda: hx.var(x, axis=0), (4 * 2 + 4) + 12 + 12 + (4 * 2 + 4)),
    ("cumulative_sum", lambda: hx.cumulative_sum(x), 3 * (4 - 1)),
    ("argsort", lambda: hx.argsort(hx.zeros((3, 8))), 3 * 8 * 3),
    ("take_adjoint", lambda: ops.indexing.take_adjoint(x, whole(3), axis=0, size=3), 12),
    ("matmul", lambda: x @ matrix, 2 * 3 * 4 * 5),
    ("matmul in batches", lambda: cube @ matrix, 2 * (2 * 3 * 4 * 5)),
    ("matmul of vectors", lambda: row @ row, 2 * 4),
    ("linear", lambda: hx.linear(cube, matrix.mT), 2 * 3 * 2 * 4 * 5),
    ("linear, bias", lambda: hx.linear(x, matrix.mT, array(5)), 3 * 5 * (2 * 4 + 1)),
    (
        "linear, silu",
        lambda: hx.linear(x, matrix.mT, array(5), activation="silu"),
        3 * 5 * (2 * 4 + 1 + 2),
    ),
    ("linear, gelu", lambda: hx.linear(x, matrix.mT, activation="gelu"), 3 * 5 * (2 * 4 + 5)),
    ("linear, relu", lambda: hx.linear(x, matrix.mT, activation="relu"), 3 * 5 * (2 * 4 + 1)),
    ("relu", lambda: hx.relu(x), 12 + 12),  # a comparison, a choice
    ("silu", lambda: hx.silu(x), 2 * 12),
    ("gelu", lambda: hx.gelu(x), 5 * 12),
    ("softplus", lambda: hx.softplus(x), 6 * 12),
    ("silu_gate", lambda: hx.silu_gate(x, x), 3 * 12),
    ("gelu_gate", lambda: hx.gelu_gate(x, x), 6 * 12),
    ("softmax", lambda: hx.softmax(x), 3 * ((4 - 1) + 4 + 4 + (4 - 1) + 4)),
    ("softmax along 0", lambda: hx.softmax(x, axis=0), 4 * ((3 - 1) + 3 + 3 + (3 - 1) + 3)),
    ("log_softmax", lambda: hx.log_softmax(x), 3 * ((4 - 1) + 4 + 4 + (4 - 1) + 1 + 4)),
    ("rms_norm", lambda: hx.rms_norm(x, row), 3 * (4 + (4 - 1) + 4 + 4 + 4)),
    (
        "rms_norm of a sum",
        lambda: hx.rms_norm(x, row, residual=x),
        3 * (4 + 4 + (4 - 1) + 4 + 4 + 4),
    ),
    ("layer_norm", lambda: hx.layer_norm(x, row, row), 3 * (4 + 4 + 4 + 4 + 3 + 4 + 4 + 4)),
    ("cross_entropy", lambda: hx.cross_entropy(logits, goals), 6 * (4 + 5 + 5 + 4 + 1 + 1 + 1) + 6),
    (
        "cross_entropy, none",
        lambda: hx.cross_entropy(logits, goals, reduction="none"),
        6 * (4 + 5 + 5 + 4 + 1 + 1 + 1),
    ),
    (
        "cross_entropy, smoothed",
        lambda: hx.cross_entropy(logits, goals, label_smoothing=0.1, reduction="sum"),
        6 * (21 + (4 + 1 + 1) + 3) + 5,
    ),
    *[
        (
            f"conv2d, {name}",
            lambda k=k, groups=groups: hx.conv2d(
                array(2, 6, 7, 9), array(6, 6 // groups, *k), stride=(1, 2), groups=groups
            ),
            2 * 2 * 6 * (7 - k[0] + 1) * ((9 - k[1]) // 2 + 1) * 6 // groups * k[0] * k[1],
        )
        for name, k, groups in (
            ("plain", (3, 2), 1),
            ("in groups", (3, 2), 2),
            ("each channel alone", (3, 2), 6),
            ("1 x 1", (1, 1), 2),
        )
    ],
    ("fold", lambda: hx.fold(array(2, 3, 4), 6), 2 * 3 * 4),
    (
        "attention, 6 query heads share 2",
        lambda: hx.attention(array(1, 6, 3, 4), array(1, 2, 5, 4), array(1, 2, 5, 7)),
        6 * 3 * 4 + 6 * 3 * 5 * (2 * 4 + 2 * 7) + 6 * 3 * (4 + 5 + 5 + 4 + 5),
    ),
    (
        "attention, mask",
        lambda: hx.attention(array(3, 4), array(5, 4), array(5, 7), mask=array(3, 5)),
        3 * 4 + 3 * 5 * (2 * 4 + 2 * 7 + 1) + 3 * (4 + 5 + 5 + 4 + 5),
    ),
    ("causal_conv1d", lambda: hx.causal_conv1d(u, array(3, 4)), 2 * 3 * 5 * 2 * 4),
    (
        "causal_conv1d, all",
        lambda: hx.causal_conv1d(u, array(3, 4), array(3), "silu", past),
        2 * 3 * 5 * (2 * 4 + 1 + 2),
    ),
    ("linear_scan", lambda: hx.linear_scan(u, delta), 2 * 2 * 3 * 5),
    ("stored_linear", lambda: hx.stored_linear(x, array(5, 4), None, array(5)), 3 * 5 * (8 + 1)),
    (
        "stored_linear of integers",
        lambda: hx.stored_linear(x, whole(5, 4), array(5)),
        3 * 5 * (8 + 1),
    ),
    ("selective_scan", lambda: hx.selective_scan(u, delta, A, B, C), 2 * 3 * 5 * (7 * 4 + 1)),
    (
        "selective_scan, all",
        lambda: hx.selective_scan(u, delta, A, B, C, D, gate, D, True),
        2 * 3 * 5 * (7 * 4 + 1 + 2 + 3 + 1 + 6),
    ),
    (  # scores of three steps with three; decays, weights and means of two heads; states; D, dt
        "ssd",
        lambda: hx.ssd(*(array(*shape) for shape in SSD), chunk_size=3),
        6 * (3 * 2 * 4 + 2 * 3 * (2 + 2 * 5) + 2 * 5 * 4 * 4 + 2 * 5 * 3 + 2 * 2),
    ),
    ("dropout", lambda: hx.dropout(x, 0.5, rng=hx.random.Rng(0)), 12),
    ("adamw_", lambda: ops.adamw_(array(3), array(3), array(3), array(3), **settings), 15 * 3),
    (
        "adamw_many_",
        lambda: ops.adamw_many_(*[[array(3), array(2, 2)] for _ in range(4)], **settings),
        15 * (3 + 4),
    ),
    ("sgd_", lambda: ops.sgd_(array(3), array(3), array(3), **descent), 3 * (2 + 2 + 2 + 2)),
    ("sgd_, plain", lambda: ops.sgd_(array(3), array(3), None, **plain_descent), 3 * 2),
    (
        "sgd_many_",
        lambda: ops.sgd_many_([array(3)], [array(3)], [array(3)], **descent),
        3 * (2 + 2 + 2 + 2),
    ),
    ("norm_many", lambda: ops.norm_many([array(3), array(2, 2)]), (3 + 4) + (3 + 4 - 1) + 1),
    # n = 6, two matrices; the leading terms of Golub & Van Loan 2013
    ("cholesky", lambda: hx.linalg.cholesky(systems), 2 * 6**3 // 3),
    ("solve", lambda: hx.linalg.solve(systems, array(6, 4)), 2 * (2 * 6**3 // 3 + 2 * 6**2 * 4)),
    ("triangular_solve", lambda: hx.linalg.triangular_solve(systems, array(6)), 2 * 6**2),
    ("inv", lambda: hx.linalg.inv(systems), 2 * 2 * 6**3),
    ("det", lambda: hx.linalg.det(systems), 2 * 2 * 6**3 // 3),
    ("slogdet", lambda: hx.linalg.slogdet(systems), 2 * 2 * 6**3 // 3),
    ("expm", lambda: hx.linalg.expm(systems), 2 * (6 * 2 * 6**3 + 8 * 6**3 // 3)),
    ("eigh", lambda: hx.linalg.eigh(systems), 2 * 9 * 6**3),
    ("eigvalsh", lambda: hx.linalg.eigvalsh(systems), 2 * 4 * 6**3 // 3),
    ("eig", lambda: hx.linalg.eig(systems), 2 * 25 * 6**3),
    ("eigvals", lambda: hx.linalg.eigvals(systems), 2 * 10 * 6**3),
    ("qr", lambda: hx.linalg.qr(tall), 2 * (2 * 3**2 * (8 - 1))),
    ("qr, wide", lambda: hx.linalg.qr(tall.mT), 2 * 3**2 * (8 - 1) + 4 * 3**3 // 3),
    ("svd", lambda: hx.linalg.svd(tall), 4 * 8**2 * 3 + 22 * 3**3),
    ("svd, thin", lambda: hx.linalg.svd(tall, full_matrices=False), 6 * 8 * 3**2 + 20 * 3**3),
    ("svdvals", lambda: hx.linalg.svdvals(tall), 4 * 8 * 3**2 - 4 * 3**3 // 3),
    ("pinv", lambda: hx.linalg.pinv(tall), 6 * 8 * 3**2 + 20 * 3**3 + 2 * 8 * 3**2),
    ("vector_norm", lambda: hx.linalg.vector_norm(x), 2 * 12),
    ("einsum", lambda: hx.einsum("bij,jk->bik", cube, matrix), 2 * 2 * 3 * 4 * 5),
    ("scale_many_", lambda: ops.scale_many_([array(3), array(2, 2)], 2.0), 3 + 4),
]


@pytest.mark.parametrize(("call", "count"), [pytest.param(c, n, id=name) for name, c, n in CASES])
def test_flops_of_a_call(call, count):
    with profile() as p:
        call()
    assert p.flops == count
    assert all(call.flops is not None for call in p.calls)


def test_there_are_enough():
    assert len(CASES) > 100


def test_every_op_says_what_it_costs():
    ops.load_all()
    for op in REGISTRY.values():
        if not isinstance(op, Composite) and op.__module__.startswith("helixml."):
            says = "flops" in op.costs or getattr(op, "direct", False) or getattr(op, "view", False)
            assert says, op.name
        if isinstance(op, Fused) and not op.writes and op.__module__.startswith("helixml."):
            assert "flops_vjp" in op.costs, op.name


def leaf(*shape):
    made = array(*shape)
    made.requires_grad = True
    return made


r, d, n = 3, 4, 5  # rows, features in, features out
SMOOTH = 6 * r * n  # the derivative of silu, times g
b, c, k, l, s = 2, 3, 4, 5, 4  # batch, channels, taps, length, states
VJPS = [
    ("linear", lambda: hx.linear(leaf(r, d), leaf(n, d), leaf(n)), 4 * r * d * n + n * (r - 1)),
    ("linear, weight only", lambda: hx.linear(array(r, d), leaf(n, d)), 2 * r * d * n),
    (
        "linear, silu",
        lambda: hx.linear(leaf(r, d), leaf(n, d), activation="silu"),
        4 * r * d * n + SMOOTH,
    ),
    ("silu", lambda: hx.silu(leaf(r, d)), 6 * r * d),
    ("gelu", lambda: hx.gelu(leaf(r, d)), 11 * r * d),
    ("softplus", lambda: hx.softplus(leaf(r, d)), 2 * r * d),
    ("silu_gate", lambda: hx.silu_gate(leaf(r, d), leaf(r, d)), (3 + 7) * r * d),
    ("gelu_gate, gate only", lambda: hx.gelu_gate(array(r, d), leaf(r, d)), 12 * r * d),
    ("softmax", lambda: hx.softmax(leaf(r, d)), r * (d + (d - 1) + d + d)),
    ("log_softmax", lambda: hx.log_softmax(leaf(r, d)), r * ((d - 1) + d + d + d)),
    (
        "rms_norm",
        lambda: hx.rms_norm(leaf(r, d), leaf(d)),
        r * (d + d + (d - 1) + 3 + d + d + d) + (2 * r * d + (r - 1) * d),
    ),
    (
        "layer_norm",
        lambda: hx.layer_norm(leaf(r, d), leaf(d), leaf(d)),
        9 * r * d + (r * d + (r - 1) * d) + (r - 1) * d,
    ),
    ("cross_entropy", lambda: hx.cross_entropy(leaf(6, 5), whole(6, high=5)), 6 * (3 * 5 + 1)),
    (
        "causal_conv1d",
        lambda: hx.causal_conv1d(leaf(b, c, l), leaf(c, k), leaf(c), "silu"),
        b * c * l * (2 * k + 2 * k + 6) + c * (b * l - 1),
    ),
    (
        "selective_scan",
        lambda: hx.selective_scan(
            *(leaf(b, c, l), array(b, c, l), -array(c, s)),
            *(array(b, s, l), array(b, s, l), array(c), array(b, c, l), array(c), True),
        ),
        b * c * l * (15 * s + 3 + 4 + 9 + 2 + 1),
    ),
    (  # scores again; five triangles in all; four products with states
        "ssd",
        lambda: hx.ssd(*(leaf(*shape) for shape in SSD), chunk_size=3),
        6 * (3 * 2 * 4 + 2 * 3 * (4 + 4 * 5 + 4 * 4) + 2 * 5 * 4 * 8 + 2 * 5 * 7 + 2 * 4),
    ),
    ("norm_many", lambda: ops.norm_many([leaf(3), leaf(2, 2)]), 1 + 3 + 4),
]


@pytest.mark.usefixtures("on_the_cpu", "with_kernels")  # all are kernels there
@pytest.mark.parametrize(("call", "count"), [pytest.param(c, n, id=name) for name, c, n in VJPS])
def test_flops_of_the_gradient_of_a_fused_op(call, count):
    y = call()
    with profile() as p:
        y.backward(hx.ones_like(y))
    assert p.flops == count
    assert [call.backward for call in p.calls] == [True]


def test_the_gradient_of_a_primitive_counts_what_its_rule_does():
    a, w = leaf(3, 4), leaf(4, 5)
    y = hx.tanh(a @ w)
    with profile() as p:
        y.backward(hx.ones_like(y))
    found = {call.op: call.flops for call in p.calls}
    assert found == {"tanh": 3 * 15, "matmul": 2 * (2 * 3 * 4 * 5)}  # y y, 1 - y y, times g
    assert p.flops == 3 * 15 + 4 * 3 * 4 * 5


def test_what_runs_inside_a_fused_op_is_not_counted_again():
    with hx.config.using(kernels=False), profile() as p:
        hx.silu(x)
    assert [(call.op, call.flops) for call in p.calls] == [("silu", 24)]


def test_bytes_are_those_of_operands_and_results():
    table = hx.zeros((1000, 4))
    for call, count in [
        (lambda: cube + row, 4 * (24 + 4 + 24)),
        (lambda: x @ matrix, 4 * (12 + 20 + 15)),
        (lambda: hx.take(table, whole(3)), 8 * 3 + 4 * (12 + 12)),  # not all of the table
        (lambda: x.mT, 0),
        (lambda: hx.reshape(x.mT, (12,)), 4 * (12 + 12)),  # which cannot be a view
        (lambda: ops.scale_many_([array(3)], 2.0), 4 * (3 + 3)),
    ]:
        with profile() as p:
            call()
        assert p.bytes == count


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("layers", [1, 3])
def test_flops_of_a_training_step_of_mamba(layers):
    b, l, h, n, k, r, v = 2, 7, 6, 3, 4, 1, 11
    d, t = 2 * h, b * l
    config = hx.models.MambaConfig(
        vocab_size=v,
        hidden_size=h,
        num_hidden_layers=layers,
        state_size=n,
        conv_kernel=k,
        time_step_rank=r,
    )
    model = hx.models.MambaLM(config, rng=hx.random.Rng(0))
    optimizer = hx.optim.AdamW(model.parameters(), lr=1e-3)
    ids, goals = whole(b, l, high=v), whole(b, l, high=v)
    with profile() as p:
        loss = hx.cross_entropy(model(ids), goals)
        loss.backward()
        hx.optim.clip_grad_norm(model.parameters(), 1e-3)
        optimizer.step()

    norm, added = t * (4 * h + 3), t * h
    products = 2 * t * (h * 2 * d + d * (r + 2 * n) + r * d + d * h)
    convolution = t * d * (2 * k + 1 + 2)
    scan = t * d * (7 * n + 1 + 1 + 6 + 2 + 3)
    layer = norm + products + convolution + 2 * d * n + scan  # -exp(A_log) takes two
    ends = (t - 1) + norm + 2 * t * h * v + t * (4 * v + 1) + t  # the least id; logits; loss
    forward = layers * layer + layers * added + ends

    norm = t * (6 * h + 2) + (2 * t * h + (t - 1) * h)
    convolution = t * d * (2 * k + 2 * k + 6) + d * (t - 1)
    scan = t * d * (15 * n + 3 + 1 + 2 + 4 + 9)
    decay = 2 * d * n  # -g; g e^x
    layer = norm + 2 * products + convolution + scan + decay
    layer += t * d  # u has two uses: the scan and its projection
    ends = norm + 2 * (2 * t * h * v) + t * (3 * v + 1)
    ends += t * h + t * h + v * h  # two uses of the embedded; take; two of the tied weight
    backward = layers * layer + ends

    size = sum(parameter.size for parameter in model.parameters())
    update = 2 * size + size + 15 * size  # norm, scaling, AdamW
    assert p.flops == forward + backward + update


def counted_step(model, loss):
    """Return the FLOPs of a training step with AdamW, and those of the update by hand."""
    optimizer = hx.optim.AdamW(model.parameters(), lr=1e-3)
    with profile() as p:
        loss().backward()
        optimizer.step()
    assert all(call.flops is not None for call in p.calls)
    return p.flops, 15 * sum(parameter.size for parameter in model.parameters())


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("layers", [1, 3])
def test_flops_of_a_training_step_of_a_transformer(layers):
    b, l, h, heads, v = 2, 7, 6, 2, 11
    t, rows, d = b * l, b * heads * l, h // heads
    config = hx.models.Gpt2Config(
        vocab_size=v, n_embd=h, n_layer=layers, n_head=heads, n_positions=l
    )
    model = hx.models.Gpt2LM(config, rng=hx.random.Rng(0))
    ids, goals = whole(b, l, high=v), whole(b, l, high=v)
    found, update = counted_step(model, lambda: hx.cross_entropy(model(ids), goals))

    norm, added = t * (7 * h + 3), t * h
    products = t * (3 * h * (2 * h + 1) + h * (2 * h + 1) + 4 * h * (2 * h + 1) + h * (8 * h + 1))
    attention = rows * (d + l * (2 * d + 2 * d) + 5 * l - 2)  # scale, two products, softmax
    gelu = 7 * t * 4 * h  # x s(2 c (x + k x^3)) as x s(c' x (1 + k x x))
    layer = 2 * norm + products + attention + gelu + 2 * added
    ends = (t - 1) + added + norm + 2 * t * h * v + t * (4 * v + 1) + t  # positions; logits; loss
    forward = layers * layer + ends

    norm = t * 9 * h + (t * h + (t - 1) * h) + (t - 1) * h
    products = 4 * t * (3 * h * h + h * h + 8 * h * h) + (t - 1) * (3 * h + h + 4 * h + h)
    attention = rows * (l * 4 * d + (4 * l - 1) + l * 4 * d + d)  # dv and dP; dS; dq and dk; scale
    gelu = (
        (3 * 2 + 2 + 3 + 3) * t * 4 * h
    )  # three products of two, two by numbers, s, x's four uses
    layer = 2 * norm + products + attention + gelu + 2 * added
    ends = t * (3 * v + 1) + 4 * t * h * v + norm  # loss, logits, the last norm
    ends += (b - 1) * l * h + t * h + v * h  # positions of all rows; take; the tied weight
    assert found == forward + layers * layer + ends + update


@pytest.mark.usefixtures("with_kernels")
def test_flops_of_a_training_step_of_hyena():
    b, l, h, k, e, m = (
        2,
        9,
        6,
        3,
        3,
        8,
    )  # taps; features of positions; width of the filters' network
    t, w = b * l, 3 * h
    filters = hx.nn.ImplicitFilter(h, l, hidden=m, rng=hx.random.Rng(0))
    model = hx.nn.HyenaOperator(h, l, d_conv=k, filters=filters, rng=hx.random.Rng(1))
    y = array(b, l, h)
    found, update = counted_step(model, lambda: hx.mse_loss(model(y), y))

    n = 18  # at least 2 l - 1, with small prime factors
    line, bins = int(2.5 * n * np.log2(n)), n // 2 + 1
    network = l * (m * (2 * e + 1) + 2 * m * (2 * m + 1) + h * 2 * m) + 3 * 2 * l * m
    window = l + h + l * h + l * h + l * h + l * h  # -t, |rate|, product, exp, floor, on the taps
    ends = t * w * (2 * h + 1) + t * w * (2 * k + 1) + t * h * (2 * h + 1)
    gate = t * h
    long = (2 * b + 1) * h * line + 6 * b * h * bins + (2 + 1) * t * h  # bias and a gate
    forward = network + window + ends + gate + long + 3 * t * h  # the loss

    network = 4 * l * (h * m + 2 * m * m) + 2 * l * e * m  # positions are not learned
    network += 3 * (l - 1) * m  # biases
    network += 3 * (2 * l * m + 2 * l * m + (l - 1) * m) + 2 * m  # sin; freq x; freq has three uses
    window = l * h
    ends = 2 * t * w * h + (t - 1) * w + 4 * t * h * h + (t - 1) * h  # x is no parameter
    ends += t * w * (2 * k + 2 * k) + (t - 1) * w
    gate = 2 * t * h
    # One transform of g; a product and a transform back for u, and for k.
    long = b * h * line + (b * h * line + 6 * b * h * bins) + (h * line + 6 * b * h * bins)
    long += 2 * t * h + 2 * t * h  # the bias, to u and itself; the gate, to g and itself
    loss = 1 + 2 * t * h
    backward = network + window + ends + gate + long + loss
    assert found == forward + backward + update


@pytest.mark.usefixtures("on_the_cpu", "with_kernels")  # elsewhere a kernel sums exponentials
@pytest.mark.parametrize(("l", "m", "rows", "length"), [(10, 4, 3, 20), (7, 3, 3, 15)])
def test_flops_of_a_training_step_of_s4d(l, m, rows, length):
    b, d, n = 2, 6, 4  # pairs of states; powers to l as products of m and of rows; transforms
    t, s = b * l, d * n
    model = hx.nn.S4D(d, 2 * n, rng=hx.random.Rng(0))
    y = array(b, l, d)
    found, update = counted_step(model, lambda: hx.mse_loss(model(y), y))

    line, bins = int(2.5 * length * np.log2(length)), length // 2 + 1
    pairs = 2 * s  # x + i y of parameters
    continuous = s + s + s + d  # i A_imag, exp, their difference, dt: found twice
    discrete = s + s + s + s + s + s  # exp(dt A), expm1(dt A) / A B
    kernel = s + s + s + 4 * s * l  # C B, doubled; dt A; a complex product for each power
    convolution = (2 * b + 1) * d * line + 6 * b * d * bins + 2 * t * d
    forward = 2 * pairs + 2 * continuous + discrete + kernel + convolution + 3 * t * d

    loss = 1 + 2 * t * d
    bias = 2 * t * d
    convolution = b * d * line + (d * line + 6 * b * d * bins)  # of g; of k alone
    table = s * (m + rows)  # powers of both tables, each a size, an angle, a cosine and a sine
    kernel = 8 * s * rows * m + s * rows + d * rows * m  # products of both parts, their difference
    kernel += 3 * table + 2 * table + table  # cos, sin; exp
    kernel += 4 * s * (3 * rows - 1)  # parts of the weights times parts of the coarse table
    kernel += 4 * table + 2 * (2 * table - 2 * s)  # size times cos and sin; exponents times steps
    kernel += 2 * s * rows + 2 * s + 2 * table + 3 * 2 * s + 2 * s  # what has two uses, or four
    step = s + s + d * (n - 1)  # dt A: both, dt for all states
    kernel += s + 2 * (s + s) + step  # doubled; of two pairs: i times one part, the sum of both
    discrete = 2 * s + 2 * s + 4 * s + 2 * s
    discrete += step + s  # A has two uses
    continuous = d + s + s + s
    summed = d + s + s  # two uses each of log_dt, log_A_real, A_imag
    pairs = s + 2 * s
    backward = loss + bias + convolution + kernel + discrete
    backward += 2 * continuous + summed + 2 * pairs
    assert found == forward + backward + update


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize(("measure", "r"), [("legs", 1), ("legt", 2)])  # r: the rank of P
@pytest.mark.parametrize(("l", "products", "length"), [(10, 4, 20), (13, 5, 25)])
def test_flops_of_a_training_step_of_s4(measure, r, l, products, length):
    b, d, n = 2, 6, 4  # pairs of states; the power l of a matrix takes products; transforms
    t, s, m = b * l, d * n, 2 * n  # steps, pairs in all channels, states
    f, q = l // 2 + 1, r + 1  # frequencies; C and the rows of P, as B and those
    model = hx.nn.S4(d, m, measure=measure, rng=hx.random.Rng(0))
    y = array(b, l, d)
    found, update = counted_step(model, lambda: hx.mse_loss(model(y), y))

    pairs = 2 * s  # x + i y of parameters
    continuous = 3 * s + r * pairs + d  # L = i A_imag - exp, P, dt: found twice
    # The matrix: m rows of a basis go through (1 - dt/2 A)^-1 (1 + dt/2 A).
    project, combine = 2 * m * r * s + m * d * r, 2 * m * r * s  # 2 Re P^* h; products with P
    ahead = d + project + combine + 4 * m * s  # dt/2; h + dt/2 (L h - P P^* h)
    damped = 3 * s + s + r * s  # R = 1 / (1 - dt/2 L), dt/2 R P
    inner = 2 * r * r * s + 2 * d * r * r + 2 * d * r**3  # (1 + 2 Re(dt/2 P^* R P))^-1
    back = m * s + project + 2 * m * d * r * r + combine + m * s  # R h, shares of P, what is left
    matrix = 2 * m * n + continuous + ahead + damped + inner + back
    power = products * 2 * d * m**3
    output = pairs + s + 2 * d * m * m + 2 * d * m  # c = 2 conj C, c - c M^l / e
    ends = (pairs + s) + pairs  # C again, and B
    resolvent = 5 * f + s + 3 * d * m * f  # f: two; sin, cos, 2 i sin; dt L; dt / (.. - cos dt L)
    sums = d * q * q * m + 2 * d * q * q * m * f
    woodbury = sum(3 * d * f + 3 * d * k * k * f for k in range(1, q))  # weights, k by k sums less
    line = int(2.5 * l * np.log2(l))
    inverse_transform = 2 * f + d * f + d * line + 2 * l + d * l  # e^(i f), times; e^(t / l), times
    kernel = continuous + output + matrix + power + ends
    kernel += resolvent + sums + woodbury + inverse_transform
    long, bins = int(2.5 * length * np.log2(length)), length // 2 + 1
    convolution = (2 * b + 1) * d * long + 6 * b * d * bins + 2 * t * d
    forward = kernel + convolution + 3 * t * d  # the loss

    def reciprocal(size):  # g (-out / y)
        return 3 * size

    loss = 1 + 2 * t * d
    bias = 2 * t * d
    convolution = b * d * long + (d * long + 6 * b * d * bins)  # of g; of k alone
    inverse_transform = d * l + d * (line + f) + d * f
    woodbury = 0
    for k in range(1, q):
        less = d * k * k * f
        woodbury += less + less + (2 * less - d * f)  # the sign; by the weight; to it, summed
        woodbury += 2 * (2 * less - d * k * f)  # to the column and the row, summed
        woodbury += reciprocal(d * f) + d * f  # the weight, cos / (1 + cos S); to S
        woodbury += 3 * d * (k + 1) ** 2 * f  # four uses of the sums
    sums = 2 * (2 * d * q * q * m * f) + 2 * (2 * d * q * q * m - d * q * m)
    sums += 2 * q * s  # both C, P and B, P are used twice: as they are, and conjugated
    resolvent = d * m * f + (d * m * f - d) + reciprocal(d * m * f)  # of dt; of the poles
    resolvent += d * m * f + d * m * f + (d * m * f - d * m)  # sign; times cos, summed
    resolvent += s + (s + s - d) + s  # dt L: two uses; to dt, summed; to L
    pairs = s + 2 * s
    ends = (s + pairs) + pairs  # C / 2; B
    output = d * m + d * m + 2 * (2 * d * m * m) + d * m  # sign, 1 / e, product, two uses of c
    output += (s + s) + s + pairs  # real and imaginary parts; doubled
    power = products * (2 * 2 * d * m**3 + d * m * m)  # one use of a power more than its first
    onto_P = 2 * m * r * s + (m - 1) * r * s  # from products with m rows, summed
    project, combine = m * d * r + onto_P, 2 * m * r * s + onto_P  # onto weights too
    back = m * s + combine  # the sign
    back += 2 * m * d * r * r + (2 * m * d * r * r + (m - 1) * d * r * r)  # shares; the inverse
    back += project + 2 * m * r * s + m * s  # R h, which has two uses
    back += m * s + (m * s + (m - 1) * s)  # h; R
    inner = (4 * d * r**3 + d * r * r) + d * r * r + 2 * (2 * r * r * s)
    damped = r * s + (r * s + (r - 1) * s) + r * s  # dt/2 R P: two uses; to dt/2 R, to P
    damped += (s + s - d) + s + s + reciprocal(s) + s  # dt/2 R; R: two uses; sign
    damped += (s + s - d) + s  # dt/2 L
    ahead = (2 * m * s - d) + m * s  # to dt/2, to L h - P P^* h
    ahead += m * s + combine + project + (m * s + (m - 1) * s)  # sign; the basis is not learned
    used = 2 * d + s + 4 * r * s + d  # dt/2, L and P have three, two and five uses; dt / 2
    matrix = (m * s + m * s) + back + inner + damped + ahead + used  # its entries: real, imaginary
    continuous = d + s + s + s + r * pairs
    summed = (d + r * s) + (d + s + s + 2 * r * s)  # dt and P in the kernel; parameters
    backward = loss + bias + convolution + inverse_transform + woodbury + sums + resolvent
    backward += ends + output + power + matrix + 2 * continuous + summed
    assert found == forward + backward + update
