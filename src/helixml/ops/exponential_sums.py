"""Sums of complex exponentials at equal steps: products with a Vandermonde matrix that is not made.

They are the kernels of diagonal state spaces (S4D, H3) and what is heard of their states later on.
"""

from __future__ import annotations

import math

import numpy as np

from helixml import dtypes
from helixml._core.composed import fused
from helixml._core.samples import Failure, blank, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.creation import arange
from helixml.ops.elementwise import exp
from helixml.ops.linalg import matmul
from helixml.ops.movement import astype, expand_dims, reshape
from helixml.ops.trigonometric import cos, sin


def _exponential_oracle(weights, exponents, *, length):
    w, s = (x[..., 0] + 1j * x[..., 1] for x in (weights, exponents))
    y = np.zeros((*w.shape[:-1], length))
    for t in range(length):
        y[..., t] = (w * np.exp(s * t)).sum(-1).real
    return y


@fused(oracle=_exponential_oracle)
def exponential_sum(weights: Tensor, exponents: Tensor, *, length: int):
    """Add up weighted complex exponentials, y_t = Re sum_n w_n exp(s_n t) for 0 <= t < length.

    Parameters
    ----------
    weights : Tensor, (..., d, n, 2), float: real and imaginary parts of w.
    exponents : Tensor, (d, n, 2), float: real and imaginary parts of s.
    length : int, at least 0: l.

    Returns
    -------
    Tensor, (..., d, l). 16-bit floats are computed in float32.

    Raises
    ------
    ShapeError : shapes do not match. DTypeError : an operand is no float, or the length no int.
    ValueRangeError : a negative length.

    Notes
    -----
    With t = i m + j and m = ceil(sqrt l), exp(s t) = exp(s i m) exp(s j): two tables of about
    sqrt l powers each, and a product of matrices for each channel, 4 d n l operations, instead of
    d n l exponentials. Powers are taken of the exponents and not of one another: y is off by a
    share of ``|s| l eps``. CUDA's kernels make no table: each thread takes one power of each n and
    multiplies it by exp(128 s), seven times, or for gradients by exp(32 s), 31 times. Gradients,
    with g that of y: conj(sum_t g_t exp(s_n t)) for w_n, conj(w_n sum_t t g_t exp(s_n t)) for s_n.

    References
    ----------
    Gu et al. 2022, "On the parameterization and initialization of diagonal state space models",
    section 3.3: the Vandermonde product.

    Examples
    --------
    >>> import helixml as hx
    >>> weights, exponents = hx.tensor([[[1.0, 0.0]]]), hx.log(hx.tensor([[[0.5, 1.0]]]))
    >>> hx.exponential_sum(weights, exponents, length=4)
    tensor([[1.   , 0.5  , 0.25 , 0.125]])
    """
    m = columns(length)
    fine, coarse = _powers(exponents, 1, m), _powers(exponents, m, -(-length // m))
    real, imag = (expand_dims(weights[..., part], -2) for part in (0, 1))  # (..., d, 1, n)
    left = real * coarse[0] - imag * coarse[1], real * coarse[1] + imag * coarse[0]
    y = matmul(left[0], fine[0].mT) - matmul(left[1], fine[1].mT)  # (..., d, rows, m)
    return reshape(y, (*y.shape[:-2], y.shape[-2] * y.shape[-1]))[..., :length]


def columns(length):
    """Return how many powers the fine table has: of about the root, both tables are small."""
    return math.isqrt(max(length - 1, 0)) + 1


def _powers(exponents, step, count):
    """Return real and imaginary parts of exp(s step j) for j < count, (d, count, n) each."""
    at = step * expand_dims(arange(count, dtype=exponents.dtype, device=exponents.device), -1)
    size = exp(expand_dims(exponents[..., 0], -2) * at)
    angle = expand_dims(exponents[..., 1], -2) * at
    return size * cos(angle), size * sin(angle)


exponential_sum.options["kinds"] = "f"


@exponential_sum.check
def _(weights, exponents, length):
    for name, x in {"weights": weights, "exponents": exponents}.items():
        dtypes.check_floating("exponential_sum", name, x.dtype)
    if exponents.ndim != 3 or exponents.shape[2] != 2 or weights.shape[-3:] != exponents.shape:
        raise ShapeError(
            f"exponential_sum: weights are {weights.shape}, exponents {exponents.shape}; they must "
            "be (..., d, n, 2) and (d, n, 2). Hint: stack([real(z), imag(z)], axis=-1)."
        )
    if dtypes.as_integer("exponential_sum", "length", length) < 0:
        raise ValueRangeError(f"exponential_sum: length={length} must be at least 0.")


@exponential_sum.flops
def _(weights, length):
    """Count a complex factor and the real part of a product for each power."""
    return 4 * (weights.size // 2) * length


@exponential_sum.flops_vjp
def _(weights, length):
    """Count the same for the sums of g and of t g, of both parts."""
    return 8 * (weights.size // 2) * length


@exponential_sum.samples
def _():
    exponents = floats(3, 4, 2, low=-0.6, high=0.3)
    yield sample((3, 4, 2), exponents, length=7)
    yield sample((2, 3, 4, 2), exponents, length=10, orders=1)
    yield sample((1, 1, 2), floats(1, 1, 2), length=1)
    yield sample((2, 0, 2), (2, 0, 2), length=3)
    yield sample((2, 3, 2), (2, 3, 2), length=0)


@exponential_sum.errors
def _():
    x = blank(3, 4, 2)
    for call, error, pattern in (
        (
            lambda: exponential_sum(blank(3, 4), x, length=2),
            ShapeError,
            r"weights are \(3, 4\), exponents \(3, 4, 2\)",
        ),
        (
            lambda: exponential_sum(x, blank(3, 5, 2), length=2),
            ShapeError,
            r"exponents \(3, 5, 2\).*Hint: stack",
        ),
        (lambda: exponential_sum(blank(3, 4, 3), blank(3, 4, 3), length=2), ShapeError, r"4, 3\)"),
        (lambda: exponential_sum(x, x, length=-1), ValueRangeError, r"length=-1 must be at least"),
        (lambda: exponential_sum(x, x, length=1.5), DTypeError, r"length must be an int"),
        (
            lambda: exponential_sum(x, astype(x, "int32"), length=1),
            DTypeError,
            r"exponents must be a float, not int32",
        ),
    ):
        yield Failure(call, error, pattern)
