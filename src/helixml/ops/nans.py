"""Reductions that leave nan out, and `nan_to_num`, which replaces it.

Each puts in place of nan what changes nothing, so that no gradient goes there: it is exactly 0.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, integers, sample, values
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.elementwise import divide, sqrt, where
from helixml.ops.logic import NO_ORDER, equal, isnan, logical_not
from helixml.ops.movement import as_float, cast
from helixml.ops.numbers import imag, positive, real
from helixml.shapes import Axis


@composite(oracle=np.nansum)
def nansum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Add up over axes the values that are not nan.

    Parameters
    ----------
    x : Tensor, any shape.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.

    Returns
    -------
    Tensor, as that of `sum`; 0 where there is no value.

    Notes
    -----
    Gradient: g, and 0 at nan.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.nansum(hx.tensor([1.0, hx.nan, 2.0]))
    tensor(3.)
    """
    if dtypes.is_differentiable(x.dtype):
        x = where(isnan(x), 0, x)
    return reduction.sum(x, axis=axis, keepdims=keepdims)


nansum.options["exact_dtype"] = False


@composite(oracle=np.nanprod)
def nanprod(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Multiply over axes the values that are not nan.

    Parameters
    ----------
    x : Tensor, any shape.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.

    Returns
    -------
    Tensor, as that of `prod`; 1 where there is no value.

    Notes
    -----
    Gradient: that of `prod`, and 0 at nan.
    """
    if dtypes.is_differentiable(x.dtype):
        x = where(isnan(x), 1, x)
    return reduction.prod(x, axis=axis, keepdims=keepdims)


nanprod.options["exact_dtype"] = False


def _counted(x: Tensor, axis: Axis) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x with 0 for nan, 1 where there is a value, how many there are over the axes)."""
    x = as_float(x)
    present = logical_not(isnan(x))
    real = dtypes.real_of(x.dtype)
    ones = cast(present, dtypes.accumulation(real))
    count = reduction.sum(ones, axis=axis, keepdims=True)
    return where(present, x, 0), present, cast(count, real)


def _squeezed(x: Tensor, shape: tuple[int, ...], axis: Axis, keepdims: bool, op: str) -> Tensor:
    """Return ``x``, reduced with its axes kept, as ``keepdims`` wants it."""
    axes = shapes.normalize_axes(op, axis, len(shape))
    return x if keepdims else x.reshape(shapes.reduced(shape, axes, keepdims=False))


def _quiet(function):
    """Return an oracle that says nothing of values that are all nan."""

    def oracle(*args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return function(*args, **kwargs)

    return oracle


def _wide(x):
    return x.astype(np.result_type(x, np.float64))


@_quiet
def _nanmean_oracle(x, axis=None, keepdims=False):
    return np.nanmean(_wide(x), axis=axis, keepdims=keepdims)


@composite(oracle=_nanmean_oracle)
def nanmean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the mean over axes of the values that are not nan.

    Parameters
    ----------
    x : Tensor, any shape; integers become the default float.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.

    Returns
    -------
    Tensor, a float dtype; nan where there is no value.

    Notes
    -----
    Gradient: g divided by the number of values, and 0 at nan.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.nanmean(hx.tensor([1.0, hx.nan, 2.0]))
    tensor(1.5)
    """
    filled, _, count = _counted(x, axis)
    result = divide(reduction.sum(filled, axis=axis, keepdims=True), count)
    return _squeezed(result, x.shape, axis, keepdims, "nanmean")


@_quiet
def _nanvar_oracle(x, axis=None, keepdims=False, correction=0.0):
    return np.nanvar(_wide(x), axis=axis, keepdims=keepdims, ddof=correction)


@composite(oracle=_nanvar_oracle)
def nanvar(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: float = 0.0) -> Tensor:
    """Return the variance over axes of the values that are not nan.

    Parameters
    ----------
    x : Tensor, any shape; integers become the default float.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.
    correction : 0 for the population, 1 for a sample (Bessel).

    Returns
    -------
    Tensor, a float dtype; nan where there are no more than ``correction`` values.

    Raises
    ------
    ValueRangeError : ``correction`` is negative.

    Notes
    -----
    Gradient: 2 g (x - mean) / (n - correction), and 0 at nan.
    """
    correction = dtypes.as_number("nanvar", "correction", correction)
    if not correction >= 0:
        raise ValueRangeError(f"nanvar: correction={correction} is negative.")
    filled, present, count = _counted(x, axis)
    centre = divide(
        reduction.sum(filled, axis=axis, keepdims=True), where(equal(count, 0), 1, count)
    )
    apart = where(present, filled - centre, 0)
    total = reduction.sum(reduction.squared_size(apart), axis=axis, keepdims=True)
    free = count - correction
    result = where(free > 0, divide(total, where(free > 0, free, 1)), float("nan"))
    return _squeezed(result, x.shape, axis, keepdims, "nanvar")


@_quiet
def _nanstd_oracle(x, axis=None, keepdims=False, correction=0.0):
    return np.nanstd(_wide(x), axis=axis, keepdims=keepdims, ddof=correction)


@composite(oracle=_nanstd_oracle)
def nanstd(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: float = 0.0) -> Tensor:
    """Return the standard deviation over axes of the values that are not nan: see `nanvar`.

    Parameters
    ----------
    x : Tensor, any shape; integers become the default float.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.
    correction : 0 for the population, 1 for a sample (Bessel).

    Returns
    -------
    Tensor, a float dtype; nan where there are no more than ``correction`` values.
    """
    return sqrt(nanvar(x, axis=axis, keepdims=keepdims, correction=correction))


def _nanextreme(name, best, summary, oracle):
    def forward(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
        function = reduction.max if name == "nanmax" else reduction.min
        if not dtypes.is_differentiable(x.dtype):
            return function(x, axis=axis, keepdims=keepdims)
        missing = isnan(x)
        result = function(where(missing, best, x), axis=axis, keepdims=keepdims)
        none = reduction.all(missing, axis=axis, keepdims=keepdims)
        return where(none, float("nan"), result)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""{summary}

    Parameters
    ----------
    x : Tensor, any shape with something to compare, real.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.

    Returns
    -------
    Tensor of the dtype of ``x``; nan where all values are nan.

    Raises
    ------
    ShapeError : an axis is empty, out of range or named twice.

    Notes
    -----
    Gradient: g where the value was found, shared equally between ties.
    """
    return composite(forward, real_only=NO_ORDER, oracle=_quiet(oracle))


nanmax = _nanextreme(
    "nanmax", -np.inf, "Return the largest value over axes that is not nan.", np.nanmax
)
nanmin = _nanextreme(
    "nanmin", np.inf, "Return the smallest value over axes that is not nan.", np.nanmin
)

for _op in (nansum, nanprod, nanmean, nanmax, nanmin, nanvar, nanstd):

    @_op.samples
    def _():
        yield sample(floats(3, 4, low=-1.0, distinct=True), kinds="uifc")
        yield sample(
            floats(2, 3, 4, low=-1.0, distinct=True), axis=(0, -1), keepdims=True, kinds="uifc"
        )
        yield sample(floats(3, 4, low=-1.0, distinct=True), axis=0, kinds="uifc")
        yield sample(integers(3, 4, high=99), axis=1)
        yield sample(values(1.0, np.nan, 2.0, 5.5), axis=0, value_only=True)
        yield sample(values(np.nan, np.nan), axis=0, value_only=True)

    def _errors(op):
        return lambda: (
            Failure(lambda: op(blank(2), axis=1), ShapeError, r"axis 1 is out of range"),
        )

    _op.errors(_errors(_op))


# Replacing


def _nan_to_num_oracle(x, nan=0.0, posinf=None, neginf=None):
    return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


@composite(oracle=_nan_to_num_oracle)
def nan_to_num(
    x: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Replace nan and infinities by numbers.

    Parameters
    ----------
    x : Tensor, any shape; both parts of complex numbers.
    nan : what stands for nan.
    posinf, neginf : what stands for inf and -inf; the largest and the least number of the dtype of
        ``x`` if left out.

    Returns
    -------
    Tensor, same shape and dtype.

    Raises
    ------
    DTypeError : one of these is no number. ValueRangeError : it is not finite, and ``x`` is
    complex.

    Notes
    -----
    Gradient: g, and 0 where something was replaced.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.nan_to_num(hx.tensor([1.0, hx.nan, hx.inf]), posinf=9.0)
    tensor([1., 0., 9.])
    """
    from helixml.ops.inspection import finfo

    numbers: dict[str, Any] = {"nan": nan, "posinf": posinf, "neginf": neginf}
    for name, number in numbers.items():
        if number is not None or name == "nan":
            dtypes.as_number("nan_to_num", name, number)
    if not dtypes.is_differentiable(x.dtype):
        return positive(x)
    if dtypes.kind(x.dtype) == "c":
        if not all(number is None or math.isfinite(number) for number in numbers.values()):
            raise ValueRangeError(f"nan_to_num: {numbers} must be finite for complex numbers.")
        return nan_to_num(real(x), **numbers) + 1j * nan_to_num(imag(x), **numbers)
    limits = finfo(x.dtype)
    high = float(limits.max) if posinf is None else float(posinf)
    low = float(limits.min) if neginf is None else float(neginf)
    x = where(isnan(x), float(nan), x)
    x = where(equal(x, float("inf")), high, x)
    return where(equal(x, float("-inf")), low, x)


@nan_to_num.samples
def _():
    yield sample((3, 4))
    yield sample(values(1.0, np.nan, np.inf, -np.inf), nan=2.0, posinf=3.0, neginf=-4.0,
                 value_only=True)  # fmt: skip
    yield sample(floats(0, 2), nan=1.0)


nan_to_num.errors(
    lambda: (
        Failure(lambda: nan_to_num(blank(2), "a"), DTypeError, r"nan must be a number, not 'a'"),
        Failure(
            lambda: nan_to_num(np.array([1j]), posinf=np.inf), ValueRangeError, r"'posinf': inf"
        ),
    )
)
