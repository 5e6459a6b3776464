"""Reference kernels of activations, gates, layer_norm and linear, and of those for many tensors.

As slow and obvious as `reference`, whose conventions and helpers they share.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helixml.backends import reference
from helixml.backends.reference import (
    Array,
    Forward,
    Optional,
    cotangent,
    rows,
    wanted,
    wide,
    zeros,
)

Scalar = Callable[[float], float]


def gelu(x: float) -> float:
    """Return x P(x) with P the normal distribution function."""
    return x * math.erfc(-x / math.sqrt(2)) / 2


def gelu_slope(x: float) -> float:
    """Return P(x) + x p(x) with p the normal density."""
    return math.erfc(-x / math.sqrt(2)) / 2 + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


# name -> (value, derivative)
ACTIVATIONS: dict[str, tuple[Scalar, Scalar]] = {
    "silu": (reference.silu, reference.silu_slope),
    "gelu": (gelu, gelu_slope),
    "softplus": (reference.softplus, reference.sigmoid),
    "relu": (lambda x: max(x, 0.0), lambda x: float(x > 0)),
}


def each(function: Scalar, x: Array) -> Array:
    """Apply a function of one number to every element, in float64."""
    result = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        result[i] = function(float(x[i]))
    return result


def activation(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the kernels of an activation y = f(x): gx = g f'(x)."""
    value, slope = ACTIVATIONS[name]

    def forward(x: Array) -> Forward:
        return (np.asarray(each(value, x), x.dtype),), ()

    def backward(
        cotangents: Sequence[Optional],
        needs: Sequence[bool],
        inputs: Sequence[Optional],
        residuals: Sequence[Array],
    ) -> tuple[Optional, ...]:
        (x,) = inputs
        assert x is not None
        return wanted([cotangent(cotangents[0], x.shape) * each(slope, x)], needs, inputs)

    forward.__name__, backward.__name__ = name, f"{name}_vjp"
    return forward, backward


def gate(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the kernels of a gate y = x f(z): gx = g f(z), gz = g x f'(z)."""
    value, slope = ACTIVATIONS[name]

    def forward(x: Array, z: Array) -> Forward:
        return (np.asarray(wide(x) * each(value, z), x.dtype),), ()

    def backward(
        cotangents: Sequence[Optional],
        needs: Sequence[bool],
        inputs: Sequence[Optional],
        residuals: Sequence[Array],
    ) -> tuple[Optional, ...]:
        x, z = inputs
        assert x is not None and z is not None
        g = cotangent(cotangents[0], x.shape)
        return wanted([g * each(value, z), g * wide(x) * each(slope, z)], needs, inputs)

    forward.__name__, backward.__name__ = f"{name}_gate", f"{name}_gate_vjp"
    return forward, backward


def product(
    name: str, operation: Callable[[Any, Any], Any], instead: float
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the kernels of z = x o y, where y = ``instead`` if x is 0 and y singular.

    ``chain`` is x y and singular where y is not finite: gx = g y, gy = g x. ``quotient`` is x / y
    and singular where y is 0 or nan: gx = g / y, gy = -g x / y^2. Where y was replaced, gy is 0.
    """

    def replaced(x: Array, y: Array) -> tuple[Array, Array, Array]:
        x, y = (np.array(array) for array in np.broadcast_arrays(wide(x), wide(y)))
        fine = np.isfinite(y) if name == "chain" else abs(y) > 0
        replaced = (x == 0) & ~fine
        y[replaced] = instead
        return x, y, replaced

    def forward(x: Array, y: Array) -> Forward:
        dtype = x.dtype
        x, y, _ = replaced(x, y)
        z = np.empty(x.shape)
        for i in np.ndindex(x.shape):
            z[i] = operation(x[i], y[i])
        return (z.astype(dtype),), ()

    def backward(
        cotangents: Sequence[Optional],
        needs: Sequence[bool],
        inputs: Sequence[Optional],
        residuals: Sequence[Array],
    ) -> tuple[Optional, ...]:
        x, y = inputs
        assert x is not None and y is not None
        shapes = x.shape, y.shape
        x, y, singular = replaced(x, y)
        g = cotangent(cotangents[0], x.shape)
        gx, gy = (g * y, g * x) if name == "chain" else (g / y, -g * x / y / y)
        gy = np.where(singular, 0, gy)
        return wanted(
            [summed_to(*pair) for pair in zip((gx, gy), shapes, strict=True)], needs, inputs
        )

    forward.__name__, backward.__name__ = name, f"{name}_vjp"
    return forward, backward


def summed_to(g: Array, shape: tuple[int, ...]) -> Array:
    """Return the gradient of an operand that was broadcast from ``shape``."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = tuple(a for a, n in enumerate(shape) if n == 1 != g.shape[a])
    return np.asarray(g.sum(axis=stretched, keepdims=True))


def log_softmax(x: Array, *, axis: int) -> Forward:
    """Return the logarithm of softmax along ``axis``; the output is its own residual."""
    lines = np.moveaxis(x, axis, -1)
    y = np.empty(lines.shape)
    for i in rows(lines):
        y[i] = reference.log_softmax(lines[i])
    result = np.moveaxis(y, -1, axis).astype(x.dtype)
    return (result,), (result,)


def log_softmax_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    axis: int,
) -> tuple[Optional, ...]:
    """Return the gradient of x: dy_i/dx_j = [i = j] - e^(y_j), so gx = g - e^y sum_i g_i."""
    y = np.moveaxis(wide(residuals[0]), axis, -1)
    g = np.moveaxis(cotangent(cotangents[0], residuals[0].shape), axis, -1)
    gx = np.empty_like(y)
    for i in rows(y):
        gx[i] = g[i] - np.exp(y[i]) * sum(g[i])
    return wanted([np.moveaxis(gx, -1, axis)], needs, inputs)


# Layer norm: y_i = n_i w_i + b_i, n_i = (s_i - m) r with s = x + residual, m the mean of s and
# r = (mean_j (s_j - m)^2 + eps)^(-1/2)


def layer_norm(
    x: Array, weight: Array, bias: Optional, residual: Optional, *, eps: float
) -> Forward:
    """Return y and, if there is a residual, the sum s."""
    s = x if residual is None else x + residual
    y = np.empty(x.shape)
    for i in rows(x):
        y[i] = normal(s[i], eps)[0] * weight + (0 if bias is None else bias)
    y = y.astype(x.dtype)
    return (y,) if residual is None else (y, s), (s,)


def normal(s: Array, eps: float) -> tuple[Array, float]:
    """Return n and r of one row."""
    centred = wide(s) - sum(wide(s)) / s.size
    r = float((sum(centred**2) / s.size + eps) ** -0.5)
    return centred * r, r


def layer_norm_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    eps: float,
) -> tuple[Optional, ...]:
    """Return the gradients of x, weight, bias and residual.

    With v = g w:  gs_j = r (v_j - mean_i v_i - n_j mean_i v_i n_i).  The sum s is an output too,
    whose cotangent joins. gw_i and gb_i are sums over rows of g_i n_i and g_i.
    """
    _, weight, bias, residual = inputs
    assert weight is not None
    s = wide(residuals[0])
    g = cotangent(cotangents[0], s.shape)
    g_sum = cotangent(cotangents[1] if residual is not None else None, s.shape)
    gs, gw, gb = np.empty(s.shape), zeros(weight), zeros(weight)
    d = s.shape[-1]
    for i in rows(s):
        n, r = normal(s[i], eps)
        v = g[i] * weight
        gs[i] = r * (v - sum(v) / d - n * sum(v * n) / d) + g_sum[i]
        gw += g[i] * n
        gb += g[i]
    return wanted([gs, gw, None if bias is None else gb, gs], needs, inputs)


# Linear: y = f(p), p = x W^T + b


def before_activation(x: Array, weight: Array, bias: Optional) -> Array:
    """Return p in float64."""
    p = np.empty((*x.shape[:-1], len(weight)))
    for i in np.ndindex(p.shape):
        p[i] = sum(wide(x[i[:-1]]) * weight[i[-1]]) + (0 if bias is None else float(bias[i[-1]]))
    return p


def linear(x: Array, weight: Array, bias: Optional, *, activation: str | None) -> Forward:
    """Return y; no residual."""
    p = before_activation(x, weight, bias)
    y = p if activation is None else each(ACTIVATIONS[activation][0], p)
    return (y.astype(x.dtype),), ()


def linear_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    activation: str | None,
) -> tuple[Optional, ...]:
    """Return the gradients of x, weight and bias: gx = gp W, gW = gp^T x, gb = sum of gp."""
    x, weight, bias = inputs
    assert x is not None and weight is not None
    g = cotangent(cotangents[0], (*x.shape[:-1], len(weight)))
    if activation is not None:
        g = g * each(ACTIVATIONS[activation][1], before_activation(x, weight, bias))
    gx, gw, gb = zeros(x), zeros(weight), np.zeros(len(weight))
    for i in rows(x):
        for j in range(len(weight)):
            gx[i] += g[i][j] * weight[j]
            gw[j] += g[i][j] * x[i]
            gb[j] += g[i][j]
    return wanted([gx, gw, None if bias is None else gb], needs, inputs)


# Steps for many tensors: one after the other


def adamw_many_(
    params: Sequence[Array],
    grads: Sequence[Array],
    ms: Sequence[Array],
    vs: Sequence[Array],
    **settings: Any,
) -> None:
    """Take a step of `reference.adamw_` for the arrays at each position."""
    for arrays in zip(params, grads, ms, vs, strict=True):
        reference.adamw_(*arrays, **settings)


def sgd_many_(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Optional],
    **settings: Any,
) -> None:
    """Take a step of `reference.sgd_` for the arrays at each position."""
    for param, grad, velocity in zip(params, grads, velocities, strict=True):
        reference.sgd_(param, grad, velocity, **settings)


def lion_many_(
    params: Sequence[Array],
    grads: Sequence[Array],
    ms: Sequence[Array],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
) -> None:
    """Take a step of Lion for the elements at each position."""
    for param, grad, m in zip(params, grads, ms, strict=True):
        for i in np.ndindex(param.shape):
            p, g, mean = float(param[i]), float(grad[i]), float(m[i])
            param[i] = p - lr * (np.sign(beta1 * mean + (1 - beta1) * g) + weight_decay * p)
            m[i] = beta2 * mean + (1 - beta2) * g


# Of many tensors: their norm, and scaling


def norm_many(xs: Sequence[Array]) -> Forward:
    """Return the Euclidean norm of all elements; no residual."""
    total = sum(float(x[i]) ** 2 for x in xs for i in np.ndindex(x.shape))
    with np.errstate(over="ignore"):  # beyond the dtype it is inf
        return (np.asarray(math.sqrt(total), xs[0].dtype),), ()


def scale_many_(xs: Sequence[Array], *, factor: float) -> None:
    """Multiply every element with ``factor``."""
    for x in xs:
        for i in np.ndindex(x.shape):
            x[i] = float(x[i]) * factor


KERNELS: tuple[Callable[..., Any], ...] = (
    *(kernel for name in ("silu", "gelu", "softplus") for kernel in activation(name)),
    *product("chain", operator.mul, 0.0),
    *product("quotient", operator.truediv, 1.0),
    *(kernel for name in ("silu", "gelu") for kernel in gate(name)),
    log_softmax,
    log_softmax_vjp,
    layer_norm,
    layer_norm_vjp,
    linear,
    linear_vjp,
    adamw_many_,
    sgd_many_,
    lion_many_,
    norm_many,
    scale_many_,
)
