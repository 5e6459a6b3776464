"""Large copies: what NumPy gives, in memory that is used again."""

from __future__ import annotations

import numpy as np
import pytest

from helixml.backends import registry
from helixml.backends.cpu import kernels

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels import _kernels
from helixml.backends.cpu.kernels.copying import concat, copy, place
from helixml.backends.cpu.kernels.layout import sum_of_parts, zeros

DTYPES = ["float32", "float64"]

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.fixture
def any_size(monkeypatch):
    """Copy by the kernel however little it is."""
    monkeypatch.setattr(_kernels, "SMALLEST_BLOCK", 0)


def pieces(rng, shape, axis, sizes, dtype):
    for n in sizes:
        yield rng.standard_normal((*shape[:axis], n, *shape[axis:])).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (4, 33), (2, 3, 1)])
def test_what_is_joined_is_what_numpy_joins(of_any_number_of_threads, any_size, rng, shape, dtype):
    for axis in range(len(shape) + 1):
        for sizes in ((1, 1), (3, 1, 20000 // max(shape, default=1)), (5,), (0, 2)):
            arrays = list(pieces(rng, shape, axis, sizes, dtype))
            arrays.append(np.asfortranarray(arrays[0]))
            arrays.append(np.ascontiguousarray(arrays[0][..., ::-1])[..., ::-1])
            found = of_any_number_of_threads(lambda a=arrays, axis=axis: concat(a, axis=axis))
            np.testing.assert_array_equal(found, np.concatenate(arrays, axis=axis))
            assert found.dtype == dtype


def test_joining_is_left_to_numpy_where_it_is_small_or_wrong(any_size):
    x = np.ones((2, 3))
    assert concat([x, x.astype("f4")], axis=0) is None
    assert concat([x, np.ones((2, 4))], axis=0) is None
    assert concat([x, np.ones(3)], axis=0) is None
    with pytest.raises(ValueError, match="dimensions"):
        registry.get("cpu").concat([x, np.ones(3)], axis=0)


def test_small_results_are_left_to_numpy():
    x = np.ones((2, 3))
    assert copy(x) is None
    assert concat([x, x], axis=0) is None
    assert place(x, (4, 3), (slice(0, 2),)) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_share_nothing(of_any_number_of_threads, rng, dtype):
    x = rng.standard_normal((301, 200)).astype(dtype)
    for view in (x, x.T, x[::-1, 3:], np.broadcast_to(x[0], (400, 200)), x.reshape(-1)):
        found = of_any_number_of_threads(lambda view=view: copy(view))
        np.testing.assert_array_equal(found, view)
        assert found.flags.carray
        assert not np.shares_memory(found, view)


@pytest.mark.parametrize("dtype", DTYPES)
def test_places_are_those_of_numpy(rng, dtype):
    for shape, index in (((300, 200), (slice(0, 300, 3),)), ((3, 40, 500), (..., None, -1))):
        wanted = np.zeros(shape, dtype)
        x = rng.standard_normal(wanted[index].shape).astype(dtype)
        wanted[index] = x
        np.testing.assert_array_equal(place(x, shape, index), wanted)


def test_large_results_lie_in_memory_used_before(rng):
    x = rng.standard_normal((500, 300))
    for compute in (
        lambda: copy(x),
        lambda: concat([x, x], axis=1),
        lambda: zeros((700, 300), x.dtype),
    ):
        compute()
        before = _kernels.memory()["reused"]
        compute()
        assert _kernels.memory()["reused"] > before


def test_sums_of_parts_are_those_of_numpy(rng):
    parts = rng.standard_normal((7, 200, 300))
    assert sum_of_parts(parts).tobytes() == parts.sum(axis=0).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_of_rows_are_joined_by_the_kernel(of_any_number_of_threads, rng, dtype, monkeypatch):
    x = rng.standard_normal((6, 500, 90)).astype(dtype)
    wanted = np.concatenate([x[..., 50:], x[..., :40]], axis=2)
    copies = []
    kernel = _kernels.Copy
    monkeypatch.setattr(_kernels, "Copy", lambda *rows: copies.append(rows) or kernel(*rows))
    found = of_any_number_of_threads(lambda: concat([x[..., 50:], x[..., :40]], axis=2))
    np.testing.assert_array_equal(found, wanted)
    assert len(copies) == 2 * 3
    short = x[:, :300, :40]  # its rows have no single stride
    np.testing.assert_array_equal(concat([short, short], axis=2), np.concatenate([short] * 2, 2))
    assert len(copies) == 2 * 3
