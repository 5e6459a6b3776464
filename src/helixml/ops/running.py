"""Along an axis: running sums and products, and differences of neighbours.

`scan` has the recurrences that are more than that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, integers, sample, values
from helixml._core.tensor import Tensor
from helixml.dtypes import DTypeLike
from helixml.errors import ShapeError, ValueRangeError
from helixml.ops.elementwise import subtract
from helixml.ops.movement import astype, broadcast_to, concat, flip
from helixml.ops.numbers import positive
from helixml.ops.scan import linear_scan

Array = Any


def _axis(op, axis, rank):
    """Return ``axis`` from the front; None is the last."""
    return shapes.normalize_axis(op, -1 if axis is None else axis, rank)


def _within(axis, entries):
    """Return the index of ``entries`` along ``axis``."""
    return (*(slice(None),) * axis, entries)


def _cumsum_oracle(x, axis=-1, dtype=None, include_initial=False):
    total = np.cumsum(x, axis=axis, dtype=dtype)
    return np.insert(total, 0, 0, axis=axis) if include_initial else total


@primitive(oracle=_cumsum_oracle)
def cumulative_sum(
    B, x: Array, axis: int | None = None, *, dtype: DTypeLike = None, include_initial: bool = False
):
    """Return running sums along an axis, y_t = x_0 + ... + x_t.

    Parameters
    ----------
    x : Tensor with at least one axis.
    axis : int; the last axis if left out.
    dtype : of the result, and in which to add up; if left out, 64 bits for booleans and integers
        and that of ``x`` for floats.
    include_initial : begin with the empty sum, 0, which makes the axis longer by 1.

    Returns
    -------
    Tensor.

    Notes
    -----
    Gradient: the running sum of g from the other end.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.cumulative_sum(hx.tensor([1.0, 2.0, 3.0]), include_initial=True)
    tensor([0., 1., 3., 6.])
    """
    assert axis is not None  # it was made a number
    total = B.cumulative_sum(x if dtype is None else B.astype(x, dtype), axis=axis)
    if dtype is not None:
        total = B.astype(total, dtype)
    if include_initial:
        first = B.zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]), dtype=B.dtype_of(total))
        total = B.concat([first, total], axis=axis)
    return total


@cumulative_sum.prepare
def _(x, axis, dtype, include_initial):
    if dtype is not None:
        dtype = dtypes.parse(dtype)
        dtypes.check_cast("cumulative_sum", x.dtype, dtype)
    return {
        "axis": _axis("cumulative_sum", axis, x.ndim),
        "dtype": dtype,
        "include_initial": bool(include_initial),
    }


@cumulative_sum.vjp("x")
def _(g, axis, include_initial):
    if include_initial:
        g = g[_within(axis, slice(1, None))]
    return flip(cumulative_sum(flip(g, axis=axis), axis=axis), axis=axis)


cumulative_sum.options["exact_dtype"] = False


@cumulative_sum.flops
def _(x, axis):
    return x.size - x.size // (x.shape[_axis("cumulative_sum", axis, x.ndim)] or 1)


@cumulative_sum.samples
def _():
    yield sample((3, 4), axis=1)
    yield sample((3, 4), axis=0)
    yield sample((0, 4), axis=0)
    yield sample((3,), include_initial=True)
    yield sample((3, 4), axis=0, include_initial=True)
    yield sample((3, 4), kinds="buif", axis=-1, dtype="float64", value_only=True)
    yield sample((3, 4), axis=-1, dtype="complex128")
    yield sample(integers(5, high=3), dtype="int32")


@cumulative_sum.errors
def _():
    yield Failure(lambda: cumulative_sum(blank(2), 1), ShapeError, r"axis 1 is out of range")
    yield Failure(lambda: cumulative_sum(blank()), ShapeError, r"a scalar has no axes")


def _cumprod_oracle(x, axis=-1, dtype=None, include_initial=False):
    total = np.cumprod(x, axis=axis, dtype=dtype)
    return np.insert(total, 0, 1, axis=axis) if include_initial else total


@composite(oracle=_cumprod_oracle)
def cumulative_prod(
    x: Tensor, axis: int | None = None, *, dtype: DTypeLike = None, include_initial: bool = False
) -> Tensor:
    """Return running products along an axis, y_t = x_0 ... x_t.

    Parameters
    ----------
    x : Tensor with at least one axis.
    axis : int; the last axis if left out.
    dtype : of the result, and in which to multiply; if left out, 64 bits for booleans and integers
        and that of ``x`` for floats.
    include_initial : begin with the empty product, 1, which makes the axis longer by 1.

    Returns
    -------
    Tensor.

    Notes
    -----
    The recurrence y_t = x_t y_(t-1), and its gradient: nothing is divided, zeros are fine.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.cumulative_prod(hx.tensor([1.0, 2.0, 3.0]))
    tensor([1., 2., 6.])
    """
    from helixml.ops.creation import full

    axis = _axis("cumulative_prod", axis, x.ndim)
    x = astype(x, dtypes.summed(x.dtype) if dtype is None else dtype)
    one, zero = (full((), value, x.dtype, x.device) for value in (1, 0))
    result = linear_scan(x, zero, one, axis=axis)
    if include_initial:
        first = broadcast_to(one, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        result = concat([first, result], axis=axis)
    return result


cumulative_prod.options["exact_dtype"] = False


@cumulative_prod.samples
def _():
    yield sample((3, 4), axis=1)
    yield sample((3, 4), axis=0, include_initial=True)
    yield sample((0, 4), axis=0)
    yield sample(values(1.5, 0.0, -2.0, 0.0, 0.5))
    yield sample(integers(5, low=1, high=3), dtype="int32")


@cumulative_prod.errors
def _():
    yield Failure(lambda: cumulative_prod(blank(2), 1), ShapeError, r"axis 1 is out of range")
    yield Failure(lambda: cumulative_prod(blank()), ShapeError, r"a scalar has no axes")


def _diff_oracle(x, prepend=None, append=None, axis=-1, n=1):
    edges = {"prepend": prepend, "append": append}
    return np.diff(x, n, axis, **{k: v for k, v in edges.items() if v is not None})


@composite(oracle=_diff_oracle)
def diff(
    x: Tensor,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
    *,
    axis: int = -1,
    n: int = 1,
) -> Tensor:
    """Return differences of neighbours along an axis, y_t = x_(t+1) - x_t.

    Parameters
    ----------
    x : Tensor with at least one axis, numbers.
    prepend, append : Tensor to join before and after ``x`` along ``axis`` first, or None.
    axis : int.
    n : how often differences are taken; for 0, ``x`` is the result and nothing is joined.

    Returns
    -------
    Tensor, shorter by ``n`` along ``axis``.

    Raises
    ------
    ValueRangeError : ``n`` is negative. ShapeError : what is joined does not fit.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.diff(hx.tensor([1.0, 4.0, 9.0]))
    tensor([3., 5.])
    """
    axis = shapes.normalize_axis("diff", axis, x.ndim)
    if dtypes.as_integer("diff", "n", n) < 0:
        raise ValueRangeError(f"diff: n={n} is negative.")
    if n == 0:
        return positive(x)
    parts = [part for part in (prepend, x, append) if part is not None]
    if len(parts) > 1:
        x = concat(parts, axis=axis)
    for _ in range(min(n, x.shape[axis])):  # then nothing is left
        x = subtract(x[_within(axis, slice(1, None))], x[_within(axis, slice(None, -1))])
    return x


@diff.samples
def _():
    yield sample((3, 4))
    yield sample((3, 4), axis=0, n=2)
    yield sample((3, 4), n=5)
    yield sample((3, 4), (2, 4), (1, 4), axis=0)
    yield sample((3, 4), None, (3, 1))
    yield sample((1, 4), axis=0)
    yield sample((3,), n=0, value_only=True)


@diff.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: diff(x, n=-1), ValueRangeError, r"n=-1 is negative")
    yield Failure(lambda: diff(x, axis=2), ShapeError, r"axis 2 is out of range")
    yield Failure(lambda: diff(x, append=blank(3, 1)), ShapeError, r"has shape \(3, 1\)")
