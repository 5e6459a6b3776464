"""Attention whose past decays, in chunks: state-space duality and linear attention.

Both are the recurrence of a matrix, H_t = a_t H_(t-1) + k_t v_t^T, read by y_t = H_t^T q_t. Within
a chunk it is a masked matrix product like attention's; between chunks it is a scan of their states.
So l steps cost l / chunk_size steps of a scan and matrix products for the rest. A value that is not
finite may spoil the steps of its chunk before it too, as 0 times it is nan. A memory that is
corrected by what it holds, not only added to, is in `delta_rule`.
"""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite, fused
from helixml._core.samples import Failure, blank, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.creation import ones, zeros
from helixml.ops.elementwise import exp, maximum
from helixml.ops.linalg import matmul
from helixml.ops.movement import (
    astype,
    broadcast_to,
    concat,
    expand_dims,
    permute_dims,
    reshape,
    tril,
)
from helixml.ops.running import cumulative_sum
from helixml.ops.scan import linear_scan

# Chunks


def check_chunks(op, chunk_size, shapes, **tensors):
    """Check the size of chunks, and that tensors are floats of the shapes that are wanted."""
    if dtypes.as_integer(op, "chunk_size", chunk_size) < 1:
        raise ValueRangeError(f"{op}: chunk_size={chunk_size} must be at least 1.")
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        dtypes.check_floating(op, name, tensor.dtype)
        if tensor.shape != shapes[name]:
            raise ShapeError(f"{op}: {name} is {tensor.shape}, it must be {shapes[name]}.")


def widened(*tensors):
    """Return the dtype of the result, and the tensors in the dtype to compute in; None stays."""
    dtype = dtypes.result_type(*[x for x in tensors if x is not None])
    wide = dtypes.accumulation(dtype)
    return dtype, [x if x is None else astype(x, wide, copy=False) for x in tensors]


def cut(x, groups, chunk_size):
    """Cut (b, l, h, ...) into (b, g, h / g, chunks, steps, ...), the last chunk filled up with 0.

    Chunks are as equal as they can be. There is always one, of one step at least: a step of zeros
    changes no state.
    """
    b, length, h, *rest = x.shape
    count = max(-(-length // chunk_size), 1)
    size = max(-(-length // count), 1)
    if missing := count * size - length:
        x = concat([x, zeros((b, missing, h, *rest), x.dtype, x.device)], axis=1)
    x = reshape(x, (b, count, size, groups, h // max(groups, 1), *rest))
    return permute_dims(x, (0, 3, 4, 1, 2, *range(5, x.ndim)))


def joined(y, length):
    """Undo `cut`: return (b, l, h, d) of (b, g, h / g, chunks, steps, d)."""
    b, groups, share, count, size, d = y.shape
    y = permute_dims(y, (0, 3, 4, 1, 2, 5))
    return reshape(y, (b, count * size, groups * share, d))[:, :length]


def decays(log_decay):
    """Return what is left of step j at step i, exp(sum_(j < t <= i) log a_t), 0 for i < j.

    (..., l) to (..., l, l). Each sum is formed by itself: a difference of two sums from the start
    would lose the small ones behind a large one.
    """
    l = log_decay.shape[-1]
    # The sums are products with ones, and 0 * inf is nan; exp(-1e4) is 0 as exp(-inf) is.
    log_decay = expand_dims(maximum(log_decay, -1e4), -1)
    terms = tril(broadcast_to(log_decay, (*log_decay.shape[:-1], l)), k=-1)
    return tril(exp(matmul(tril(ones((l, l), terms.dtype, terms.device)), terms)))


def _attend(q, k, v, log_decay, initial_state):
    """Return all y_t and the last H of H_t = a_t H_(t-1) + k_t v_t^T, y_t = H_t^T q_t, cut up.

    q, k : (b, g, 1, c, l, n). v : (b, g, r, c, l, p). log_decay : (b, g, r, c, l), or None for 0.
    initial_state : (b, g, r, n, p).
    """
    weights = matmul(q, k.mT)  # (b, g, 1, c, l, l)
    if log_decay is None:
        weights, kept, past, whole = tril(weights), v, q, ones((1,), v.dtype, v.device)
    else:
        decay = decays(log_decay)  # (b, g, r, c, l, l)
        weights = weights * decay
        kept = v * decay[..., -1:, :].mT
        since = expand_dims(exp(cumulative_sum(log_decay, axis=-1)), -1)  # (b, g, r, c, l, 1)
        past = q * since
        whole = exp(reduction.sum(log_decay, axis=-1))[..., None, None]  # (b, g, r, c, 1, 1)
    added = matmul(k.mT, kept)  # (b, g, r, c, n, p)
    states = linear_scan(whole, added, initial_state, axis=3)
    before = concat([expand_dims(initial_state, 3), states[:, :, :, :-1]], axis=3)
    return matmul(weights, v) + matmul(past, before), states[:, :, :, -1]


# State-space duality


def _ssd_oracle(
    x, dt, A, B, C, D=None, initial_state=None, *, chunk_size=64, return_last_state=False
):
    b, length, h, p = x.shape
    state = np.zeros((b, h, p, B.shape[3])) if initial_state is None else initial_state
    y = np.zeros(x.shape)
    for t in range(length):
        for head in range(h):
            group = head // (h // B.shape[2])
            step = dt[:, t, head, None, None]
            drive = step * x[:, t, head, :, None] * B[:, t, group, None, :]
            state = np.array(state)
            state[:, head] = np.exp(step * A[head]) * state[:, head] + drive
            y[:, t, head] = (state[:, head] * C[:, t, group, None, :]).sum(-1)
            if D is not None:
                y[:, t, head] += D[head] * x[:, t, head]
    return (y, state) if return_last_state else y


@fused(oracle=_ssd_oracle)
def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    *,
    chunk_size: int = 64,
    return_last_state: bool = False,
):
    """Run a selective state-space model with one decay a head, by matrix products.

    h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t^T,  y_t = h_t C_t + D x_t

    Parameters
    ----------
    x : Tensor, (b, l, h, p), float: h heads of p channels.
    dt : Tensor, (b, l, h): step sizes.
    A : Tensor, (h,): one rate for all states of a head; negative for a stable system.
    B, C : Tensor, (b, l, g, n), where g groups divide the heads; head i is of group i // (h / g).
    D : Tensor, (h,) or None: the skip connection.
    initial_state : Tensor, (b, h, p, n) or None for zeros.
    chunk_size : int, the most steps that one matrix product mixes. Results do not depend on it.
    return_last_state : also return h after the last step.

    Returns
    -------
    y : Tensor, (b, l, h, p). 16-bit floats are computed in float32.
    last_state : Tensor, (b, h, p, n), when asked for; its gradient flows back like that of y.

    Raises
    ------
    ShapeError : sizes do not match. DTypeError : an operand is no float. ValueRangeError : a chunk
        has no steps.

    Notes
    -----
    With s steps in a chunk the matrix products are b l s (g n + h p) + 2 b l h n p multiplications,
    and, where there is no kernel, b l s h entries of memory hold the decays. A kernel keeps the
    states between chunks only, and may take shorter chunks.

    References
    ----------
    Dao & Gu 2024, "Transformers are SSMs: generalized models and efficient algorithms through
    structured state space duality", section 6 and listing 1; chunks are made equal instead of all
    full but the last.

    Examples
    --------
    >>> import helixml as hx
    >>> x, dt = hx.tensor([[[[1.0]], [[2.0]], [[3.0]]]]), hx.ones((1, 3, 1))
    >>> B = C = hx.ones((1, 3, 1, 1))
    >>> hx.ssd(x, dt, hx.log(hx.tensor([0.5])), B, C)[0, :, 0, 0]
    tensor([1.  , 2.5 , 4.25])
    """
    dtype, (x, dt, A, B, C, D, initial_state) = widened(x, dt, A, B, C, D, initial_state)
    b, length, h, p = x.shape
    g, n = B.shape[2:]
    if initial_state is None:
        initial_state = zeros((b, h, p, n), x.dtype, x.device)
    y, state = _attend(
        cut(C, g, chunk_size),
        cut(B, g, chunk_size),
        cut(x * expand_dims(dt, -1), g, chunk_size),
        cut(dt * A, g, chunk_size),
        reshape(initial_state, (b, g, h // g, p, n)).mT,
    )
    y = joined(y, length)
    if D is not None:
        y = y + expand_dims(D, -1) * x
    y = astype(y, dtype, copy=False)
    if not return_last_state:
        return y
    return y, astype(reshape(state.mT, (b, h, p, n)), dtype, copy=False)


@ssd.check
def _(x, dt, A, B, C, D, initial_state, chunk_size, **_):
    if x.ndim != 4 or B.ndim != 4:
        raise ShapeError(
            f"ssd: x is {x.shape}, B is {B.shape}; they must be (b, l, h, p) and (b, l, g, n)."
        )
    b, length, h, p = x.shape
    g, n = B.shape[2:]
    if g < 1 or h % g:
        raise ShapeError(f"ssd: the {g} groups of B, {B.shape}, do not divide {h} heads.")
    shapes = {
        "x": x.shape,
        "dt": (b, length, h),
        "A": (h,),
        "B": (b, length, g, n),
        "C": (b, length, g, n),
        "D": (h,),
        "initial_state": (b, h, p, n),
    }
    check_chunks(
        "ssd", chunk_size, shapes, x=x, dt=dt, A=A, B=B, C=C, D=D, initial_state=initial_state
    )


ssd.options["kinds"] = "f"


def _ssd_counts(x, B, chunk_size):
    """Return numbers of pairs of steps for heads and for groups, and of what meets a state."""
    b, length, h, _ = x.shape
    groups, n = B.shape[2:]
    count = max(-(-length // chunk_size), 1)
    pairs = b * length * -(-length // count)
    return pairs * h, pairs * groups, x.size * n


@ssd.flops
def _(x, dt, B, D, chunk_size):
    """Count scores, decays and their product, means; 2 for a state read or written; dt x, D x."""
    pairs, scores, states = _ssd_counts(x, B, chunk_size)
    inner = 2 * B.shape[3] * scores + (2 + 2 * x.shape[3]) * pairs
    return inner + 4 * states + (1 + 2 * (D is not None)) * x.size + 2 * dt.size


@ssd.flops_vjp
def _(x, dt, B, D, chunk_size):
    """Count the gradients of all inputs that there are: a kernel finds them together."""
    pairs, scores, states = _ssd_counts(x, B, chunk_size)
    inner = 2 * B.shape[3] * scores + (4 + 4 * x.shape[3] + 4 * B.shape[3]) * pairs
    return inner + 8 * states + (3 + 4 * (D is not None)) * x.size + 4 * dt.size


@ssd.samples
def _():
    steps, rates = floats(2, 5, 4, low=0.1, high=0.9), floats(4, low=-2.0, high=-0.2)
    yield sample((2, 5, 4, 3), steps, rates, (2, 5, 2, 2), (2, 5, 2, 2), orders=1, chunk_size=2)
    yield sample(
        (1, 3, 2, 2),
        floats(1, 3, 2, low=0.1, high=0.9),
        floats(2, low=-2.0, high=-0.2),
        (1, 3, 1, 2),
        (1, 3, 1, 2),
        (2,),
        floats(1, 2, 2, 2),
        chunk_size=2,
        return_last_state=True,
    )
    yield sample(
        (1, 7, 2, 1),
        floats(1, 7, 2, low=0.1, high=0.9),
        floats(2, low=-2.0, high=-0.2),
        (1, 7, 2, 3),
        (1, 7, 2, 3),
        (2,),
        orders=1,
        return_last_state=True,
    )
    yield sample(
        (2, 0, 1, 2),
        (2, 0, 1),
        floats(1, low=-1.0, high=-0.1),
        (2, 0, 1, 3),
        (2, 0, 1, 3),
        None,
        floats(2, 1, 2, 3),
        orders=1,
        return_last_state=True,
    )


@ssd.errors
def _():
    x, dt, rates, b = blank(2, 5, 4, 3), blank(2, 5, 4), blank(4), blank(2, 5, 2, 6)
    for call, error, pattern in (
        (
            lambda: ssd(dt, dt, rates, b, b),
            ShapeError,
            r"x is \(2, 5, 4\), B is \(2, 5, 2, 6\); th",
        ),
        (lambda: ssd(x, x, rates, b, b), ShapeError, r"dt is \(2, 5, 4, 3\), it must be \(2, 5, 4"),
        (lambda: ssd(x, dt, blank(3), b, b), ShapeError, r"A is \(3,\), it must be \(4,\)"),
        (lambda: ssd(x, dt, rates, blank(2, 5, 3, 6), b), ShapeError, r"the 3 groups .* 4 heads"),
        (lambda: ssd(x, dt, rates, blank(2, 4, 2, 6), b), ShapeError, r"B is .* \(2, 5, 2, 6\)"),
        (lambda: ssd(x, dt, rates, b, blank(2, 5, 2, 5)), ShapeError, r"C is .* \(2, 5, 2, 6\)"),
        (lambda: ssd(x, dt, rates, b, b, blank(1)), ShapeError, r"D is \(1,\), it must be \(4,\)"),
        (
            lambda: ssd(x, dt, rates, b, b, None, blank(2, 4, 6, 3)),
            ShapeError,
            r"initial_state is \(2, 4, 6, 3\), it must be \(2, 4, 3, 6\)",
        ),
        (
            lambda: ssd(x, dt, rates, b, b, chunk_size=0),
            ValueRangeError,
            r"ssd: chunk_size=0 must be at least 1",
        ),
        (lambda: ssd(x, dt, rates, b, b, chunk_size=0.5), DTypeError, r"chunk_size must be an int"),
        (
            lambda: ssd(x, astype(dt, "int32"), rates, b, b),
            DTypeError,
            r"ssd: dt must be a float, not int32",
        ),
    ):
        yield Failure(call, error, pattern)


# Linear attention


def _linear_attention_oracle(
    q,
    k,
    v,
    initial_state=None,
    *,
    normalise=True,
    eps=0.0,
    chunk_size=64,
    return_last_state=False,
):
    b, length, h, n = q.shape
    p = v.shape[3]
    y = np.zeros((b, length, h, p))
    state = np.zeros((b, h, n, p + normalise)) if initial_state is None else np.array(initial_state)
    for row, head in np.ndindex(b, h):
        memory = state[row, head]
        for t in range(length):
            value = np.append(v[row, t, head], 1.0) if normalise else v[row, t, head]
            memory = memory + np.outer(k[row, t, head], value)
            found = memory.T @ q[row, t, head]
            y[row, t, head] = found[:p] / (found[p] + eps) if normalise else found
        state[row, head] = memory
    return (y, state) if return_last_state else y


@composite(oracle=_linear_attention_oracle)
def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    initial_state: Tensor | None = None,
    *,
    normalise: bool = True,
    eps: float = 0.0,
    chunk_size: int = 64,
    return_last_state: bool = False,
):
    """Attend to all steps so far with weights q_t . k_s, from a memory of constant size.

    S_t = S_(t-1) + k_t v_t^T,  z_t = z_(t-1) + k_t,  y_t = S_t^T q_t / (z_t . q_t + eps)

    Parameters
    ----------
    q, k : Tensor, (b, l, h, n), float: h heads of n features, after the feature map.
    v : Tensor, (b, l, h, p): values.
    initial_state : Tensor, (b, h, n, p + 1), S and in its last column z, or None for zeros;
        (b, h, n, p) without ``normalise``.
    normalise : divide by the sum of the weights; their features must then be of one sign.
    eps : float, added to that sum.
    chunk_size : int, the most steps that one matrix product mixes. Results do not depend on it.
    return_last_state : also return the state after the last step.

    Returns
    -------
    y : Tensor, (b, l, h, p). 16-bit floats are computed in float32.
    last_state : Tensor of the form of ``initial_state``, when asked for.

    Raises
    ------
    ShapeError : sizes do not match. DTypeError : an operand is no float. ValueRangeError : a chunk
        has no steps.

    References
    ----------
    Katharopoulos et al. 2020, "Transformers are RNNs: fast autoregressive transformers with linear
    attention", eqs. 10 to 12 and 18 to 20; in chunks (Hua et al. 2022, "Transformer quality in
    linear time") instead of a loop over all steps.

    Examples
    --------
    >>> import helixml as hx
    >>> q = k = hx.ones((1, 3, 1, 2))
    >>> hx.linear_attention(q, k, hx.tensor([[[[2.0]], [[4.0]], [[9.0]]]]))[0, :, 0, 0]
    tensor([2., 3., 5.])
    """
    if q.ndim != 4 or v.ndim != 4:
        raise ShapeError(
            f"linear_attention: q is {q.shape}, v is {v.shape}; they must be (b, l, h, n) and "
            "(b, l, h, p)."
        )
    b, length, h, n = q.shape
    p = v.shape[3]
    width = p + bool(normalise)  # of the memory: a value of 1 beside v sums the weights
    shapes = {"q": q.shape, "k": q.shape, "v": (b, length, h, p), "initial_state": (b, h, n, width)}
    check_chunks("linear_attention", chunk_size, shapes, q=q, k=k, v=v, initial_state=initial_state)
    dtype, (q, k, v, initial_state) = widened(q, k, v, initial_state)
    if normalise:
        v = concat([v, ones((b, length, h, 1), v.dtype, v.device)], axis=3)
    if initial_state is None:
        initial_state = zeros((b, h, n, width), v.dtype, v.device)
    y, state = _attend(
        cut(q, h, chunk_size),
        cut(k, h, chunk_size),
        cut(v, h, chunk_size),
        None,
        expand_dims(initial_state, 2),
    )
    y = joined(y, length)
    if normalise:
        y = y[..., :p] / (y[..., p:] + eps)
    y = astype(y, dtype, copy=False)
    return (y, astype(state[:, :, 0], dtype, copy=False)) if return_last_state else y


linear_attention.options["kinds"] = "f"


@linear_attention.samples
def _():
    features, past = floats(2, 5, 3, 2, low=0.2, high=1.5), floats(2, 3, 2, 3, low=0.2, high=1.5)
    yield sample(features, features, (2, 5, 3, 2), past, chunk_size=2, return_last_state=True)
    yield sample(features, features, (2, 5, 3, 1), orders=1, eps=0.1)
    yield sample(
        (1, 7, 2, 3), (1, 7, 2, 3), (1, 7, 2, 2), floats(1, 2, 3, 2), normalise=False, orders=1
    )
    yield sample((2, 0, 1, 2), (2, 0, 1, 2), (2, 0, 1, 3), orders=1, return_last_state=True)


@linear_attention.errors
def _():
    q, v = blank(2, 5, 3, 4), blank(2, 5, 3, 6)
    for call, error, pattern in (
        (lambda: linear_attention(v[0], q, v), ShapeError, r"q is \(5, 3, 6\), v is \(2, 5, 3, 6"),
        (lambda: linear_attention(q, v, v), ShapeError, r"k is \(2, 5, 3, 6\), it must be \(2, 5"),
        (lambda: linear_attention(q, q, v[:, :4]), ShapeError, r"v is \(2, 4, 3, 6\), it must be"),
        (
            lambda: linear_attention(q, q, v, blank(2, 3, 4, 6)),
            ShapeError,
            r"initial_state is \(2, 3, 4, 6\), it must be \(2, 3, 4, 7\)",
        ),
        (
            lambda: linear_attention(q, q, v, chunk_size=-1),
            ValueRangeError,
            r"linear_attention: chunk_size=-1 must be at least 1",
        ),
        (
            lambda: linear_attention(q, q, astype(v, "int32")),
            DTypeError,
            r"linear_attention: v must be a float, not int32",
        ),
    ):
        yield Failure(call, error, pattern)
