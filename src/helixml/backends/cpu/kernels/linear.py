"""The linear map of a layer on raw arrays; the kernel is that of matrix products, gemm.c.

Bias and activation are applied to a tile of the product while it is in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array
from helixml.backends.cpu.kernels.matmul import is_large, matmul, multiply


def takes(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether the kernels below take a call; others are left to the definition."""
    return attributes.get("activation") in (None, "relu")


def linear(
    x: Array, weight: Array, bias: Array | None = None, *, activation: str | None = None
) -> tuple[tuple[Array], tuple[Array, ...]]:
    """Return activation(x @ weight.T + bias).

    Parameters
    ----------
    x : (..., d), float32 or float64, any strides.
    weight : (n, d).
    bias : (n,) or None.
    activation : None or "relu".

    Returns
    -------
    outputs : (..., n).
    residuals : the output, where there is an activation.
    """
    finishes = bias is not None or activation is not None
    if finishes and is_large(x, weight.T):
        rows, columns = math.prod(x.shape[:-1]), len(weight)
        y = empty((*x.shape[:-1], columns), x.dtype)
        multiply(
            x.reshape(rows, -1),
            weight.T,
            y.reshape(rows, columns),
            bias=None if bias is None else np.ascontiguousarray(bias),
            activation=activation,
        )
    else:
        y = matmul(x, weight.T)
        if bias is not None:
            y = np.add(y, bias, out=y)
        if activation == "relu":
            y = np.maximum(y, 0, out=y)
    return (y,), () if activation is None else (y,)


def linear_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    activation: str | None = None,
) -> tuple[Array | None, ...]:
    """Return the gradients of x, weight and bias, None where not needed."""
    x, weight, _ = inputs
    (g,) = cotangents
    assert x is not None and weight is not None and g is not None
    if activation == "relu":
        g = np.where(residuals[0] <= 0, 0, g)
    rows = math.prod(x.shape[:-1])
    g_rows, x_rows = g.reshape(rows, len(weight)), x.reshape(rows, weight.shape[1])
    return (
        matmul(g, weight) if needs[0] else None,
        matmul(g_rows.T, x_rows) if needs[1] else None,
        g_rows.sum(axis=0) if needs[2] else None,
    )
