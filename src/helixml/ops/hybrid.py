"""A state-space scan and attention side by side on one normalised input, for one block of a hybrid.

Both mix the same features: the scan remembers in a fixed state, attention looks at each step. A
fused op, as those of `fused`: the body is the definition.
"""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.composed import fused
from helixml._core.samples import Failure, blank, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.attending import attention
from helixml.ops.fused import rms_norm, selective_scan
from helixml.ops.linalg import linear
from helixml.ops.movement import astype, permute_dims, reshape


def _widths(e, n, heads, key_heads):
    """Return how many rows of in_weight make u, delta, B, C, q, k and v."""
    keys = (heads if key_heads is None else key_heads) * (e // heads)
    return e, e, n, n, e, keys, keys


def _parts(x, widths):
    """Cut the first axis into pieces of these widths."""
    ends = np.cumsum(widths).tolist()
    return [x[end - width : end] for end, width in zip(ends, widths, strict=True)]


def _oracle(
    x,
    norm_weight,
    in_weight,
    A,
    out_weight,
    D=None,
    delta_bias=None,
    *,
    heads,
    key_heads=None,
    window=None,
    eps=1e-6,
):
    (e, n), (b, l, _) = A.shape, x.shape
    width = e // heads
    widths = _widths(e, n, heads, key_heads)
    share = e // widths[-1]
    y = np.zeros((b, l, e))
    for row in range(b):
        past, h = [], np.zeros((e, n))
        for t in range(l):
            size = np.sqrt((x[row, t] ** 2).mean() + eps)
            u, delta, B, C, q, k, v = _parts(in_weight @ (x[row, t] / size * norm_weight), widths)
            delta = np.logaddexp(0, delta if delta_bias is None else delta + delta_bias)
            h = np.exp(delta[:, None] * A) * h + (delta * u)[:, None] * B
            y[row, t] = h @ C if D is None else h @ C + D * u
            past = [*past, (k, v)] if window is None else [*past, (k, v)][-window:]
            for head in range(heads):
                own, keys = (slice(i * width, (i + 1) * width) for i in (head, head // share))
                scores = np.array([q[own] @ key[keys] for key, _ in past]) / np.sqrt(width)
                weights = np.exp(scores - scores.max())
                values = np.array([value[keys] for _, value in past])
                y[row, t, own] += weights @ values / weights.sum()
    return y @ out_weight.T


@fused(oracle=_oracle)
def scan_attention(
    x: Tensor,
    norm_weight: Tensor,
    in_weight: Tensor,
    A: Tensor,
    out_weight: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    heads: int,
    key_heads: int | None = None,
    window: int | None = None,
    eps: float = 1e-6,
):
    """Mix steps by a selective scan and by causal attention at once, and project their sum.

    u, delta, B, C, q, k, v = the parts of W_in rms_norm(x),
    y = W_out (selective_scan(u, softplus(delta + delta_bias), A, B, C, D) + attention(q, k, v))

    Parameters
    ----------
    x : Tensor, (b, l, d), float.
    norm_weight : Tensor, (d,).
    in_weight : Tensor, (3 e + 2 n + 2 g w, d): the rows of u and delta, e each, of B and C, n each,
        of q, e, and of k and v, g w each; w = e / heads is the width of a head, g = key_heads.
    A : Tensor, (e, n), real; negative for a stable system.
    out_weight : Tensor, (d_out, e).
    D : Tensor, (e,) or None: the scan's skip connection. delta_bias : Tensor, (e,) or None.
    heads : int, of queries; channels w i to w i + w - 1 of the sum get head i.
    key_heads : int that divides heads, or None for as many: heads in groups share keys and values.
    window : int, or None: attention sees only keys at a distance below this many steps.
    eps : float, of the normalisation.

    Returns
    -------
    Tensor, (b, l, d_out).

    Raises
    ------
    ShapeError : sizes do not match. DTypeError : an operand is no float. ValueRangeError : a number
    of heads that divides nothing, or a window below 1.

    Notes
    -----
    There are no positions in attention: the scan tells order. On CUDA four things are fused: parts
    are projected to where the kernels read them, attention reads heads side by side as they lie,
    adds the scan's result to what it stores, and in the gradient the seven parts make two products.
    Elsewhere the definition runs, with the backend's kernels of its ops.

    References
    ----------
    Dong et al. 2024, "Hymba: a hybrid-head architecture for small language models", section 2.1,
    eq. 3, without the normalisation and the factor of each of the two results, meta tokens and the
    convolution before the scan.

    Examples
    --------
    >>> import helixml as hx
    >>> rng = hx.random.Rng(0)
    >>> x, weight = rng.normal((1, 5, 4)), rng.normal((26, 4), std=0.5)
    >>> A, out = -hx.ones((4, 3)), rng.normal((4, 4), std=0.5)
    >>> hx.scan_attention(x, hx.ones((4,)), weight, A, out, heads=2).shape
    (1, 5, 4)
    """
    e, n = A.shape
    (b, l, _), width = x.shape, e // heads
    normal = rms_norm(x, norm_weight, eps)
    rows = _parts(in_weight, _widths(e, n, heads, key_heads))
    u, delta, B, C, q, k, v = [linear(normal, weight) for weight in rows]
    scanned = selective_scan(
        u.mT, delta.mT, A, B.mT, C.mT, D, delta_bias=delta_bias, delta_softplus=True
    )

    def by_heads(part):
        shape = b, l, part.shape[-1] // max(width, 1), width
        return permute_dims(reshape(part, shape), (0, 2, 1, 3))

    seen = attention(by_heads(q), by_heads(k), by_heads(v), causal=True, window=window)
    total = scanned.mT + reshape(permute_dims(seen, (0, 2, 1, 3)), (b, l, e))
    return linear(total, out_weight)


scan_attention.options["kinds"] = "f"


@scan_attention.check
def _(x, norm_weight, in_weight, A, out_weight, D, delta_bias, heads, key_heads, window, **_):
    op = "scan_attention"
    heads = dtypes.as_integer(op, "heads", heads)
    groups = heads if key_heads is None else dtypes.as_integer(op, "key_heads", key_heads)
    if x.ndim != 3 or A.ndim != 2 or out_weight.ndim != 2:
        raise ShapeError(
            f"{op}: x is {x.shape}, A is {A.shape}, out_weight is {out_weight.shape}; they must be "
            "(b, l, d), (e, n) and (d_out, e)."
        )
    d, (e, n) = x.shape[2], A.shape
    if heads < 1 or groups < 1 or e % heads or heads % groups or not e:
        raise ValueRangeError(
            f"{op}: {heads} heads and {groups} heads of keys for {e} channels. "
            "Hint: heads divides the channels, key_heads divides heads."
        )
    if window is not None and dtypes.as_integer(op, "window", window) < 1:
        raise ValueRangeError(f"{op}: window={window} must be at least 1.")
    shapes = {
        "norm_weight": (norm_weight, (d,)),
        "in_weight": (in_weight, (sum(_widths(e, n, heads, groups)), d)),
        "out_weight": (out_weight, (out_weight.shape[0], e)),
        "D": (D, (e,)),
        "delta_bias": (delta_bias, (e,)),
    }
    for name, tensor in {"x": x, "A": A}.items():
        dtypes.check_floating(op, name, tensor.dtype)
    for name, (tensor, shape) in shapes.items():
        if tensor is None:
            continue
        dtypes.check_floating(op, name, tensor.dtype)
        if tensor.shape != shape:
            raise ShapeError(f"{op}: {name} is {tensor.shape}, it must be {shape}.")


def _counts(x, A, in_weight, out_weight, window):
    """Return the FLOPs of products with weights, of the scan, and of attention for a width of 1."""
    (b, l, d), (e, n) = x.shape, A.shape
    seen = l if window is None else min(window, l)
    pairs = b * (seen * l - seen * (seen - 1) // 2)
    return 2 * b * l * (d * in_weight.shape[0] + e * out_weight.shape[0]), 7 * b * l * e * n, pairs


@scan_attention.flops
def _(x, A, in_weight, out_weight, D, heads, window):
    """Count products, scan and attention; softmax as 4 for each weight, beside it 6 a channel."""
    products, scan, pairs = _counts(x, A, in_weight, out_weight, window)
    rows = x.shape[0] * x.shape[1]
    mixed = 4 * A.shape[0] * pairs + 4 * heads * pairs
    return products + scan + mixed + 5 * x.size + (5 + 2 * (D is not None)) * rows * A.shape[0]


@scan_attention.flops_vjp
def _(x, A, in_weight, out_weight, D, heads, window):
    """Count twice the products and the scan, and attention's four products of pairs."""
    products, scan, pairs = _counts(x, A, in_weight, out_weight, window)
    rows = x.shape[0] * x.shape[1]
    mixed = 8 * A.shape[0] * pairs + 4 * heads * pairs
    channels = (10 + 4 * (D is not None)) * rows * A.shape[0]
    return 2 * products + 2 * scan + mixed + 9 * x.size + channels


@scan_attention.samples
def _():
    rates = floats(4, 3, low=-1.5, high=-0.2)
    narrow = {"low": -0.7, "high": 0.7}
    yield sample(
        (2, 5, 3),
        floats(3, low=0.5),
        floats(26, 3, **narrow),
        rates,
        floats(2, 4, **narrow),
        (4,),
        floats(4, low=-1.0, high=0.5),
        orders=1,
        heads=2,
    )
    yield sample(
        (1, 6, 3),
        floats(3, low=0.5),
        floats(22, 3, **narrow),
        rates,
        floats(3, 4, **narrow),
        orders=1,
        heads=2,
        key_heads=1,
        window=3,
    )
    yield sample(
        (1, 1, 2), floats(2, low=0.5), (7, 2), floats(1, 1, high=-0.1), (1, 1), orders=1, heads=1
    )
    yield sample(
        (2, 0, 2), floats(2, low=0.5), (7, 2), floats(1, 1, high=-0.1), (1, 1), orders=1, heads=1
    )


@scan_attention.errors
def _():
    x, scale, weight, rates, out = blank(2, 5, 3), blank(3), blank(26, 3), blank(4, 3), blank(2, 4)

    def call(*changed, **options):
        given = {"x": x, "norm_weight": scale, "in_weight": weight, "A": rates, "out_weight": out}
        return lambda: scan_attention(**{**given, **dict(changed)}, **{"heads": 2, **options})

    for attempt, error, pattern in (
        (call(("x", scale)), ShapeError, r"x is \(3,\), A is \(4, 3\), out_weight is \(2, 4\)"),
        (call(("norm_weight", blank(4))), ShapeError, r"norm_weight is \(4,\), it must be \(3,\)"),
        (call(key_heads=1), ShapeError, r"in_weight is \(26, 3\), it must be \(22, 3\)"),
        (call(("out_weight", blank(2, 3))), ShapeError, r"out_weight is \(2, 3\), .* \(2, 4\)"),
        (call(("D", blank(1))), ShapeError, r"D is \(1,\), it must be \(4,\)"),
        (call(("delta_bias", blank(3))), ShapeError, r"delta_bias is \(3,\), it must be \(4,\)"),
        (call(heads=3), ValueRangeError, r"3 heads and 3 heads of keys for 4 channels. Hint"),
        (call(key_heads=0), ValueRangeError, r"2 heads and 0 heads of keys"),
        (call(window=0), ValueRangeError, r"window=0 must be at least 1"),
        (call(heads=1.5), DTypeError, r"heads must be an integer, not 1.5"),
        (call(("A", astype(rates, "int32"))), DTypeError, r"A must be a float, not int32"),
    ):
        yield Failure(attempt, error, pattern)
