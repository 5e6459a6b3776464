"""Grids: a picture sampled at points that are themselves computed, and may move.

Coordinates are those of PyTorch: along each axis of the picture from -1 to 1, the last axis of the
picture first. Both functions take pictures of any number of axes.
"""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, Input, blank, floats, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.elementwise import floor, where
from helixml.ops.elementwise import round as nearest_integer
from helixml.ops.indexing import take_along_axis
from helixml.ops.linalg import matmul
from helixml.ops.logic import greater_equal, less_equal, logical_and
from helixml.ops.movement import astype, broadcast_to, matrix_transpose, reshape


def _affine_oracle(theta, size, align_corners=False):
    line = size[2:]
    result = np.empty((len(theta), *line, len(line)), np.result_type(theta, np.float16))
    for place in np.ndindex(line):
        point = [_unit(i, n, align_corners) for i, n in zip(place, line, strict=True)]
        result[(slice(None), *place)] = theta @ np.array([*point[::-1], 1.0])
    return result


def _unit(i, n, align_corners):
    """Return where entry ``i`` of ``n`` stands between -1 and 1."""
    if align_corners:
        return -1 + 2 * i / (n - 1) if n > 1 else 0.0
    return (2 * i + 1) / n - 1


@composite(oracle=_affine_oracle)
def affine_grid(theta: Tensor, size: tuple[int, ...], *, align_corners: bool = False) -> Tensor:
    """Return the points of a picture's grid under affine maps, for `grid_sample`.

    Parameters
    ----------
    theta : Tensor, (b, n, n + 1), float: for each picture a matrix, and a shift as last column.
    size : tuple of int, (b, c, l...), n sizes behind the channels.
    align_corners : -1 and 1 are the middles of the first and the last entry; if not, their outer
        borders.

    Returns
    -------
    Tensor, (b, l..., n): for each entry of the picture the point theta (x, y, ..., 1), the
    coordinate of the last axis first.

    Raises
    ------
    ShapeError : shapes do not fit each other, or a size is 0. DTypeError : theta is no float.

    References
    ----------
    Jaderberg et al. 2015, "Spatial transformer networks", eq. 1.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.affine_grid(hx.tensor([[[1.0, 0.0], [0.0, 1.0]]])[:, :1], (1, 1, 4))
    tensor([[[-0.75],
             [-0.25],
             [ 0.25],
             [ 0.75]]])
    """
    shape = shapes.as_shape("affine_grid", size)
    line = shape[2:]
    rank = len(line)
    if rank < 1 or theta.shape != (shape[0], rank, rank + 1) or 0 in line:
        raise ShapeError(
            f"affine_grid: theta is {theta.shape}, size={shape}; they must be (b, n, n + 1) and "
            "(b, c, l...), with n sizes behind c that are not 0."
        )
    _need_float("affine_grid", theta=theta)
    axes = [np.array([_unit(i, n, align_corners) for i in range(n)]) for n in line]
    coordinates = np.meshgrid(*axes, indexing="ij")[::-1]
    points = np.stack([*coordinates, np.ones(line)], -1).reshape(-1, rank + 1).astype(theta.dtype)
    grid = matmul(as_tensor("affine_grid", points, theta), matrix_transpose(theta))
    return reshape(grid, (shape[0], *line, rank))


def _need_float(op, **tensors):
    for name, tensor in tensors.items():
        dtypes.check_floating(op, name, tensor.dtype)


affine_grid.options["kinds"] = "f"


@affine_grid.samples
def _():
    yield sample((2, 2, 3), size=(2, 3, 3, 2))
    yield sample((1, 2, 3), size=(1, 1, 1, 4), align_corners=True)
    yield sample((1, 3, 4), size=(1, 1, 2, 1, 2))
    yield sample(floats(0, 1, 2), size=(0, 1, 3))


@affine_grid.errors
def _():
    theta = blank(2, 2, 3)
    yield Failure(lambda: affine_grid(theta, (1, 1, 2, 2)), ShapeError, r"theta is \(2, 2, 3\)")
    yield Failure(lambda: affine_grid(theta, (2, 1, 2)), ShapeError, r"size=\(2, 1, 2\); they must")
    yield Failure(lambda: affine_grid(theta, (2, 1, 0, 2)), ShapeError, r"that are not 0")
    whole = np.zeros((2, 2, 3), int)
    yield Failure(lambda: affine_grid(whole, (2, 1, 2, 2)), DTypeError, r"must be a float, not int")


def _grid_oracle(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False):
    line = x.shape[2:]
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]), np.result_type(x, grid))
    for b, *place in np.ndindex(grid.shape[:-1]):
        at = [
            (u + 1) / 2 * (n - 1) if align_corners else ((u + 1) * n - 1) / 2
            for u, n in zip(grid[(b, *place)][::-1].tolist(), line, strict=True)
        ]
        if np.isnan(at).any():
            y[(b, slice(None), *place)] = np.nan
            continue
        if padding_mode == "border":
            at = [min(max(u, 0), n - 1) for u, n in zip(at, line, strict=True)]
        for entry in np.ndindex(line):
            if mode == "nearest":
                weight = float(all(np.rint(u) == i for u, i in zip(at, entry, strict=True)))
            else:
                weight = np.prod([max(0, 1 - abs(u - i)) for u, i in zip(at, entry, strict=True)])
            y[(b, slice(None), *place)] += weight * x[(b, slice(None), *entry)]
    return y


@composite(oracle=_grid_oracle)
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    padding_mode: Literal["zeros", "border"] = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """Sample pictures at points.

    Parameters
    ----------
    x : Tensor, (b, c, l...), float, n axes behind the channels.
    grid : Tensor, (b, p..., n), float: points, the coordinate of the last axis first, from -1 to 1.
    mode : "bilinear", a line between neighbours along each axis; "nearest", the nearest entry, of
        two as near the one at an even position.
    padding_mode : what is outside of ``x``: "zeros", or the entries at its "border".
    align_corners : -1 and 1 are the middles of the first and the last entry; if not, their outer
        borders.

    Returns
    -------
    Tensor, (b, c, p...).

    Raises
    ------
    ShapeError : shapes do not fit each other, or an axis is empty. ValueRangeError : unknown modes.
    DTypeError : an operand is no float.

    Notes
    -----
    Gradient: for x, each entry of g to the entries that it was made of, with their weights; for the
    grid, g times the slope between these: 0 outside of ``x``, and everywhere with "nearest".

    References
    ----------
    Jaderberg et al. 2015, "Spatial transformer networks", eq. 5.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    >>> hx.grid_sample(x, hx.tensor([[[[0.0, 0.0], [0.5, 0.5]]]]))
    tensor([[[[1.5, 3. ]]]])
    """
    rank = x.ndim - 2
    if (
        rank < 1
        or grid.ndim < 2
        or grid.shape[-1] != rank
        or grid.shape[0] != x.shape[0]
        or 0 in x.shape[2:]
    ):
        raise ShapeError(
            f"grid_sample: x is {x.shape}, grid is {grid.shape}; they must be (b, c, l...) and "
            "(b, p..., n), with n axes behind c, none of them empty."
        )
    if mode not in ("bilinear", "nearest"):
        raise ValueRangeError(f"grid_sample: mode={mode!r}. Hint: 'bilinear' or 'nearest'.")
    if padding_mode not in ("zeros", "border"):
        raise ValueRangeError(
            f"grid_sample: padding_mode={padding_mode!r}. Hint: 'zeros', 'border'."
        )
    _need_float("grid_sample", x=x, grid=grid)
    x = astype(x, dtypes.promote(x.dtype, grid.dtype))
    (b, c), line = x.shape[:2], x.shape[2:]
    places = grid.shape[1:-1]
    count = shapes.size(places)
    lows, shares = [], []
    for i, n in enumerate(line):
        u = reshape(grid[..., rank - 1 - i], (b, 1, count))
        at = (u + 1) * ((n - 1) / 2) if align_corners else ((u + 1) * n - 1) * 0.5
        first, last = (0, n - 1) if padding_mode == "border" else (-1, n)  # beyond, nothing changes
        at = where(less_equal(at, first), first, at)
        at = where(greater_equal(at, last), last, at)
        low = (nearest_integer(at) if mode == "nearest" else floor(at)).detach()
        lows.append(low)
        shares.append(at - low)
    outside = sum(lows) * 0  # but nan for a point that is none
    flat = reshape(x, (b, c, shapes.size(line)))
    total = None
    for corner in product((0, 1) if mode == "bilinear" else (0,), repeat=rank):
        position, weight, inside = None, None, None
        for n, low, share, step in zip(line, lows, shares, corner, strict=True):
            entry = low + step
            within = logical_and(greater_equal(entry, 0), less_equal(entry, n - 1))
            inside = within if inside is None else logical_and(inside, within)
            entry = astype(where(within, entry, 0), dtypes.int64)
            position = entry if position is None else position * n + entry
            if mode == "bilinear":
                part = share if step else 1 - share
                weight = part if weight is None else weight * part
        values = take_along_axis(flat, broadcast_to(position, (b, c, count)), axis=-1)
        values = where(inside, values, outside)
        values = values if weight is None else values * weight
        total = values if total is None else total + values
    return reshape(total, (b, c, *places))


grid_sample.options["kinds"] = "f"


@grid_sample.samples
def _():
    near = {"low": -1.2, "high": 1.2}
    yield sample((2, 2, 3, 4), floats(2, 2, 3, 2, **near))
    yield sample((1, 2, 3, 2), floats(1, 5, 2, **near), padding_mode="border", align_corners=True)
    yield sample((1, 1, 3, 3), floats(1, 4, 2, **near), mode="nearest")
    yield sample((1, 1, 3, 3), floats(1, 4, 2, **near), mode="nearest", padding_mode="border")
    yield sample((2, 1, 5), floats(2, 3, 1, **near), align_corners=True)
    yield sample((1, 1, 2, 2, 3), floats(1, 3, 3, **near), orders=1)
    yield sample(floats(0, 1, 2, 2), floats(0, 3, 2))
    far = Input("float", (1, 4, 1), values=(np.nan, np.inf, -np.inf, 9.0))
    yield sample((1, 2, 3), far, value_only=True)
    yield sample((1, 2, 3), far, mode="nearest", padding_mode="border", value_only=True)


@grid_sample.errors
def _():
    x, grid = blank(2, 1, 3, 3), blank(2, 4, 2)
    yield Failure(
        lambda: grid_sample(x, blank(2, 4, 3)), ShapeError, r"grid is \(2, 4, 3\); they must be"
    )
    yield Failure(lambda: grid_sample(x, blank(1, 4, 2)), ShapeError, r"grid is \(1, 4, 2\)")
    yield Failure(lambda: grid_sample(x, grid, mode="bicubic"), ValueRangeError, r"mode='bicubic'")
    yield Failure(
        lambda: grid_sample(x, grid, padding_mode="reflection"), ValueRangeError, r"='reflection'"
    )
    whole = np.zeros((2, 4, 2), int)
    yield Failure(lambda: grid_sample(x, whole), DTypeError, r"grid must be a float, not int64")
