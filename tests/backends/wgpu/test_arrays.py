"""Views, indices, sums, products and transforms, against NumPy."""

import numpy as np
import pytest

from helixml import dtypes
from helixml.backends.wgpu.arrays import collapsed
from helixml.backends.wgpu.kernels import matmul as products


def test_axes_that_lie_evenly_are_one():
    assert collapsed((2, 1, 3), (3, 99, 1)) == ((6,), [(1,)])
    assert collapsed((2, 3), (1, 2)) == ((2, 3), [(1, 2)])
    assert collapsed((), ()) == ((1,), [(1,)])


def test_movement_makes_views(backend, runtime, host):
    x = host.normal(size=(4, 6, 5)).astype(np.float32)
    made = backend.asarray(x)
    before = runtime.dispatches
    turned = backend.permute_dims(made, (2, 0, 1))
    part = backend.getitem(turned, (slice(None, None, -2), 1, None, slice(1, 5)))
    wide = backend.broadcast_to(part, (3, 3, 1, 4)[1:])
    assert runtime.dispatches == before
    np.testing.assert_array_equal(backend.to_numpy(wide), x.transpose(2, 0, 1)[::-2, 1, None, 1:5])


def test_kernels_read_views_as_they_lie(backend, runtime, host):
    x = host.normal(size=(6, 5)).astype(np.float32)
    made = backend.asarray(x)
    turned = backend.permute_dims(made, (1, 0))
    before = runtime.dispatches
    added = backend.add(turned, backend.getitem(turned, (slice(0, 1),)))
    product = backend.matmul(turned, made)
    total = backend.sum(turned, axis=(0,), keepdims=True)
    assert runtime.dispatches == before + 3
    np.testing.assert_array_equal(backend.to_numpy(added), x.T + x.T[:1])
    np.testing.assert_allclose(backend.to_numpy(product), x.T @ x, rtol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(total), x.T.sum(0, keepdims=True), rtol=1e-5)


def test_more_axes_than_kernels_know(backend, host):
    x = host.normal(size=(2,) * 11).astype(np.float32)
    order = tuple(range(10, -1, -1))
    turned = backend.permute_dims(backend.asarray(x), order)
    goal = x.transpose(order)
    np.testing.assert_array_equal(backend.to_numpy(backend.copy(turned)), goal)
    np.testing.assert_array_equal(backend.to_numpy(backend.add(turned, turned)), goal + goal)
    total = backend.sum(turned, axis=(0, 2, 5), keepdims=False)
    np.testing.assert_allclose(backend.to_numpy(total), goal.sum((0, 2, 5)), rtol=1e-5)
    every = backend.sum(turned, axis=tuple(range(11)), keepdims=False)
    np.testing.assert_allclose(backend.to_numpy(every), goal.sum(), rtol=1e-4)


def test_constants_are_never_written(backend):
    x = backend.zeros((), dtype=dtypes.float32)
    y = backend.reshape(x, (1,))
    for target in (x, y):
        kept = backend.writable(target)
        backend.assign(kept, backend.ones(kept.shape, dtype=dtypes.float32))
    assert float(backend.to_numpy(backend.zeros((), dtype=dtypes.float32))) == 0.0


def test_the_host_forgets_what_is_overwritten(backend, runtime):
    ids = backend.asarray(np.array([0, 1, 2]))
    view = backend.getitem(ids, (slice(1, 3),))
    before = runtime.reads
    assert backend.to_numpy(view).tolist() == [1, 2]
    assert runtime.reads == before
    ids = backend.assign(ids, backend.asarray(np.array([7, 8, 9])))
    assert backend.to_numpy(view).tolist() == [8, 9]
    assert backend.to_numpy(ids).tolist() == [7, 8, 9]
    assert runtime.reads > before


def test_indices_of_the_host_are_checked_without_waiting(backend, runtime):
    x = backend.asarray(np.arange(6, dtype=np.float32))
    before = runtime.reads
    ids = backend.asarray(np.array([[1, -6], [5, 0]]))
    found = backend.take(x, backend.astype(backend.permute_dims(ids, (1, 0)), dtypes.int32), axis=0)
    assert runtime.reads == before
    assert backend.to_numpy(found).tolist() == [[1.0, 5.0], [0.0, 0.0]]
    for bad in (6, -7):
        with pytest.raises(IndexError, match=r"take: an index is not in \[-6, 6\)"):
            backend.take(x, backend.asarray(np.array([0, bad])), axis=0)
    computed = backend.argmax(x, axis=0, keepdims=True)
    with pytest.raises(IndexError):
        backend.take(backend.getitem(x, (slice(0, 3),)), computed, axis=0)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 100_000), (1,)),
        ((100_000, 3), (0,)),
        ((5000, 130), (0,)),
        ((20, 7, 300), (0, 2)),
        ((64, 64, 9), (1,)),
        ((0, 3), (0,)),
        ((3, 0), (0,)),
    ],
)
def test_sums_of_every_form(backend, host, shape, axis):
    x = host.normal(size=shape).astype(np.float32)
    made = backend.asarray(x)
    goal = x.astype(np.float64).sum(axis)
    found = backend.to_numpy(backend.sum(made, axis=axis, keepdims=False))
    np.testing.assert_allclose(found, goal, rtol=0, atol=1e-6 * max(1, x.size) ** 0.5)
    again = backend.to_numpy(backend.sum(made, axis=axis, keepdims=False))
    assert found.tobytes() == again.tobytes()
    if x.size:
        largest = backend.to_numpy(backend.max(made, axis=axis, keepdims=True))
        np.testing.assert_array_equal(largest, x.max(axis, keepdims=True))


@pytest.mark.parametrize(
    "m, k, n", [(1, 1, 1), (70, 33, 45), (64, 64, 64), (3, 200, 130), (5, 0, 2)]
)
def test_products_of_every_size(backend, host, m, k, n):
    x = host.normal(size=(2, 1, m, k)).astype(np.float32)
    y = host.normal(size=(3, k, n)).astype(np.float32)
    found = backend.to_numpy(backend.matmul(backend.asarray(x), backend.asarray(y)))
    np.testing.assert_allclose(found, x.astype(np.float64) @ y, rtol=0, atol=1e-6 * max(1, k))


@pytest.mark.parametrize(("x", "y"), [((4,), (4,)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,))])
def test_products_with_one_axis(backend, host, x, y):
    x, y = (host.normal(size=shape).astype(np.float32) for shape in (x, y))
    found = backend.to_numpy(backend.matmul(backend.asarray(x), backend.asarray(y)))
    assert found.shape == (x @ y).shape
    np.testing.assert_allclose(found, x @ y, rtol=1e-5, atol=1e-6)


def test_long_products_are_cut(backend, host, monkeypatch):
    monkeypatch.setattr(products, "_LONGEST", 64)
    x, y = host.normal(size=(4, 200)).astype(np.float32), host.normal(size=(200, 3))
    y = y.astype(np.float32)
    found = backend.to_numpy(backend.matmul(backend.asarray(x), backend.asarray(y)))
    np.testing.assert_allclose(found, x.astype(np.float64) @ y, rtol=0, atol=1e-4)


def test_many_products_are_cut(backend, host, monkeypatch):
    monkeypatch.setattr(products, "_STACK", 3)
    x = host.normal(size=(7, 2, 3)).astype(np.float32)
    found = backend.matmul(backend.asarray(x), backend.asarray(x.swapaxes(1, 2)))
    np.testing.assert_allclose(backend.to_numpy(found), x @ x.swapaxes(1, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "int32"])
@pytest.mark.parametrize("length", [1, 2, 257, 1000])
def test_sorting_is_stable_at_every_length(backend, host, dtype, length):
    x = host.integers(0, 20, (3, length)).astype(dtype)
    order = backend.to_numpy(backend.argsort(backend.asarray(x), axis=1))
    np.testing.assert_array_equal(order, np.argsort(x, axis=1, kind="stable"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_searching(backend, host, side):
    x = np.sort(host.integers(0, 50, 300)).astype(np.float32)
    values = host.integers(-5, 60, (7, 9)).astype(np.float32)
    found = backend.searchsorted(backend.asarray(x), backend.asarray(values), side=side)
    np.testing.assert_array_equal(backend.to_numpy(found), np.searchsorted(x, values, side=side))


def test_scattering_adds_in_the_order_of_rows(backend, host):
    ids = host.integers(-50, 50, 3000)
    rows = host.normal(size=(3000, 5)).astype(np.float32)
    made = backend.asarray(rows), backend.asarray(ids)
    goal = np.zeros((50, 5), np.float32)
    for row, target in zip(rows, ids, strict=True):
        goal[target] += row
    found = backend.to_numpy(backend.scatter_add(*made, axis=0, size=50))
    np.testing.assert_array_equal(found, goal)


def test_scattering_to_one_target_is_cut(backend, host, monkeypatch):
    monkeypatch.setattr("helixml.backends.wgpu.kernels.gather._PIECE", 100)
    rows = host.normal(size=(350, 2)).astype(np.float32)
    ids = backend.asarray(np.where(np.arange(350) % 7, 1, 2))
    found = backend.to_numpy(backend.scatter_add(backend.asarray(rows), ids, axis=0, size=4))
    goal = np.zeros((4, 2), np.float32)
    for i, row in enumerate(rows):
        goal[1 if i % 7 else 2] += row
    np.testing.assert_array_equal(found, goal)


def test_running_sums_of_long_lines_are_cut(backend, host, monkeypatch):
    monkeypatch.setattr("helixml.backends.wgpu.kernels.scan._LONGEST", 300)
    x = host.integers(-9, 9, (3, 1000, 2))
    found = backend.to_numpy(backend.cumulative_sum(backend.asarray(x), axis=1))
    np.testing.assert_array_equal(found, np.cumsum(x, 1))


@pytest.mark.parametrize("length", [1, 255, 256, 257, 1100])
@pytest.mark.parametrize("reverse", [False, True])
def test_recurrences_of_every_length(backend, host, length, reverse):
    a = host.uniform(-1, 1, (3, length)).astype(np.float32)
    b = host.normal(size=(3, length)).astype(np.float32)
    start = host.normal(size=3).astype(np.float32)
    for initial in (None, start):
        given = None if initial is None else backend.asarray(initial)
        made = backend.linear_scan(backend.asarray(a), backend.asarray(b), given, reverse=reverse)
        state, goal = np.zeros(3) if initial is None else initial.astype(float), np.zeros(b.shape)
        for t in range(length)[:: -1 if reverse else 1]:
            state = a[:, t] * state + b[:, t]
            goal[:, t] = state
        np.testing.assert_allclose(backend.to_numpy(made), goal, rtol=0, atol=5e-6)


@pytest.mark.parametrize("n", [1, 2, 6, 48, 49, 97, 1000, 1024, 2048, 4099])
def test_transforms_of_every_length(backend, host, n):
    x = (host.normal(size=(2, n)) + 1j * host.normal(size=(2, n))).astype(np.complex64)
    made = backend.asarray(x)
    wide = x.astype(complex)
    for norm in ("backward", "ortho"):
        for name in ("fft", "ifft"):
            goal = getattr(np.fft, name)(wide, axis=1, norm=norm)
            found = backend.to_numpy(getattr(backend, name)(made, n=n, axis=1, norm=norm))
            assert np.abs(found - goal).max() <= 2e-6 * np.abs(goal).max()


@pytest.mark.slow
def test_long_transforms(backend, host):
    for n in (65536, 50_000):
        x = host.normal(size=n).astype(np.float32)
        goal = np.fft.rfft(x.astype(np.float64))
        found = backend.to_numpy(backend.rfft(backend.asarray(x), n=n, axis=0, norm="backward"))
        assert np.abs(found - goal).max() <= 3e-6 * np.abs(goal).max()


def test_linear_algebra_is_the_hosts(backend, host):
    x = host.normal(size=(2, 3, 3)).astype(np.float32)
    found = backend.to_numpy(backend.inv(backend.asarray(x)))
    np.testing.assert_allclose(found @ x, np.broadcast_to(np.eye(3), x.shape), atol=1e-4)
