"""Padding: more entries around those of a tensor, or fewer. Linear in the tensor.

Zeros are put around by `place`, other constants by `concat`, and what repeats entries of the tensor
is a `take` along each axis, so that every gradient is that of an op that was there before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, integers, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.indexing import part, place, take
from helixml.ops.movement import concat

_ALIASES = {"edge": "replicate", "wrap": "circular"}  # NumPy's names
_MODES = ("constant", "reflect", "replicate", "circular")


def _pad_oracle(x, pad_width, mode="constant", value=0.0):
    if x.ndim == 0:  # which np.pad does not take
        return x
    pairs = np.broadcast_to(np.array(pad_width, int), (x.ndim, 2))
    more, fewer = np.maximum(pairs, 0), np.maximum(-pairs, 0)

    def cut(y):
        return y[tuple(slice(a, n - b) for (a, b), n in zip(fewer, y.shape, strict=True))]

    if mode == "constant":
        return np.pad(cut(x), more, constant_values=value)
    if mode == "circular":
        return np.pad(cut(x), more, "wrap")
    return cut(np.pad(x, more, "edge" if mode == "replicate" else mode))


@composite(oracle=_pad_oracle)
def pad(
    x: Tensor,
    pad_width: int | Sequence[int] | Sequence[Sequence[int]],
    *,
    mode: Literal["constant", "reflect", "replicate", "circular", "edge", "wrap"] = "constant",
    value: float = 0.0,
) -> Tensor:
    """Put entries before and after those of a tensor, along its axes.

    Parameters
    ----------
    x : Tensor, any shape.
    pad_width : how many: a number for all ends, a pair (before, after) for all axes, or such a pair
        for each axis. A negative number takes entries away, in every mode.
    mode : what is put there.

        - "constant": ``value``.
        - "reflect": what lies behind the end entry, in reverse order: 2 1 [0 1 2] 1 0.
        - "replicate" (or "edge"): the end entry.
        - "circular" (or "wrap"): what lies at the other end.
    value : number for "constant"; must be a value of the dtype of ``x``.

    Returns
    -------
    Tensor of the dtype of ``x``.

    Raises
    ------
    ShapeError : no pair for each axis; more is taken away than there is; "reflect" by the size of
        an axis or more, "circular" by more, "replicate" of nothing.
    ValueRangeError : another ``mode``, or a ``value`` that the dtype does not hold.

    Notes
    -----
    Gradient: each entry of g back to the entry that stands there; for constants, nowhere. Where one
    end of an axis is padded and entries are taken away at the other, "circular" puts there what is
    left and "reflect" and "replicate" what was there, as PyTorch does.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.pad(hx.tensor([1, 2, 3]), (1, 2), mode="reflect")
    tensor([2, 1, 2, 3, 2, 1])
    >>> hx.pad(hx.tensor([1, 2, 3]), (1, -2))
    tensor([0, 1])
    """
    pairs = _pairs(pad_width, x.ndim)
    kind = _ALIASES.get(mode, mode) if isinstance(mode, str) else mode
    if kind not in _MODES:
        raise ValueRangeError(f"pad: mode={mode!r}. Hint: {', '.join(map(repr, _MODES))}.")
    for axis, (pair, n) in enumerate(zip(pairs, x.shape, strict=True)):
        kept, more = n + min(pair[0], 0) + min(pair[1], 0), max(pair)
        if kept < 0:
            raise ShapeError(f"pad: {pair} takes more away than axis {axis} of {x.shape} has.")
        most = {"reflect": n - 1, "replicate": more if n else 0, "circular": kept}.get(kind, more)
        if more > max(most, 0):
            raise ShapeError(
                f"pad: {kind!r} cannot put {more} entries beside the {n} of axis {axis} of shape "
                f"{x.shape} with {pair}. Hint: at most {max(most, 0)}, or mode='constant'."
            )
    if kind == "constant":
        return _constant(x, pairs, value)
    if kind == "circular":
        x, pairs = _cropped(x, pairs)
    x = part(x, (...,))
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            n = x.shape[axis]
            positions = np.arange(-before, n + after)
            if kind == "reflect":
                positions = n - 1 - np.abs(n - 1 - np.abs(positions))
            elif kind == "replicate":
                positions = np.clip(positions, 0, n - 1)
            else:
                positions %= max(n, 1)
            x = take(x, as_tensor("pad", positions, x), axis=axis)
    return x


def _constant(x, pairs, value):
    """Return ``x`` with ``value`` around it."""
    dtypes.as_number("pad", "value", value)
    if dtypes.kind(x.dtype) in "biu":
        with np.errstate(invalid="ignore"):
            if np.asarray(value).astype(x.dtype) != value:
                raise ValueRangeError(f"pad: value={value!r} is no value of {x.dtype}.")
    x, pairs = _cropped(x, pairs)
    if not any(map(any, pairs)):
        return x
    if value == 0:
        shape = tuple([a + n + b for (a, b), n in zip(pairs, x.shape, strict=True)])
        index = tuple([slice(a, a + n) for (a, _), n in zip(pairs, x.shape, strict=True)])
        return place(x, shape, index)
    from helixml.ops.creation import full

    for axis, pair in enumerate(pairs):
        head, tail = x.shape[:axis], x.shape[axis + 1 :]
        blocks = [full((*head, n, *tail), value, x.dtype, x.device) for n in pair]
        if any(pair):
            x = concat([blocks[0], x, blocks[1]], axis=axis)
    return x


def _cropped(x, pairs):
    """Return ``x`` without what negative numbers take away, and the others."""
    ends = [(max(0, -a), n - max(0, -b)) for (a, b), n in zip(pairs, x.shape, strict=True)]
    x = part(x, tuple([slice(a, b) for a, b in ends]))
    return x, [(max(0, a), max(0, b)) for a, b in pairs]


def _pairs(width, rank):
    """Return a pair of integers for each of ``rank`` axes."""
    if hasattr(width, "__index__"):
        width = (width, width)
    try:
        items = list(width)
        if len(items) == 2 and all(hasattr(item, "__index__") for item in items):
            items = [items] * rank
        elif len(items) == 1:
            items *= rank
        pairs = [tuple([dtypes.as_integer("pad", "pad_width", n) for n in item]) for item in items]
    except TypeError:
        raise DTypeError(
            f"pad: pad_width must be an integer, a pair or pairs, not {width!r:.80}."
        ) from None
    if len(pairs) != rank or any(len(pair) != 2 for pair in pairs):
        raise ShapeError(
            f"pad: pad_width={width!r:.80} has no pair for each of the {rank} axes. "
            "Hint: ((before, after), ...), with (0, 0) for an axis that stays."
        )
    return pairs


@pad.samples
def _():
    yield sample((2, 3), pad_width=1)
    yield sample((2, 3), pad_width=((0, 2), (1, -1)), value=1.0)
    yield sample((2, 4), pad_width=((0, 0), (3, 2)), mode="reflect")
    yield sample((2, 3), pad_width=((1, 0), (-1, 4)), mode="replicate")
    yield sample((2, 3), pad_width=(2, 1), mode="circular")
    yield sample((1, 4), pad_width=((0, 1), (-1, 3)), mode="circular")
    yield sample((3, 4), pad_width=((-1, -1), (-2, 0)))
    yield sample((4,), pad_width=((-3, 2),), mode="reflect")
    yield sample(floats(0, 2), pad_width=((1, 0), (0, 0)), value=-1.0, kinds="if")
    yield sample((), pad_width=3)
    yield sample(integers(2, 2), pad_width=((1, 1),))


@pad.errors
def _():
    x = blank(2, 3)
    whole = np.zeros((2, 3), np.int8)
    yield Failure(lambda: pad(x, 1, mode="mirror"), ValueRangeError, r"mode='mirror'. Hint: 'cons")
    yield Failure(
        lambda: pad(x, ((0, 0), (0, 3)), mode="reflect"),
        ShapeError,
        r"'reflect' cannot put 3 entries beside the 3 of axis 1 of shape \(2, 3\) with.*at most 2",
    )
    yield Failure(lambda: pad(x, 3, mode="wrap"), ShapeError, r"beside the 2 of axis 0")
    yield Failure(lambda: pad(blank(0), 1, mode="edge"), ShapeError, r"Hint: at most 0")
    yield Failure(lambda: pad(x, -2), ShapeError, r"\(-2, -2\) takes more away than axis 0")
    yield Failure(lambda: pad(x, ((1, 1),) * 3), ShapeError, r"no pair for each of the 2 axes")
    yield Failure(lambda: pad(x, (1, 2, 3)), DTypeError, r"an integer, a pair or pairs")
    yield Failure(lambda: pad(whole, 1, value=0.5), ValueRangeError, r"0.5 is no value of int8")
    yield Failure(lambda: pad(whole, 1, value=300), ValueRangeError, r"300 is no value of int8")
    yield Failure(lambda: pad(x, 1, value="0"), DTypeError, r"value must be a number")
