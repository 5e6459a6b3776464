"""The gamma function and its kin: logarithm, derivatives, beta, incomplete functions, zeta.

Derivatives of one are others of them. Read `special` first. Public under `helixml.special`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, domain, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, NotDifferentiableError, ValueRangeError
from helixml.ops.creation import arange
from helixml.ops.elementwise import abs, chain, exp, log, maximum, sqrt, trunc, where
from helixml.ops.entropy import xlogy
from helixml.ops.logic import greater, greater_equal, less, logical_and
from helixml.ops.movement import as_float, broadcast_to, cast, expand_dims
from helixml.ops.reduction import sum
from helixml.ops.special import PARTS, of_one, scipy_oracle

Array = Any  # a raw array of the backend


# Of one number

digamma = of_one(
    "digamma",
    """Return the derivative of log Gamma(x), Gamma'(x) / Gamma(x); also called psi.

    Parameters
    ----------
    x : Tensor, any shape, real. It has poles at 0, -1, -2, ...

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g polygamma(1, x).
    """,
)
digamma.vjp("x")(lambda g, x: chain(g, digamma_derivative(x, 1)))


@digamma.samples
def _():
    yield from domain(0.5, 6.0)()
    yield sample(values(-0.5, -1.5, -2.4))
    yield sample(values(1.0, np.inf, np.nan, 1e30), value_only=True)


_HIGHEST = 170  # 171! overflows float64


def _polygamma_oracle(x, n):
    from scipy import special

    return special.polygamma(n, x)


@primitive(dtype="float", real_only=PARTS, oracle=_polygamma_oracle)
def digamma_derivative(B, x: Array, n: int):
    """Return `polygamma` of order n at x.

    Parameters
    ----------
    x : Tensor, any shape, real.
    n : int, in [0, 170].

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    ValueRangeError : another ``n``. DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g times that of order n + 1.
    """
    return B.special("polygamma", n, x)


@digamma_derivative.prepare
def _(x, n):
    if not 0 <= dtypes.as_integer("polygamma", "n", n) <= _HIGHEST:
        raise ValueRangeError(f"polygamma: n={n} is outside [0, {_HIGHEST}].")
    return {"n": int(n)}


digamma_derivative.vjp("x")(lambda g, x, n: chain(g, digamma_derivative(x, n + 1)))
digamma_derivative.flops(lambda out: out.size)


@digamma_derivative.samples
def _():
    for n in (0, 1, 2, 5):
        yield sample(floats(3, 4, low=0.6, high=4.0), n=n)
    yield sample(floats(), n=1)
    yield sample(values(1.0, np.inf, np.nan, 30.0), n=1, value_only=True)


@digamma_derivative.errors
def _():
    from helixml.ops.creation import zeros

    yield Failure(lambda: polygamma(-1, zeros(2)), ValueRangeError, r"n=-1 is outside \[0, 170\]")
    yield Failure(lambda: polygamma(1.5, zeros(2)), DTypeError, r"n must be an integer")


@composite(real_only=PARTS, oracle=lambda n, x: _polygamma_oracle(x, n))
def polygamma(n: int, x: Tensor) -> Tensor:
    """Return the derivative of digamma of order n, (-1)^(n+1) n! zeta(n + 1, x) for n > 0.

    Parameters
    ----------
    n : int, in [0, 170]; 0 is digamma itself.
    x : Tensor, any shape, real.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    ValueRangeError : another ``n``. DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g polygamma(n + 1, x).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.special.polygamma(1, hx.tensor([1.0]))
    tensor([1.644934])
    """
    return digamma_derivative(x, n)


polygamma.samples(lambda: (sample(2, floats(3, 4, low=0.6, high=4.0)),))


gammaln = of_one(
    "gammaln",
    """Return the logarithm of the gamma function's magnitude, log |Gamma(x)|; also called lgamma.

    Parameters
    ----------
    x : Tensor, any shape, real. Whole numbers up to 0 give inf.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g digamma(x).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.exp(hx.gammaln(hx.tensor([1.0, 4.0])))
    tensor([1., 6.])
    """,
)
lgamma = gammaln
gammaln.vjp("x")(lambda g, x: chain(g, digamma(x)))


@gammaln.samples
def _():
    yield from domain(0.5, 6.0)()
    yield sample(values(-0.5, -1.5, -2.4))
    yield sample(values(1.0, 2.0, 0.0, np.inf, np.nan, 1e30), value_only=True)


gamma = of_one(
    "gamma",
    """Return the gamma function, which continues (x - 1)! between whole numbers.

    Parameters
    ----------
    x : Tensor, any shape, real. It has poles at 0, -1, -2, ...

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.

    Notes
    -----
    Gradient: g y digamma(x).
    """,
)
gamma.vjp("x")(lambda g, x, out: chain(g, out * digamma(x)))


@gamma.samples
def _():
    yield from domain(0.5, 5.0)()
    yield sample(values(-0.5, -1.5, -2.4))
    yield sample(values(1.0, 2.0, np.inf, np.nan, 200.0), value_only=True)


def _multigammaln_oracle(a, d):
    from scipy import special

    total = np.sum([special.gammaln(a - 0.5 * j) for j in range(d)], axis=0)
    return total + d * (d - 1) / 4 * np.log(np.pi)


@composite(real_only=PARTS, oracle=_multigammaln_oracle)
def multigammaln(a: Tensor, d: int) -> Tensor:
    """Return the logarithm of the multivariate gamma function of dimension d.

    d (d - 1) / 4 log(pi) + sum over j < d of gammaln(a - j / 2).

    Parameters
    ----------
    a : Tensor, any shape, values above (d - 1) / 2.
    d : int, at least 1.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    ValueRangeError : d < 1, or beyond 10000.
    """
    if not 1 <= dtypes.as_integer("multigammaln", "d", d) <= 10_000:
        raise ValueRangeError(f"multigammaln: d={d} is outside [1, 10000].")
    a = as_float(a)
    total = gammaln(a)
    for j in range(1, d):
        total = total + gammaln(a - 0.5 * j)
    return total + d * (d - 1) / 4 * math.log(math.pi)


@multigammaln.samples
def _():
    yield sample(floats(3, 4, low=2.0, high=6.0), d=3)
    yield sample(floats(low=1.0), d=1)


@multigammaln.errors
def _():
    from helixml.ops.creation import ones

    yield Failure(lambda: multigammaln(ones(2), 0), ValueRangeError, r"d=0 is outside")


# Of two numbers


@primitive(dtype="float", real_only=PARTS, oracle=scipy_oracle("betaln"))
def betaln(B, a: Array, b: Array):
    """Return the logarithm of the beta function, log |Gamma(a) Gamma(b) / Gamma(a + b)|.

    Parameters
    ----------
    a, b : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Raises
    ------
    DTypeError : an operand is complex.

    Notes
    -----
    Gradient: g (digamma(a) - digamma(a + b)), and likewise for b. Where a is a million times b, 10
    digits are right.
    """
    return B.special("betaln", a, b)


@primitive(dtype="float", real_only=PARTS, oracle=scipy_oracle("beta"))
def beta(B, a: Array, b: Array):
    """Return the beta function, y = Gamma(a) Gamma(b) / Gamma(a + b).

    Parameters
    ----------
    a, b : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Raises
    ------
    DTypeError : an operand is complex.

    Notes
    -----
    Gradient: g y (digamma(a) - digamma(a + b)), and likewise for b.
    """
    return B.special("beta", a, b)


def _digamma_difference(g, a, b):
    a = as_tensor("beta", a, g)
    return digamma(a) - digamma(a + b)


betaln.vjp("a")(lambda g, a, b: chain(g, _digamma_difference(g, a, b)))
betaln.vjp("b")(lambda g, a, b: chain(g, _digamma_difference(g, b, a)))
beta.vjp("a")(lambda g, a, b, out: chain(g, out * _digamma_difference(g, a, b)))
beta.vjp("b")(lambda g, a, b, out: chain(g, out * _digamma_difference(g, b, a)))

for _op in (betaln, beta):
    _op.flops(lambda out: out.size)

    @_op.samples
    def _():
        yield sample(floats(3, 4, low=0.5, high=4.0), floats(3, 4, low=0.5, high=4.0))
        yield sample(floats(2, 1, 4, low=0.5), floats(3, 1, low=0.5))
        yield sample(floats(0, 3, low=0.5), floats(3, low=0.5))
        yield sample(1.5, floats(3, low=0.5))
        yield sample(floats(3, low=0.5), 2)
        yield sample(values(1.0, 1e5, np.nan), values(1.0, 3.0, 1.0), value_only=True)


@primitive(dtype="float", real_only=PARTS, oracle=scipy_oracle("gammainc"))
def gammainc(B, a: Array, x: Array):
    """Return the incomplete gamma function, the integral of t^(a-1) e^-t from 0 to x over Gamma(a).

    Parameters
    ----------
    a : Tensor or scalar, positive.
    x : Tensor or scalar, not negative; shapes broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype, values in [0, 1].

    Raises
    ------
    DTypeError : an operand is complex.

    Notes
    -----
    Gradient for x: g x^(a-1) e^-x / Gamma(a); for a: g sum over n of w_n (log(x) - digamma(a+n+1))
    with w_n = x^(a+n) e^-x / Gamma(a+n+1), which add up to the function itself. About 20 sqrt(x)
    terms are formed for each value, in float64; where there are more than 100,000, it raises
    `NotDifferentiableError`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.special.gammainc(1.0, hx.tensor([0.0, 1.0]))  # 1 - e^-x
    tensor([0.        , 0.63212055])
    """
    return B.special("gammainc", a, x)


@primitive(dtype="float", real_only=PARTS, oracle=scipy_oracle("gammaincc"))
def gammaincc(B, a: Array, x: Array):
    """Return 1 - gammainc(a, x), precise where it is small.

    Parameters
    ----------
    a : Tensor or scalar, positive.
    x : Tensor or scalar, not negative; shapes broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype, values in [0, 1].

    Raises
    ------
    DTypeError : an operand is complex.

    Notes
    -----
    Gradient: that of `gammainc`, negative.
    """
    return B.special("gammaincc", a, x)


def _density(g, a, x):
    """Return x^(a-1) e^-x / Gamma(a)."""
    a, x = as_tensor("gammainc", a, g), as_tensor("gammainc", x, g)
    return exp(xlogy(a - 1, x) - x - gammaln(a))


_MOST_TERMS = 100_000


def _slope_of_order(g, a, x):
    """Return the derivative of gammainc for a, by the terms of its series (DLMF 8.7.1).

    As probabilities of Poisson they lie around a + n = x, and 10 sqrt(x) away nothing is left.
    In float64, where the device has it: the exponents cancel.
    """
    wide = dtypes.float64 if dtypes.float64 in g._backend.dtypes else g.dtype
    a, x = (cast(as_tensor("gammainc", v, g), wide) for v in (a, x))
    a, x = broadcast_to(a, g.shape), broadcast_to(x, g.shape)
    valid = logical_and(greater(a, 0), greater_equal(x, 0))
    near = less(abs(x - a), 100 * sqrt(maximum(a, x)) + 1000)  # else it is 0 or 1, whatever a is
    counts = logical_and(logical_and(valid, greater(x, 0)), near)
    a, x = where(counts, a, 1), where(counts, x, 1)
    count = 50 + 20 * math.isqrt(int(x.detach().numpy().max(initial=0)) + 1)
    if count > _MOST_TERMS:
        raise NotDifferentiableError(
            f"gammainc: the derivative with respect to 'a' takes {count} terms for each value. "
            "Hint: detach() that input if its gradient should be ignored."
        )
    first = trunc(maximum(x - a - 10 * sqrt(x), 0)).detach()
    order = expand_dims(a + first, -1) + arange(count, dtype=wide, device=g.device)
    x = expand_dims(x, -1)
    weight = exp(order * log(x) - x - gammaln(order + 1))
    slope = sum(weight * (log(x) - digamma(order + 1)), axis=-1)
    return where(counts, slope, where(valid, 0.0, math.nan))


gammainc.vjp("a")(lambda g, a, x: chain(g, _slope_of_order(g, a, x)))
gammaincc.vjp("a")(lambda g, a, x: chain(-g, _slope_of_order(g, a, x)))
gammainc.vjp("x")(lambda g, a, x: chain(g, _density(g, a, x)))
gammaincc.vjp("x")(lambda g, a, x: chain(-g, _density(g, a, x)))

for _op in (gammainc, gammaincc):
    _op.flops(lambda out: out.size)

    @_op.samples
    def _():
        yield sample(floats(3, 4, low=0.5, high=4.0), floats(3, 4, low=0.5, high=4.0))
        yield sample(integers(3, 1, low=1, high=5), floats(2, 1, 4, low=0.5, high=4.0))
        yield sample(floats(4, low=20.0, high=40.0), floats(4, low=15.0, high=50.0), kinds="f")
        yield sample(floats(3, low=0.5), 2)
        yield sample(0.5, floats(2, 3, low=0.2, high=4.0))
        yield sample(7.3, floats(3, low=2.0, high=12.0))
        yield sample(integers(2, 1, low=1, high=5), floats(0, low=0.5))
        yield sample(2, values(0.0, np.inf, np.nan, 1e-8), value_only=True)


@primitive(dtype="float", real_only=PARTS, oracle=scipy_oracle("zeta"))
def zeta(B, x: Array, q: Array | None = None):
    """Return the zeta function of Hurwitz, sum over k >= 0 of 1 / (k + q)^x, or of Riemann.

    Parameters
    ----------
    x : Tensor or scalar, above 1; with no ``q`` any number.
    q : Tensor or scalar, positive; shapes broadcast. The function is that of Riemann, where q is 1,
        if it is left out.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Raises
    ------
    DTypeError : an operand is complex.

    Notes
    -----
    Gradient for q: -g x zeta(x + 1, q). That for x is not known in closed form, and raises
    `NotDifferentiableError`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.special.zeta(hx.tensor([2.0, 4.0]))
    tensor([1.644934 , 1.0823232])
    """
    return B.special("zeta", x) if q is None else B.special("zeta", x, q)


@zeta.vjp("q")
def _(g, x, q):
    x = as_tensor("zeta", x, g)
    return chain(g, -x * zeta(x + 1, q))


@zeta.vjp("x")
def _(g):
    raise NotDifferentiableError(
        "zeta: has no derivative with respect to 'x' in closed form. "
        "Hint: detach() that input if its gradient should be ignored."
    )


zeta.flops(lambda out: out.size)


@zeta.samples
def _():
    yield sample(integers(3, 4, low=2, high=5), floats(3, 4, low=0.5, high=4.0))
    yield sample(1.5, floats(2, 3, low=0.5, high=4.0))
    yield sample(integers(3, low=2, high=9))
    yield sample(values(0.5, -0.75, 1.0, np.inf, np.nan), value_only=True)
    yield sample(2, values(0.0, 1.0, np.nan, 1e8), value_only=True)
