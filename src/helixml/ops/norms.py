"""Norms of vectors and matrices, and what is measured by them: rank, condition, cosine similarity.

16-bit floats are squared and added in float32. Read `singular_values` first.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, floats, matrix, sample, values
from helixml._core.tensor import Tensor
from helixml.errors import ConvergenceError, DTypeError, ShapeError, ValueRangeError
from helixml.ops.elementwise import abs, maximum, pow, sign, where
from helixml.ops.linalg import vecdot
from helixml.ops.logic import equal
from helixml.ops.matrices import LAPACK_DTYPES, check_matrices
from helixml.ops.movement import as_float, cast, expand_dims, permute_dims, reshape
from helixml.ops.pseudo_inverse import rank_of, rounding
from helixml.ops.reduction import count_nonzero, max, min, spread, sum
from helixml.ops.singular_values import svdvals
from helixml.ops.solving import STACK, WELL_CONDITIONED, inv
from helixml.shapes import Axis

Array = Any  # a raw array of the backend


# Vectors


def _vector_norm_oracle(x, axis=None, keepdims=False, ord=2):
    return np.asarray(np.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord))


@primitive(dtype="float", oracle=_vector_norm_oracle)
def vector_norm(B, x: Array, *, axis: Axis = None, keepdims: bool = False, ord: float = 2):
    """Return a norm of the vectors over axes, (sum_i abs(x_i)^p)^(1/p).

    Parameters
    ----------
    x : Tensor, any shape.
    axis : None (all), int or tuple of int: the entries of one vector.
    keepdims : keep these axes, with size 1.
    ord : p, any number; inf and -inf give the largest and the smallest magnitude, 0 how many
        entries are not 0.

    Returns
    -------
    Tensor, without these axes, real. 16-bit floats are added up in float32.

    Raises
    ------
    ShapeError : there is no such axis, or there are no entries for ord inf or -inf. DTypeError :
    ``ord`` is no number.

    Notes
    -----
    Gradient: g (abs(x) / norm)^(p-1) x / abs(x), which for p = 2 is g x / norm; 0 where x or the
    norm is 0. For inf and -inf equal magnitudes share g evenly.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.vector_norm(hx.tensor([3.0, -4.0]))
    tensor(5.)
    """
    dtype = B.dtype_of(x)
    size = B.abs(B.astype(x, dtypes.accumulation(dtype)))
    over = {"axis": axis, "keepdims": keepdims}
    real = B.dtype_of(size)

    def power(y, p):
        return B.pow(y, B.full((), p, dtype=real))

    if ord == 2:
        norm = B.sqrt(B.ensure(B.sum(B.square(size), **over)))
    elif ord == 1:
        norm = B.sum(size, **over)
    elif math.isinf(ord):
        norm = (B.max if ord > 0 else B.min)(size, **over)
    elif ord == 0:
        norm = B.sum(B.astype(B.not_equal(size, B.zeros((), dtype=real)), real), **over)
    else:
        norm = power(B.ensure(B.sum(power(size, ord), **over)), 1 / ord)
    return B.astype(B.ensure(norm), dtype) if dtype in dtypes.HALVES else norm


@vector_norm.prepare
def _(x, axis, keepdims, ord):
    dtypes.as_number("vector_norm", "ord", ord)
    axes = shapes.normalize_axes("vector_norm", axis, x.ndim)
    if math.isinf(ord) and 0 in (x.shape[a] for a in axes):
        raise ShapeError(f"vector_norm: ord={ord} of no entries: axes {axes} of shape {x.shape}.")
    return {"axis": axes, "keepdims": bool(keepdims), "ord": ord}


@vector_norm.vjp("x")
def _(g, x, out, axis, keepdims, ord):
    g, norm = (spread(t, x.shape, axis, keepdims) for t in (g, out))
    x = as_float(x)
    none = equal(norm, 0)
    if ord == 2:
        return where(none, 0, g / where(none, 1, norm)) * x
    if ord == 0:
        return g * 0
    size = abs(x)
    zero = equal(size, 0)
    direction = x / where(zero, 1, size) if dtypes.kind(x.dtype) == "c" else sign(x)
    if ord == 1:
        return g * direction
    if math.isinf(ord):
        chosen = equal(size, norm)
        return where(chosen, g / count_nonzero(chosen, axis=axis, keepdims=True), 0) * direction
    ratio = where(zero, 1, size) / where(none, 1, norm)
    return g * direction * pow(ratio, ord - 1)


vector_norm.flops(lambda x, ord: x.size * (2 if ord in (1, 2) or math.isinf(ord) else 3))


@vector_norm.samples
def _():
    yield sample(floats(3, 4, distinct=True))
    yield sample(floats(2, 3, 4, distinct=True), axis=(0, -1), keepdims=True)
    for p in (1, 3, 0.5, -2, math.inf, -math.inf):
        yield sample(floats(3, 4, low=-1.0, high=2.5, distinct=True), axis=1, ord=p)
    yield sample(values(0.0, 2.0, 0.0), ord=0)
    yield sample(values(0.0, 0.0), value_only=True)
    yield sample(values(3.0, np.inf, np.nan), value_only=True)
    yield sample(())
    yield sample((0, 3), axis=0)


@vector_norm.errors
def _():
    x = blank(2, 0)
    yield Failure(lambda: vector_norm(x, axis=2), ShapeError, r"axis 2 is out of range")
    yield Failure(lambda: vector_norm(x, ord=math.inf), ShapeError, r"ord=inf of no entries")
    yield Failure(lambda: vector_norm(x, ord="fro"), DTypeError, r"ord must be a number, not 'fro'")


# Matrices


def _in_float32(x):
    """Return a float tensor that LAPACK knows, and the dtype to give the result back in."""
    x = as_float(x)
    return (cast(x, dtypes.float32), x.dtype) if x.dtype in dtypes.HALVES else (x, None)


def _matrix_norm_oracle(x, keepdims=False, ord="fro"):
    return np.asarray(np.linalg.matrix_norm(x, keepdims=keepdims, ord=ord))


@composite(oracle=_matrix_norm_oracle)
def matrix_norm(
    x: Tensor, *, keepdims: bool = False, ord: Literal["fro", "nuc"] | float = "fro"
) -> Tensor:
    """Return a norm of each matrix.

    Parameters
    ----------
    x : Tensor, (..., m, n).
    keepdims : keep the last two axes, with size 1.
    ord : "fro", the root of the sum of squares; "nuc", the sum of the singular values; 2 and -2,
        the largest and the smallest singular value; 1 and -1, the largest and the smallest sum of
        magnitudes of a column; inf and -inf, of a row.

    Returns
    -------
    Tensor, (...), real; of 16-bit floats computed in float32.

    Raises
    ------
    ShapeError : ``x`` has less than two axes, or there is nothing to be the largest of.
    ValueRangeError : another ``ord``.

    Notes
    -----
    Gradient: that of what it is made of; of equal singular values, columns or rows each gets a
    share.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.matrix_norm(hx.tensor([[3.0, 0.0], [0.0, 4.0]]), ord="nuc")
    tensor(7.)
    """
    if x.ndim < 2:
        raise ShapeError(f"matrix_norm: takes matrices, (..., m, n), the shape is {x.shape}.")
    if not isinstance(ord, (str, int, float)) or ord not in ("fro", "nuc", *_EXTREMES):
        raise ValueRangeError(
            f"matrix_norm: ord={ord!r:.80}. Hint: 'fro', 'nuc', 1, -1, 2, -2, inf or -inf."
        )
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    x, dtype = _in_float32(x)
    if ord == "nuc":
        norm = sum(svdvals(x), axis=-1)
    elif ord in (2, -2):
        norm = _EXTREMES[ord](svdvals(x), axis=-1)
    else:
        columns = vector_norm(x, axis=-2 if ord in (1, -1) else -1, ord=1)
        norm = _EXTREMES[ord](columns, axis=-1)
    if keepdims:
        norm = expand_dims(norm, (-2, -1))
    return norm if dtype is None else cast(norm, dtype)


_EXTREMES = {1: max, -1: min, 2: max, -2: min, math.inf: max, -math.inf: min}


@matrix_norm.samples
def _():
    yield sample(floats(3, 4, distinct=True))
    for p in ("nuc", 1, -1, 2, -2, math.inf, -math.inf):
        yield sample(matrix([[4, 1, -1], [2, 6, 1], [1, -1, 3]]), ord=p)
    yield sample(STACK, ord=2, keepdims=True)
    yield sample((2, 0, 3))
    yield sample((0, 2, 3), ord="nuc")


@matrix_norm.errors
def _():
    yield Failure(lambda: matrix_norm(blank(3)), ShapeError, r"takes matrices")
    yield Failure(lambda: matrix_norm(blank(2, 2), ord=3), ValueRangeError, r"ord=3. Hint: 'fro'")
    yield Failure(lambda: matrix_norm(blank(2, 0), ord=2), ShapeError, r"has no entries|empty|no ")


def _norm_oracle(x, ord=None, axis=None, keepdims=False):
    return np.asarray(np.linalg.norm(x, ord, axis, keepdims))


@composite(oracle=_norm_oracle)
def norm(
    x: Tensor,
    ord: Literal["fro", "nuc"] | float | None = None,
    axis: Axis = None,
    keepdims: bool = False,
) -> Tensor:
    """Return a norm of a vector or of a matrix, as NumPy's function of this name does.

    Parameters
    ----------
    x : Tensor. With ``axis`` None and an ``ord``, it has one axis or two.
    ord : as for `vector_norm` over one axis and for `matrix_norm` over two; None is the root of
        the sum of squares.
    axis : None (all), int (vectors) or a pair of int (matrices).
    keepdims : keep these axes, with size 1.

    Returns
    -------
    Tensor, without these axes, real.

    Raises
    ------
    ShapeError : there is no such axis, or the norm is one of neither vectors nor matrices.
    ValueRangeError, DTypeError : another ``ord``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.norm(hx.tensor([[3.0, 0.0], [4.0, 0.0]]), axis=0)
    tensor([5., 0.])
    """
    given: Any = range(x.ndim) if axis is None else axis
    if hasattr(given, "__index__"):
        given = (given,)
    axes = tuple([shapes.normalize_axis("norm", a, x.ndim) for a in given])
    if ord is None and (axis is None or len(axes) in (1, 2)):
        return vector_norm(x, axis=axes, keepdims=keepdims)
    if len(axes) == 1:
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=ord)
    if len(axes) != 2 or axes[0] == axes[1]:
        raise ShapeError(
            f"norm: ord={ord!r:.80} over axes {axes} of shape {x.shape} is neither one of vectors "
            "nor one of matrices. Hint: axis=, or linalg.vector_norm."
        )
    others = tuple(a for a in range(x.ndim) if a not in axes)
    found = matrix_norm(permute_dims(x, (*others, *axes)), ord=ord)
    return reshape(found, shapes.reduced(x.shape, axes, keepdims)) if keepdims else found


@norm.samples
def _():
    yield sample(floats(3, 4, distinct=True))
    yield sample(floats(2, 3, 4, distinct=True))
    yield sample(floats(2, 3, 4, distinct=True), ord=1, axis=(2, 0))
    yield sample(floats(2, 3, 4, distinct=True), axis=(0, 1), keepdims=True)
    yield sample(floats(2, 3, 4, distinct=True), ord="fro", axis=(0, 2), keepdims=True)
    yield sample(floats(2, 3, distinct=True), ord=3, axis=1)
    yield sample(floats(4, distinct=True), ord=1)
    yield sample(floats(3, 2, distinct=True), ord=math.inf)


@norm.errors
def _():
    x = blank(2, 3, 4)
    yield Failure(lambda: norm(x, ord=2), ShapeError, r"over axes \(0, 1, 2\) of shape \(2, 3, 4\)")
    yield Failure(lambda: norm(x, axis=3), ShapeError, r"axis 3 is out of range")
    yield Failure(lambda: norm(x, ord=5, axis=(0, 1)), ValueRangeError, r"ord=5")


def _rank_oracle(x, rtol=None):
    s = np.linalg.svd(x, compute_uv=False)
    least = np.asarray(1e-6 if rtol is None else rtol)[..., None]
    return np.sum(s > least * s[..., :1], axis=-1)


@composite(oracle=_rank_oracle)
def matrix_rank(x: Tensor, *, rtol: Any = None) -> Tensor:
    """Return how many singular values of each matrix are not 0.

    Parameters
    ----------
    x : Tensor, (..., m, n), float or complex.
    rtol : singular values up to ``rtol`` times the largest count as 0: a float, or a Tensor (...);
        None means max(m, n) eps.

    Returns
    -------
    Tensor, (...), int64. Carries no gradient.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. ConvergenceError : it holds nan or inf.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.matrix_rank(hx.tensor([[1.0, 2.0], [2.0, 4.0]]))
    tensor(1)
    """
    check_matrices("matrix_rank", x, square=False)
    return rank_of(svdvals(x), rounding(x) if rtol is None else rtol)


matrix_rank.options["dtypes"] = LAPACK_DTYPES


@matrix_rank.samples
def _():
    yield sample(matrix([[1, 2, 0], [2, 4, 1], [3, 6, 4]]))
    yield sample(matrix([[[1, 2], [2, 4]], [[1, 2], [3, 4]], [[0, 0], [0, 0]]]))
    yield sample(matrix([[3, 0], [0, 1]]), rtol=0.5)
    yield sample((2, 0, 3))


@matrix_rank.errors
def _():
    yield Failure(lambda: matrix_rank(blank(3)), ShapeError, r"matrix_rank: takes matrices")


def _cond_oracle(x, ord=2):
    return np.asarray(np.linalg.cond(x, ord))


@composite(oracle=_cond_oracle)
def cond(x: Tensor, *, ord: Literal["fro", "nuc"] | float = 2) -> Tensor:
    """Return by how much each matrix can magnify relative errors, norm(x) norm(x^-1).

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex; (..., m, n) for ord 2 and -2.
    ord : which norm, as for `matrix_norm`.

    Returns
    -------
    Tensor, (...), real; for ord 2 and -2 inf where the least singular value is 0.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype. SingularMatrixError : there is no inverse,
    for the other norms.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.cond(hx.tensor([[10.0, 0.0], [0.0, 0.1]]))
    tensor(100.)
    """
    if ord in (2, -2):
        s = svdvals(x)
        largest, least = max(s, axis=-1), min(s, axis=-1)
        return largest / least if ord == 2 else least / largest
    return matrix_norm(x, ord=ord) * matrix_norm(inv(x), ord=ord)


cond.options["dtypes"] = LAPACK_DTYPES


@cond.samples
def _():
    for p in (2, -2, "fro", 1):
        yield sample(WELL_CONDITIONED, ord=p)
    yield sample(STACK)


@cond.errors
def _():
    yield Failure(lambda: cond(blank(3)), ShapeError, r"takes matrices")
    yield Failure(lambda: cond(np.full((2, 2), np.nan)), ConvergenceError, r"nan or inf")


# Angles


def _cosine_oracle(x, y, axis=-1, eps=1e-8):
    def length(t):
        return np.maximum(np.sqrt(np.sum(np.abs(t) ** 2, axis=axis)), eps)

    return np.asarray(np.sum(np.conj(x) * y, axis=axis) / (length(x) * length(y)))


@composite(oracle=_cosine_oracle)
def cosine_similarity(x: Tensor, y: Tensor, axis: int = -1, *, eps: float = 1e-8) -> Tensor:
    """Return the cosine of the angle between the vectors along an axis.

    Parameters
    ----------
    x, y : Tensor, equal in size along ``axis``; the other axes broadcast.
    axis : int, the same axis of both, counted from the last.
    eps : least length that a vector is taken to have, so that one of zeros gives 0.

    Returns
    -------
    Tensor, without ``axis``, a float dtype.

    Raises
    ------
    ShapeError : the sizes along ``axis`` differ, or ``axis`` is not that of both.

    Notes
    -----
    For complex numbers sum(conj(x) y) over the lengths, whose real part is the cosine.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.cosine_similarity(hx.tensor([[1.0, 0.0], [1.0, 1.0]]), hx.tensor([2.0, 0.0]))
    tensor([1.        , 0.70710677])
    """
    dtype = dtypes.as_float(dtypes.promote(x.dtype, y.dtype))
    wide = dtypes.accumulation(dtype)  # in which eps is more than 0
    x, y = cast(x, wide), cast(y, wide)
    product = vecdot(x, y, axis=axis)
    first, second = (maximum(vector_norm(t, axis=axis), eps) for t in (x, y))
    return cast(product / (first * second), dtype)


@cosine_similarity.samples
def _():
    yield sample((3, 4), (3, 4))
    yield sample((3, 4), (4,))
    yield sample((2, 3, 4), (3, 1), axis=-2)
    yield sample(values(0.0, 0.0), values(1.0, 2.0), value_only=True)
    yield sample((0, 4), (4,))


@cosine_similarity.errors
def _():
    yield Failure(lambda: cosine_similarity(blank(2), blank(3)), ShapeError, r"is not the same")
    yield Failure(lambda: cosine_similarity(blank(), blank(3)), ShapeError, r"has no axes")
