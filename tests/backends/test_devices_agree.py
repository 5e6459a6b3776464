"""Models trained on each device: the same numbers, to rounding, and dropout with the same bits."""

import functools

import numpy as np
import pytest

import helixml as hx
from helixml.backends import registry
from serving import each, serving

DEVICES = ("reference", "array_api_strict")
STEPS = 4
# A step of AdamW divides by the root of the second moment, where a gradient near zero keeps few
# digits; float32 rounding, 1e-7, grows by a factor of some hundreds over the steps.
CLOSE = 1e-4


@functools.cache
def trained(device, optimizer, kernels=True):
    """Return losses and norms of each step, and the weights at the end."""
    with hx.config.using(kernels=kernels):
        config = hx.models.MambaConfig(
            vocab_size=11, hidden_size=8, num_hidden_layers=1, state_size=3
        )
        model = hx.models.MambaLM(config, rng=hx.random.Rng(4)).to(device)
        if optimizer == "AdamW":
            update = hx.optim.AdamW(model.parameters(), lr=1e-2)
        else:
            update = hx.optim.SGD(
                model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
            )
        ids = hx.random.Rng(5).integers(0, 11, (2, 7)).to(device)
        numbers = []
        for _ in range(STEPS):
            loss = hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
            update.zero_grad()
            loss.backward()
            norm = hx.optim.clip_grad_norm(model.parameters(), 1.0)
            update.step()
            numbers += [loss.item(), norm.item()]
        weights = {name: x.numpy() for name, x in model.state_dict().items()}
    return np.array(numbers), weights


def compare(one, other):
    np.testing.assert_allclose(one[0], other[0], rtol=CLOSE)
    for name, weight in one[1].items():
        scale = np.abs(weight).max()
        np.testing.assert_allclose(weight, other[1][name], atol=CLOSE * scale, err_msg=name)


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
@pytest.mark.parametrize("device", DEVICES)
def test_training_gives_the_numbers_of_the_cpu(device, optimizer):
    report = registry.available()[device]
    if report != "ok":
        pytest.skip(report)
    found = trained(device, optimizer)
    compare(trained("cpu", optimizer), found)
    assert found[0][-2] < found[0][0]  # and it learns


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_training_without_kernels_gives_the_same_numbers(optimizer):
    compare(trained("cpu", optimizer), trained("cpu", optimizer, kernels=False))


@pytest.mark.parametrize("device", DEVICES)
def test_stepping_through_a_sequence_gives_the_logits_of_the_whole(device):
    config = hx.models.MambaConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, state_size=3)
    model = hx.models.MambaLM(config, rng=hx.random.Rng(1)).to(device)
    ids = hx.random.Rng(2).integers(0, 11, (2, 5)).to(device)
    whole = model(ids).numpy()
    state = model.init_state(2)
    for t in range(5):
        logits, state = model.step(ids[:, t], state)
        np.testing.assert_allclose(logits.numpy(), whole[:, t], atol=1e-5 * np.abs(whole).max())


# A byte language model on every backend. Without a GPU the emulator stands in for one.


@pytest.fixture
def everywhere(request):
    """Name the device of the parameter."""
    with serving(request.param) as name:
        yield name


@functools.cache
def byte_model(device, dtype="float32"):
    """Return the losses of 20 steps, and which logits dropout zeroed in each."""
    config = hx.models.ByteLMConfig(hidden_size=32, num_hidden_layers=2)
    model = hx.models.ByteLM(config, rng=hx.random.Rng(4)).to(device, dtype)
    update = hx.optim.AdamW(model.parameters(), lr=3e-3)
    ids = hx.random.Rng(5).integers(0, 256, (2, 65)).to(device)
    rng = hx.random.Rng(6)
    losses, zeros = [], []
    for _ in range(20):
        logits = hx.dropout(model(ids[:, :-1]), 0.1, rng=rng)
        loss = hx.cross_entropy(logits, ids[:, 1:])
        update.zero_grad()
        loss.backward()
        update.step()
        losses.append(loss.item())
        zeros.append(logits.numpy() == 0)
    return np.array(losses), np.array(zeros)


# The slow ones run plain loops, check every call, compile for every shape, emulate.
@pytest.mark.parametrize(
    "everywhere",
    each(slow=("reference", "array_api_strict", "jax", "wgpu", "cuda")),
    indirect=True,
)
def test_twenty_steps_of_a_byte_model_give_the_same_losses_and_drop_the_same(everywhere):
    losses, zeros = byte_model(everywhere)
    goal, dropped = byte_model("cpu", "float64")
    np.testing.assert_allclose(losses, goal, rtol=1e-4)
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_array_equal(zeros, dropped)
    assert 0.08 < zeros.mean() < 0.12


@pytest.mark.parametrize("everywhere", each(slow=("jax", "cuda")), indirect=True)
def test_dropout_has_the_same_bits(everywhere):
    def masks(device):
        rng = hx.random.Rng(3)
        rng._counter = 2**64 - 3  # the lower half of the counter wraps around
        layer = hx.nn.Dropout(0.4, rng=rng)
        for shape in ((5, 9), (), (1,), (0, 3), (2, 3, 33)):
            yield layer(hx.ones(shape, device=device)).numpy()

    for here, there in zip(masks("cpu"), masks(everywhere), strict=True):
        assert here.dtype == there.dtype
        assert here.tobytes() == there.tobytes()
