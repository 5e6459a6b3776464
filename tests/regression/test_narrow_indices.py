"""Indices of few bits into tables longer than they can count, as of bytes into 256 rows."""

import numpy as np
import pytest

import helixml as hx


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("size", [5, 128, 256, 70_000])
def test_gradients_of_rows_that_narrow_indices_take(dtype, size, kernels):
    last = min(size - 1, np.iinfo(dtype).max)
    rows = [0, last, last, 1, *([-1, -5] if dtype.startswith("int") else [])]
    expected = np.zeros((size, 2))
    np.add.at(expected, rows, 1.0)
    index = hx.tensor(rows, dtype)
    with hx.config.using(kernels=kernels):
        for take in (
            lambda x: hx.take(x, index, axis=0),
            lambda x: x[index],
            lambda x: hx.take_along_axis(x, hx.stack([index, index], axis=1), axis=0),
        ):
            x = hx.ones((size, 2))
            x.requires_grad = True
            take(x).sum().backward()
            assert np.array_equal(x.grad.numpy(), expected)
