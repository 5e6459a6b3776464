"""Fused ops: each body is the definition; a backend may have kernels that compute it faster.

A kernel can be deleted and nothing but speed changes. Second derivatives, and devices without the
kernel, use the definition. Others stand with their kind: `activation`, `linalg`, `update`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from helixml import dtypes
from helixml._core.composed import fused
from helixml._core.samples import Failure, blank, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.activation import FLOPS, FLOPS_VJP, silu, softplus
from helixml.ops.elementwise import exp, sqrt, square
from helixml.ops.movement import broadcast_to, concat, expand_dims, reshape
from helixml.ops.scan import linear_scan

# Normalisation


def _rms_oracle(x, weight, residual=None, eps=1e-6):
    s = x if residual is None else x + residual
    y = s / np.sqrt(np.mean(s * s, axis=-1, keepdims=True) + eps) * weight
    return y if residual is None else (y, s)


@fused(oracle=_rms_oracle)
def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6, residual: Tensor | None = None):
    """Normalise by the root mean square over the last axis, x / sqrt(mean(x^2) + eps) * weight.

    Parameters
    ----------
    x : Tensor, (..., d), float.
    weight : Tensor, (d,).
    eps : float, added to the mean square.
    residual : Tensor, (..., d) or None; if given, x + residual is normalised, and returned too.

    Returns
    -------
    Tensor, (..., d); with ``residual`` a pair: the normalised sum and the sum.

    Raises
    ------
    ShapeError : the last axes differ.

    References
    ----------
    Zhang & Sennrich 2019, "Root mean square layer normalization", eq. 4, with eps inside the root.
    """
    total = x if residual is None else x + residual
    scale = 1 / sqrt(reduction.mean(square(total), axis=-1, keepdims=True) + eps)
    y = total * scale * weight
    return y if residual is None else (y, total)


rms_norm.options["kinds"] = "f"


@rms_norm.check
def _(x, weight, residual, eps):
    _need_floats("rms_norm", x=x, weight=weight, residual=residual)
    if x.ndim == 0 or weight.shape != x.shape[-1:]:
        raise ShapeError(
            f"rms_norm: x is {x.shape}, weight is {weight.shape}; it must be {x.shape[-1:]}."
        )
    if residual is not None and residual.shape != x.shape:
        raise ShapeError(f"rms_norm: x is {x.shape}, the residual is {residual.shape}.")
    if x.shape[-1] == 0:
        raise ShapeError(f"rms_norm: the last axis of x is empty: {x.shape}.")


@rms_norm.flops
def _(x, residual):
    """Count d squares, their sum, 4 for the scale, and two products for each element of a row."""
    d = x.shape[-1]
    return x.size // d * (4 * d + 3) + (x.size if residual is not None else 0)


@rms_norm.flops_vjp
def _(x, residual, needs):
    """Count for x = s: r (g w - x r^2 mean(g w x)); for w: the sum of g x r over rows."""
    d = x.shape[-1]
    rows = x.size // d
    total = rows * (6 * d + 2) if needs["x"] or needs["residual"] else 0
    return total + (max(0, 3 * x.size - d) if needs["weight"] else 0)


@rms_norm.samples
def _():
    yield sample((3, 8), floats(8, low=0.5))
    yield sample((2, 3, 5), floats(5, low=0.5), eps=1e-3)
    yield sample((2, 8), floats(8, low=0.5), residual=floats(2, 8))
    yield sample((0, 4), floats(4, low=0.5))


@rms_norm.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: rms_norm(x, blank(2)), ShapeError, r"weight is \(2,\); it must be \(3,\)")
    yield Failure(lambda: rms_norm(x, blank(3), residual=blank(3, 3)), ShapeError, r"residual is")


def _layer_oracle(x, weight, bias=None, eps=1e-5, residual=None):
    s = x if residual is None else x + residual
    centred = s - np.mean(s, axis=-1, keepdims=True)
    y = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + eps) * weight
    y = y if bias is None else y + bias
    return y if residual is None else (y, s)


@fused(oracle=_layer_oracle)
def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    residual: Tensor | None = None,
):
    """Normalise mean and variance over the last axis, (x - mean) / sqrt(var + eps) weight + bias.

    Parameters
    ----------
    x : Tensor, (..., d), float.
    weight : Tensor, (d,). bias : Tensor, (d,) or None.
    eps : float, added to the variance, the mean square deviation.
    residual : Tensor, (..., d) or None; if given, x + residual is normalised, and returned too.

    Returns
    -------
    Tensor, (..., d); with ``residual`` a pair: the normalised sum and the sum.

    Raises
    ------
    ShapeError : the last axes differ. DTypeError : an operand is no float.

    References
    ----------
    Ba, Kiros & Hinton 2016, "Layer normalization", eq. 3, with eps inside the root.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.layer_norm(hx.tensor([[1.0, 3.0], [5.0, 1.0]]), hx.ones((2,)), eps=0.0)
    tensor([[-1.,  1.],
            [ 1., -1.]])
    """
    total = x if residual is None else x + residual
    centred = total - reduction.mean(total, axis=-1, keepdims=True)
    scale = 1 / sqrt(reduction.mean(square(centred), axis=-1, keepdims=True) + eps)
    y = centred * scale * weight
    if bias is not None:
        y = y + bias
    return y if residual is None else (y, total)


layer_norm.options["kinds"] = "f"


@layer_norm.check
def _(x, weight, bias, residual, eps):
    _need_floats("layer_norm", x=x, weight=weight, bias=bias, residual=residual)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ShapeError(f"layer_norm: x is {x.shape}; its last axis must not be empty.")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.shape != x.shape[-1:]:
            raise ShapeError(
                f"layer_norm: x is {x.shape}, {name} is {tensor.shape}; it must be {x.shape[-1:]}."
            )
    if residual is not None and residual.shape != x.shape:
        raise ShapeError(f"layer_norm: x is {x.shape}, the residual is {residual.shape}.")


@layer_norm.flops
def _(x, bias, residual):
    """Count two means, deviations and their squares, 3 for the scale, two products."""
    d = x.shape[-1]
    return x.size // d * (6 * d + 3) + ((bias is not None) + (residual is not None)) * x.size


@layer_norm.flops_vjp
def _(x, needs):
    """Count for x, with u = g w: r (u - mean(u) - x^ mean(u x^)); for w, b: sums over rows."""
    d = x.shape[-1]
    total = 9 * x.size if needs["x"] or needs["residual"] else 0
    sums = max(0, x.size - d)
    return total + (x.size + sums) * needs["weight"] + sums * needs["bias"]


@layer_norm.samples
def _():
    yield sample((3, 8), floats(8, low=0.5), (8,))
    yield sample((2, 3, 5), floats(5, low=0.5), eps=1e-3)
    yield sample((2, 8), floats(8, low=0.5), (8,), residual=floats(2, 8))
    yield sample((2, 8), floats(8, low=0.5), residual=floats(2, 8))
    yield sample((0, 4), floats(4, low=0.5), (4,))


@layer_norm.errors
def _():
    x, w = blank(2, 3), blank(3)
    yield Failure(
        lambda: layer_norm(x, blank(2)), ShapeError, r"weight is \(2,\); it must be \(3,\)"
    )
    yield Failure(lambda: layer_norm(x, w, blank(2, 3)), ShapeError, r"bias is \(2, 3\); it must")
    yield Failure(lambda: layer_norm(x, w, residual=blank(3, 3)), ShapeError, r"residual is")
    yield Failure(lambda: layer_norm(blank(2, 0), blank(0)), ShapeError, r"must not be empty")
    yield Failure(lambda: layer_norm(x, np.ones(3, int)), DTypeError, r"weight must be a float")


def _need_floats(op, **tensors):
    for name, tensor in tensors.items():
        if tensor is not None:
            dtypes.check_floating(op, name, tensor.dtype)


# Convolution


def _causal_oracle(x, weight, bias=None, initial_state=None, activation=None):
    b, d, length = x.shape
    k = weight.shape[1]
    past = np.zeros((b, d, k - 1)) if initial_state is None else initial_state
    padded = np.concatenate([past, x], axis=-1)
    y = np.zeros((b, d, length))
    for t in range(length):
        y[:, :, t] = (padded[:, :, t : t + k] * weight).sum(-1)
    if bias is not None:
        y = y + bias[:, None]
    return y / (1 + np.exp(-y)) if activation == "silu" else y


@fused(oracle=_causal_oracle)
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Literal["silu"] | None = None,
    initial_state: Tensor | None = None,
):
    """Convolve each channel with its own short filter, looking only backward.

    y_t = activation(sum_j weight_j x_(t-k+1+j) + bias)

    Parameters
    ----------
    x : Tensor, (b, d, l), float.
    weight : Tensor, (d, k); the last tap meets the present.
    bias : Tensor, (d,) or None.
    activation : None or "silu".
    initial_state : Tensor, (b, d, k - 1): what came before ``x``; zeros if None.

    Returns
    -------
    Tensor, (b, d, l).

    Raises
    ------
    ShapeError : sizes do not match. ValueRangeError : unknown activation.

    References
    ----------
    Gu & Dao 2023, "Mamba", figure 3 (the short convolution before the scan).
    """
    b, d, length = x.shape
    k = weight.shape[1]
    if k > 1:
        if initial_state is None:
            past = broadcast_to(weight[:, : k - 1] * 0, (b, d, k - 1)).astype(x.dtype)
        else:
            past = initial_state
        x = concat([past, x], axis=-1)  # (b, d, k - 1 + l)
    y = None
    for j in range(k):
        tap = x[:, :, j : j + length] * weight[:, j : j + 1]
        y = tap if y is None else y + tap
    if bias is not None:
        y = y + expand_dims(bias, -1)
    return silu(y) if activation == "silu" else y


causal_conv1d.options["kinds"] = "f"


@causal_conv1d.check
def _(x, weight, bias, initial_state, activation):
    _need_floats("causal_conv1d", x=x, weight=weight, bias=bias, initial_state=initial_state)
    if x.ndim != 3 or weight.ndim != 2 or weight.shape[0] != x.shape[1] or weight.shape[1] == 0:
        raise ShapeError(
            f"causal_conv1d: x is {x.shape}, weight is {weight.shape}; they must be (b, d, l) and "
            "(d, k) with k of at least 1."
        )
    if bias is not None and bias.shape != x.shape[1:2]:
        raise ShapeError(f"causal_conv1d: bias is {bias.shape}, it must be {x.shape[1:2]}.")
    past = (*x.shape[:2], weight.shape[1] - 1)
    if initial_state is not None and initial_state.shape != past:
        raise ShapeError(
            f"causal_conv1d: the initial state is {initial_state.shape}, it must be {past}."
        )
    if activation not in (None, "silu"):
        raise ValueRangeError(f"causal_conv1d: activation={activation!r}. Hint: 'silu' or None.")


@causal_conv1d.flops
def _(weight, bias, activation, out):
    finish = (bias is not None) + (FLOPS[activation] if activation else 0)
    return (2 * weight.shape[1] + finish) * out.size


@causal_conv1d.flops_vjp
def _(weight, activation, out, needs):
    """Count the activation's derivative, and a convolution each for x (with its past) and w."""
    k, d = weight.shape[1], out.shape[1]
    products = (needs["x"] or needs["initial_state"]) + needs["weight"]
    total = (2 * k * products + (FLOPS_VJP[activation] if activation else 0)) * out.size
    return total + (max(0, out.size - d) if needs["bias"] else 0)


@causal_conv1d.samples
def _():
    yield sample((2, 3, 6), (3, 4), (3,), activation="silu")
    yield sample((2, 3, 6), (3, 4))
    yield sample((1, 5, 2), (5, 4), (5,), initial_state=floats(1, 5, 3), activation="silu")
    yield sample((2, 2, 3), (2, 1))
    yield sample((1, 2, 0), (2, 3), (2,))


@causal_conv1d.errors
def _():
    x, w = blank(2, 3, 4), blank(3, 2)
    yield Failure(lambda: causal_conv1d(x, blank(4, 2)), ShapeError, r"weight is \(4, 2\)")
    yield Failure(lambda: causal_conv1d(x, w, blank(4)), ShapeError, r"bias is \(4,\), it must")
    yield Failure(lambda: causal_conv1d(x, w, activation="tanh"), ValueRangeError, r"'tanh'")
    yield Failure(
        lambda: causal_conv1d(x, w, initial_state=blank(2, 3, 2)), ShapeError, r"initial state is"
    )


# State space


def _selective_oracle(
    u,
    delta,
    A,
    B,
    C,
    D=None,
    z=None,
    delta_bias=None,
    initial_state=None,
    delta_softplus=False,
    return_last_state=False,
):
    b, d, length = u.shape
    n = A.shape[1]
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = np.logaddexp(0.0, delta)

    def at(matrix, t):
        if matrix.ndim == 2:
            return matrix[None]
        if matrix.ndim == 3:
            return matrix[:, None, :, t]
        return np.repeat(matrix[..., t], d // matrix.shape[1], axis=1)

    h = np.zeros((b, d, n)) if initial_state is None else initial_state
    y = np.zeros((b, d, length))
    for t in range(length):
        dt = delta[:, :, t, None]
        h = np.exp(dt * A) * h + dt * at(B, t) * u[:, :, t, None]
        y[:, :, t] = (h * at(C, t)).sum(-1)
    if D is not None:
        y = y + D[:, None] * u
    if z is not None:
        y = y * z / (1 + np.exp(-z))
    return (y, h) if return_last_state else y


def _over_time(matrix, d):
    """Return B or C as (b | 1, d | 1, l | 1, n)."""
    if matrix.ndim == 2:  # (d, n): the same at all times
        return reshape(matrix, (1, matrix.shape[0], 1, matrix.shape[1]))
    if matrix.ndim == 3:  # (b, n, l): the same for all channels
        return expand_dims(matrix.mT, 1)
    b, g, n, length = matrix.shape
    grouped = expand_dims(matrix.mT, 2)  # (b, g, 1, l, n)
    return reshape(broadcast_to(grouped, (b, g, d // g, length, n)), (b, d, length, n))


@fused(oracle=_selective_oracle)
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
):
    """Run a state-space model whose step sizes and projections depend on the input.

    h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t,  y_t = C_t h_t + D u_t,  times silu(z_t)

    Parameters
    ----------
    u, delta : Tensor, (b, d, l), float.
    A : Tensor, (d, n), real; negative for a stable system.
    B, C : Tensor, (d, n), (b, n, l) or (b, g, n, l) with g groups of channels.
    D : Tensor, (d,) or None: the skip connection.
    z : Tensor, (b, d, l) or None: the gate.
    delta_bias : Tensor, (d,) or None, added to ``delta``.
    delta_softplus : pass ``delta`` (with its bias) through softplus.
    initial_state : Tensor, (b, d, n) or None for zeros.
    return_last_state : also return h after the last step.

    Returns
    -------
    y : Tensor, (b, d, l).
    last_state : Tensor, (b, d, n), when asked for; its gradient flows back like that of y.

    Raises
    ------
    ShapeError : sizes do not match.

    References
    ----------
    Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces", algorithm 2;
    B is discretised by Euler's rule (delta B), as in the paper's own implementation.
    """
    d = u.shape[1]
    if delta_bias is not None:
        delta = delta + expand_dims(delta_bias, -1)
    if delta_softplus:
        delta = softplus(delta)
    step = expand_dims(delta, -1)  # (b, d, l, 1)
    decay = exp(step * expand_dims(A, 1))  # (b, d, l, n)
    drive = step * expand_dims(u, -1) * _over_time(B, d)
    h = linear_scan(decay, drive, initial_state, axis=2)
    y = reduction.sum(h * _over_time(C, d), axis=-1)
    if D is not None:
        y = y + u * expand_dims(D, -1)
    if z is not None:
        y = y * silu(z)
    if not return_last_state:
        return y
    if u.shape[2] > 0:
        return y, h[:, :, -1]
    if initial_state is not None:
        return y, initial_state * 1
    return y, broadcast_to(expand_dims(A * 0, 0), (u.shape[0], *A.shape))


selective_scan.options["kinds"] = "f"


@selective_scan.check
def _(u, delta, A, B, C, D, z, delta_bias, initial_state, **_):
    _need_floats(
        "selective_scan",
        u=u,
        delta=delta,
        A=A,
        B=B,
        C=C,
        D=D,
        z=z,
        delta_bias=delta_bias,
        initial_state=initial_state,
    )
    if u.ndim != 3 or A.ndim != 2 or A.shape[0] != u.shape[1]:
        raise ShapeError(
            f"selective_scan: u is {u.shape}, A is {A.shape}; they must be (b, d, l) and (d, n)."
        )
    b, d, length = u.shape
    n = A.shape[1]
    for name, tensor in (("delta", delta), ("z", z)):
        if tensor is not None and tensor.shape != u.shape:
            raise ShapeError(f"selective_scan: {name} is {tensor.shape}, it must be {u.shape}.")
    for name, tensor in (("B", B), ("C", C)):
        shape = tensor.shape
        grouped = len(shape) == 4 and shape[1] > 0 and d % shape[1] == 0
        fits = shape in ((d, n), (b, n, length)) or (grouped and shape == (b, shape[1], n, length))
        if not fits:
            raise ShapeError(
                f"selective_scan: {name} is {shape}, it must be {(d, n)}, {(b, n, length)} or "
                f"{(b, 'g', n, length)} where g divides {d}."
            )
    for name, tensor, wanted in (
        ("D", D, (d,)),
        ("delta_bias", delta_bias, (d,)),
        ("initial_state", initial_state, (b, d, n)),
    ):
        if tensor is not None and tensor.shape != wanted:
            raise ShapeError(f"selective_scan: {name} is {tensor.shape}, it must be {wanted}.")


@selective_scan.flops
def _(u, A, D, z, delta_bias, delta_softplus):
    """Count 7 for each state: delta A, exp, a h, (delta u) B, their sum, and 2 for C h."""
    softened = FLOPS["softplus"] if delta_softplus else 0
    skip = 2 * (D is not None) + (FLOPS["silu"] + 1) * (z is not None)
    return u.size * (7 * A.shape[1] + 1 + (delta_bias is not None) + softened + skip)


@selective_scan.flops_vjp
def _(u, A, D, z, delta_bias, delta_softplus):
    """Count the gradients of all inputs that there are: a kernel finds them together.

    For each state: 3 for s = C g + a' s', the recurrence from the end; 2 each for the sums that are
    the gradients of C, B and delta u; 1 for s h, the gradient of a = exp(delta A), and 1 for times
    a; 2 each for the sums over it that are the gradients of A and delta. For each step: 3 for u and
    delta from delta u; 4 for D, as g D and g u are added up; 9 for z, with g y silu'(z) and
    g silu(z); softplus' g; and 1 for the bias. The states are those of the forward pass.
    """
    softened = FLOPS_VJP["softplus"] if delta_softplus else 0
    skip = 4 * (D is not None) + (FLOPS_VJP["silu"] + 3) * (z is not None)
    return u.size * (15 * A.shape[1] + 3 + (delta_bias is not None) + softened + skip)


@selective_scan.samples
def _():
    steps = floats(2, 3, 5, low=0.1, high=0.9)
    decay = floats(3, 2, low=-2.0, high=-0.2)
    yield sample((2, 3, 5), steps, decay, (2, 2, 5), (2, 2, 5), orders=1)
    yield sample(
        (2, 3, 5),
        (2, 3, 5),
        decay,
        (2, 2, 5),
        (2, 2, 5),
        (3,),
        (2, 3, 5),
        (3,),
        delta_softplus=True,
        orders=1,
    )
    yield sample(
        (1, 4, 3),
        (1, 4, 3),
        floats(4, 2, low=-2.0, high=-0.2),
        (1, 2, 2, 3),
        (1, 2, 2, 3),
        (4,),
        (1, 4, 3),
        (4,),
        delta_softplus=True,
        initial_state=floats(1, 4, 2),
        return_last_state=True,
    )
    yield sample(
        (2, 3, 4),
        floats(2, 3, 4, low=0.1, high=0.9),
        decay,
        (3, 2),
        (3, 2),
        initial_state=floats(2, 3, 2),
        return_last_state=True,
        orders=1,
    )
    yield sample(
        (1, 2, 0), (1, 2, 0), floats(2, 3, low=-1.0, high=-0.1), (1, 3, 0), (1, 3, 0), orders=1
    )


@selective_scan.errors
def _():
    u, a, b = blank(2, 3, 5), blank(3, 4), blank(2, 4, 5)
    yield Failure(lambda: selective_scan(u, u, blank(4, 4), b, b), ShapeError, r"A is \(4, 4\)")
    yield Failure(
        lambda: selective_scan(u, blank(2, 3, 4), a, b, b), ShapeError, r"delta is \(2, 3, 4\)"
    )
    yield Failure(lambda: selective_scan(u, u, a, b, blank(2, 5, 5)), ShapeError, r"C is \(2, 5")
    yield Failure(lambda: selective_scan(u, u, a, b, b, blank(4)), ShapeError, r"D is \(4,\)")
