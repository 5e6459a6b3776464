"""The kernel of the linear recurrence against a loop over time in float64."""

from __future__ import annotations

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml.backends.cpu import kernels

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels.linear_scan import linear_scan

DTYPES = ["float32", "float64"]

pytestmark = pytest.mark.usefixtures("instruction_set")


SHAPES = [(3, 5), (1, 1), (7,), (4, 16), (2, 3, 40), (9, 33), (2, 70, 3), (5, 2, 1)]
TOLERANCE = {"float32": 1e-6, "float64": 1e-15}


def reference(a, b, initial=None, *, reverse=False):
    """Scan in float64; also return the sums of absolute values, which errors are measured by."""
    a, b = np.broadcast_arrays(np.float64(a), np.float64(b))
    h = size = np.zeros(b.shape[:-1]) if initial is None else np.float64(initial)
    states, sizes = np.empty(b.shape), np.empty(b.shape)
    for t in range(b.shape[-1])[:: -1 if reverse else 1]:
        h = a[..., t] * h + b[..., t]
        size = np.abs(a[..., t]) * np.abs(size) + np.abs(b[..., t])
        states[..., t], sizes[..., t] = h, size
    return states, sizes


def layouts(x):
    """Give arrays equal to x that lie differently in memory."""
    yield x
    yield np.ascontiguousarray(x.T).T
    if x.ndim > 1:
        yield np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
        yield np.ascontiguousarray(np.moveaxis(x, 0, -1)).transpose(x.ndim - 1, *range(x.ndim - 1))
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
    wide[..., 1::2] = x
    yield wide[..., 1::2]
    yield np.ascontiguousarray(x[..., ::-1])[..., ::-1]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_states_are_those_of_the_loop(of_any_number_of_threads, rng, shape, starts, reverse):
    a, b = rng.uniform(-1.2, 1.2, (2, *shape)).astype("f4")
    initial = rng.standard_normal(shape[:-1]).astype("f4") if starts else None
    wanted, sizes = reference(a, b, initial, reverse=reverse)
    for dtype in DTYPES:
        start = None if initial is None else np.asarray(initial, dtype)
        results = []
        for one, other in zip(
            [*layouts(a.astype(dtype)), a.astype(dtype)],
            [b.astype(dtype), *layouts(b.astype(dtype))],
            strict=True,
        ):
            found = of_any_number_of_threads(
                lambda one=one, other=other, start=start: linear_scan(
                    one, other, start, reverse=reverse
                )
            )
            assert found.dtype == dtype
            assert found.shape == shape
            assert (np.abs(found - wanted) <= shape[-1] * TOLERANCE[dtype] * sizes).all()
            results.append(found.tobytes())
        assert len(set(results)) == 1  # where arrays lie changes no bit


@pytest.mark.parametrize("reverse", [False, True])
def test_long_and_many_sequences(of_any_number_of_threads, rng, reverse):
    for shape in ((130, 300), (3, 600, 9)):
        for swapped in (False, True):
            a, b = rng.uniform(-1, 1, (2, *shape))
            if swapped:
                a, b = a.swapaxes(-1, -2), b.swapaxes(-1, -2)
            wanted, sizes = reference(a, b, reverse=reverse)
            found = of_any_number_of_threads(
                lambda a=a, b=b: linear_scan(a, b, None, reverse=reverse)
            )
            assert (np.abs(found - wanted) <= a.shape[-1] * 1e-15 * sizes).all()


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((7, 1), (7, 20)), ((1,), (3, 9)), ((20,), (5, 20)), ((2, 1, 6), (1, 3, 1)), ((4, 6), (6,))],
)
def test_operands_broadcast(rng, a_shape, b_shape):
    a, b = rng.uniform(-1, 1, a_shape), rng.uniform(-1, 1, b_shape)
    for reverse in (False, True):
        wanted, _ = reference(a, b, reverse=reverse)
        np.testing.assert_allclose(linear_scan(a, b, None, reverse=reverse), wanted, atol=1e-14)
    channels = np.broadcast_to(a, wanted.shape), np.asfortranarray(np.broadcast_to(b, wanted.shape))
    wanted, _ = reference(*channels)
    np.testing.assert_allclose(linear_scan(*channels, None, reverse=False), wanted, atol=1e-14)


def test_an_initial_state_may_lie_anyhow(rng):
    a, b = rng.uniform(-1, 1, (2, 4, 6, 5))
    initial = rng.standard_normal((6, 4)).T
    for layout_of in (lambda x: x, np.asfortranarray):
        found = linear_scan(layout_of(a), layout_of(b), initial, reverse=False)
        np.testing.assert_allclose(found, reference(a, b, initial)[0], atol=1e-14)
    constant = np.broadcast_to(0.5, (4, 6))
    found = linear_scan(a, b, constant, reverse=False)
    np.testing.assert_allclose(found, reference(a, b, constant)[0], atol=1e-14)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_first_coefficient_counts_only_beside_an_initial_state(order):
    a, b = np.array([[np.nan, 0.5], [np.inf, 0.5]], order=order), np.ones((2, 2), order=order)
    assert linear_scan(a, b, None, reverse=False).tolist() == [[1, 1.5], [1, 1.5]]
    found = linear_scan(a, b, np.array([1.0, 1.0]), reverse=False)
    np.testing.assert_array_equal(found, [[np.nan, np.nan], [np.inf, np.inf]])


@pytest.mark.parametrize("order", ["C", "F"])
def test_denormals_are_kept(order):
    a, b = np.full((5, 4), 0.5, order=order), np.zeros((5, 4), order=order)
    b[:, 0] = 8e-323
    expected = [8e-323, 4e-323, 2e-323, 1e-323]
    assert linear_scan(a, b, None, reverse=False).tolist() == [expected] * 5


def test_what_is_left_to_numpy():
    x = np.ones((2, 3))
    assert linear_scan(x, x.astype("f4"), None, reverse=False) is None
    assert linear_scan(x, x, np.ones(2, "f4"), reverse=False) is None
    assert linear_scan(x[:, :0], x[:, :0], None, reverse=False) is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gradients_of_the_op_are_those_without_kernels(rng, axis):
    arrays = rng.uniform(-1, 1, (2, 4, 5, 6))
    results = []
    for kernels_on in (True, False):
        with config.using(kernels=kernels_on):
            a, b = (hx.tensor(x, requires_grad=True) for x in arrays)
            h = hx.linear_scan(a, b, axis=axis)
            (h * h).sum().backward()
            results.append([h.numpy(), a.grad.numpy(), b.grad.numpy()])
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
