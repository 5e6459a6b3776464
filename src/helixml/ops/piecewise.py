"""Activations in pieces, and other composites: what a network may put between its linear maps.

All are composites of ops with rules: no derivative stands here. Where a piece would overflow
outside of its part, its argument is replaced there before, so that no infinity is ever made. At a
kink the gradient is that of the piece whose inequality is not strict; the text names it where it
is no matter of course. `helixml.ops.activation` has those that backends compute in one pass.
"""

from __future__ import annotations

import math

import numpy as np

from helixml._core.composed import composite
from helixml._core.samples import Failure, sample, values
from helixml._core.tensor import Tensor
from helixml.errors import ShapeError, ValueRangeError
from helixml.ops.activation import softplus
from helixml.ops.categorical import softmax
from helixml.ops.elementwise import abs, expm1, negative, sigmoid, sign, where
from helixml.ops.logic import NO_ORDER
from helixml.ops.movement import as_float, reshape, split
from helixml.ops.trigonometric import tanh

# Klambauer et al. 2017, eq. 14: the scales for which mean 0 and variance 1 are a fixed point.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def _elementwise():
    yield sample((3, 4))
    yield sample(())
    yield sample((0, 3))


def _with_kinks(*kinks):
    """Return samples with the values at ``kinks`` and far from them."""

    def samples():
        yield from _elementwise()
        yield sample(values(-90.0, *kinks, 90.0, np.inf, -np.inf, np.nan), value_only=True)

    return samples


# Rectifiers


@composite(real_only=NO_ORDER, oracle=lambda x, slope=0.01: np.where(x > 0, x, slope * x))
def leaky_relu(x: Tensor, *, slope: float = 0.01):
    """Return x above 0 and slope x elsewhere (Maas et al. 2013, section 2).

    Parameters
    ----------
    x : Tensor, any shape.
    slope : number, the derivative at 0 and below.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.leaky_relu(hx.tensor([-2.0, 3.0]), slope=0.5)
    tensor([-1.,  3.])
    """
    x = as_float(x)
    return where(x > 0, x, slope * x)


@leaky_relu.samples
def _():
    yield from _with_kinks(0.0)()
    yield sample((3,), slope=0.3)


def _prelu_oracle(x, weight, axis=1):
    if weight.size > 1:
        weight = weight.reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])
    else:
        weight = weight.reshape(())
    return np.maximum(x, 0) + weight * np.minimum(x, 0) * 1.0


@composite(real_only=NO_ORDER, oracle=_prelu_oracle)
def prelu(x: Tensor, weight: Tensor, *, axis: int = 1):
    """Return x above 0 and weight x elsewhere, with one weight for all or one a channel.

    Parameters
    ----------
    x : Tensor, any shape, for example (n, c, ...).
    weight : Tensor, () or (1,) for all, or (c,) for the channels along ``axis``.
    axis : int, where the channels are; of no account for a single weight.

    Returns
    -------
    Tensor, shape of ``x``, a float dtype.

    Raises
    ------
    ShapeError : ``weight`` is none of these.

    References
    ----------
    He et al. 2015, "Delving deep into rectifiers", eq. 1.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.prelu(hx.tensor([[-2.0, -2.0]]), hx.tensor([0.5, 0.25]))
    tensor([[-1. , -0.5]])
    """
    x = as_float(x)
    if weight.ndim < 2 and weight.size == 1:
        weight = reshape(weight, ())
    else:
        inside = -x.ndim <= axis < x.ndim
        if not inside or weight.shape != (x.shape[axis],):
            found = f"{x.shape[axis]} channels" if inside else "no such axis"
            raise ShapeError(
                f"prelu: weight is {weight.shape}, x is {x.shape} with {found} along axis {axis}. "
                "Hint: weight has one entry for all, or one for each channel."
            )
        weight = reshape(weight, (-1,) + (1,) * (x.ndim - 1 - axis % x.ndim))
    return where(x > 0, x, weight * x)


@prelu.samples
def _():
    yield sample((2, 3), (3,))
    yield sample((2, 3, 4), (3,))
    yield sample((2, 3), (2,), axis=-2)
    yield sample((4,), (1,))
    yield sample((), ())
    yield sample((0, 3), (3,))


@prelu.errors
def _():
    x = np.zeros((2, 3))
    yield Failure(lambda: prelu(x, np.zeros(2)), ShapeError, r"\(2, 3\) with 3 channels along")
    yield Failure(lambda: prelu(x, np.zeros(2), axis=2), ShapeError, r"no such axis along axis 2")


@composite(real_only=NO_ORDER, oracle=lambda x: np.minimum(np.maximum(x, 0), 6))
def relu6(x: Tensor):
    """Return min(max(x, 0), 6). The gradient at 0 and at 6 is 0.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    return where(x <= 0, 0, where(x >= 6, 6, x))


relu6.samples(_with_kinks(0.0, 6.0))


def _hardtanh_oracle(x, low=-1.0, high=1.0):
    return np.minimum(np.maximum(x, low), high)


@composite(real_only=NO_ORDER, oracle=_hardtanh_oracle)
def hardtanh(x: Tensor, *, low: float = -1.0, high: float = 1.0):
    """Return min(max(x, low), high). The gradient on the bounds is 0.

    Parameters
    ----------
    x : Tensor, any shape.
    low, high : numbers, low < high.

    Returns
    -------
    Tensor, same shape, of the dtype that x and the bounds promote to.

    Raises
    ------
    ValueRangeError : low is not below high.
    """
    if not low < high:
        raise ValueRangeError(f"hardtanh: low={low} is not below high={high}.")
    return where(x <= low, low, where(x >= high, high, x))


@hardtanh.samples
def _():
    yield from _with_kinks(-1.0, 1.0)()
    yield sample((3, 4), low=-0.5, high=1.5)


@hardtanh.errors
def _():
    x = np.zeros(2)
    yield Failure(lambda: hardtanh(x, low=1.0), ValueRangeError, r"low=1.0 is not below high=1.0")


@composite(real_only=NO_ORDER, oracle=lambda x: np.clip(x / 6 + 0.5, 0.0, 1.0))
def hardsigmoid(x: Tensor):
    """Return x / 6 + 1/2, bounded to [0, 1] (Howard et al. 2019, section 5.2).

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Notes
    -----
    Gradient: g / 6 between -3 and 3, and 0 on these bounds and outside.
    """
    x = as_float(x)
    return where(x <= -3, 0, where(x >= 3, 1, x * (1 / 6) + 0.5))


hardsigmoid.samples(_with_kinks(-3.0, 3.0))


@composite(
    real_only=NO_ORDER, oracle=lambda x: np.where(x <= -3, 0.0, x * np.minimum(x / 6 + 0.5, 1.0))
)
def hardswish(x: Tensor):
    """Return x hardsigmoid(x), and 0 at -inf (Howard et al. 2019, section 5.2).

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    x = as_float(x)
    return where(x <= -3, 0, x * hardsigmoid(x))


hardswish.samples(_with_kinks(-3.0, 0.0, 3.0))


@composite(
    real_only=NO_ORDER, oracle=lambda x, threshold, value: np.where(x <= threshold, value, x)
)
def threshold(x: Tensor, threshold: float, value: float):
    """Return x above a threshold, and a value at it and below.

    Parameters
    ----------
    x : Tensor, any shape.
    threshold, value : numbers.

    Returns
    -------
    Tensor, same shape, of the dtype that x and value promote to.
    """
    return where(x <= threshold, value, x)


@threshold.samples
def _():
    yield sample((3, 4), 0.5, -7.0)
    yield sample(values(0.5, np.nan, np.inf), 0.5, -7.0, value_only=True)


# Shrinking


def _check_shrink(op, bound):
    if not bound >= 0:
        raise ValueRangeError(f"{op}: bound={bound} must be 0 or more.")


@composite(oracle=lambda x, bound=0.5: np.where(np.abs(x) <= bound, 0.0, x))
def hardshrink(x: Tensor, *, bound: float = 0.5):
    """Return x where |x| > bound, and 0 elsewhere.

    Parameters
    ----------
    x : Tensor, any shape.
    bound : number, not negative.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    ValueRangeError : ``bound`` is negative.
    """
    _check_shrink("hardshrink", bound)
    x = as_float(x)
    return where(abs(x) <= bound, 0, x)


def _softshrink_oracle(x, bound=0.5):
    return np.sign(x) * np.maximum(np.abs(x) - bound, 0.0)


@composite(oracle=_softshrink_oracle)
def softshrink(x: Tensor, *, bound: float = 0.5):
    """Return x, moved by ``bound`` toward 0, and 0 where |x| <= bound.

    The minimiser of (y - x)^2 / 2 + bound |y|.

    Parameters
    ----------
    x : Tensor, any shape.
    bound : number, not negative.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    ValueRangeError : ``bound`` is negative.

    References
    ----------
    Donoho 1995, "De-noising by soft-thresholding", eq. 3.
    """
    _check_shrink("softshrink", bound)
    x = as_float(x)
    return where(abs(x) <= bound, 0, x - bound * sign(x))


for _op in (hardshrink, softshrink):

    @_op.samples
    def _():
        yield from _with_kinks(-0.5, 0.0, 0.5)()
        yield sample((3, 4), bound=1.0)

    @_op.errors
    def _(op=_op):
        yield Failure(lambda: op(np.zeros(2), bound=-1.0), ValueRangeError, r"bound=-1.0 must be")


@composite(oracle=lambda x: x - np.tanh(x))
def tanhshrink(x: Tensor):
    """Return x - tanh(x).

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Notes
    -----
    Near 0 the difference cancels: the error is absolute, about eps |x|.
    """
    x = as_float(x)
    return x - tanh(x)


tanhshrink.samples(_elementwise)


# Exponential linear units


@composite(
    real_only=NO_ORDER,
    oracle=lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
)
def elu(x: Tensor, *, alpha: float = 1.0):
    """Return x above 0 and alpha (e^x - 1) elsewhere (Clevert et al. 2016, eq. 15).

    Parameters
    ----------
    x : Tensor, any shape.
    alpha : number; -alpha is the limit at -inf.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    x = as_float(x)
    positive = x > 0
    return where(positive, x, alpha * expm1(where(positive, 0, x)))


def _celu_oracle(x, alpha=1.0):
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


@composite(real_only=NO_ORDER, oracle=_celu_oracle)
def celu(x: Tensor, *, alpha: float = 1.0):
    """Return x above 0 and alpha (e^(x / alpha) - 1) elsewhere: slope 1 at 0 for any alpha.

    Parameters
    ----------
    x : Tensor, any shape.
    alpha : number above 0.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    ValueRangeError : ``alpha`` is not above 0.

    References
    ----------
    Barron 2017, "Continuously differentiable exponential linear units", eq. 2.
    """
    if not alpha > 0:
        raise ValueRangeError(f"celu: alpha={alpha} must be above 0.")
    x = as_float(x)
    positive = x > 0
    return where(positive, x, alpha * expm1(where(positive, 0, x) / alpha))


@celu.errors
def _():
    yield Failure(lambda: celu(np.zeros(2), alpha=0), ValueRangeError, r"alpha=0 must be above 0")


for _op in (elu, celu):

    @_op.samples
    def _():
        yield from _with_kinks(0.0)()
        yield sample((3, 4), alpha=0.7)


def _selu_oracle(x):
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


@composite(real_only=NO_ORDER, oracle=_selu_oracle)
def selu(x: Tensor):
    """Return the ELU with the two scales that keep mean 0 and variance 1 from layer to layer.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.

    References
    ----------
    Klambauer et al. 2017, "Self-normalizing neural networks", eq. 2 and 14.
    """
    return SELU_SCALE * elu(x, alpha=SELU_ALPHA)


selu.samples(_with_kinks(0.0))


# Smooth ones


@composite(
    real_only="x * tanh(log(1 + exp(x)))", oracle=lambda x: x * np.tanh(np.logaddexp(0.0, x))
)
def mish(x: Tensor):
    """Return x tanh(softplus(x)) (Misra 2020, eq. 1).

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    x = as_float(x)
    return x * tanh(softplus(x))


@mish.samples
def _():
    yield from _elementwise()
    yield sample(values(-90.0, -12.0, 0.0, 12.0, 90.0), value_only=True)


@composite(oracle=lambda x: x / (1 + np.abs(x)))
def softsign(x: Tensor):
    """Return x / (1 + |x|).

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    x = as_float(x)
    return x / (1 + abs(x))


@softsign.samples
def _():
    yield from _elementwise()
    yield sample(values(-90.0, 0.0, 90.0, np.nan), value_only=True)


def _gelu_tanh_oracle(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


@composite(oracle=_gelu_tanh_oracle)
def gelu_tanh(x: Tensor):
    """Return GELU in its approximation by tanh, within 5e-4 of `gelu`.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.

    References
    ----------
    Hendrycks & Gimpel 2016, "Gaussian error linear units (GELUs)", section 2.

    Notes
    -----
    As (1 + tanh(u)) / 2 = sigmoid(2 u), which keeps its digits below 0, where 1 + tanh(u) cancels.
    x + 0.044715 x^3 is formed as x (1 + 0.044715 x^2); in float16 its square overflows beyond 255,
    and the result is the right one all the same.
    """
    x = as_float(x)
    inner = x * (1 + 0.044715 * (x * x))
    return x * sigmoid(math.sqrt(8 / math.pi) * inner)


@gelu_tanh.samples
def _():
    yield from _elementwise()
    yield sample(values(-90.0, -12.0, 0.0, 12.0, 90.0), value_only=True)


# Along an axis


def _glu_oracle(x, axis=-1):
    first, second = np.split(x, 2, axis=axis)
    return first / (1 + np.exp(-second))


@composite(oracle=_glu_oracle)
def glu(x: Tensor, *, axis: int = -1):
    """Return a sigmoid(b) for the halves a and b of ``x`` along an axis.

    Parameters
    ----------
    x : Tensor, an even size 2 h along ``axis``.

    Returns
    -------
    Tensor, size h along ``axis``, a float dtype.

    Raises
    ------
    ShapeError : there is no such axis, or its size is odd.

    References
    ----------
    Dauphin et al. 2017, "Language modeling with gated convolutional networks", eq. 1.
    """
    inside = -x.ndim <= axis < x.ndim
    if not inside or x.shape[axis] % 2:
        why = f"the size {x.shape[axis]} along it is odd" if inside else "there is no such axis"
        raise ShapeError(f"glu: x is {x.shape}, axis={axis}: {why}. Hint: it is cut in halves.")
    half = x.shape[axis] // 2
    first, second = split(as_float(x), (half, half), axis=axis)
    return first * sigmoid(second)


@glu.samples
def _():
    yield sample((3, 4))
    yield sample((4, 3), axis=0)
    yield sample((2, 4, 3), axis=-2)
    yield sample((0, 4))


@glu.errors
def _():
    yield Failure(lambda: glu(np.zeros((2, 3))), ShapeError, r"the size 3 along it is odd")
    yield Failure(lambda: glu(np.zeros(2), axis=1), ShapeError, r"axis=1: there is no such axis")


def _softmin_oracle(x, axis=-1):
    e = np.exp(np.min(x, axis=axis, keepdims=True) - x)
    return e / e.sum(axis=axis, keepdims=True)


@composite(real_only=NO_ORDER, oracle=_softmin_oracle)
def softmin(x: Tensor, *, axis: int = -1):
    """Return softmax(-x): the largest share for the smallest entry.

    Parameters
    ----------
    x : Tensor, one axis or more.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    return softmax(negative(as_float(x)), axis=axis)


@softmin.samples
def _():
    yield sample((3, 4))
    yield sample((3, 4), axis=0)
    yield sample(values(1000.0, 0.0, -1000.0))
