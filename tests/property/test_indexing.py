"""x[index], x[index] = v and x.at against NumPy, for random indexes of every kind."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import helixml as hx
from helixml.errors import IndexingError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def basic(draw):
    shape = draw(SHAPES)
    return shape, draw(hnp.basic_indices(shape, allow_newaxis=True))


@st.composite
def advanced(draw):
    """Draw integer arrays for some axes, slices or a boolean mask for others."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    if draw(st.booleans()):
        covered = draw(st.integers(1, len(shape)))
        mask = draw(hnp.arrays(bool, shape[:covered]))
        return shape, mask
    common = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    index = []
    for n in shape:
        kind = draw(st.sampled_from(["array", "slice", "integer"]))
        if kind == "array":
            index.append(draw(hnp.arrays(np.int64, common, elements=st.integers(-n, n - 1))))
        elif kind == "slice":
            index.append(draw(st.slices(n)))
        else:
            index.append(draw(st.integers(-n, n - 1)))
    return shape, tuple(index)


def values(shape):
    return np.arange(1.0, np.prod(shape, dtype=int) + 1.0).reshape(shape)


def as_tensors(index):
    """Return the same index with tensors in place of arrays."""
    if isinstance(index, tuple):
        return tuple(as_tensors(item) for item in index)
    return hx.tensor(index) if isinstance(index, np.ndarray) else index


@given(basic() | advanced())
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


@given(basic() | advanced(), st.booleans())
def test_setitem_and_its_gradients(case, scalar):
    shape, index = case
    a = values(shape)
    part = a[index].shape
    v = np.float64(-5.0) if scalar else -values(part)
    expected = a.copy()
    expected[index] = v
    base = hx.tensor(a, requires_grad=True)
    value = hx.tensor(v, requires_grad=True)
    x = base * 1.0
    x[index] = value
    assert (x.numpy() == expected).all()
    assert base.numpy().tobytes() == a.tobytes()
    weights = values(shape)
    (x * hx.tensor(weights)).sum().backward()
    # entry by entry: the gradient of what stands there now goes to the old or the new value
    source = np.zeros(shape)
    source[index] = 1 if scalar else np.arange(1, 1 + np.prod(part, dtype=int)).reshape(part)
    assert (base.grad.numpy() == np.where(source == 0, weights, 0)).all()
    if scalar:
        assert value.grad.item() == weights[source != 0].sum()
    else:
        wanted = np.zeros(value.size)
        for number, weight in zip(source.ravel(), weights.ravel(), strict=True):
            if number:
                wanted[int(number) - 1] += weight
        assert (value.grad.numpy().ravel() == wanted).all()


@given(basic() | advanced())
def test_at_add_sums_repeated_entries(case):
    shape, index = case
    a = values(shape)
    v = values(a[index].shape)
    expected = a.copy()
    np.add.at(expected, index, v)
    assert (hx.tensor(a).at[index].add(hx.tensor(v)).numpy() == expected).all()


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
