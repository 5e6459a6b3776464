"""x[index], x[index] = v and x.at against NumPy, for random indexes of every kind."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import helixml as hx
from helixml.errors import DTypeError, IndexingError, InplaceError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def basic(draw):
    shape = draw(SHAPES)
    return shape, draw(hnp.basic_indices(shape, allow_newaxis=True))


@st.composite
def advanced(draw):
    """Draw arrays, lists, masks, truth values, integers, slices, None and ``...``, in any order."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=3))
    common = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    index = []
    axis = 0
    dots = False
    while axis < len(shape):
        n = shape[axis]
        kind = draw(
            st.sampled_from(
                ["array", "list", "mask", "slice", "integer", "scalar", "new", "truth", "dots"]
            )
        )
        axis += 1
        if kind == "array":
            some = draw(st.sampled_from([common, common[1:], (1,) * len(common)]))
            dtype = draw(st.sampled_from([np.int64, np.int8]))
            index.append(draw(hnp.arrays(dtype, some, elements=st.integers(-n, n - 1))))
        elif kind == "list":
            array = draw(hnp.arrays(np.int64, common, elements=st.integers(-n, n - 1)))
            index.append(array.tolist())
        elif kind == "mask":
            covered = draw(st.integers(1, len(shape) - axis + 1))
            index.append(draw(hnp.arrays(bool, shape[axis - 1 : axis - 1 + covered])))
            axis += covered - 1
        elif kind == "slice":
            index.append(draw(st.slices(n)))
        elif kind == "integer":
            index.append(draw(st.integers(-n, n - 1)))
        elif kind == "scalar":
            index.append(np.int16(draw(st.integers(-n, n - 1))))
        else:
            axis -= kind != "dots"
            if kind == "dots" and not dots:
                dots = True
                index.append(...)
                axis += draw(st.integers(-1, len(shape) - axis))
            elif kind != "dots" and len(index) < 6:
                index.append(None if kind == "new" else draw(st.sampled_from([True, np.True_])))
    index = tuple(index)
    try:
        values(shape)[index]
    except IndexError:  # masks whose counts do not broadcast
        reject()
    return shape, index


def values(shape):
    return np.arange(1.0, np.prod(shape, dtype=int) + 1.0).reshape(shape)


def as_tensors(index):
    """Return the same index with tensors in place of arrays."""
    if isinstance(index, tuple):
        return tuple(as_tensors(item) for item in index)
    return hx.tensor(index) if isinstance(index, np.ndarray) else index


@given(st.one_of(basic(), advanced(), advanced()))
def test_getitem(case):
    shape, index = case
    a = values(shape)
    expected = a[index]
    x = hx.tensor(a)
    for form in (index, as_tensors(index)):
        got = x[form]
        assert got.shape == expected.shape
        assert (got.numpy() == expected).all()


def test_empty_lists_select_nothing():
    x = hx.tensor(values((3, 4)))
    assert x[[]].shape == (0, 4)
    assert x[:, []].shape == (3, 0)
    assert x[[[]]].shape == (1, 0, 4)


@given(basic() | advanced())
def test_getitem_gradient_counts_how_often_an_entry_is_taken(case):
    shape, index = case
    x = hx.tensor(values(shape), requires_grad=True)
    y = x[index]
    weights = values(y.shape)
    (y * hx.tensor(weights)).sum().backward()
    expected = np.zeros(shape)
    np.add.at(expected, index, weights)
    assert (x.grad.numpy() == expected).all()


def places_of(shape, index):
    """Return how each place is made: 0 where it stays, else 1 + which value was last put there."""
    source = np.zeros(shape, int)
    source[index] = 1 + np.arange(source[index].size).reshape(source[index].shape)
    return source


@given(basic() | advanced(), st.booleans(), st.booleans())
def test_setitem_and_its_gradients(case, scalar, operator):
    shape, index = case
    a = values(shape)
    part = a[index].shape
    v = np.float64(-5.0) if scalar else -values(part)
    expected = a.copy()
    expected[index] = v
    base = hx.tensor(a, requires_grad=True)
    value = hx.tensor(v, requires_grad=True)
    if operator:
        x = base * 1.0
        x[as_tensors(index)] = value
    else:
        x = base.at[index].set(value)
    assert (x.numpy() == expected).all()
    assert base.numpy().tobytes() == a.tobytes()
    weights = values(shape)
    (x * hx.tensor(weights)).sum().backward()
    # entry by entry: the gradient of what stands there now goes to the old or the new value
    source = places_of(shape, index)
    assert (base.grad.numpy() == np.where(source == 0, weights, 0)).all()
    if scalar:
        assert value.grad.item() == weights[source != 0].sum()
    else:
        wanted = np.zeros(value.size + 1)
        wanted[source.ravel()] += weights.ravel()
        assert (value.grad.numpy().ravel() == wanted[1:]).all()


UFUNCS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "max": np.maximum,
    "min": np.minimum,
}


@given(basic() | advanced(), st.sampled_from(sorted(UFUNCS)), st.randoms(use_true_random=False))
def test_at_combines_repeated_entries_and_its_gradients(case, name, random):
    shape, index = case
    a = np.asarray(values(shape) / 8 + 0.5)
    v = np.asarray(1.31 + 0.07 * values(a[index].shape))
    order = list(range(v.size))
    random.shuffle(order)
    v = v.ravel()[order].reshape(v.shape)

    def reference(a, v):
        result = a.copy()
        UFUNCS[name].at(result, index, v)
        return result

    x, value = hx.tensor(a, requires_grad=True), hx.tensor(v, requires_grad=True)
    y = getattr(x.at[index], name)(value)
    np.testing.assert_allclose(y.numpy(), reference(a, v), rtol=1e-12)
    weights = np.cos(values(shape))
    direction = np.sin(values(shape)), np.cos(3 * values(v.shape))
    (y * hx.tensor(weights)).sum().backward()
    slope = (x.grad.numpy() * direction[0]).sum() + (value.grad.numpy() * direction[1]).sum()
    step = 1e-6
    ahead, behind = (
        (reference(np.asarray(a + s * direction[0]), v + s * direction[1]) * weights).sum()
        for s in (step, -step)
    )
    scale = 1 + np.abs(weights * y.numpy()).sum()
    assert abs(slope - (ahead - behind) / (2 * step)) < 1e-6 * scale


def test_at_max_shares_the_gradient_of_a_tie():
    x = hx.tensor([1.0, 5.0], requires_grad=True)
    v = hx.tensor([1.0, 1.0, 0.0], requires_grad=True)
    x.at[[0, 0, 0]].max(v).sum().backward()
    assert x.grad.tolist() == [0.5, 1.0]
    assert v.grad.tolist() == [0.25, 0.25, 0.0]


def test_signs_of_zeros_are_kept():
    x = hx.zeros(4)
    for index in (0, slice(1, 2), [2], [3, 3]):
        assert np.signbit(x.at[index].set(-0.0).numpy()).sum() == 1


def test_an_update_of_nothing_has_a_gradient():
    x = hx.tensor([[1.0]], requires_grad=True)
    v = hx.zeros((0, 2))
    v.requires_grad = True
    x.at[:0, [0, 0]].divide(v).sum().backward()
    assert x.grad.tolist() == [[1.0]]
    assert v.grad.shape == (0, 2)


def test_at_leaves_other_entries_alone():
    x = hx.tensor([np.nan, np.inf, 2.0], requires_grad=True)
    y = x.at[2].multiply(3.0)
    assert y.tolist()[1:] == [np.inf, 6.0]
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 3.0]


def test_get_is_getitem():
    x = hx.tensor(values((3, 4)))
    assert x.at[1:, [0, 2]].get().tolist() == x[1:, [0, 2]].tolist()


def test_setitem_on_a_leaf_says_what_to_do():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(InplaceError, match=r"Hint: x = x\.at\[i\]\.set\(v\)"):
        x[0] = 3.0


def test_updates_of_integers_by_fractions_are_refused():
    x = hx.tensor([1, 2])
    with pytest.raises(DTypeError, match="float32 does not fit a tensor of int64"):
        x.at[0].add(0.5)


def test_an_integer_array_does_not_touch_what_it_does_not_take(on_the_cpu):
    """A few rows of a large table: what is computed with is as large as the rows."""
    table = hx.zeros((2000, 500))
    tracemalloc.start()
    table[[3, 5]]
    table[:, [3, 5]][0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


@given(SHAPES, st.data())
def test_indexes_that_numpy_refuses_are_refused(shape, data):
    index = data.draw(
        st.tuples(*[st.integers(-6, 6) | st.slices(5) for _ in range(data.draw(st.integers(1, 5)))])
    )
    a = values(shape)
    x = hx.tensor(a)
    try:
        expected = a[index]
    except IndexError:
        try:
            x[index]
        except IndexingError as error:
            assert str(error).startswith("index: ")
        else:
            raise AssertionError(f"took {index} of {shape}") from None
    else:
        assert (x[index].numpy() == expected).all()
