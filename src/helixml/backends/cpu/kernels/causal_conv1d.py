"""The causal depthwise convolution on raw arrays; the kernel is conv.c.

The kernel wants channels contiguous: x as (b, l, d), the weight as (k, d). The arrays
(b, d, l) that layers pass are usually views of such memory and then cost no copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, rows, share


def causal_conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    initial_state: Array | None = None,
    *,
    activation: str | None = None,
) -> tuple[tuple[Array], tuple[()]]:
    """Return activation(sum_j weight_j x_(t-k+1+j) + bias), and no residuals.

    Parameters
    ----------
    x : (b, d, l), float32 or float64, any strides.
    weight : (d, k).
    bias : (d,) or None.
    initial_state : (b, d, k - 1): what came before x; zeros if None.
    activation : None or "silu".

    Returns
    -------
    outputs : y (b, d, l).
    """
    b, d, l = x.shape
    y = empty((b, l, d), x.dtype)
    conv = _conv(x, weight, bias, initial_state, activation, y)
    share(conv.forward, _items(x), x.size * weight.shape[1])
    return (y.mT,), ()


def causal_conv1d_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    activation: str | None = None,
) -> tuple[Array | None, ...]:
    """Return the gradients of x, weight, bias and initial_state, None where not needed."""
    x, weight, bias, initial_state = inputs
    (g,) = cotangents
    assert x is not None and weight is not None and g is not None
    b, d, l = x.shape
    k = weight.shape[1]
    items = _items(x)
    conv = _conv(x, weight, bias, initial_state, activation, None)
    dx = empty((b, l, d), x.dtype)
    dweight, dbias = np.zeros((items, k, d), x.dtype), np.zeros((items, d), x.dtype)
    dpast = None if initial_state is None else np.zeros((b, k - 1, d), x.dtype)
    conv.set_gradients(rows(g.mT), dx, dweight, dbias, dpast)
    share(conv.backward, items, x.size * k)
    return (
        dx.mT if needs[0] else None,
        dweight.sum(axis=0).T if needs[1] else None,
        dbias.sum(axis=0) if needs[2] and bias is not None else None,
        dpast.mT if needs[3] and dpast is not None else None,
    )


def _items(x: Array) -> int:
    """Return the number of items of work: (batch, piece of time)."""
    b, _, l = x.shape
    return int(b * math.ceil(l / _kernels.CONV_STEPS))


def _conv(
    x: Array,
    weight: Array,
    bias: Array | None,
    initial_state: Array | None,
    activation: str | None,
    y: Array | None,
) -> _kernels.Conv:
    """Describe a convolution to the kernel, copying what is not laid out as it wants."""
    return _kernels.Conv(
        activation == "silu",
        rows(x.mT),
        np.ascontiguousarray(weight.T),
        None if bias is None else np.ascontiguousarray(bias),
        None if initial_state is None else rows(initial_state.mT),
        y,
    )
