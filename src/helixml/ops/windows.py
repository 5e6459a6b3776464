"""Sliding windows: `unfold` cuts them out along an axis, `fold` adds them up again.

The two are each other's adjoint, hence each other's gradient, and all of convolution and pooling
stands on them: `unfold_axes` and `fold_axes` do the same for the last axes of a tensor. On the CPU
windows are a view; nothing is copied until they are computed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.movement import permute_dims, reshape
from helixml.ops.padding import pad

Array = Any


def count_windows(length: int, size: int, step: int, dilation: int) -> int:
    """Return how many windows fit into ``length`` entries; 0 or less if none does.

    >>> count_windows(5, 3, 2, 1)
    2
    """
    return (length - dilation * (size - 1) - 1) // step + 1


def _at_least(op, name, value, least):
    number = dtypes.as_integer(op, name, value)
    if number < least:
        raise ValueRangeError(f"{op}: {name}={number} must be at least {least}.")
    return number


def _unfold_oracle(x, size, step=1, axis=-1, dilation=1):
    lines = np.moveaxis(x, axis, -1)
    starts = range(0, lines.shape[-1] - dilation * (size - 1), step)
    windows = [lines[..., s : s + dilation * (size - 1) + 1 : dilation] for s in starts]
    return np.moveaxis(np.stack(windows, -2), -2, axis % x.ndim)


@primitive(view=True, oracle=_unfold_oracle)
def unfold(B, x: Array, size: int, step: int = 1, axis: int = -1, dilation: int = 1):
    """Return the windows that slide along an axis, y[..., i, ..., j] = x[..., i step + j dilation].

    Parameters
    ----------
    x : Tensor, n entries along ``axis``.
    size : int, entries of a window.
    step : int, from one window to the next.
    axis : int.
    dilation : int, from one entry of a window to the next.

    Returns
    -------
    Tensor with (n - dilation (size - 1) - 1) // step + 1 entries along ``axis``, the number of
    windows, and a new last axis of ``size``. Entries behind the last whole window are left out.

    Raises
    ------
    ShapeError : not one window fits. ValueRangeError : a number is below 1.

    Notes
    -----
    Gradient: `fold` of g.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.unfold(hx.tensor([1, 2, 3, 4, 5]), 3, 2)
    tensor([[1, 2, 3],
            [3, 4, 5]])
    """
    return B.unfold(x, size=size, step=step, axis=axis, dilation=dilation)


@unfold.prepare
def _(x, size, step, axis, dilation):
    axis = shapes.normalize_axis("unfold", axis, x.ndim)
    size = _at_least("unfold", "size", size, 1)
    step = _at_least("unfold", "step", step, 1)
    dilation = _at_least("unfold", "dilation", dilation, 1)
    if count_windows(x.shape[axis], size, step, dilation) < 1:
        raise ShapeError(
            f"unfold: a window over {dilation * (size - 1) + 1} entries (size={size}, "
            f"dilation={dilation}) does not fit into axis {axis} of shape {x.shape}. "
            "Hint: pad() makes the axis longer."
        )
    return {"size": size, "step": step, "axis": axis, "dilation": dilation}


@unfold.vjp("x")
def _(g, x_shape, step, axis, dilation):
    return fold(g, x_shape[axis], step, axis, dilation)


@unfold.samples
def _():
    yield sample((2, 7), size=3)
    yield sample((8, 2), size=3, step=2, axis=0)
    yield sample((2, 9, 2), size=3, step=2, axis=-2, dilation=2)
    yield sample((5,), size=2, step=4, dilation=3)
    yield sample((0, 3), size=2, step=3)


@unfold.errors
def _():
    x = blank(2, 4)
    yield Failure(
        lambda: unfold(x, 3, 1, dilation=2),
        ShapeError,
        r"over 5 entries \(size=3, dilation=2\) does not fit into axis 1 of shape \(2, 4\)",
    )
    yield Failure(lambda: unfold(x, 0, 1), ValueRangeError, r"size=0 must be at least 1")
    yield Failure(lambda: unfold(x, 2, 0), ValueRangeError, r"step=0 must be at least 1")
    yield Failure(lambda: unfold(x, 2, 1, axis=2), ShapeError, r"axis 2 is out of range")
    yield Failure(lambda: unfold(x, 1.5, 1), DTypeError, r"size must be an integer, not 1.5")


def _fold_oracle(x, length, step=1, axis=-1, dilation=1):
    axis %= x.ndim - 1
    lines = np.moveaxis(x, axis, -2)
    result = np.zeros((*lines.shape[:-2], length), x.dtype)
    for i, j in np.ndindex(lines.shape[-2:]):
        result[..., i * step + j * dilation] += lines[..., i, j]
    return np.moveaxis(result, -1, axis)


@primitive(oracle=_fold_oracle)
def fold(B, x: Array, length: int, step: int = 1, axis: int = -1, dilation: int = 1):
    """Add windows up where they came from, y[..., i step + j dilation] += x[..., i, ..., j].

    Parameters
    ----------
    x : Tensor, with windows along ``axis`` and their entries along the last axis.
    length : int, entries of the result along ``axis``; as many as give these windows in `unfold`.
    step, dilation : int, as in `unfold`.
    axis : int, an axis of the result.

    Returns
    -------
    Tensor without the last axis of ``x``. 16-bit floats are added in float32.

    Raises
    ------
    ShapeError : `unfold` of ``length`` entries gives another number of windows, or ``x`` has less
        than two axes. ValueRangeError : a number is below 1.

    Notes
    -----
    Gradient: `unfold` of g. It is the adjoint, not the inverse: entries of several windows add up.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fold(hx.tensor([[1, 2, 3], [3, 4, 5]]), 5, 2)
    tensor([1, 2, 6, 4, 5])
    """
    return B.fold(x, length=length, step=step, axis=axis, dilation=dilation)


@fold.prepare
def _(x, length, step, axis, dilation):
    if x.ndim < 2:
        raise ShapeError(f"fold: needs an axis of windows and one of entries, x is {x.shape}.")
    axis = shapes.normalize_axis("fold", axis, x.ndim - 1)
    length = _at_least("fold", "length", length, 1)
    step = _at_least("fold", "step", step, 1)
    dilation = _at_least("fold", "dilation", dilation, 1)
    n, size = x.shape[axis], x.shape[-1]
    if n < 1 or size < 1 or count_windows(length, size, step, dilation) != n:
        least = (n - 1) * step + dilation * (size - 1) + 1
        raise ShapeError(
            f"fold: {length} entries do not have {n} windows of {size} (step={step}, "
            f"dilation={dilation}). Hint: length from {least} to {least + step - 1}."
        )
    return {"length": length, "step": step, "axis": axis, "dilation": dilation}


@fold.vjp("x")
def _(g, x_shape, step, axis, dilation):
    return unfold(g, x_shape[-1], step, axis, dilation)


fold.flops(lambda x: x.size)  # an addition each, as `scatter_add`


@fold.samples
def _():
    yield sample((2, 5, 3), length=7)
    yield sample((3, 2, 3), length=8, step=2, axis=0)
    yield sample((2, 3, 2, 3), length=9, step=2, axis=-2, dilation=2)
    yield sample((1, 2), length=5, step=4, dilation=3)
    yield sample((0, 3, 2), length=10, step=4)


@fold.errors
def _():
    x = blank(2, 3)
    yield Failure(
        lambda: fold(x, 3, 2), ShapeError, r"3 entries do not have 2 windows of 3.*from 5 to 6"
    )
    yield Failure(lambda: fold(blank(3), 3), ShapeError, r"x is \(3,\)")
    yield Failure(lambda: fold(x, 4, axis=1), ShapeError, r"axis 1 is out of range for 1 dim")
    yield Failure(lambda: fold(x, 4, dilation=0), ValueRangeError, r"dilation=0 must be at least 1")


# Several axes


def each(op: str, name: str, value: Any, rank: int, least: int) -> tuple[int, ...]:
    """Return the argument ``name`` as an integer for each of ``rank`` axes; one serves all."""
    items = (value,) * rank if hasattr(value, "__index__") else value
    try:
        numbers = tuple([_at_least(op, name, item, least) for item in items])
    except TypeError as error:
        if isinstance(error, DTypeError):
            raise
        raise DTypeError(f"{op}: {name} must be an integer or {rank}, not {value!r:.80}.") from None
    if len(numbers) != rank:
        raise ShapeError(
            f"{op}: {name}={value!r:.80} has {len(numbers)} numbers for {rank} ax"
            f"{'is' if rank == 1 else 'es'}. Hint: one number serves all."
        )
    return numbers


def unfold_axes(
    x: Tensor, sizes: tuple[int, ...], steps: tuple[int, ...], dilations: tuple[int, ...]
) -> Tensor:
    """Return the windows over the last axes of ``x``: (..., l) gives (..., out, k)."""
    first = x.ndim - len(sizes)
    for i, window in enumerate(zip(sizes, steps, dilations, strict=True)):
        x = unfold(x, window[0], window[1], first + i, window[2])
    return x


def fold_axes(
    x: Tensor, lengths: tuple[int, ...], steps: tuple[int, ...], dilations: tuple[int, ...]
) -> Tensor:
    """Add windows over the last axes up: (..., out, k) gives (..., l), the adjoint."""
    rank = len(lengths)
    first = x.ndim - 2 * rank
    for i in reversed(range(rank)):
        x = fold(x, lengths[i], steps[i], first + i, dilations[i])
    return x


def _im2col_oracle(x, kernel, stride=1, padding=0, dilation=1):
    k, s, p, d = (np.broadcast_to(v, x.ndim - 2) for v in (kernel, stride, padding, dilation))
    x = np.pad(x, [(0, 0), (0, 0), *[(n, n) for n in p]])
    out = (np.array(x.shape[2:]) - d * (k - 1) - 1) // s + 1
    result = np.empty((len(x), x.shape[1], *k, *out), x.dtype)
    for c, *index in np.ndindex(result.shape[1:]):
        tap, block = np.split(np.array(index), 2)
        result[(slice(None), c, *index)] = x[(slice(None), c, *(block * s + tap * d))]
    return result.reshape(len(x), x.shape[1] * np.prod(k), np.prod(out))


@composite(oracle=_im2col_oracle)
def im2col(
    x: Tensor,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Return the blocks of a picture as columns, so that a convolution is a product of matrices.

    Parameters
    ----------
    x : Tensor, (b, c, l...), with one axis or more behind the channels.
    kernel, stride, padding, dilation : int, or one for each axis behind the channels: the size of a
        block, from one to the next, zeros at both ends, from one entry of a block to the next.

    Returns
    -------
    Tensor, (b, c k, n): the k entries of each channel of a block, and its n blocks, row by row.

    Raises
    ------
    ShapeError : no block fits, or a setting has not one number for each axis.

    Notes
    -----
    Gradient: `col2im` of g. PyTorch calls this ``unfold``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.im2col(hx.reshape(hx.arange(6), (1, 1, 2, 3)), 2)
    tensor([[[0, 1],
             [1, 2],
             [3, 4],
             [4, 5]]])
    """
    if x.ndim < 3:
        raise ShapeError(f"im2col: x is {x.shape}, it must be (b, c, l...). Hint: x[None, None].")
    rank = x.ndim - 2
    sizes, steps, dilations, borders = _settings("im2col", rank, kernel, stride, dilation, padding)
    x = pad(x, ((0, 0), (0, 0), *[(n, n) for n in borders]))
    windows = unfold_axes(x, sizes, steps, dilations)  # (b, c, out, k)
    axes = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    out = shapes.size(windows.shape[2 : 2 + rank])
    taps = shapes.size(sizes)
    return reshape(permute_dims(windows, axes), (x.shape[0], x.shape[1] * taps, out))


def _settings(op, rank, kernel, stride, dilation, padding):
    return (
        each(op, "kernel", kernel, rank, 1),
        each(op, "stride", stride, rank, 1),
        each(op, "dilation", dilation, rank, 1),
        each(op, "padding", padding, rank, 0),
    )


@im2col.samples
def _():
    yield sample((2, 2, 3, 4), kernel=2)
    yield sample((1, 2, 5, 4), kernel=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))
    yield sample((2, 1, 5), kernel=2, dilation=2)
    yield sample((0, 1, 2, 2), kernel=2)


@im2col.errors
def _():
    x = blank(1, 2, 3, 4)
    yield Failure(lambda: im2col(blank(3, 4), 2), ShapeError, r"x is \(3, 4\), it must be")
    yield Failure(lambda: im2col(x, (2, 2, 2)), ShapeError, r"3 numbers for 2 axes")
    yield Failure(lambda: im2col(x, 4), ShapeError, r"does not fit into axis 2")
    yield Failure(lambda: im2col(x, 2, padding=-1), ValueRangeError, r"padding=-1 must be at least")


def _col2im_oracle(x, shape, kernel, stride=1, padding=0, dilation=1):
    k, s, p, d = (np.broadcast_to(v, np.size(shape)) for v in (kernel, stride, padding, dilation))
    full = np.atleast_1d(shape) + 2 * p
    out = (full - d * (k - 1) - 1) // s + 1
    x = x.reshape(len(x), x.shape[1] // np.prod(k), *k, *out)
    result = np.zeros((*x.shape[:2], *full), x.dtype)
    for index in np.ndindex(x.shape[2:]):
        tap, block = np.split(np.array(index), 2)
        result[(..., *(block * s + tap * d))] += x[(..., *index)]
    return result[(..., *[slice(q, n - q) for n, q in zip(full, p, strict=True)])]


@composite(oracle=_col2im_oracle)
def col2im(
    x: Tensor,
    shape: int | Sequence[int],
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Add the columns of `im2col` up to a picture: its adjoint.

    Parameters
    ----------
    x : Tensor, (b, c k, n).
    shape : tuple of int, (l...): the sizes behind the channels; an int for one axis.
    kernel, stride, padding, dilation : as in `im2col`.

    Returns
    -------
    Tensor, (b, c, l...).

    Raises
    ------
    ShapeError : ``x`` has not the shape that `im2col` gives for ``shape``.

    Notes
    -----
    Gradient: `im2col` of g. PyTorch calls this ``fold``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.col2im(hx.ones((1, 4, 2)), (2, 3), 2)
    tensor([[[[1., 2., 1.],
              [1., 2., 1.]]]])
    """
    target = shapes.as_shape("col2im", shape)
    rank = len(target)
    sizes, steps, dilations, borders = _settings("col2im", rank, kernel, stride, dilation, padding)
    full = tuple([n + 2 * p for n, p in zip(target, borders, strict=True)])
    windows = zip(full, sizes, steps, dilations, strict=True)
    out = tuple([count_windows(*window) for window in windows])
    taps, blocks = shapes.size(sizes), shapes.size(out)
    if x.ndim != 3 or x.shape[1] % taps or x.shape[2] != blocks or min(out, default=0) < 1:
        raise ShapeError(
            f"col2im: x is {x.shape}; a picture of {target} with kernel={sizes}, stride={steps}, "
            f"padding={borders}, dilation={dilations} has the blocks {out}, and x must be "
            f"(b, c * {taps}, {max(blocks, 0)})."
        )
    apart = reshape(x, (x.shape[0], x.shape[1] // taps, *sizes, *out))
    axes = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    y = fold_axes(permute_dims(apart, axes), full, steps, dilations)
    return pad(y, ((0, 0), (0, 0), *[(-n, -n) for n in borders]))


@col2im.samples
def _():
    yield sample((2, 8, 6), shape=(3, 4), kernel=2)
    yield sample(
        (1, 6, 6), shape=(5, 4), kernel=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)
    )
    yield sample((2, 2, 3), shape=5, kernel=2, dilation=2)
    yield sample(floats(0, 4, 1), shape=(2, 2), kernel=2)


@col2im.errors
def _():
    x = blank(1, 8, 6)
    yield Failure(
        lambda: col2im(x, (4, 4), 2), ShapeError, r"has the blocks \(3, 3\), .*\(b, c \* 4, 9\)"
    )
    yield Failure(lambda: col2im(x, (1, 6), 2), ShapeError, r"x is \(1, 8, 6\); a picture of")
