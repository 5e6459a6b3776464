"""The selective scan on raw arrays: brings them to the kernel's layout and shares the work.

The kernel wants channels contiguous: u, delta, z as (b, l, d), B and C as (b, g, l, n) or
(n, d). The arrays (b, d, l) that layers pass are usually views of such memory and then cost
no copy; results are views of such memory too. Shapes are the op's business and are not
checked here. The mathematics is in scan.c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

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

# A group's channels are worked in several parts where there are few sequences to share.
FEW_SEQUENCES = 4
CHANNELS_IN_PART = 64


def selective_scan(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    z: Array | None = None,
    delta_bias: Array | None = None,
    initial_state: Array | None = None,
    *,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Run the scan; return its outputs and residuals.

    Parameters
    ----------
    u, delta, z : (b, d, l), float32 or float64, any strides; z may be None.
    A : (d, n).
    B, C : (d, n), (b, n, l) or (b, g, n, l), g a divisor of d.
    D, delta_bias : (d,) or None.
    initial_state : (b, d, n) or None for zeros.

    Returns
    -------
    outputs : y (b, d, l) and, if asked for, the last state (b, d, n).
    residuals : the states before each chunk of time steps and the last, (b, chunks + 1, n, d).
    """
    b, d, l = u.shape
    states = empty((b, math.ceil(l / _kernels.SCAN_STEPS) + 1, A.shape[1], d), u.dtype)
    states[:, 0] = 0 if initial_state is None else initial_state.mT
    y = empty((b, l, d), u.dtype)
    sizes = _sizes(u, A, B, C)
    scan = _scan(sizes, delta_softplus, u, delta, A, B, C, D, z, delta_bias, y, states)
    share(scan.run, _items(sizes), u.size * A.shape[1])
    last_state = (states[:, -1].copy().mT,) if return_last_state else ()
    return (y.mT, *last_state), (states,)


def selective_scan_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> tuple[Array | None, ...]:
    """Return the gradients of selective_scan's nine inputs, None where not needed.

    Parameters
    ----------
    cotangents : of y (b, d, l) and, if it was returned, of the last state (b, d, n);
        any may be None.
    """
    u, delta, A, B, C, D, z, delta_bias, _ = inputs
    assert u is not None and delta is not None
    assert A is not None and B is not None and C is not None
    b, d, l = u.shape
    n = A.shape[1]
    (states,) = residuals
    sizes = _sizes(u, A, B, C)
    scan = _scan(sizes, delta_softplus, u, delta, A, B, C, D, z, delta_bias, None, states)

    g = np.broadcast_to(np.zeros(d, u.dtype), (b, l, d))
    if cotangents[0] is not None:
        g = _steps(cotangents[0].mT)
    dstate = zeros((b, n, d), u.dtype)
    if return_last_state and cotangents[1] is not None:
        dstate[...] = cotangents[1].mT
    du, ddelta = empty((b, l, d), u.dtype), empty((b, l, d), u.dtype)
    dz = None if z is None else empty((b, l, d), u.dtype)
    dA, dD, dbias = (zeros(shape, u.dtype) for shape in [(b, n, d), (b, d), (b, d)])
    dB, dC = (zeros(_partial_shape(x, sizes), u.dtype) for x in (B, C))
    scan.set_gradients(g, du, ddelta, dz, dA, dB, dC, dD, dbias, dstate)
    share(scan.backward, _items(sizes), u.size * n)

    gradients = (
        du.mT,
        ddelta.mT,
        sum_of_parts(dA).T,
        _total(dB, B),
        _total(dC, C),
        sum_of_parts(dD),
        None if dz is None else dz.mT,
        sum_of_parts(dbias),
        dstate.mT,
    )
    wanted = zip(gradients, inputs, needs, strict=True)
    return tuple(x if need and given is not None else None for x, given, need in wanted)


def _sizes(u: Array, A: Array, B: Array, C: Array) -> tuple[int, ...]:
    """Return (b, l, d, n, groups, parts); the number of parts depends on the others only."""
    b, d, l = u.shape
    groups = max(x.shape[1] if x.ndim == 4 else 1 for x in (B, C))
    parts = max(1, min(FEW_SEQUENCES, d // groups // CHANNELS_IN_PART))
    return b, l, d, A.shape[1], groups, 1 if b * groups >= FEW_SEQUENCES else parts


def _items(sizes: tuple[int, ...]) -> int:
    """Return the number of items of work: (batch, group, part)."""
    b, _, _, _, groups, parts = sizes
    return b * groups * parts


def _scan(
    sizes: tuple[int, ...],
    delta_softplus: bool,
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None,
    z: Array | None,
    delta_bias: Array | None,
    y: Array | None,
    states: Array,
) -> _kernels.Scan:
    """Describe a scan to the kernel, copying what is not laid out as it wants."""
    return _kernels.Scan(
        sizes,
        delta_softplus,
        _steps(u.mT),
        _steps(delta.mT),
        None if z is None else _steps(z.mT),
        y,
        np.ascontiguousarray((A / np.log(2)).T, dtype=A.dtype),
        _coefficients(B, sizes),
        _coefficients(C, sizes),
        None if D is None else contiguous(D),
        None if delta_bias is None else contiguous(delta_bias),
        states,
    )


def _steps(x: Array) -> Array:
    """Return x (b, l, d), or a copy, with its channels or else its time contiguous."""
    if x.flags.aligned and x.shape[-1] > 1 and x.strides[-2] == x.itemsize:
        return x
    return rows(x)


def _coefficients(x: Array, sizes: tuple[int, ...]) -> Array:
    """Return B or C as (n, d), or as (b, groups, l, n) with a group repeated where needed."""
    b, l, _, n, groups, _ = sizes
    if x.ndim == 2:
        return rows(x.T)
    if x.ndim == 3:
        x = x[:, None]
    return np.broadcast_to(rows(x.mT), (b, groups, l, n))


def _partial_shape(x: Array, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the partial sums that the kernel makes of the gradient of B or C."""
    b, l, d, n, groups, parts = sizes
    return (b, n, d) if x.ndim == 2 else (parts, b, groups, l, n)


def _total(partial: Array, x: Array) -> Array:
    """Sum the partial gradients of x, in order, to its shape."""
    summed = sum_of_parts(partial).mT
    if x.ndim == 2 or x.shape[1:-2] == summed.shape[1:-2]:
        return summed
    if summed.shape[1] == 1:
        return summed[:, 0]
    return summed.sum(axis=1, keepdims=x.ndim == 4)
