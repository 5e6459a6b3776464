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

pytestmark = pytest.mark.usefixtures("instruction_set")


SHAPES = [(3, 5), (1, 1), (7,), (4, 16), (2, 3, 40), (9, 33), (2, 70, 3), (5, 2, 1)]
TOLERANCE = {"float32": 1e-6, "float64": 1e-15, "complex64": 2e-6, "complex128": 2e-15}
KINDS = {"real": ("float32", "float64"), "complex": ("complex64", "complex128")}


def numbers(rng, kind, shape):
    """Draw numbers that are the same in all dtypes of a kind."""
    x = rng.uniform(-1.2, 1.2, shape).astype("f4")
    return (
        x if kind == "real" else x * np.complex64(0.6) + 1j * rng.uniform(-1, 1, shape).astype("f4")
    )


def reference(a, b, initial=None, *, reverse=False):
    """Scan in 64 bits; also return the sums of absolute values, which errors are measured by."""
    wide = np.result_type(a, b, np.float64)
    a, b = np.broadcast_arrays(np.asarray(a, wide), np.asarray(b, wide))
    h = size = np.zeros(b.shape[:-1], wide) if initial is None else np.asarray(initial, wide)
    states, sizes = np.empty(b.shape, wide), np.empty(b.shape)
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
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_loop(of_any_number_of_threads, rng, kind, shape, starts, reverse):
    a, b = numbers(rng, kind, (2, *shape))
    initial = numbers(rng, kind, shape[:-1]) if starts else None
    wanted, sizes = reference(a, b, initial, reverse=reverse)
    for dtype in KINDS[kind]:
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
@pytest.mark.parametrize("kind", KINDS)
def test_long_and_many_sequences(of_any_number_of_threads, rng, kind, reverse):
    for shape in ((130, 300), (3, 600, 9)):
        for swapped in (False, True):
            a, b = numbers(rng, kind, (2, *shape)).astype(KINDS[kind][1]) * 0.8
            if swapped:
                a, b = a.swapaxes(-1, -2), b.swapaxes(-1, -2)
            wanted, sizes = reference(a, b, reverse=reverse)
            found = of_any_number_of_threads(
                lambda a=a, b=b: linear_scan(a, b, None, reverse=reverse)
            )
            assert (np.abs(found - wanted) <= a.shape[-1] * TOLERANCE[KINDS[kind][1]] * sizes).all()


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((7, 1), (7, 20)), ((1,), (3, 9)), ((20,), (5, 20)), ((2, 1, 6), (1, 3, 1)), ((4, 6), (6,))],
)
@pytest.mark.parametrize("kind", KINDS)
def test_operands_broadcast(rng, kind, a_shape, b_shape):
    a, b = (numbers(rng, kind, shape).astype(KINDS[kind][1]) * 0.8 for shape in (a_shape, b_shape))
    for reverse in (False, True):
        wanted, _ = reference(a, b, reverse=reverse)
        np.testing.assert_allclose(linear_scan(a, b, None, reverse=reverse), wanted, atol=1e-14)
    channels = np.broadcast_to(a, wanted.shape), np.asfortranarray(np.broadcast_to(b, wanted.shape))
    wanted, _ = reference(*channels)
    np.testing.assert_allclose(linear_scan(*channels, None, reverse=False), wanted, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_an_initial_state_may_lie_anyhow(rng, kind):
    a, b = numbers(rng, kind, (2, 4, 6, 5)).astype(KINDS[kind][1])
    initial = numbers(rng, kind, (6, 4)).astype(KINDS[kind][1]).T
    for layout_of in (lambda x: x, np.asfortranarray):
        found = linear_scan(layout_of(a), layout_of(b), initial, reverse=False)
        np.testing.assert_allclose(found, reference(a, b, initial)[0], atol=1e-14)
    constant = np.broadcast_to(np.asarray(0.5, a.dtype), (4, 6))
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
    assert linear_scan(x, x.astype("c16"), None, reverse=False) is None
    assert linear_scan(x, x, np.ones(2, "f4"), reverse=False) is None
    assert linear_scan(x[:, :0], x[:, :0], None, reverse=False) is None


@pytest.mark.parametrize("order", ["C", "F"])
def test_products_of_complex_numbers_are_those_of_their_parts(order):
    a = np.array([[1, complex(np.inf, 1), 1], [1, complex(0, 1e308), 1]], order=order)
    b = np.array([[0, 0, 0], [complex(1e10, 0), 0, 0]], order=order) + 0j
    found = linear_scan(a, b, None, reverse=False)
    with np.errstate(all="ignore"):
        wanted = reference(a, b)[0]
    np.testing.assert_array_equal(found, wanted)
    assert np.isnan(found[0, 1:]).all()


def test_halves_are_scanned_in_float32(rng):
    a, b = (hx.tensor(rng.uniform(-1, 1, (5, 300)), dtype="float16") for _ in "ab")
    found = hx.linear_scan(a, b)
    assert found.dtype == hx.float16
    wanted = reference(a.numpy(), b.numpy())[0]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_op_are_those_without_kernels(rng, kind, axis):
    arrays = numbers(rng, kind, (2, 4, 5, 6)).astype(KINDS[kind][1])
    results = []
    for kernels_on in (True, False):
        with config.using(kernels=kernels_on):
            a, b = (hx.tensor(x, requires_grad=True) for x in arrays)
            h = hx.linear_scan(a, b, axis=axis)
            hx.sum(hx.real(h * hx.conj(h))).backward()
            results.append([h.numpy(), a.grad.numpy(), b.grad.numpy()])
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
