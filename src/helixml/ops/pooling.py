"""Pooling: the largest value or the mean of the windows of a picture.

A window over several axes is reduced one axis after the other. The largest value is taken where it
was found, so that its gradient goes to one entry; that of `max` is shared between ties. What holds
for one, two and three axes is written once, and explained at two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import ShapeError, ValueRangeError
from helixml.ops.elementwise import multiply, remainder, where
from helixml.ops.indexing import take, take_along_axis
from helixml.ops.logic import NO_ORDER
from helixml.ops.movement import as_float, reshape
from helixml.ops.padding import pad
from helixml.ops.reduction import argmax, sum
from helixml.ops.windows import each, unfold

Sizes: TypeAlias = int | Sequence[int]


def _windows(op, rank, x, kernel, stride, padding, dilation, ceil_mode):
    """Return for each axis (size, step, zeros before, zeros after, dilation, number of windows)."""
    if x.ndim < rank:
        raise ShapeError(f"{op}: x is {x.shape}; it must have at least {rank} axes.")
    sizes = each(op, "kernel", kernel, rank, 1)
    steps = sizes if stride is None else each(op, "stride", stride, rank, 1)
    borders = each(op, "padding", padding, rank, 0)
    dilations = each(op, "dilation", dilation, rank, 1)
    found = []
    for i, n in enumerate(x.shape[x.ndim - rank :]):
        k, s, p, d = sizes[i], steps[i], borders[i], dilations[i]
        span = d * (k - 1) + 1
        if p > k // 2:
            raise ValueRangeError(f"{op}: padding={p} is more than half of kernel={k}.")
        room = n + 2 * p - span
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1  # the last window would begin behind x
        if n < 1 or count < 1:
            raise ShapeError(
                f"{op}: a window over {span} entries does not fit into axis {x.ndim - rank + i} of "
                f"shape {x.shape} with padding={p}."
            )
        found.append((k, s, p, max(p, (count - 1) * s + span - n - p), d, count))
    return found


def _padded(x, windows, value=0.0):
    """Return ``x`` with ``value`` around its last axes."""
    ends = [(before, after) for _, _, before, after, _, _ in windows]
    return pad(x, (*[(0, 0)] * (x.ndim - len(windows)), *ends), value=value)


def _along(x, line, axis):
    """Return the NumPy array ``line`` as a tensor that stands along ``axis`` of ``x``."""
    return as_tensor("pool", line.reshape(-1, *(1,) * (x.ndim - axis - 1)), x)


def _max_pool(op, rank, x, kernel, stride, padding, dilation, ceil_mode):
    windows = _windows(op, rank, x, kernel, stride, padding, dilation, ceil_mode)
    kind = dtypes.kind(x.dtype)
    lowest = -math.inf if kind == "f" else 0 if kind == "b" else int(np.iinfo(x.dtype).min)
    y = _padded(x, windows, lowest)
    for i in reversed(range(rank)):  # so that of equal values the first is taken, row by row
        axis = x.ndim - rank + i
        k, s, before, _, d, count = windows[i]
        found = argmax(unfold(y, k, s, axis, d), axis=-1) * d
        found = found + _along(x, np.arange(count) * s, axis)
        if before:  # where nothing exceeds the padding: the first entry of x in the window
            found = where(found < before, before + remainder(found - before, d), found)
        y = take_along_axis(y, found, axis=axis)
    return y


def _avg_pool(op, rank, x, kernel, stride, padding, ceil_mode, count_include_pad):
    windows = _windows(op, rank, x, kernel, stride, padding, 1, ceil_mode)
    x = as_float(x)
    y = _padded(x, windows)
    first = x.ndim - rank
    shares = np.ones((1,) * rank)
    for i, (k, s, before, _, _, count) in enumerate(windows):
        n, starts = x.shape[first + i], np.arange(count) * s - before
        if count_include_pad:
            sizes = np.minimum(starts + k, n + before) - starts
        else:
            sizes = np.minimum(starts + k, n) - np.maximum(starts, 0)
        shares = shares / sizes.reshape(-1, *(1,) * (rank - i - 1))
        y = sum(unfold(y, k, s, first + i), axis=-1)
    return multiply(y, as_tensor(op, shares.astype(y.dtype), y))


def _spans(op, rank, x, size):
    """Return for each axis where the windows of adaptive pooling begin, and where they end."""
    if x.ndim < rank:
        raise ShapeError(f"{op}: x is {x.shape}; it must have at least {rank} axes.")
    line = x.shape[x.ndim - rank :]
    if isinstance(size, (tuple, list)) and len(size) == rank:
        size = [n if m is None else m for m, n in zip(size, line, strict=True)]
    if 0 in line:
        raise ShapeError(f"{op}: x is {x.shape}, of which an axis is empty.")
    spans = []
    for n, count in zip(line, each(op, "size", size, rank, 1), strict=True):
        i = np.arange(count)
        spans.append((i * n // count, -(-(i + 1) * n // count)))
    return spans


def _entries(starts, ends):
    """Return the positions in windows, (count, longest), short windows with their last repeated."""
    longest = int((ends - starts).max())
    return np.minimum(starts[:, None] + np.arange(longest), ends[:, None] - 1)


def adaptive_mean(op, rank, x, size):
    """Return the means of windows over the last ``rank`` axes that give ``size``."""
    spans = _spans(op, rank, x, size)
    y = as_float(x)
    for i, (starts, ends) in enumerate(spans):
        axis = x.ndim - rank + i
        sizes, positions = ends - starts, _entries(starts, ends)
        head, n, tail = y.shape[:axis], y.shape[axis], y.shape[axis + 1 :]
        if positions.size == n:  # windows beside each other, all of one size
            entries = reshape(y, (*head, *positions.shape, *tail))
        else:
            inside = np.arange(positions.shape[1]) < sizes[:, None]
            inside = inside.reshape(*inside.shape, *(1,) * len(tail))
            entries = take(y, as_tensor(op, positions, y), axis=axis)
            entries = where(as_tensor(op, inside, y), entries, 0)
        total = sum(entries, axis=axis + 1)
        y = multiply(total, _along(total, (1 / sizes).astype(y.dtype), axis))
    return y


def _adaptive_max_pool(op, rank, x, size):
    spans = _spans(op, rank, x, size)
    for i in reversed(range(rank)):
        axis = x.ndim - rank + i
        positions = as_tensor(op, _entries(*spans[i]), x)
        found = argmax(take(x, positions, axis=axis), axis=axis + 1)
        x = take_along_axis(x, found + _along(x, spans[i][0], axis), axis=axis)
    return x


# Oracles: x is cut into blocks, of which each is reduced by NumPy


def _reduced(x, spans, reduce):
    """Return ``reduce`` of each block; ``spans`` has the positions of each window of each axis."""
    rank = len(spans)
    blocks = []
    for place in np.ndindex(*map(len, spans)):
        block = np.ix_(*[span[i] for span, i in zip(spans, place, strict=True)])
        blocks.append(reduce(x[(..., *block)], axis=tuple(range(-rank, 0))))
    return np.stack(blocks, -1).reshape(*x.shape[:-rank], *map(len, spans))


def _positions(n, k, s, p, d, ceil_mode, with_padding):
    """Return the positions of each window, counted from the first zero of the padding."""
    low, high = (0, n + 2 * p) if with_padding else (p, n + p)
    span, start, found = d * (k - 1) + 1, 0, []
    while start + span <= n + 2 * p or (
        ceil_mode and start + span < n + 2 * p + s and start < n + p
    ):
        found.append([i for i in range(start, start + span, d) if low <= i < high])
        start += s
    return found


def _pool_oracle(reduce):
    def oracle(
        x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, count_include_pad=False
    ):
        rank = len(kernel) if isinstance(kernel, tuple) else 1
        settings = (kernel, kernel if stride is None else stride, padding, dilation)
        k, s, p, d = (np.broadcast_to(v, rank).tolist() for v in settings)
        line = x.shape[x.ndim - rank :]
        spans = [
            _positions(line[i], k[i], s[i], p[i], d[i], ceil_mode, count_include_pad)
            for i in range(rank)
        ]
        x = np.pad(x, [(0, 0)] * (x.ndim - rank) + [(n, n) for n in p])
        return _reduced(x, spans, reduce)

    return oracle


def _adaptive_oracle(reduce):
    def oracle(x, size):
        size = size if isinstance(size, tuple) else (size,)
        line = x.shape[x.ndim - len(size) :]
        counts = [n if m is None else m for m, n in zip(size, line, strict=True)]
        spans = [
            [range(math.floor(i * n / m), math.ceil((i + 1) * n / m)) for i in range(m)]
            for m, n in zip(counts, line, strict=True)
        ]
        return _reduced(x, spans, reduce)

    return oracle


def _avg_oracle(x, kernel, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    settings = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    return _pool_oracle(np.mean)(x, kernel, stride, padding, **settings)


_max_oracle = _pool_oracle(np.max)
_adaptive_avg_oracle, _adaptive_max_oracle = _adaptive_oracle(np.mean), _adaptive_oracle(np.max)


@composite(real_only=NO_ORDER, oracle=_max_oracle)
def max_pool2d(
    x: Tensor,
    kernel: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the largest value of each window over the last two axes; nan is the largest.

    Parameters
    ----------
    x : Tensor, (..., h, w).
    kernel : int, or one for each axis: entries of a window.
    stride : int, or one for each axis: from one window to the next; ``kernel`` if left out.
    padding : int, or one for each axis, at most half of ``kernel``: entries around ``x`` that are
        less than any value.
    dilation : int, or one for each axis: from one entry of a window to the next.
    ceil_mode : keep windows that reach over the end, if they begin before it.

    Returns
    -------
    Tensor, (..., h', w'), h' = (h + 2 padding - dilation (kernel - 1) - 1) / stride + 1, rounded
    down, or up with ``ceil_mode``; same dtype.

    Raises
    ------
    ShapeError : no window fits. ValueRangeError : a setting is out of range.

    Notes
    -----
    Gradient: g where the value was found; of equal values that is the first one, row by row.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.max_pool2d(hx.reshape(hx.arange(16.0), (1, 1, 4, 4)), 2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    settings = (kernel, stride, padding, dilation, ceil_mode)
    return _max_pool("max_pool2d", 2, x, *settings)


@composite(real_only=NO_ORDER, oracle=_max_oracle)
def max_pool1d(
    x: Tensor,
    kernel: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the largest value of each window over the last axis; see `max_pool2d`.

    Parameters
    ----------
    x : Tensor, (..., l).
    kernel, stride, padding, dilation, ceil_mode : as in `max_pool2d`.

    Returns
    -------
    Tensor, (..., l').

    Raises
    ------
    ShapeError, ValueRangeError : as in `max_pool2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.max_pool1d(hx.tensor([[3.0, 1.0, 2.0, 5.0]]), 2, stride=1)
    tensor([[3., 2., 5.]])
    """
    settings = (kernel, stride, padding, dilation, ceil_mode)
    return _max_pool("max_pool1d", 1, x, *settings)


@composite(real_only=NO_ORDER, oracle=_max_oracle)
def max_pool3d(
    x: Tensor,
    kernel: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the largest value of each window over the last three axes; see `max_pool2d`.

    Parameters
    ----------
    x : Tensor, (..., d, h, w).
    kernel, stride, padding, dilation, ceil_mode : as in `max_pool2d`.

    Returns
    -------
    Tensor, (..., d', h', w').

    Raises
    ------
    ShapeError, ValueRangeError : as in `max_pool2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.max_pool3d(hx.ones((1, 2, 4, 4, 6)), (2, 2, 3)).shape
    (1, 2, 2, 2, 2)
    """
    settings = (kernel, stride, padding, dilation, ceil_mode)
    return _max_pool("max_pool3d", 3, x, *settings)


@composite(oracle=_avg_oracle)
def avg_pool2d(
    x: Tensor,
    kernel: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window over the last two axes.

    Parameters
    ----------
    x : Tensor, (..., h, w); integers are averaged in the default float.
    kernel, stride, ceil_mode : as in `max_pool2d`.
    padding : int, or one for each axis, at most half of ``kernel``: zeros around ``x``.
    count_include_pad : divide by the number of entries of a window within x and its zeros; if not,
        by the number of those within x alone.

    Returns
    -------
    Tensor, (..., h', w'), of the size that `max_pool2d` gives; a float dtype.

    Raises
    ------
    ShapeError : no window fits. ValueRangeError : a setting is out of range.

    Notes
    -----
    Gradient: g over that number, for each entry of the window.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.avg_pool2d(hx.reshape(hx.arange(16.0), (1, 1, 4, 4)), 2)
    tensor([[[[ 2.5,  4.5],
              [10.5, 12.5]]]])
    """
    settings = (kernel, stride, padding, ceil_mode, count_include_pad)
    return _avg_pool("avg_pool2d", 2, x, *settings)


@composite(oracle=_avg_oracle)
def avg_pool1d(
    x: Tensor,
    kernel: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window over the last axis; see `avg_pool2d`.

    Parameters
    ----------
    x : Tensor, (..., l).
    kernel, stride, padding, ceil_mode, count_include_pad : as in `avg_pool2d`.

    Returns
    -------
    Tensor, (..., l'), a float dtype.

    Raises
    ------
    ShapeError, ValueRangeError : as in `avg_pool2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.avg_pool1d(hx.tensor([[3.0, 1.0, 2.0, 5.0]]), 2, stride=1)
    tensor([[2. , 1.5, 3.5]])
    """
    settings = (kernel, stride, padding, ceil_mode, count_include_pad)
    return _avg_pool("avg_pool1d", 1, x, *settings)


@composite(oracle=_avg_oracle)
def avg_pool3d(
    x: Tensor,
    kernel: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of each window over the last three axes; see `avg_pool2d`.

    Parameters
    ----------
    x : Tensor, (..., d, h, w).
    kernel, stride, padding, ceil_mode, count_include_pad : as in `avg_pool2d`.

    Returns
    -------
    Tensor, (..., d', h', w'), a float dtype.

    Raises
    ------
    ShapeError, ValueRangeError : as in `avg_pool2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.avg_pool3d(hx.ones((1, 2, 4, 4, 6)), (2, 2, 3)).shape
    (1, 2, 2, 2, 2)
    """
    settings = (kernel, stride, padding, ceil_mode, count_include_pad)
    return _avg_pool("avg_pool3d", 3, x, *settings)


@composite(oracle=_adaptive_avg_oracle)
def adaptive_avg_pool2d(x: Tensor, size: int | Sequence[int | None]) -> Tensor:
    """Return the mean of windows over the last two axes, chosen so as to give a size.

    Window i of m over n entries goes from floor(i n / m) to ceil((i + 1) n / m).

    Parameters
    ----------
    x : Tensor, (..., h, w), not empty.
    size : int, or for each axis an int, or None for the size that it has.

    Returns
    -------
    Tensor, (..., *size); a float dtype.

    Raises
    ------
    ShapeError : an axis is empty or missing. ValueRangeError : a size is below 1.

    Notes
    -----
    Gradient: g over the number of entries, for each entry of the window.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.adaptive_avg_pool2d(hx.reshape(hx.arange(12.0), (1, 3, 4)), (2, 2))
    tensor([[[2.5, 4.5],
             [6.5, 8.5]]])
    """
    return adaptive_mean("adaptive_avg_pool2d", 2, x, size)


@composite(oracle=_adaptive_avg_oracle)
def adaptive_avg_pool1d(x: Tensor, size: int | Sequence[int | None]) -> Tensor:
    """Return the mean of windows over the last axis; see `adaptive_avg_pool2d`.

    Parameters
    ----------
    x : Tensor, (..., l), not empty.
    size : int, or a sequence of one, as in `adaptive_avg_pool2d`.

    Returns
    -------
    Tensor, (..., *size).

    Raises
    ------
    ShapeError, ValueRangeError : as in `adaptive_avg_pool2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.adaptive_avg_pool1d(hx.tensor([[3.0, 1.0, 2.0]]), 2)
    tensor([[2. , 1.5]])
    """
    return adaptive_mean("adaptive_avg_pool1d", 1, x, size)


@composite(oracle=_adaptive_avg_oracle)
def adaptive_avg_pool3d(x: Tensor, size: int | Sequence[int | None]) -> Tensor:
    """Return the mean of windows over the last three axes; see `adaptive_avg_pool2d`.

    Parameters
    ----------
    x : Tensor, (..., d, h, w), not empty.
    size : int, or one for each axis, as in `adaptive_avg_pool2d`.

    Returns
    -------
    Tensor, (..., *size).

    Raises
    ------
    ShapeError, ValueRangeError : as in `adaptive_avg_pool2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.adaptive_avg_pool3d(hx.ones((1, 2, 4, 4, 6)), (2, None, 3)).shape
    (1, 2, 2, 4, 3)
    """
    return adaptive_mean("adaptive_avg_pool3d", 3, x, size)


@composite(real_only=NO_ORDER, oracle=_adaptive_max_oracle)
def adaptive_max_pool2d(x: Tensor, size: int | Sequence[int | None]) -> Tensor:
    """Return the largest value of windows over the last two axes, chosen so as to give a size.

    Window i of m over n entries goes from floor(i n / m) to ceil((i + 1) n / m).

    Parameters
    ----------
    x : Tensor, (..., h, w), not empty.
    size : int, or for each axis an int, or None for the size that it has.

    Returns
    -------
    Tensor, (..., *size), same dtype.

    Raises
    ------
    ShapeError : an axis is empty or missing. ValueRangeError : a size is below 1.

    Notes
    -----
    Gradient: g where the value was found; of equal values that is the first one, row by row.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.adaptive_max_pool2d(hx.reshape(hx.arange(12.0), (1, 3, 4)), (2, 2))
    tensor([[[ 5.,  7.],
             [ 9., 11.]]])
    """
    return _adaptive_max_pool("adaptive_max_pool2d", 2, x, size)


@composite(real_only=NO_ORDER, oracle=_adaptive_max_oracle)
def adaptive_max_pool1d(x: Tensor, size: int | Sequence[int | None]) -> Tensor:
    """Return the largest value of windows over the last axis; see `adaptive_max_pool2d`.

    Parameters
    ----------
    x : Tensor, (..., l), not empty.
    size : int, or a sequence of one, as in `adaptive_max_pool2d`.

    Returns
    -------
    Tensor, (..., *size).

    Raises
    ------
    ShapeError, ValueRangeError : as in `adaptive_max_pool2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.adaptive_max_pool1d(hx.tensor([[3.0, 1.0, 2.0]]), 2)
    tensor([[3., 2.]])
    """
    return _adaptive_max_pool("adaptive_max_pool1d", 1, x, size)


@composite(real_only=NO_ORDER, oracle=_adaptive_max_oracle)
def adaptive_max_pool3d(x: Tensor, size: int | Sequence[int | None]) -> Tensor:
    """Return the largest value of windows over the last three axes; see `adaptive_max_pool2d`.

    Parameters
    ----------
    x : Tensor, (..., d, h, w), not empty.
    size : int, or one for each axis, as in `adaptive_max_pool2d`.

    Returns
    -------
    Tensor, (..., *size).

    Raises
    ------
    ShapeError, ValueRangeError : as in `adaptive_max_pool2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.adaptive_max_pool3d(hx.ones((1, 2, 4, 4, 6)), (2, None, 3)).shape
    (1, 2, 2, 4, 3)
    """
    return _adaptive_max_pool("adaptive_max_pool3d", 3, x, size)


# Samples and errors


@max_pool1d.samples
def _():
    yield sample(floats(2, 7, distinct=True), kernel=3)
    yield sample(floats(2, 2, 6, distinct=True), kernel=2, stride=3, padding=1, ceil_mode=True)
    yield sample(floats(6, distinct=True), kernel=2, stride=1, dilation=3)
    yield sample(floats(0, 2, 3), kernel=2)
    yield sample(values(1.0, np.nan, 2.0, 0.0), kernel=2, stride=1, value_only=True)
    yield sample(values(-np.inf, -np.inf, 3.0), kernel=2, stride=1, padding=1, value_only=True)


@max_pool2d.samples
def _():
    yield sample(floats(1, 2, 4, 5, distinct=True), kernel=(2, 3), stride=(2, 1), padding=(1, 0))
    yield sample(floats(1, 5, 5, distinct=True), kernel=(2, 2), dilation=(2, 1), ceil_mode=True)


@max_pool3d.samples
def _():
    yield sample(floats(1, 2, 3, 4, distinct=True), kernel=(2, 2, 2), stride=(1, 1, 2))


@avg_pool1d.samples
def _():
    yield sample((2, 7), kernel=3)
    yield sample((2, 2, 6), kernel=2, stride=3, padding=1, ceil_mode=True)
    yield sample((6,), kernel=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)
    yield sample(floats(0, 2, 3), kernel=2)


@avg_pool2d.samples
def _():
    yield sample((1, 2, 4, 5), kernel=(2, 3), stride=(2, 1), padding=(1, 0))
    yield sample((1, 4, 4), kernel=(3, 2), padding=(1, 1), count_include_pad=False)


avg_pool3d.samples(lambda: (sample((1, 2, 3, 4), kernel=(2, 2, 2), stride=(1, 1, 2)),))


@adaptive_avg_pool1d.samples
def _():
    yield sample((2, 7), size=3)
    yield sample((2, 3), size=5)
    yield sample((6,), size=2)
    yield sample(floats(0, 4), size=2)


adaptive_avg_pool2d.samples(
    lambda: (sample((1, 5, 4), size=(2, 3)), sample((5, 4), size=(None, 1)))
)
adaptive_avg_pool3d.samples(lambda: (sample((1, 3, 2, 4), size=(2, 2, 3)),))


@adaptive_max_pool1d.samples
def _():
    yield sample(floats(2, 7, distinct=True), size=3)
    yield sample(floats(2, 3, distinct=True), size=5)
    yield sample(floats(0, 4), size=2)
    yield sample(values(1.0, np.nan, 2.0, 0.0), size=3, value_only=True)


@adaptive_max_pool2d.samples
def _():
    yield sample(floats(1, 5, 4, distinct=True), size=(2, 3))
    yield sample(floats(5, 4, distinct=True), size=(None, 1))


adaptive_max_pool3d.samples(lambda: (sample(floats(1, 3, 2, 4, distinct=True), size=(2, 2, 3)),))


@max_pool2d.errors
def _():
    x = blank(1, 2, 4, 5)
    yield Failure(
        lambda: max_pool2d(x, 5), ShapeError, r"over 5 entries does not fit into axis 2 of shape"
    )
    yield Failure(lambda: max_pool2d(x, 2, padding=2), ValueRangeError, r"padding=2 is more than h")
    yield Failure(lambda: max_pool2d(x, 0), ValueRangeError, r"kernel=0 must be at least 1")
    yield Failure(lambda: max_pool2d(x, (2, 2, 2)), ShapeError, r"3 numbers for 2 axes")
    yield Failure(lambda: max_pool2d(blank(3), 1), ShapeError, r"x is \(3,\); it must have at l")
    yield Failure(lambda: avg_pool2d(blank(2, 0), 1), ShapeError, r"does not fit into axis 1")


@adaptive_max_pool2d.errors
def _():
    for op in (adaptive_max_pool2d, adaptive_avg_pool2d):
        yield Failure(lambda op=op: op(blank(3), 1), ShapeError, r"must have at least 2 axes")
        yield Failure(lambda op=op: op(blank(3, 0), 1), ShapeError, r"of which an axis is empty")
        yield Failure(lambda op=op: op(blank(3, 3), (1, 0)), ValueRangeError, r"size=0 must be at")
