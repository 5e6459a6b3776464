"""In-place kernels once read operands in memory that they were overwriting."""

import numpy as np

import helixml as hx
from helixml import config

SETTINGS = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.01, "step": 1}


def first_moment():
    """Return m after a step whose parameter lies in the memory of its gradient, one place later."""
    base = hx.arange(40, device="reference").astype("float32")
    param, grad = base[1:], base[:-1]
    m, v = hx.zeros_like(grad), hx.zeros_like(grad)
    hx.ops.adamw_(param, grad, m, v, **SETTINGS)
    return m.tolist()


def test_a_gradient_that_shares_memory_with_its_parameter_is_read_as_it_was():
    with config.using(kernels=False):
        expected = first_moment()
    assert np.allclose(first_moment(), expected, rtol=1e-6)
