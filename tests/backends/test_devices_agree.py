"""One small model, trained on each device: the same numbers, to rounding."""

import functools

import numpy as np
import pytest

import helixml as hx
from helixml.backends import registry

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
