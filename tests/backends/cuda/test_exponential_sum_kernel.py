"""Sums of complex exponentials against NumPy's complex numbers in 64 bits."""

import numpy as np
import pytest

from helixml.backends.cuda.kernels import exponential_sum
from helixml.testing import cuemu

from .conftest import close, random, wide


def goals(weights, exponents, g):
    """Return y and the gradients of weights and exponents, from the whole table of powers."""
    w, s = (x[..., 0] + 1j * x[..., 1] for x in (weights, exponents))
    t = np.arange(g.shape[-1])
    powers = np.exp(s[..., None] * t)  # (d, n, l)
    y = np.einsum("...dn,dnl->...dl", w, powers).real
    of_w = np.conj(np.einsum("...dl,dnl->...dn", g, powers))
    of_s = np.conj(w) * np.conj(np.einsum("...dl,dnl->...dn", t * g, powers))
    of_s = of_s.reshape(-1, *s.shape).sum(0)
    return [y, *(np.stack([z.real, z.imag], -1) for z in (of_w, of_s))]


def check(cp, shape, length, dtype, fastest=3.0):
    """Compare the kernels with the goals, relative to the size of each result."""
    weights, g = random(shape, dtype, 1), random((*shape[:-2], length), dtype, 2)
    exponents = random(shape[-3:], dtype, 3)
    exponents[..., 0] = -abs(exponents[..., 0]) / 20
    exponents[..., 1] *= fastest / 2
    sums = exponential_sum.ExponentialSum(cp)
    inputs = [cp.asarray(weights), cp.asarray(exponents)]
    (y,), residuals = sums.forward(*inputs, length=length)
    pulled = sums.backward((cp.asarray(g),), (True, True), inputs, residuals, length=length)
    for found, goal in zip((y, *pulled), goals(*wide(weights, exponents, g)), strict=True):
        close(found, goal, 16 * length)
    return y, *pulled


def test_sums_and_gradients_in_any_order_of_threads(cp, dtype, order):
    check(cp, (2, 3, 5, 2), 37, dtype)


@pytest.mark.parametrize("length", [1, 2, 128, 1025, 2300])
def test_lengths_below_and_beyond_a_block(cp, length):
    check(cp, (2, 4, 2), length, "float64")


@pytest.mark.parametrize("terms", [1, 31, 33, 70])
def test_numbers_of_terms(cp, terms):
    check(cp, (1, 2, terms, 2), 40, "float64")


def test_segments_join(cp, order, monkeypatch):
    monkeypatch.setattr(exponential_sum, "_FEWEST_STEPS", 50)
    check(cp, (1, 3, 2), 333, "float64")


def test_angles_of_many_turns_are_exact(cp):
    sums = exponential_sum.ExponentialSum(cp)
    exponents = np.array([[[0.0, 3.0]]], np.float32)
    weights = np.array([[[1.0, 0.0]]], np.float32)
    (y,), _ = sums.forward(cp.asarray(weights), cp.asarray(exponents), length=20_000)
    goal = np.cos(3.0 * np.arange(20_000))
    np.testing.assert_allclose(y.get()[0], goal, rtol=0, atol=2e-6)


def test_the_same_bits_every_time(cp):
    first = [x.get() for x in check(cp, (2, 3, 5, 2), 300, "float32")]
    for x, other in zip(first, check(cp, (2, 3, 5, 2), 300, "float32"), strict=True):
        np.testing.assert_array_equal(x, other.get())


def test_calls_that_are_left_to_the_definition():
    some, none = np.zeros((2, 3, 2)), np.zeros((2, 0, 2))
    assert exponential_sum.takes_terms([some, some], {"length": 4})
    assert not exponential_sum.takes_terms([some, some], {"length": 0})
    assert not exponential_sum.takes_terms([some, some], {"length": (1 << 24) + 1})
    assert not exponential_sum.takes_terms([none, none], {"length": 4})


def test_sums_are_written_once_and_cotangents_read_once(cp):
    if not hasattr(cp, "cuemu"):
        pytest.skip("a GPU counts no bytes")
    cp.cuemu.reset()
    with cuemu.counting():
        check(cp, (3, 8, 2), 4000, "float32")
    y = 4 * 3 * 4000
    terms = 4 * 3 * 8 * 2
    assert cp.cuemu.bytes_written["exponential_sum"] == y
    assert cp.cuemu.bytes_read["exponential_sum"] == 4 * 2 * terms  # a block has 1024 steps
    assert y <= cp.cuemu.bytes_read["pull_moments"] <= 1.15 * y  # lanes share what they read
