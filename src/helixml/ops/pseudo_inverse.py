"""Pseudo-inverses, and the least squares problems that they solve."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, floats, matrix, sample
from helixml._core.tensor import Tensor
from helixml.errors import ConvergenceError, DTypeError, ShapeError
from helixml.ops.decomposition import finite, no_convergence
from helixml.ops.logic import greater
from helixml.ops.matrices import LAPACK_DTYPES, adjoint, check_matrices, identity
from helixml.ops.movement import expand_dims, reshape
from helixml.ops.numbers import conj, real
from helixml.ops.reduction import count_nonzero, sum
from helixml.ops.singular_values import svdvals
from helixml.ops.solving import STACK, WELL_CONDITIONED, check_system

Array = Any  # a raw array of the backend


def _integers():
    from helixml.ops.creation import ones

    return ones((2, 2), dtype=dtypes.int64)


def _pinv_oracle(x, rtol=None):
    if rtol is None:
        rtol = np.finfo(np.float64).eps * max(x.shape[-2:])
    return np.linalg.pinv(x, rtol=rtol)


@primitive(promotes=("x",), oracle=_pinv_oracle)
def pinv(B, x: Array, *, rtol: Any = None):
    """Return the Moore-Penrose pseudo-inverse of each matrix.

    Parameters
    ----------
    x : Tensor, (..., m, n), float or complex.
    rtol : singular values up to ``rtol`` times the largest count as 0: a float, or a Tensor (...);
        None means max(m, n) eps.

    Returns
    -------
    Tensor, (..., n, m), same dtype.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : it holds nan or inf.

    Notes
    -----
    Gradient, with p = pinv(x):
    -p^H g p^H + (I - x p) g^H p p^H + p^H p g^H (I - p x), as long as the rank stays the same. It
    asks no distinct singular values.

    References
    ----------
    Golub & Pereyra 1973, "The differentiation of pseudo-inverses and nonlinear least squares
    problems whose variables separate", eq. 4.12, whose adjoint this is.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.pinv(hx.tensor([[2.0, 0.0], [0.0, 0.0]]))
    tensor([[0.5, 0. ],
            [0. , 0. ]])
    """
    return B.pinv(finite(B, x), rtol=rtol)


@pinv.prepare
def _(x, rtol):
    check_matrices("pinv", x, square=False)
    if rtol is None:
        rtol = rounding(x)
    elif isinstance(rtol, Tensor):
        rtol = rtol._array
    elif not isinstance(rtol, float):
        rtol = float(dtypes.as_number("pinv", "rtol", rtol))
    return {"rtol": rtol}


def rounding(x):
    """Return max(m, n) eps: singular values so small, relative to the largest, may be roundings."""
    return float(np.finfo(x.dtype).eps) * max(x.shape[-2:])


@pinv.vjp("x")
def _(g, x, out):
    p, h, gh = out, adjoint(out), adjoint(g)
    outside = identity(x.shape[-2], x) - x @ p
    inside = identity(x.shape[-1], x) - p @ x
    return outside @ gh @ p @ h + h @ p @ gh @ inside - h @ g @ h


@pinv.flops
def _(x):
    m, n = sorted(x.shape[-2:], reverse=True)
    return x.size // max(m * n, 1) * (6 * m * n * n + 20 * n**3 + 2 * m * n * n)


@pinv.diagnose
def _(x, rtol):
    return no_convergence("pinv", x, np.linalg.svd)


pinv.options["dtypes"] = LAPACK_DTYPES


@pinv.samples
def _():
    yield sample(WELL_CONDITIONED)
    yield sample(floats(4, 2, distinct=True))
    yield sample(floats(2, 2, 3, distinct=True))
    yield sample(matrix([[1, 2], [2, 4]]), rtol=1e-6, kinds="f", value_only=True)
    yield sample(matrix([[3, 0], [0, 3], [0, 0]]))  # equal singular values
    yield sample((0, 3))
    yield sample((2, 3, 0))


@pinv.errors
def _():
    yield Failure(lambda: pinv(blank(2)), ShapeError, r"takes matrices, \(..., m, n\)")
    yield Failure(lambda: pinv(_integers()), DTypeError, r"takes no int64")
    yield Failure(lambda: pinv(blank(2, 2), rtol="a"), DTypeError, r"rtol must be a number")
    yield Failure(
        lambda: pinv(np.full((2, 2), np.nan)),
        ConvergenceError,
        r"pinv: the matrix holds nan or inf",
    )


class LeastSquares(NamedTuple):
    """What `lstsq` gives."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def _lstsq_oracle(x, y, rtol=None):
    z = np.linalg.pinv(x, rtol=1e-9 if rtol is None else rtol) @ (y[:, None] if y.ndim == 1 else y)
    rest = np.square(np.abs(x @ z - (y[:, None] if y.ndim == 1 else y))).sum(-2)
    rank = np.linalg.matrix_rank(x, rtol=1e-9 if rtol is None else rtol)
    if y.ndim == 1:
        z, rest = z[..., 0], rest[..., 0]
    return z, rest, np.asarray(rank), np.linalg.svd(x, compute_uv=False)


@composite(oracle=_lstsq_oracle)
def lstsq(x: Tensor, y: Tensor, *, rtol: Any = None) -> LeastSquares:
    """Find z that makes the sum of abs(x z - y)^2 least; of several, the shortest.

    Parameters
    ----------
    x : Tensor, (..., m, n), float or complex.
    y : Tensor, (..., m, k) or (m,); leading axes broadcast.
    rtol : as for `pinv`.

    Returns
    -------
    solution : Tensor, (..., n, k) or (..., n).
    residuals : Tensor, (..., k) or (...): the least sums.
    rank : Tensor, (...), int64.
    singular_values : Tensor, (..., min(m, n)), descending.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : ``x`` holds nan or inf.

    Notes
    -----
    By the pseudo-inverse, and with its gradient.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> hx.linalg.lstsq(x, hx.tensor([1.0, 3.0, 5.0])).rank
    tensor(2)
    """
    check_system("lstsq", x, y, square=False)
    columns = expand_dims(y, -1) if y.ndim == 1 else y
    z = pinv(x, rtol=rtol) @ columns
    rest = x @ z - columns
    residuals = sum(real(rest * conj(rest)), axis=-2)
    if y.ndim == 1:
        z, residuals = reshape(z, z.shape[:-1]), reshape(residuals, residuals.shape[:-1])
    s = svdvals(x)
    return LeastSquares(z, residuals, rank_of(s, rounding(x) if rtol is None else rtol), s)


def rank_of(s, rtol):
    """Return how many of the singular values, descending, exceed ``rtol`` times the largest."""
    if isinstance(rtol, Tensor):
        rtol = expand_dims(rtol, -1)
    return count_nonzero(greater(s, s[..., :1] * rtol), axis=-1)


def _without_roundings(solution, residuals, rank, s):
    """Return what can be compared: residuals of a solvable system are squares of roundings."""
    return solution, residuals + 1, rank, s


lstsq.options.update(determined=_without_roundings, dtypes=LAPACK_DTYPES)


@lstsq.samples
def _():
    yield sample(matrix([[1, 0], [1, 1], [1, 3]]), (3,))
    yield sample(matrix([[1, 0], [1, 1], [1, 3]]), (3, 2))
    yield sample(matrix([[1, 0, 2], [1, 1, 1]]), (3, 2, 1))
    yield sample(STACK, (2, 3, 2))
    yield sample(matrix([[1, 2], [2, 4]]), (2,), rtol=1e-3, kinds="f", value_only=True)
    yield sample((3, 0), (3, 2))


@lstsq.errors
def _():
    x = blank(3, 2)
    yield Failure(lambda: lstsq(x, blank(2)), ShapeError, r"x is \(3, 2\), y is \(2,\); they must")
    yield Failure(lambda: lstsq(blank(3), blank(3)), ShapeError, r"lstsq: takes matrices")
