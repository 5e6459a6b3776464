"""Convolutions over one, two and three axes, and their adjoints.

Both are one function of any number of axes: windows (`windows`) and a product of matrices, in which
the columns are the windows of the whole batch. Nothing here has a rule of its own. Convolutions of
sequences that are causal, or as long as the sequence, stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from helixml import shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.elementwise import add
from helixml.ops.linalg import matmul
from helixml.ops.movement import matrix_transpose, permute_dims, reshape
from helixml.ops.padding import pad
from helixml.ops.windows import count_windows, each, fold_axes, unfold_axes

Sizes: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | Sequence[int | Sequence[int]]


def _convolve(op, rank, x, weight, bias, stride, padding, dilation, groups):
    """Return the convolution over the ``rank`` axes of ``x`` behind its channels."""
    groups, inner, o = _checked(op, rank, x, weight, bias, groups)
    b, sizes = x.shape[0], weight.shape[2:]
    steps = each(op, "stride", stride, rank, 1)
    dilations = each(op, "dilation", dilation, rank, 1)
    borders = _borders(op, padding, sizes, steps, dilations)
    for axis, n in enumerate(x.shape[2:]):
        k, d, pair = sizes[axis], dilations[axis], borders[axis]
        if k < 1 or count_windows(n + pair[0] + pair[1], k, 1, d) < 1:
            raise ShapeError(
                f"{op}: weight {weight.shape} with dilation={d} spans {d * (k - 1) + 1} entries, "
                f"axis {axis + 2} of x {x.shape} with padding={pair} has {n + pair[0] + pair[1]}. "
                "Hint: a span from 1 to these; with padding='same' all spans fit."
            )
    windows = unfold_axes(pad(x, ((0, 0), (0, 0), *borders)), sizes, steps, dilations)
    line, taps = tuple(range(2, 2 + rank)), tuple(range(2 + rank, 2 + 2 * rank))
    out, size = windows.shape[2 : 2 + rank], shapes.size(sizes)  # windows is (b, c, out, k)
    if size == 1:
        columns = reshape(windows, (b, groups, inner, shapes.size(out)))
        y = matmul(reshape(weight, (groups, o // groups, inner)), columns)
        y = reshape(y, (b, o, *out))
    else:
        columns = permute_dims(windows, (1, *taps, 0, *line))  # (c, k, b, out)
        columns = reshape(columns, (groups, inner * size, b * shapes.size(out)))
        y = matmul(reshape(weight, (groups, o // groups, inner * size)), columns)
        y = permute_dims(reshape(y, (o, b, *out)), (1, 0, *line))
    return y if bias is None else add(y, reshape(bias, (o, *(1,) * rank)))


def _convolve_transposed(
    op, rank, x, weight, bias, stride, padding, output_padding, dilation, groups
):
    """Return the adjoint of `_convolve` with the same weight, applied to ``x``."""
    groups, inner, o = _checked(op, rank, x, weight, bias, groups, transposed=True)
    b, line, sizes = x.shape[0], x.shape[2:], weight.shape[2:]
    steps = each(op, "stride", stride, rank, 1)
    dilations = each(op, "dilation", dilation, rank, 1)
    extra = each(op, "output_padding", output_padding, rank, 0)
    borders = _borders(op, padding, sizes, steps, dilations)
    lengths, ends = [], []
    for axis, n in enumerate(line):
        k, s, d, more, pair = (v[axis] for v in (sizes, steps, dilations, extra, borders))
        if more and more >= max(s, d):
            raise ValueRangeError(
                f"{op}: output_padding={more} must be less than stride={s} or dilation={d}."
            )
        length = (n - 1) * s + d * (k - 1) + 1
        if n < 1 or k < 1 or length + more <= pair[0] + pair[1]:
            raise ShapeError(
                f"{op}: padding={pair} leaves nothing of axis {axis + 2}: x {x.shape} and weight "
                f"{weight.shape} make {max(length + more, 0)} entries."
            )
        lengths.append(length)
        ends.append((-pair[0], more - pair[1]))
    weight = reshape(weight, (groups, inner, o // groups * shapes.size(sizes)))
    columns = permute_dims(x, (1, 0, *range(2, 2 + rank)))  # (c, b, l)
    columns = reshape(columns, (groups, inner, b * shapes.size(line)))
    y = reshape(matmul(matrix_transpose(weight), columns), (o, *sizes, b, *line))
    y = permute_dims(y, (1 + rank, 0, *range(2 + rank, 2 + 2 * rank), *range(1, 1 + rank)))
    y = pad(fold_axes(y, tuple(lengths), steps, dilations), ((0, 0), (0, 0), *ends))
    return y if bias is None else add(y, reshape(bias, (o, *(1,) * rank)))


def _checked(op, rank, x, weight, bias, groups, transposed=False):
    """Return (groups, channels of ``x`` in a group, channels of the result) if all shapes fit."""
    (groups,) = each(op, "groups", groups, 1, 1)
    if x.ndim != rank + 2 or weight.ndim != rank + 2:
        hint = " Hint: x[None] is a batch of one." if x.ndim == rank + 1 else ""
        raise ShapeError(
            f"{op}: x is {x.shape}, weight is {weight.shape}; both must have {rank + 2} axes, "
            f"{rank} behind the channels.{hint}"
        )
    c, (first, second) = x.shape[1], weight.shape[:2]
    o, taken = (second * groups, first) if transposed else (first, second * groups)
    if taken != c or c % groups or o % groups:
        wanted = f"({c}, o / {groups}, k...)" if transposed else f"(o, {c} / {groups}, k...)"
        raise ShapeError(
            f"{op}: weight {weight.shape} with groups={groups} does not fit the {c} channels of x "
            f"{x.shape}. Hint: it must be {wanted}, both channels and o multiples of groups."
        )
    if bias is not None and bias.shape != (o,):
        raise ShapeError(f"{op}: bias is {bias.shape}, weight {weight.shape}; it must be ({o},).")
    return groups, c // groups, o


def _borders(op, padding, sizes, steps, dilations):
    """Return how many zeros stand before and after each axis."""
    rank = len(sizes)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueRangeError(
                f"{op}: padding={padding!r}. Hint: 'same', 'valid', or numbers of zeros."
            )
        if padding == "valid":
            return ((0, 0),) * rank
        if max(steps) > 1:
            raise ValueRangeError(
                f"{op}: padding='same' keeps sizes, stride={steps} does not. "
                "Hint: give the zeros in numbers."
            )
        totals = [d * (k - 1) for k, d in zip(sizes, dilations, strict=True)]
        return tuple([(n // 2, n - n // 2) for n in totals])
    if isinstance(padding, (tuple, list)):
        pairs = [item if isinstance(item, (tuple, list)) else (item, item) for item in padding]
        if len(pairs) == rank and all(len(pair) == 2 for pair in pairs):
            return tuple([each(op, "padding", pair, 2, 0) for pair in pairs])
    return tuple([(n, n) for n in each(op, "padding", padding, rank, 0)])


def _conv_oracle(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    k = np.array(weight.shape[2:])
    s, d = np.broadcast_to(stride, k.shape), np.broadcast_to(dilation, k.shape)
    if padding == "same":
        padding = [(n // 2, n - n // 2) for n in d * (k - 1)]
    elif not isinstance(padding, (tuple, list)):
        padding = [0 if padding == "valid" else padding] * len(k)
    x = np.pad(x, [np.broadcast_to(n, 2) for n in (0, 0, *padding)])
    out = (np.array(x.shape[2:]) - d * (k - 1) - 1) // s + 1
    y = np.zeros((len(x), len(weight), *out), np.result_type(x, weight))
    inner, rows = weight.shape[1], len(weight) // groups
    for o, *place in np.ndindex(y.shape[1:]):
        first = o // rows * inner
        for c, *tap in np.ndindex(weight.shape[1:]):
            spot = np.array(place) * s + np.array(tap) * d
            y[(slice(None), o, *place)] += x[(slice(None), first + c, *spot)] * weight[(o, c, *tap)]
    return y if bias is None else y + bias.reshape(-1, *(1,) * len(k))


def _conv_transpose_oracle(
    x, weight, bias=None, stride=1, padding=0, output_padding=0, dilation=1, groups=1
):
    k = np.array(weight.shape[2:])
    s, d, p, more = (
        np.broadcast_to(v, k.shape) for v in (stride, dilation, padding, output_padding)
    )
    full = (np.array(x.shape[2:]) - 1) * s + d * (k - 1) + 1 + more
    columns, inner = weight.shape[1], x.shape[1] // groups
    y = np.zeros((len(x), columns * groups, *full), np.result_type(x, weight))
    for c, *place in np.ndindex(x.shape[1:]):
        for o, *tap in np.ndindex(weight.shape[1:]):
            spot = np.array(place) * s + np.array(tap) * d
            y[(slice(None), c // inner * columns + o, *spot)] += (
                x[(slice(None), c, *place)] * weight[(c, o, *tap)]
            )
    y = y[(..., *[slice(a, n - a) for n, a in zip(full, p, strict=True)])]
    return y if bias is None else y + bias.reshape(-1, *(1,) * len(k))


@composite(oracle=_conv_oracle)
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding | Literal["same", "valid"] = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve over the last two axes.

    y[b, o, t] = bias[o] + sum over c and j of weight[o, c, j] x[b, c, stride t + dilation j],
    for each of the two axes, with zeros around x: what signal processing calls a correlation, for
    the weight is not reversed.

    Parameters
    ----------
    x : Tensor, (b, c, h, w), numbers.
    weight : Tensor, (o, c / groups, kh, kw).
    bias : Tensor, (o,), or None.
    stride : int, or one for each axis: from one entry of y to the next.
    padding : zeros around ``x``: an int, or one for each axis, each an int or a pair (before,
        after); "valid" is 0, "same" as many as keep the sizes, an odd one behind.
    dilation : int, or one for each axis: from one entry of the weight to the next.
    groups : int: channels fall into as many groups, which do not see each other.

    Returns
    -------
    Tensor, (b, o, h', w') with h' = (h + before + after - dilation (kh - 1) - 1) // stride + 1.

    Raises
    ------
    ShapeError : shapes do not fit each other, or the weight not the padded ``x``.
    ValueRangeError : a setting is out of range, or "same" comes with a stride.

    Notes
    -----
    Gradient: for x, `conv_transpose2d` of g; for the weight, products of g with the windows of x.
    Costs 2 (c / groups) kh kw FLOPs for each entry of y, and memory for the kh kw entries of each
    window of x, but for a 1 x 1 weight.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.reshape(hx.arange(9.0), (1, 1, 3, 3))
    >>> hx.conv2d(x, hx.ones((1, 1, 2, 2)), stride=2, padding=((1, 0), (1, 0)))
    tensor([[[[ 0.,  3.],
              [ 9., 24.]]]])
    """
    return _convolve("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


@composite(oracle=_conv_oracle)
def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding | Literal["same", "valid"] = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve over the last axis; see `conv2d`.

    Parameters
    ----------
    x : Tensor, (b, c, l), numbers.
    weight : Tensor, (o, c / groups, k).
    bias : Tensor, (o,), or None.
    stride, padding, dilation, groups : as in `conv2d`, for one axis.

    Returns
    -------
    Tensor, (b, o, l').

    Raises
    ------
    ShapeError, ValueRangeError : as in `conv2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.conv1d(hx.tensor([[[1.0, 2.0, 4.0]]]), hx.tensor([[[-1.0, 1.0]]]))
    tensor([[[1., 2.]]])
    """
    return _convolve("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


@composite(oracle=_conv_oracle)
def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding | Literal["same", "valid"] = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve over the last three axes; see `conv2d`.

    Parameters
    ----------
    x : Tensor, (b, c, d, h, w), numbers.
    weight : Tensor, (o, c / groups, kd, kh, kw).
    bias : Tensor, (o,), or None.
    stride, padding, dilation, groups : as in `conv2d`.

    Returns
    -------
    Tensor, (b, o, d', h', w').

    Raises
    ------
    ShapeError, ValueRangeError : as in `conv2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> x, weight = hx.ones((1, 2, 4, 4, 4)), hx.ones((6, 1, 3, 3, 3))
    >>> hx.conv3d(x, weight, groups=2, padding="same").shape
    (1, 6, 4, 4, 4)
    """
    return _convolve("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


@composite(oracle=_conv_transpose_oracle)
def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Apply the adjoint of `conv2d`, which makes larger pictures of small ones.

    y[b, o, stride t + dilation j] += weight[c, o, j] x[b, c, t] for each of the two axes; then
    ``padding`` entries of y are cut off at the ends, and ``bias`` is added.

    Parameters
    ----------
    x : Tensor, (b, c, h, w), numbers.
    weight : Tensor, (c, o / groups, kh, kw), that of a `conv2d` from o channels to c.
    bias : Tensor, (o,), or None.
    stride, dilation, groups : those of the convolution.
    padding : what the convolution puts around its input, cut off here: an int, or one for each
        axis, each an int or a pair (before, after).
    output_padding : int, or one for each axis: further entries behind, for with a stride pictures
        of several sizes lead to one; less than the stride or the dilation.

    Returns
    -------
    Tensor, (b, o, h', w') with
    h' = (h - 1) stride + dilation (kh - 1) + 1 - before - after + output_padding.

    Raises
    ------
    ShapeError : shapes do not fit each other, or nothing is left.
    ValueRangeError : a setting is out of range.

    Notes
    -----
    Gradient: for x, `conv2d` of g. Costs 2 (c / groups) (o / groups) groups kh kw FLOPs for each
    position of x, and the additions of what overlaps.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.conv_transpose2d(hx.ones((1, 1, 2, 2)), hx.ones((1, 1, 2, 2)))
    tensor([[[[1., 2., 1.],
              [2., 4., 2.],
              [1., 2., 1.]]]])
    """
    settings = (stride, padding, output_padding, dilation, groups)
    return _convolve_transposed("conv_transpose2d", 2, x, weight, bias, *settings)


@composite(oracle=_conv_transpose_oracle)
def conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Apply the adjoint of `conv1d`; see `conv_transpose2d`.

    Parameters
    ----------
    x : Tensor, (b, c, l), numbers.
    weight : Tensor, (c, o / groups, k), that of a `conv1d` from o channels to c.
    bias : Tensor, (o,), or None.
    stride, padding, output_padding, dilation, groups : as in `conv_transpose2d`.

    Returns
    -------
    Tensor, (b, o, l').

    Raises
    ------
    ShapeError, ValueRangeError : as in `conv_transpose2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.conv_transpose1d(hx.tensor([[[1.0, 2.0]]]), hx.tensor([[[1.0, 10.0]]]), stride=2)
    tensor([[[ 1., 10.,  2., 20.]]])
    """
    settings = (stride, padding, output_padding, dilation, groups)
    return _convolve_transposed("conv_transpose1d", 1, x, weight, bias, *settings)


@composite(oracle=_conv_transpose_oracle)
def conv_transpose3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Apply the adjoint of `conv3d`; see `conv_transpose2d`.

    Parameters
    ----------
    x : Tensor, (b, c, d, h, w), numbers.
    weight : Tensor, (c, o / groups, kd, kh, kw), that of a `conv3d` from o channels to c.
    bias : Tensor, (o,), or None.
    stride, padding, output_padding, dilation, groups : as in `conv_transpose2d`.

    Returns
    -------
    Tensor, (b, o, d', h', w').

    Raises
    ------
    ShapeError, ValueRangeError : as in `conv_transpose2d`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.conv_transpose3d(hx.ones((1, 2, 3, 3, 3)), hx.ones((2, 4, 2, 2, 2)), stride=2).shape
    (1, 4, 6, 6, 6)
    """
    settings = (stride, padding, output_padding, dilation, groups)
    return _convolve_transposed("conv_transpose3d", 3, x, weight, bias, *settings)


# Samples leave booleans out: their product of matrices is a logical one.


@conv1d.samples
def _():
    yield sample((2, 3, 7), (4, 3, 3), (4,), kinds="uifc")
    yield sample((1, 4, 7), (4, 2, 2), kinds="uifc", stride=2, padding=((2, 1),), groups=2)
    yield sample((2, 3, 6), (3, 1, 3), (3,), kinds="uifc", padding="same", dilation=2, groups=3)
    yield sample((2, 3, 5), (2, 3, 1), kinds="uifc", stride=2, padding="valid")
    yield sample((1, 2, 6), (6, 1, 2), kinds="uifc", groups=2, padding=(1,))
    yield sample((0, 2, 4), (3, 2, 2), (3,), kinds="uifc")
    yield sample((2, 0, 4), (3, 0, 2), kinds="uifc")


@conv2d.samples
def _():
    yield sample((2, 2, 4, 5), (3, 2, 3, 2), (3,), kinds="uifc", padding=(1, (0, 1)))
    yield sample((1, 2, 5, 4), (2, 1, 2, 3), kinds="uifc", stride=(2, 1), dilation=(2, 1), groups=2)
    yield sample((1, 4, 3, 2), (4, 2, 1, 1), (4,), kinds="uifc", groups=2)
    yield sample((1, 1, 3, 3), (1, 1, 2, 2), kinds="uifc", padding="same")


@conv3d.samples
def _():
    yield sample((1, 2, 3, 2, 3), (2, 2, 2, 1, 2), (2,), kinds="uifc", stride=(1, 1, 2), padding=1)


@conv_transpose1d.samples
def _():
    yield sample((2, 3, 4), (3, 2, 3), (2,), kinds="uifc")
    yield sample(
        (1, 4, 3), (4, 1, 2), kinds="uifc", stride=3, padding=1, output_padding=2, groups=2
    )
    yield sample((2, 2, 3), (2, 2, 2), (4,), kinds="uifc", groups=2, dilation=3, output_padding=2)
    yield sample((0, 2, 4), (2, 3, 2), (3,), kinds="uifc")
    yield sample((2, 0, 4), (0, 3, 2), kinds="uifc")


@conv_transpose2d.samples
def _():
    yield sample((2, 2, 2, 3), (2, 3, 3, 2), (3,), kinds="uifc", stride=(2, 1), padding=(1, 0))
    yield sample((1, 2, 2, 2), (2, 1, 2, 2), kinds="uifc", groups=2, dilation=(1, 2))


@conv_transpose3d.samples
def _():
    yield sample((1, 2, 2, 1, 2), (2, 1, 1, 2, 2), (1,), kinds="uifc", stride=(1, 2, 1))


@conv2d.errors
def _():
    x, w = blank(2, 4, 5, 5), blank(6, 4, 3, 3)
    yield Failure(
        lambda: conv2d(x, blank(6, 2, 3, 3)),
        ShapeError,
        r"weight \(6, 2, 3, 3\) with groups=1 does not fit the 4 chan.*must be \(o, 4 / 1, k",
    )
    yield Failure(lambda: conv2d(x, blank(3, 2, 3, 3), groups=2), ShapeError, r"with groups=2")
    yield Failure(lambda: conv2d(x[0], w), ShapeError, r"x is \(4, 5, 5\).*x\[None\] is a batch")
    yield Failure(lambda: conv2d(x, blank(6, 4, 3)), ShapeError, r"weight is \(6, 4, 3\); both")
    yield Failure(lambda: conv2d(x, w, blank(4)), ShapeError, r"bias is \(4,\).*must be \(6,\)")
    yield Failure(
        lambda: conv2d(x, w, dilation=3, padding=((0, 1), 0)),
        ShapeError,
        r"dilation=3 spans 7 entries, axis 2 of x \(2, 4, 5, 5\) with padding=\(0, 1\) has 6",
    )
    yield Failure(lambda: conv2d(x, w, padding="full"), ValueRangeError, r"padding='full'. Hint")
    yield Failure(
        lambda: conv2d(x, w, padding="same", stride=2), ValueRangeError, r"stride=\(2, 2\) does not"
    )
    yield Failure(lambda: conv2d(x, w, stride=0), ValueRangeError, r"stride=0 must be at least 1")
    yield Failure(lambda: conv2d(x, w, padding=-1), ValueRangeError, r"padding=-1 must be at least")
    yield Failure(lambda: conv2d(x, w, stride=(1, 1, 1)), ShapeError, r"3 numbers for 2 axes")
    yield Failure(lambda: conv2d(x, w, groups=1.5), DTypeError, r"groups must be an integer")


@conv_transpose1d.errors
def _():
    x, w = blank(2, 4, 5), blank(4, 3, 2)
    yield Failure(
        lambda: conv_transpose1d(x, blank(3, 4, 2)), ShapeError, r"must be \(4, o / 1, k\.\.\.\)"
    )
    yield Failure(lambda: conv_transpose1d(x, w, groups=3), ShapeError, r"with groups=3 does not")
    yield Failure(lambda: conv_transpose1d(x, w, padding=3), ShapeError, r"make 6 entries")
    yield Failure(
        lambda: conv_transpose1d(x, w, stride=2, output_padding=2),
        ValueRangeError,
        r"output_padding=2 must be less than stride=2 or dilation=1",
    )
