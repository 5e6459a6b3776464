"""Sorting and searching. Positions carry no gradient; sorted values are taken at them, and do.

`argsort`, which all of it stands on, is in `indexing`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, Input, blank, booleans, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import ShapeError, ValueRangeError
from helixml.ops.elementwise import minimum
from helixml.ops.indexing import argsort, take, take_along_axis
from helixml.ops.logic import NO_ORDER, equal, logical_not
from helixml.ops.movement import astype, reshape

Array = Any


def _sort_oracle(x, axis=-1, descending=False, stable=True):
    result = np.sort(x, axis=axis)
    return np.flip(result, axis) if descending else result


@composite(real_only="x[argsort(abs(x))]", oracle=_sort_oracle)
def sort(x: Tensor, axis: int = -1, descending: bool = False, *, stable: bool = True) -> Tensor:
    """Sort the values along an axis.

    Parameters
    ----------
    x : Tensor with at least one axis.
    axis : int.
    descending : largest first.
    stable : taken for the array API's sake: the order of equal entries is kept in any case.

    Returns
    -------
    Tensor, same shape and dtype.

    Raises
    ------
    ShapeError : there is no such axis.

    Notes
    -----
    Gradient: g, each entry back where its value came from.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.sort(hx.tensor([2.0, 3.0, 1.0]), descending=True)
    tensor([3., 2., 1.])
    """
    order = argsort(x, axis=axis, descending=descending)
    return take_along_axis(x, order, axis=axis)


@sort.samples
def _():
    yield sample(floats(3, 4, distinct=True))
    yield sample(floats(3, 4, distinct=True), axis=0, descending=True)
    yield sample(integers(3, 4), axis=1)
    yield sample((0, 4), axis=0)


@sort.errors
def _():
    yield Failure(lambda: sort(blank(2), axis=1), ShapeError, r"axis 1 is out of range")
    yield Failure(lambda: sort(blank()), ShapeError, r"a scalar has no axes")


def _searchsorted_oracle(x, y, sorter=None, side="left"):
    order = None if sorter is None else sorter.astype(np.int64)
    return np.asarray(np.searchsorted(x, y, side, order))


@primitive(promotes=("x", "y"), real_only=NO_ORDER, oracle=_searchsorted_oracle)
def searchsorted(
    B,
    x: Array,
    y: Array,
    sorter: Array | None = None,
    *,
    side: Literal["left", "right"] = "left",
):
    """Return where to insert values into a sorted tensor so that it stays sorted.

    Parameters
    ----------
    x : Tensor, (n,), in ascending order, or so once it is sorted by ``sorter``.
    y : Tensor, any shape: the values.
    sorter : Tensor, (n,), the positions that sort ``x``, as from `argsort`; or None.
    side : "left", before entries equal to the value; "right", behind them.

    Returns
    -------
    Tensor, int64, of the shape of ``y``, values in [0, n]. Carries no gradient.

    Raises
    ------
    ShapeError : ``x`` or ``sorter`` has another shape. ValueRangeError : another ``side``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.searchsorted(hx.tensor([1.0, 2.0, 2.0]), hx.tensor([2.0, 0.0]), side="right")
    tensor([3, 0])
    """
    if sorter is not None:
        x = B.take(x, sorter, axis=0)
    return B.astype(B.ensure(B.searchsorted(x, y, side=side)), dtypes.int64)


@searchsorted.prepare
def _(x, y, sorter, side):
    if side not in ("left", "right"):
        raise ValueRangeError(f"searchsorted: side={side!r}. Hint: 'left' or 'right'.")
    if not isinstance(x, Tensor) or x.ndim != 1:
        shape = getattr(x, "shape", ())
        raise ShapeError(f"searchsorted: x must have one axis, its shape is {shape}.")
    if sorter is not None and sorter.shape != x.shape:
        raise ShapeError(f"searchsorted: sorter is {sorter.shape}, x is {x.shape}.")
    return {"side": side}


searchsorted.flops(lambda x, out: out.size * x.size.bit_length())  # halving


@searchsorted.samples
def _():
    yield sample(values(-1.0, 0.0, 0.0, 2.0), values(0.0, -3.0, 2.0, 5.0))
    yield sample(values(0.0, 1.0, 1.0, 2.0), integers(2, 3), side="right")
    yield sample(values(2.0, 0.0, 1.0), 1, Input("int", (3,), values=(1, 2, 0)))
    yield sample(floats(0), (2, 3))


@searchsorted.errors
def _():
    x = blank(2)
    yield Failure(lambda: searchsorted(x, x, side="up"), ValueRangeError, r"side='up'")
    yield Failure(lambda: searchsorted(blank(2, 2), x), ShapeError, r"shape is \(2, 2\)")
    yield Failure(
        lambda: searchsorted(x, x, sorter=np.array([0])), ShapeError, r"sorter is \(1,\), x is"
    )


def _isin_oracle(x, y, invert=False):
    return np.isin(x, y, invert=invert)


@composite(real_only="any(x[..., None] == y, axis=-1)", oracle=_isin_oracle)
def isin(x: Tensor, y: Tensor, *, invert: bool = False) -> Tensor:
    """Say elementwise whether a value is among those of another tensor; nan never is.

    Parameters
    ----------
    x : Tensor, any shape.
    y : Tensor, any shape.
    invert : say whether it is not.

    Returns
    -------
    Tensor, bool, of the shape of ``x``.

    Notes
    -----
    Costs a sort of ``y`` and a search for each entry of ``x``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.isin(hx.tensor([1, 2, 3]), hx.tensor([3, 1]))
    tensor([ True, False,  True])
    """
    from helixml.ops.creation import full

    if y.size == 0:
        return full(x.shape, bool(invert), dtypes.bool_, x.device)
    common = dtypes.result_type(x.dtype, y.dtype)
    if common == dtypes.bool_:
        common = dtypes.uint8  # which every backend sorts
    wanted, x = reshape(astype(y, common), (-1,)), astype(x, common)
    line = take(wanted, argsort(wanted), axis=0)
    near = minimum(searchsorted(line, x), line.size - 1)
    found = equal(take(line, near, axis=0), x)
    return logical_not(found) if invert else found


@isin.samples
def _():
    yield sample(values(1.0, 0.0, 2.0, 3.0), values(3.0, 1.0, 1.0))
    yield sample(integers(3, 4, high=9), integers(2, 2, high=9), invert=True)
    yield sample(values(1.0, np.nan, np.inf), values(np.nan, np.inf))
    yield sample(booleans(3), booleans(2))
    yield sample((2, 3), floats(0))
    yield sample(floats(0), (3,))


def _nonzero_oracle(x):
    return np.nonzero(x)


@composite(oracle=_nonzero_oracle)
def nonzero(x: Tensor) -> tuple[Tensor, ...]:
    """Return the positions of the values that are not 0, in row-major order.

    Parameters
    ----------
    x : Tensor with at least one axis; nan is not 0.

    Returns
    -------
    Tuple of Tensors, int64, one for each axis of ``x``. They carry no gradient.

    Raises
    ------
    ShapeError : ``x`` is a scalar.

    Notes
    -----
    How many there are depends on the values, which are looked at in host memory.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.nonzero(hx.tensor([[0.0, 2.0], [3.0, 0.0]]))
    (tensor([0, 1]), tensor([1, 0]))
    """
    if x.ndim == 0:
        raise ShapeError("nonzero: a scalar has no positions. Hint: x.reshape(1).")
    found = np.nonzero(x._backend.to_numpy(x._array))
    return tuple([as_tensor("nonzero", axis.astype(np.int64), x) for axis in found])


@nonzero.samples
def _():
    yield sample(integers(3, 4), value_only=True)
    yield sample(values(0.0, 1.0, -0.0, np.nan), value_only=True)
    yield sample(booleans(2, 3))
    yield sample((0, 2))


nonzero.errors(lambda: (Failure(lambda: nonzero(blank()), ShapeError, r"has no positions"),))
