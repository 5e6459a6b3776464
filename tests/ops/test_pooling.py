"""Max pooling: to which entry the gradient goes."""

import numpy as np
import pytest

import helixml as hx


def gradient(f, x):
    return hx.grad(lambda x: f(x).sum())(hx.tensor(x)).numpy()


@pytest.mark.parametrize(
    "pool", [lambda x: hx.max_pool2d(x, 2), lambda x: hx.adaptive_max_pool2d(x, 1)]
)
@pytest.mark.parametrize("first", range(4))
def test_of_equal_values_the_first_gets_the_gradient_row_by_row(pool, first):
    x = np.zeros(4)
    x[first:] = 1.0
    assert gradient(pool, x.reshape(1, 2, 2)).ravel().tolist() == np.eye(4)[first].tolist()


def test_the_gradient_of_negative_infinity_does_not_go_into_the_padding():
    x = np.full((1, 2, 3), -np.inf)
    g = gradient(lambda x: hx.max_pool2d(x, 3, stride=2, padding=1), x)
    np.testing.assert_array_equal(g, [[[1, 1, 0], [0, 0, 0]]])


def test_integers_are_padded_with_less_than_any():
    x = hx.tensor(np.array([[-128, -3, 5]], np.int8))
    assert hx.max_pool1d(x, 2, stride=1, padding=1).numpy().tolist() == [[-128, -3, 5, 5]]
