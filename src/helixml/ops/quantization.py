"""Affine quantisation: x is about scale (q - zero_point), with q a small integer.

Scale and zero point are scalars, or vectors with one entry for each channel along an axis. 16-bit
floats are computed in float32. How the two numbers are found: `helixml.quantization`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core import cost
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, Input, integers, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.creation import asarray
from helixml.ops.elementwise import maximum, minimum, round, where
from helixml.ops.logic import isfinite, isnan, logical_and, logical_not, logical_or
from helixml.ops.movement import astype, reshape

Array = Any  # a raw array of the backend
# Wider ones do not fit the 24 bits of float32, in which quotients are rounded.
STORED = (dtypes.int8, dtypes.uint8, dtypes.int16, dtypes.uint16)


@primitive(dtype="float", oracle=np.rint)
def round_through(B, x: Array):
    """Round to the nearest integer, ties to even, with the gradient of the identity."""
    return B.round(x)


round_through.flops(cost.each)
round_through.vjp("x")(lambda g: g)  # Bengio et al. 2013, section 4: not the derivative, which is 0


@round_through.samples
def _():
    yield sample((3, 4), value_only=True)
    yield sample((), value_only=True)


def range_of(op, dtype):
    """Return (dtype, least, most) of a dtype that values are quantised to."""
    found = dtypes.parse(dtype)
    if found not in STORED:
        names = ", ".join([d.name for d in STORED])
        raise DTypeError(f"{op}: dtype must be one of {names}, not {found}.")
    info = np.iinfo(found)
    return found, int(info.min), int(info.max)


def _spread(op, name, value, x, axis):
    """Return a scale or zero point in a shape that broadcasts to that of ``x``."""
    if axis is None:
        if value.ndim:
            raise ShapeError(
                f"{op}: {name} is {value.shape}, it must be a scalar. "
                "Hint: axis= says where the channels are."
            )
        return value
    place = shapes.normalize_axis(op, axis, x.ndim)
    if value.ndim and value.shape != (x.shape[place],):
        raise ShapeError(
            f"{op}: {name} is {value.shape}, x is {x.shape}; along axis {axis} it must have "
            f"{x.shape[place]} entries."
        )
    return reshape(value, (-1,) + (1,) * (x.ndim - 1 - place)) if value.ndim else value


def _check(op, scale, zero_point, least, most):
    """Raise unless the numbers make sense; return the zero point as a tensor."""
    if not isinstance(zero_point, Tensor):
        zero_point = asarray(zero_point, device=scale.device)
    if not dtypes.is_floating(scale.dtype):
        raise DTypeError(f"{op}: scale must be a float, not {scale.dtype}.")
    if dtypes.kind(zero_point.dtype) not in "ui":
        raise DTypeError(f"{op}: zero_point must be an integer, not {zero_point.dtype}.")
    good = logical_and(isfinite(scale), scale > 0)
    if not reduction.all(good):
        first = scale.detach()[logical_not(good)][0] if scale.ndim else scale
        raise ValueRangeError(f"{op}: scale must be above 0 and finite, found {first.item()}.")
    if least is not None and reduction.any(logical_or(zero_point < least, zero_point > most)):
        raise ValueRangeError(f"{op}: zero_point must lie in [{least}, {most}], as the values do.")
    return zero_point


def _prepared(op, x, scale, zero_point, axis, least, most):
    """Return the operands in the dtype to compute in, and that of the result."""
    if not dtypes.is_floating(x.dtype):
        raise DTypeError(f"{op}: x must be a float, not {x.dtype}. Hint: astype('float32').")
    zero_point = _check(op, scale, zero_point, least, most)
    dtype = dtypes.promote(x.dtype, scale.dtype)
    wide = dtypes.accumulation(dtype)
    scale = _spread(op, "scale", astype(scale, wide), x, axis)
    zero_point = _spread(op, "zero_point", astype(zero_point, wide), x, axis)
    return astype(x, wide), scale, zero_point, dtype


def _shaped(value, x, axis):
    value = np.asarray(value)
    if axis is None or value.ndim == 0:
        return value
    return value.reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])


def _quantize_oracle(x, scale, zero_point=0, axis=None, dtype="int8"):
    x, scale = np.asarray(x, np.float64), _shaped(np.asarray(scale, np.float64), x, axis)
    info = np.iinfo(dtype)
    q = np.rint(x / scale) + _shaped(zero_point, x, axis)
    return np.clip(q, info.min, info.max).astype(dtype)


@composite(oracle=_quantize_oracle)
def quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Any = 0,
    *,
    axis: int | None = None,
    dtype: Any = "int8",
):
    """Return round(x / scale) + zero_point, bounded to what the dtype holds.

    Parameters
    ----------
    x : Tensor, any shape, float.
    scale : Tensor, () or (c,), float, above 0.
    zero_point : int, or Tensor, () or (c,), integer: what stands for 0.
    axis : int, where the c channels of x are; None for one scale for all.
    dtype : int8, uint8, int16 or uint16.

    Returns
    -------
    Tensor, shape of ``x``, of that dtype. It has no gradient; see `fake_quantize`.

    Raises
    ------
    ShapeError, DTypeError : operands are none of these. ValueRangeError : a scale is not above 0, a
        zero point outside of the dtype's range, or x has a nan.

    Notes
    -----
    Ties round to even. Within the range the error of `dequantize` is at most scale / 2.

    References
    ----------
    Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", eq. 1.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.quantize(hx.tensor([-1.0, 0.2, 100.0]), 0.5)
    tensor([ -2,   0, 127], dtype=int8)
    """
    found, least, most = range_of("quantize", dtype)
    x, scale, zero_point, _ = _prepared("quantize", x, scale, zero_point, axis, least, most)
    if reduction.any(isnan(x)):
        raise ValueRangeError("quantize: x has a nan, for which no integer stands.")
    q = round(x / scale) + zero_point
    return astype(minimum(maximum(q, least), most), found)


def _dequantize_oracle(q, scale, zero_point=0, axis=None):
    wide = np.asarray(q, np.float64) - _shaped(zero_point, q, axis)
    return wide * _shaped(scale, q, axis)


@composite(oracle=_dequantize_oracle)
def dequantize(q: Tensor, scale: Tensor, zero_point: Any = 0, *, axis: int | None = None):
    """Return scale (q - zero_point).

    Parameters
    ----------
    q : Tensor, any shape, integer.
    scale, zero_point, axis : as for `quantize`.

    Returns
    -------
    Tensor, shape of ``q``, dtype of ``scale``.

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `quantize`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.dequantize(hx.tensor([-2, 0, 127], dtype="int8"), 0.5)
    tensor([-1. ,  0. , 63.5])
    """
    if dtypes.kind(q.dtype) not in "ui":
        raise DTypeError(f"dequantize: q must be an integer, not {q.dtype}.")
    zero_point = _check("dequantize", scale, zero_point, None, None)
    dtype = scale.dtype
    wide = dtypes.accumulation(dtype)
    factor = _spread("dequantize", "scale", astype(scale, wide), q, axis)
    zero_point = _spread("dequantize", "zero_point", astype(zero_point, wide), q, axis)
    return astype((astype(q, wide) - zero_point) * factor, dtype)


def _fake_oracle(x, scale, zero_point=0, axis=None, dtype="int8"):
    q = _quantize_oracle(x, scale, zero_point, axis, dtype)
    return _dequantize_oracle(q, scale, zero_point, axis)


@composite(oracle=_fake_oracle)
def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Any = 0,
    *,
    axis: int | None = None,
    dtype: Any = "int8",
):
    """Return dequantize(quantize(x)), with a gradient that passes straight through the rounding.

    Parameters
    ----------
    x, scale, zero_point, axis, dtype : as for `quantize`.

    Returns
    -------
    Tensor, shape of ``x``, the dtype that x and scale promote to. A nan stays.

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `quantize`.

    Notes
    -----
    Gradient of x: g within the range, 0 where the value was bounded. Gradient of scale: g times
    (round(x / scale) - x / scale) within the range, and times what the bound stands for outside
    (Esser et al. 2020, "Learned step size quantization", eq. 3).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.value_and_grad(lambda x: hx.fake_quantize(x, 0.5).sum())(hx.tensor([0.6, 80.0]))
    (tensor(64.), tensor([1., 0.]))
    """
    _, least, most = range_of("fake_quantize", dtype)
    x, scale, zero_point, dtype = _prepared(
        "fake_quantize", x, scale, zero_point, axis, least, most
    )
    q = round_through(x / scale) + zero_point
    q = where(q < least, least, where(q > most, most, q))
    return astype((q - zero_point) * scale, dtype)


# No quotient of these lies near a tie, in any dtype.
_X = Input("float", (8,), values=(-40.0, -1.1, -0.6, 0.0, 0.3, 0.9, 2.2, 40.0))
_ROWS = Input("float", (2, 3), values=(-1.1, 0.3, 40.0, 0.9, -0.6, 0.0))
_SCALE = Input("float", (), values=(0.25,))
_SCALES = Input("float", (3,), values=(0.25, 0.5, 0.125))
_ZEROS = Input("int", (3,), values=(3, 0, 7))


def _samples():
    yield sample(_X, _SCALE, value_only=True)
    yield sample(_X, _SCALE, 5, value_only=True, dtype="uint8")
    yield sample(_ROWS, _SCALES, _ZEROS, axis=1, value_only=True)
    yield sample(_ROWS, _SCALES, axis=-1, value_only=True, dtype="int16")
    yield sample((0, 3), _SCALES, axis=1, value_only=True)
    yield sample(_X, 0.25, value_only=True)


@dequantize.samples
def _():
    yield sample(integers(3, 4, high=9), _SCALE)
    yield sample(integers(3, 4, high=9), _SCALE, 3)
    yield sample(integers(2, 3, high=9), _SCALES, _ZEROS, axis=1)
    yield sample(integers(0, 3), _SCALES, axis=1)


def _errors(op):
    x = np.zeros((2, 3)) if op is not dequantize else np.zeros((2, 3), np.int8)
    two, one = np.ones(2), np.ones(())
    yield Failure(lambda: op(x, two), ShapeError, r"scale is \(2,\), it must be a scalar")
    yield Failure(lambda: op(x, two, axis=1), ShapeError, r"along axis 1 it must have 3 entries")
    yield Failure(lambda: op(x, one, two.astype(int)), ShapeError, r"zero_point is \(2,\)")
    yield Failure(lambda: op(x, two * 0, axis=0), ValueRangeError, r"above 0 and finite, found 0")
    yield Failure(lambda: op(x, one, one), DTypeError, r"zero_point must be an integer, not float")
    yield Failure(lambda: op(x, one.astype(int)), DTypeError, r"scale must be a float, not int64")
    if op is dequantize:
        yield Failure(lambda: op(two, one), DTypeError, r"q must be an integer, not float64")
        return
    yield Failure(lambda: op(x.astype(int), one), DTypeError, r"x must be a float, not int64")
    yield Failure(lambda: op(x, one, 200), ValueRangeError, r"must lie in \[-128, 127\]")
    yield Failure(lambda: op(x, one, dtype="int64"), DTypeError, r"int8, uint8.*, not int64")
    if op is quantize:
        yield Failure(lambda: op(x * np.nan, one), ValueRangeError, r"x has a nan")


for _op in (quantize, dequantize, fake_quantize):
    _op.options["kinds"] = "f"
    _op.errors(lambda op=_op: _errors(op))
    if _op is not dequantize:
        _op.samples(_samples)
quantize.options["exact_dtype"] = False
