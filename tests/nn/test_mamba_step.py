"""A step of MambaBlock is one op where all its layers are plain, and what they are elsewhere."""

import numpy as np
import pytest

import helixml as hx
from helixml import quantization


@pytest.fixture
def block():
    return hx.nn.MambaBlock(6, d_state=3, bias=True, rng=hx.random.Rng(1))


@pytest.fixture
def steps(monkeypatch):
    """The calls of `mamba_step`, counted."""
    calls = []
    whole = hx.mamba_step

    def counted(*args):
        calls.append(len(args))
        return whole(*args)

    monkeypatch.setattr(hx, "mamba_step", counted, raising=False)
    return calls


def by_steps(block, x):
    state, found = block.init_state(x.shape[0]), []
    for t in range(x.shape[1]):
        y, state = block.step(x[:, t], state)
        found.append(y)
    return hx.stack(found, axis=1)


def assert_steps_are_the_whole(block, x):
    with hx.no_grad():
        np.testing.assert_allclose(by_steps(block, x).numpy(), block(x).numpy(), atol=2e-6)


def draw():
    return hx.random.Rng(2).normal((2, 5, 6))


def test_a_step_is_one_op(block, steps):
    assert_steps_are_the_whole(block, draw())
    assert len(steps) == 5


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_step_of_stored_weights_is_one_op(block, steps, dtype):
    quantization.store_weights(block, dtype)
    assert_steps_are_the_whole(block, draw())
    assert len(steps) == 5


def test_a_step_runs_hooks(block, steps):
    block.out_proj.register_forward_hook(lambda layer, args, y: 2 * y)
    assert_steps_are_the_whole(block, draw())
    assert not steps


def test_a_step_runs_another_linear_layer(block, steps):
    class Doubled(hx.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    block.in_proj = Doubled(6, 24, rng=hx.random.Rng(0))
    assert_steps_are_the_whole(block, draw())
    assert not steps


def test_a_step_normalises_what_selects(steps):
    block = hx.nn.MambaBlock(6, d_state=3, select_eps=1e-5, rng=hx.random.Rng(1))
    assert_steps_are_the_whole(block, draw())
    assert not steps


def test_a_step_of_a_quantization_aware_layer(block, steps):
    quantization.quantize_aware(block).eval()
    assert_steps_are_the_whole(block, draw())
    assert not steps
