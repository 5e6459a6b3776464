"""Sums and differences that stand for integrals and derivatives, and interpolation.

Functions are given by samples along an axis: `trapezoid` integrates, `gradient` differentiates,
`interp` reads between. Not to be confused with `helixml.grad`, which differentiates programs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, Input, blank, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.elementwise import maximum, minimum, remainder, where
from helixml.ops.indexing import argsort, take
from helixml.ops.movement import as_float, broadcast_to, cast, concat, reshape
from helixml.ops.running import cumulative_sum
from helixml.ops.sorting import searchsorted
from helixml.shapes import Axis


def _within(axis: int, entries: Any) -> tuple[Any, ...]:
    """Return the index of ``entries`` along ``axis``."""
    return (*(slice(None),) * axis, entries)


def _along(line: Tensor, axis: int, rank: int) -> Tensor:
    """Return a vector as a tensor of ``rank`` axes, along ``axis``."""
    return reshape(line, (-1, *(1,) * (rank - axis - 1)))


def _areas(op: str, y: Tensor, x: Tensor | None, dx: Any, axis: int) -> Tensor:
    """Return the areas between neighbours: their means times their distances."""
    y = as_float(y)
    means = (y[_within(axis, slice(1, None))] + y[_within(axis, slice(None, -1))]) * 0.5
    if x is None:
        if not isinstance(dx, Tensor):
            dtypes.as_number(op, "dx", dx)
        elif dx.ndim:
            raise ShapeError(f"{op}: dx must be a number, its shape is {dx.shape}.")
        return means * dx
    if x.ndim == 1 and x.shape[0] == y.shape[axis]:
        x = _along(x, axis, y.ndim)
    elif x.shape != y.shape:
        raise ShapeError(
            f"{op}: x is {x.shape}, y is {y.shape}; x has the shape of y, or one axis of size "
            f"{y.shape[axis]}."
        )
    axis = axis - y.ndim  # a vector may have fewer axes now
    index = (..., *(slice(None),) * (-1 - axis))
    x = as_float(x)
    return means * (x[(..., slice(1, None), *index[1:])] - x[(..., slice(None, -1), *index[1:])])


def _trapezoid_oracle(y, x=None, dx=1.0, axis=-1):
    return np.trapezoid(y.astype(np.result_type(y, np.float64)), x, dx, axis)


@composite(oracle=_trapezoid_oracle)
def trapezoid(y: Tensor, x: Tensor | None = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """Integrate along an axis by the trapezoidal rule.

    Parameters
    ----------
    y : Tensor with at least one axis: values of the function.
    x : Tensor, (n,) or of the shape of ``y``: where they were taken; None if at equal distances.
    dx : number, the distance where ``x`` is None.
    axis : int, of size n.

    Returns
    -------
    Tensor without ``axis``, a float dtype; 0 if n is 1.

    Raises
    ------
    ShapeError : ``x`` does not fit, or there is no such axis.

    Notes
    -----
    sum_t (x_(t+1) - x_t) (y_(t+1) + y_t) / 2, differentiable in both.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.trapezoid(hx.tensor([1.0, 2.0, 3.0]), dx=0.5)
    tensor(2.)
    """
    axis = shapes.normalize_axis("trapezoid", axis, y.ndim)
    return reduction.sum(_areas("trapezoid", y, x, dx, axis), axis=axis)


def _cumulative_oracle(y, x=None, dx=1.0, axis=-1, initial=None):
    y = np.moveaxis(y.astype(np.result_type(y, np.float64)), axis, -1)
    if x is not None and x.ndim > 1:
        x = np.moveaxis(x, axis, -1)
    ends = range(1 if initial is None else 0, y.shape[-1])
    parts = [
        np.trapezoid(y[..., : t + 1], None if x is None else x[..., : t + 1], dx) for t in ends
    ]
    return np.moveaxis(np.stack(parts, axis=-1), -1, axis)


@composite(oracle=_cumulative_oracle)
def cumulative_trapezoid(
    y: Tensor,
    x: Tensor | None = None,
    dx: float = 1.0,
    axis: int = -1,
    initial: float | None = None,
) -> Tensor:
    """Integrate along an axis by the trapezoidal rule, from the first value to each other.

    Parameters
    ----------
    y : Tensor with at least one axis, not empty along ``axis``.
    x : Tensor, (n,) or of the shape of ``y``: where values were taken; None for equal distances.
    dx : number, the distance where ``x`` is None.
    axis : int, of size n.
    initial : 0, to begin with the empty integral; None leaves it out, which makes the axis shorter
        by 1.

    Returns
    -------
    Tensor, a float dtype.

    Raises
    ------
    ShapeError : ``x`` does not fit, or ``axis`` is empty or does not exist. ValueRangeError :
    another ``initial``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.cumulative_trapezoid(hx.tensor([1.0, 2.0, 3.0]), initial=0)
    tensor([0. , 1.5, 4. ])
    """
    axis = shapes.normalize_axis("cumulative_trapezoid", axis, y.ndim)
    if initial is not None and dtypes.as_number("cumulative_trapezoid", "initial", initial) != 0:
        raise ValueRangeError(f"cumulative_trapezoid: initial={initial}. Hint: 0 or None.")
    if y.shape[axis] == 0:
        raise ShapeError(f"cumulative_trapezoid: axis {axis} of shape {y.shape} is empty.")
    areas = _areas("cumulative_trapezoid", y, x, dx, axis)
    return cumulative_sum(areas, axis=axis, include_initial=initial is not None)


for _op in (trapezoid, cumulative_trapezoid):

    @_op.samples
    def _():
        yield sample((3, 4), kinds="uifc")
        yield sample((3, 4), dx=0.5, axis=0, kinds="uifc")
        yield sample((3, 4), (4,), kinds="fc")
        yield sample((2, 3, 2), (3,), axis=1, kinds="fc")
        yield sample((3, 4), (3, 4), axis=0, kinds="fc")

    def _errors(op):
        def errors():
            y = blank(2, 3)
            yield Failure(lambda: op(y, blank(2)), ShapeError, r"x is \(2,\), y is \(2, 3\)")
            yield Failure(lambda: op(y, axis=2), ShapeError, r"axis 2 is out of range")
            yield Failure(lambda: op(y, dx="a"), DTypeError, r"dx must be a number, not 'a'")
            if op is cumulative_trapezoid:
                yield Failure(lambda: op(y, initial=1), ValueRangeError, r"initial=1\. Hint: 0")
                yield Failure(lambda: op(blank(0)), ShapeError, r"axis 0 of shape \(0,\) is empty")

        return errors

    _op.errors(_errors(_op))


def _gradient_oracle(x, spacing=1.0, axis=None, edge_order=1):
    several = isinstance(spacing, (tuple, list))
    return np.gradient(x, *(spacing if several else [spacing]), axis=axis, edge_order=edge_order)


@composite(oracle=_gradient_oracle)
def gradient(
    x: Tensor, spacing: Any = 1.0, axis: Axis = None, edge_order: int = 1
) -> Tensor | tuple[Tensor, ...]:
    """Return derivatives of a sampled function along axes, by differences of neighbours.

    Parameters
    ----------
    x : Tensor: values on a grid.
    spacing : number, the distance of neighbours; or Tensor, (n,), where values were taken; or a
        tuple of these, one for each axis.
    axis : None (all axes), int or tuple of int, each of size at least ``edge_order + 1``.
    edge_order : 1 or 2, the order of the differences at both ends.

    Returns
    -------
    Tensor, same shape, a float dtype; a tuple of them, one for each axis, if there are several.

    Raises
    ------
    ShapeError : an axis is too short, or a spacing does not fit. ValueRangeError : another
    ``edge_order``.

    Notes
    -----
    Within, with distances a to the last and b to the next neighbour, second order:
    (a^2 x_(t+1) + (b^2 - a^2) x_t - b^2 x_(t-1)) / (a b (a + b)). Differentiable in ``x`` and in
    the spacing. `helixml.grad` differentiates functions.

    References
    ----------
    Fornberg 1988, "Generation of finite difference formulas on arbitrarily spaced grids".

    Examples
    --------
    >>> import helixml as hx
    >>> hx.gradient(hx.tensor([1.0, 2.0, 4.0, 7.0]))
    tensor([1. , 1.5, 2.5, 3. ])
    """
    if dtypes.as_integer("gradient", "edge_order", edge_order) not in (1, 2):
        raise ValueRangeError(f"gradient: edge_order={edge_order}. Hint: 1 or 2.")
    axes = shapes.normalize_axes("gradient", axis, x.ndim)
    if isinstance(axis, (tuple, list)):  # results in the order asked for
        axes = tuple(shapes.normalize_axis("gradient", a, x.ndim) for a in axis)
    several = isinstance(spacing, (tuple, list))
    steps = list(spacing) if several else [spacing] * len(axes)
    if len(steps) != len(axes):
        raise ShapeError(f"gradient: {len(steps)} spacings for {len(axes)} axes.")
    x = as_float(x)
    results = []
    for a, step in zip(axes, steps, strict=True):
        if x.shape[a] < edge_order + 1:
            raise ShapeError(
                f"gradient: axis {a} of shape {x.shape} is too short: edge_order={edge_order} "
                f"needs {edge_order + 1} values."
            )
        results.append(_slope(x, _distances(x, step, a), a, edge_order))
    return results[0] if len(results) == 1 else tuple(results)


def _distances(x: Tensor, step: Any, axis: int) -> Any:
    """Return the distances of neighbours: a number, or a tensor along ``axis``."""
    if not isinstance(step, (Tensor, np.ndarray)):
        number = dtypes.as_number("gradient", "spacing", step)
        if number == 0:
            raise ValueRangeError("gradient: spacing=0.")
        return number
    step = as_tensor("gradient", step, x)
    if step.dtype not in dtypes.DIFFERENTIABLE:
        step = cast(step, x.dtype)
    if step.ndim == 0:
        return step
    if step.shape != (x.shape[axis],):
        raise ShapeError(
            f"gradient: a spacing has shape {step.shape}, axis {axis} of shape {x.shape} needs "
            f"({x.shape[axis]},) or a number."
        )
    return _along(step[1:] - step[:-1], axis, x.ndim)


def _slope(x: Tensor, h: Any, axis: int, edge_order: int) -> Tensor:
    """Return the derivative along ``axis``, ``h`` the distances of neighbours."""

    def at(start: int | None, stop: int | None) -> Tensor:
        return x[_within(axis, slice(start, stop))]

    if isinstance(h, Tensor) and h.ndim:
        place = h.ndim - (x.ndim - axis)

        def gap(start: int | None, stop: int | None) -> Any:
            return h[_within(place, slice(start, stop))]
    else:

        def gap(start: int | None, stop: int | None) -> Any:
            return h

    steps = (at(1, None) - at(None, -1)) / h
    n = x.shape[axis]
    if edge_order == 1:
        first, last = steps[_within(axis, slice(0, 1))], steps[_within(axis, slice(-1, None))]
    else:
        a, b = gap(0, 1), gap(1, 2)
        s, t = steps[_within(axis, slice(0, 1))], steps[_within(axis, slice(1, 2))]
        first = s + (s - t) * (a / (a + b))
        a, b = gap(n - 2, n - 1), gap(n - 3, n - 2)
        s = steps[_within(axis, slice(n - 2, n - 1))]
        t = steps[_within(axis, slice(n - 3, n - 2))]
        last = s + (s - t) * (a / (a + b))
    parts = [first, last]
    if n > 2:
        a, b = gap(0, n - 2), gap(1, n - 1)
        s = steps[_within(axis, slice(0, n - 2))]
        t = steps[_within(axis, slice(1, n - 1))]
        parts.insert(1, (s * b + t * a) / (a + b))  # the text's formula, in slopes
    return concat(parts, axis=axis)


@gradient.samples
def _():
    line = values(0.0, 0.5, 2.0, 2.25)
    yield sample((5,))
    yield sample((3, 4), spacing=0.5)
    yield sample((3, 4), axis=1, edge_order=2, kinds="uif")
    yield sample((3, 4), spacing=[2.0, line], edge_order=2, kinds="f")
    yield sample((4, 3, 2), spacing=Input("int", (4,), values=(0, 1, 4, 5)), axis=0, kinds="f")
    yield sample((2, 2), axis=(1, 0))
    yield sample((2,), axis=-1)


@gradient.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: gradient(x, axis=2), ShapeError, r"axis 2 is out of range")
    yield Failure(lambda: gradient(x, edge_order=2), ShapeError, r"too short: edge_order=2 needs 3")
    yield Failure(lambda: gradient(x, edge_order=3), ValueRangeError, r"edge_order=3\. Hint")
    yield Failure(lambda: gradient(x, (1.0,)), ShapeError, r"1 spacings for 2 axes")
    yield Failure(lambda: gradient(x, blank(4)), ShapeError, r"\(4,\), axis 0 .* needs \(2,\)")
    yield Failure(lambda: gradient(x, 0), ValueRangeError, r"spacing=0")
    yield Failure(lambda: gradient(x, "a"), DTypeError, r"spacing must be a number")


def _interp_oracle(x, xp, fp, left=None, right=None, period=None):
    return np.asarray(np.interp(x, xp, fp, left, right, period))


@composite(oracle=_interp_oracle)
def interp(
    x: Tensor,
    xp: Tensor,
    fp: Tensor,
    left: float | None = None,
    right: float | None = None,
    period: float | None = None,
) -> Tensor:
    """Interpolate linearly between the points (xp, fp).

    Parameters
    ----------
    x : Tensor, any shape, real: where to read.
    xp : Tensor, (n,), real, n at least 1, ascending (in any order if there is a ``period``).
    fp : Tensor, (n,): the values there.
    left, right : the value before ``xp[0]`` and behind ``xp[-1]``; those at the ends if left out.
    period : after which the function repeats; ``left`` and ``right`` mean nothing then.

    Returns
    -------
    Tensor, the shape of ``x``, a float dtype, or complex as ``fp`` is.

    Raises
    ------
    DTypeError : ``x`` or ``xp`` is complex. ShapeError : ``xp`` and ``fp`` are not two vectors of
    one length, or empty. ValueRangeError : ``xp`` does not ascend, or ``period`` is not positive.

    Notes
    -----
    Differentiable in all three; at a point of ``xp`` the slope is that of the piece behind it, and
    outside it is 0.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.interp(hx.tensor([0.5, 3.0]), hx.tensor([0.0, 1.0]), hx.tensor([1.0, 5.0]))
    tensor([3., 5.])
    """
    if xp.ndim != 1 or fp.shape != xp.shape or xp.shape[0] == 0:
        raise ShapeError(
            f"interp: xp is {xp.shape}, fp is {fp.shape}; they must be vectors of one length, "
            "not empty."
        )
    for name, number in (("left", left), ("right", right), ("period", period)):
        if number is not None:
            dtypes.as_number("interp", name, number)
    common = dtypes.as_float(dtypes.result_type(x.dtype, xp.dtype))
    if dtypes.kind(common) == "c":
        raise DTypeError(f"interp: x and xp must be real, not {x.dtype} and {xp.dtype}.")
    x, xp, fp = x.astype(common), xp.astype(common), as_float(fp)
    if period is not None:
        if not period > 0:
            raise ValueRangeError(f"interp: period={period} is not positive.")
        x, xp = remainder(x, period), remainder(xp, period)
        order = argsort(xp.detach())
        xp, fp = take(xp, order), take(fp, order)
        xp = concat([xp[-1:] - period, xp, xp[:1] + period], axis=0)
        fp = concat([fp[-1:], fp, fp[:1]], axis=0)
        left = right = None
    elif not reduction.all(xp[1:] > xp[:-1]):
        raise ValueRangeError("interp: xp does not ascend. Hint: sort it, and fp with it.")
    n = xp.shape[0]
    if n > 1:
        place = searchsorted(xp.detach(), x.detach(), side="right") - 1
        place = minimum(maximum(place, 0), n - 2)
        x0, x1, f0, f1 = take(xp, place), take(xp, place + 1), take(fp, place), take(fp, place + 1)
        inside = (x >= xp[0]) & (x <= xp[-1])
        # Outside, where infinities may be, a place inside is read and thrown away.
        part = (where(inside, x, x0) - x0) / (x1 - x0)
        result = f0 + part * (f1 - f0)
    else:
        result = broadcast_to(fp, (*x.shape, 1))[..., 0]
    result = where(x < xp[0], fp[0] if left is None else left, result)
    result = where(x > xp[-1], fp[-1] if right is None else right, result)
    return where(x == x, result, x)  # nan stays nan


interp.options["kinds"] = "uif"  # fp may be complex, but not x and xp


@interp.samples
def _():
    line = values(-1.5, 0.25, 0.5, 2.0)
    yield sample(floats(3, 4, low=-1.2, high=1.9), line, floats(4), kinds="fc")
    yield sample(floats(5, low=-3.0, high=3.0), line, floats(4), left=7.0, right=-7.0, kinds="f")
    yield sample(floats(), line, floats(4), kinds="f")
    yield sample(floats(0, 2), line, floats(4), kinds="f")
    yield sample(floats(5), values(0.5), floats(1), kinds="f")
    yield sample(floats(6, low=-9.0, high=9.0), values(0.3, 2.1, 1.4), floats(3), period=2.5,
                 kinds="f", value_only=True)  # fmt: skip
    yield sample(values(np.nan, np.inf, -np.inf, 2.0, -1.5, 0.5), line, floats(4), value_only=True,
                 kinds="f")  # fmt: skip
    yield sample(integers(3, high=3), integers(1), integers(1))


@interp.errors
def _():
    x = blank(2)
    yield Failure(lambda: interp(x, x, x), ValueRangeError, r"xp does not ascend")
    yield Failure(lambda: interp(x, x, blank(3)), ShapeError, r"xp is \(2,\), fp is \(3,\)")
    yield Failure(lambda: interp(x, blank(0), blank(0)), ShapeError, r"not empty")
    yield Failure(lambda: interp(x, x, x, period=0), ValueRangeError, r"period=0 is not positive")
    yield Failure(lambda: interp(x, x, x, left="a"), DTypeError, r"left must be a number")
