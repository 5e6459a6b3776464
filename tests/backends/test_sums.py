"""Sums of floats on the CPU: as NumPy's for any layout, and exact for any number of terms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import helixml as hx
from helixml.backends.cpu.sums import FEW, RUN, add_up

SHAPES = [
    (3 * RUN,), (3 * RUN, 5), (0, 5), (FEW + 1, 3), (FEW * RUN + 7, 1), (70, 70, 7), (3, 500, 7),
    (500, 3, 20), (2, 100, 100, 3),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_are_numpys_for_any_layout(rng, shape):
    x = rng.standard_normal(shape)
    views = [x, x[::-1], np.asfortranarray(x), x[..., ::2], np.broadcast_to(x[:1], x.shape)]
    for count in range(x.ndim + 1):
        for axis, view in itertools.product(itertools.combinations(range(x.ndim), count), views):
            for keepdims in (False, True):
                found = add_up(view, axis, keepdims=keepdims)
                wanted = np.sum(view, axis=axis, keepdims=keepdims)
                assert found.shape == wanted.shape
                assert np.allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(10000, 20), (100, 100, 20), (2, 10000, 20)])
def test_many_terms_cost_no_digits(rng, shape):
    x = rng.random(shape, np.float32)
    axis = tuple(range(len(shape) - 1))
    found = hx.sum(hx.tensor(x), axis=axis).numpy()
    # A level adds RUN terms, or twice as many, each of them rounded by half an eps at most and in
    # either direction; one after the other 10,000 terms err by 20 to 100 eps.
    error = np.abs(found / x.sum(axis=axis, dtype=float) - 1).max()
    assert error <= 4 * np.finfo(np.float32).eps


@pytest.mark.parametrize("axis", [0, 1])
def test_running_sums_are_rounded_once(rng, axis):
    x = rng.random((3000, 3000), np.float32)[
        :: 1 if axis == 0 else 1000, :: 1000 if axis == 0 else 1
    ]
    found = hx.cumulative_sum(hx.tensor(x), axis=axis).numpy()
    wanted = np.cumsum(x, axis=axis, dtype=float)
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted.astype(np.float32))
