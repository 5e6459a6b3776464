"""Systems of linear equations: solutions, inverses and determinants.

The rules are those of Giles 2008, "An extended collection of matrix derivative results for forward
and reverse mode automatic differentiation", with adjoints in the place of transposes: a gradient of
complex numbers is dL/dRe + i dL/dIm. Read `matrices` first.
"""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, floats, matrix, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, SingularMatrixError
from helixml.ops.elementwise import pow, where
from helixml.ops.logic import equal, greater, less, less_equal, logical_and
from helixml.ops.matrices import (
    LAPACK_DTYPES,
    adjoint,
    check_matrices,
    failing,
)
from helixml.ops.movement import expand_dims, reshape, tril, triu
from helixml.ops.numbers import conj, imag
from helixml.ops.reduction import any, count_nonzero

Array = Any  # a raw array of the backend


def _integer_identity():
    from helixml.ops.creation import eye

    return eye(2, dtype=dtypes.int64)


WELL_CONDITIONED = matrix([[4, 1, -1], [2, 5, 1], [0, -1, 3]])
COMPLEX = matrix([[4 + 1j, 1, -1j], [2, 5 - 2j, 1], [1j, -1, 3j]])
STACK = matrix([[[4, 1, -1], [2, 5, 1], [0, -1, 3]], [[0, 2, 1], [3, -1, 0], [1, 1, 6]]])
_SINGULAR = ((1.0, 2.0), (2.0, 4.0))


def _stack(*shape):
    """Describe random matrices with entries in [1, 2): hardly ever near a singular one."""
    return floats(*shape, low=1.0, high=2.0)


def check_system(op, x, y, square=True):
    """Raise unless x z = y is a system of equations, or a stack of such."""
    check_matrices(op, x, square)
    shape = getattr(y, "shape", ())
    if not shape or shape[-2 if len(shape) > 1 else -1] != x.shape[-2]:
        raise ShapeError(
            f"{op}: x is {x.shape}, y is {shape}; they must be (..., m, n) and (..., m, k) or (m,)."
        )
    if y.dtype not in LAPACK_DTYPES:
        raise DTypeError(f"{op}: y is {y.dtype}. Hint: y.astype('float32').")
    shapes.broadcast(op, x.shape[:-2], shape[:-2])


def _solves(op):
    """Give ``op`` the check of its system."""

    @op.prepare
    def _(x, y, **options):
        check_system(op.name, x, y)
        return options

    op.options["dtypes"] = LAPACK_DTYPES


def _singular(op):
    """Let ``op`` say which matrix has no inverse."""

    @op.diagnose
    def _(x, *others, **options):
        found = failing(x, np.linalg.inv)
        if found is None:
            return None
        return SingularMatrixError(
            f"{op.name}: {found} of shape {x.shape[-2:]} is singular. "
            "Hint: linalg.pinv, linalg.lstsq, or x + eps * eye(n)."
        )


# Triangular systems


def _triangular_oracle(x, y, upper=False, unit_diagonal=False):
    x = np.triu(x) if upper else np.tril(x)
    if unit_diagonal:
        x = np.where(np.eye(x.shape[-1], dtype=bool), 1.0, x)
    return np.linalg.solve(x, y)


@primitive(oracle=_triangular_oracle)
def triangular_solve(B, x: Array, y: Array, *, upper: bool = False, unit_diagonal: bool = False):
    """Solve x z = y for a triangular matrix x.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex; only the triangle is read.
    y : Tensor, (..., n, k) or (n,); leading axes broadcast.
    upper : whether it is the upper triangle.
    unit_diagonal : take the diagonal of ``x`` to be ones, whatever it holds.

    Returns
    -------
    Tensor, (..., n, k) or (..., n).

    Raises
    ------
    SingularMatrixError : there is a 0 on the diagonal. ShapeError, DTypeError : of an operand.

    Notes
    -----
    Gradient: of y, gy = x^-H g; of x, the triangle of -gy z^H. Costs n^2 k FLOPs for each matrix.

    References
    ----------
    Giles 2008, section 2.3.1, for the inverse product, which this restricts to a triangle.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([[2.0, 0.0], [1.0, 4.0]])
    >>> hx.linalg.triangular_solve(x, hx.tensor([2.0, 9.0]))
    tensor([1., 2.])
    """
    options = {"upper": upper, "unit_diagonal": unit_diagonal}
    if len(y.shape) > 1:
        return B.solve_triangular(x, y, **options)
    z = B.solve_triangular(x, B.reshape(y, (y.shape[0], 1)), **options)
    return B.reshape(z, tuple(z.shape[:-1]))


_solves(triangular_solve)


@triangular_solve.diagnose
def _(x, y, upper, unit_diagonal):
    found = failing(x, lambda host: np.linalg.inv(np.diag(np.diag(host))))
    if found is None:
        return None
    return SingularMatrixError(f"triangular_solve: {found} has a 0 on its diagonal.")


@triangular_solve.vjp("x", "y")
def _(g, x, out, y_shape, needs, upper, unit_diagonal):
    vector = len(y_shape) == 1
    z, g = (expand_dims(t, -1) if vector else t for t in (out, g))
    gy = triangular_solve(adjoint(x), g, upper=not upper, unit_diagonal=unit_diagonal)
    gx = None
    if needs[0]:
        inside = int(unit_diagonal)  # where ones are taken for it the diagonal has no gradient
        gx = -(gy @ adjoint(z))
        gx = triu(gx, inside) if upper else tril(gx, -inside)
    return gx, reshape(gy, gy.shape[:-1]) if vector else gy


triangular_solve.flops(lambda x, out: x.shape[-1] * out.size)


@triangular_solve.samples
def _():
    yield sample(WELL_CONDITIONED, (3, 2))
    yield sample(WELL_CONDITIONED, (3,), upper=True)
    yield sample(COMPLEX, (3, 2), upper=True)
    yield sample(_stack(2, 1, 3, 3), (4, 3, 2), unit_diagonal=True, upper=True)
    yield sample(_stack(2, 3, 3), (3,))
    yield sample((0, 3, 3), (3, 2))
    yield sample((2, 0, 0), (2, 0, 3))


@triangular_solve.errors
def _():
    x, y = blank(2, 2), blank(2)
    yield Failure(lambda: triangular_solve(x, y), SingularMatrixError, r"the matrix has a 0 on its")
    yield Failure(lambda: triangular_solve(x, blank(3)), ShapeError, r"x is \(2, 2\), y is \(3,\)")
    yield Failure(lambda: triangular_solve(blank(2, 3), y), ShapeError, r"takes square matrices")
    yield Failure(lambda: triangular_solve(_integer_identity(), y), DTypeError, r"takes no int64")


def _cholesky_solve_oracle(factor, y, upper=False):
    factor = np.triu(factor) if upper else np.tril(factor)
    adjoint = np.conj(np.swapaxes(factor, -1, -2))
    return np.linalg.solve(adjoint @ factor if upper else factor @ adjoint, y)


@composite(oracle=_cholesky_solve_oracle)
def cholesky_solve(factor: Tensor, y: Tensor, *, upper: bool = False) -> Tensor:
    """Solve x z = y, given the Cholesky factor of x.

    Parameters
    ----------
    factor : Tensor, (..., n, n), L with L L^H = x, as from `cholesky`; only its triangle is read.
    y : Tensor, (..., n, k) or (n,); leading axes broadcast.
    upper : whether it is the upper factor, U with U^H U = x.

    Returns
    -------
    Tensor, (..., n, k) or (..., n).

    Raises
    ------
    SingularMatrixError : there is a 0 on the diagonal. ShapeError, DTypeError : of an operand.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([[4.0, 2.0], [2.0, 5.0]])
    >>> hx.linalg.cholesky_solve(hx.linalg.cholesky(x), hx.tensor([8.0, 12.0]))
    tensor([1., 2.])
    """
    lower = adjoint(factor) if upper else factor
    z = triangular_solve(lower, y)
    if y.ndim > 1 or factor.ndim == 2:
        return triangular_solve(adjoint(lower), z, upper=True)
    z = triangular_solve(adjoint(lower), expand_dims(z, -1), upper=True)  # a row is no vector now
    return reshape(z, z.shape[:-1])


cholesky_solve.options["dtypes"] = LAPACK_DTYPES


@cholesky_solve.samples
def _():
    yield sample(WELL_CONDITIONED, (3, 2))
    yield sample(COMPLEX, (3,))
    yield sample(_stack(2, 3, 3), (3,), upper=True)
    yield sample((0, 0), (0, 2))


@cholesky_solve.errors
def _():
    yield Failure(lambda: cholesky_solve(blank(2), blank(2)), ShapeError, r"takes matrices")
    yield Failure(lambda: cholesky_solve(blank(2), blank(2), upper=True), ShapeError, r"two axes")


# General systems


@primitive(oracle=np.linalg.solve)
def solve(B, x: Array, y: Array):
    """Solve x z = y.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex.
    y : Tensor, (..., n, k) or (n,); leading axes broadcast.

    Returns
    -------
    Tensor, (..., n, k) or (..., n).

    Raises
    ------
    SingularMatrixError : a matrix has no inverse. ShapeError, DTypeError : of an operand.

    Notes
    -----
    Gradient: of y, gy = x^-H g; of x, -gy z^H. By LU factors with partial pivoting, 2/3 n^3 FLOPs
    for each matrix and 2 n^2 for each column. A matrix that is singular but for rounding passes:
    `cond` tells.

    References
    ----------
    Giles 2008, section 2.3.1.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.solve(hx.tensor([[3.0, 1.0], [1.0, 2.0]]), hx.tensor([9.0, 8.0]))
    tensor([2., 3.])
    """
    if len(y.shape) > 1:
        return B.solve(x, y)
    z = B.solve(x, B.reshape(y, (y.shape[0], 1)))
    return B.reshape(z, tuple(z.shape[:-1]))


_solves(solve)
_singular(solve)


@solve.vjp("x", "y")
def _(g, x, out, y_shape, needs):
    vector = len(y_shape) == 1
    z, g = (expand_dims(t, -1) if vector else t for t in (out, g))
    gy = solve(adjoint(x), g)
    gx = -(gy @ adjoint(z)) if needs[0] else None
    return gx, reshape(gy, gy.shape[:-1]) if vector else gy


@solve.flops
def _(x, y, out):
    n, k = x.shape[-1], y.shape[-1] if y.ndim > 1 else 1
    return out.size // max(n * k, 1) * (2 * n**3 // 3 + 2 * n * n * k)


@solve.samples
def _():
    yield sample(WELL_CONDITIONED, (3, 2))
    yield sample(WELL_CONDITIONED, (3,))
    yield sample(COMPLEX, (3,))
    yield sample(WELL_CONDITIONED, (2, 3, 2))
    yield sample(STACK, (3,))
    yield sample(STACK, (2, 3, 1))
    yield sample((0, 3, 3), (3, 2))
    yield sample((2, 0, 0), (2, 0, 3))


@solve.errors
def _():
    x, y = blank(2, 2), blank(2)
    pair = np.array([np.eye(2), _SINGULAR], np.float32)
    yield Failure(lambda: solve(x, y), SingularMatrixError, r"the matrix of shape \(2, 2\) is sing")
    yield Failure(lambda: solve(pair, y), SingularMatrixError, r"matrix \(1,\) of .*Hint: linalg.p")
    yield Failure(lambda: solve(x, blank(3, 2)), ShapeError, r"x is \(2, 2\), y is \(3, 2\); they")
    yield Failure(lambda: solve(blank(2), y), ShapeError, r"takes matrices")
    yield Failure(lambda: solve(blank(2, 3), y), ShapeError, r"takes square matrices")
    yield Failure(lambda: solve(_integer_identity(), y), DTypeError, r"takes no int64. Hint: x.as")
    yield Failure(lambda: solve(x, np.array([1, 2])), DTypeError, r"y is int64")
    yield Failure(
        lambda: solve(blank(3, 2, 2), blank(2, 2, 1)), ShapeError, r"solve: .*do not broadcast"
    )


@primitive(oracle=np.linalg.inv)
def inv(B, x: Array):
    """Return the inverse of each matrix.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex.

    Returns
    -------
    Tensor, same shape and dtype.

    Raises
    ------
    SingularMatrixError : a matrix has none. ShapeError, DTypeError : of another shape or dtype.

    Notes
    -----
    Gradient: -x^-H g x^-H. Costs 2 n^3 FLOPs for each matrix; `solve` is faster and more precise
    where the inverse is only multiplied by something.

    References
    ----------
    Giles 2008, section 2.2.3.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.inv(hx.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    return B.inv(x)


def square_only(op):
    """Give ``op`` the check of square matrices and the error samples for it."""

    @op.prepare
    def _(x, **options):
        check_matrices(op.name, x)
        return options

    def errors():
        yield Failure(lambda: op(blank(2)), ShapeError, r"takes matrices, \(..., m, n\)")
        yield Failure(lambda: op(blank(2, 3)), ShapeError, r"takes square matrices.*\(2, 3\)")
        yield Failure(lambda: op(_integer_identity()), DTypeError, r"takes no int64")

    op.errors(errors)
    op.options["dtypes"] = LAPACK_DTYPES
    return errors


@inv.vjp("x")
def _(g, out):
    inverse = adjoint(out)
    return -(inverse @ g @ inverse)


inv.flops(lambda x: 2 * x.shape[-1] * x.size)
_bad_matrices = square_only(inv)
_singular(inv)


def _square_samples():
    yield sample(WELL_CONDITIONED)
    yield sample(STACK)
    yield sample(COMPLEX)
    yield sample(matrix([[2]]))
    yield sample((0, 3, 3))
    yield sample((2, 0, 0))


inv.samples(_square_samples)


@inv.errors
def _():
    yield from _bad_matrices()
    yield Failure(lambda: inv(blank(2, 2)), SingularMatrixError, r"inv: the matrix of shape")


# Determinants


def _det_oracle(x):
    return np.asarray(np.linalg.det(x))


@primitive(oracle=_det_oracle)
def det(B, x: Array):
    """Return the determinant of each matrix.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex.

    Returns
    -------
    Tensor, (...), same dtype; that of a matrix without entries is 1.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype.

    Notes
    -----
    Gradient: g det(x)^* x^-H; where the determinant is 0 the same limit, of any order, is
    interpolated between regular matrices. The determinants of large matrices overflow; `slogdet`
    does not.

    References
    ----------
    Giles 2008, section 2.2.4.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.det(hx.tensor([[1.0, 2.0], [3.0, 5.0]]))
    tensor(-1.)
    """
    return B.det(x)


square_only(det)


def _as_factor(x):
    """Return numbers, one for each matrix, in a shape that multiplies the matrices."""
    return reshape(x, (*x.shape, 1, 1))


@det.vjp("x")
def _(g, x, out):
    singular = equal(out, 0)
    if any(singular):
        return _as_factor(g) * _cofactors(x, singular)
    return _as_factor(g * conj(out)) * adjoint(inv(x))


def _cofactors(x, singular):
    """Return the conjugate cofactors at t = 0 of matrices x + t e, which are regular at other t.

    Where r singular values are lost e has rank r, and the cofactors are polynomials in t of degree
    r at most: what is interpolated between so many points is exact, and so are its derivatives.
    """
    from helixml.ops.singular_values import svd  # which needs this file

    n = x.shape[-1]
    u, s, vh = svd(x.detach())
    scale = where(equal(s[..., :1], 0), 1, s[..., :1])
    lost = less_equal(s, scale * (10 * n * float(np.finfo(x.dtype).eps)))
    lost = logical_and(lost, expand_dims(singular, -1))
    e = (u * expand_dims(where(lost, 1, 0), -2)) @ vh
    count = builtins.max(count_nonzero(lost, axis=-1).numpy().ravel()) // 2 * 2 + 2
    points = np.cos((np.arange(count) + 0.5) * np.pi / count)  # Chebyshev's; 0 is none of them
    x, found = x / expand_dims(scale, -1), 0
    for t in points.tolist():
        others = points[points != t]
        inverse = inv(x + e * t)
        weight = float(np.prod(others / (others - t)))
        found = found + _as_factor(conj(det(x + e * t)) * weight) * adjoint(inverse)
    several = _as_factor(greater(count_nonzero(lost, axis=-1), 1))  # then they are 0
    found = where(several, found - found.detach(), found)
    return found * expand_dims(pow(scale, n - 1), -1)


det.flops(lambda x: 2 * x.shape[-1] * x.size // 3)


@det.samples
def _():
    yield from _square_samples()
    yield sample(matrix([[1, 2, 0], [2, 4, 1], [3, 6, 4]]))  # of rank 2
    yield sample(matrix([[[1, 2], [2, 4]], [[1, 2], [3, 4]]]))
    yield sample(matrix([[1, 1j], [1j, -1]]))
    yield sample(matrix([[0, 0], [0, 0]]))


class Slogdet(NamedTuple):
    """What `slogdet` gives."""

    sign: Tensor
    logabsdet: Tensor


def _slogdet_oracle(x):
    return tuple(map(np.asarray, np.linalg.slogdet(x)))


@primitive(name="slogdet", oracle=_slogdet_oracle)
def _slogdet(B, x: Array):
    """Return sign and logarithm of determinants: what `slogdet` is made of."""
    return tuple(B.slogdet(x))


def slogdet(x: Tensor) -> Slogdet:
    """Return the sign and the logarithm of the magnitude of the determinant of each matrix.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex.

    Returns
    -------
    sign : Tensor, (...), same dtype: det(x) / abs(det(x)), 0 for a singular matrix.
    logabsdet : Tensor, (...), real: log(abs(det(x))), -inf for a singular matrix.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype.

    Notes
    -----
    Gradient: (g_logabsdet + i Im(g_sign sign^*)) x^-H; the sign of a real matrix has none. A
    singular matrix raises `SingularMatrixError` on the way back.

    References
    ----------
    Giles 2008, section 2.2.4, for the determinant, of which this is the logarithm.

    Examples
    --------
    >>> import helixml as hx
    >>> found = hx.linalg.slogdet(hx.tensor([[2.0, 0.0], [0.0, -0.5]]))
    >>> found.sign, found.logabsdet
    (tensor(-1.), tensor(0.))
    """
    return Slogdet(*_slogdet(x))


square_only(_slogdet)


@_slogdet.vjp("x")
def _(g, x, outs):
    factor = g[1]
    if dtypes.kind(x.dtype) == "c":
        factor = factor + imag(g[0] * conj(outs[0])) * 1j
    return _as_factor(factor) * adjoint(inv(x))


_slogdet.flops(lambda x: 2 * x.shape[-1] * x.size // 3)


@_slogdet.samples
def _():
    yield from _square_samples()
    yield sample(matrix(_SINGULAR), value_only=True)


def _logdet_oracle(x):
    return np.log(np.asarray(np.linalg.det(x)))


@composite(real_only="linalg.slogdet", oracle=_logdet_oracle)
def logdet(x: Tensor) -> Tensor:
    """Return the logarithm of the determinant of each matrix: log(det(x)) without overflow.

    Parameters
    ----------
    x : Tensor, (..., n, n), real float.

    Returns
    -------
    Tensor, (...): nan where the determinant is negative, -inf where it is 0.

    Raises
    ------
    ShapeError : the matrices are not square. DTypeError : of another dtype.

    Notes
    -----
    Gradient: g x^-T.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.logdet(hx.tensor([[2.0, 0.0], [0.0, 0.5]]))
    tensor(0.)
    """
    found = slogdet(x)
    return where(less(found.sign, 0), np.nan, found.logabsdet)


logdet.options["dtypes"] = LAPACK_DTYPES


@logdet.samples
def _():
    yield sample(WELL_CONDITIONED)
    yield sample(matrix([[[4, 1], [2, 3]], [[0, 1], [1, 0]]]), value_only=True)
    yield sample((0, 3, 3))
    yield sample((2, 0, 0))


@logdet.errors
def _():
    yield Failure(lambda: logdet(blank(2, 3)), ShapeError, r"takes square matrices")
    z = np.eye(2) * 1j
    yield Failure(lambda: logdet(z), DTypeError, r"takes real numbers.*Hint: linalg.slogdet")
