"""The reference device: slow, obvious kernels, for checking the fast ones and for reading.

Every extended function and every kernel of a fused op is written here as loops over rows or time
steps, with its derivative worked out by hand and the equation beside the line. Sums inside a kernel
are formed in float64 and rounded once, at the end, whatever the dtype of the inputs.

Arrays are NumPy's, and plain array functions are those of the CPU backend; its compiled kernels are
not used. The conventions of a kernel are in `dispatch`; begin with `softmax`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from helixml import dtypes
from helixml.backends.base import BackendBase
from helixml.backends.cpu import CpuBackend
from helixml.backends.dispatch import Kernel, KernelTable
from helixml.backends.reference_matrices import ReferenceLinearAlgebra
from helixml.device import Device
from helixml.errors import DeviceError
from helixml.shapes import Shape

__all__ = ["ReferenceBackend", "create"]

Array: TypeAlias = np.ndarray[Any, Any]
Optional: TypeAlias = Array | None  # an input that was left out, a cotangent that never came
Forward: TypeAlias = tuple[tuple[Array, ...], tuple[Array, ...]]  # (outputs, residuals)


def create(device: Device) -> ReferenceBackend:
    """Return the backend of ``device``, which must be plain ``"reference"``."""
    if device.index:
        raise DeviceError(f"device {device.name!r}: there is one. Hint: write 'reference'.")
    return ReferenceBackend(device)


class ReferenceBackend(ReferenceLinearAlgebra, CpuBackend):
    """NumPy arrays, plain loops."""

    name = "reference"
    device_kinds = ("reference",)

    def __init__(self, device: Device) -> None:
        self.device = device
        from helixml.backends.reference_attention import KERNELS as ATTENTION
        from helixml.backends.reference_decoding import KERNELS as DECODING
        from helixml.backends.reference_maps import KERNELS as MAPS  # which build on this file
        from helixml.backends.reference_mixing import KERNELS as MIXING
        from helixml.backends.reference_state_space import KERNELS as STATE_SPACE

        every = (*KERNELS, *MAPS, *ATTENTION, *STATE_SPACE, *DECODING, *MIXING)
        self.kernels = KernelTable(Kernel(f.__name__, f, ("float32", "float64")) for f in every)

    def capabilities(self) -> dict[str, Any]:
        """Return NumPy's version and the names of the kernels."""
        return {
            "name": self.name,
            "device": str(self.device),
            "kernels": sorted(self.kernels),
            "numpy": np.__version__,
        }

    def memory(self) -> dict[str, int]:
        """Return nothing: its arrays do not lie in the blocks that the CPU backend counts."""
        return {}

    def matmul(self, x: Array, y: Array, /) -> Array:
        """Return NumPy's matrix product; 16-bit floats are multiplied in float32."""
        wide = dtypes.accumulation(x.dtype)
        product: Array = np.matmul(x.astype(wide), y.astype(wide)).astype(x.dtype)
        return product

    def sigmoid(self, x: Array, /) -> Array:
        """Return 1 / (1 + exp(-x)), element by element; of complex numbers as `base` does."""
        if x.dtype.kind == "c":
            return np.asarray(BackendBase.sigmoid(self, x))
        result = np.empty_like(x)
        for i in np.ndindex(x.shape):
            result[i] = sigmoid(float(x[i]))
        return result

    def erf(self, x: Array, /) -> Array:
        """Return the error function, element by element."""
        result = np.empty_like(x)
        for i in np.ndindex(x.shape):
            result[i] = math.erf(float(x[i]))
        return result

    # Fourier transforms: the sums that define them
    fft = BackendBase.fft
    ifft = BackendBase.ifft
    rfft = BackendBase.rfft
    irfft = BackendBase.irfft

    def place(self, x: Array, shape: Shape, index: tuple[Any, ...], /) -> Array:
        """Return zeros of ``shape`` with ``x`` written at the basic ``index``."""
        result = np.zeros(shape, x.dtype)
        result[index] = x
        return result

    def scatter_add(self, x: Array, indices: Array, /, *, axis: int, size: int) -> Array:
        """Return zeros with ``size`` entries along ``axis``, and ``x`` added at ``indices``."""
        before, after = x.shape[:axis], x.shape[axis + indices.ndim :]
        result = np.zeros((*before, size, *after), dtypes.accumulation(x.dtype))
        rows = np.moveaxis(result, axis, 0)  # a view: what is added to a row is in the result
        for i in np.ndindex(indices.shape):
            rows[int(indices[i])] += x[(*(slice(None),) * axis, *i)]
        return result.astype(x.dtype)

    def take_along_axis(  # type: ignore[override]  # NumPy's has more overloads
        self, x: Array, indices: Array, /, *, axis: int
    ) -> Array:
        """Return the entries of ``x`` along ``axis`` at ``indices``."""
        result = np.empty(indices.shape, x.dtype)
        for i in np.ndindex(indices.shape):
            result[i] = x[(*i[:axis], int(indices[i]), *i[axis + 1 :])]
        return result

    def scatter_add_along_axis(self, x: Array, indices: Array, /, *, axis: int, size: int) -> Array:
        """Return the adjoint of `take_along_axis`."""
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        result = np.zeros(shape, dtypes.accumulation(x.dtype))
        for i in np.ndindex(indices.shape):
            result[(*i[:axis], int(indices[i]), *i[axis + 1 :])] += x[i]
        return result.astype(x.dtype)

    def unfold(self, x: Array, /, *, size: int, step: int, axis: int, dilation: int) -> Array:
        """Return windows along ``axis``, window by window."""
        lines = np.moveaxis(x, axis, -1)
        n = (x.shape[axis] - dilation * (size - 1) - 1) // step + 1
        result = np.empty((*lines.shape[:-1], n, size), x.dtype)
        for i, j in np.ndindex(n, size):
            result[..., i, j] = lines[..., i * step + j * dilation]
        return np.moveaxis(result, -2, axis)

    def fold(self, x: Array, /, *, length: int, step: int, axis: int, dilation: int) -> Array:
        """Return the adjoint of `unfold`, entry by entry."""
        windows = np.moveaxis(x, axis, -2)
        result = np.zeros((*windows.shape[:-2], length), dtypes.accumulation(x.dtype))
        for i, j in np.ndindex(windows.shape[-2:]):
            result[..., i * step + j * dilation] += windows[..., i, j]
        return np.moveaxis(result.astype(x.dtype), -1, axis)

    def linear_scan(self, a: Array, b: Array, initial: Optional, /, *, reverse: bool) -> Array:
        """Return h with h_t = a_t h_(t-1) + b_t along the last axis, h_(-1) = ``initial``."""
        wide = dtypes.accumulation(b.dtype)
        result = np.empty(b.shape, wide)
        for i in np.ndindex(b.shape[:-1]):
            h = wide.type(0 if initial is None else initial[i])
            for t in range(b.shape[-1] - 1, -1, -1) if reverse else range(b.shape[-1]):
                h = wide.type(a[i][t]) * h + wide.type(b[i][t])
                result[i][t] = h
        return result.astype(b.dtype)

    def philox(self, key: tuple[int, int], counter: int, blocks: int, /) -> Array:
        """Return ``(blocks, 4)`` uint32 words of Philox4x32-10, block by block."""
        result = np.empty((blocks, 4), np.uint32)
        for i in range(blocks):
            result[i] = philox_block(key, counter + i)
        return result

    def drop(
        self, x: Array, key: tuple[int, int], counter: int, /, *, threshold: int, scale: float
    ) -> Array:
        """Return ``scale`` times ``x``; 0 where the word of a position is below ``threshold``."""
        result = np.zeros(x.shape, x.dtype)
        for n, i in enumerate(np.ndindex(x.shape)):
            if philox_block(key, counter + n // 4)[n % 4] >= threshold:
                result[i] = x[i] * x.dtype.type(scale)
        return result


def philox_block(key: tuple[int, int], counter: int) -> list[int]:
    """Return four random words: Salmon et al. 2011, section 3.3, on Python's integers.

    >>> [hex(word) for word in philox_block((0, 0), 0)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    low = 0xFFFFFFFF
    x = [counter >> 32 * i & low for i in range(4)]
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x[0] * 0xD2511F53, x[2] * 0xCD9E8D57
        x = [p1 >> 32 ^ x[1] ^ k0, p1 & low, p0 >> 32 ^ x[3] ^ k1, p0 & low]
        k0, k1 = k0 + 0x9E3779B9 & low, k1 + 0xBB67AE85 & low
    return x


# Scalar functions and their derivatives


def sigmoid(x: float) -> float:
    """Return 1 / (1 + e^-x); e^-|x| cannot overflow."""
    e = math.exp(-abs(x))
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


def softplus(x: float) -> float:
    """Return log(1 + e^x) as max(x, 0) + log1p(e^-|x|). Its derivative is the sigmoid."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def silu(x: float) -> float:
    """Return x sigmoid(x)."""
    return x * sigmoid(x)


def silu_slope(x: float) -> float:
    """Return the derivative of silu, s + x s (1 - s) with s = sigmoid(x)."""
    s = sigmoid(x)
    return s + x * s * (1 - s)


# What the kernels share


def wide(x: Array) -> Array:
    """Return ``x`` in float64."""
    return x.astype(np.float64)


def zeros(x: Array) -> Array:
    """Return float64 zeros in the shape of ``x``, to add a gradient up in."""
    return np.zeros(x.shape)


def cotangent(g: Optional, shape: Shape) -> Array:
    """Return a cotangent in float64; zeros if none came."""
    return np.zeros(shape) if g is None else wide(g)


def rows(x: Array) -> Iterator[tuple[int, ...]]:
    """Give the index of each row along the last axis."""
    return np.ndindex(x.shape[:-1])


def wanted(
    gradients: Sequence[Optional], needs: Sequence[bool], inputs: Sequence[Optional]
) -> tuple[Optional, ...]:
    """Return the gradients that are needed, each in its input's dtype; None for the others."""
    return tuple(
        np.asarray(g, x.dtype) if need and g is not None and x is not None else None
        for g, need, x in zip(gradients, needs, inputs, strict=True)
    )


# Softmax: y_i = e^(x_i) / sum_j e^(x_j)


def softmax(x: Array, *, axis: int) -> Forward:
    """Return softmax along ``axis``; the output is its own residual."""
    lines = np.moveaxis(wide(x), axis, -1)
    y = np.empty_like(lines)
    for i in rows(lines):
        e = np.exp(lines[i] - max(lines[i], default=0.0))  # shifted: the largest term is e^0
        y[i] = e / sum(e)
    y = np.moveaxis(y, -1, axis).astype(x.dtype)
    return (y,), (y,)


def softmax_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    axis: int,
) -> tuple[Optional, ...]:
    """Return the gradient of x: dy_i/dx_j = y_i ([i = j] - y_j), so gx = y (g - sum_i g_i y_i)."""
    y = np.moveaxis(wide(residuals[0]), axis, -1)
    g = np.moveaxis(cotangent(cotangents[0], residuals[0].shape), axis, -1)
    gx = np.empty_like(y)
    for i in rows(y):
        gx[i] = y[i] * (g[i] - sum(g[i] * y[i]))
    return wanted([np.moveaxis(gx, -1, axis)], needs, inputs)


# Root mean square norm: y_i = s_i r w_i with s = x + residual, r = (mean_j s_j^2 + eps)^(-1/2)


def rms_norm(x: Array, weight: Array, residual: Optional, *, eps: float) -> Forward:
    """Return y and, if there is a residual, the sum s."""
    s = x if residual is None else x + residual
    y = np.empty(x.shape)
    for i in rows(x):
        y[i] = wide(s[i]) * rms_scale(s[i], eps) * weight
    y = y.astype(x.dtype)
    return (y,) if residual is None else (y, s), (s,)


def rms_scale(s: Array, eps: float) -> float:
    """Return r of one row."""
    return float((sum(wide(s) ** 2) / s.size + eps) ** -0.5)


def rms_norm_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    eps: float,
) -> tuple[Optional, ...]:
    """Return the gradients of x, weight and residual.

    dr/ds_j = -r^3 s_j / d, hence with v = g w:  gs_j = r v_j - (r^3 s_j / d) sum_i v_i s_i.
    The sum s is an output too, whose cotangent joins; x and residual both get gs.
    gw_i = sum over rows of g_i s_i r.
    """
    _, weight, residual = inputs
    assert weight is not None
    s = wide(residuals[0])
    g = cotangent(cotangents[0], s.shape)
    g_sum = cotangent(cotangents[1] if residual is not None else None, s.shape)
    gs, gw = np.empty(s.shape), zeros(weight)
    d = s.shape[-1]
    for i in rows(s):
        r = rms_scale(s[i], eps)
        v = g[i] * weight
        gs[i] = r * v - r**3 * s[i] / d * sum(v * s[i]) + g_sum[i]
        gw += g[i] * s[i] * r
    return wanted([gs, gw, gs], needs, inputs)


# Cross entropy: loss = -sum_k q_k log p_k with p = softmax(logits) and the target spread as
# q_k = (1 - smoothing) [k = target] + smoothing / v


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
) -> Forward:
    """Return the losses of the rows, reduced."""
    losses = np.zeros(target.shape)
    counted = 0
    for i in rows(logits):
        if target[i] == ignore_index:
            continue
        counted += 1
        logp = log_softmax(logits[i])
        losses[i] = -(1 - label_smoothing) * logp[target[i]]
        if label_smoothing:
            losses[i] -= label_smoothing * sum(logp) / len(logp)
    total: Any = losses
    if reduction != "none":
        total = sum(losses.reshape(-1))
        if reduction == "mean":
            total /= max(counted, 1)
    return (np.asarray(total, logits.dtype),), ()


def log_softmax(row: Array) -> Array:
    """Return log p of one row, x - m - log(sum e^(x - m)) with m the largest x."""
    x = wide(row)
    if not len(x):
        return x
    shifted = x - max(x)
    logp: Array = shifted - math.log(sum(np.exp(shifted)))
    return logp


def cross_entropy_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
) -> tuple[Optional, ...]:
    """Return the gradient of the logits, g (p - q) in each row that counts."""
    logits, target = inputs
    assert logits is not None and target is not None
    v = logits.shape[-1]
    counting = [i for i in rows(logits) if target[i] != ignore_index]
    share = max(len(counting), 1) if reduction == "mean" else 1
    g = cotangent(cotangents[0], target.shape if reduction == "none" else ())
    result = zeros(logits)
    for i in counting:
        q = np.full(v, label_smoothing / v)
        q[target[i]] += 1 - label_smoothing
        g_row = g[i] if reduction == "none" else g / share
        result[i] = g_row * (np.exp(log_softmax(logits[i])) - q)
    return wanted([result, None], needs, inputs)


# Causal convolution: y_t = act(p_t), p_t = bias + sum_j w_j x_(t-k+1+j), for each channel


def causal_conv1d(
    x: Array,
    weight: Array,
    bias: Optional,
    initial_state: Optional,
    *,
    activation: str | None,
) -> Forward:
    """Return y; the residual is p, what the activation was given."""
    padded = with_past(x, weight, initial_state)
    k = weight.shape[1]
    p = np.empty(x.shape)
    y = np.empty(x.shape)
    for i, c, t in np.ndindex(x.shape):
        total = float(sum(weight[c] * padded[i, c, t : t + k]))
        if bias is not None:
            total += float(bias[c])
        p[i, c, t] = total
        y[i, c, t] = silu(total) if activation == "silu" else total
    return (y.astype(x.dtype),), (p,)


def with_past(x: Array, weight: Array, initial_state: Optional) -> Array:
    """Return x behind its k - 1 earlier values, so that x_t stands at position t + k - 1."""
    b, d, _ = x.shape
    past = np.zeros((b, d, weight.shape[1] - 1)) if initial_state is None else initial_state
    return np.concatenate([wide(past), wide(x)], axis=-1)


def causal_conv1d_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    activation: str | None,
) -> tuple[Optional, ...]:
    """Return the gradients of x, weight, bias and initial state.

    With gp_t = g_t act'(p_t): every x that y_t saw gets gp_t times the tap that saw it, and every
    tap gets gp_t times the x it saw; the bias gets the sum of gp_t.
    """
    x, weight, _, initial_state = inputs
    assert x is not None and weight is not None
    padded = with_past(x, weight, initial_state)
    k = weight.shape[1]
    g = cotangent(cotangents[0], x.shape)
    g_padded, gw, gbias = zeros(padded), zeros(weight), np.zeros(x.shape[1])
    for i, c, t in np.ndindex(x.shape):
        slope = silu_slope(float(residuals[0][i, c, t])) if activation == "silu" else 1.0
        gp = g[i, c, t] * slope
        g_padded[i, c, t : t + k] += gp * weight[c]
        gw[c] += gp * padded[i, c, t : t + k]
        gbias[c] += gp
    return wanted([g_padded[..., k - 1 :], gw, gbias, g_padded[..., : k - 1]], needs, inputs)


# Long convolution: p_t = sum_j k_j u_(t-j) + bias u_t, y_t = p_t gate_t


def fft_conv(u: Array, k: Array, bias: Optional, gate: Optional) -> Forward:
    """Return y, by the sums themselves; the residual is p."""
    p = np.zeros(u.shape)
    k = k.reshape(k.shape[-2:])  # of (1, d, m), too
    for i, c, t in np.ndindex(u.shape):
        for j in range(min(t + 1, k.shape[1])):
            p[i, c, t] += float(k[filter_of(k, c), j]) * float(u[i, c, t - j])
        if bias is not None:
            p[i, c, t] += float(bias[c]) * float(u[i, c, t])
    y = p if gate is None else p * gate
    return (y.astype(u.dtype),), (p,)


def filter_of(k: Array, c: int) -> int:
    """Return the row of k that channel c is convolved with."""
    return c if k.shape[0] > 1 else 0


def fft_conv_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
) -> tuple[Optional, ...]:
    """Return the gradients of u, k, bias and gate.

    With gp_t = g_t gate_t: every u that y_t saw gets gp_t times the tap that saw it, and every tap
    gets gp_t times the u it saw; the bias gets the sum of gp_t u_t, the gate g_t p_t.
    """
    u, k, bias, gate = inputs
    assert u is not None and k is not None
    g = cotangent(cotangents[0], u.shape)
    shape = k.shape
    k = k.reshape(shape[-2:])
    gu, gk, gbias = zeros(u), zeros(k), np.zeros(u.shape[1])
    for i, c, t in np.ndindex(u.shape):
        gp = g[i, c, t] * (1.0 if gate is None else float(gate[i, c, t]))
        row = filter_of(k, c)
        for j in range(min(t + 1, k.shape[1])):
            gu[i, c, t - j] += gp * float(k[row, j])
            gk[row, j] += gp * float(u[i, c, t - j])
        if bias is not None:
            gu[i, c, t] += gp * float(bias[c])
        gbias[c] += gp * float(u[i, c, t])
    return wanted([gu, gk.reshape(shape), gbias, g * residuals[0]], needs, inputs)


# Selective scan, for each sequence and channel, with h, A, B and C vectors of n numbers:
#   s_t = delta_t + bias, through softplus if asked
#   h_t = exp(s_t A) h_(t-1) + s_t B_t u_t
#   p_t = C_t . h_t + D u_t
#   y_t = p_t silu(z_t)


def selective_scan(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Optional,
    z: Optional,
    delta_bias: Optional,
    initial_state: Optional,
    *,
    delta_softplus: bool,
    return_last_state: bool,
) -> Forward:
    """Return y and, if asked for, the last state; the residuals are all states, h_(-1) first."""
    b, d, length = u.shape
    states = np.zeros((b, d, length + 1, A.shape[1]))
    if initial_state is not None:
        states[:, :, 0] = initial_state
    y = np.empty(u.shape)
    for i, c in np.ndindex(b, d):
        a = wide(A[c])
        h = states[i, c, 0]
        for t in range(length):
            s = step_size(delta, delta_bias, delta_softplus, i, c, t)
            drive = float(u[i, c, t])
            h = np.exp(s * a) * h + s * wide(B[at(B, i, c, t, d)]) * drive
            states[i, c, t + 1] = h
            y[i, c, t] = sum(wide(C[at(C, i, c, t, d)]) * h)
            if D is not None:
                y[i, c, t] += D[c] * drive
            if z is not None:
                y[i, c, t] *= silu(float(z[i, c, t]))
    last = (states[:, :, -1].astype(u.dtype),) if return_last_state else ()
    return (y.astype(u.dtype), *last), (states,)


def at(matrix: Array, i: int, c: int, t: int, channels: int) -> tuple[Any, ...]:
    """Return the index of the n numbers that B or C has for sequence i, channel c, time t."""
    if matrix.ndim == 2:  # (d, n)
        return (c,)
    if matrix.ndim == 3:  # (b, n, l)
        return (i, slice(None), t)
    return (i, c * matrix.shape[1] // channels, slice(None), t)  # (b, g, n, l)


def step_size(
    delta: Array, bias: Optional, through_softplus: bool, i: int, c: int, t: int
) -> float:
    """Return s_t."""
    s = float(delta[i, c, t]) + (0.0 if bias is None else float(bias[c]))
    return softplus(s) if through_softplus else s


def selective_scan_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    delta_softplus: bool,
    return_last_state: bool,
) -> tuple[Optional, ...]:
    """Return the gradients of all nine inputs, walking time backward.

    gh is the cotangent of h_t. It begins as that of the last state, and at each step, from the
    latest to the first, with gp_t = gy_t silu(z_t) and a_t = exp(s_t A):

    - y_t reads h_t:        gh += gp_t C_t,  gC_t = gp_t h_t,  gD += gp_t u_t
    - y_t reads z_t:        gz_t = gy_t p_t silu'(z_t)
    - h_t reads the input:  gB_t = gh s_t u_t,  gu_t = gp_t D + s_t (gh . B_t)
    - h_t reads the decay:  gA += gh s_t a_t h_(t-1)
    - both read the step:   gs_t = gh . (A a_t h_(t-1) + B_t u_t)
    - h_t reads h_(t-1):    gh <- a_t gh

    softplus' is the sigmoid: gdelta_t = gs_t sigmoid(delta_t + bias) with softplus, gs_t without.
    What is left of gh is the gradient of the initial state.
    """
    u, delta, A, B, C, D, z, delta_bias, _ = inputs
    assert u is not None and delta is not None
    assert A is not None and B is not None and C is not None
    b, d, length = u.shape
    states = residuals[0]
    gy = cotangent(cotangents[0], u.shape)
    g_state = cotangent(cotangents[1] if return_last_state else None, (b, d, A.shape[1]))
    gu, gdelta, gz = zeros(u), zeros(u), zeros(u)
    gA, gB, gC = zeros(A), zeros(B), zeros(C)
    gD, gbias = np.zeros(d), np.zeros(d)
    for i, c in np.ndindex(b, d):
        A_c = wide(A[c])
        skip = 0.0 if D is None else float(D[c])
        gh = g_state[i, c]
        for t in reversed(range(length)):
            s = step_size(delta, delta_bias, delta_softplus, i, c, t)
            drive, gp = float(u[i, c, t]), gy[i, c, t]
            B_t, C_t = wide(B[at(B, i, c, t, d)]), wide(C[at(C, i, c, t, d)])
            past, h = states[i, c, t], states[i, c, t + 1]
            if z is not None:
                gate = float(z[i, c, t])
                gz[i, c, t] = gp * (sum(C_t * h) + skip * drive) * silu_slope(gate)
                gp = gp * silu(gate)

            gh = gh + gp * C_t
            gC[at(C, i, c, t, d)] += gp * h
            gD[c] += gp * drive
            gB[at(B, i, c, t, d)] += gh * s * drive
            gu[i, c, t] = gp * skip + s * sum(gh * B_t)
            decay = np.exp(s * A_c)
            gA[c] += gh * s * decay * past
            gs = sum(gh * (A_c * decay * past + B_t * drive))
            gh = decay * gh

            if delta_softplus:
                gs *= sigmoid(step_size(delta, delta_bias, False, i, c, t))
            gdelta[i, c, t] = gs
            gbias[c] += gs
        g_state[i, c] = gh
    return wanted([gu, gdelta, gA, gB, gC, gD, gz, gbias, g_state], needs, inputs)


# Updates, which overwrite their arguments


def adamw_(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
) -> None:
    """Take one step of Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""
    for i in np.ndindex(param.shape):
        g = float(grad[i])
        mean = beta1 * float(m[i]) + (1 - beta1) * g
        square = beta2 * float(v[i]) + (1 - beta2) * g * g
        direction = (mean / (1 - beta1**step)) / (math.sqrt(square / (1 - beta2**step)) + eps)
        m[i], v[i] = mean, square
        param[i] = float(param[i]) * (1 - lr * weight_decay) - lr * direction


def sgd_(
    param: Array,
    grad: Array,
    velocity: Optional,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Take one step of gradient descent with momentum (Sutskever et al. 2013, eq. 3)."""
    for i in np.ndindex(param.shape):
        g = float(grad[i]) + weight_decay * float(param[i])
        if velocity is not None:
            speed = momentum * float(velocity[i]) + g
            velocity[i] = speed
            g = g + momentum * speed if nesterov else speed
        param[i] = float(param[i]) - lr * g


KERNELS: tuple[Callable[..., Any], ...] = (
    softmax,
    softmax_vjp,
    rms_norm,
    rms_norm_vjp,
    cross_entropy,
    cross_entropy_vjp,
    causal_conv1d,
    causal_conv1d_vjp,
    fft_conv,
    fft_conv_vjp,
    selective_scan,
    selective_scan_vjp,
    adamw_,
    sgd_,
)
