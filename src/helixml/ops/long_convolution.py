"""Convolution with filters as long as the sequence, through frequencies: Hyena, S4 and their like.

Short filters are in `fused` (`causal_conv1d`), transforms in `fourier`.
"""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.composed import fused
from helixml._core.samples import Failure, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError
from helixml.ops.fourier import flops_of_lines, irfft, rfft
from helixml.ops.movement import cast, expand_dims


def fast_length(n):
    """Return the least number that is at least ``n`` and has no prime factor above 5.

    >>> [fast_length(n) for n in (1, 7, 11, 97, 1025)]
    [1, 8, 12, 100, 1080]
    """
    best = 1 << max(n - 1, 0).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            least = -(-n // odd)  # the power of 2 is the least that is at least n / odd
            best = min(best, odd << max(least - 1, 0).bit_length())
            odd *= 3
        fives *= 5
    return best


def _fft_conv_oracle(u, k, bias=None, gate=None):
    k = k.reshape(k.shape[-2:])
    y = np.zeros(u.shape, np.result_type(u, k))
    for t in range(u.shape[-1]):
        for lag in range(min(t + 1, k.shape[-1])):
            y[..., t] = y[..., t] + k[:, lag] * u[..., t - lag]
    if bias is not None:
        y = y + bias[:, None] * u
    return y if gate is None else y * gate


@fused(oracle=_fft_conv_oracle)
def fft_conv(u: Tensor, k: Tensor, bias: Tensor | None = None, gate: Tensor | None = None):
    """Convolve channels with long filters, y_t = (sum_(s<=t) k_(t-s) u_s + bias u_t) gate_t.

    Parameters
    ----------
    u : Tensor, (b, d, l), float.
    k : Tensor, (d, m) or (1, d, m), or (1, m) for one filter for all, m <= l: k_j is the weight of
        the input j steps ago.
    bias : Tensor, (d,) or None: the weight of the input itself, beside k_0.
    gate : Tensor, (b, d, l) or None.

    Returns
    -------
    Tensor, (b, d, l). 16-bit floats are computed in float32.

    Raises
    ------
    ShapeError : shapes do not match. DTypeError : an operand is no float.

    Notes
    -----
    Computed by transforms of a length of at least l + m - 1, so that nothing wraps around, in
    O(l log l); errors are relative to the largest value of a sequence, not to each, and a value
    that is not finite makes all of its sequence nan, what was before it included. Gradient: for u
    the correlation of g with k, for k that of g with u, summed over the batch, both by transforms.
    The CPU's kernel has transforms of its own, of l numbers up to the next power of two; to it the
    bias is a part of k_0.

    References
    ----------
    Poli et al. 2023, "Hyena hierarchy: towards larger convolutional language models", section 3.1
    and algorithm 3; the bias is that of the authors' code.

    Examples
    --------
    >>> import helixml as hx
    >>> u = hx.tensor([[[1.0, 0.0, 2.0]]])
    >>> hx.round(hx.fft_conv(u, hx.tensor([[1.0, 10.0, 100.0]])))
    tensor([[[  1.,  10., 102.]]])
    """
    l, m = u.shape[-1], k.shape[-1]
    if l == 0:
        y = u * k[..., :0]
    else:
        n = fast_length(l + m - 1)
        y = irfft(rfft(u, n) * rfft(k, n), n)[..., :l]
        y = cast(y, dtypes.result_type(u.dtype, k.dtype))
    if bias is not None:
        y = y + expand_dims(bias, -1) * u
    return y if gate is None else y * gate


fft_conv.options["kinds"] = "f"


@fft_conv.check
def _(u, k, bias, gate):
    for name, x in {"u": u, "k": k, "bias": bias, "gate": gate}.items():
        if x is not None and not dtypes.is_floating(x.dtype):
            raise DTypeError(f"fft_conv: {name} must be a float, not {x.dtype}.")
    one = k.ndim == 3 and k.shape[0] == 1  # filters with an axis for the batch
    if u.ndim != 3 or not (k.ndim == 2 or one) or k.shape[-2] not in (1, u.shape[1]):
        turned = u.ndim == 3 and k.ndim == 2 and k.shape[0] == u.shape[2] != u.shape[1]
        raise ShapeError(
            f"fft_conv: u is {u.shape}, k is {k.shape}; they must be (b, d, l) and (d, m), or "
            f"(1, m) for one filter for all.{' Hint: u.mT if that is (b, l, d).' if turned else ''}"
        )
    if not min(1, u.shape[2]) <= k.shape[-1] <= u.shape[2]:
        raise ShapeError(
            f"fft_conv: the filters have {k.shape[-1]} taps, the sequence has {u.shape[2]} steps. "
            "Hint: from 1 to l taps; k[..., :l] is all that a causal convolution can use."
        )
    if bias is not None and bias.shape != u.shape[1:2]:
        raise ShapeError(
            f"fft_conv: bias is {bias.shape}, it must be {u.shape[1:2]}. "
            "Hint: one number for each channel of u."
        )
    if gate is not None and gate.shape != u.shape:
        raise ShapeError(
            f"fft_conv: gate is {gate.shape}, u is {u.shape}. Hint: hx.broadcast_to(gate, u.shape)."
        )


def _transforms(u, k):
    """Return the FLOPs of transforming u, and of transforming k, and of a product of the two."""
    n = fast_length(max(u.shape[-1] + k.shape[-1] - 1, 1))
    lines, filters = u.shape[0] * u.shape[1], k.shape[-2]
    once, twice = (flops_of_lines(n, count, real=True) for count in (filters, lines))
    return twice, once, 6 * lines * (n // 2 + 1)


@fft_conv.flops
def _(u, k, bias, gate):
    """Count three transforms and the product of spectra."""
    of_u, of_k, product = _transforms(u, k)
    return 2 * of_u + of_k + product + (2 * (bias is not None) + (gate is not None)) * u.size


@fft_conv.flops_vjp
def _(u, k, bias, gate, needs):
    """Count one transform of g, and for u and k a product and a transform back."""
    of_u, of_k, product = _transforms(u, k)
    total = (of_u if needs["u"] or needs["k"] else 0) + (gate is not None) * u.size
    total += needs["u"] * (of_u + product) + needs["k"] * (of_k + product)
    return total + (2 * u.size if needs["bias"] else 0) + (u.size if needs["gate"] else 0)


@fft_conv.samples
def _():
    yield sample((2, 3, 5), (3, 5), (3,), (2, 3, 5))
    yield sample((2, 3, 7), (1, 7))
    yield sample((1, 2, 6), (2, 6), None, (1, 2, 6))
    yield sample((2, 2, 5), (2, 3), (2,))
    yield sample((2, 3, 4), (1, 3, 4), (3,))
    yield sample((1, 1, 1), (1, 1))
    yield sample((0, 2, 3), (2, 3), (2,))
    yield sample((2, 2, 0), (2, 0), (2,), (2, 2, 0))


@fft_conv.errors
def _():
    from helixml.ops.creation import zeros

    u, k = zeros((2, 3, 4)), zeros((3, 4))
    for call, error, pattern in (
        (
            lambda: fft_conv(zeros((3, 4)), k),
            ShapeError,
            r"u is \(3, 4\), k is \(3, 4\); they must",
        ),
        (lambda: fft_conv(u, zeros((2, 3, 4))), ShapeError, r"k is \(2, 3, 4\); they must"),
        (lambda: fft_conv(zeros((2, 4, 3)), k), ShapeError, r"k is \(3, 4\); .*Hint: u\.mT"),
        (lambda: fft_conv(u, zeros((3, 0))), ShapeError, r"have 0 taps.*Hint: from 1 to l"),
        (
            lambda: fft_conv(u, zeros((2, 4))),
            ShapeError,
            r"k is \(2, 4\); they must be \(b, d, l\)",
        ),
        (lambda: fft_conv(u, zeros((3, 5))), ShapeError, r"have 5 taps, the sequence has 4 steps"),
        (lambda: fft_conv(u, k, zeros((4,))), ShapeError, r"bias is \(4,\), .* \(3,\)\. Hint"),
        (
            lambda: fft_conv(u, k, gate=zeros((3, 4))),
            ShapeError,
            r"gate is \(3, 4\), u.*broadcast_to",
        ),
        (lambda: fft_conv(u, zeros((3, 4), "int32")), DTypeError, r"k must be a float, not int32"),
    ):
        yield Failure(call, error, pattern)
