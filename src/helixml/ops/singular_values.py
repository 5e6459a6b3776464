"""The singular value decomposition. Read `decomposition` first, of which this is a part."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helixml import dtypes
from helixml._core.op import primitive
from helixml._core.samples import floats, matrix, sample
from helixml._core.tensor import Tensor
from helixml.ops.decomposition import accepts, converges, finite, matrices_in, over_gaps
from helixml.ops.elementwise import quotient, where
from helixml.ops.matrices import adjoint, on_diagonal
from helixml.ops.movement import expand_dims
from helixml.ops.numbers import imag

Array = Any  # a raw array of the backend


class SVD(NamedTuple):
    """What `svd` gives."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _svd_oracle(x, full_matrices=True):
    return tuple(np.linalg.svd(x, full_matrices=full_matrices))


@primitive(name="svd", oracle=_svd_oracle)
def _svd(B, x: Array, *, full_matrices: bool = True):
    """Return the factors U, S and V^H: what `svd` is made of."""
    return tuple(B.svd(finite(B, x), full_matrices=full_matrices))


def _triples(u, s, vh):
    """Return singular values, u v^H of each pair, and what projects on the other vectors."""
    k = s.shape[-1]
    pairs = u[..., :, None, :k] * np.swapaxes(vh[..., :k, :], -1, -2)[..., None, :, :]
    left, right = u[..., k:], vh[..., k:, :]
    adjoints = [np.conj(np.swapaxes(x, -1, -2)) for x in (left, right)]
    return s, pairs, left @ adjoints[0], adjoints[1] @ right


_svd.options["determined"] = _triples


def svd(x: Tensor, *, full_matrices: bool = True) -> SVD:
    """Return the singular value decomposition of each matrix, x = U diag(S) V^H.

    Parameters
    ----------
    x : Tensor, (..., m, n), float or complex.
    full_matrices : return all m columns of U and all n rows of V^H, not only the first
        k = min(m, n).

    Returns
    -------
    U : Tensor, (..., m, m) or (..., m, k), orthonormal columns.
    S : Tensor, (..., k), real, not negative, descending.
    Vh : Tensor, (..., n, n) or (..., k, n), orthonormal rows.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : it holds nan or inf.

    Notes
    -----
    Gradient, with P = U^H gU, Q = V^H gV and E_ij = 1 / (s_j^2 - s_i^2), 0 on the diagonal:
    U (E * (P - P^H) S + S E * (Q - Q^H) + diag(gS)) V^H, and the parts of gU S^-1 V^H and
    U S^-1 gV^H that lie outside of U and V; for complex numbers also i Im(P_ii) / s_i on the
    diagonal. Where two singular values are equal, or one is 0, their vectors are no functions of
    x: a loss of singular values alone has a gradient there, one that reads these vectors gets nan
    or inf. The sign of a pair of vectors, for complex numbers its phase, is open, and a loss must
    not depend on it. Of the vectors that full matrices add, only the space that they span has a
    gradient.

    References
    ----------
    Townsend 2016, "Differentiating the singular value decomposition"; Wan & Zhang 2019,
    "Automatic differentiation for complex valued SVD", for the imaginary diagonal.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.svd(hx.tensor([[0.0, 2.0], [1.0, 0.0]])).S
    tensor([2., 1.])
    """
    return SVD(*_svd(x, full_matrices=full_matrices))


@_svd.vjp("x")
def _(g, outs):
    (u, s, vh), (gu, gs, gvh) = outs, g
    k = s.shape[-1]
    u, gu = _leading(u, gu, k)
    v, gv = _leading(adjoint(vh), adjoint(gvh), k)
    uh, vh = adjoint(u), adjoint(v)
    p, q = uh @ gu, vh @ gv
    diagonal = on_diagonal(k, s)
    row, column = expand_dims(s, -2), expand_dims(s, -1)
    # Divided before they are added: where singular values are equal, inf - inf is nan, not 0.
    left, right = (over_gaps(t, s, diagonal, plus=True) for t in (p, q))
    middle = (left + adjoint(left)) * row + column * (right + adjoint(right))
    own = expand_dims(gs, -1)
    if dtypes.kind(u.dtype) == "c":
        phase = quotient(imag(where(diagonal, p, 0)), column)
        middle = middle + phase * 1j
    gradient = u @ (middle + where(diagonal, own, 0)) @ vh
    if u.shape[-2] > k:
        outside = quotient(gu - u @ p, row)
        gradient = gradient + outside @ vh
    if v.shape[-2] > k:
        outside = quotient(gv - v @ q, row)
        gradient = gradient + u @ adjoint(outside)
    return gradient


def _leading(u, gu, k):
    """Return the first ``k`` columns, and for them the gradient of the others' span too."""
    if u.shape[-1] == k:
        return u, gu
    first, rest = u[..., :k], u[..., k:]
    return first, gu[..., :k] - rest @ adjoint(gu[..., k:]) @ first


accepts(_svd, square=False)
converges(_svd, np.linalg.svd)


@_svd.flops
def _(x, full_matrices):
    """Count as Golub & Van Loan 2013, section 8.6, for the R-SVD."""
    m, n = sorted(x.shape[-2:], reverse=True)
    vectors = 4 * m * m * n + 22 * n**3 if full_matrices else 6 * m * n * n + 20 * n**3
    return matrices_in(x) * vectors


@_svd.samples
def _():
    yield sample(matrix([[4, 1, -1], [2, 5, 1], [0, -1, 3]]))
    yield sample(matrix([[1, 2], [3, -1], [0, 2]]), full_matrices=False)
    yield sample(matrix([[[1, 2, 1], [3, -1, 0]], [[2, 0, 1], [1, 1, 1]]]), full_matrices=False)
    yield sample(matrix([[1, 2], [3, -1], [0, 2], [1, 1]]))
    yield sample(matrix([[1 + 1j, 2j], [3, -1], [1j, 2]]))
    yield sample(matrix([[1j, 2, 1 - 1j], [3, 1j - 1, 0]]), full_matrices=False)
    yield sample((0, 3))
    yield sample((2, 3, 0))


def _svdvals_oracle(x):
    return np.linalg.svd(x, compute_uv=False)


@primitive(oracle=_svdvals_oracle)
def svdvals(B, x: Array):
    """Return the singular values of each matrix.

    Parameters
    ----------
    x : Tensor, (..., m, n), float or complex.

    Returns
    -------
    Tensor, (..., min(m, n)), real, not negative, descending.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : it holds nan or inf.

    Notes
    -----
    Gradient: U diag(g) V^H, for which the vectors are computed on the way back. It exists where
    singular values are equal or 0 too, as one of the subgradients.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.svdvals(hx.tensor([[3.0, 0.0], [4.0, 0.0]]))
    tensor([5., 0.])
    """
    return B.svdvals(finite(B, x))


@svdvals.vjp("x")
def _(g, x):
    u, _, vh = svd(x, full_matrices=False)
    return (u * expand_dims(g, -2)) @ vh


accepts(svdvals, square=False)
converges(svdvals, np.linalg.svdvals)


@svdvals.flops
def _(x):
    m, n = sorted(x.shape[-2:], reverse=True)
    return matrices_in(x) * (4 * m * n * n - 4 * n**3 // 3)


@svdvals.samples
def _():
    yield sample(matrix([[4, 1, -1], [2, 5, 1], [0, -1, 3]]))
    yield sample(floats(2, 3, 2, distinct=True))
    yield sample(floats(2, 4, distinct=True))
    yield sample((0, 3))
    yield sample((2, 3, 0))
