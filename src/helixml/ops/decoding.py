"""Ops for one token at a time: products with matrices as they are stored, a step of a Mamba mixer.

Nearly all their time goes to reading matrices. Fused ops, as those of `fused`: the body is the
definition. How matrices come to be stored in fewer bytes: `helixml.quantization`.
"""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.composed import fused
from helixml._core.samples import Failure, Input, blank, floats, integers, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError
from helixml.ops import reduction
from helixml.ops.activation import FLOPS, FLOPS_VJP, silu, softplus
from helixml.ops.elementwise import exp
from helixml.ops.linalg import linear
from helixml.ops.movement import astype, concat, expand_dims, split

# Products with stored matrices


def _scaled(weight, scale):
    return weight if scale is None else weight * np.asarray(scale)[:, None]


def _stored_oracle(x, weight, scale=None, bias=None):
    y = x @ _scaled(weight, scale).T
    return y if bias is None else y + bias


@fused(oracle=_stored_oracle, integers=("weight",))
def stored_linear(
    x: Tensor, weight: Tensor, scale: Tensor | None = None, bias: Tensor | None = None
):
    """Map the last axis by a matrix of floats or of scaled integers, x (scale W)^T + b.

    Parameters
    ----------
    x : Tensor, (..., d), float.
    weight : Tensor, (n, d), one row for each output: float, or integer, with a scale.
    scale : Tensor, (n,), float, what the numbers of each row are multiplied with; None for floats.
    bias : Tensor, (n,), b, or None.

    Returns
    -------
    Tensor, (..., n). A weight in bfloat16 or int8 is read as it lies for a few rows of x, and all
    sums are those of floats of x.

    Raises
    ------
    ShapeError : sizes do not match. DTypeError : an operand is no float, or integers have no scale.

    Examples
    --------
    >>> import helixml as hx
    >>> weight = hx.tensor([[10, 20], [-3, 1]], dtype="int8")
    >>> hx.stored_linear(hx.tensor([1.0, 2.0]), weight, hx.tensor([0.5, 2.0]))
    tensor([25., -2.])
    """
    return linear(x, _as_floats(weight, scale), bias)


def _as_floats(weight, scale):
    """Return the matrix that stored numbers stand for."""
    return weight if scale is None else astype(weight, scale.dtype) * expand_dims(scale, 1)


def _check_matrix(op, name, weight, scale, shape):
    """Raise unless a matrix of this shape is of floats, or of integers with their scales."""
    if weight.shape != shape:
        raise ShapeError(f"{op}: {name} is {weight.shape}, it must be {shape}.")
    if scale is not None:
        dtypes.check_floating(op, f"the scale of {name}", scale.dtype)
        if scale.shape != shape[:1]:
            raise ShapeError(f"{op}: the scale of {name} is {scale.shape}, it must be {shape[:1]}.")
    is_integer = dtypes.kind(weight.dtype) in "ui"
    if is_integer != (scale is not None) or not (is_integer or dtypes.is_floating(weight.dtype)):
        scaled = "a" if scale is not None else "no"
        raise DTypeError(
            f"{op}: {name} is of {weight.dtype}, with {scaled} scale; it must be of floats without "
            "one or of integers with one."
        )


def _check_floats(op, shapes, **tensors):
    """Raise unless the tensors that there are are floats of these shapes."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        dtypes.check_floating(op, name, tensor.dtype)
        if tensor.shape != shapes[name]:
            raise ShapeError(f"{op}: {name} is {tensor.shape}, it must be {shapes[name]}.")


stored_linear.options["kinds"] = "f"


@stored_linear.check
def _(x, weight, scale, bias):
    dtypes.check_floating("stored_linear", "x", x.dtype)
    if x.ndim == 0 or weight.ndim != 2:
        raise ShapeError(
            f"stored_linear: x is {x.shape}, weight is {weight.shape}; they must be (..., d) and "
            "(n, d)."
        )
    _check_matrix("stored_linear", "weight", weight, scale, (weight.shape[0], x.shape[-1]))
    _check_floats("stored_linear", {"bias": weight.shape[:1]}, bias=bias)


@stored_linear.flops
def _(x, scale, bias, out):
    return (2 * x.shape[-1] + (scale is not None) + (bias is not None)) * out.size


@stored_linear.flops_vjp
def _(x, weight, scale, bias, out, needs):
    """Count a product for x, one for the weight or its scale, which is a sum over it, and sums."""
    n, d = weight.shape
    products = needs["x"] + (needs["weight"] or needs["scale"])
    total = 2 * d * products * out.size + (2 * n * d if needs["scale"] else 0)
    return total + (max(0, out.size - n) if needs["bias"] else 0)


@stored_linear.samples
def _():
    yield sample((2, 3), (4, 3))
    yield sample((2, 2, 3), (4, 3), None, (4,))
    yield sample((3,), integers(4, 3, low=-9, high=9), floats(4, low=0.1))
    yield sample((2, 3), integers(4, 3, low=-9, high=9), floats(4, low=0.1), (4,))
    yield sample((0, 3), (4, 3))


@stored_linear.errors
def _():
    x, weight, op = blank(2, 3), blank(4, 3), stored_linear
    whole = astype(weight, "int8")
    for call, error, pattern in (
        (lambda: op(x, blank(4, 2)), ShapeError, r"weight is \(4, 2\), it must be \(4, 3\)"),
        (lambda: op(x, blank(3)), ShapeError, r"weight is \(3,\); they must be"),
        (lambda: op(x, weight, None, blank(3)), ShapeError, r"bias is \(3,\), it must be \(4,\)"),
        (lambda: op(x, whole), DTypeError, r"of int8, with no scale; it must be of floats"),
        (lambda: op(x, weight, blank(4)), DTypeError, r"of float\d+, with a scale"),
        (lambda: op(x, whole, blank(3)), ShapeError, r"scale of weight is \(3,\), it must be \(4"),
        (lambda: op(astype(x, "int32"), weight), DTypeError, r"x must be a float, not int32"),
    ):
        yield Failure(call, error, pattern)


# A step of Mamba

_MATRICES = ("in_proj", "x_proj", "dt_proj", "out_proj")


def _mamba_oracle(
    x,
    past,
    state,
    in_proj,
    conv_weight,
    x_proj,
    dt_proj,
    A_log,
    D,
    out_proj,
    in_bias=None,
    conv_bias=None,
    dt_bias=None,
    out_bias=None,
    in_scale=None,
    x_scale=None,
    dt_scale=None,
    out_scale=None,
):
    b, d, n = state.shape
    rank, taps = dt_proj.shape[1], conv_weight.shape[1]
    y, h = np.zeros((b, out_proj.shape[0])), np.array(state, float)
    later = np.zeros(past.shape)
    for i in range(b):
        inner = _stored_oracle(x[i], in_proj, in_scale, in_bias)
        u = np.zeros(d)
        for c in range(d):
            seen = [*past[i, c], inner[c]]
            total = sum(seen[j] * conv_weight[c, j] for j in range(taps))
            total += 0 if conv_bias is None else conv_bias[c]
            u[c] = total / (1 + np.exp(-total))
            later[i, c] = seen[1:]
        selected = _stored_oracle(u, x_proj, x_scale)
        delta = np.logaddexp(0, _stored_oracle(selected[:rank], dt_proj, dt_scale, dt_bias))
        mixed = np.zeros(d)
        for c in range(d):
            for j in range(n):
                decay = np.exp(-delta[c] * np.exp(A_log[c, j]))
                h[i, c, j] = decay * h[i, c, j] + delta[c] * selected[rank + j] * u[c]
                mixed[c] += selected[rank + n + j] * h[i, c, j]
            mixed[c] += D[c] * u[c]
            mixed[c] *= inner[d + c] / (1 + np.exp(-inner[d + c]))
        y[i] = _stored_oracle(mixed, out_proj, out_scale, out_bias)
    return y, later, h


@fused(oracle=_mamba_oracle, integers=_MATRICES)
def mamba_step(
    x: Tensor,
    past: Tensor,
    state: Tensor,
    in_proj: Tensor,
    conv_weight: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    A_log: Tensor,
    D: Tensor,
    out_proj: Tensor,
    in_bias: Tensor | None = None,
    conv_bias: Tensor | None = None,
    dt_bias: Tensor | None = None,
    out_bias: Tensor | None = None,
    in_scale: Tensor | None = None,
    x_scale: Tensor | None = None,
    dt_scale: Tensor | None = None,
    out_scale: Tensor | None = None,
):
    """Run one step of a Mamba mixer.

    [u, z] = in_proj x,  u <- silu(conv(past, u)),  [dt, B, C] = x_proj u,
    delta = softplus(dt_proj dt),  h <- exp(-delta exp(A_log)) h + delta B u,
    y = out_proj ((C h + D u) silu(z))

    Parameters
    ----------
    x : Tensor, (b, m), float.
    past : Tensor, (b, d, k - 1): what the convolution read before.
    state : Tensor, (b, d, n): h before the step.
    in_proj : Tensor, (2 d, m), x_proj : (r + 2 n, d), dt_proj : (d, r), out_proj : (m, d); floats,
        or integers with a scale for each row, as `stored_linear` takes them.
    conv_weight : Tensor, (d, k), k at least 1; the last tap meets the present.
    A_log : Tensor, (d, n). D : Tensor, (d,).
    in_bias, conv_bias, dt_bias, out_bias : Tensor, one entry for each output, or None.
    in_scale, x_scale, dt_scale, out_scale : Tensor, one entry for each row of an integer matrix;
        None for floats.

    Returns
    -------
    y : Tensor, (b, m).
    next_past : Tensor, (b, d, k - 1). next_state : Tensor, (b, d, n).

    Raises
    ------
    ShapeError : sizes do not match. DTypeError : an operand is no float, or integers have no scale.

    Notes
    -----
    Whole sequences: `causal_conv1d` and `selective_scan` between products.

    References
    ----------
    Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces", figure 3 and
    algorithm 2, for a sequence of one token; B is discretised by Euler's rule.
    """
    d, n = A_log.shape
    rank = dt_proj.shape[1]
    u, z = split(stored_linear(x, in_proj, in_scale, in_bias), (d, d), axis=1)
    seen = concat([past, expand_dims(u, 2)], axis=2)  # (b, d, k)
    u = reduction.sum(seen * conv_weight, axis=2)
    u = silu(u if conv_bias is None else u + conv_bias)
    dt, B, C = split(stored_linear(u, x_proj, x_scale), (rank, n, n), axis=1)
    delta = expand_dims(softplus(stored_linear(dt, dt_proj, dt_scale, dt_bias)), 2)  # (b, d, 1)
    drive = delta * expand_dims(B, 1) * expand_dims(u, 2)
    state = exp(-delta * exp(A_log)) * state + drive
    y = reduction.sum(expand_dims(C, 1) * state, axis=2) + D * u
    return stored_linear(y * silu(z), out_proj, out_scale, out_bias), seen[:, :, 1:], state


mamba_step.options["kinds"] = "f"


@mamba_step.check
def _(
    x,
    past,
    state,
    in_proj,
    conv_weight,
    x_proj,
    dt_proj,
    A_log,
    D,
    out_proj,
    in_bias,
    conv_bias,
    dt_bias,
    out_bias,
    in_scale,
    x_scale,
    dt_scale,
    out_scale,
):
    op = "mamba_step"
    ranks = x.ndim, A_log.ndim, conv_weight.ndim, dt_proj.ndim
    if ranks != (2, 2, 2, 2) or conv_weight.shape[1] == 0:
        raise ShapeError(
            f"{op}: x is {x.shape}, A_log is {A_log.shape}, conv_weight is {conv_weight.shape}, "
            f"dt_proj is {dt_proj.shape}; they must be (b, m), (d, n), (d, k) with k of at least 1 "
            "and (d, r)."
        )
    (b, m), (d, n) = x.shape, A_log.shape
    taps, rank = conv_weight.shape[1], dt_proj.shape[1]
    _check_matrix(op, "in_proj", in_proj, in_scale, (2 * d, m))
    _check_matrix(op, "x_proj", x_proj, x_scale, (rank + 2 * n, d))
    _check_matrix(op, "dt_proj", dt_proj, dt_scale, (d, rank))
    _check_matrix(op, "out_proj", out_proj, out_scale, (m, d))
    shapes = {
        "x": (b, m),
        "past": (b, d, taps - 1),
        "state": (b, d, n),
        "conv_weight": (d, taps),
        "A_log": (d, n),
        "D": (d,),
        "in_bias": (2 * d,),
        "conv_bias": (d,),
        "dt_bias": (d,),
        "out_bias": (m,),
    }
    _check_floats(
        op,
        shapes,
        x=x,
        past=past,
        state=state,
        conv_weight=conv_weight,
        A_log=A_log,
        D=D,
        in_bias=in_bias,
        conv_bias=conv_bias,
        dt_bias=dt_bias,
        out_bias=out_bias,
    )


@mamba_step.flops
def _(x, state, conv_weight, dt_proj):
    """Count 2 for each entry of a matrix, the convolution, 8 for each state, and what is left."""
    b, d, n = state.shape
    m, taps, rank = x.shape[1], conv_weight.shape[1], dt_proj.shape[1]
    matrices = 3 * d * m + d * (rank + 2 * n) + d * rank
    channels = 2 * taps + 2 * FLOPS["silu"] + FLOPS["softplus"] + 4
    return b * (2 * matrices + d * (channels + 8 * n))


@mamba_step.flops_vjp
def _(x, state, conv_weight, dt_proj):
    """Count the gradients of all floats: two products for each matrix, the scan's, the taps'."""
    b, d, n = state.shape
    m, taps, rank = x.shape[1], conv_weight.shape[1], dt_proj.shape[1]
    matrices = 3 * d * m + d * (rank + 2 * n) + d * rank
    channels = 4 * taps + 2 * FLOPS_VJP["silu"] + FLOPS_VJP["softplus"] + 11
    return b * (4 * matrices + d * (channels + 16 * n))


def _mixer(b, m, d, n, taps, rank, *rest, matrix=floats):
    """Describe a call with matrices of one kind."""
    return sample(
        (b, m),
        (b, d, taps - 1),
        (b, d, n),
        matrix(2 * d, m),
        (d, taps),
        matrix(rank + 2 * n, d),
        matrix(d, rank),
        floats(d, n, low=-1.0, high=1.0),
        (d,),
        matrix(m, d),
        *rest,
        orders=1,
    )


def _signed(*shape: int) -> Input:
    return integers(*shape, low=-2, high=3)


@mamba_step.samples
def _():
    yield _mixer(2, 2, 3, 2, 3, 1)
    yield _mixer(1, 2, 2, 2, 2, 2, (4,), (2,), (2,), (2,))
    scales = [floats(rows, low=0.1, high=0.7) for rows in (6, 5, 3, 2)]
    yield _mixer(1, 2, 3, 2, 1, 1, None, (3,), (3,), None, *scales, matrix=_signed)
    yield _mixer(0, 2, 2, 2, 2, 2)


@mamba_step.errors
def _():
    good = {
        "x": blank(2, 3),
        "past": blank(2, 4, 2),
        "state": blank(2, 4, 5),
        "in_proj": blank(8, 3),
        "conv_weight": blank(4, 3),
        "x_proj": blank(12, 4),
        "dt_proj": blank(4, 2),
        "A_log": blank(4, 5),
        "D": blank(4),
        "out_proj": blank(3, 4),
    }
    for name, given, error, pattern in (
        ("x", blank(3), ShapeError, r"x is \(3,\), A_log is \(4, 5\)"),
        ("conv_weight", blank(4, 0), ShapeError, r"conv_weight is \(4, 0\), dt_proj"),
        ("past", blank(2, 4, 3), ShapeError, r"past is \(2, 4, 3\), it must be \(2, 4, 2\)"),
        ("state", blank(1, 4, 5), ShapeError, r"state is \(1, 4, 5\), it must be \(2, 4, 5\)"),
        ("in_proj", blank(4, 3), ShapeError, r"in_proj is \(4, 3\), it must be \(8, 3\)"),
        ("x_proj", blank(5, 4), ShapeError, r"x_proj is \(5, 4\), it must be \(12, 4\)"),
        ("out_proj", blank(4, 3), ShapeError, r"out_proj is \(4, 3\), it must be \(3, 4\)"),
        ("D", blank(5), ShapeError, r"D is \(5,\), it must be \(4,\)"),
        ("dt_bias", blank(2), ShapeError, r"dt_bias is \(2,\), it must be \(4,\)"),
        ("in_scale", blank(8), DTypeError, r"in_proj is of float\d+, with a scale"),
        ("x_proj", astype(blank(12, 4), "int8"), DTypeError, r"x_proj is of int8, with no scale"),
        ("A_log", astype(blank(4, 5), "int32"), DTypeError, r"A_log must be a float, not int32"),
    ):
        yield Failure(lambda call={**good, name: given}: mamba_step(**call), error, pattern)
