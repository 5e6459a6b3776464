"""Logarithms with a weight, which entropies are made of, and log odds. Read `elementwise` first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import domain, floats, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.ops.activation import softplus
from helixml.ops.elementwise import chain, log, log1p, quotient, where
from helixml.ops.logic import equal, greater, greater_equal, isnan, less, logical_and, logical_or
from helixml.ops.movement import as_float
from helixml.ops.special import PARTS, of_one, scipy_oracle

Array = Any  # a raw array of the backend


def _weighted(name, summary, logarithm, edge, gradient, low):
    """Make x f(y), 0 where x is 0 unless y is nan; f(``edge``) is 0, and y lies above ``low``."""

    def forward(B, x: Array, y: Array):
        zero, one = (B.full((), n, dtype=B.dtype_of(x)) for n in (0, edge))
        absent = B.logical_and(B.equal(x, zero), B.logical_not(B.isnan(y)))
        return B.multiply(x, getattr(B, logarithm)(B.where(absent, one, y)))

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""{summary}

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Raises
    ------
    DTypeError : an operand is complex.

    Notes
    -----
    Gradient: {gradient}; the latter is 0 where x is 0, the former infinite where the logarithm is.
    """
    op = primitive(forward, dtype="float", real_only=PARTS, oracle=scipy_oracle(name))
    op.flops(lambda out: 2 * out.size)

    @op.samples
    def _():
        yield sample((3, 4), floats(3, 4, low=low + 0.2, high=3.0))
        yield sample((2, 1, 4), floats(3, 1, low=low + 0.2))
        yield sample((0, 3), floats(3, low=low + 0.2))
        yield sample(1.5, floats(3, low=low + 0.2))
        yield sample((3,), 2)
        zero, one = (0.0, 0.0, 0.0, 0.0, 1.0, 0.0), (low, 1.0, np.nan, -3.0, low, np.inf)
        yield sample(values(*zero), values(*one), value_only=True)

    return op


xlogy = _weighted(
    "xlogy", "Return x log(y), 0 where x is 0.", "log", 1, "g log(y) and g x / y", 0.0
)
xlog1py = _weighted(
    "xlog1py",
    "Return x log(1 + y), 0 where x is 0; precise for small y.",
    "log1p",
    0,
    "g log(1 + y) and g x / (1 + y)",
    -1.0,
)


def _over(g, x, y):
    """Return g x / y; 0 where x is 0."""
    x = as_tensor("xlogy", x, g)
    return quotient(g * x, where(equal(x, 0), 1, y))


xlogy.vjp("x")(lambda g, y: chain(g, log(as_tensor("xlogy", y, g))))
xlogy.vjp("y")(lambda g, x, y: _over(g, x, y))
xlog1py.vjp("x")(lambda g, y: chain(g, log1p(as_tensor("xlog1py", y, g))))
xlog1py.vjp("y")(lambda g, x, y: _over(g, x, 1 + y))


@composite(real_only=PARTS, oracle=scipy_oracle("entr"))
def entr(x: Tensor) -> Tensor:
    """Return what a probability adds to the entropy, -x log(x): 0 at 0, -inf below.

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
    Gradient: -g (log(x) + 1), infinite at 0.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.special.entr(hx.tensor([0.0, 0.5, 1.0]))
    tensor([0.       , 0.3465736, 0.       ])
    """
    return where(less(x, 0), -math.inf, 0 - xlogy(x, x))  # 0 - 0 is 0, and not -0


@entr.samples
def _():
    yield from domain(0.1, 3.0)()
    yield sample(values(0.0, -0.0, -1.0, np.inf, np.nan), value_only=True)


@composite(real_only=PARTS, oracle=scipy_oracle("rel_entr"))
def rel_entr(x: Tensor, y: Tensor) -> Tensor:
    """Return what a pair of probabilities adds to the relative entropy, x log(x / y).

    0 where x is 0 and y is not negative; inf where that or both being positive does not hold.

    Parameters
    ----------
    x, y : Tensor, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Raises
    ------
    DTypeError : an operand is complex.

    Notes
    -----
    Gradient: g (log(x / y) + 1) and -g x / y where both are positive, 0 elsewhere.

    References
    ----------
    Kullback & Leibler 1951, "On information and sufficiency".
    """
    positive = logical_and(greater(x, 0), greater(y, 0))
    nothing = logical_and(equal(x, 0), greater_equal(y, 0))
    unknown = logical_or(isnan(x), isnan(y))
    p, q = where(positive, x, 1), where(positive, y, 1)
    value = where(positive, xlogy(p, p / q), math.inf)
    return where(unknown, math.nan, where(nothing, 0, value))


@rel_entr.samples
def _():
    yield sample(floats(3, 4, low=0.2), floats(3, 4, low=0.2))
    yield sample(floats(2, 1, 4, low=0.2), floats(3, 1, low=0.2))
    yield sample(floats(0, 3, low=0.2), floats(3, low=0.2))
    x, y = (0.0, 0.0, 1.0, -1.0, np.nan, 0.0), (0.0, 2.0, 0.0, 1.0, 1.0, -1.0)
    yield sample(values(*x), values(*y), value_only=True)


# Log odds

logit = of_one(
    "logit",
    """Return the logarithm of the odds of a probability, log(x / (1 - x)): the inverse of sigmoid.

    Parameters
    ----------
    x : Tensor, any shape, real. 0 and 1 give infinities, what lies outside them nan.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g / (x (1 - x)).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.logit(hx.tensor([0.0, 0.5, 0.75]))
    tensor([     -inf, 0.       , 1.0986123])
    """,
)
logit.vjp("x")(lambda g, x: quotient(g, x * (1 - x)))


@logit.samples
def _():
    yield from domain(0.1, 0.9)()
    yield sample(values(0.0, 1.0, 0.5, -1.0, np.nan), value_only=True)


@composite(real_only="log(sigmoid(x))", oracle=lambda x: -np.logaddexp(0.0, -x))
def log_sigmoid(x: Tensor) -> Tensor:
    """Return the logarithm of the sigmoid, -log(1 + e^(-x)), without overflow.

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
    Gradient: g sigmoid(-x).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.log_sigmoid(hx.tensor([-1000.0, 0.0]))
    tensor([-1.000000e+03, -6.931472e-01])
    """
    return -softplus(-as_float(x))


@log_sigmoid.samples
def _():
    yield from domain(-2.0, 2.0)()
    yield sample(values(0.0, np.inf, -np.inf, np.nan, -300.0, 300.0), value_only=True)
