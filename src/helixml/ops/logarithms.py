"""Logarithms to other bases, powers of 2, and logarithms of sums.

Read `elementwise` first, which has the natural logarithm.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml._core import cost
from helixml._core.op import primitive
from helixml._core.samples import domain, pairs, sample, values
from helixml.ops.elementwise import chain, quotient, sigmoid

Array = Any  # a raw array of the backend


def _logarithm(base, oracle):
    name = f"log{base}"
    scale = 1 / math.log(base)

    def forward(B, x: Array):
        return getattr(B, name)(x)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Elementwise logarithm to base {base}. Gradient: g / (x log {base}).

    Parameters
    ----------
    x : Tensor, any shape. Negative entries give nan, 0 gives -inf.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    op = primitive(forward, dtype="float", direct=True, holomorphic=True, oracle=oracle)
    op.vjp("x")(lambda g, x: quotient(g * scale, x))

    @op.samples
    def _():
        yield from domain(0.1, 4.0)()
        yield sample(values(0.0, -1.0, np.inf, np.nan, 8.0, 100.0), value_only=True)

    return op


log2 = _logarithm(2, np.log2)
log10 = _logarithm(10, np.log10)


def _exp2_oracle(x):
    return np.power(2, x) if x.dtype.kind == "c" else np.exp2(x)


@primitive(dtype="float", holomorphic=True, oracle=_exp2_oracle)
def exp2(B, x: Array):
    """Return y = 2^x. Gradient: g y log(2).

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float or complex dtype.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.exp2(hx.tensor([-1.0, 0.0, 10.0]))
    tensor([5.000e-01, 1.000e+00, 1.024e+03])
    """
    return B.pow(B.full((), 2, dtype=B.dtype_of(x)), x)


exp2.vjp("x")(lambda g, out: chain(g, out * math.log(2)))
exp2.flops(cost.each)


@exp2.samples
def _():
    yield from domain(-2.0, 2.0)()
    yield sample(values(0.0, -np.inf, np.inf, np.nan, -800.0, 100.0), value_only=True)


@primitive(dtype="float", direct=True, real_only="log(exp(x) + exp(y))", oracle=np.logaddexp)
def logaddexp(B, x: Array, y: Array):
    """Return log(e^x + e^y), without overflow.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Notes
    -----
    Gradient: g s(x - y) and g s(y - x), s the logistic function.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.logaddexp(hx.tensor([1000.0]), 1000.0)
    tensor([1000.6932])
    """
    return B.logaddexp(x, y)


logaddexp.vjp("x")(lambda g, x, y: chain(g, sigmoid(x - y)))  # inf - inf
logaddexp.vjp("y")(lambda g, x, y: chain(g, sigmoid(y - x)))


@logaddexp.samples
def _():
    yield from pairs()
    yield sample(
        values(np.inf, -np.inf, np.nan, 700.0), values(1.0, -np.inf, 0.0, 700.0), value_only=True
    )
