"""Reference kernels of what decoding uses: products with stored matrices, a step of a Mamba mixer.

As slow and obvious as `reference`, whose conventions and helpers they share. A stored matrix is W,
or diag(s) W with W of integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helixml.backends.reference import Array, Forward, Optional, cotangent, wanted, wide, zeros


class Stored:
    """A stored matrix, and the gradients that were added up for it."""

    def __init__(self, weight: Array, scale: Optional, bias: Optional = None) -> None:
        self.whole = wide(weight)
        self.scale = np.ones(len(weight)) if scale is None else wide(scale)
        self.bias = np.zeros(len(weight)) if bias is None else wide(bias)
        self.gweight, self.gscale, self.gbias = (
            zeros(x) for x in (self.whole, self.scale, self.bias)
        )

    def map(self, x: Array) -> Array:
        """Return the product with one vector, bias added."""
        y: Array = self.scale * (self.whole @ x) + self.bias
        return y

    def pull(self, g: Array, x: Array) -> Array:
        """Add the gradients of the product with ``x``; return that of ``x``."""
        self.gweight += np.outer(self.scale * g, x)
        self.gscale += g * (self.whole @ x)
        self.gbias += g
        gx: Array = self.whole.T @ (self.scale * g)
        return gx


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e^-x)."""
    y: Array = 1 / (1 + np.exp(-x))
    return y


def silu(x: Array) -> Array:
    """Return x sigmoid(x)."""
    y: Array = x * sigmoid(x)
    return y


def silu_slope(x: Array) -> Array:
    """Return the derivative of silu."""
    slope: Array = sigmoid(x) * (1 + x * (1 - sigmoid(x)))
    return slope


def stored_linear(x: Array, weight: Array, scale: Optional, bias: Optional) -> Forward:
    """Return s (W x) + b of each row; a matrix of wider floats than x widens the result."""
    matrix = Stored(weight, scale, bias)
    dtype = x.dtype if scale is not None else np.result_type(x.dtype, weight.dtype)
    y = np.zeros((*x.shape[:-1], len(weight)))
    for i in np.ndindex(x.shape[:-1]):
        y[i] = matrix.map(wide(x[i]))
    return (y.astype(dtype),), ()


def stored_linear_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
) -> tuple[Optional, ...]:
    """Return the gradients of x, of the matrix or its scale, and of the bias."""
    x, weight, scale, bias = inputs
    assert x is not None and weight is not None
    matrix, gx = Stored(weight, scale, bias), zeros(x)
    g = cotangent(cotangents[0], (*x.shape[:-1], len(weight)))
    for i in np.ndindex(x.shape[:-1]):
        gx[i] = matrix.pull(g[i], wide(x[i]))
    return wanted([gx, matrix.gweight, matrix.gscale, matrix.gbias], needs, inputs)


class Step:
    """One sequence's step, from x and its states to y and the next ones; see `mamba_step`."""

    def __init__(self, x: Array, past: Array, state: Array, parts: Parts) -> None:
        self.x, self.state = wide(x), wide(state)
        u, self.z = np.split(parts.enter.map(self.x), 2)
        self.seen = np.concatenate([wide(past), u[:, None]], axis=1)
        self.total = (self.seen * parts.conv_weight).sum(axis=1) + parts.conv_bias
        self.u = silu(self.total)
        n = state.shape[1]
        selected = parts.select.map(self.u)
        self.dt, self.B, self.C = np.split(selected, (len(selected) - 2 * n, len(selected) - n))
        self.p = parts.widen.map(self.dt)
        self.delta = np.logaddexp(0, self.p)
        self.rates = np.exp(parts.A_log)
        self.decay = np.exp(-self.delta[:, None] * self.rates)
        self.h = self.decay * self.state + np.outer(self.delta * self.u, self.B)
        self.q = self.h @ self.C + parts.D * self.u
        self.mixed = self.q * silu(self.z)
        self.y = parts.leave.map(self.mixed)

    def pull(self, parts: Parts, gy: Array, glater: Array, gh: Array) -> tuple[Array, ...]:
        """Add the gradients of the parts; return those of x, past and state."""
        gmixed = parts.leave.pull(gy, self.mixed)
        gq, gz = gmixed * silu(self.z), gmixed * self.q * silu_slope(self.z)
        gh = gh + np.outer(gq, self.C)
        parts.gD += gq * self.u
        gdrive = gh @ self.B  # of delta u
        gdecay = gh * self.state * self.decay  # of its exponent, -delta rates
        gdelta = gdrive * self.u - (gdecay * self.rates).sum(axis=1)
        parts.gA_log -= gdecay * self.delta[:, None] * self.rates
        gdt = parts.widen.pull(gdelta * sigmoid(self.p), self.dt)
        gselected = np.concatenate([gdt, gh.T @ (self.delta * self.u), self.h.T @ gq])
        gu = gq * parts.D + gdrive * self.delta + parts.select.pull(gselected, self.u)
        gtotal = gu * silu_slope(self.total)
        parts.gconv_weight += gtotal[:, None] * self.seen
        parts.gconv_bias += gtotal
        gseen = gtotal[:, None] * parts.conv_weight
        gseen[:, 1:] += glater
        gx = parts.enter.pull(np.concatenate([gseen[:, -1], gz]), self.x)
        return gx, gseen[:, :-1], gh * self.decay


class Parts:
    """The parameters of a mixer, in the op's order, and the gradients that were added up."""

    def __init__(self, given: Sequence[Optional]) -> None:
        enter, conv_weight, select, widen, A_log, D, leave = given[:7]
        in_bias, conv_bias, dt_bias, out_bias, in_scale, x_scale, dt_scale, out_scale = given[7:]
        assert enter is not None and conv_weight is not None and select is not None
        assert widen is not None and A_log is not None and D is not None and leave is not None
        self.enter, self.select = Stored(enter, in_scale, in_bias), Stored(select, x_scale)
        self.widen, self.leave = (
            Stored(widen, dt_scale, dt_bias),
            Stored(leave, out_scale, out_bias),
        )
        self.conv_weight, self.A_log, self.D = wide(conv_weight), wide(A_log), wide(D)
        self.conv_bias = np.zeros(len(D)) if conv_bias is None else wide(conv_bias)
        self.gconv_weight, self.gA_log, self.gD = map(zeros, (self.conv_weight, self.A_log, self.D))
        self.gconv_bias = zeros(self.conv_bias)

    def gradients(self) -> list[Array]:
        """Return the gradients, in the op's order."""
        enter, select, widen, leave = self.enter, self.select, self.widen, self.leave
        return [
            *(enter.gweight, self.gconv_weight, select.gweight, widen.gweight),
            *(self.gA_log, self.gD, leave.gweight),
            *(enter.gbias, self.gconv_bias, widen.gbias, leave.gbias),
            *(enter.gscale, select.gscale, widen.gscale, leave.gscale),
        ]


def mamba_step(x: Array, past: Array, state: Array, *rest: Optional) -> Forward:
    """Return y and the next states, a sequence at a time."""
    parts = Parts(rest)
    y, later, h = np.zeros((len(x), len(parts.leave.whole))), np.zeros(past.shape), zeros(state)
    for i in range(len(x)):
        step = Step(x[i], past[i], state[i], parts)
        y[i], later[i], h[i] = step.y, step.seen[:, 1:], step.h
    return (y.astype(x.dtype), later.astype(x.dtype), h.astype(x.dtype)), ()


def mamba_step_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
) -> tuple[Optional, ...]:
    """Return the gradients of all that is of floats, a sequence at a time."""
    x, past, state, *rest = inputs
    assert x is not None and past is not None and state is not None
    parts = Parts(rest)
    gy = cotangent(cotangents[0], (len(x), len(parts.leave.whole)))
    glater, gh = cotangent(cotangents[1], past.shape), cotangent(cotangents[2], state.shape)
    gx, gpast, gstate = zeros(x), zeros(past), zeros(state)
    for i in range(len(x)):
        step = Step(x[i], past[i], state[i], parts)
        gx[i], gpast[i], gstate[i] = step.pull(parts, gy[i], glater[i], gh[i])
    return wanted([gx, gpast, gstate, *parts.gradients()], needs, inputs)


KERNELS: tuple[Callable[..., Any], ...] = (
    stored_linear,
    stored_linear_vjp,
    mamba_step,
    mamba_step_vjp,
)
