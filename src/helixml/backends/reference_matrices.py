"""Linear algebra of the reference device: textbook algorithms on one matrix after the other.

Everything is computed in float64 or complex128 and rounded once, at the end. `stacked` makes of a
function of one matrix one of stacks. Eigenvalues of matrices that are not Hermitian are LAPACK's:
their algorithm is a book of its own (Golub & Van Loan 2013, chapter 7).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.linalg import LinAlgError

__all__ = ["ReferenceLinearAlgebra"]

Array: TypeAlias = np.ndarray[Any, Any]

# Each sweep over all pairs squares what is left, so a handful is enough for any matrix.
_SWEEPS = 60
_EPS = float(np.finfo(np.float64).eps)


def stacked(ranks: tuple[int, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a method for stacks of a function of one matrix; ``ranks`` are those of its results."""

    def define(function: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Any, *arrays: Array, **options: Any) -> Any:
            complex_ = arrays[0].dtype.kind == "c"
            wide = np.complex128 if complex_ else np.float64
            batch = np.broadcast_shapes(*[x.shape[:-2] for x in arrays])
            wides = [np.broadcast_to(x, (*batch, *x.shape[-2:])).astype(wide) for x in arrays]
            # Of an empty stack the shapes still follow: from a matrix that stands in.
            one = [np.eye(*x.shape[-2:], dtype=wide) for x in arrays]
            found = [function(*[x[i].copy() for x in wides], **options) for i in np.ndindex(batch)]
            found = [f if isinstance(f, tuple) else (f,) for f in found]
            shown = found[0] if found else function(*one, **options)
            shown = shown if isinstance(shown, tuple) else (shown,)
            results = []
            for k, rank in enumerate(ranks):
                part = np.asarray(shown[k])
                assert part.ndim == rank
                dtype = arrays[0].dtype
                if complex_ and part.dtype.kind != "c":
                    dtype = np.zeros((), dtype).real.dtype
                rows = np.array([f[k] for f in found], dtype=part.dtype)
                results.append(rows.reshape((*batch, *part.shape)).astype(dtype))
            return tuple(results) if len(results) > 1 else results[0]

        method.__doc__ = function.__doc__
        return method

    return define


def eliminate(x: Array, y: Array) -> tuple[Array, Array, float]:
    """Return x and y after elimination below the diagonal, and the sign of the row exchanges.

    Gaussian elimination with partial pivoting: Golub & Van Loan 2013, algorithm 3.4.1.
    """
    sign = 1.0
    for j in range(len(x)):
        pivot = j + int(np.argmax(abs(x[j:, j])))
        if pivot != j:
            x[[j, pivot]], y[[j, pivot]] = x[[pivot, j]], y[[pivot, j]]
            sign = -sign
        for i in range(j + 1, len(x)):
            if x[j, j] != 0:
                factor = x[i, j] / x[j, j]
                x[i, j:] -= factor * x[j, j:]
                y[i] -= factor * y[j]
    return x, y, sign


def substitute(x: Array, y: Array, upper: bool) -> Array:
    """Solve with a triangle, row by row."""
    z = np.zeros_like(y)
    n = len(x)
    for i in range(n - 1, -1, -1) if upper else range(n):
        if x[i, i] == 0:
            raise LinAlgError("singular matrix")
        known = x[i, i + 1 :] @ z[i + 1 :] if upper else x[i, :i] @ z[:i]
        z[i] = (y[i] - known) / x[i, i]
    return z


def householder(x: Array) -> tuple[Array, Array]:
    """Return square Q and R with a diagonal of R that is real and not negative.

    Reflections: Golub & Van Loan 2013, algorithm 5.2.1.
    """
    m, n = x.shape
    q, r = np.eye(m, dtype=x.dtype), x
    for j in range(min(m, n)):
        v = r[j:, j].copy()
        length = math.sqrt(float(sum(abs(v) ** 2)))
        if length == 0:
            continue
        phase = v[0] / abs(v[0]) if v[0] != 0 else 1
        v[0] += phase * length
        v /= math.sqrt(float(sum(abs(v) ** 2)))
        r[j:] -= 2 * np.outer(v, v.conj() @ r[j:])
        q[:, j:] -= 2 * np.outer(q[:, j:] @ v, v.conj())
        r[j + 1 :, j] = 0
        turn = r[j, j] / abs(r[j, j])
        r[j] /= turn
        q[:, j] *= turn
    return q, r


def jacobi(x: Array) -> tuple[Array, Array]:
    """Return eigenvalues, ascending, and vectors of a Hermitian matrix.

    Rotations that make one entry after the other zero: Golub & Van Loan 2013, section 8.5; a
    complex entry is first made real by a phase.
    """
    n = len(x)
    x = np.tril(x) + np.tril(x, -1).conj().T
    if not np.isfinite(x).all():
        raise LinAlgError("nan or inf")
    v = np.eye(n, dtype=x.dtype)
    for _ in range(_SWEEPS):
        if float(abs(x - np.diag(np.diag(x))).max(initial=0)) <= _EPS * float(
            abs(x).max(initial=0)
        ):
            break
        for p in range(n):
            for q in range(p + 1, n):
                size = abs(x[p, q])
                if size == 0:
                    continue
                phase = (x[p, q] / size).conj()
                tau = (x[q, q] - x[p, p]).real / (2 * size)
                t = (1 if tau >= 0 else -1) / (abs(tau) + math.hypot(1, tau))
                c = 1 / math.hypot(1, t)
                turn = np.array([[c, t * c], [-t * c * phase, c * phase]])
                x[:, [p, q]] = x[:, [p, q]] @ turn
                x[[p, q]] = turn.conj().T @ x[[p, q]]
                x[p, q] = x[q, p] = 0
                v[:, [p, q]] = v[:, [p, q]] @ turn
    values = np.diag(x).real
    order = np.argsort(values, kind="stable")
    return values[order], v[:, order]


def one_sided_jacobi(x: Array) -> tuple[Array, Array, Array]:
    """Return all of U, the singular values and V^H, for as many rows as columns or more.

    Columns are rotated in pairs until they are orthogonal (Hestenes 1958; Golub & Van Loan 2013,
    section 8.6.3); their lengths are the singular values.
    """
    m, n = x.shape
    if not np.isfinite(x).all():
        raise LinAlgError("nan or inf")
    v = np.eye(n, dtype=x.dtype)
    for _ in range(_SWEEPS):
        turning = False
        for p in range(n):
            for q in range(p + 1, n):
                a, b = float(sum(abs(x[:, p]) ** 2)), float(sum(abs(x[:, q]) ** 2))
                inner = x[:, p].conj() @ x[:, q]
                if abs(inner) <= m * _EPS * math.sqrt(a * b):
                    continue
                turning = True
                phase = (inner / abs(inner)).conj()
                tau = (b - a) / (2 * abs(inner))
                t = (1 if tau >= 0 else -1) / (abs(tau) + math.hypot(1, tau))
                c = 1 / math.hypot(1, t)
                turn = np.array([[c, t * c], [-t * c * phase, c * phase]])
                x[:, [p, q]] = x[:, [p, q]] @ turn
                v[:, [p, q]] = v[:, [p, q]] @ turn
        if not turning:
            break
    s = np.sqrt(np.sum(abs(x) ** 2, axis=0))
    order = np.argsort(-s, kind="stable")
    x, s, v = x[:, order], s[order], v[:, order]
    rank = int(sum(s > _EPS * max(m, n) * s.max(initial=0)))
    # The reflections of the columns that are not 0 give the rest of an orthonormal basis.
    u = householder((x[:, :rank] / s[:rank]).copy())[0]
    return u, s, v.conj().T


def full_svd(x: Array) -> tuple[Array, Array, Array]:
    """Return all of U, S and V^H of any matrix."""
    if x.shape[0] >= x.shape[1]:
        return one_sided_jacobi(x)
    v, s, uh = one_sided_jacobi(x.conj().T.copy())
    return uh.conj().T, s, v.conj().T


class ReferenceLinearAlgebra:
    """The linear algebra of the reference device."""

    @stacked((2,))
    def cholesky(x: Array) -> Array:
        """Return L with L L^H = x, row by row: Golub & Van Loan 2013, algorithm 4.2.1."""
        lower = np.zeros_like(x)
        for j in range(len(x)):
            rest = (x[j, j] - sum(abs(lower[j, :j]) ** 2)).real
            if rest <= 0:
                raise LinAlgError("not positive definite")
            lower[j, j] = math.sqrt(rest)
            for i in range(j + 1, len(x)):
                known = sum(lower[i, :j] * lower[j, :j].conj())
                lower[i, j] = (x[i, j] - known) / lower[j, j]
        return lower

    @stacked((2, 2))
    def qr(x: Array, *, mode: str) -> tuple[Array, Array]:
        """Return Q and R."""
        q, r = householder(x)
        k = len(x) if mode == "complete" else min(x.shape)
        return q[:, :k], r[:k]

    @stacked((1, 2))
    def eigh(x: Array) -> tuple[Array, Array]:
        """Return eigenvalues and eigenvectors."""
        return jacobi(x)

    @stacked((1,))
    def eigvalsh(x: Array) -> Array:
        """Return eigenvalues."""
        return jacobi(x)[0]

    @stacked((2, 1, 2))
    def svd(x: Array, *, full_matrices: bool) -> tuple[Array, Array, Array]:
        """Return U, S and V^H."""
        k = min(x.shape)
        u, s, vh = full_svd(x)
        return (u, s, vh) if full_matrices else (u[:, :k], s, vh[:k])

    @stacked((1,))
    def svdvals(x: Array) -> Array:
        """Return singular values."""
        return full_svd(x)[1]

    @stacked((0,))
    def det(x: Array) -> Array:
        """Return the product of the pivots, with the sign of their exchanges."""
        x, _, sign = eliminate(x, x.copy())
        return np.asarray(sign * np.prod(np.diag(x)), x.dtype)

    @stacked((0, 0))
    def slogdet(x: Array) -> tuple[Array, Array]:
        """Return the product of the pivots' signs and the sum of their logarithms."""
        x, _, sign = eliminate(x, x.copy())
        pivots = np.diag(x)
        if (pivots == 0).any():
            return np.zeros((), x.dtype), np.asarray(-math.inf)
        total = sum([math.log(abs(p)) for p in pivots])
        return np.asarray(sign * np.prod(pivots / abs(pivots)), x.dtype), np.asarray(float(total))

    @stacked((2,))
    def inv(x: Array) -> Array:
        """Return the solution of x z = I."""
        x, y, _ = eliminate(x, np.eye(len(x), dtype=x.dtype))
        return substitute(x, y, upper=True)

    @stacked((2,))
    def solve(x: Array, y: Array) -> Array:
        """Return the solution of x z = y."""
        x, y, _ = eliminate(x, y)
        return substitute(x, y, upper=True)

    @stacked((2,))
    def solve_triangular(x: Array, y: Array, *, upper: bool, unit_diagonal: bool) -> Array:
        """Return the solution for one triangle."""
        if unit_diagonal:
            x[range(len(x)), range(len(x))] = 1
        return substitute(x, y, upper=upper)

    @stacked((2,))
    def expm(x: Array) -> Array:
        """Return the sum of the series of x / 2^k, squared k times."""
        norm = float(abs(x).sum(axis=0).max(initial=0))
        if not math.isfinite(norm):
            return np.full_like(x, np.nan)
        squarings = max(0, math.ceil(math.log2(norm))) if norm else 0
        term = total = np.eye(len(x), dtype=x.dtype)
        for k in range(1, 25):  # 1 / 25! is less than eps
            term = term @ (x / 2**squarings) / k
            total = total + term
        for _ in range(squarings):
            total = total @ total
        return total
