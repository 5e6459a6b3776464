"""Reference kernels of state-space duality: the recurrence, a head and a step at a time.

As slow and obvious as `reference`, whose conventions and helpers they share. For each head, with
a_t = exp(dt_t A) and h a matrix of channels and states:

    h_t = a_t h_(t-1) + dt_t x_t B_t^T,  y_t = h_t C_t + D x_t
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helixml.backends.reference import Array, Forward, Optional, cotangent, wanted, wide, zeros


def ssd(
    x: Array,
    dt: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Optional,
    initial_state: Optional,
    *,
    chunk_size: int,
    return_last_state: bool,
) -> Forward:
    """Return y, and the last state if asked for; the residual is every h_t, the first one too."""
    b, length, heads, p = x.shape
    share = heads // B.shape[2]
    y = np.zeros(x.shape)
    states = np.zeros((b, heads, length + 1, p, B.shape[3]))
    if initial_state is not None:
        states[:, :, 0] = initial_state
    for i, head in np.ndindex(b, heads):
        skip = 0.0 if D is None else float(D[head])
        for t in range(length):
            x_t, step = wide(x[i, t, head]), float(dt[i, t, head])
            B_t, C_t = wide(B[i, t, head // share]), wide(C[i, t, head // share])
            h = np.exp(step * float(A[head])) * states[i, head, t] + step * np.outer(x_t, B_t)
            states[i, head, t + 1] = h
            y[i, t, head] = h @ C_t + skip * x_t
    outputs = (y, states[:, :, -1]) if return_last_state else (y,)
    return tuple(output.astype(x.dtype) for output in outputs), (states,)


def ssd_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    chunk_size: int,
    return_last_state: bool,
) -> tuple[Optional, ...]:
    """Return the gradients of all seven inputs, walking time backward.

    gh is the cotangent of h_t. It begins as that of the last state, and at each step, from the
    latest to the first:

    - y_t reads h_t:        gh += gy_t C_t^T,  gC_t = h_t^T gy_t
    - y_t reads x_t:        gx_t = D gy_t,  gD += gy_t . x_t
    - h_t reads the input:  gx_t += dt_t gh B_t,  gB_t = dt_t gh^T x_t,  gdt_t = x_t . gh B_t
    - h_t reads the decay:  gA += dt_t a_t (gh . h_(t-1)),  gdt_t += A a_t (gh . h_(t-1))
    - h_t reads h_(t-1):    gh <- a_t gh

    What is left of gh is the gradient of the initial state.
    """
    x, dt, A, B, C, D, _ = inputs
    assert x is not None and dt is not None
    assert A is not None and B is not None and C is not None
    b, length, heads, p = x.shape
    share = heads // B.shape[2]
    states = residuals[0]
    gy = cotangent(cotangents[0], x.shape)
    g_state = cotangent(cotangents[1] if return_last_state else None, (b, heads, p, B.shape[3]))
    gx, gdt, gA, gB, gC, gD = zeros(x), zeros(dt), zeros(A), zeros(B), zeros(C), np.zeros(heads)
    for i, head in np.ndindex(b, heads):
        rate, group = float(A[head]), head // share
        skip = 0.0 if D is None else float(D[head])
        gh = g_state[i, head]
        for t in reversed(range(length)):
            x_t, step, g = wide(x[i, t, head]), float(dt[i, t, head]), gy[i, t, head]
            B_t, C_t = wide(B[i, t, group]), wide(C[i, t, group])
            past, h = states[i, head, t], states[i, head, t + 1]
            gh = gh + np.outer(g, C_t)
            gC[i, t, group] += h.T @ g
            gD[head] += g @ x_t
            gx[i, t, head] = skip * g + step * gh @ B_t
            gB[i, t, group] += step * gh.T @ x_t
            decay = np.exp(step * rate)
            kept = decay * np.sum(gh * past)
            gA[head] += step * kept
            gdt[i, t, head] = x_t @ gh @ B_t + rate * kept
            gh = decay * gh
        g_state[i, head] = gh
    return wanted([gx, gdt, gA, gB, gC, gD, g_state], needs, inputs)


KERNELS: tuple[Callable[..., Any], ...] = (ssd, ssd_vjp)
