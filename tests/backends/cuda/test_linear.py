"""The map of the last axis by a matrix: its gradients, and in which order they lie."""

import numpy as np
import pytest

from helixml.backends.cuda.kernels.linear import Linear

from .conftest import close, random, wide


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)], ids=str)
def test_values_and_gradients(cp, dtype, shape):
    x, w, b = random(shape, dtype), random((5, 4), dtype, 1), random((5,), dtype, 2)
    g = random((*shape[:-1], 5), dtype, 3)
    linear = Linear(cp)
    given = [cp.asarray(array) for array in (x, w, b)]
    (y,), residuals = linear.forward(*given)
    found = linear.backward((cp.asarray(g),), [True] * 3, given, residuals)
    x, w, b, g = wide(x, w, b, g)
    close(y, x @ w.T + b, 4)
    rows = x.reshape(-1, 4), g.reshape(-1, 5)
    goals = g @ w, rows[1].T @ rows[0], rows[1].sum(0)
    for gradient, goal in zip(found, goals, strict=True):
        close(gradient, goal, 6)
        assert gradient.flags.c_contiguous


def test_rows_with_gaps_are_copied_once(cp):
    x = cp.asarray(random((2, 3, 9), np.float32))[..., :4]
    w = cp.asarray(random((5, 4), np.float32))
    linear = Linear(cp)
    (y,), residuals = linear.forward(x, w)
    linear.backward((y,), [True, True, False], [x, w, None], residuals)
    close(y, np.matmul(*wide(x.get(), w.get().T)), 4)
    if hasattr(cp, "cuemu"):
        assert cp.cuemu.library_launches == {"ascontiguousarray": 1, "matmul": 3}
