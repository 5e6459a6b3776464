"""Sums over leading axes: values, equal bits for any number of threads, what is left to NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from helixml import config
from helixml.backends import registry
from helixml.backends.cpu import kernels

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels.linear import linear_vjp
from helixml.backends.cpu.kernels.summing import sum, sum_of_rows
from helixml.backends.cpu.sums import add_up

SHAPES = [(0, 3), (1, 1), (31, 7), (65, 40), (1000, 33), (4099, 16), (3000, 300), (70, 0)]

pytestmark = pytest.mark.usefixtures("instruction_set")


def near(found, x):
    """Compare with the sum in float64: error of at most log2(n) roundings of all that is added."""
    wide = x.astype(np.float64)
    bound = np.finfo(x.dtype).eps * np.log2(len(x) + 2) * np.abs(wide).sum(0)
    assert (np.abs(found - wide.sum(0)) <= bound).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_rows(of_any_number_of_threads, rng, dtype, shape):
    n, d = shape
    x = rng.standard_normal((n, d)).astype(dtype)
    for view in (x, np.asfortranarray(x), np.concatenate([x, x], 1)[:, :d], x[::-1]):
        found = of_any_number_of_threads(lambda view=view: sum_of_rows(view))
        assert (found.shape, found.dtype) == ((d,), dtype)
        near(found, view)


def test_infinities_and_nan_stay_in_their_column():
    x = np.ones((200, 5), np.float32)
    x[3, 1], x[150, 2], x[7, 3], x[8, 3] = np.inf, np.nan, np.inf, -np.inf
    found = sum_of_rows(x)
    assert np.array_equal(found, [200, np.inf, np.nan, np.nan, 200], equal_nan=True)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_the_backend_sums_over_leading_axes(rng, count, keepdims):
    x = rng.standard_normal((80, 60, 20))
    axis = tuple(range(count))
    for found in (
        sum(x, axis=axis, keepdims=keepdims),
        registry.get("cpu").sum(x, axis=axis, keepdims=keepdims),
    ):
        wanted = x.sum(axis, keepdims=keepdims)
        assert found.shape == wanted.shape
        assert np.allclose(found, wanted, rtol=1e-13, atol=1e-12)


def test_other_sums_are_left_to_others(rng):
    x = rng.standard_normal((300, 200))
    for view, axis in (
        (x, (0, 1)),
        (x, (1,)),
        (x, ()),
        (x.T, (0,)),
        (x[:20, :20].copy(), (0,)),
        (x.reshape(60, 1000), (0,)),
        (x.reshape(-1, 1), (0,)),
    ):
        assert sum(view, axis=axis, keepdims=False) is None
    with config.using(kernels=False):
        found = registry.get("cpu").sum(x, axis=(0,), keepdims=False)
    assert found.tobytes() == add_up(x, (0,)).tobytes()


def test_the_gradient_of_a_bias_has_the_same_bits_for_any_number_of_threads(
    of_any_number_of_threads, rng
):
    x, w, g = (rng.standard_normal(s) for s in ((40, 60, 8), (50, 8), (40, 60, 50)))
    inputs, needs = (x, w, np.zeros(50)), (False, False, True)
    found = of_any_number_of_threads(lambda: linear_vjp((g,), needs, inputs, ())[2])
    near(found, g.reshape(-1, 50))
