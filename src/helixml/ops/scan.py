"""Scans: linear recurrences along an axis, the primitive under every state-space layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import shapes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError
from helixml.ops.movement import broadcast_to, concat, expand_dims, permute_dims

Array = Any


def _scan_oracle(a, b, initial, reverse=False):
    a, b = np.broadcast_arrays(a, b)
    h = np.zeros(b.shape[:-1], b.dtype) if initial is None else initial
    result = np.zeros(b.shape, np.result_type(a, b, h))
    order = range(b.shape[-1])
    for t in reversed(order) if reverse else order:
        h = a[..., t] * h + b[..., t]
        result[..., t] = h
    return result


@primitive(holomorphic=True, oracle=_scan_oracle)
def scan(B, a: Array, b: Array, initial: Array | None, reverse: bool = False):
    """Compute h_t = a_t h_(t-1) + b_t along the last axis: `linear_scan` with clean inputs.

    Parameters
    ----------
    a, b : Tensor, (..., l).
    initial : Tensor, (...,), or None for zeros.
    reverse : run from the last step to the first.

    Returns
    -------
    Tensor, (..., l).

    Notes
    -----
    Gradient: with s_t = g_t + a_(t+1) s_(t+1), itself a scan from the other end, the gradients of
    b, a and the initial state are s_t, s_t h_(t-1) and a_0 s_0.
    """
    return B.linear_scan(a, b, initial, reverse=reverse)


@scan.diagnose
def _(a, b, initial, reverse):
    if a.shape != b.shape or (initial is not None and initial.shape != b.shape[:-1]):
        past = "" if initial is None else f", initial is {initial.shape}"
        return ShapeError(f"scan: a is {a.shape}, b is {b.shape}{past}. Hint: use linear_scan.")
    return DTypeError(f"scan: does not take {b.dtype} on device {str(b.device)!r}.")


@scan.vjp("a", "b", "initial")
def _(g, a, out, initial, reverse, needs):
    if out.shape[-1] == 0:
        nothing = None if initial is None else initial * 0
        return (a * 0, g, nothing)
    ahead = slice(1, None) if not reverse else slice(None, -1)
    behind = slice(None, -1) if not reverse else slice(1, None)
    first = slice(0, 1) if not reverse else slice(-1, None)
    edge = a[..., first] * 0
    shifted = [a[..., ahead], edge] if not reverse else [edge, a[..., ahead]]
    s = scan(concat(shifted, axis=-1), g, None, not reverse)
    ga = None
    if needs[0]:
        start = out[..., first] * 0 if initial is None else expand_dims(initial, -1)
        past = out[..., behind]
        ga = s * concat([start, past] if not reverse else [past, start], axis=-1)
    g0 = (a[..., first] * s[..., first])[..., 0] if needs[2] else None
    return ga, s, g0


scan.flops(lambda out: 2 * out.size)


@scan.samples
def _():
    yield sample((2, 5), (2, 5), None)
    yield sample((2, 5), (2, 5), (2,), reverse=True)
    yield sample((2, 3, 4), (2, 3, 4), (2, 3))
    yield sample((2, 1), (2, 1), (2,))
    yield sample((2, 0), (2, 0), None)


def _linear_oracle(a, b, initial_state=None, axis=-1, reverse=False):
    a, b = np.broadcast_arrays(a, b)
    moved = _scan_oracle(np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1), initial_state, reverse)
    return np.moveaxis(moved, -1, axis)


@composite(oracle=_linear_oracle)
def linear_scan(
    a: Tensor,
    b: Tensor,
    initial_state: Tensor | None = None,
    axis: int = -1,
    reverse: bool = False,
):
    """Compute all states of the recurrence h_t = a_t h_(t-1) + b_t.

    Parameters
    ----------
    a, b : Tensor, shapes that broadcast, with l steps along ``axis``.
    initial_state : Tensor in that shape without ``axis``: h before the first step; zeros if None.
    axis : int, the axis of time.
    reverse : run from the last step to the first.

    Returns
    -------
    Tensor, every h_t; the last one is ``h[..., -1]`` (the first in reverse), gradient included.

    Raises
    ------
    ShapeError : the shapes do not broadcast, or the initial state does not fit.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linear_scan(hx.full((4,), 0.5), hx.ones((4,)))
    tensor([1.   , 1.5  , 1.75 , 1.875])
    """
    shape = shapes.broadcast("linear_scan", a.shape, b.shape)
    axis = shapes.normalize_axis("linear_scan", axis, len(shape))
    last = len(shape) - 1
    order = (*(i for i in range(last + 1) if i != axis), axis)
    if initial_state is not None:
        state_shape = tuple(shape[i] for i in order[:-1])
        if shapes.broadcast("linear_scan", initial_state.shape, state_shape) != state_shape:
            raise ShapeError(
                f"linear_scan: the initial state is {initial_state.shape}, it must fit "
                f"{state_shape}: the operands' shape {shape} without axis {axis}."
            )
        initial_state = broadcast_to(initial_state, state_shape)
    a, b = broadcast_to(a, shape), broadcast_to(b, shape)
    if axis == last:
        return scan(a, b, initial_state, reverse)
    h = scan(permute_dims(a, order), permute_dims(b, order), initial_state, reverse)
    return permute_dims(h, tuple(order.index(i) for i in range(last + 1)))


@linear_scan.samples
def _():
    yield sample((2, 5), (2, 5))
    yield sample((2, 5, 3), (5, 1), (2, 3), axis=1)
    yield sample((4,), (2, 4), reverse=True)
    yield sample(floats(0), floats(2, 0))


@linear_scan.errors
def _():
    from helixml.ops.creation import zeros

    x = zeros((2, 5))
    yield Failure(lambda: linear_scan(x, zeros((3, 5))), ShapeError, r"do not broadcast")
    yield Failure(lambda: linear_scan(x, x, zeros((3,))), ShapeError, r"linear_scan")
