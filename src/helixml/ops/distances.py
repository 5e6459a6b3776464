"""Distances between points, in p-norms, with a gradient that is 0 where two points are one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.elementwise import abs, divide, where
from helixml.ops.indexing import take
from helixml.ops.movement import as_float, expand_dims
from helixml.ops.norms import vector_norm


def _order(op: str, p: Any) -> float:
    order = float(dtypes.as_number(op, "p", p))
    if not order > 0:
        raise ValueRangeError(f"{op}: p={p} is not positive.")
    return order


def _points(op: str, *given: Tensor) -> list[Tensor]:
    for x in given:
        if x.ndim < 2:
            raise ShapeError(f"{op}: takes rows of points, (..., n, d); a shape is {x.shape}.")
    return [as_float(x) for x in given]


def _norm_oracle(d, p):
    d = d.astype(np.result_type(d, np.float64))
    return np.linalg.norm(d, ord=p, axis=-1) if d.size else np.zeros(d.shape[:-1])


def _cdist_oracle(x, y, p=2.0):
    return _norm_oracle(x[..., :, None, :] - y[..., None, :, :], p)


@composite(oracle=_cdist_oracle)
def cdist(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    """Return the distances between each of some points and each of others.

    Parameters
    ----------
    x : Tensor, (..., m, d).
    y : Tensor, (..., n, d); axes before the last two broadcast.
    p : number above 0, or inf: of the norm (sum |x_i - y_j|^p)^(1/p).

    Returns
    -------
    Tensor, (..., m, n), a float dtype.

    Raises
    ------
    ShapeError : the points have different dimensions, or there are no rows. ValueRangeError : ``p``
    is not positive.

    Notes
    -----
    Computed from differences, which need room for (..., m, n, d) and lose no digits to cancelling.
    Gradient: that of the norm, and 0 between equal points.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.cdist(hx.tensor([[0.0, 0.0]]), hx.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    order = _order("cdist", p)
    x, y = _points("cdist", x, y)
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(
            f"cdist: x is {x.shape}, y is {y.shape}; points of {x.shape[-1]} and {y.shape[-1]} "
            "dimensions."
        )
    if x.shape[-1] == 0 and order == math.inf:
        order = 1.0  # nothing to compare: 0
    return vector_norm(expand_dims(x, -2) - expand_dims(y, -3), axis=-1, ord=order)


@cdist.samples
def _():
    for p in (2.0, 1, math.inf, 3.0, 0.5):
        yield sample((3, 2), (4, 2), p=p)
    yield sample((2, 3, 2), (4, 2))
    yield sample((0, 2), (4, 2))
    yield sample((2, 0), (3, 0))


@cdist.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: cdist(x, blank(2, 2)), ShapeError, r"points of 3 and 2 dimensions")
    yield Failure(lambda: cdist(x, blank(3)), ShapeError, r"\(\.\.\., n, d\); a shape is \(3,\)")
    yield Failure(lambda: cdist(x, x, 0), ValueRangeError, r"p=0 is not positive")
    yield Failure(lambda: cdist(x, x, "a"), DTypeError, r"p must be a number, not 'a'")


def _pdist_oracle(x, p=2.0):
    first, second = np.triu_indices(x.shape[-2], 1)
    return _norm_oracle(x[..., first, :] - x[..., second, :], p)


@composite(oracle=_pdist_oracle)
def pdist(x: Tensor, p: float = 2.0) -> Tensor:
    """Return the distances between all pairs of points.

    Parameters
    ----------
    x : Tensor, (..., n, d).
    p : number above 0, or inf: of the norm.

    Returns
    -------
    Tensor, (..., n (n - 1) / 2), a float dtype: of points 0 and 1, 0 and 2, ..., 1 and 2, ...

    Raises
    ------
    ShapeError : there are no rows. ValueRangeError : ``p`` is not positive.

    Notes
    -----
    Gradient: that of the norm, and 0 between equal points.
    """
    order = _order("pdist", p)
    (x,) = _points("pdist", x)
    if x.shape[-1] == 0 and order == math.inf:
        order = 1.0
    first, second = np.triu_indices(x.shape[-2], 1)
    left = take(x, as_tensor("pdist", first, x), axis=x.ndim - 2)
    right = take(x, as_tensor("pdist", second, x), axis=x.ndim - 2)
    return vector_norm(left - right, axis=-1, ord=order)


@pdist.samples
def _():
    for p in (2.0, 1, math.inf, 3.0):
        yield sample((4, 2), p=p)
    yield sample((2, 3, 2))
    yield sample((1, 2))
    yield sample((0, 2))


@pdist.errors
def _():
    yield Failure(lambda: pdist(blank(3)), ShapeError, r"a shape is \(3,\)")
    yield Failure(lambda: pdist(blank(2, 3), -1), ValueRangeError, r"p=-1 is not positive")


def _renorm_oracle(x, p, axis, max_norm):
    rows = np.moveaxis(x.astype(np.result_type(x, np.float64)), axis, 0)
    for i in range(len(rows)):
        length = np.linalg.norm(rows[i].ravel(), ord=p) if rows[i].size else 0.0
        if length > max_norm:
            rows[i] *= max_norm / length
    return np.moveaxis(rows, 0, axis)


@composite(oracle=_renorm_oracle)
def renorm(x: Tensor, p: float, axis: int, max_norm: float) -> Tensor:
    """Shorten the parts along an axis whose p-norm is too large.

    Parameters
    ----------
    x : Tensor with at least one axis.
    p : number above 0, or inf: of the norm.
    axis : int, along which the parts stand; each norm is over all other axes.
    max_norm : number, not negative.

    Returns
    -------
    Tensor, same shape, a float dtype: each part times min(1, max_norm / norm).

    Raises
    ------
    ShapeError : there is no such axis. ValueRangeError : ``p`` is not positive, or ``max_norm`` is
    negative.

    Notes
    -----
    Differentiable through the norms.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.renorm(hx.tensor([[3.0, 4.0], [0.3, 0.4]]), 2, 0, 1.0)
    tensor([[0.6, 0.8],
            [0.3, 0.4]])
    """
    order = _order("renorm", p)
    most = float(dtypes.as_number("renorm", "max_norm", max_norm))
    if not most >= 0:
        raise ValueRangeError(f"renorm: max_norm={max_norm} is negative.")
    axis = shapes.normalize_axis("renorm", axis, x.ndim)
    x = as_float(x)
    if x.size == 0:
        return x * 1
    others = tuple(a for a in range(x.ndim) if a != axis)
    norm = vector_norm(x, axis=others, keepdims=True, ord=order) if others else abs(x)
    long = norm > most
    return x * where(long, divide(most, where(long, norm, 1)), 1)


@renorm.samples
def _():
    yield sample((3, 4), p=2, axis=0, max_norm=1.5)
    yield sample((2, 3, 2), p=1.0, axis=1, max_norm=4.0)
    yield sample((3, 4), p=math.inf, axis=-1, max_norm=1.1)
    yield sample(floats(4), p=2, axis=0, max_norm=1.0, orders=1)
    yield sample((3, 0), p=2, axis=0, max_norm=0.0)


@renorm.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: renorm(x, 2, 2, 1.0), ShapeError, r"axis 2 is out of range")
    yield Failure(lambda: renorm(x, 2, 0, -1.0), ValueRangeError, r"max_norm=-1\.0 is negative")
    yield Failure(lambda: renorm(x, 0, 0, 1.0), ValueRangeError, r"p=0 is not positive")
