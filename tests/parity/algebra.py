"""How PyTorch's linear algebra is spelled in helixml; what `spelling` says holds here too."""

from __future__ import annotations

from math import prod
from typing import Any

from parity.lookup import NotOffered, hx
from parity.spelling import axes, dtyped, given


def norm_of(
    x: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    """Return PyTorch's older norm: a vector's, of all entries unless axes are given."""
    x = dtyped(x, dtype)
    if p == "nuc":
        return hx.linalg.matrix_norm(x, ord="nuc", keepdims=keepdim)
    return hx.linalg.vector_norm(
        x, axis=axes(dim), keepdims=keepdim, ord=2 if p in ("fro", None) else p
    )


def linalg_norm(
    x: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    """Return the norm of a vector or of a matrix, as NumPy chooses."""
    x = dtyped(x, dtype)
    several = dim if isinstance(dim, (list, tuple)) else None if dim is None else [dim]
    if (
        ord is None
        or (several is None and x.ndim == 1)
        or (several is not None and len(several) == 1)
    ):
        return hx.linalg.vector_norm(
            x, axis=axes(dim), keepdims=keepdim, ord=2 if ord is None else ord
        )
    return matrix_norm(x, ord, tuple(several or (-2, -1)), keepdim)


def matrix_norm(
    x: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, dtype: Any = None
) -> Any:
    """Return the norm of matrices that lie on any two axes."""
    moved = hx.moveaxis(dtyped(x, dtype), tuple(dim), (-2, -1))
    found = hx.linalg.matrix_norm(moved, ord=ord, keepdims=keepdim)
    return hx.moveaxis(found, (-2, -1), tuple(dim)) if keepdim else found


def vector_norm(
    x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> Any:
    """Return the norm of vectors."""
    return hx.linalg.vector_norm(dtyped(x, dtype), axis=axes(dim), keepdims=keepdim, ord=ord)


def triangle(x: Any, side: str = "L") -> Any:
    """Return the Hermitian matrix that PyTorch sees: one triangle says what it is.

    The gradient is Hermitian, as in PyTorch.
    """
    x = hx.conj(hx.matrix_transpose(x)) if side == "U" else x
    below = hx.tril(x, k=-1)
    seen = below + hx.conj(hx.matrix_transpose(below))
    seen = seen + hx.eye(x.shape[-1], dtype=x.dtype) * hx.real(x)
    near = (x + hx.conj(hx.matrix_transpose(x))) / 2
    return near + (seen - near).detach()


def solved(a: Any, b: Any, *, left: bool = True) -> Any:
    """Return a solution; PyTorch takes stacked vectors for what they are."""
    vectors = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    if vectors and left:
        return hx.linalg.solve(a, b[..., None])[..., 0]
    if left:
        return hx.linalg.solve(a, b)
    b = b[..., None] if vectors else b
    return hx.matrix_transpose(hx.linalg.solve(hx.matrix_transpose(a), hx.matrix_transpose(b)))


def triangular(
    a: Any, b: Any, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    """Return the solution with a triangular matrix, from either side."""
    if not left:
        found = triangular(
            hx.matrix_transpose(a),
            hx.matrix_transpose(b),
            upper=not upper,
            unitriangular=unitriangular,
        )
        return hx.matrix_transpose(found)
    return hx.linalg.triangular_solve(a, b, upper=upper, unit_diagonal=unitriangular)


def inverted(
    x: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None, atol: Any = None
) -> Any:
    """Return the pseudo-inverse."""
    if atol is not None:
        raise NotOffered("pinv(atol=)")
    return hx.linalg.pinv(
        triangle(x) if hermitian else x, **given(rtol=rtol if rtol is not None else rcond)
    )


def ranked(
    x: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None, atol: Any = None
) -> Any:
    """Return the rank."""
    if atol is not None or tol is not None:
        raise NotOffered("matrix_rank(atol=)")
    return hx.linalg.matrix_rank(triangle(x) if hermitian else x, **given(rtol=rtol))


def least_squares(a: Any, b: Any, rcond: Any = None, *, driver: Any = None) -> Any:
    """Return the solution; vectors of a stack are columns."""
    if b.ndim == a.ndim - 1:
        return hx.linalg.lstsq(a, b[..., None]).solution[..., 0]
    return hx.linalg.lstsq(a, b).solution


def svd_of(x: Any, some: bool, compute_uv: bool) -> Any:
    """Return PyTorch's older decomposition, whose last factor is not transposed."""
    if not compute_uv:
        raise NotOffered("svd(compute_uv=False)")
    u, values, vh = hx.linalg.svd(x, full_matrices=not some)
    return u, values, hx.conj(hx.matrix_transpose(vh))


def tensor_inverse(x: Any, ind: int = 2) -> Any:
    """Return the inverse of a linear map of tensors."""
    rows, columns = x.shape[:ind], x.shape[ind:]
    return hx.linalg.inv(x.reshape(prod(rows), prod(columns))).reshape(*columns, *rows)


def tensor_solution(a: Any, b: Any, dims: Any = None) -> Any:
    """Return what a linear map of tensors maps to ``b``."""
    if dims is not None:
        a = hx.moveaxis(a, tuple(dims), tuple(range(a.ndim - len(dims), a.ndim)))
    shape = a.shape[b.ndim :]
    return hx.linalg.solve(a.reshape(b.size, prod(shape)), b.reshape(-1)).reshape(*shape)
