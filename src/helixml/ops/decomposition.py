"""Decompositions of matrices: Cholesky, QR, eigenvalues; singular values are a file beside this.

What a decomposition leaves open (the signs of vectors, and for complex numbers their phases) is as
the backend's library gives it; a loss must not depend on it, or its gradient means nothing. The
rules have adjoints where textbooks of real matrices have transposes: a gradient of complex numbers
is dL/dRe + i dL/dIm. Read `matrices` and `solving` first.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from helixml import dtypes
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, matrix, sample
from helixml._core.tensor import Tensor
from helixml.errors import (
    ConvergenceError,
    DTypeError,
    NotPositiveDefiniteError,
    ShapeError,
    ValueRangeError,
)
from helixml.ops.elementwise import quotient, where
from helixml.ops.matrices import (
    LAPACK_DTYPES,
    adjoint,
    check_matrices,
    failing,
    halved_diagonal,
    hermitian_part,
    on_diagonal,
)
from helixml.ops.movement import concat, expand_dims, tril, triu
from helixml.ops.numbers import conj, real
from helixml.ops.solving import solve, triangular_solve

Array = Any  # a raw array of the backend

# Hermitian and positive definite, with distinct eigenvalues.
_POSITIVE = matrix([[4, 1, -1], [1, 3, 1], [-1, 1, 6]])
_POSITIVE_COMPLEX = matrix([[4, 1 + 1j, -1j], [1 - 1j, 3, 1], [1j, 1, 6]])
_POSITIVE_STACK = matrix([[[2, 1], [1, 5]], [[3, -1], [-1, 2]]])


def _integers():
    from helixml.ops.creation import ones

    return ones((2, 2), dtype=dtypes.int64)


def accepts(op, square):
    """Give ``op`` the check of its matrices; return the error samples for it."""

    @op.prepare
    def _(x, **options):
        check_matrices(op.name, x, square)
        return options

    @op.errors
    def errors():
        yield Failure(lambda: op(blank(2)), ShapeError, r"takes matrices, \(..., m, n\)")
        yield Failure(lambda: op(_integers()), DTypeError, r"takes no int64. Hint: x.astype")
        if square:
            yield Failure(lambda: op(blank(2, 3)), ShapeError, r"takes square matrices.*\(2, 3\)")

    op.options["dtypes"] = LAPACK_DTYPES
    return errors


def converges(op, function):
    """Let ``op`` say for which matrix its iteration found no end."""

    @op.diagnose
    def _(x, **options):
        return no_convergence(op.name, x, function)


def finite(B, x):
    """Return ``x``, a raw array, if all of it is finite: some of LAPACK gives anything for nan."""
    every = B.all(B.isfinite(x), axis=tuple(range(len(x.shape))), keepdims=False)
    if not bool(B.to_numpy(B.ensure(every))):
        raise np.linalg.LinAlgError("nan or inf")
    return x


def no_convergence(op, x, function):
    """Return the error for the first matrix of which ``function`` finds no end, or None."""

    def refuse(host):
        if not np.isfinite(host).all():
            raise np.linalg.LinAlgError

    if found := failing(x, refuse):
        return ConvergenceError(f"{op}: {found} holds nan or inf.")
    if found := failing(x, function):
        return ConvergenceError(f"{op}: no end was found for {found}. Hint: x.astype('float64').")
    return None


def _hermitian(B, x):
    """Return (x + x^H) / 2 of raw arrays."""
    rank = len(x.shape)
    other = B.permute_dims(x, (*range(rank - 2), rank - 1, rank - 2))
    dtype = B.dtype_of(x)
    if dtypes.kind(dtype) == "c":
        other = B.conj(other)
    return B.multiply(B.add(x, other), B.full((), 0.5, dtype=dtype))


def matrices_in(x):
    """Return how many matrices a `Size` holds."""
    return x.size // max(x.shape[-1] * x.shape[-2], 1)


def _adjoint(x):
    """Do as `adjoint`, for NumPy arrays too."""
    return np.conj(np.swapaxes(x, -1, -2))


# Cholesky


def _cholesky_oracle(x, upper=False):
    """Build the factor row by row."""
    x = (x + _adjoint(x)) / 2
    factor = np.zeros(x.shape, x.dtype)
    for j in range(x.shape[-1]):
        row = np.conj(factor[..., j, :j])
        factor[..., j, j] = np.sqrt(x[..., j, j] - np.sum(np.abs(row) ** 2, axis=-1))
        for i in range(j + 1, x.shape[-1]):
            rest = x[..., i, j] - np.sum(factor[..., i, :j] * row, axis=-1)
            factor[..., i, j] = rest / factor[..., j, j]
    return _adjoint(factor) if upper else factor


@primitive(oracle=_cholesky_oracle)
def cholesky(B, x: Array, *, upper: bool = False):
    """Return the Cholesky factor of each matrix: triangular L with L L^H = x.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex, Hermitian and positive definite. Its Hermitian part
        (x + x^H) / 2 is what is factored: both triangles count.
    upper : return U = L^H, with U^H U = x.

    Returns
    -------
    Tensor, same shape and dtype, with a real positive diagonal.

    Raises
    ------
    NotPositiveDefiniteError : a matrix has no such factor. ShapeError, DTypeError : of another
    shape or dtype.

    Notes
    -----
    Gradient: the Hermitian part of L^-H P L^-1, where P is the lower triangle of L^H g with half
    its diagonal. Costs n^3 / 3 FLOPs for each matrix.

    References
    ----------
    Murray 2016, "Differentiation of the Cholesky decomposition"; Seeger, Hetzel, Dai, Meissner &
    Lawrence 2017, "Auto-differentiating linear algebra".

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.cholesky(hx.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    factor = B.cholesky(_hermitian(B, x))
    if not upper:
        return factor
    rank = len(factor.shape)
    factor = B.permute_dims(factor, (*range(rank - 2), rank - 1, rank - 2))
    return B.conj(factor) if dtypes.kind(B.dtype_of(factor)) == "c" else factor


@cholesky.vjp("x")
def _(g, out, upper):
    lower, g = (adjoint(out), adjoint(g)) if upper else (out, g)
    lower_h = adjoint(lower)
    p = halved_diagonal(tril(lower_h @ g))
    half = triangular_solve(lower_h, p, upper=True)  # L^-H P
    return hermitian_part(adjoint(triangular_solve(lower_h, adjoint(half), upper=True)))


_bad_squares = accepts(cholesky, square=True)
cholesky.flops(lambda x: x.shape[-1] * x.size // 3)


@cholesky.diagnose
def _(x, upper):
    found = failing(hermitian_part(x), np.linalg.cholesky)
    if found is None:
        return None
    return NotPositiveDefiniteError(
        f"cholesky: {found} of shape {x.shape[-2:]} is not positive definite. "
        "Hint: x + eps * eye(n), or linalg.eigh."
    )


@cholesky.samples
def _():
    yield sample(_POSITIVE)
    yield sample(_POSITIVE_STACK, upper=True)
    yield sample(_POSITIVE_COMPLEX)
    yield sample(_POSITIVE_COMPLEX, upper=True)
    yield sample(matrix([[4, 0], [2, 3]]))  # of which the Hermitian part is positive definite
    yield sample((0, 3, 3))
    yield sample((2, 0, 0))


@cholesky.errors
def _():
    yield from _bad_squares()
    pair = np.array([np.eye(2), -np.eye(2)])
    yield Failure(
        lambda: cholesky(blank(2, 2)), NotPositiveDefiniteError, r"the matrix of shape \(2, 2\) is"
    )
    yield Failure(lambda: cholesky(pair), NotPositiveDefiniteError, r"matrix \(1,\) of shape")


# QR


class QR(NamedTuple):
    """What `qr` gives."""

    Q: Tensor
    R: Tensor


def _signed_qr(q, r):
    """Return Q and R with a diagonal of R that is not negative; only then they are determined."""
    k = min(r.shape[-2:])
    sign = np.where(np.real(np.diagonal(r, 0, -2, -1)) < 0, -1, 1)
    q, free = q[..., :k] * sign[..., None, :], q[..., k:]
    r = r[..., :k, :] * sign[..., :, None]
    return q, r, free @ _adjoint(free)


def _qr_oracle(x, mode="reduced"):
    """Orthogonalize column by column, and in mode "complete" unit vectors after them."""
    m, n = x.shape[-2:]
    columns = [x[..., i] for i in range(min(m, n))]
    if mode == "complete":
        columns += [np.broadcast_to(e, x.shape[:-1]) for e in np.eye(m)]
    found = []
    for column in columns:
        for _ in range(2):  # once more, for what the first time left by rounding
            for q in found:
                part = np.sum(np.conj(q) * column, axis=-1, keepdims=True)
                column = column - q * part  # noqa: PLW2901
        length = np.sqrt(np.sum(np.abs(column) ** 2, axis=-1, keepdims=True))
        if len(found) < min(m, n) or (len(found) < m and (length > 1e-3).all()):
            found.append(column / length)
    q = np.stack(found, axis=-1) if found else np.zeros((*x.shape[:-1], 0), x.dtype)
    return q, np.triu(_adjoint(q) @ x)


@primitive(name="qr", oracle=_qr_oracle)
def _qr(B, x: Array, *, mode: str = "reduced"):
    """Return the factors Q and R: what `qr` is made of."""
    return tuple(B.qr(x, mode=mode))


_qr.options.update(determined=_signed_qr, dtypes=LAPACK_DTYPES)


def qr(x: Tensor, *, mode: Literal["reduced", "complete"] = "reduced") -> QR:
    """Factor each matrix into one with orthonormal columns and an upper triangular one, x = Q R.

    Parameters
    ----------
    x : Tensor, (..., m, n), float or complex.
    mode : "reduced", k = min(m, n); "complete", k = m.

    Returns
    -------
    Q : Tensor, (..., m, k), Q^H Q = I.
    R : Tensor, (..., k, n), upper triangular, with a real diagonal of either sign.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ValueRangeError : another ``mode``.

    Notes
    -----
    Gradient, for m >= n: (gQ + Q Z) R^-H, where Z has the upper triangle of W = gR R^H - Q^H gQ and
    is made Hermitian. For m < n the first m columns of x are factored so, and the others are Q
    times those of R. The leading columns must be independent, else `SingularMatrixError`. Of the
    columns that "complete" adds, only the space that they span has a gradient: which basis of it
    they are is the library's choice.

    References
    ----------
    Walter & Lehmann 2010, "Algorithmic differentiation of linear algebra functions with application
    in optimum experimental design"; Roberts & Roberts 2020, "QR and LQ decomposition
    matrix backpropagation algorithms for square, wide, and deep matrices", for wide matrices.
    Here also for complex numbers, where only the real part of the diagonal of W counts.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([[3.0, 1.0], [4.0, 2.0]])
    >>> q, r = hx.linalg.qr(x)
    >>> hx.round(q @ r)
    tensor([[3., 1.],
            [4., 2.]])
    """
    return QR(*_qr(x, mode=mode))


@_qr.prepare
def _(x, mode):
    check_matrices("qr", x, square=False)
    if mode not in ("reduced", "complete"):
        raise ValueRangeError(f"qr: mode={mode!r}. Hint: 'reduced' or 'complete'.")
    return {"mode": mode}


@_qr.vjp("x")
def _(g, x, outs):
    (q, r), (gq, gr) = outs, g
    m, n = x.shape[-2:]
    k = min(m, n)
    if q.shape[-1] > k:  # d(q2) = -q1 d(q1)^H q2, within the space that q2 spans
        q1, q2 = q[..., :k], q[..., k:]
        gq = gq[..., :k] - q2 @ adjoint(gq[..., k:]) @ q1
        q, r, gr = q1, r[..., :k, :], gr[..., :k, :]
    if m >= n:
        return _square_qr(q, r, gq, gr)
    behind = gr[..., m:]
    gq = gq + x[..., m:] @ adjoint(behind)
    return concat([_square_qr(q, r[..., :m], gq, gr[..., :m]), q @ behind], axis=-1)


def _square_qr(q, r, gq, gr):
    """Return the gradient for square R."""
    w = gr @ adjoint(r) - adjoint(q) @ gq
    z = halved_diagonal(triu(w))
    z = gq + q @ (z + adjoint(z))
    return adjoint(triangular_solve(r, adjoint(z), upper=True))


@_qr.flops
def _(x, mode):
    """Count the reflections and their product.

    Blackford & Dongarra 1999, "Installation guide for LAPACK", working note 41, appendix C.
    """
    m, n = x.shape[-2:]
    k, width = min(m, n), m if mode == "complete" else min(m, n)
    factor = 2 * max(m, n) * k * k - 2 * k**3 // 3
    product = 4 * m * width * k - 2 * (m + width) * k * k + 4 * k**3 // 3
    return matrices_in(x) * (factor + product)


@_qr.samples
def _():
    yield sample(matrix([[4, 1, -1], [2, 5, 1], [0, -1, 3]]))
    yield sample(matrix([[1, 2], [3, -1], [0, 2]]))
    yield sample(matrix([[[1, 2, 1], [3, -1, 0]], [[2, 0, 1], [1, 1, 1]]]))
    yield sample(matrix([[1, 2], [3, -1], [0, 2], [1, 1]]), mode="complete")
    yield sample(matrix([[1, 2, 1], [3, -1, 0]]), mode="complete")
    yield sample(matrix([[1 + 1j, 2j], [3, -1], [1j, 2]]), mode="complete")
    yield sample(matrix([[1j, 2, 1 - 1j], [3, 1j - 1, 0]]))
    yield sample((0, 3))
    yield sample((2, 3, 0))


@_qr.errors
def _():
    yield Failure(lambda: qr(blank(2)), ShapeError, r"qr: takes matrices")
    yield Failure(lambda: qr(_integers()), DTypeError, r"qr: takes no int64")
    yield Failure(lambda: qr(blank(2, 2), mode="full"), ValueRangeError, r"mode='full'. Hint: 'red")


# Eigenvalues of Hermitian matrices


class Eigh(NamedTuple):
    """What `eigh` gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def _eigh_oracle(x):
    return tuple(np.linalg.eigh((x + _adjoint(x)) / 2))


@primitive(name="eigh", oracle=_eigh_oracle)
def _eigh(B, x: Array):
    """Return eigenvalues and eigenvectors of Hermitian matrices: what `eigh` is made of."""
    return tuple(B.eigh(_hermitian(B, finite(B, x))))


def _projectors(values, vectors):
    """Return the eigenvalues and v v^H of each vector: the sign or phase of v is open."""
    return values, vectors[..., :, None, :] * np.conj(vectors[..., None, :, :])


_eigh.options["determined"] = _projectors


def eigh(x: Tensor) -> Eigh:
    """Return eigenvalues and eigenvectors of each Hermitian matrix, x = V diag(w) V^H.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex, Hermitian. Its Hermitian part (x + x^H) / 2 is what
        is decomposed: both triangles count.

    Returns
    -------
    eigenvalues : Tensor, (..., n), real, ascending.
    eigenvectors : Tensor, (..., n, n), orthonormal columns in that order.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : it holds nan or inf.

    Notes
    -----
    Gradient: the Hermitian part of V (diag(gw) + F * (V^H gV)) V^H, with F_ij = 1 / (w_j - w_i) and
    0 on the diagonal. Where two eigenvalues are equal their vectors are no functions of x: a loss
    of eigenvalues alone has a gradient there, one that reads these vectors gets nan or inf. The
    sign of a vector, for complex numbers its phase, is open, and a loss must not depend on it.

    References
    ----------
    Giles 2008, section 3.1; Seeger et al. 2017.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.eigh(hx.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    tensor([1., 2.])
    """
    return Eigh(*_eigh(x))


@_eigh.vjp("x")
def _(g, outs):
    (w, v), (gw, gv) = outs, g
    vh = adjoint(v)
    diagonal = on_diagonal(w.shape[-1], w)
    inner = where(diagonal, expand_dims(gw, -1), over_gaps(vh @ gv, w, diagonal))
    return hermitian_part(v @ inner @ vh)


def over_gaps(p, w, diagonal, plus=None):
    """Return p_ij / (w_j - w_i), and 0 on the diagonal; where p_ij is 0 a gap may be 0 too.

    ``plus`` divides by (w_j - w_i) (w_j + w_i), the difference of squares without cancellation.
    """
    row, column = expand_dims(w, -2), expand_dims(w, -1)
    gap = row - column
    if plus:
        gap = gap * (row + column)
    return quotient(where(diagonal, 0, p), where(diagonal, 1, gap))


accepts(_eigh, square=True)
converges(_eigh, np.linalg.eigh)
# Golub & Van Loan 2013, section 8.3: with vectors, and without.
_eigh.flops(lambda x: 9 * x.shape[-1] * x.size)


def _hermitian_samples():
    yield sample(_POSITIVE)
    yield sample(_POSITIVE_STACK)
    yield sample(_POSITIVE_COMPLEX)
    yield sample(matrix([[1, 3], [0, -2]]))  # of which the Hermitian part counts
    yield sample((0, 3, 3))
    yield sample((2, 0, 0))


_eigh.samples(_hermitian_samples)


def _eigvalsh_oracle(x):
    return _eigh_oracle(x)[0]


@primitive(oracle=_eigvalsh_oracle)
def eigvalsh(B, x: Array):
    """Return the eigenvalues of each Hermitian matrix.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex, Hermitian, as for `eigh`.

    Returns
    -------
    Tensor, (..., n), real, ascending.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : it holds nan or inf.

    Notes
    -----
    Gradient: V diag(g) V^H, for which the vectors are computed on the way back. It exists where
    eigenvalues are equal too, as one of the subgradients.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.eigvalsh(hx.tensor([[0.0, 1.0], [1.0, 0.0]]))
    tensor([-1.,  1.])
    """
    return B.eigvalsh(_hermitian(B, finite(B, x)))


@eigvalsh.vjp("x")
def _(g, x):
    v = eigh(x).eigenvectors
    return hermitian_part((v * expand_dims(g, -2)) @ adjoint(v))


accepts(eigvalsh, square=True)
converges(eigvalsh, np.linalg.eigvalsh)
eigvalsh.flops(lambda x: 4 * x.shape[-1] * x.size // 3)
eigvalsh.samples(_hermitian_samples)


# Eigenvalues of any square matrix


class Eig(NamedTuple):
    """What `eig` gives."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def _eig_oracle(x):
    return tuple(np.linalg.eig(x.astype(np.result_type(x, np.complex64))))


@primitive(name="eig", oracle=_eig_oracle)
def _eig(B, x: Array):
    """Return eigenvalues and eigenvectors: what `eig` is made of."""
    return tuple(B.eig(finite(B, x)))


def _sums(values, vectors=None):
    """Return sums over all eigenvalues, of powers, or of products with v v^H: the order is open."""
    powers = [np.sum(values**n, axis=-1) for n in range(1, values.shape[-1] + 1)]
    if vectors is None:
        return powers
    adjoint = _adjoint(vectors)
    scaled = [vectors * weight[..., None, :] for weight in (values, np.conj(values) * values)]
    return *powers, *[x @ adjoint for x in scaled]


_eig.options.update(determined=_sums, exact_dtype=False)


def eig(x: Tensor) -> Eig:
    """Return eigenvalues and eigenvectors of each matrix, x V = V diag(w).

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex; for Hermitian ones `eigh` is faster and better.

    Returns
    -------
    eigenvalues : Tensor, (..., n), complex, in no order.
    eigenvectors : Tensor, (..., n, n), complex, columns of length 1 in that order.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : it holds nan or inf.

    Notes
    -----
    Gradient: V^-H (diag(gw) + F^* * (V^H gV - V^H V diag(Re(diag(V^H gV))))) V^H, with
    F_ij = 1 / (w_j - w_i) and 0 on the diagonal; its real part where x is real. Where eigenvalues
    are equal it is nan or inf for a loss that reads their vectors, and a matrix without a basis of
    eigenvectors raises `SingularMatrixError` if its vectors are singular to the last digit. The
    phase of a vector is open, and a loss must not depend on it.

    References
    ----------
    Boeddeker, Hanebrink, Drude, Heymann & Haeb-Umbach 2017, "On the computation of complex-valued
    gradients with application to statistically optimum beamforming", eq. 4.77; the second term
    keeps the length of the vectors.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.eig(hx.tensor([[0.0, 1.0], [-1.0, 0.0]])).eigenvalues
    tensor([0.+1.j, 0.-1.j], dtype=complex64)
    """
    return Eig(*_eig(x))


@_eig.vjp("x")
def _(g, outs):
    (w, v), (gw, gv) = outs, g
    vh = adjoint(v)
    p = vh @ gv
    diagonal = on_diagonal(w.shape[-1], w)
    own = where(diagonal, real(p), 0)
    inner = over_gaps(p - vh @ v @ own, conj(w), diagonal)
    return solve(vh, where(diagonal, expand_dims(gw, -1), inner) @ vh)


accepts(_eig, square=True)
converges(_eig, np.linalg.eig)
# Golub & Van Loan 2013, section 7.5: with vectors, and without.
_eig.flops(lambda x: 25 * x.shape[-1] * x.size)


def _eigvals_oracle(x):
    return _eig_oracle(x)[0]


@primitive(oracle=_eigvals_oracle)
def eigvals(B, x: Array):
    """Return the eigenvalues of each matrix.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex; for Hermitian ones `eigvalsh` is faster and better.

    Returns
    -------
    Tensor, (..., n), complex, in no order.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : it holds nan or inf.

    Notes
    -----
    Gradient: V^-H diag(g) V^H, for which the vectors are computed on the way back; its real part
    where x is real.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.eigvals(hx.tensor([[2.0, 1.0], [0.0, 3.0]]))
    tensor([2.+0.j, 3.+0.j], dtype=complex64)
    """
    return B.eigvals(finite(B, x))


@eigvals.vjp("x")
def _(g, x):
    vh = adjoint(eig(x).eigenvectors)
    return solve(vh, expand_dims(g, -1) * vh)


accepts(eigvals, square=True)
converges(eigvals, np.linalg.eigvals)
eigvals.flops(lambda x: 10 * x.shape[-1] * x.size)
eigvals.options.update(determined=_sums, exact_dtype=False)


def _square_samples():
    yield sample(matrix([[4, 1, -1], [2, 6, 1], [0, -1, 3]]))
    yield sample(matrix([[[1, 2], [-1, 1]], [[2, 1], [3, 5]]]))  # two of them conjugates
    yield sample(matrix([[4 + 1j, 1, -1j], [2, 6 - 2j, 1], [1j, -1, 3j]]))
    yield sample((0, 3, 3))


_eig.samples(_square_samples)
eigvals.samples(_square_samples)
