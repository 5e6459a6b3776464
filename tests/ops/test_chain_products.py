"""The products of the chain rule where a derivative is singular, by kernels and without."""

import numpy as np
import pytest

import helixml as hx
from helixml.ops.elementwise import chain, quotient

EDGES = np.array([0.0, -0.0, 0.5, -2.0, np.inf, -np.inf, np.nan])


@pytest.fixture(params=[True, False], ids=["kernels", "definition"], autouse=True)
def kernels(request):
    with hx.config.using(kernels=request.param):
        yield


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64"])
@pytest.mark.parametrize(
    ("op", "spared", "plain"),
    [
        (chain, lambda y: ~np.isfinite(y), hx.multiply),
        (quotient, lambda y: (y == 0) | np.isnan(y), hx.divide),
    ],
)
def test_zero_times_a_singular_derivative_is_zero_and_all_else_as_it_is(op, spared, plain, dtype):
    x, y = (a.ravel().astype(dtype) for a in np.meshgrid(EDGES, EDGES))
    found = op(hx.tensor(x), hx.tensor(y)).numpy()
    zero = (x == 0) & spared(y)
    assert not found[zero].any()
    # Devices have their own ways of dividing complex numbers by 0.
    goal = plain(hx.tensor(x), hx.tensor(y)).numpy()
    np.testing.assert_array_equal(found[~zero], goal[~zero])


@pytest.mark.parametrize("op", [chain, quotient])
def test_shapes_broadcast_and_strides_do_not_matter(op):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 2, (70, 40)), rng.uniform(1, 2, (40, 70))
    function = np.multiply if op is chain else np.divide
    for one, other in ((x, y.T), (x[:, :1], y.T), (x[::2], x[0]), (x, y[3, 3])):
        found = op(hx.tensor(one), hx.tensor(other)).numpy()
        np.testing.assert_allclose(found, function(one, other), rtol=1e-15)


def test_a_masked_root_has_a_clean_gradient():
    x = hx.tensor([0.0, 4.0], requires_grad=True)
    hx.where(x > 0, hx.sqrt(x), 0).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_a_second_derivative_beside_the_singular_place_is_that_of_the_rest():
    def f(x):
        return hx.where(x > 0, hx.sqrt(x), x * x).sum()

    slope = hx.autograd.grad(f)
    second = hx.autograd.grad(lambda x: slope(x).sum())(hx.tensor([-1.0, 4.0]))
    assert second.tolist() == [2.0, -1 / 32]
