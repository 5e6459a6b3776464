"""State-space duality on raw arrays; the kernel is state_space_dual.c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, contiguous, rows, share, sum_of_parts, zeros


def takes_steps(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is any step, and anything in it."""
    x, _, _, B, *_ = inputs
    return x.size > 0 and B.size > 0


def ssd(
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    initial_state: Array | None = None,
    *,
    chunk_size: int = 64,
    return_last_state: bool = False,
) -> tuple[tuple[Array, ...], tuple[Array]]:
    """Return outputs and, if asked for, the last state, as `helixml.ssd` explains them.

    Parameters
    ----------
    x : (b, l, h, p), dt : (b, l, h), A : (h,), B, C : (b, l, g, n), D : (h,),
        initial_state : (b, h, p, n); float32 or float64, any strides.

    Returns
    -------
    outputs : y (b, l, h, p) and the last state (b, h, p, n).
    residuals : states before each chunk, and the last, (b, h, chunks + 1, n, p).
    """
    b, l, h, p = x.shape
    n = B.shape[3]
    size = _chunk(l, chunk_size)
    states: Array = empty((b, h, -(-l // size) + 1, n, p), x.dtype)
    states[:, :, 0] = 0 if initial_state is None else initial_state.swapaxes(2, 3)
    y: Array = empty(x.shape, x.dtype)
    call = _call(size, x, dt, A, B, C, D, y, states)
    share(call.run, b * h, x.size * n)
    if not return_last_state:
        return (y,), (states,)
    last: Array = empty((b, h, p, n), x.dtype)
    np.copyto(last, states[:, :, -1].swapaxes(2, 3))
    return (y, last), (states,)


def ssd_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    chunk_size: int = 64,
    return_last_state: bool = False,
) -> tuple[Array | None, ...]:
    """Return the gradients of all inputs."""
    x, dt, A, B, C, D, _ = inputs
    assert x is not None and dt is not None and A is not None and B is not None and C is not None
    b, l, h, p = x.shape
    g, n = B.shape[2:]
    (states,) = residuals
    dy = cotangents[0] if cotangents[0] is not None else zeros(x.shape, x.dtype)
    dlast = cotangents[1] if return_last_state else None
    dstate: Array = empty((b, h, n, p), x.dtype)
    dstate[...] = 0 if dlast is None else dlast.swapaxes(2, 3)
    dx: Array = empty(x.shape, x.dtype)
    ddt: Array = empty((b, h, l), x.dtype)
    dB, dC = (empty((b, l, h, n), x.dtype) for _ in "BC")
    dA, dD = (empty((b, h), x.dtype) for _ in "AD")
    call = _call(_chunk(l, chunk_size), x, dt, A, B, C, D, dx, states)
    call.set_gradients(
        _heads_first(dy), _heads_first(dx), ddt, dA, _heads_first(dB), _heads_first(dC), dD, dstate
    )
    share(call.backward, b * h, x.size * n)
    each = (
        dx,
        ddt.swapaxes(1, 2),
        sum_of_parts(dA),
        _sum_of_heads(dB, g),
        _sum_of_heads(dC, g),
        None if D is None else sum_of_parts(dD),
        dstate.swapaxes(2, 3),
    )
    return tuple(x if need else None for x, need in zip(each, needs, strict=True))


def _call(
    size: int,
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None,
    y: Array,
    states: Array,
) -> _kernels.Dual:
    return _kernels.Dual(
        size,
        _heads_first(x),
        contiguous(dt.swapaxes(1, 2)),
        contiguous(A),
        _heads_first(B),
        _heads_first(C),
        None if D is None else contiguous(D),
        _heads_first(y),
        states,
    )


def _heads_first(x: Array) -> Array:
    """Return (b, l, h, p) as (b, h, l, p), the last axis contiguous."""
    return rows(x.swapaxes(1, 2))


def _sum_of_heads(x: Array, groups: int) -> Array:
    """Return (b, l, g, n), sums over the heads of a group, of (b, l, h, n)."""
    b, l, h, n = x.shape
    if h == groups:
        return x
    total: Array = empty((b, l, groups, n), x.dtype)
    np.add.reduce(x.reshape(b, l, groups, h // groups, n), axis=3, out=total)
    return total


def _chunk(length: int, most: int) -> int:
    """Return the steps of a chunk, all as equal as they can be."""
    count = -(-length // min(most, _kernels.SSD_STEPS))
    return -(-length // count)
