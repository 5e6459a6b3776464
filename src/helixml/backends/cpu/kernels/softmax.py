"""Softmax and its logarithm on raw arrays; the kernel is softmax.c, for rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
import helixml.backends.cpu.kernels._small as _small
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, share, table


def takes_axis(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether the axis is one of x, and has entries; errors are left to the definition."""
    x, axis = inputs[0], attributes.get("axis", -1)
    return -x.ndim <= axis < x.ndim and x.shape[axis] > 0


def softmax(x: Array, *, axis: int = -1) -> tuple[tuple[Array], tuple[Array]]:
    """Return exp(x) / sum(exp(x)) along an axis.

    Parameters
    ----------
    x : float32 or float64, any strides; if the axis is not its last, it is copied.

    Returns
    -------
    outputs : y, of the shape of x.
    residuals : y again.
    """
    return _forward(x, axis, logarithm=False)


def log_softmax(x: Array, *, axis: int = -1) -> tuple[tuple[Array], tuple[Array]]:
    """Return the logarithm of `softmax`, which has the same parameters."""
    return _forward(x, axis, logarithm=True)


def softmax_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    axis: int = -1,
) -> tuple[Array | None]:
    """Return the gradient of x."""
    return (_backward(cotangents[0], residuals[0], axis, logarithm=False) if needs[0] else None,)


def log_softmax_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    axis: int = -1,
) -> tuple[Array | None]:
    """Return the gradient of x."""
    return (_backward(cotangents[0], residuals[0], axis, logarithm=True) if needs[0] else None,)


def _forward(x: Array, axis: int, *, logarithm: bool) -> tuple[tuple[Array], tuple[Array]]:
    if axis in (-1, x.ndim - 1):
        few: Array | None = _small.softmax(x, logarithm)
        if few is not None:
            return (few,), (few,)
    moved = _moved(x, axis, -1)
    y = empty(moved.shape, x.dtype)
    call = _kernels.Softmax(logarithm, table(moved), table(y), None, None)
    share(call.run, x.size // x.shape[axis], x.size)
    y = _moved(y, -1, axis)
    return (y,), (y,)


def _backward(g: Array | None, y: Array, axis: int, *, logarithm: bool) -> Array:
    assert g is not None
    moved = _moved(y, axis, -1)
    dx = empty(moved.shape, y.dtype)
    call = _kernels.Softmax(logarithm, None, table(moved), table(_moved(g, axis, -1)), table(dx))
    share(call.backward, y.size // y.shape[axis], y.size)
    return _moved(dx, -1, axis)


def _moved(x: Array, source: int, target: int) -> Array:
    """Return x with an axis moved; x itself, which is much faster, if both are the last."""
    last = (-1, x.ndim - 1)
    return x if source in last and target in last else np.moveaxis(x, source, target)
