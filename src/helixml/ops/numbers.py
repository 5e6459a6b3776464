"""What numbers are made of: sign and magnitude, whole part, real and imaginary part, neighbours.

Elementwise; read `elementwise` first. Real numbers count as complex ones whose imaginary part is 0.
A gradient of complex numbers is dL/dRe + i dL/dIm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core import cost
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import domain, floats, pairs, sample, values
from helixml._core.tensor import Tensor
from helixml.ops.elementwise import sign, where
from helixml.ops.logic import NO_ORDER

Array = Any  # a raw array of the backend

_everywhere = domain(-2.0, 2.0)


def _is_complex(B, x):
    return dtypes.kind(B.dtype_of(x)) == "c"


# Sign and magnitude


def _positive_oracle(x):
    return x.copy()


@primitive(view=True, oracle=_positive_oracle)
def positive(B, x: Array):
    """Return the same values, +x. Gradient: g.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    return x


positive.vjp("x")(lambda g: g)
positive.samples(_everywhere)


def _reciprocal_oracle(x):
    return np.divide(1, x)


@composite(oracle=_reciprocal_oracle)
def reciprocal(x: Tensor):
    """Return 1 / x elementwise. Gradient: -g / x^2.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    return 1 / x


@reciprocal.samples
def _():
    yield from domain(0.5, 2.0)()
    yield sample(values(0.0, -0.0, np.inf, np.nan), value_only=True)


@primitive(dtype="float", direct=True, real_only=NO_ORDER, oracle=np.signbit)
def signbit(B, x: Array):
    """Say elementwise whether the sign of x is minus, that of -0 included.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, bool.
    """
    return B.signbit(x)


signbit.samples(lambda: (sample(values(0.0, -0.0, 1.0, -np.inf)), *_everywhere()))


@primitive(dtype="float", direct=True, real_only=NO_ORDER, oracle=np.copysign)
def copysign(B, x: Array, y: Array):
    """Return the magnitude of x with the sign of y.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Notes
    -----
    Gradient: g, negated where the sign of x changed and 0 where x is 0; 0 for y.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.copysign(hx.tensor([1.0, -2.0]), hx.tensor([-0.0, 3.0]))
    tensor([-1.,  2.])
    """
    return B.copysign(x, y)


@copysign.vjp("x")
def _(g, x, out):
    return g * (sign(x) * where(signbit(out), -1, 1))


copysign.vjp("y")(lambda g: g * 0)


@copysign.samples
def _():
    yield from pairs()
    yield sample(values(1.0, 0.0, np.inf, -2.0), values(-0.0, -1.0, -np.inf, 0.0), value_only=True)


def _nextafter_oracle(x, y):
    return np.nextafter(x, y)


@primitive(dtype="float", direct=True, real_only=NO_ORDER, oracle=_nextafter_oracle)
def nextafter(B, x: Array, y: Array):
    """Return the floating-point number that comes after x on the way to y.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype; y where the two are equal.

    Notes
    -----
    Gradient: g for x and 0 for y: the step is a rounding.
    """
    return B.nextafter(x, y)


nextafter.vjp("x")(lambda g: g)
nextafter.vjp("y")(lambda g: g * 0)


@nextafter.samples
def _():
    yield sample(floats(3, 4), floats(3, 4))
    yield sample(floats(2, 1, 4), floats(3, 1))
    yield sample(floats(0, 3), floats(3))
    yield sample(floats(3), 5)
    yield sample(values(1.0, np.inf, np.nan), values(1.0, np.inf, 0.0), value_only=True)


# Parts of complex numbers


@primitive(view=True, oracle=np.real)
def real(B, x: Array):
    """Return the real part. Gradient: g.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape: of complex64 float32, of complex128 float64; real numbers as they are.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.real(hx.tensor([1 + 2j]))
    tensor([1.])
    """
    return B.real(x) if _is_complex(B, x) else x


real.vjp("x")(lambda g: g)  # the engine makes it complex again
real.samples(_everywhere)


@primitive(oracle=np.imag)
def imag(B, x: Array):
    """Return the imaginary part. Gradient: i g.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape: of complex64 float32, of complex128 float64; of real numbers zeros.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.imag(hx.tensor([1 + 2j]))
    tensor([2.])
    """
    if not _is_complex(B, x):
        return B.zeros(tuple(x.shape), dtype=B.dtype_of(x))
    return B.copy(B.imag(x))


imag.vjp("x")(lambda g, x_dtype: g * (1j if dtypes.kind(x_dtype) == "c" else 0))
imag.flops(cost.free)
imag.samples(_everywhere)


def _conj_oracle(x):
    return np.conjugate(x) if x.dtype.kind == "c" else x.copy()


@primitive(view=True, oracle=_conj_oracle, numpy="conjugate")
def conj(B, x: Array):
    """Return the complex conjugate. Gradient: the conjugate of g.

    Parameters
    ----------
    x : Tensor, any shape; real numbers stay as they are.

    Returns
    -------
    Tensor, same shape and dtype.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.conj(hx.tensor([1 + 2j]))
    tensor([1.-2.j], dtype=complex64)
    """
    return B.conj(x) if _is_complex(B, x) else x


conj.vjp("x")(lambda g: conj(g))
conj.samples(_everywhere)
