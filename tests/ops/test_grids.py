"""Grids that are made of numbers, against NumPy's."""

import numpy as np
import pytest

import helixml as hx
from helixml.errors import DTypeError, ShapeError, ValueRangeError


@pytest.mark.parametrize("num", [0, 1, 5])
@pytest.mark.parametrize("endpoint", [True, False])
def test_logspace_and_geomspace(num, endpoint):
    options = {"dtype": "float64", "endpoint": endpoint}
    expected = np.logspace(-1, 2, num, base=2.0, endpoint=endpoint)
    np.testing.assert_allclose(hx.logspace(-1, 2, num, base=2.0, **options).numpy(), expected)
    expected = np.geomspace(-1, -100, num, endpoint=endpoint)
    np.testing.assert_allclose(hx.geomspace(-1, -100, num, **options).numpy(), expected)


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (0, 3)])
@pytest.mark.parametrize("k", [-5, -1, 0, 2])
def test_triangles(shape, k):
    rows, columns = shape
    assert hx.tri(rows, columns, k).tolist() == np.tri(rows, columns, k).tolist()
    for ours, theirs in ((hx.tril_indices, np.tril_indices), (hx.triu_indices, np.triu_indices)):
        found = ours(rows, k, columns)
        assert [line.tolist() for line in found] == [
            line.tolist() for line in theirs(rows, k, columns)
        ]
        assert all(line.dtype == hx.int64 for line in found)


def test_a_triangle_can_index():
    x = hx.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x[hx.triu_indices(2)].tolist() == [1.0, 2.0, 4.0]
    assert x[tuple(hx.argwhere(x > 2.0).mT)].tolist() == [3.0, 4.0]


def test_bad_sizes_are_refused():
    for call, error, text in (
        (lambda: hx.logspace(0, 1, -1), ValueRangeError, "num=-1 is negative"),
        (lambda: hx.logspace(0, 1, 3, base=0), ValueRangeError, "base=0 is not positive"),
        (lambda: hx.logspace("a", 1, 3), DTypeError, "start must be a number"),
        (lambda: hx.geomspace(-1, 1, 3), ValueRangeError, "must be of one sign"),
        (lambda: hx.geomspace(1, hx.nan, 3), ValueRangeError, "must be of one sign"),
        (lambda: hx.tri(-1), ShapeError, "cannot be negative"),
        (lambda: hx.tril_indices(2, 0.5), DTypeError, "k must be an integer"),
    ):
        with pytest.raises(error, match=text):
            call()
