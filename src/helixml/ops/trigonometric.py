"""Trigonometry: circular and hyperbolic functions, their inverses, polar coordinates and sinc.

Angles are radians. An inverse gives nan outside its domain; at the edge of the domain its
derivative is infinite, and `chain` keeps that from meeting a zero cotangent. Read `elementwise`
first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import domain, floats, integers, sample, values
from helixml._core.tensor import Tensor
from helixml.ops.elementwise import abs, chain, sqrt, square, where
from helixml.ops.logic import less

Array = Any  # a raw array of the backend


def _function(name, summary, gradient, oracle, low=-2.0, high=2.0):
    """Make an op of one operand whose samples lie in [low, high); its rule follows it."""

    def forward(B, x: Array):
        return getattr(B, name)(x)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""{summary} Gradient: {gradient}.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    op = primitive(forward, dtype="float", direct=True, holomorphic=True, oracle=oracle)

    @op.samples
    def _():
        yield from domain(low, high)()
        yield sample(values(0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan), value_only=True)

    return op


# Circular

sin = _function("sin", "Elementwise sine of radians.", "g cos(x)", np.sin)
cos = _function("cos", "Elementwise cosine of radians.", "-g sin(x)", np.cos)
tan = _function("tan", "Elementwise tangent of radians, y.", "g (1 + y^2)", np.tan, -1.0, 1.0)
asin = _function(
    "asin",
    "Return the angle in [-pi/2, pi/2] whose sine is x.",
    "g / sqrt(1 - x^2)",
    np.arcsin,
    -0.9,
    0.9,
)
acos = _function(
    "acos",
    "Return the angle in [0, pi] whose cosine is x.",
    "-g / sqrt(1 - x^2)",
    np.arccos,
    -0.9,
    0.9,
)
atan = _function(
    "atan", "Return the angle in [-pi/2, pi/2] whose tangent is x.", "g / (1 + x^2)", np.arctan
)

sin.vjp("x")(lambda g, x: g * cos(x))
cos.vjp("x")(lambda g, x: -g * sin(x))
tan.vjp("x")(lambda g, out: g * (1 + square(out)))
asin.vjp("x")(lambda g, x: chain(g, 1 / sqrt((1 - x) * (1 + x))))
acos.vjp("x")(lambda g, x: chain(g, -1 / sqrt((1 - x) * (1 + x))))
atan.vjp("x")(lambda g, x: g / (1 + square(x)))


# Hyperbolic

sinh = _function("sinh", "Elementwise hyperbolic sine.", "g cosh(x)", np.sinh)
cosh = _function("cosh", "Elementwise hyperbolic cosine.", "g sinh(x)", np.cosh)
tanh = _function("tanh", "Elementwise hyperbolic tangent, y.", "g (1 - y^2)", np.tanh)
asinh = _function(
    "asinh", "Return the number whose hyperbolic sine is x.", "g / sqrt(x^2 + 1)", np.arcsinh
)
acosh = _function(
    "acosh",
    "Return the number, not negative, whose hyperbolic cosine is x.",
    "g / sqrt(x^2 - 1)",
    np.arccosh,
    1.1,
    4.0,
)
atanh = _function(
    "atanh",
    "Return the number whose hyperbolic tangent is x.",
    "g / (1 - x^2)",
    np.arctanh,
    -0.9,
    0.9,
)

sinh.vjp("x")(lambda g, x: chain(g, cosh(x)))  # both overflow
cosh.vjp("x")(lambda g, x: chain(g, sinh(x)))
tanh.vjp("x")(lambda g, out: g * (1 - out * out))


@asinh.vjp("x")
def _(g, x):
    if dtypes.kind(x.dtype) == "c":
        return chain(g, 1 / sqrt(square(x) + 1))
    return g / hypot(x, 1)  # x^2 + 1 overflows before its root does


acosh.vjp("x")(lambda g, x: chain(g, 1 / (sqrt(x - 1) * sqrt(x + 1))))
atanh.vjp("x")(lambda g, x: chain(g, 1 / ((1 - x) * (1 + x))))


# Polar coordinates


@primitive(dtype="float", direct=True, real_only="abs(x + 1j * y) of real x and y", oracle=np.hypot)
def hypot(B, x: Array, y: Array):
    """Return the distance of (x, y) from the origin, r = sqrt(x^2 + y^2), without overflow.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Notes
    -----
    Gradient: g x / r and g y / r; at the origin, where there is none, nan unless g is 0.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.hypot(hx.tensor([3.0, 5.0]), hx.tensor([4.0, 12.0]))
    tensor([ 5., 13.])
    """
    return B.hypot(x, y)


hypot.vjp("x")(lambda g, x, out: chain(g, x / out))
hypot.vjp("y")(lambda g, y, out: chain(g, y / out))


@primitive(dtype="float", direct=True, real_only="take real(x) and imag(x)", oracle=np.arctan2)
def atan2(B, y: Array, x: Array):
    """Return the angle of the point (x, y), in [-pi, pi]: the arc tangent of y / x.

    Parameters
    ----------
    y, x : Tensor or scalar, shapes that broadcast; the ordinate comes first, as everywhere.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype, radians.

    Notes
    -----
    Gradient, with r^2 = x^2 + y^2: g x / r^2 for y and -g y / r^2 for x; at the origin, where there
    is none, nan unless g is 0.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.atan2(hx.tensor([0.0, 1.0]), hx.tensor([1.0, 0.0]))
    tensor([0.       , 1.5707964])
    """
    return B.atan2(y, x)


@atan2.vjp("y")
def _(g, y, x):
    r = hypot(x, y)
    return chain(g, x / r / r)  # r^2 overflows


@atan2.vjp("x")
def _(g, y, x):
    r = hypot(x, y)
    return chain(-g, y / r / r)


@hypot.samples
def _():
    yield sample(floats(3, 4, low=0.5), floats(3, 4, low=-2.0, high=-0.5))
    yield sample(floats(2, 1, 4, low=0.5), floats(3, 1, low=0.5))
    yield sample(floats(0, 3, low=0.5), floats(3, low=0.5))
    yield sample(floats(3, low=0.5), 1.5)
    yield sample(2, floats(3, low=0.5))
    yield sample(integers(3, 4, low=1, high=5), integers(4, low=1, high=5))
    yield sample(values(0.0, np.inf, np.nan, -1.0), values(0.0, 1.0, np.inf, -0.0), value_only=True)


atan2.samples(hypot.make_samples)


# Degrees


def _angles(name, summary, factor, oracle):
    def function(x: Tensor) -> Tensor:
        return x * factor

    function.__name__ = name
    function.__module__ = __name__
    function.__doc__ = f"""{summary}

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    op = composite(function, oracle=lambda x: x * factor if x.dtype.kind == "c" else oracle(x))
    op.samples(domain(-200.0, 200.0))
    return op


deg2rad = _angles("deg2rad", "Convert degrees to radians, x pi / 180.", np.pi / 180, np.deg2rad)
rad2deg = _angles("rad2deg", "Convert radians to degrees, 180 x / pi.", 180 / np.pi, np.rad2deg)


# The normalised sine cardinal

_NEAR = 1.0  # |pi x| up to which the slope is a series: farther away nothing cancels
# Of z = pi x: the slope is -pi z / 3 (1 - z^2 / 10 + ...), and the k-th term of the series is
# (-1)^k 2k / (2k + 1)! z^(2k-1). Ten of them leave 1e-18 at z = 1.
_SERIES = [(-1) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(10, 0, -1)]


@primitive(dtype="float", holomorphic=True, oracle=np.sinc)
def sinc(B, x: Array):
    """Return sin(pi x) / (pi x), and 1 at 0, as `numpy.sinc` does.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float or complex dtype.

    Notes
    -----
    Gradient: g (cos(pi x) - y) / x, near 0 by its series.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.sinc(hx.tensor([0.0, 0.5]))
    tensor([1.        , 0.63661975])
    """
    dtype = B.dtype_of(x)
    zero, one, pi = (B.full((), value, dtype=dtype) for value in (0, 1, np.pi))
    z = B.multiply(pi, x)
    at_zero = B.equal(z, zero)
    return B.where(at_zero, one, B.divide(B.sin(z), B.where(at_zero, one, z)))


@sinc.vjp("x")
def _(g, x):
    near = less(abs(x), _NEAR / np.pi)
    z = where(near, x, 0) * np.pi  # apart, so that nothing overflows where it is not chosen
    series, power = 0.0, square(z)
    for coefficient in _SERIES:
        series = series * power + coefficient
    away = where(near, 1, x)
    slope = (cos(np.pi * away) - sinc(away)) / away
    return chain(g, where(near, np.pi * z * series, slope))


sinc.flops(lambda out: 3 * out.size)


@sinc.samples
def _():
    yield sample((3, 4))
    yield sample((), kinds="f")  # at a whole number only the rounding of pi is left
    yield sample((0, 3))
    yield sample(floats(8, low=-0.3, high=0.3), kinds="f")
    yield sample(values(0.0, 1e-4, -1e-9, 1e-30), kinds="f")
    yield sample(values(0.0, -0.0, 0.5, np.nan, 20.25), value_only=True)
