"""Activations: elementwise functions between the linear maps of a network, and gates made of them.

All but `relu` are fused ops: a backend may compute each, and its gradient, in one pass.
"""

from __future__ import annotations

import math

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite, fused
from helixml._core.samples import Failure, sample, values
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError
from helixml.ops.elementwise import exp, log1p, negative, sigmoid, where
from helixml.ops.logic import NO_ORDER
from helixml.ops.movement import as_float
from helixml.ops.special import erf

# What an element costs, by the formula in the docstring, and what its derivative does, times g:
# silu'(x) = s (1 + x (1 - s)) with s = sigmoid(x), softplus'(x) = s, and
# gelu'(x) = Phi(x) + x e^(-x^2 / 2) / sqrt(2 pi), where Phi takes 4 and the exponential 4.
FLOPS = {"relu": 1, "silu": 2, "gelu": 5, "softplus": 6}
FLOPS_VJP = {"relu": 1, "silu": 6, "gelu": 11, "softplus": 2}


def _elementwise():
    yield sample((3, 4))
    yield sample(())
    yield sample((0, 3))


def _with_tails():
    yield from _elementwise()
    yield sample(values(-90.0, -12.0, -0.0, 0.0, 12.0, 90.0), value_only=True)


@composite(real_only=NO_ORDER, oracle=lambda x: np.maximum(x, 0))
def relu(x: Tensor):
    """Return max(x, 0). The gradient at 0 is 0.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    return where(x <= 0, 0, x)


relu.samples(_elementwise)


def _silu_oracle(x):
    return x * sigmoid.oracle(x)


@fused(oracle=_silu_oracle)
def silu(x: Tensor):
    """Return x sigmoid(x), also called swish (Elfwing et al. 2018, eq. 3).

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.silu(hx.tensor([0.0, 100.0]))
    tensor([  0., 100.])
    """
    return x * sigmoid(x)


silu.samples(_with_tails)

_erf_oracle = np.vectorize(math.erf, otypes=[np.float64])


def _gelu_oracle(x):
    return x * 0.5 * (1 + _erf_oracle(x / math.sqrt(2)))


@fused(real_only="silu(x) takes complex numbers", oracle=_gelu_oracle)
def gelu(x: Tensor):
    """Return x Phi(x) with the normal distribution's Phi(x) = (1 + erf(x / sqrt(2))) / 2.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Notes
    -----
    Exact, without the approximation by tanh. Far below 0 the sum 1 + erf cancels: the error is
    absolute, about eps |x|.

    References
    ----------
    Hendrycks & Gimpel 2016, "Gaussian error linear units (GELUs)", section 2.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.gelu(hx.tensor([0.0, 100.0]))
    tensor([  0., 100.])
    """
    x = as_float(x)
    return x * (0.5 * (1 + erf(x * (1 / math.sqrt(2)))))


gelu.samples(_with_tails)


@fused(real_only="log(1 + exp(x))", oracle=lambda x: np.logaddexp(0.0, x))
def softplus(x: Tensor):
    """Return log(1 + e^x), as max(x, 0) + log1p(e^-|x|) so that nothing overflows.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    # where(x >= 0) and not maximum: at x = 0 the two parts' slopes 1 and -1/2 add up to 1/2.
    x = as_float(x)
    positive = where(x >= 0, x, 0)
    return positive + log1p(exp(where(x >= 0, negative(x), x)))


softplus.samples(_with_tails)

for _op in (silu, gelu, softplus):
    _op.flops(lambda out, per=FLOPS[_op.name]: per * out.size)
    _op.flops_vjp(lambda out, per=FLOPS_VJP[_op.name]: per * out.size)

# Gates


@fused(oracle=lambda x, gate: x * _silu_oracle(gate))
def silu_gate(x: Tensor, gate: Tensor):
    """Return x silu(gate): the gate of SwiGLU and of Mamba.

    Parameters
    ----------
    x, gate : Tensor, one shape, float.

    Returns
    -------
    Tensor, that shape.

    Raises
    ------
    ShapeError : the shapes differ. DTypeError : an operand is no float.

    References
    ----------
    Shazeer 2020, "GLU variants improve transformer", eq. 6 between its matrix products.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.silu_gate(hx.tensor([2.0, 3.0]), hx.tensor([100.0, 0.0]))
    tensor([200.,   0.])
    """
    return x * silu(gate)


@fused(oracle=lambda x, gate: x * _gelu_oracle(gate))
def gelu_gate(x: Tensor, gate: Tensor):
    """Return x gelu(gate): the gate of GEGLU.

    Parameters
    ----------
    x, gate : Tensor, one shape, float.

    Returns
    -------
    Tensor, that shape.

    Raises
    ------
    ShapeError : the shapes differ. DTypeError : an operand is no float.

    References
    ----------
    Shazeer 2020, "GLU variants improve transformer", eq. 6 between its matrix products.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.gelu_gate(hx.tensor([2.0, 3.0]), hx.tensor([100.0, 0.0]))
    tensor([200.,   0.])
    """
    return x * gelu(gate)


def _check_gate(op, x, gate):
    for name, tensor in (("x", x), ("gate", gate)):
        dtypes.check_floating(op, name, tensor.dtype)
    if x.shape != gate.shape:
        raise ShapeError(
            f"{op}: x is {x.shape}, gate is {gate.shape}; they must have one shape. "
            f"Hint: broadcast_to(gate, x.shape)."
        )


def _gate_samples():
    yield sample((3, 4), (3, 4))
    yield sample((2, 3, 5), (2, 3, 5))
    yield sample((), ())
    yield sample((0, 3), (0, 3))
    gates = values(-90.0, -12.0, -0.0, 0.0, 12.0, 90.0)
    yield sample((6,), gates, value_only=True)


def _gate_errors(op):
    from helixml.ops.creation import zeros

    x = zeros((2, 3))
    shapes = r"x is \(2, 3\), gate is \(3,\)"
    yield Failure(lambda: op(x, zeros((3,))), ShapeError, shapes)
    yield Failure(lambda: op(x, zeros((2, 3), "int64")), DTypeError, r"gate must be a float")


def _gate_flops_vjp(activation, out, needs):
    """Count g activation(gate) for x, and g x activation'(gate) for the gate."""
    for_x = (FLOPS[activation] + 1) * needs["x"]
    return (for_x + (FLOPS_VJP[activation] + 1) * needs["gate"]) * out.size


for _op in (silu_gate, gelu_gate):
    _op.options["kinds"] = "f"
    _op.check(lambda x, gate, op=_op.name: _check_gate(op, x, gate))
    _name = _op.name.removesuffix("_gate")
    _op.flops(lambda out, per=FLOPS[_name] + 1: per * out.size)
    _op.flops_vjp(lambda out, needs, name=_name: _gate_flops_vjp(name, out, needs))
    _op.samples(_gate_samples)
    _op.errors(lambda op=_op: _gate_errors(op))
