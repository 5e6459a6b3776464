"""The functions of the array API standard beside NumPy's: dtypes, shapes, special values.

Every function with every dtype that the standard gives it, shapes with no axes and with no entries
among them; for float functions the special values of the standard's tables, signs of zeros too.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import helixml as hx

BOOL = ("bool",)
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
REAL = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
INTEGER = SIGNED + UNSIGNED
FLOATING = REAL + COMPLEX
NUMERIC = INTEGER + FLOATING
EVERY = BOOL + NUMERIC
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)

UNARY = {
    **dict.fromkeys(("abs", "negative", "positive", "sign", "square"), NUMERIC),
    **dict.fromkeys(("acos", "acosh", "asin", "asinh", "atan", "atanh"), FLOATING),
    **dict.fromkeys(("cos", "cosh", "sin", "sinh", "tan", "tanh"), FLOATING),
    **dict.fromkeys(("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt"), FLOATING),
    "reciprocal": FLOATING,
    **dict.fromkeys(("ceil", "floor", "trunc"), INTEGER + REAL),
    "round": NUMERIC,
    **dict.fromkeys(("isfinite", "isinf", "isnan"), NUMERIC),
    "signbit": REAL,
    **dict.fromkeys(("real", "imag"), COMPLEX),
    "conj": NUMERIC,
    "logical_not": BOOL,
    "bitwise_invert": BOOL + INTEGER,
}
BINARY = {
    **dict.fromkeys(("add", "subtract", "multiply"), NUMERIC),
    "divide": FLOATING,
    "pow": REAL,
    **dict.fromkeys(("atan2", "copysign", "hypot", "logaddexp", "nextafter"), REAL),
    **dict.fromkeys(("maximum", "minimum"), INTEGER + REAL),
    **dict.fromkeys(("floor_divide", "remainder"), REAL),
    **dict.fromkeys(("equal", "not_equal"), EVERY),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal"), INTEGER + REAL),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), BOOL),
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor"), BOOL + INTEGER),
}
ZEROS_TIE = {"maximum", "minimum"}  # of 0 and -0 the standard takes either
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, np.inf, -np.inf, np.nan]


def elements(dtype):
    """Return values of a dtype: for floats special ones among them."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return st.booleans()
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return st.integers(int(limits.min), int(limits.max)) | st.integers(0, 3)
    if kind.kind == "c":
        parts = st.sampled_from((-2.5, -1.0, 0.25, 1.5, 3.0))
        return st.builds(complex, parts, parts)
    moderate = st.integers(-4000, 4000).map(lambda n: n / 500)
    return st.sampled_from(SPECIAL) | moderate


@st.composite
def arrays(draw, dtypes, shape=SHAPES):
    dtype = draw(st.sampled_from(dtypes))
    size = draw(shape) if not isinstance(shape, tuple) else shape
    return draw(hnp.arrays(dtype, size, elements=elements(dtype)))


def agree(found, expected, *, signs=True):
    """Compare a tensor with NumPy's answer: shape, dtype, values, signs of zeros."""
    expected = np.asarray(expected)
    found = found.numpy() if isinstance(found, hx.Tensor) else np.asarray(found)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if found.dtype.kind not in "fc":
        assert np.array_equal(found, expected)
        return
    eps = np.finfo(found.dtype).eps
    with np.errstate(all="ignore"):
        near = np.isclose(found, expected, rtol=32 * eps, atol=8 * eps, equal_nan=True)
    assert near.all(), (found, expected)
    if signs and found.dtype.kind == "f":
        zeros = (found == 0) & (expected == 0)
        assert np.array_equal(np.signbit(found[zeros]), np.signbit(expected[zeros]))


def numpy_of(name):
    return getattr(np, name)


@pytest.mark.parametrize("name", UNARY)
@given(data=st.data())
def test_unary(name, data):
    a = data.draw(arrays(UNARY[name]))
    if name in ("ceil", "floor", "trunc", "round") and a.dtype.kind in "iu":
        expected = a
    else:
        expected = numpy_of(name)(a)
    agree(getattr(hx, name)(hx.tensor(a)), expected)


@pytest.mark.parametrize("name", [n for n in UNARY if set(REAL) & set(UNARY[n])])
@pytest.mark.parametrize("dtype", REAL)
def test_special_values_of_one(name, dtype):
    a = np.array(SPECIAL, dtype)
    agree(getattr(hx, name)(hx.tensor(a)), numpy_of(name)(a))


@pytest.mark.parametrize("name", BINARY)
@given(data=st.data())
def test_binary(name, data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
    dtype = data.draw(st.sampled_from(BINARY[name]))
    a, b = (data.draw(arrays((dtype,), shape)) for shape in shapes.input_shapes)
    found = getattr(hx, name)(hx.tensor(a), hx.tensor(b))
    agree(found, numpy_of(name)(a, b), signs=name not in ZEROS_TIE)


@pytest.mark.parametrize("name", [n for n in BINARY if set(REAL) & set(BINARY[n])])
@pytest.mark.parametrize("dtype", REAL)
def test_special_values_of_two(name, dtype):
    a, b = (
        grid.ravel() for grid in np.meshgrid(np.array(SPECIAL, dtype), np.array(SPECIAL, dtype))
    )
    found = getattr(hx, name)(hx.tensor(a), hx.tensor(b))
    agree(found, numpy_of(name)(a, b), signs=name not in ZEROS_TIE)


@given(st.sampled_from(("bitwise_left_shift", "bitwise_right_shift")), st.data())
def test_shifts(name, data):
    a = data.draw(arrays(INTEGER))
    b = np.full(a.shape, data.draw(st.integers(0, a.dtype.itemsize * 8 - 1)), a.dtype)
    agree(getattr(hx, name)(hx.tensor(a), hx.tensor(b)), numpy_of(name)(a, b))


PAIRS = [
    (a, b) for group in (SIGNED + UNSIGNED[:3], UNSIGNED, FLOATING) for a in group for b in group
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_promotion_of_one_kind(first, second):
    a, b = np.ones(2, first), np.ones(2, second)
    expected = np.result_type(a, b)
    assert hx.add(hx.tensor(a), hx.tensor(b)).dtype == expected
    assert hx.result_type(first, second) == expected


REDUCTIONS = {
    "sum": NUMERIC,
    "prod": NUMERIC,
    "mean": REAL,
    "var": REAL,
    "std": REAL,
    "max": INTEGER + REAL,
    "min": INTEGER + REAL,
    "all": EVERY,
    "any": EVERY,
    "count_nonzero": EVERY,
}


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data())
def test_reductions(name, data):
    a = data.draw(arrays(REDUCTIONS[name]))
    if a.dtype.kind == "f":
        a = np.nan_to_num(a, nan=1, posinf=2, neginf=-2)
    rank = a.ndim
    axes = (
        data.draw(st.none() | st.lists(st.integers(-rank, rank - 1), max_size=rank))
        if rank
        else None
    )
    if axes is not None:
        axes = tuple({axis % rank: axis for axis in axes}.values())
    keepdims = data.draw(st.booleans())
    over = range(rank) if axes is None else [axis % rank for axis in axes]
    count = int(np.prod([a.shape[axis] for axis in over]))
    if name in ("mean", "var", "std", "max", "min") and any(a.shape[i] == 0 for i in over):
        with pytest.raises(hx.errors.HelixError):
            value = getattr(hx, name)(hx.tensor(a), axis=axes, keepdims=keepdims)
            if name == "mean" and np.isnan(value.numpy()).all():  # 0 / 0
                raise hx.errors.ShapeError("mean: of nothing")
        return
    expected = numpy_of(name)(a, axis=axes, keepdims=keepdims)
    found = getattr(hx, name)(hx.tensor(a), axis=axes, keepdims=keepdims)
    if a.dtype.kind in "fc" and found.dtype.kind in "fc":
        wide = a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)
        exact = numpy_of(name)(wide, axis=axes, keepdims=keepdims)
        assert found.dtype == expected.dtype
        assert found.shape == np.shape(expected)
        size = np.abs(wide).max(initial=1.0) ** (count if name == "prod" else 2)
        bound = 8 * np.finfo(a.dtype).eps * (1 + count) * size
        # The root of a variance that is nothing but rounding is the root of the rounding.
        bound = bound**0.5 if name == "std" else bound
        assert (np.abs(found.numpy() - exact) <= bound).all()
    else:
        agree(found, expected)


@given(arrays(INTEGER + REAL, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1)), st.data())
def test_positions(a, data):
    if a.dtype.kind == "f":
        a = np.nan_to_num(a)
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    keepdims = data.draw(st.booleans())
    x = hx.tensor(a)
    for name in ("argmax", "argmin"):
        agree(
            getattr(hx, name)(x, axis=axis, keepdims=keepdims),
            numpy_of(name)(a, axis=axis, keepdims=keepdims),
        )
        agree(getattr(hx, name)(x), numpy_of(name)(a))
    agree(hx.sort(x, axis=axis), np.sort(a, axis=axis))
    agree(hx.argsort(x, axis=axis), np.argsort(a, axis=axis, stable=True))
    agree(hx.sort(x, axis=axis, descending=True), np.flip(np.sort(a, axis=axis), axis=axis))
    descending = hx.argsort(x, axis=axis, descending=True).numpy()
    assert np.array_equal(
        np.take_along_axis(a, descending, axis), np.flip(np.sort(a, axis=axis), axis=axis)
    )


@given(arrays(EVERY), st.data())
def test_movement(a, data):
    x = hx.tensor(a)
    rank = a.ndim
    order = data.draw(st.permutations(range(rank)))
    agree(hx.permute_dims(x, tuple(order)), np.transpose(a, order))
    agree(hx.reshape(x, (-1,)) if a.size else hx.reshape(x, (0,)), a.reshape(-1))
    place = data.draw(st.integers(-rank - 1, rank))
    agree(hx.expand_dims(x, axis=place), np.expand_dims(a, place))
    agree(hx.broadcast_to(x, (2, *a.shape)), np.broadcast_to(a, (2, *a.shape)))
    agree(hx.flip(x), np.flip(a))
    agree(hx.roll(x, 3), np.roll(a, 3))
    repetitions = tuple(data.draw(st.lists(st.integers(0, 2), max_size=4)))
    agree(hx.tile(x, repetitions), np.tile(a, repetitions))
    agree(hx.squeeze(x, axis=tuple(i for i in range(rank) if a.shape[i] == 1)), np.squeeze(a))
    agree(hx.stack([x, x], axis=place), np.stack([a, a], axis=place))
    if rank:
        axis = data.draw(st.integers(-rank, rank - 1))
        agree(hx.concat([x, x], axis=axis), np.concat([a, a], axis=axis))
        agree(hx.concat([x, x], axis=None), np.concat([a, a], axis=None))
        agree(hx.flip(x, axis=axis), np.flip(a, axis=axis))
        agree(hx.roll(x, -2, axis=axis), np.roll(a, -2, axis=axis))
        agree(hx.repeat(x, 2, axis=axis), np.repeat(a, 2, axis=axis))
        agree(hx.moveaxis(x, axis, 0), np.moveaxis(a, axis, 0))
        parts = hx.unstack(x, axis=axis)
        assert len(parts) == a.shape[axis]
        for part, expected in zip(parts, np.moveaxis(a, axis, 0), strict=True):
            agree(part, expected)
        if a.shape[axis]:
            picked = data.draw(
                hnp.arrays(np.int64, 3, elements=st.integers(-a.shape[axis], a.shape[axis] - 1))
            )
            agree(hx.take(x, hx.tensor(picked), axis=axis), np.take(a, picked, axis=axis))
    if rank > 1:
        k = data.draw(st.integers(-3, 3))
        agree(hx.tril(x, k=k), np.tril(a, k=k))
        agree(hx.triu(x, k=k), np.triu(a, k=k))
        agree(hx.matrix_transpose(x), np.matrix_transpose(a))


@given(arrays(INTEGER + REAL, hnp.array_shapes(min_dims=1, max_dims=1, min_side=0, max_side=8)))
def test_sets_and_searching(a):
    if a.dtype.kind == "f":
        a = np.nan_to_num(a) + 0.0
    x = hx.tensor(a)
    agree(hx.unique_values(x), np.sort(np.unique_values(a)))
    counts, expected = hx.unique_counts(x), np.unique(a, return_counts=True)
    agree(counts.values, expected[0])
    agree(counts.counts, expected[1])
    inverse = hx.unique_inverse(x)
    assert np.array_equal(inverse.values.numpy()[inverse.inverse_indices.numpy()], a)
    agree(hx.nonzero(x)[0], np.nonzero(a)[0])
    ordered = np.sort(a)
    for side in ("left", "right"):
        agree(
            hx.searchsorted(hx.tensor(ordered), x, side=side),
            np.searchsorted(ordered, a, side=side),
        )
    agree(hx.isin(x, hx.tensor(a[:2])), np.isin(a, a[:2]))


@given(st.sampled_from(NUMERIC), st.data())
def test_products(dtype, data):
    n, k, m = (data.draw(st.integers(0, 4)) for _ in range(3))
    stack = data.draw(hnp.array_shapes(min_dims=0, max_dims=1, min_side=0, max_side=2))
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    a = rng.integers(0, 4, size=(*stack, n, k)).astype(dtype)
    b = rng.integers(0, 4, size=(*stack, k, m)).astype(dtype)
    agree(hx.matmul(hx.tensor(a), hx.tensor(b)), np.matmul(a, b))
    if m and not stack:
        agree(hx.matmul(hx.tensor(a), hx.tensor(b[..., 0])), np.matmul(a, b[..., 0]))
    agree(
        hx.vecdot(hx.tensor(a), hx.tensor(a)),
        np.vecdot(a, a),
    )
    agree(hx.tensordot(hx.tensor(a), hx.tensor(a), axes=0), np.tensordot(a, a, axes=0))


@given(arrays(NUMERIC, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0)), st.data())
def test_running(a, data):
    if a.dtype.kind == "f":
        a = np.round(np.nan_to_num(a, posinf=1, neginf=-1)) + 0.0  # sums begin with 0
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    initial = data.draw(st.booleans())
    x = hx.tensor(a)
    agree(
        hx.cumulative_sum(x, axis=axis, include_initial=initial),
        np.cumulative_sum(a, axis=axis, include_initial=initial),
    )
    agree(
        hx.cumulative_prod(x, axis=axis, include_initial=initial),
        np.cumulative_prod(a, axis=axis, include_initial=initial),
        signs=False,  # a recurrence adds 0, which -0 does not outlive
    )
    n = data.draw(st.integers(0, 3))
    agree(hx.diff(x, axis=axis, n=n), np.diff(a, axis=axis, n=n))


@given(arrays(EVERY), st.sampled_from(EVERY))
def test_casts(a, target):
    if a.dtype.kind in "fc" and np.dtype(target).kind in "iu":
        a = np.abs(np.nan_to_num(a, posinf=1, neginf=1))
    if a.dtype.kind == "c" and np.dtype(target).kind not in "bc":
        a = a.real  # a real dtype for complex values is nobody's to choose
    agree(hx.astype(hx.tensor(a), target), a.astype(target))


@given(SHAPES, st.sampled_from(EVERY))
def test_creation(shape, dtype):
    agree(hx.zeros(shape, dtype=dtype), np.zeros(shape, dtype))
    agree(hx.ones(shape, dtype=dtype), np.ones(shape, dtype))
    agree(hx.full(shape, True, dtype=dtype), np.full(shape, True, dtype))
    x = hx.zeros(shape, dtype=dtype)
    agree(hx.ones_like(x), np.ones(shape, dtype))
    assert hx.empty_like(x).shape == shape


@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from((-2, -1, 1, 2, 3)))
def test_ranges(start, stop, step):
    agree(hx.arange(start, stop, step), np.arange(start, stop, step))
    agree(
        hx.arange(start, stop, step, dtype="float64"), np.arange(start, stop, step, dtype="float64")
    )
    number = abs(stop)
    agree(
        hx.linspace(start, stop, number, dtype="float64"),
        np.linspace(start, stop, number),
    )
    agree(hx.eye(number, number + 1, k=step), np.eye(number, number + 1, k=step, dtype="float32"))
    agree(
        hx.meshgrid(hx.arange(number), hx.arange(3), indexing="ij")[1],
        np.meshgrid(np.arange(number), np.arange(3), indexing="ij")[1],
    )


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), st.data())
def test_where_and_clip(shapes, data):
    dtype = data.draw(st.sampled_from(INTEGER + REAL))
    condition = data.draw(hnp.arrays(bool, shapes.input_shapes[0]))
    a, b = (data.draw(arrays((dtype,), shape)) for shape in shapes.input_shapes[1:])
    agree(hx.where(hx.tensor(condition), hx.tensor(a), hx.tensor(b)), np.where(condition, a, b))
    low, high = (0, 2)
    agree(hx.clip(hx.tensor(a), low, high), np.clip(a, low, high))
