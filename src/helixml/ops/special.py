"""Special functions around the error function, and what ops that SciPy computes have in common.

`PARTS`, `scipy_oracle` and `of_one` serve the files of other special functions: `gamma`, `bessel`,
`entropy`. A backend computes all of them through one function, ``special``, in host memory. Public
under `helixml.special`, in SciPy's spelling. Read `elementwise` first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import domain, floats, sample, values
from helixml._core.tensor import Tensor
from helixml.ops.elementwise import chain, exp, square

Array = Any  # a raw array of the backend

PARTS = "take real(x), imag(x) or abs(x)"  # instead of complex numbers


def scipy_oracle(name):
    """Return SciPy's function of that name, which the samples' float64 then compare with."""

    def oracle(*operands):
        from scipy import special

        return getattr(special, name)(*operands)

    return oracle


def of_one(name, documentation, oracle=None):
    """Make the primitive of one operand that SciPy knows by that name."""

    def forward(B, x: Array):
        return B.special(name, x)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = documentation
    op = primitive(forward, dtype="float", real_only=PARTS, oracle=oracle or scipy_oracle(name))
    op.flops(lambda out: out.size)
    return op


# The error function

_erf_oracle = np.vectorize(math.erf, otypes=[np.float64])
_erfc_oracle = np.vectorize(math.erfc, otypes=[np.float64])
_SLOPE = 2 / math.sqrt(math.pi)  # of erf at 0


@primitive(dtype="float", direct=True, real_only=PARTS, oracle=_erf_oracle)
def erf(B, x: Array):
    """Return the error function, erf(x) = 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.

    Parameters
    ----------
    x : Tensor, any shape, real.

    Returns
    -------
    Tensor, same shape, a float dtype; 16-bit floats are computed in float32.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g 2 / sqrt(pi) e^(-x^2).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.erf(hx.tensor([-10.0, 0.0, 10.0]))
    tensor([-1.,  0.,  1.])
    """
    return B.erf(x)


erf.vjp("x")(lambda g, x: g * (_SLOPE * exp(-square(x))))


@erf.samples
def _():
    yield sample((3, 4))
    yield sample(floats(64, low=-7.0, high=7.0))
    yield sample(())
    yield sample((0, 3))
    yield sample(
        values(0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 0.46875, -4.0, 1e30), value_only=True
    )


erfc = of_one(
    "erfc",
    """Return 1 - erf(x), precise where it is small.

    Parameters
    ----------
    x : Tensor, any shape, real.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: -g 2 / sqrt(pi) e^(-x^2).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.erfc(hx.tensor([0.0, 5.0]))
    tensor([1.0000000e+00, 1.5374597e-12])
    """,
    _erfc_oracle,
)
erfc.vjp("x")(lambda g, x: g * (-_SLOPE * exp(-square(x))))


@erfc.samples
def _():
    yield from domain(-2.0, 2.0)()
    yield sample(floats(16, low=2.0, high=6.0), kinds="f")
    yield sample(values(0.0, np.inf, -np.inf, np.nan, 9.0), value_only=True)


erfcx = of_one(
    "erfcx",
    """Return e^(x^2) erfc(x), which falls like 1 / (x sqrt(pi)) where erfc underflows.

    Parameters
    ----------
    x : Tensor, any shape, real.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g (2 x y - 2 / sqrt(pi)). For large x that difference cancels: its error is that of a
    rounding of 2 / sqrt(pi).
    """,
)
erfcx.vjp("x")(lambda g, x, out: chain(g, 2 * x * out - _SLOPE))


@erfcx.samples
def _():
    yield from domain(-2.0, 2.0)()
    yield sample(values(0.0, 1e10, -30.0, np.inf, np.nan), value_only=True)


erfinv = of_one(
    "erfinv",
    """Return the number whose error function is x: y with erf(y) = x.

    Parameters
    ----------
    x : Tensor, any shape, real. -1 and 1 give infinities, what lies outside them nan.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g sqrt(pi) / 2 e^(y^2).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.erfinv(hx.tensor([-1.0, 0.0, 0.5]))
    tensor([      -inf, 0.        , 0.47693628])
    """,
)
erfinv.vjp("x")(lambda g, out: chain(g, exp(square(out)) / _SLOPE))


@erfinv.samples
def _():
    yield from domain(-0.9, 0.9)()
    yield sample(values(0.0, -0.0, 1.0, -1.0, 1.5, np.nan), value_only=True)


erfcinv = of_one(
    "erfcinv",
    """Return y with erfc(y) = x; precise for small x, where `erfinv` of 1 - x is not.

    Parameters
    ----------
    x : Tensor, any shape, real. 0 and 2 give infinities, what lies outside them nan.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: -g sqrt(pi) / 2 e^(y^2).
    """,
)
erfcinv.vjp("x")(lambda g, out: chain(g, -exp(square(out)) / _SLOPE))


@erfcinv.samples
def _():
    yield from domain(0.1, 1.9)()
    yield sample(values(0.0, 1.0, 2.0, -1.0, np.nan), value_only=True)


# The normal distribution

_ROOT_HALF = math.sqrt(0.5)


@composite(real_only=PARTS, oracle=lambda x: _erfc_oracle(-x * _ROOT_HALF) / 2)
def ndtr(x: Tensor) -> Tensor:
    """Return the normal distribution function, the probability of values below x.

    Parameters
    ----------
    x : Tensor, any shape, real.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g times the density e^(-x^2 / 2) / sqrt(2 pi).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.special.ndtr(hx.tensor([0.0, 1.959964]))
    tensor([0.5  , 0.975])
    """
    return 0.5 * erfc(x * -_ROOT_HALF)


@ndtr.samples
def _():
    yield from domain(-2.0, 2.0)()
    yield sample(values(0.0, np.inf, -np.inf, np.nan), value_only=True)


ndtri = of_one(
    "ndtri",
    """Return the quantile of the normal distribution: y with ndtr(y) = x.

    Parameters
    ----------
    x : Tensor, any shape, real, probabilities. 0 and 1 give infinities, what lies outside them nan.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g sqrt(2 pi) e^(y^2 / 2).
    """,
)
ndtri.vjp("x")(lambda g, out: chain(g, math.sqrt(2 * math.pi) * exp(0.5 * square(out))))


@ndtri.samples
def _():
    yield from domain(0.1, 0.9)()
    yield sample(values(0.0, 1.0, 0.5, -1.0, np.nan), value_only=True)


log_ndtr = of_one(
    "log_ndtr",
    """Return the logarithm of `ndtr`, without underflow.

    Parameters
    ----------
    x : Tensor, any shape, real.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g times density over probability, which is sqrt(2 / pi) / erfcx(-x / sqrt(2)).
    """,
)
log_ndtr.vjp("x")(lambda g, x: chain(g, math.sqrt(2 / math.pi) / erfcx(x * -_ROOT_HALF)))


@log_ndtr.samples
def _():
    yield from domain(-2.0, 2.0)()
    yield sample(floats(8, low=-30.0, high=-5.0), orders=1, kinds="f")
    yield sample(values(0.0, np.inf, -np.inf, np.nan, -300.0), value_only=True)
