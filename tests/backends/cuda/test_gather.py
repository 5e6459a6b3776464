"""Entries taken by index, and added up by target."""

import numpy as np
import pytest

from helixml import dtypes

from .conftest import close, random, wide


@pytest.mark.parametrize(
    ("shape", "axis", "indices"),
    [
        ((5, 3), 0, (4,)),
        ((2, 7, 40), 1, (3, 2)),
        ((4, 9), 1, (5,)),
        ((6, 130), 0, ()),
        ((3, 0), 0, (2,)),
    ],
)
@pytest.mark.parametrize("kind", dtypes.ALL, ids=str)
def test_entries_of_every_dtype_are_taken(cp, backend, kind, shape, axis, indices):
    x = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    at = np.random.default_rng(1).integers(-shape[axis], shape[axis], indices)
    found = backend.take(cp.asarray(x), cp.asarray(at), axis=axis)
    assert found.dtype == kind
    np.testing.assert_array_equal(found.get(), np.take(x, at, axis))


def test_views_that_begin_nowhere_round_are_taken_from(cp, backend):
    x = np.arange(33, dtype=np.int16)
    found = backend.take(cp.asarray(x)[1:].reshape(4, 8), cp.asarray(np.array([2, 0])), axis=0)
    assert found.get().tolist() == [list(range(17, 25)), list(range(1, 9))]


@pytest.mark.parametrize("count", [1, 70])
@pytest.mark.parametrize("width", [1, 45, 130])
def test_rows_are_added_up_by_target(cp, backend, dtype, order, count, width):
    rows = random((count, width), dtype)
    targets = np.random.default_rng(1).integers(-9, 9, count) // 2  # some have many rows, some none
    found = backend.scatter_add(cp.asarray(rows), cp.asarray(targets), axis=0, size=9)
    goal = np.zeros((9, width))
    for row, target in zip(wide(rows)[0], targets, strict=True):
        goal[target] += row
    close(found, goal, count)


def test_complex_rows_are_added_up(cp, backend):
    rows = (random((20, 3), np.float64) + 1j * random((20, 3), np.float64, 1)).astype(np.complex64)
    targets = np.arange(20) % 3
    found = backend.scatter_add(cp.asarray(rows), cp.asarray(targets), axis=0, size=4).get()
    goal = [rows[targets == t].sum(0) for t in range(4)]
    np.testing.assert_allclose(found, goal, atol=1e-5)


def test_sums_have_the_same_bits_each_time(cp, backend):
    rows, targets = random((500, 33), np.float32), np.arange(500) % 3
    found = {
        backend.scatter_add(cp.asarray(rows), cp.asarray(targets), axis=0, size=3).get().tobytes()
        for _ in range(3)
    }
    assert len(found) == 1
