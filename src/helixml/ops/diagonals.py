"""Diagonals: taken out of matrices, and matrices made of them.

The entries of a diagonal are a slice of the flat matrix, with a step longer by 1 than a row. So to
take them is `part`, to put them is `place`, and each is the gradient of the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, integers, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.indexing import part, place
from helixml.ops.movement import concat, expand_dims, flip, permute_dims, reshape
from helixml.ops.running import cumulative_prod


def _line(rows: int, columns: int, k: int) -> slice:
    """Return diagonal ``k`` of a matrix as a slice of the flat matrix."""
    length = max(0, min(rows, columns - k) if k >= 0 else min(rows + k, columns))
    start = k if k >= 0 else -k * columns
    return slice(start, start + length * (columns + 1), columns + 1) if length else slice(0, 0)


def _taken(x: Tensor, k: int) -> Tensor:
    """Return diagonal ``k`` of the matrices in the last two axes."""
    rows, columns = x.shape[-2:]
    flat = reshape(x, (*x.shape[:-2], rows * columns))
    line = _line(rows, columns, k)
    # the slice may end behind the matrix, where its last step would lead
    stop = min(line.stop, rows * columns)
    return part(flat, (..., slice(line.start, stop, line.step)))


def _put(x: Tensor, k: int) -> Tensor:
    """Return matrices of 0 with the last axis of ``x`` on diagonal ``k``."""
    n = x.shape[-1] + abs(k)
    if x.shape[-1] == 0:
        return place(x, (*x.shape[:-1], n, n), (..., slice(0, 0), 0))
    line = _line(n, n, k)
    index = (..., slice(line.start, min(line.stop, n * n), line.step))
    return reshape(place(x, (*x.shape[:-1], n * n), index), (*x.shape[:-1], n, n))


def _diag_oracle(x, k=0):
    return np.diag(x, k)


@composite(oracle=_diag_oracle)
def diag(x: Tensor, k: int = 0) -> Tensor:
    """Return the diagonal of a matrix, or the matrix with a vector on its diagonal.

    Parameters
    ----------
    x : Tensor, (m, n) or (n,).
    k : int, which diagonal; 0 is the main one, above is positive.

    Returns
    -------
    Tensor: the diagonal of a matrix, or for a vector a square matrix of size n + abs(k).

    Raises
    ------
    ShapeError : ``x`` is neither a matrix nor a vector.

    Notes
    -----
    Gradient: g put on the diagonal, or taken from it. `diag_embed` makes many matrices at once.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.diag(hx.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    k = dtypes.as_integer("diag", "k", k)
    if x.ndim not in (1, 2):
        raise ShapeError(f"diag: takes a vector or a matrix, the shape is {x.shape}.")
    return _put(x, k) if x.ndim == 1 else _taken(x, k)


@diag.samples
def _():
    for k in (0, 1, -1, 2, -3, 9):
        yield sample((3, 4), k=k)
    for k in (0, 2, -1):
        yield sample((3,), k=k)
    yield sample((0,), k=1)
    yield sample((0, 3))
    yield sample((4, 2), k=-1)


@diag.errors
def _():
    yield Failure(lambda: diag(blank(2, 2, 2)), ShapeError, r"a vector or a matrix, .* \(2, 2, 2")
    yield Failure(lambda: diag(blank(2), 0.5), DTypeError, r"k must be an integer, not 0\.5")


def _embed_oracle(x, offset=0, axis1=-2, axis2=-1):
    rank = x.ndim + 1
    n = x.shape[-1] + abs(offset)
    result = np.zeros((*x.shape[:-1], n, n), x.dtype)
    for i in range(x.shape[-1]):
        result[..., i + max(-offset, 0), i + max(offset, 0)] = x[..., i]
    return np.moveaxis(result, (-2, -1), (axis1 % rank, axis2 % rank))


@composite(oracle=_embed_oracle)
def diag_embed(x: Tensor, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Tensor:
    """Return matrices with the vectors of the last axis on a diagonal.

    Parameters
    ----------
    x : Tensor, (..., n).
    offset : int, which diagonal; 0 is the main one, above is positive.
    axis1, axis2 : int, where the rows and columns of the matrices stand in the result.

    Returns
    -------
    Tensor with one axis more; the matrices are square, of size n + abs(offset).

    Raises
    ------
    ShapeError : ``x`` is a scalar, or the axes are not two different ones.

    Notes
    -----
    Gradient: g taken from the diagonals.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.diag_embed(hx.ones((2, 3))).shape
    (2, 3, 3)
    """
    offset = dtypes.as_integer("diag_embed", "offset", offset)
    if x.ndim == 0:
        raise ShapeError("diag_embed: a scalar has no diagonal. Hint: x.reshape(1).")
    rank = x.ndim + 1
    rows = shapes.normalize_axis("diag_embed", axis1, rank)
    columns = shapes.normalize_axis("diag_embed", axis2, rank)
    if rows == columns:
        raise ShapeError(f"diag_embed: axes {axis1} and {axis2} are the same.")
    order = list(range(rank - 2))
    for axis, source in sorted([(rows, rank - 2), (columns, rank - 1)]):
        order.insert(axis, source)
    return permute_dims(_put(x, offset), tuple(order))


@diag_embed.samples
def _():
    yield sample((2, 3))
    yield sample((3,), offset=1)
    yield sample((2, 3), offset=-2, axis1=0, axis2=2)
    yield sample((2, 2, 3), axis1=-1, axis2=1)
    yield sample((2, 0), offset=1)


@diag_embed.errors
def _():
    yield Failure(lambda: diag_embed(blank()), ShapeError, r"a scalar has no diagonal")
    yield Failure(lambda: diag_embed(blank(2), axis1=1), ShapeError, r"axes 1 and -1 are the same")
    yield Failure(lambda: diag_embed(blank(2), axis1=2), ShapeError, r"axis 2 is out of range")


def _diagflat_oracle(x, k=0):
    return np.diagflat(x, k)


@composite(oracle=_diagflat_oracle)
def diagflat(x: Tensor, k: int = 0) -> Tensor:
    """Return the matrix with all values of a tensor, in row-major order, on a diagonal.

    Parameters
    ----------
    x : Tensor, any shape, n values.
    k : int, which diagonal.

    Returns
    -------
    Tensor, square, of size n + abs(k).
    """
    return _put(reshape(x, (-1,)), dtypes.as_integer("diagflat", "k", k))


diagflat.samples(lambda: (sample((2, 2)), sample((), k=1), sample((3,), k=-1)))
diagflat.errors(
    lambda: (Failure(lambda: diagflat(blank(2), "a"), DTypeError, r"k must be an integer"),)
)


def _block_oracle(arrays):
    blocks = [np.atleast_2d(a) for a in arrays]
    dtype = np.result_type(*blocks)
    result = np.zeros(np.sum([b.shape for b in blocks], axis=0), dtype)
    row = column = 0
    for block in blocks:
        m, n = block.shape
        result[row : row + m, column : column + n] = block
        row, column = row + m, column + n
    return result


@composite(oracle=_block_oracle)
def block_diag(arrays: Sequence[Tensor]) -> Tensor:
    """Return the matrix with matrices along its diagonal, and 0 elsewhere.

    Parameters
    ----------
    arrays : sequence of Tensors, matrices; vectors count as one row, scalars as one entry.

    Returns
    -------
    Tensor, as many rows and columns as all have together.

    Raises
    ------
    ShapeError : there is none, or one has more than two axes.

    Notes
    -----
    Gradient: the blocks of g.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.block_diag([hx.ones((1, 2)), hx.tensor(3.0)])
    tensor([[1., 1., 0.],
            [0., 0., 3.]])
    """
    if isinstance(arrays, Tensor) or not hasattr(arrays, "__iter__"):
        raise DTypeError(
            f"block_diag: takes a sequence of tensors, not {type(arrays).__name__}. "
            "Hint: block_diag([x, y])."
        )
    given = list(arrays)
    like = next((a for a in given if isinstance(a, Tensor)), None)
    blocks = [as_tensor("block_diag", a, like) for a in given]
    if not blocks:
        raise ShapeError("block_diag: needs at least one tensor.")
    for number, block in enumerate(blocks):
        if block.ndim > 2:
            raise ShapeError(f"block_diag: tensor {number} has shape {block.shape}, no matrix.")
    blocks = [reshape(b, (*(1,) * (2 - b.ndim), *b.shape)) for b in blocks]
    width = sum(b.shape[1] for b in blocks)
    rows, column = [], 0
    for block in blocks:
        m, n = block.shape
        rows.append(place(block, (m, width), (slice(None), slice(column, column + n))))
        column += n
    return concat(rows, axis=0)


@block_diag.samples
def _():
    yield sample([floats(2, 3), floats(1, 2)])
    yield sample([floats(2), floats(), floats(1, 1)])
    yield sample([floats(0, 2), floats(2, 2)])
    yield sample([floats(2, 2), integers(2, 1)])


@block_diag.errors
def _():
    yield Failure(lambda: block_diag([]), ShapeError, r"needs at least one tensor")
    yield Failure(lambda: block_diag([blank(1, 1, 1)]), ShapeError, r"tensor 0 has shape .*matrix")
    yield Failure(lambda: block_diag(blank(2)), DTypeError, r"takes a sequence of tensors")


def _vander_oracle(x, columns=None, increasing=False):
    wide = {"u": np.uint64, "i": np.int64, "b": np.int64}.get(x.dtype.kind, x.dtype)
    powers = np.arange(len(x) if columns is None else columns)
    result = x.astype(wide)[:, None] ** powers.astype(wide)
    return result if increasing else result[:, ::-1]


@composite(oracle=_vander_oracle)
def vander(x: Tensor, columns: int | None = None, increasing: bool = False) -> Tensor:
    """Return the matrix of powers of a vector (Vandermonde): row i holds those of x_i.

    Parameters
    ----------
    x : Tensor, (m,), numbers.
    columns : how many powers, from the zeroth on; as many as rows if left out.
    increasing : from the left to the right; otherwise the highest power comes first.

    Returns
    -------
    Tensor, (m, columns).

    Raises
    ------
    ShapeError : ``x`` is no vector. ValueRangeError : ``columns`` is negative.

    Notes
    -----
    Running products: zeros are fine.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.vander(hx.tensor([1.0, 2.0, 3.0]), increasing=True)
    tensor([[1., 1., 1.],
            [1., 2., 4.],
            [1., 3., 9.]])
    """
    from helixml.ops.movement import broadcast_to

    if x.ndim != 1:
        raise ShapeError(f"vander: takes a vector, the shape is {x.shape}.")
    count = x.shape[0] if columns is None else dtypes.as_integer("vander", "columns", columns)
    if count < 0:
        raise ValueRangeError(f"vander: columns={count} is negative.")
    factors = broadcast_to(expand_dims(x, 1), (x.shape[0], max(count - 1, 0)))
    powers = cumulative_prod(factors, axis=1, include_initial=True)[:, :count]
    return powers if increasing else flip(powers, axis=1)


@vander.samples
def _():
    yield sample((3,))
    yield sample((3,), columns=4, increasing=True)
    yield sample((3,), columns=1)
    yield sample((3,), columns=0)
    yield sample((0,), columns=2)


@vander.errors
def _():
    yield Failure(lambda: vander(blank(2, 2)), ShapeError, r"takes a vector, .* \(2, 2\)")
    yield Failure(lambda: vander(blank(2), -1), ValueRangeError, r"columns=-1 is negative")
