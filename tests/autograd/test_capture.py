"""Captured steps have the same bits as the step itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from captured_cases import HOST, batch, equal, follow, twins

import helixml as hx
from helixml.backends import registry

# The same bits


@pytest.mark.usefixtures("written_in_place")
def test_an_mlp_with_adamw_and_a_schedule_has_the_bits_of_the_step_itself():
    captured, own, other = twins()
    rate = hx.optim.CosineDecay(0.02, 20)

    def schedule(i, twin):
        twin[2].lr = rate(i)

    follow(captured, own, other, before=schedule)
    assert (captured.replays, captured.recordings, own[0].runs) == (17, 2, 3)


@pytest.mark.usefixtures("written_in_place")
@pytest.mark.parametrize(
    "make",
    [
        lambda p: hx.optim.SGD(p, lr=0.1),
        lambda p: hx.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: hx.optim.Adam(p, lr=0.01, weight_decay=0.1),
        lambda p: hx.optim.Lion(p, lr=0.01),
        lambda p: hx.optim.RMSprop(p, lr=0.01),
        lambda p: hx.optim.ScheduleFreeAdamW(p, lr=0.01, warmup_steps=8),
        lambda p: hx.optim.AdamW(hx.optim.decay_groups(p, 0.1), lr=0.01),
    ],
)
def test_every_optimizer_goes_on_as_it_would(make):
    captured, own, other = twins(optimizer=make)
    follow(captured, own, other, 12)
    assert captured.replays >= 8


@pytest.mark.usefixtures("written_in_place")
def test_weights_of_16_bits_have_their_masters_updated():
    captured, own, other = twins(dtype="bfloat16")
    follow(captured, own, other, 10, batches=lambda i: batch(dtype=hx.bfloat16))
    assert captured.replays == 7


@pytest.mark.usefixtures("written_in_place")
def test_settings_of_the_optimizer_are_those_of_now():
    captured, own, other = twins()

    def change(i, twin):
        group = twin[2].groups[0]
        if i == 6:
            group["weight_decay"] = 0.5
        if i == 8:
            group["betas"] = (0.5, 0.9)
        if i == 10:
            next(iter(twin[1].parameters())).lr_scale = 0.1

    follow(captured, own, other, 14, before=change)
    assert captured.replays == 14 - 3 - 2  # a group was split: recorded anew


@pytest.mark.usefixtures("written_in_place")
def test_dropout_draws_what_it_would():
    captured, own, other = twins(dropout=0.3)
    follow(captured, own, other)
    assert captured.replays == 17
    assert own[0].noise.state == other[0].noise.state


@pytest.mark.usefixtures("written_in_place")
def test_a_stream_that_was_set_back_is_followed():
    captured, own, other = twins(dropout=0.3)

    def rewind(i, twin):
        if i == 7:
            twin[0].noise.load_state(hx.random.Rng(99).state)

    follow(captured, own, other, 10, before=rewind)
    assert captured.replays == 7


def test_random_tensors_are_new_in_every_replay():
    def make():
        rng = hx.random.Rng(3)
        return lambda x: x + rng.normal(x.shape) + rng.integers(0, 9, x.shape)

    own, other = hx.capture(make(), strict=True), make()
    for _ in range(8):
        x = hx.tensor(HOST.standard_normal(5).astype(np.float32))
        assert equal(own(x), other(x))
    assert own.replays == 5


@pytest.mark.usefixtures("written_in_place")
@pytest.mark.parametrize("bound", [0.05, 100.0])
def test_clipping_looks_at_the_norm_of_now(bound):
    captured, own, other = twins(clip=bound)
    follow(captured, own, other)
    assert captured.replays == 17


@pytest.mark.usefixtures("written_in_place")
def test_running_statistics_are_written():
    captured, own, other = twins(norm=True)
    follow(captured, own, other, 10)
    assert captured.replays == 7
    assert own[1][1].num_batches_tracked.item() == 10


@pytest.mark.usefixtures("written_in_place")
def test_a_language_model_of_mamba_blocks_has_the_bits_of_the_step_itself():
    def make():
        config = hx.models.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2)
        model = hx.models.MambaLM(config, rng=hx.random.Rng(0))
        groups = hx.optim.decay_groups(model.parameters(), 0.1)
        optimizer = hx.optim.AdamW(groups, lr=1e-3)

        def step(x, target):
            loss = hx.cross_entropy(model(x).reshape(-1, 64), target.reshape(-1))
            loss.backward()
            hx.optim.clip_grad_norm(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            return loss

        return step, model, optimizer

    def batches(i):
        ids = hx.tensor(HOST.integers(0, 64, (2, 13)))
        return ids[:, :-1], ids[:, 1:]

    own, other = make(), make()
    captured = hx.capture(own[0], strict=True)
    follow(captured, own, other, 12, batches=batches)
    assert captured.replays == 9


def test_gradients_that_lie_in_one_array_are_clipped_each(
    plain_settings, with_kernels, monkeypatch
):
    table = registry.get("cpu").kernels
    kernel = table["causal_conv1d_vjp"]

    def joined(*args, **options):
        gx, gweight, gbias, gpast = kernel.function(*args, **options)
        both = np.concatenate([gweight.ravel(), gbias])
        return gx, both[: gweight.size].reshape(gweight.shape), both[gweight.size :], gpast

    monkeypatch.setitem(table._kernels, kernel.name, replace(kernel, function=joined))

    def make():
        layer = hx.nn.Module()
        layer.weight = hx.nn.Parameter(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))
        layer.bias = hx.nn.Parameter(np.ones(3, np.float32))
        optimizer = hx.optim.AdamW(list(layer.parameters()), lr=0.1)

        def step(x, target):
            loss = hx.mse_loss(hx.causal_conv1d(x, layer.weight, layer.bias), target)
            loss.backward()
            hx.optim.clip_grad_norm(layer.parameters(), 0.01)
            optimizer.step()
            optimizer.zero_grad()
            return loss

        return step, layer, optimizer

    def batches(i):
        x = hx.tensor(HOST.standard_normal((2, 3, 9)).astype(np.float32))
        return x, x * 2

    own, other = make(), make()
    captured = hx.capture(own[0], strict=True)
    follow(captured, own, other, 8, batches=batches)
    assert captured.replays == 5


@pytest.mark.usefixtures("written_in_place")
def test_without_kernels_the_definitions_are_replayed():
    captured, own, other = twins()
    with hx.config.using(kernels=False):
        follow(captured, own, other, 8)
    assert captured.replays == 5
    follow(captured, own, other, 8)  # and with them others
    assert captured.replays in (10, 13)  # 13 where there are none in any case


def test_checkpoints_run_again_in_a_replay():
    def make():
        w = hx.nn.Parameter(np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4))
        rng = hx.random.Rng(1)

        def inner(x):
            return hx.random.dropout(hx.tanh(x @ w), 0.2, rng=rng)

        def step(x):
            loss = hx.autograd.checkpoint(inner, x).sum()
            loss.backward()
            return loss

        return step, w

    (own, w), (other, v) = make(), make()
    captured = hx.capture(own, strict=True)
    for _ in range(8):
        x = hx.tensor(HOST.standard_normal((3, 4)).astype(np.float32))
        assert equal(captured(x), other(x).detach())
        assert equal(w.grad, v.grad)
        w.grad = v.grad = None
    assert captured.replays == 5


# Gradients and accumulation


def accumulating():
    """Return (step, parameter): a step that adds to ``grad`` and updates when it is told to."""
    w = hx.nn.Parameter(np.arange(6, dtype=np.float32).reshape(2, 3) / 6)
    optimizer = hx.optim.AdamW([w], lr=0.1)

    def step(x, update):
        loss = (hx.tanh(x @ w) ** 2).mean()
        loss.backward()
        if update:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    return step, w


@pytest.mark.usefixtures("written_in_place")
def test_gradients_of_several_steps_add_up():
    (own, w), (other, v) = accumulating(), accumulating()
    captured = hx.capture(own, strict=True)
    for i in range(24):
        x = hx.tensor(HOST.standard_normal((5, 2)).astype(np.float32))
        update = i % 3 == 2
        assert equal(captured(x, update), other(x, update).detach()), i
        assert equal(w, v)
        assert (w.grad is None) == (v.grad is None) == update
        assert update or equal(w.grad, v.grad)
    assert captured.replays >= 12


def test_gradients_stay_where_nobody_drops_them():
    w = hx.nn.Parameter([1.0, 2.0])
    captured = hx.capture(lambda x: (w * x).sum().backward())
    for i in range(6):
        w.grad = None
        assert captured(hx.tensor([1.0 * i, 3.0])) is None
        assert w.grad.tolist() == [i, 3.0]
    assert captured.replays == 3
    kept = w.grad
    captured(hx.tensor([1.0, 1.0]))  # now there is one already: another program
    assert w.grad.tolist() == [6.0, 4.0]
    assert kept.tolist() == [5.0, 3.0]


def test_parameters_that_share_a_gradient_do_not_share_its_memory():
    a, b = hx.nn.Parameter([1.0, 2.0]), hx.nn.Parameter([3.0, 4.0])
    captured = hx.capture(lambda x: ((a + b) * x).sum().backward(), strict=True)
    for _ in range(5):
        a.grad = b.grad = None
        captured(hx.tensor([5.0, 6.0]))
    with hx.no_grad():
        a.grad.assign_(hx.tensor([0.0, 0.0]))
    assert b.grad.tolist() == [5.0, 6.0]


def test_an_argument_that_requires_a_gradient_gets_it():
    captured = hx.capture(lambda x: (x * x).sum().backward(), strict=True)
    for i in range(6):
        x = hx.tensor([1.0, i], requires_grad=True)
        captured(x)
        assert x.grad.tolist() == [2.0, 2.0 * i]
    assert captured.replays == 3


# Guards


@pytest.mark.usefixtures("written_in_place")
def test_other_shapes_and_dtypes_have_programs_of_their_own():
    captured, own, other = twins()
    sizes = [4, 7, 4, 4, 7, 4, 7, 7, 4, 7, 1, 4, 1, 1, 1, 7]
    follow(captured, own, other, len(sizes), batches=lambda i: batch(sizes[i]))
    assert captured.replays == len(sizes) - 9


def test_arguments_that_are_no_tensors_count_by_value_and_type():
    captured = hx.capture(lambda x, power, *, sign=1: sign * x**power, strict=True)
    x = hx.tensor([2.0, 3.0])
    for _ in range(5):
        assert captured(x, 2).tolist() == [4.0, 9.0]
        assert captured(x, 3).tolist() == [8.0, 27.0]
        assert captured(x, 2.0).dtype == hx.float32
        assert captured(x, power=2).tolist() == [4.0, 9.0]
        assert captured(x, 2, sign=-1).tolist() == [-4.0, -9.0]
    assert captured.replays == 10


def test_structures_of_tensors_go_in_and_out():
    def step(pair, *, more):
        return {"sum": pair[0] + pair[1], "all": [more["z"] * 2, (pair[0],)], "no": None}

    captured = hx.capture(step, strict=True)
    for i in range(6):
        x, y, z = (hx.tensor([float(v + i)]) for v in (1, 2, 3))
        found = captured((x, y), more={"z": z})
        assert found["sum"].tolist() == [3.0 + 2 * i]
        assert found["all"][0].tolist() == [6.0 + 2 * i]
        assert found["all"][1][0] is x
        assert found["no"] is None
    assert captured.replays == 3


def test_a_tensor_given_twice_is_not_taken_for_two():
    captured = hx.capture(lambda x, y: x * 10 + y, strict=True)
    x, y = hx.tensor([1.0]), hx.tensor([2.0])
    for _ in range(5):
        assert captured(x, x).tolist() == [11.0]
        assert captured(x, y).tolist() == [12.0]
    assert captured.replays >= 3


def test_a_parameter_that_is_an_argument_is_not_taken_for_another():
    w, v = hx.nn.Parameter([2.0]), hx.nn.Parameter([3.0])
    captured = hx.capture(lambda p: (p * w * 10 + p).detach(), strict=True)
    for _ in range(5):
        assert captured(w).item() == 42.0
    for _ in range(5):
        assert captured(v).item() == 63.0
    assert captured.replays == 4


@pytest.mark.usefixtures("written_in_place")
def test_a_gradient_that_was_put_there_is_used_as_ever():
    captured, own, other = twins()
    for twin in (own, other):
        twin[2].groups[0]["params"].append(hx.nn.Parameter([1.0]))
        twin[2].__init__(twin[2].groups[0]["params"], lr=0.01)

    def put(i, twin):
        if i == 6:
            twin[2].parameters[-1].grad = hx.tensor([2.0])

    follow(captured, own, other, 10, before=put)
    assert captured.replays == 6


@pytest.mark.usefixtures("written_in_place")
def test_written_parameters_are_seen():
    captured, own, other = twins()

    def write(i, twin):
        with hx.no_grad():
            if i == 6:
                twin[1][0].weight.assign_(twin[1][0].weight * 0.5)
            if i == 9:
                twin[1].load_state_dict({k: v * 2 for k, v in twin[1].state_dict().items()})
            if i == 12:
                twin[1][0].bias[2] = 3.0

    follow(captured, own, other, 16, before=write)
    assert captured.replays == 13


def test_of_tensors_that_share_an_array_the_one_that_is_read_counts():
    pairs = [hx.tensor([1.0]) for _ in range(4)]
    pairs = [(x, x.detach()) for x in pairs] + [(x.detach(), x) for x in pairs]
    captured = [hx.capture(lambda x, y=y: x * y, strict=True) for y, _ in pairs]
    one = hx.tensor([1.0])
    for _ in range(5):
        assert {step(one).item() for step in captured} == {1.0}
    for k, (y, _) in enumerate(pairs[:4]):
        y.assign_(hx.tensor([k + 2.0]))
    for _ in range(4):
        assert [step(one).item() for step in captured] == [2.0, 3.0, 4.0, 5.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.usefixtures("written_in_place")
def test_parameters_that_share_memory_with_numpy_keep_to_themselves():
    array = np.array([1.0, 2.0], np.float32)
    w = hx.asarray(array)
    w.requires_grad = True

    def step(x):
        with hx.no_grad():
            w.assign_(w + x)
        return w.detach()

    captured = hx.capture(step, strict=True)
    kept = [captured(hx.tensor([1.0, 1.0])) for _ in range(6)]
    assert [k.tolist() for k in kept] == [[i + 2.0, i + 3.0] for i in range(6)]
    assert array.tolist() == [1.0, 2.0]
    assert captured.replays == 3


@pytest.mark.usefixtures("written_in_place")
def test_a_loaded_optimizer_is_followed():
    captured, own, other = twins()
    saved = {}

    def load(i, twin):
        if i == 5:
            state = twin[2].state_dict()
            saved[id(twin)] = {
                **state,
                "state": {k: {n: t + 0 for n, t in s.items()} for k, s in state["state"].items()},
            }
        if i == 9:
            twin[2].load_state_dict(saved[id(twin)])

    follow(captured, own, other, 14, before=load)
    assert captured.replays >= 9


@pytest.mark.usefixtures("written_in_place")
def test_a_replaced_parameter_is_seen():
    captured, own, other = twins()

    def replace(i, twin):
        if i == 6:
            twin[1][0].weight = hx.nn.Parameter(np.eye(8, 6, dtype=np.float32))

    follow(captured, own, other, 12, before=replace)
    assert captured.replays >= 6


@pytest.mark.usefixtures("written_in_place")
def test_frozen_parameters_are_seen():
    captured, own, other = twins()

    def freeze(i, twin):
        if i in (6, 12):
            twin[1][0].requires_grad_(i == 12)

    follow(captured, own, other, 16, before=freeze)
    assert captured.replays == 16 - 3 - 3 - 2  # counts part in the first that is frozen


def test_training_and_evaluation_have_programs_of_their_own():
    model = hx.nn.Sequential(hx.nn.Linear(3, 3, rng=hx.random.Rng(0)), hx.nn.Dropout(0.5))
    captured = hx.capture(lambda x: model(x).detach(), strict=True)
    x = hx.ones((64, 3))  # among so many one is dropped
    for turn in range(4):
        model.train()
        for _ in range(5):
            assert 0.0 in captured(x).numpy(), turn
        model.eval()
        wanted = model(x).detach()
        for _ in range(5):
            assert equal(captured(x), wanted), turn
    assert captured.replays >= 20


def test_an_attribute_of_a_module_that_changes_is_seen():
    layer = hx.nn.Dropout(0.5)
    captured = hx.capture(layer, strict=True)
    x = hx.ones((64,))
    for _ in range(5):
        captured(x)
    layer.p = 0.0
    assert equal(captured(x), x)
    assert equal(captured(x), x)
    assert captured.replays == 2


def test_no_grad_is_a_guard():
    w = hx.nn.Parameter([2.0])

    def step(x):
        y = w * x
        if hx.is_recording():
            y.sum().backward()
        return y

    captured = hx.capture(step, strict=True)
    x = hx.tensor([3.0])
    for _ in range(5):
        w.grad = None
        captured(x)
        assert w.grad.tolist() == [3.0]
        w.grad = None
        with hx.no_grad():
            captured(x)
        assert w.grad is None
    assert captured.replays == 4


def test_the_default_dtype_is_a_guard():
    captured = hx.capture(lambda x: hx.zeros((2,)) + hx.mean(x), strict=True)
    x = hx.tensor([1, 2])
    for dtype in ("float32", "float64", "float32"):
        hx.set_default_dtype(dtype)
        try:
            assert {str(captured(x).dtype) for _ in range(4)} == {dtype}
        finally:
            hx.set_default_dtype("float32")


@pytest.mark.usefixtures("written_in_place")
def test_whoever_watches_sees_the_step_itself():
    captured, own, other = twins()
    follow(captured, own, other, 5)
    runs = own[0].runs
    with hx.profiler.profile() as seen:
        captured(*batch())
    assert own[0].runs == runs + 1
    assert seen is not None
    handle = own[1][0].weight.register_hook(lambda g: None)
    captured(*batch())
    assert own[0].runs == runs + 2
    handle.remove()
