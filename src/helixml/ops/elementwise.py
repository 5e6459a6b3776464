"""Elementwise ops: one value in, one value out, at each position.

Operands broadcast and promote; the engine undoes both in the gradient, so the rules below are the
derivatives of school: ``add`` passes ``g`` on, ``multiply`` swaps its operands. Where numbers are
complex, the engine conjugates the derivative of a ``holomorphic`` op. Where a derivative can be
infinite (`sqrt` at 0), `chain` keeps an infinity from meeting a zero cotangent. More of them stand
in `trigonometric`, `logarithms`, `numbers` and `logic`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core import cost
from helixml._core.composed import fused
from helixml._core.op import primitive
from helixml._core.samples import Failure, booleans, domain, floats, integers, pairs, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import ShapeError, ValueRangeError
from helixml.ops.logic import NO_ORDER, equal, greater, isfinite, logical_and, logical_not

Array = Any  # a raw array of the backend

_everywhere = domain(-2.0, 2.0)

# Products of the chain rule


def _chain_oracle(g, d):
    return np.where((g == 0) & ~np.isfinite(d), False, g * d)


@fused(oracle=_chain_oracle)
def chain(g: Tensor, d: Tensor):
    """Return the chain product g d of a singular derivative d.

    Where g is exactly 0 and d is not finite the result is 0, so that ``where(x > 0, sqrt(x), 0)``
    has a clean gradient. Only there: setting every product with g = 0 to zero would destroy mixed
    second derivatives.

    Parameters
    ----------
    g, d : Tensor, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.
    """
    return g * where(logical_and(equal(g, 0), logical_not(isfinite(d))), 0, d)


@chain.samples
def _():
    yield sample((3, 4), (3, 4), kinds="fc")
    yield sample((2, 1, 4), (3, 1), kinds="fc")
    yield sample((0, 3), (3,), kinds="fc")


def _quotient_oracle(g, y):
    return np.where((g == 0) & ~(np.abs(y) > 0), False, g / y)


@fused(oracle=_quotient_oracle)
def quotient(g: Tensor, y: Tensor):
    """Return the chain product g / y where 1 / y is singular at 0: as `chain`, but rounded once.

    1 / y alone would overflow for denormal y.

    Parameters
    ----------
    g, y : Tensor, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.
    """
    pole = logical_not(greater(abs(y), 0))  # or nan
    return g / where(logical_and(equal(g, 0), pole), 1, y)


@quotient.samples
def _():
    yield sample((3, 4), floats(3, 4, low=0.5, high=2.0))
    yield sample((2, 1, 4), floats(3, 1, low=-2.0, high=-0.5))
    yield sample((0, 3), floats(3, low=0.5))


for _op in (chain, quotient):
    _op.flops(lambda out: out.size)
    _op.flops_vjp(lambda out: 2 * out.size)


# Arithmetic


@primitive(direct=True, oracle=np.add)
def add(B, x: Array, y: Array):
    """Add elementwise, x + y.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.

    Notes
    -----
    Gradient: g for both.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.add(hx.tensor([1.0, 2.0]), 1)
    tensor([2., 3.])
    """
    return B.add(x, y)


add.vjp("x")(lambda g: g)
add.vjp("y")(lambda g: g)
add.samples(pairs)


@primitive(direct=True, oracle=np.subtract)
def subtract(B, x: Array, y: Array):
    """Subtract elementwise, x - y. Gradient: g and -g.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.
    """
    return B.subtract(x, y)


subtract.vjp("x")(lambda g: g)
subtract.vjp("y")(lambda g: -g)
subtract.samples(pairs)


@primitive(direct=True, holomorphic=True, oracle=np.multiply)
def multiply(B, x: Array, y: Array):
    """Multiply elementwise, x y. Gradient: g y and g x.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.
    """
    return B.multiply(x, y)


multiply.vjp("x")(lambda g, y: g * y)
multiply.vjp("y")(lambda g, x: g * x)
multiply.samples(pairs)


@primitive(dtype="float", direct=True, holomorphic=True, oracle=np.divide)
def divide(B, x: Array, y: Array):
    """Divide elementwise, x / y; integers divide to the default float.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and a float dtype.

    Notes
    -----
    Gradient: g / y and -g x / y^2.
    """
    return B.divide(x, y)


divide.vjp("x")(lambda g, y: quotient(g, as_tensor("divide", y, g)))
divide.vjp("y")(lambda g, y, out: chain(g, -out / y))


@divide.samples
def _():
    yield sample((3, 4), floats(3, 4, low=0.5, high=2.0))
    yield sample((2, 1, 4), floats(3, 1, low=-2.0, high=-0.5))
    yield sample((0, 3), floats(3, low=0.5))
    yield sample(1.5, floats(3, low=0.5))
    yield sample((3,), 2)
    yield sample(values(1.0, 0.0, -1.0, 2.0), values(0.0, 1.0, np.inf, np.nan), value_only=True)


@primitive(direct=True, real_only=NO_ORDER, oracle=np.floor_divide)
def floor_divide(B, x: Array, y: Array):
    """Divide and round toward minus infinity, floor(x / y). Gradient: 0.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.
    """
    return B.floor_divide(x, y)


floor_divide.vjp("x")(lambda g: g * 0)
floor_divide.vjp("y")(lambda g: g * 0)


@floor_divide.samples
def _():
    yield sample((3, 4), floats(4, low=0.6, high=1.9), value_only=True)
    yield sample(integers(3, 4, low=-5, high=5), integers(4, low=1, high=4))


@primitive(direct=True, real_only=NO_ORDER, oracle=np.remainder)
def remainder(B, x: Array, y: Array):
    """Return x - y floor(x / y), with the sign of y. Gradient: g and -g floor(x / y).

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.
    """
    return B.remainder(x, y)


remainder.vjp("x")(lambda g: g)
remainder.vjp("y")(lambda g, x, y: chain(-g, floor_divide(x, y)))


@remainder.samples
def _():
    yield sample(values(-1.7, 0.3, 1.1, 5.2), values(0.7, 0.5, -0.4, 2.0))
    yield sample((3, 4), floats(3, 4, low=2.1, high=3.9))
    yield sample(integers(3, 4, low=-5, high=5), integers(4, low=1, high=4))


@primitive(direct=True, holomorphic=True, oracle=np.power)
def pow(B, x: Array, y: Array):
    """Raise elementwise to a power, x^y.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast; negative ``x`` with fractional ``y`` gives nan.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.

    Notes
    -----
    Gradient: g y x^(y-1) and g x^y log x; where y is 0 the first is 0, where x is 0 the second is.
    """
    return B.pow(x, y)


@pow.diagnose
def _(x, y):
    kinds = [dtypes.kind(v.dtype) if hasattr(v, "dtype") else "i" for v in (x, y)]
    negative_power = y < 0 if isinstance(y, int) else hasattr(y, "dtype") and (y.numpy() < 0).any()
    if negative_power and set(kinds) <= {"u", "i"}:
        return ValueRangeError(
            f"pow: integers to a negative power are no integers: y is {y!r}. "
            "Hint: x.astype('float32') ** y."
        )
    return None


@pow.errors
def _():
    from helixml.ops.creation import arange

    yield Failure(lambda: arange(3) ** -1, ValueRangeError, r"to a negative power")
    yield Failure(lambda: pow(arange(3), arange(2)), ShapeError, r"do not broadcast")


@pow.vjp("x")
def _(g, x, y):
    if not hasattr(y, "shape"):  # a Python scalar: the usual x ** 2
        return g * 0 if y == 0 else chain(g, y * pow(x, y - 1))
    power = pow(x, where(equal(y, 0), 1, y - 1))
    return chain(g, y * power)


@pow.vjp("y")
def _(g, x, out):
    x = as_tensor("pow", x, g)
    return chain(g, out * where(equal(x, 0), 0, log(where(equal(x, 0), 1, x))))


@pow.samples
def _():
    yield sample(floats(3, 4, low=0.3), (3, 4), kinds="fc")
    yield sample(floats(3, 1, low=0.3), (4,), kinds="fc")
    yield sample(floats(3, 4, low=0.3, high=3.0), floats(4, low=0.3, high=3.0))
    yield sample((3, 4), 2)
    yield sample((3, 4), 3.0)
    yield sample(2.0, (3,))
    yield sample(2, floats(3, low=0.3, high=3.0))
    yield sample(floats(3, low=0.5), -0.5)
    yield sample(values(0.0, 1.0, 2.0, np.inf), values(0.0, 0.0, -1.0, 0.5), value_only=True)


@primitive(direct=True, real_only=NO_ORDER, oracle=np.maximum)
def maximum(B, x: Array, y: Array):
    """Return the larger of x and y; nan if one is nan. At a tie the gradient is halved.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.
    """
    return B.maximum(x, y)


@primitive(direct=True, real_only=NO_ORDER, oracle=np.minimum)
def minimum(B, x: Array, y: Array):
    """Return the smaller of x and y; nan if one is nan. At a tie the gradient is halved.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.
    """
    return B.minimum(x, y)


def _share(g, mine, other, out):
    """Return g where ``mine`` was chosen, half of it where both were."""
    chosen = equal(mine, out)
    return where(chosen, where(equal(mine, other), 0.5 * g, g), 0)


for _op in (maximum, minimum):
    _op.vjp("x")(lambda g, x, y, out: _share(g, x, y, out))
    _op.vjp("y")(lambda g, x, y, out: _share(g, y, x, out))
    _op.samples(pairs)


# One operand


@primitive(direct=True, oracle=np.negative)
def negative(B, x: Array):
    """Negate elementwise, -x. Gradient: -g.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    return B.negative(x)


negative.vjp("x")(lambda g: -g)
negative.samples(_everywhere)


@primitive(direct=True, oracle=np.abs)
def abs(B, x: Array):
    """Return the absolute value, |x|. Gradient: g sign(x), which is 0 at 0.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape and dtype; of complex numbers real.
    """
    return B.abs(x)


abs.vjp("x")(lambda g, x: g * sign(x))
abs.samples(_everywhere)


@primitive(direct=True, oracle=np.sign)
def sign(B, x: Array):
    """Return -1, 0 or 1 with the sign of x; x / |x| and 0 of complex numbers; nan stays nan.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape and dtype.

    Notes
    -----
    Gradient: 0; of complex numbers (g - y real(conj(y) g)) / |x|, and 0 where x is 0.
    """
    return B.sign(x)


@sign.vjp("x")
def _(g, x):
    if dtypes.kind(x.dtype) != "c":
        return g * 0
    from helixml.ops.numbers import conj, real

    y, size = sign(x), abs(x)
    across = g - y * real(conj(y) * g)  # moving x along y leaves y as it is
    return where(equal(size, 0), 0, across / where(equal(size, 0), 1, size))


sign.samples(_everywhere)


@primitive(dtype="float", direct=True, holomorphic=True, oracle=np.sqrt)
def sqrt(B, x: Array):
    """Elementwise square root, y = x^(1/2).

    Parameters
    ----------
    x : Tensor, any shape. Negative entries give nan.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Notes
    -----
    Gradient: g / (2 y). At x = 0 the derivative is inf; where g is exactly 0 the result is 0.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.sqrt(hx.tensor([4.0, 9.0]))
    tensor([2., 3.])
    """
    return B.sqrt(x)


sqrt.vjp("x")(lambda g, out: chain(g, 0.5 / out))


@sqrt.samples
def _():
    yield from domain(0.1, 4.0)()
    yield sample(values(0.0, -0.0, np.inf, np.nan, 1e-310), value_only=True)


@primitive(direct=True, holomorphic=True, oracle=np.square)
def square(B, x: Array):
    """Square elementwise, x^2. Gradient: 2 g x.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    return B.square(x)


square.vjp("x")(lambda g, x: g * (2 * x))
square.samples(_everywhere)


@primitive(dtype="float", direct=True, holomorphic=True, oracle=np.exp)
def exp(B, x: Array):
    """Elementwise exponential, y = e^x. Gradient: g y.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    return B.exp(x)


exp.vjp("x")(lambda g, out: chain(g, out))  # e^x overflows


@exp.samples
def _():
    yield from _everywhere()
    yield sample(values(0.0, -np.inf, np.inf, np.nan, -800.0), value_only=True)


@primitive(dtype="float", direct=True, holomorphic=True, oracle=np.expm1)
def expm1(B, x: Array):
    """Return y = e^x - 1, precise near 0. Gradient: g e^x.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    return B.expm1(x)


expm1.vjp("x")(lambda g, x: chain(g, exp(x)))  # out + 1 cancels far below 0
expm1.samples(_everywhere)


@primitive(dtype="float", direct=True, holomorphic=True, oracle=np.log)
def log(B, x: Array):
    """Elementwise natural logarithm. Gradient: g / x.

    Parameters
    ----------
    x : Tensor, any shape. Negative entries give nan, 0 gives -inf.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    return B.log(x)


log.vjp("x")(lambda g, x: quotient(g, x))


@log.samples
def _():
    yield from domain(0.1, 4.0)()
    yield sample(values(0.0, -1.0, np.inf, np.nan), value_only=True)


@primitive(dtype="float", direct=True, holomorphic=True, oracle=np.log1p)
def log1p(B, x: Array):
    """Return log(1 + x), precise near 0. Gradient: g / (1 + x).

    Parameters
    ----------
    x : Tensor, any shape. Of complex numbers NumPy rounds 1 + x first: less precise near 0.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    return B.log1p(x)


log1p.vjp("x")(lambda g, x: quotient(g, 1 + x))
log1p.samples(domain(-0.8, 3.0))


def _sigmoid_oracle(x):
    return 1 / (1 + np.exp(-x)) if x.dtype.kind == "c" else np.exp(-np.logaddexp(0.0, -x))


@primitive(dtype="float", direct=True, holomorphic=True, oracle=_sigmoid_oracle)
def sigmoid(B, x: Array):
    """Return y = 1 / (1 + e^(-x)), without overflow. Gradient: g y (1 - y).

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    return B.sigmoid(x)


sigmoid.vjp("x")(lambda g, out: g * (out * (1 - out)))


@sigmoid.samples
def _():
    yield from _everywhere()
    yield sample(values(0.0, -np.inf, np.inf, np.nan, -90.0, 90.0), value_only=True)


def _step_op(name, summary, oracle, real_only="take real(x) and imag(x)"):
    """Make a piecewise constant op: its gradient is 0."""

    def forward(B, x: Array):
        return getattr(B, name)(x)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""{summary} Gradient: 0.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    op = primitive(forward, direct=True, real_only=real_only, oracle=oracle)
    op.vjp("x")(lambda g: g * 0)
    op.samples(_everywhere)
    return op


floor = _step_op("floor", "Round toward minus infinity.", np.floor)
ceil = _step_op("ceil", "Round toward plus infinity.", np.ceil)
trunc = _step_op("trunc", "Round toward zero.", np.trunc)


def _round_oracle(x):
    return x if x.dtype.kind in "biu" else np.rint(x)


round = _step_op("round", "Round to the nearest integer, ties to even.", _round_oracle, None)
round.numpy = ("rint",)


# Choosing


@primitive(promotes=("x", "y"), oracle=np.where)
def where(B, condition: Array, x: Array, y: Array):
    """Choose elementwise: x where the condition holds, y elsewhere.

    Parameters
    ----------
    condition : Tensor, bool.
    x, y : Tensor or scalar; all three broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the dtype that x and y promote to.

    Notes
    -----
    Gradient: g where chosen, exactly 0 elsewhere.
    """
    return B.where(condition, x, y)


where.vjp("x")(lambda g, condition: where(condition, g, 0))
where.vjp("y")(lambda g, condition: where(condition, 0, g))
where.flops(cost.each)


@where.samples
def _():
    yield sample(booleans(3, 4), (3, 4), (3, 4))
    yield sample(booleans(3, 1), (4,), 0.5)
    yield sample(booleans(0, 2), (2,), (0, 2))
