"""Linear algebra on the host: NumPy's and SciPy's LAPACK, for stacks of matrices.

The functions take and return NumPy arrays of float32, float64, complex64 or complex128. What fails
raises `numpy.linalg.LinAlgError`. `HostLinearAlgebra` gives them to a backend that has none of its
own: its matrices go to the host and the results come back. SciPy is imported when it is needed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["HostLinearAlgebra"]

Array = np.ndarray[Any, Any]

cholesky = np.linalg.cholesky
eigvalsh = np.linalg.eigvalsh
inv = np.linalg.inv
solve = np.linalg.solve
svdvals = np.linalg.svdvals


def eigh(x: Array) -> tuple[Array, Array]:
    """Return eigenvalues, ascending, and eigenvectors of Hermitian matrices."""
    values, vectors = np.linalg.eigh(x)
    return values, vectors


def eig(x: Array) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors, complex also where they are real."""
    values, vectors = np.linalg.eig(x)
    wide = np.result_type(x.dtype, np.complex64)
    return values.astype(wide, copy=False), vectors.astype(wide, copy=False)


def eigvals(x: Array) -> Array:
    """Return eigenvalues, complex also where they are real."""
    return np.linalg.eigvals(x).astype(np.result_type(x.dtype, np.complex64), copy=False)


def qr(x: Array, *, mode: Any) -> tuple[Array, Array]:
    """Return an orthonormal and an upper triangular factor."""
    q, r = np.linalg.qr(x, mode=mode)
    return q, r


def svd(x: Array, *, full_matrices: bool) -> tuple[Array, Array, Array]:
    """Return left vectors, singular values, descending, and adjoint right vectors."""
    u, s, vh = np.linalg.svd(x, full_matrices=full_matrices)
    return u, s, vh


def det(x: Array) -> Array:
    """Return determinants."""
    with np.errstate(all="ignore"):  # an infinity or a nan comes out as one
        return np.asarray(np.linalg.det(x))


def slogdet(x: Array) -> tuple[Array, Array]:
    """Return the sign and the logarithm of the magnitude of determinants."""
    with np.errstate(all="ignore"):
        sign, logabsdet = np.linalg.slogdet(x)
    return np.asarray(sign), np.asarray(logabsdet)


def pinv(x: Array, *, rtol: Any) -> Array:
    """Return pseudo-inverses."""
    return np.linalg.pinv(x, rtol=rtol)


def solve_triangular(x: Array, y: Array, *, upper: bool, unit_diagonal: bool) -> Array:
    """Solve with one triangle of ``x``: a few matrices one by one, many of them row by row."""
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
    y = np.broadcast_to(y, (*batch, *y.shape[-2:]))
    z = np.empty(y.shape, y.dtype)
    n = x.shape[-1]
    if math.prod(batch) <= n:
        from scipy.linalg import solve_triangular as solve_one  # it knows no stacks before 1.15

        for at in np.ndindex(batch) if z.size else ():
            z[at] = solve_one(
                x[at], y[at], lower=not upper, unit_diagonal=unit_diagonal, check_finite=False
            )
        return z
    if not (unit_diagonal or np.diagonal(x, 0, -2, -1).all()):
        raise np.linalg.LinAlgError("singular matrix")
    for i in range(n - 1, -1, -1) if upper else range(n):
        known = slice(i + 1, n) if upper else slice(i)
        row = y[..., i, :] - (x[..., i : i + 1, known] @ z[..., known, :])[..., 0, :]
        z[..., i, :] = row if unit_diagonal else row / x[..., i, i, None]
    return z


def expm(x: Array) -> Array:
    """Return exponentials of matrices."""
    from scipy.linalg import expm as exponential

    return np.asarray(exponential(x)).astype(x.dtype, copy=False)


class HostLinearAlgebra:
    """The linear algebra of a `ComputeBackend`, computed on the host."""

    def _on_host(self, name: str, *arrays: Any, **options: Any) -> Any:
        backend: Any = self  # it has `to_numpy` and `asarray`
        result = globals()[name](*[backend.to_numpy(x) for x in arrays], **options)
        if isinstance(result, tuple):
            return tuple(backend.asarray(part) for part in result)
        return backend.asarray(result)

    def cholesky(self, x: Any, /) -> Any:
        """Return the lower triangular factor."""
        return self._on_host("cholesky", x)

    def qr(self, x: Any, /, *, mode: str) -> Any:
        """Return the factors Q and R."""
        return self._on_host("qr", x, mode=mode)

    def eigh(self, x: Any, /) -> Any:
        """Return eigenvalues and eigenvectors of Hermitian matrices."""
        return self._on_host("eigh", x)

    def eigvalsh(self, x: Any, /) -> Any:
        """Return eigenvalues of Hermitian matrices."""
        return self._on_host("eigvalsh", x)

    def eig(self, x: Any, /) -> Any:
        """Return eigenvalues and eigenvectors."""
        return self._on_host("eig", x)

    def eigvals(self, x: Any, /) -> Any:
        """Return eigenvalues."""
        return self._on_host("eigvals", x)

    def svd(self, x: Any, /, *, full_matrices: bool) -> Any:
        """Return the factors U, S and V^H."""
        return self._on_host("svd", x, full_matrices=full_matrices)

    def svdvals(self, x: Any, /) -> Any:
        """Return singular values."""
        return self._on_host("svdvals", x)

    def det(self, x: Any, /) -> Any:
        """Return determinants."""
        return self._on_host("det", x)

    def slogdet(self, x: Any, /) -> Any:
        """Return signs and logarithms of determinants."""
        return self._on_host("slogdet", x)

    def inv(self, x: Any, /) -> Any:
        """Return inverses."""
        return self._on_host("inv", x)

    def solve(self, x: Any, y: Any, /) -> Any:
        """Return the solutions of x z = y."""
        return self._on_host("solve", x, y)

    def solve_triangular(self, x: Any, y: Any, /, *, upper: bool, unit_diagonal: bool) -> Any:
        """Return the solutions of x z = y for one triangle of x."""
        options = {"upper": upper, "unit_diagonal": unit_diagonal}
        return self._on_host("solve_triangular", x, y, **options)

    def pinv(self, x: Any, /, *, rtol: Any) -> Any:
        """Return pseudo-inverses."""
        backend: Any = self
        rtol = rtol if isinstance(rtol, float) else backend.to_numpy(rtol)
        return self._on_host("pinv", x, rtol=rtol)

    def expm(self, x: Any, /) -> Any:
        """Return exponentials."""
        return self._on_host("expm", x)
