"""The causal depthwise convolution on raw arrays; the kernels are conv.c and conv_time.c.

The first wants channels contiguous: x as (b, l, d), the weight as (k, d). The arrays (b, d, l)
that layers pass are usually views of such memory. The second takes them as they are, with time
contiguous. Either way what lies in memory as x does costs no copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import (
    Array,
    contiguous,
    rows,
    share,
    sum_of_parts,
    zeros,
)


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
    along_time = _has_contiguous_time(x)
    y = _view(empty(_view(x, along_time).shape, x.dtype), along_time)
    conv = _conv(along_time, x, weight, bias, initial_state, activation, y)
    share(conv.run, _items(x, along_time), x.size * weight.shape[1])
    return (y,), ()


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
    b, d, _ = x.shape
    k = weight.shape[1]
    along_time = _has_contiguous_time(x)
    items = _items(x, along_time)
    conv = _conv(along_time, x, weight, bias, initial_state, activation, None)
    dx = _view(empty(_view(x, along_time).shape, x.dtype), along_time)
    dpast = None
    if initial_state is not None:
        dpast = _view(zeros(_view(initial_state, along_time).shape, x.dtype), along_time)
    if along_time:
        dweight, dbias = empty((b, d, k), x.dtype), empty((b, d), x.dtype)
    else:
        dweight, dbias = zeros((items, k, d), x.dtype), zeros((items, d), x.dtype)
    conv.set_gradients(
        rows(_view(g, along_time)),
        _view(dx, along_time),
        dweight,
        dbias,
        None if dpast is None else _view(dpast, along_time),
    )
    share(conv.backward, items, x.size * k)
    dweight = sum_of_parts(dweight)
    return (
        dx if needs[0] else None,
        (dweight if along_time else dweight.T) if needs[1] else None,
        sum_of_parts(dbias) if needs[2] and bias is not None else None,
        dpast if needs[3] else None,
    )


def _has_contiguous_time(x: Array) -> bool:
    """Say whether x (b, d, l) is for conv_time.c: time is contiguous, and channels are not."""
    has_channels = x.shape[1] > 1 and x.strides[1] == x.itemsize
    return bool(x.strides[2] == x.itemsize and not has_channels)


def _view(x: Array, along_time: bool) -> Array:
    """Return (b, d, l) as the kernel takes it, or what the kernel takes as (b, d, l)."""
    return x if along_time else x.mT


def _items(x: Array, along_time: bool) -> int:
    """Return the number of items of work: (batch, channel) or (batch, piece of time)."""
    b, d, l = x.shape
    return int(b * (d if along_time else math.ceil(l / _kernels.CONV_STEPS)))


def _conv(
    along_time: bool,
    x: Array,
    weight: Array,
    bias: Array | None,
    initial_state: Array | None,
    activation: str | None,
    y: Array | None,
) -> _kernels.Conv:
    """Describe a convolution to the kernel, copying what is not laid out as it wants."""
    return _kernels.Conv(
        along_time,
        activation == "silu",
        rows(_view(x, along_time)),
        contiguous(weight if along_time else weight.T),
        None if bias is None else contiguous(bias),
        None if initial_state is None else rows(_view(initial_state, along_time)),
        None if y is None else _view(y, along_time),
    )
