"""Parts and products of matrices: diagonals, traces, outer products, chains of products.

Nothing here solves or decomposes; `solving` and `decomposition` do. What all of linear algebra
shares stands first: the adjoint, and the checks of what is a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError
from helixml.ops.elementwise import where
from helixml.ops.indexing import getitem
from helixml.ops.linalg import matmul
from helixml.ops.movement import expand_dims, matrix_transpose, reshape, roll
from helixml.ops.numbers import conj
from helixml.ops.reduction import sum

LAPACK_DTYPES = (dtypes.float32, dtypes.float64, *dtypes.COMPLEX)


# What all of linear algebra shares


def adjoint(x):
    """Return the conjugate transpose of each matrix."""
    x = matrix_transpose(x)
    return conj(x) if dtypes.kind(x.dtype) == "c" else x


def hermitian_part(x):
    """Return (x + x^H) / 2."""
    return (x + adjoint(x)) * 0.5


def on_diagonal(n, like):
    """Return a boolean (n, n) tensor, true on the diagonal."""
    from helixml.ops.creation import eye

    return eye(n, dtype=dtypes.bool_, device=like.device)


def identity(n, like):
    """Return the identity, (n, n), in the dtype of ``like`` and where that is."""
    from helixml.ops.creation import eye

    return eye(n, dtype=like.dtype, device=like.device)


def halved_diagonal(x):
    """Return square matrices with half their diagonal."""
    return where(on_diagonal(x.shape[-1], x), x * 0.5, x)


def check_matrices(op, x, square=True):
    """Raise unless ``x`` is a stack of matrices of a dtype that LAPACK knows."""
    shape = getattr(x, "shape", ())
    if len(shape) < 2:
        raise ShapeError(f"{op}: takes matrices, (..., m, n), the shape is {shape}.")
    if x.dtype not in LAPACK_DTYPES:
        raise DTypeError(
            f"{op}: takes no {x.dtype}. Hint: x.astype('float32'), or "
            f"{', '.join(d.name for d in LAPACK_DTYPES[1:])}."
        )
    if square and shape[-1] != shape[-2]:
        raise ShapeError(f"{op}: takes square matrices, (..., n, n), the shape is {shape}.")


def failing(x, function):
    """Return the name of the first matrix for which a function of a NumPy array raises, or None.

    The name is "the matrix", or "matrix (1, 0)" in a stack.
    """
    host = x._backend.to_numpy(x._array)
    for i in np.ndindex(host.shape[:-2]):
        try:
            function(host[i])
        except np.linalg.LinAlgError:
            return f"matrix {i}" if i else "the matrix"
    return None


# Diagonals


def _diagonal_oracle(x, offset=0):
    return np.diagonal(x, offset, -2, -1)


@composite(oracle=_diagonal_oracle)
def diagonal(x: Tensor, offset: int = 0) -> Tensor:
    """Return a diagonal of each matrix.

    Parameters
    ----------
    x : Tensor, (..., m, n), any dtype.
    offset : which one; 0 is the main diagonal, above it is positive.

    Returns
    -------
    Tensor, (..., k), k the length of that diagonal, perhaps 0.

    Raises
    ------
    ShapeError : ``x`` has less than two axes.

    Notes
    -----
    Gradient: g on that diagonal, 0 elsewhere.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.diagonal(hx.reshape(hx.arange(6), (2, 3)), offset=1)
    tensor([1, 5])
    """
    if x.ndim < 2:
        raise ShapeError(f"diagonal: takes matrices, (..., m, n), the shape is {x.shape}.")
    k = dtypes.as_integer("diagonal", "offset", offset)
    *batch, m, n = x.shape
    count = max(0, min(m, n - k) if k >= 0 else min(m + k, n))
    start = k if k >= 0 else -k * n  # in row-major order the next entry is n + 1 further
    stop = start + (count - 1) * (n + 1) + 1 if count else start
    return getitem(reshape(x, (*batch, m * n)), (..., slice(start, stop, n + 1)))


@diagonal.samples
def _():
    yield sample((3, 4))
    yield sample((2, 4, 3), offset=1)
    yield sample((3, 4), offset=-2)
    yield sample((2, 3, 3), offset=5)
    yield sample((3, 0))
    yield sample((0, 2, 2), offset=-1)


@diagonal.errors
def _():
    yield Failure(lambda: diagonal(blank(3)), ShapeError, r"takes matrices.*\(3,\)")
    yield Failure(lambda: diagonal(blank(3, 3), offset=0.5), DTypeError, r"offset must be an int")


def _trace_oracle(x, offset=0, dtype=None):
    kind = x.dtype if dtype is None else dtype
    return np.sum(np.diagonal(x, offset, -2, -1).astype(kind), axis=-1, dtype=dtype)


@composite(oracle=_trace_oracle)
def trace(x: Tensor, offset: int = 0, *, dtype: dtypes.DTypeLike = None) -> Tensor:
    """Add up a diagonal of each matrix.

    Parameters
    ----------
    x : Tensor, (..., m, n).
    offset : which diagonal, as for `diagonal`.
    dtype : what to cast to before adding; None means that of `sum`.

    Returns
    -------
    Tensor, (...).

    Notes
    -----
    Gradient: g times the identity.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.trace(hx.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    if x.ndim < 2:
        raise ShapeError(f"trace: takes matrices, (..., m, n), the shape is {x.shape}.")
    return sum(diagonal(x, offset), axis=-1, dtype=dtype)


@trace.samples
def _():
    yield sample((3, 4))
    yield sample((2, 4, 3), offset=-1)
    yield sample((2, 0, 3))


trace.errors(lambda: (Failure(lambda: trace(blank(3)), ShapeError, r"trace: takes matrices"),))


# Products


@composite(oracle=np.outer)
def outer(x: Tensor, y: Tensor) -> Tensor:
    """Multiply each entry of one vector by each of another, x_i y_j.

    Parameters
    ----------
    x : Tensor, (m,).
    y : Tensor, (n,).

    Returns
    -------
    Tensor, (m, n).

    Raises
    ------
    ShapeError : an operand has another number of axes than one.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.outer(hx.tensor([1.0, 2.0]), hx.tensor([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"outer: takes vectors, the shapes are {x.shape} and {y.shape}.")
    return expand_dims(x, 1) * y


outer.samples(lambda: (sample((3,), (4,)), sample((3,), (0,))))


@outer.errors
def _():
    yield Failure(
        lambda: outer(blank(2, 2), blank(2)), ShapeError, r"takes vectors, the shapes are \(2, 2"
    )


def _cross_oracle(x, y, axis=-1):
    return np.cross(x, y, axis=axis)


@composite(oracle=_cross_oracle)
def cross(x: Tensor, y: Tensor, axis: int = -1) -> Tensor:
    """Return the cross products of the vectors of three numbers along an axis.

    Parameters
    ----------
    x, y : Tensor, of size 3 along ``axis``; the other axes broadcast.
    axis : int, the same axis of both, counted from the last.

    Returns
    -------
    Tensor of the broadcast shape.

    Raises
    ------
    ShapeError : the size along ``axis`` is not 3, or ``axis`` is not that of both.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.cross(hx.tensor([1.0, 0.0, 0.0]), hx.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    first = shapes.normalize_axis("cross", axis, x.ndim) - x.ndim
    second = shapes.normalize_axis("cross", axis, y.ndim) - y.ndim
    if first != second or x.shape[first] != 3 or y.shape[second] != 3:
        raise ShapeError(
            f"cross: axis {axis} of shapes {x.shape} and {y.shape} is not the same axis, of size 3."
        )

    def turned(t, by):
        return roll(t, by, axis=first)

    return turned(x, -1) * turned(y, -2) - turned(x, -2) * turned(y, -1)


@cross.samples
def _():
    yield sample((2, 3), (2, 3))
    yield sample((3,), (2, 3))
    yield sample((3, 2), (3, 2), axis=0)
    yield sample((4, 3, 1), (3, 2), axis=-2)
    yield sample((0, 3), (3,))


@cross.errors
def _():
    yield Failure(lambda: cross(blank(2), blank(2)), ShapeError, r"is not the same axis, of siz")
    yield Failure(lambda: cross(blank(3, 3), blank(3), axis=0), ShapeError, r"axis 0 of shapes")


@composite(oracle=np.kron)
def kron(x: Tensor, y: Tensor) -> Tensor:
    """Return the Kronecker product: each entry of ``x`` times the whole of ``y``, as blocks.

    Parameters
    ----------
    x, y : Tensor; the shorter shape is filled up with axes of size 1 in front.

    Returns
    -------
    Tensor; each size is the product of those of ``x`` and ``y``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.kron(hx.tensor([1.0, 10.0]), hx.tensor([1.0, 2.0, 3.0]))
    tensor([ 1.,  2.,  3., 10., 20., 30.])
    """
    rank = max(x.ndim, y.ndim)
    a = (1,) * (rank - x.ndim) + x.shape
    b = (1,) * (rank - y.ndim) + y.shape
    x = reshape(x, tuple(n for size in a for n in (size, 1)))
    y = reshape(y, tuple(n for size in b for n in (1, size)))
    return reshape(x * y, tuple(m * n for m, n in zip(a, b, strict=True)))


@kron.samples
def _():
    yield sample((2, 3), (3, 2))
    yield sample((2,), (2, 3))
    yield sample((2, 1, 2), (3,))
    yield sample((), (2, 2))
    yield sample((0, 2), (2, 2))


def _multi_dot_oracle(arrays):
    product = arrays[0]
    for array in arrays[1:]:
        product = product @ array
    return product


@composite(oracle=_multi_dot_oracle)
def multi_dot(arrays: Sequence[Tensor]) -> Tensor:
    """Multiply a chain of matrices, in the order that takes the fewest FLOPs.

    Parameters
    ----------
    arrays : sequence of Tensors, (n_0, n_1), (n_1, n_2), ...; the first may be (n_1,), a row, and
        the last (n_k,), a column.

    Returns
    -------
    Tensor, (n_0, n_k), without the axis of a vector.

    Raises
    ------
    ShapeError : neighbours do not fit, or one has another number of axes.

    Notes
    -----
    The order is that of dynamic programming over the chain, k^3 / 6 steps for k matrices.

    References
    ----------
    Cormen, Leiserson, Rivest & Stein 2009, "Introduction to Algorithms", section 15.2.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.multi_dot([hx.ones((2, 9)), hx.ones((9, 9)), hx.ones((9,))])
    tensor([81., 81.])
    """
    tensors = [as_tensor("multi_dot", a) for a in arrays]
    if not tensors:
        raise ShapeError("multi_dot: needs at least one tensor.")
    last = len(tensors) - 1
    for i, t in enumerate(tensors):
        if t.ndim != 2 and not (t.ndim == 1 and i in (0, last) and last > 0):
            raise ShapeError(
                f"multi_dot: tensor {i} of {last + 1} has shape {t.shape}. "
                "Hint: matrices; the first and the last may be vectors."
            )
    left, right = tensors[0].ndim == 1, tensors[-1].ndim == 1
    if left:
        tensors[0] = expand_dims(tensors[0], 0)
    if right:
        tensors[-1] = expand_dims(tensors[-1], 1)
    for i in range(last):
        if tensors[i].shape[1] != tensors[i + 1].shape[0]:
            raise ShapeError(
                f"multi_dot: tensors {i} and {i + 1} do not fit: "
                f"{tensors[i].shape} and {tensors[i + 1].shape}."
            )
    sizes = [tensors[0].shape[0], *(t.shape[1] for t in tensors)]
    product = _chain(tensors, _splits(sizes), 0, last)
    shape = product.shape[1:] if left else product.shape
    return reshape(product, shape[:-1] if right else shape)


def _splits(sizes):
    """Return, for each part (i, j) of a chain, behind which matrix its last product splits it."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    split = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i, j], split[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return split


def _chain(tensors, split, i, j):
    if i == j:
        return tensors[i]
    k = split[i, j]
    return matmul(_chain(tensors, split, i, k), _chain(tensors, split, k + 1, j))


@multi_dot.samples
def _():
    yield sample([floats(2, 5), floats(5, 3), floats(3, 4)])
    yield sample([floats(5), floats(5, 1), floats(1, 3), floats(3)])
    yield sample([floats(2, 3)])
    yield sample([floats(2, 0), floats(0, 3)])


@multi_dot.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: multi_dot([]), ShapeError, r"at least one")
    yield Failure(lambda: multi_dot([x, x]), ShapeError, r"tensors 0 and 1 do not fit: \(2, 3\) an")
    yield Failure(lambda: multi_dot([x, blank(3), x]), ShapeError, r"tensor 1 of 3 has shape")
