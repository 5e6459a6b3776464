"""``x[index] = value`` and ``x.at[index]``: new values for a part of a tensor.

Tensors are values: each update gives a new tensor, differentiable in the old one and in the values.
What an index selects is worked out in `indices`; here the selected entries are fetched once each,
combined with the values, and put back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, booleans, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, IndexingError, ShapeError, ValueRangeError
from helixml.ops.elementwise import divide, maximum, minimum, multiply, pow, where
from helixml.ops.indexing import fetched, getitem, place, spread_out, take
from helixml.ops.indices import HostArray, Selection, plain, select, show
from helixml.ops.movement import broadcast_to, cast, permute_dims, reshape
from helixml.ops.segments import segment_max, segment_min, segment_prod

How = Literal["add", "multiply", "divide", "power", "max", "min"]


def _fitted(op: str, value: Tensor, x: Tensor, selection: Selection) -> Tensor:
    """Return ``value`` in the dtype of ``x`` and the selected shape."""
    dtypes.check_cast(op, value.dtype, x.dtype)
    extra = value.ndim - len(selection.result)
    if extra > 0 and set(value.shape[:extra]) == {1}:  # NumPy lets these through
        value = reshape(value, value.shape[extra:])
    try:
        return broadcast_to(cast(value, x.dtype), selection.result)
    except ShapeError:
        raise ShapeError(
            f"{op}: a value of shape {value.shape} does not fit x{show(selection.index)}, "
            f"which has shape {selection.result}."
        ) from None


_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def _refuse_kinds(value: Tensor, x: Tensor) -> None:
    """Raise if ``value`` is of a higher kind than ``x``."""
    dtypes.check_cast("at", value.dtype, x.dtype)
    if _RANK[dtypes.kind(value.dtype)] > _RANK[dtypes.kind(x.dtype)]:
        raise DTypeError(
            f"at: a value of {value.dtype} does not fit a tensor of {x.dtype}. "
            "Hint: cast one of them with astype()."
        )


def _replaced_oracle(x, value, index):
    result = x.copy()
    result[index] = value
    return result


@composite(oracle=_replaced_oracle)
def replaced(x: Tensor, index: Any, value: Tensor):
    """Return ``x`` with ``value`` in place of ``x[index]``; differentiable in both.

    Parameters
    ----------
    x : Tensor.
    index : as in ``x[index]``; where a position is named twice, the last value holds.
    value : Tensor or scalar that broadcasts to the shape of ``x[index]``. It is cast to the dtype
        of ``x``: as in NumPy, a float loses its fraction in a tensor of integers.

    Returns
    -------
    Tensor, shape and dtype of ``x``.

    Notes
    -----
    Gradient: g where nothing was written, and g at the index for what was; 0 for values that later
    ones overwrote. Each place looks up which value it gets, so bits are kept.
    """
    items, _ = plain(index)
    selection = select(x.shape, items)
    value = _fitted("setitem", value, x, selection)
    return _written(x, selection, value)


def _lined(value: Tensor, selection: Selection) -> Tensor:
    """Return ``value``, in the selected shape, with what the positions select along one axis."""
    order, taken, axis = selection.order, selection.taken, selection.axis
    assert selection.positions is not None
    behind = taken[axis + selection.positions.ndim :]
    value = permute_dims(value, tuple(order.index(a) for a in range(len(order))))
    return reshape(value, (*taken[:axis], selection.positions.size, *behind))


def _written(x: Tensor, selection: Selection, value: Tensor) -> Tensor:
    """Return ``x`` with ``value``, in the selected shape, in place of what is selected."""
    if selection.positions is None or selection.positions.size == 0:
        return _masked(x, selection, spread_out(value, selection))
    return _looked_up(x, selection, _lined(value, selection), selection.positions.reshape(-1))


def _looked_up(x: Tensor, selection: Selection, line: Tensor, places: HostArray) -> Tensor:
    """Return ``x`` with the entries of ``line`` at ``places`` of its axis; the last one holds."""
    source = np.zeros(selection.count, np.int64)
    source[places] = np.arange(places.size)
    rows = take(line, as_tensor("setitem", source, x), selection.axis)
    rows = reshape(rows, selection.rows)
    return _masked(
        x, selection, rows if selection.is_whole else place(rows, x.shape, selection.basic)
    )


def _masked(x: Tensor, selection: Selection, written: Tensor) -> Tensor:
    """Return ``written`` where something is selected, and ``x`` elsewhere."""
    mask = np.zeros(x.shape, bool)
    mask[selection.index] = True
    result: Tensor = where(as_tensor("setitem", mask, x), written, x)
    return result


@replaced.samples
def _():
    row, every = [0, 2, 0, 1], slice(None)
    for shape, value, index in (
        ((3, 4), (4,), 1),
        ((3, 4), (3, 2), (every, [1, 3])),
        ((3, 4), (), (slice(None, None, -2), slice(1, 3))),
        ((3, 4), (4, 4), (row,)),
        ((0, 4), (1, 4), every),
        ((2, 3, 2), (2, 1), ([0, 1], slice(0, 2), [1, 1])),
        ((2, 3, 2), (2, 1, 3), (every, None, 1, [1, 0, 1])),
        ((2, 3, 2), (3, 2, 1), (every, [1, 0, 1], None, [1, 0, 1])),
        ((3,), (2,), ([True, False, True],)),
        ((), (), ()),
        ((3,), (3,), True),
    ):
        for kinds in ("f", "c"):  # apart, for neither kind goes into a tensor of the other
            yield sample(shape, value=floats(*value), index=index, kinds=kinds)
    yield sample(integers(3, 4), value=integers(4, 4), index=(row,))
    yield sample(integers(3, 4), value=integers(2), index=(1, [0, 2]))
    yield sample(booleans(3, 4), value=booleans(4), index=0)


@replaced.errors
def _():
    x = blank(3, 4)
    yield Failure(lambda: replaced(x, 3, 1.0), IndexingError, r"shape \(3, 4\) does not take \[3\]")
    yield Failure(lambda: replaced(x, 0, blank(3)), ShapeError, r"\(3,\) does not fit x\[0\]")
    yield Failure(lambda: replaced(x, 0.5, 1.0), IndexingError, r"0\.5 cannot index")
    yield Failure(
        lambda: replaced(x, 0, np.array(1j)), DTypeError, r"complex128 to float32 would drop"
    )


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """Give the object ``x`` a new array (and node) with ``value`` at ``index``."""
    x._become(replaced(x, index, value))


_COMBINE: dict[str, Callable[..., Tensor]] = {
    "multiply": multiply,
    "divide": divide,
    "power": pow,
    "max": maximum,
    "min": minimum,
}
# How values for one place are made one: x / a / b is x / (a b), (x^a)^b is x^(a b).
_SEGMENTS = {
    "multiply": segment_prod,
    "divide": segment_prod,
    "power": segment_prod,
    "max": segment_max,
    "min": segment_min,
}


def _updated_oracle(x, value, index, how):
    result = x.copy()
    name = {"max": "maximum", "min": "minimum"}.get(how, how)
    ufunc = getattr(np, name)
    value = np.broadcast_to(value, x[index].shape)
    places = np.arange(x.size).reshape(x.shape)[index]
    for i, v in zip(places.ravel(), value.ravel(), strict=True):
        result.flat[i] = ufunc(result.flat[i], v)
    return result


@composite(oracle=_updated_oracle)
def updated(x: Tensor, index: Any, value: Tensor, how: How):
    """Return ``x`` with ``x[index]`` combined with ``value``; differentiable in both.

    Parameters
    ----------
    x : Tensor, numbers.
    index : as in ``x[index]``; a place that is named twice is combined with both values.
    value : Tensor or scalar that broadcasts to the shape of ``x[index]``, of a kind that fits.
    how : "add", "multiply", "divide" (floats only), "power", "max" or "min". Several exponents for
        one place are multiplied first.

    Returns
    -------
    Tensor, shape and dtype of ``x``.

    Raises
    ------
    IndexingError : the index does not fit. ShapeError : the value does not. DTypeError : there are
    truth values, or the value is of a higher kind than ``x``. ValueRangeError : another ``how``.

    Notes
    -----
    Gradient: that of the operation. At a tie of "max" or "min" half goes to ``x`` and half to the
    values, in equal shares.
    """
    if how != "add" and how not in _COMBINE:
        raise ValueRangeError(f"at: how={how!r:.80}. Hint: one of add, {', '.join(_COMBINE)}.")
    if x.dtype == dtypes.bool_:
        raise DTypeError("at: takes numbers, not truth values. Hint: x.at[index].set(v).")
    if how == "divide" and dtypes.kind(x.dtype) in "ui":
        raise DTypeError(f"at: quotients do not fit a tensor of {x.dtype}. Hint: astype().")
    items, _ = plain(index)
    selection = select(x.shape, items)
    _refuse_kinds(value, x)
    value = _fitted("at", value, x, selection)
    if how == "add":
        return x + spread_out(value, selection)
    old = fetched(x, selection)
    if selection.positions is not None:
        flat = selection.positions.reshape(-1)
        unique, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
        if unique.size < flat.size:
            ids, spots = as_tensor("at", inverse, x), as_tensor("at", first, x)
            axis = selection.axis
            one = _SEGMENTS[how](_lined(value, selection), ids, unique.size, axis=axis)
            old = take(_lined(old, selection), spots, axis)
            return _looked_up(x, selection, _COMBINE[how](old, one), unique)
    return _written(x, selection, _COMBINE[how](old, value))


@updated.samples
def _():
    twice = ([0, 2, 0, 1],)
    apart = ([0, 1, 0], slice(0, 2), [1, 1, 1])
    for how, kinds in (
        *(("add", "f"), ("multiply", "f"), ("max", "f"), ("min", "f")),
        *(("add", "c"), ("multiply", "c")),
    ):
        yield sample((3, 4), value=floats(4), index=1, how=how, kinds=kinds)
        yield sample((3, 4), value=floats(4, 4), index=twice, how=how, kinds=kinds)
        yield sample((2, 3, 2), value=floats(3, 2), index=apart, how=how, kinds=kinds)
        yield sample((3,), value=floats(), index=([True, False, True],), how=how, kinds=kinds)
        yield sample((3,), value=floats(0), index=([],), how=how, kinds=kinds)
        yield sample(
            integers(3, 4, high=9), value=integers(4, 4, high=9), index=twice, how=how, kinds="f"
        )
    away = floats(4, 4, low=0.5, high=2.0)
    yield sample((3, 4), value=away, index=twice, how="divide", kinds="f")
    yield sample((3, 4), value=away, index=twice, how="divide", kinds="c")
    yield sample((3, 4), value=floats(3, 2, low=0.5), index=(..., [1, 3]), how="divide", kinds="f")
    base = floats(3, 4, low=0.5, high=2.0)
    yield sample(base, value=floats(4, 4), index=twice, how="power", kinds="f")
    yield sample(base, value=floats(4), index=0, how="power", kinds="f")
    yield sample(base, value=floats(4), index=0, how="power", kinds="c")
    yield sample(integers(3, 4), value=integers(4), index=0, how="power", kinds="f")
    nans = values(1.0, np.nan, -np.inf)
    yield sample(nans, value=values(0.0, 2.0, np.nan), index=([0, 0, 2],), how="max", kinds="f",
                 value_only=True)  # fmt: skip


@updated.errors
def _():
    x = blank(3, 4)
    whole = cast(x, "int64")
    yield Failure(lambda: x.at[5].add(1.0), IndexingError, r"5 is out of bounds for axis 0")
    yield Failure(lambda: x.at[0].max(blank(3)), ShapeError, r"\(3,\) does not fit x\[0\]")
    yield Failure(lambda: whole.at[0].divide(2), DTypeError, r"quotients do not fit .* int64")
    yield Failure(lambda: whole.at[0].add(0.5), DTypeError, r"float32 does not fit .* int64")
    yield Failure(lambda: (x > 0).at[0].add(1), DTypeError, r"not truth values")
    yield Failure(lambda: updated(x, 0, 1.0, "up"), ValueRangeError, r"how='up'")


class At:
    """``x.at[index]``: updates of a part that return a new tensor."""

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def __getitem__(self, index: Any) -> Part:
        return Part(self._x, index)


class Part:
    """A part of a tensor, to be fetched or updated: each method returns a new tensor.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([1.0, 2.0, 3.0])
    >>> x.at[[0, 0]].add(10.0), x.at[1:].set(0.0), x.at[-1].multiply(2.0)
    (tensor([21.,  2.,  3.]), tensor([1., 0., 0.]), tensor([1., 2., 6.]))
    """

    def __init__(self, x: Tensor, index: Any) -> None:
        self._x = x
        self._index = index

    def _updated(self, value: Any, how: How) -> Tensor:
        result: Tensor = updated(self._x, self._index, value, how)
        return result

    def get(self) -> Tensor:
        """Return the part, as ``x[index]`` does."""
        return getitem(self._x, self._index)

    def set(self, value: Any) -> Tensor:
        """Return the tensor with ``value`` here; where a place is named twice, the last holds."""
        result: Tensor = replaced(self._x, self._index, value)
        return result

    def add(self, value: Any) -> Tensor:
        """Return the tensor with ``value`` added here; for a place named twice, both are."""
        return self._updated(value, "add")

    def subtract(self, value: Any) -> Tensor:
        """Return the tensor with ``value`` subtracted here; for a place named twice, both are."""
        return self._updated(-as_tensor("at", value, self._x), "add")

    def multiply(self, value: Any) -> Tensor:
        """Return the tensor multiplied by ``value`` here; a place named twice, by both."""
        return self._updated(value, "multiply")

    mul = multiply

    def divide(self, value: Any) -> Tensor:
        """Return the tensor divided by ``value`` here; a place named twice, by both."""
        return self._updated(value, "divide")

    def power(self, value: Any) -> Tensor:
        """Return the tensor raised to ``value`` here; a place named twice, to the product."""
        return self._updated(value, "power")

    def max(self, value: Any) -> Tensor:
        """Return the tensor with the larger of its entry and ``value`` here."""
        return self._updated(value, "max")

    def min(self, value: Any) -> Tensor:
        """Return the tensor with the smaller of its entry and ``value`` here."""
        return self._updated(value, "min")
