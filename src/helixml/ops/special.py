"""Special functions: those that need more than one line of arithmetic.

Read `elementwise` first. A forward rule here is itself a formula in the backend's functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.op import primitive
from helixml._core.samples import Failure, floats, sample, values
from helixml.errors import DTypeError
from helixml.ops.elementwise import exp, square

Array = Any  # a raw array of the backend

# Cody 1969: coefficients of P/Q by falling powers, of x^2 near 0 and of |x| elsewhere.
_NEAR_TOP = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_NEAR_BOTTOM = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
_FAR_TOP = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_FAR_BOTTOM = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_BORDER = 0.46875  # between the two
_FLAT = 6.0  # erf(6) rounds to 1 in float64; Cody's second range ends at 4, where 1e-8 is enough

_erf_oracle = np.vectorize(math.erf, otypes=[np.float64])


@primitive(dtype="float", oracle=_erf_oracle)
def erf(B, x: Array):
    """Return the error function, erf(x) = 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype; 16-bit floats are computed in float32.

    Notes
    -----
    Gradient: g 2 / sqrt(pi) e^(-x^2).

    References
    ----------
    Cody 1969, "Rational Chebyshev approximations for the error function", Mathematics of
    Computation 23: the first two of three ranges, the second up to 6, since erf needs 1 - erf to
    1e-8 there and not to all digits.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.erf(hx.tensor([-10.0, 0.0, 10.0]))
    tensor([-1.,  0.,  1.])
    """
    dtype = B.dtype_of(x)
    wide = dtypes.float64 if dtype == dtypes.float64 else dtypes.float32
    x = B.astype(x, wide)

    def number(value):
        return B.full((), value, dtype=wide)

    def polynomial(z, coefficients):
        total = number(coefficients[0])
        for coefficient in coefficients[1:]:
            total = B.add(B.multiply(total, z), number(coefficient))
        return total

    size = B.abs(x)
    inner = B.minimum(size, number(_BORDER))
    z = B.multiply(inner, inner)
    near = B.divide(polynomial(z, _NEAR_TOP), polynomial(z, _NEAR_BOTTOM))
    outer = B.minimum(size, number(_FLAT))
    rest = B.divide(polynomial(outer, _FAR_TOP), polynomial(outer, _FAR_BOTTOM))
    far = B.subtract(number(1), B.multiply(B.exp(B.negative(B.multiply(outer, outer))), rest))
    far = B.where(B.less(x, number(0)), B.negative(far), far)
    is_near = B.less(size, number(_BORDER))
    return B.astype(B.where(is_near, B.multiply(x, near), far), dtype)


@erf.prepare
def _(x):
    if dtypes.kind(x.dtype) == "c":
        raise DTypeError(f"erf: x must be real, not {x.dtype}.")
    return {}


@erf.errors
def _():
    from helixml.ops.creation import zeros

    yield Failure(lambda: erf(zeros((2,), "complex64")), DTypeError, r"x must be real")


erf.vjp("x")(lambda g, x: g * (2 / math.sqrt(math.pi) * exp(-square(x))))


@erf.samples
def _():
    yield sample((3, 4))
    yield sample(floats(64, low=-7.0, high=7.0))
    yield sample(())
    yield sample((0, 3))
    yield sample(
        values(0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 0.46875, -4.0, 1e30), value_only=True
    )
