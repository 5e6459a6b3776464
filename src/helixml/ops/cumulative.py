"""Running extremes and log-sums along an axis. Running sums and products are in `running`."""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.modes import no_grad
from helixml._core.samples import Failure, blank, floats, integers, sample, values
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError
from helixml.ops.elementwise import exp, log, where
from helixml.ops.indexing import take_along_axis
from helixml.ops.logic import (
    NO_ORDER,
    greater_equal,
    isfinite,
    isnan,
    less_equal,
    logical_and,
    logical_or,
)
from helixml.ops.movement import as_float, broadcast_to, concat, reshape
from helixml.ops.scan import linear_scan


def _within(axis: int, entries: slice) -> tuple[Any, ...]:
    """Return the index of ``entries`` along ``axis``."""
    return (*(slice(None),) * axis, entries)


def _places(x: Tensor, axis: int, at_least: Any) -> Tensor:
    """Return where the extreme of the entries so far stands; of equal ones the first.

    By doubling (Hillis and Steele 1986): after k rounds each entry knows the extreme of the last
    2^k entries, itself included.
    """
    from helixml.ops.creation import arange

    n = x.shape[axis]
    line = reshape(
        arange(n, dtype=dtypes.int64, device=x.device), (-1, *(1,) * (x.ndim - axis - 1))
    )
    places = broadcast_to(line, x.shape)
    distance = 1
    while distance < n:
        head, ahead = _within(axis, slice(0, distance)), _within(axis, slice(distance, None))
        behind = _within(axis, slice(0, n - distance))
        old, new = x[behind], x[ahead]
        wins = logical_or(at_least(old, new), isnan(old))
        x = concat([x[head], where(wins, old, new)], axis=axis)
        places = concat([places[head], where(wins, places[behind], places[ahead])], axis=axis)
        distance *= 2
    return places


def _running_extreme(name, what, at_least, oracle):
    def forward(x: Tensor, axis: int = -1) -> Tensor:
        if dtypes.kind(x.dtype) == "b":
            raise DTypeError(f"{name}: takes numbers, not {x.dtype}.")
        axis = shapes.normalize_axis(name, axis, x.ndim)
        with no_grad():
            places = _places(x.detach(), axis, at_least)
        return take_along_axis(x, places, axis=axis)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Return the {what} value so far along an axis.

    Parameters
    ----------
    x : Tensor with at least one axis, real numbers. From a nan on, all is nan.
    axis : int.

    Returns
    -------
    Tensor, same shape and dtype.

    Raises
    ------
    ShapeError : there is no such axis. DTypeError : ``x`` has no order.

    Notes
    -----
    Gradient: g, added where each value came from; of equal values the first.
    """
    op = composite(forward, real_only=NO_ORDER, oracle=lambda x, axis=-1: oracle(x, axis=axis))

    @op.samples
    def _():
        yield sample(floats(3, 4, distinct=True), kinds="uifc")
        yield sample(floats(5, 2, distinct=True), axis=0, kinds="uifc")
        yield sample(integers(9, high=4), kinds="uifc")
        yield sample((0, 2), axis=0, kinds="uifc")
        yield sample(values(1.0, np.nan, 3.0, -np.inf, np.inf), kinds="uifc", value_only=True)

    @op.errors
    def _():
        yield Failure(lambda: op(blank(2), 1), ShapeError, r"axis 1 is out of range")
        yield Failure(lambda: op(blank()), ShapeError, r"a scalar has no axes")
        yield Failure(lambda: op(blank(2) > 0), DTypeError, r"takes numbers, not bool")

    return op


cumulative_max = _running_extreme("cumulative_max", "largest", greater_equal, np.maximum.accumulate)
cumulative_min = _running_extreme("cumulative_min", "smallest", less_equal, np.minimum.accumulate)


def _logsumexp_oracle(x, axis=-1):
    return np.logaddexp.accumulate(x.astype(np.float64), axis=axis)


@composite(real_only="log(cumulative_sum(exp(x), axis=axis))", oracle=_logsumexp_oracle)
def cumulative_logsumexp(x: Tensor, axis: int = -1) -> Tensor:
    r"""Return y_t = log(e^(x_0) + ... + e^(x_t)) along an axis, without overflow.

    Parameters
    ----------
    x : Tensor with at least one axis, real.
    axis : int.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    ShapeError : there is no such axis. DTypeError : ``x`` is complex.

    Notes
    -----
    With m_t the largest value so far, h_t = e^(m_(t-1) - m_t) h_(t-1) + e^(x_t - m_t) is a linear
    scan whose terms are at most 1, and y_t = m_t + log h_t. The m_t cancel, so no gradient goes
    through them. Gradient: the sum over t >= s of g_t e^(x_s - y_t); 0 where y_t is not finite.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.cumulative_logsumexp(hx.tensor([1000.0, 1000.0]))
    tensor([1000.    , 1000.6932])
    """
    axis = shapes.normalize_axis("cumulative_logsumexp", axis, x.ndim)
    x = as_float(x)
    if x.shape[axis] == 0:
        return x * 1
    top = cumulative_max(x.detach(), axis=axis)
    finite = isfinite(top)
    top_or_0 = where(finite, top, 0)
    behind, ahead = _within(axis, slice(None, -1)), _within(axis, slice(1, None))
    both = logical_and(finite[behind], finite[ahead])
    kept = where(both, exp(where(both, top_or_0[behind] - top_or_0[ahead], 0)), 0)
    first = _within(axis, slice(0, 1))
    kept = concat([top_or_0[first] * 0, kept], axis=axis)
    terms = where(finite, exp(where(finite, x - top_or_0, 0)), 1)
    total = linear_scan(kept, terms, axis=axis)
    return where(finite, log(total) + top_or_0, top)


@cumulative_logsumexp.samples
def _():
    yield sample((3, 4))
    yield sample((5, 2), axis=0)
    yield sample((0, 2), axis=0)
    yield sample((1,))
    yield sample(values(1000.0, 999.0, -1000.0, 1001.0), value_only=True, kinds="f")
    yield sample(values(-np.inf, -np.inf, -1000.0, 2.0), value_only=True)
    yield sample(values(1.0, np.inf, 2.0, np.nan, 1.0), value_only=True)


@cumulative_logsumexp.errors
def _():
    yield Failure(lambda: cumulative_logsumexp(blank(2), 1), ShapeError, r"axis 1 is out of range")
