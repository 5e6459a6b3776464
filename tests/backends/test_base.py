"""The derived array functions, against NumPy's own indexing, in-place addition and loops.

NumPy's namespace brings tier 0 here, so all that is tested is `base`.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helixml import dtypes
from helixml.backends import registry
from helixml.backends.array_api import ArrayApiBackend
from helixml.backends.base import BackendBase, explicit
from helixml.device import Device
from helixml.testing import contract

B = ArrayApiBackend(np, Device("toy"))

sizes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@st.composite
def basic_indexes(draw):
    """Give a shape and a basic index that fits it."""
    shape = draw(sizes)
    bounds = st.none() | st.integers(-7, 7)
    steps = st.sampled_from([None, 1, 2, 3, -1, -2, -4])
    items = []
    for n in shape[: draw(st.integers(0, len(shape)))]:
        slices = st.builds(slice, bounds, bounds, steps)
        items.append(draw(slices | st.integers(-n, n - 1) if n else slices))
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), Ellipsis)
        # what stands behind the ellipsis counts from the last axis
        at = items.index(Ellipsis)
        behind = len(items) - at - 1
        for k in range(behind):
            n = shape[len(shape) - behind + k]
            if isinstance(items[at + 1 + k], int) and not -n <= items[at + 1 + k] < n:
                items[at + 1 + k] = slice(None)
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    return shape, tuple(items)


@given(basic_indexes())
def test_a_part_is_what_numpy_takes(case):
    shape, index = case
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    np.testing.assert_array_equal(B.getitem(x, index), x[index])


@given(basic_indexes())
def test_a_part_is_placed_where_numpy_writes_it(case):
    shape, index = case
    part = np.asarray(np.arange(1.0, 1.0 + np.prod(shape, dtype=int)).reshape(shape)[index])
    goal = np.zeros(shape)
    goal[index] = part
    np.testing.assert_array_equal(B.place(part, shape, index), goal)


@pytest.mark.parametrize("index", [(3,), (-4,), (0, 0, 0), (..., ...), (0, ..., 0, 0)])
def test_an_index_that_does_not_fit(index):
    with pytest.raises(IndexError):
        explicit(index, (3, 4))


@pytest.mark.parametrize("index", [("a",), (1.0,), ([0],)])
def test_an_index_that_is_not_basic(index):
    with pytest.raises(TypeError):
        explicit(index, (3, 4))


@given(
    st.lists(st.integers(-4, 3), max_size=9),
    st.integers(0, 2),
    st.sampled_from(["float32", "float64", "int64", "uint8", "float16"]),
)
def test_scatter_add_adds_what_numpy_adds(indices, axis, dtype):
    shape = [2, 3]
    shape.insert(axis, len(indices))
    x = np.random.default_rng(len(indices)).integers(0, 9, shape).astype(dtype)
    at = np.array(indices, dtype=np.int64)
    goal = np.zeros([*shape[:axis], 4, *shape[axis + 1 :]], dtype)
    np.add.at(goal, (*(slice(None),) * axis, at), x)
    backend = registry.get("cpu") if dtype == "float16" else B
    found = BackendBase.scatter_add(backend, x, at, axis=axis, size=4)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, goal)


def test_scatter_add_takes_indices_of_any_rank():
    x = np.arange(24.0).reshape(2, 2, 3, 2)
    at = np.array([[0, 4, 2], [2, 2, -1]])
    goal = np.zeros((2, 5, 2))
    for i, j in np.ndindex(2, 3):
        goal[:, at[i, j]] += x[:, i, j]
    np.testing.assert_array_equal(B.scatter_add(x, at, axis=1, size=5), goal)


def test_scatter_add_keeps_infinities_in_their_rows():
    x = np.array([[np.inf, 1.0], [np.nan, 2.0], [3.0, 4.0]])
    found = B.scatter_add(x, np.array([1, 0, 1]), axis=0, size=3)
    np.testing.assert_array_equal(found, [[np.nan, 2.0], [np.inf, 5.0], [0.0, 0.0]])


def test_scatter_add_of_halves_adds_in_float32():
    backend = registry.get("cpu")
    x = np.full((4096, 1), 1.0, np.float16)  # in float16 the sum stops at 2048
    at = np.zeros(4096, np.int64)
    assert BackendBase.scatter_add(backend, x, at, axis=0, size=1).item() == 4096.0


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["int8", "int64", "uint16"])
def test_along_an_axis(axis, kind):
    rng = np.random.default_rng(axis)
    x = rng.normal(size=(3, 4, 5))
    shape = list(x.shape)
    shape[axis] = 6
    at = rng.integers(0 if kind == "uint16" else -x.shape[axis], x.shape[axis], shape).astype(kind)
    taken = B.take_along_axis(x, at, axis=axis)
    np.testing.assert_array_equal(taken, np.take_along_axis(x, at.astype(int), axis))
    back = B.scatter_add_along_axis(taken, at, axis=axis, size=x.shape[axis])
    goal = np.zeros_like(x)
    for i in np.ndindex(at.shape):
        goal[(*i[:axis], at[i], *i[axis + 1 :])] += taken[i]
    np.testing.assert_allclose(back, goal, rtol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_linear_scan_is_the_recurrence(reverse, start):
    rng = np.random.default_rng(0)
    a, b, h = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3))
    found = B.linear_scan(a, b, h if start else None, reverse=reverse)
    state = h if start else 0.0
    for t in (3, 2, 1, 0) if reverse else (0, 1, 2, 3):
        state = a[..., t] * state + b[..., t]
        np.testing.assert_allclose(found[..., t], state, rtol=1e-14)


def test_linear_scan_of_no_steps():
    assert B.linear_scan(np.ones((2, 0)), np.ones((2, 0)), None, reverse=False).shape == (2, 0)


def test_sigmoid_at_the_ends():
    x = np.array([-np.inf, -800.0, -1.0, 0.0, 1.0, 800.0, np.inf, np.nan])
    goal = [0.0, 0.0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1.0, 1.0, np.nan]
    np.testing.assert_allclose(B.sigmoid(x), goal, rtol=1e-15)


def test_philox_carries_like_integers():
    plain = registry.get("reference")
    for counter in (0, 2**32 - 1, 2**64 - 2, 2**96 - 1, 2**128 - 2):
        np.testing.assert_array_equal(
            B.philox((5, 2**32 - 1), counter, 5), plain.philox((5, 2**32 - 1), counter, 5)
        )


def test_an_unknown_function_names_the_backend():
    with pytest.raises(AttributeError, match="backend 'array_api' has no function 'levitate'"):
        B.levitate  # noqa: B018


def test_what_a_backend_holds_unless_it_says_otherwise():
    assert BackendBase.dtypes == dtypes.ALL


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize(
    ("old", "new"), [((3,), (2, 2)), ((2, 3), (3,)), ((2,), (2, 3)), ((), ()), ((1, 3), (2, 2, 3))]
)
def test_the_cpu_broadcasts_as_numpy_does(old, new, dtype):
    x = np.arange(np.prod(old), dtype=dtype).reshape(old)
    cpu = registry.get("cpu")
    try:
        wanted = np.broadcast_to(x, new)
    except ValueError:
        with pytest.raises(ValueError):
            cpu.broadcast_to(x, new)
        return
    found = cpu.broadcast_to(x, new)
    assert found.strides == wanted.strides
    assert np.array_equal(found, wanted)
    assert not found.flags.writeable


class WithoutTransforms(ArrayApiBackend):
    """A namespace that lacks the extension ``fft``."""

    fft, ifft, rfft, irfft = (vars(BackendBase)[name] for name in ("fft", "ifft", "rfft", "irfft"))


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
def test_transforms_are_derived_from_sums(dtype):
    contract.check_transforms(WithoutTransforms(np, Device("toy")), dtype)
