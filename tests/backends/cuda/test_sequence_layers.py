"""Layers over the kernels for sequences have the CPU's values and gradients."""

import numpy as np
import pytest

import helixml as hx
from helixml import nn


def made(name):
    """Return a layer with the same numbers anywhere, in float64."""
    rng = hx.random.Rng(3)
    layer = {
        "Mamba2Block": lambda: nn.Mamba2Block(8, d_state=4, head_dim=4, rng=rng),
        "S4D": lambda: nn.S4D(8, d_state=6, rng=rng),
        "H3": lambda: nn.H3(8, d_state=6, rng=rng),
    }[name]()
    return layer.to(dtype="float64")


@pytest.mark.parametrize("name", ["Mamba2Block", "S4D", "H3"])
def test_a_layer_on_the_device_does_what_it_does_on_the_cpu(device, backend, name):
    host = np.random.default_rng(0).standard_normal((2, 21, 8))
    results = []
    for place in ("cpu", device):
        layer = made(name).to(place)
        x = hx.tensor(host, device=place, requires_grad=True)
        y = layer(x)
        (y * y).sum().backward()
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    for goal, found in zip(*results, strict=True):
        size = max(1.0, float(abs(goal.numpy()).max()))
        np.testing.assert_allclose(found.numpy(), goal.numpy(), rtol=0, atol=1e-10 * size)


def test_layers_run_the_kernels_that_are_there_for_them(cp, device):
    if not hasattr(cp, "cuemu"):
        pytest.skip("a GPU counts no launches")
    x = hx.tensor(np.ones((1, 9, 8)), device=device)
    for name, kernel in (
        ("Mamba2Block", "chunk_outputs"),
        ("S4D", "exponential_sum"),
        ("H3", "exponential_sum"),
    ):
        cp.cuemu.reset()
        made(name).to(device)(x)
        assert cp.cuemu.launches[kernel], name
