"""Training on the device follows training on the CPU."""

import numpy as np
import pytest

import helixml as hx
from helixml import optim
from helixml.backends import registry


@pytest.fixture
def name(device):
    """Return the name of the device; the session keeps one open."""
    return "wgpu"


def losses(device, steps, dropout=0.0):
    """Return the losses of a language model of two Mamba blocks on random bytes."""
    config = hx.models.MambaConfig(hidden_size=32, num_hidden_layers=2)
    model = hx.models.MambaLM(config, rng=hx.random.Rng(0)).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    host, rng = np.random.default_rng(0), hx.random.Rng(1)
    found = []
    for _ in range(steps):
        ids = hx.tensor(host.integers(0, 64, (2, 65)) % 7 * 9, device=device)
        logits = model(ids[:, :-1])
        if dropout:
            logits = hx.random.dropout(logits, dropout, rng=rng)
        loss = hx.ops.cross_entropy(logits, ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("steps", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_language_model_learns_as_it_does_on_the_cpu(name, steps):
    found, goal = losses(name, steps, 0.1), losses("cpu", steps, 0.1)
    np.testing.assert_allclose(found, goal, rtol=1e-4)


@pytest.mark.slow
def test_kernels_taken_away_change_nothing_but_speed(name):
    backend = registry.get(name)
    whole = losses(name, 3)
    with backend.kernels.without(*backend.kernels):
        plain = losses(name, 3)
    np.testing.assert_allclose(whole, plain, rtol=2e-5)
