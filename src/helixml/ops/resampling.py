"""Resampling: pictures in other sizes, and channels that become pixels.

`interpolate` goes along one axis after the other. Where the entries of its result come from, and
with which weights, is worked out beforehand in NumPy. Sampling at points that are themselves
computed is in `grids`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, integers, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.elementwise import add, multiply
from helixml.ops.indexing import part, take
from helixml.ops.movement import as_float, permute_dims, reshape
from helixml.ops.pooling import adaptive_mean
from helixml.ops.windows import each

# The number of axes of each mode; 0 is any
_MODES = {
    "nearest": 0,
    "nearest-exact": 0,
    "area": 0,
    "linear": 1,
    "bilinear": 2,
    "bicubic": 2,
    "trilinear": 3,
}
_SHARPNESS = -0.75  # Keys' a; -0.5 would be exact for parabolas, but this is what PyTorch has


def _cubic(x):
    """Return the kernel of cubic convolution at ``x``, an array or a number (Keys 1981, eq. 4)."""
    x, a = np.abs(x), _SHARPNESS
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))


def _interpolate_oracle(x, size=None, scale_factor=None, mode="nearest", align_corners=False):
    from fractions import Fraction  # used by nothing else

    rank = x.ndim - 2
    for i in range(rank):
        axis, n = i + 2, x.shape[i + 2]
        if size is None:
            factor = scale_factor[i] if isinstance(scale_factor, tuple) else scale_factor
            count, scale = math.floor(n * factor), 1 / Fraction(factor)
        else:
            count = size[i] if isinstance(size, tuple) else size
            scale = Fraction(n, count)
        rows = np.zeros((count, n))
        for k in range(count):
            if mode in ("nearest", "nearest-exact"):
                rows[k, min(math.floor((k + Fraction(mode != "nearest") / 2) * scale), n - 1)] = 1
            elif mode == "area":
                span = range(k * n // count, math.ceil((k + 1) * n / count))
                rows[k, span] = 1 / len(span)
            else:
                at = float((k + Fraction(1, 2)) * scale) - 0.5
                if align_corners:
                    at = k * (n - 1) / max(count - 1, 1)
                for j in range(-4, n + 4):  # entries beyond the ends are those at the ends
                    weight = _cubic(at - j) if mode == "bicubic" else max(0, 1 - abs(at - j))
                    rows[k, min(max(j, 0), n - 1)] += weight
        if "nearest" in mode or x.dtype.kind not in "biu":
            rows = rows.astype(x.dtype)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ rows.T, -1, axis)
    return x


@composite(oracle=_interpolate_oracle)
def interpolate(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: Literal[
        "nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"
    ] = "nearest",
    align_corners: bool = False,
) -> Tensor:
    """Bring the axes behind the channels to other sizes.

    Entries are taken as squares that fill the axis: the middle of entry i of the result, i + 1/2,
    stands at (i + 1/2) s of ``x``, where s is the old size over the new one, or 1 over
    ``scale_factor``.

    Parameters
    ----------
    x : Tensor, (b, c, l...), one to three axes behind the channels.
    size : the new size: int, or one for each axis.
    scale_factor : instead of ``size``: number, or one for each axis; sizes are multiplied by it and
        rounded down.
    mode : what stands there.

        - "nearest": entry floor(i s), as other libraries have it; "nearest-exact": the entry in
          which the point lies.
        - "linear", "bilinear", "trilinear": a line between neighbours, along one, two, three axes.
        - "bicubic": a cubic polynomial through four neighbours, along two axes.
        - "area": the mean over the span of the entry, as `adaptive_avg_pool2d`.
    align_corners : let the middles of the first entries coincide, and those of the last; not for
        "nearest", "nearest-exact" and "area".

    Returns
    -------
    Tensor, (b, c, l'...); of the dtype of ``x`` if only positions change, otherwise a float dtype.

    Raises
    ------
    ShapeError : the mode is for another number of axes, or an axis is empty.
    ValueRangeError : unknown mode, a size or factor out of range, both or none of them, or
    ``align_corners`` with a mode that has none.

    Notes
    -----
    Gradient: linear in x; each entry of g back to those that it was made of, with their weights.
    Where a position is next to the border of two entries, roundings decide which is the nearest:
    they are those of PyTorch, in float32. The "linear" family leaves an axis whose size stays.

    References
    ----------
    Keys 1981, "Cubic convolution interpolation for digital image processing", eq. 4, a = -3/4.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([[[0.0, 4.0]]])
    >>> hx.interpolate(x, 4, mode="linear")
    tensor([[[0., 1., 3., 4.]]])
    >>> hx.interpolate(x, scale_factor=2)
    tensor([[[0., 0., 4., 4.]]])
    """
    rank = x.ndim - 2
    if mode not in _MODES:
        raise ValueRangeError(f"interpolate: mode={mode!r}. Hint: {', '.join(map(repr, _MODES))}.")
    if rank < 1 or _MODES[mode] not in (0, rank) or 0 in x.shape[2:]:
        axes = "(b, c, l...)" if not _MODES[mode] else f"{_MODES[mode] + 2} axes, (b, c, l...)"
        raise ShapeError(
            f"interpolate: x is {x.shape}; mode={mode!r} takes {axes}, none behind c empty."
        )
    if align_corners and not _MODES[mode]:
        raise ValueRangeError(f"interpolate: align_corners has no meaning for mode={mode!r}.")
    line = x.shape[2:]
    if (size is None) == (scale_factor is None):
        raise ValueRangeError(
            f"interpolate: size={size!r}, scale_factor={scale_factor!r}. Hint: give one of them."
        )
    if scale_factor is None:
        sizes = each("interpolate", "size", size, rank, 1)
        scales = [n / count for n, count in zip(line, sizes, strict=True)]
    else:
        factors = _factors(scale_factor, rank)
        sizes = tuple([math.floor(n * factor) for n, factor in zip(line, factors, strict=True)])
        scales = [1 / factor for factor in factors]
        if min(sizes) < 1:
            raise ValueRangeError(
                f"interpolate: scale_factor={scale_factor!r} leaves nothing of x {x.shape}."
            )
    if mode == "area":
        return adaptive_mean("interpolate", rank, x, sizes)
    if mode in ("nearest", "nearest-exact"):
        shift, x = 0.0 if mode == "nearest" else 0.5, part(x, (...,))
        for i, (n, count, scale) in enumerate(zip(line, sizes, scales, strict=True)):
            step = scale if x.dtype == dtypes.float64 else float(np.float32(scale))
            found = _nearest(n, count, step, shift)
            x = take(x, as_tensor("interpolate", found, x), axis=i + 2)
        return x
    x = as_float(x)
    for i, (n, count, scale) in enumerate(zip(line, sizes, scales, strict=True)):
        if n != count or mode == "bicubic":
            entries, weights = _blended(n, count, scale, mode == "bicubic", align_corners)
            x = _mixed(x, entries, weights, i + 2)
    return x


def _nearest(n, count, step, shift):
    """Return the entry, of n, that is taken for each of ``count``: floor((i + shift) step)."""
    at = ((np.arange(count) + shift) * step - shift).astype(np.float32)
    return np.minimum(np.floor(np.maximum(at, 0) + np.float32(shift)).astype(np.int64), n - 1)


def _blended(n, count, scale, cubic, align_corners):
    """Return the entries, of n, that make up each of ``count``, and their weights."""
    at = (np.arange(count) + 0.5) * scale - 0.5
    if align_corners:
        at = np.arange(count) * ((n - 1) / max(count - 1, 1))
    reach = 2 if cubic else 1
    entries = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    distances = at[:, None] - entries
    weights = _cubic(distances) if cubic else 1 - np.abs(distances)
    return np.clip(entries, 0, n - 1), weights


def _mixed(x, entries, weights, axis):
    """Return sum over j of weights[i, j] x[entries[i, j]] along ``axis``."""
    weights = weights.reshape(*weights.shape, *(1,) * (x.ndim - axis - 1)).astype(x.dtype)
    total = None
    for j in range(entries.shape[1]):
        taken = take(x, as_tensor("interpolate", entries[:, j], x), axis=axis)
        term = multiply(taken, as_tensor("interpolate", weights[:, j], x))
        total = term if total is None else add(total, term)
    return total


def _factors(value, rank):
    """Return a positive number for each of ``rank`` axes."""
    items = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    factors = [float(dtypes.as_number("interpolate", "scale_factor", item)) for item in items]
    if len(factors) != rank or not all(0 < factor < math.inf for factor in factors):
        raise ValueRangeError(
            f"interpolate: scale_factor={value!r:.80} is no positive number, nor {rank} of them."
        )
    return factors


@interpolate.samples
def _():
    for mode in ("nearest", "nearest-exact", "area", "linear"):
        yield sample((2, 1, 5), size=3, mode=mode)
    yield sample((1, 2, 3), scale_factor=2.5, mode="linear", kinds="f")
    yield sample((1, 2, 4), size=(7,), mode="linear", align_corners=True, kinds="f")
    yield sample((1, 1, 3, 4), size=(5, 2), mode="bilinear", kinds="f")
    yield sample((1, 1, 4, 3), scale_factor=(1.5, 2.0), mode="bicubic", kinds="f")
    yield sample((1, 1, 3, 2), size=(1, 5), mode="bicubic", align_corners=True, kinds="f")
    yield sample((1, 1, 2, 3, 2), size=3, mode="trilinear", kinds="f")
    yield sample(integers(1, 2, 3, 2), size=(4, 1))
    yield sample((1, 1, 3), size=6)
    yield sample((0, 1, 3), size=2, mode="linear", kinds="f")


@interpolate.errors
def _():
    x = blank(1, 2, 4)
    yield Failure(lambda: interpolate(x, 2, mode="lanczos"), ValueRangeError, r"mode='lanczos'. Hi")
    yield Failure(
        lambda: interpolate(x, 2, mode="bilinear"), ShapeError, r"'bilinear' takes 4 axes, \(b, c"
    )
    yield Failure(lambda: interpolate(x), ValueRangeError, r"size=None, .*give one of them")
    yield Failure(lambda: interpolate(x, 2, 2.0), ValueRangeError, r"give one of them")
    yield Failure(lambda: interpolate(x, 0), ValueRangeError, r"size=0 must be at least 1")
    yield Failure(lambda: interpolate(x, (2, 2)), ShapeError, r"2 numbers for 1 axis")
    yield Failure(
        lambda: interpolate(x, scale_factor=-1.0), ValueRangeError, r"-1.0 is no positive number"
    )
    yield Failure(lambda: interpolate(x, scale_factor=0.1), ValueRangeError, r"leaves nothing of x")
    yield Failure(lambda: interpolate(x, scale_factor="2"), DTypeError, r"must be a number")
    yield Failure(
        lambda: interpolate(x, 2, align_corners=True), ValueRangeError, r"no meaning for mode='near"
    )


# Channels and pixels


def _blocks_oracle(x, factor):
    c, h, w = x.shape[-3] // factor**2, x.shape[-2], x.shape[-1]
    y = np.zeros((*x.shape[:-3], c, h * factor, w * factor), x.dtype)
    for i, j, k in np.ndindex(c, factor, factor):
        y[..., i, j::factor, k::factor] = x[..., (i * factor + j) * factor + k, :, :]
    return y


@composite(oracle=_blocks_oracle)
def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """Make a block of pixels of the channels of each pixel.

    Parameters
    ----------
    x : Tensor, (..., c r^2, h, w).
    factor : int, r.

    Returns
    -------
    Tensor, (..., c, h r, w r); channel (i r + j) r + k goes to row j and column k of the blocks of
    channel i.

    Raises
    ------
    ShapeError : there are less than three axes, or channels do not divide by r^2.

    References
    ----------
    Shi et al. 2016, "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network", eq. 4.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.pixel_shuffle(hx.reshape(hx.arange(4), (1, 4, 1, 1)), 2)
    tensor([[[[0, 1],
              [2, 3]]]])
    """
    (r,) = each("pixel_shuffle", "factor", factor, 1, 1)
    if x.ndim < 3 or x.shape[-3] % (r * r):
        raise ShapeError(
            f"pixel_shuffle: x is {x.shape}; with factor={r} it must be (..., c * {r * r}, h, w)."
        )
    *lead, c, h, w = x.shape
    n = len(lead)
    y = reshape(x, (*lead, c // (r * r), r, r, h, w))
    y = permute_dims(y, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(y, (*lead, c // (r * r), h * r, w * r))


def _unblocks_oracle(x, factor):
    rows = [x[..., j::factor, k::factor] for j in range(factor) for k in range(factor)]
    y = np.stack(rows, -3)
    return y.reshape(*y.shape[:-4], y.shape[-4] * factor**2, *y.shape[-2:])


@composite(oracle=_unblocks_oracle)
def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """Make channels of each block of pixels: the inverse of `pixel_shuffle`.

    Parameters
    ----------
    x : Tensor, (..., c, h r, w r).
    factor : int, r.

    Returns
    -------
    Tensor, (..., c r^2, h, w).

    Raises
    ------
    ShapeError : there are less than three axes, or the last two do not divide by r.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.pixel_unshuffle(hx.ones((1, 3, 4, 6)), 2).shape
    (1, 12, 2, 3)
    """
    (r,) = each("pixel_unshuffle", "factor", factor, 1, 1)
    if x.ndim < 3 or x.shape[-1] % r or x.shape[-2] % r:
        raise ShapeError(
            f"pixel_unshuffle: x is {x.shape}; with factor={r} it must be (..., c, h * {r}, "
            f"w * {r})."
        )
    *lead, c, h, w = x.shape
    n = len(lead)
    y = reshape(x, (*lead, c, h // r, r, w // r, r))
    y = permute_dims(y, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(y, (*lead, c * r * r, h // r, w // r))


def _channel_oracle(x, groups):
    each_group = np.split(x, groups, 1)
    return np.concatenate(
        [g[:, i : i + 1] for i in range(each_group[0].shape[1]) for g in each_group], 1
    )


@composite(oracle=_channel_oracle)
def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of all groups out in turn, so that groups of convolutions meet.

    Parameters
    ----------
    x : Tensor, (b, c, ...).
    groups : int that divides c.

    Returns
    -------
    Tensor, same shape: channel i of group j becomes channel i groups + j.

    Raises
    ------
    ShapeError : channels do not divide by the groups, or there are none.

    References
    ----------
    Zhang et al. 2018, "ShuffleNet: an extremely efficient convolutional neural network for mobile
    devices", figure 1.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.channel_shuffle(hx.reshape(hx.arange(6), (1, 6)), 2)
    tensor([[0, 3, 1, 4, 2, 5]])
    """
    (n,) = each("channel_shuffle", "groups", groups, 1, 1)
    if x.ndim < 2 or x.shape[1] % n:
        raise ShapeError(
            f"channel_shuffle: x is {x.shape}; with groups={n} it must be (b, c, ...)."
        )
    b, c = x.shape[:2]
    y = permute_dims(reshape(x, (b, n, c // n, shapes.size(x.shape[2:]))), (0, 2, 1, 3))
    return reshape(y, x.shape)


pixel_shuffle.samples(lambda: (sample((2, 8, 2, 3), factor=2), sample((4, 1, 2), factor=1)))
pixel_unshuffle.samples(
    lambda: (sample((2, 2, 4, 6), factor=2), sample(floats(0, 1, 3, 3), factor=3))
)
channel_shuffle.samples(lambda: (sample((2, 6, 2), groups=3), sample((2, 4), groups=2)))


@pixel_shuffle.errors
def _():
    x = blank(1, 3, 4, 5)
    yield Failure(lambda: pixel_shuffle(x, 2), ShapeError, r"must be \(\.\.\., c \* 4, h, w\)")
    yield Failure(lambda: pixel_shuffle(x, 0), ValueRangeError, r"factor=0 must be at least 1")
    yield Failure(lambda: pixel_unshuffle(x, 2), ShapeError, r"\(1, 3, 4, 5\); with factor=2 it")
    yield Failure(lambda: channel_shuffle(x, 2), ShapeError, r"\(1, 3, 4, 5\); with groups=2 it")
