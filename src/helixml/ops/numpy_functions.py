"""NumPy's functions that no op answers by itself, written in ops: each takes NumPy's arguments.

An adapter is named by NumPy's name and has those of NumPy's parameters that it heeds; what else a
caller gives must be NumPy's default (see `helixml.ops.numpy_protocol`, which calls them). Arguments
annotated ``Array`` or ``Arrays`` are Tensors when they arrive. All is differentiable as the ops
are. Loaded with the first NumPy function that meets a Tensor; knows nothing of backends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from helixml import dtypes, ops, shapes
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.matrices import diagonal, trace
from helixml.ops.numpy_protocol import ADAPTERS, adapts, first_tensor, flat, host, typed

Array = Tensor
Arrays = list[Tensor]


def _line(n: int, like: Tensor) -> Tensor:
    """Return 0, 1, ... n - 1 where ``like`` lives."""
    return ops.arange(n, device=like.device)


def _along(x: Tensor, axis: int, entries: slice) -> Tensor:
    axis = shapes.normalize_axis("index", axis, x.ndim)
    return x[(*(slice(None),) * axis, entries)]


# What only looks: NumPy computes it from the values, and no number in the result has a gradient


def _looks(name: str) -> None:
    function: Any = reduce(getattr, name.split("."), np)

    def look(*args: Any, **kwargs: Any) -> Any:
        return function(*host(args), **{key: host(value) for key, value in kwargs.items()})

    ADAPTERS[name] = look


for _name in (
    *("iscomplexobj", "isrealobj", "result_type", "common_type", "can_cast", "min_scalar_type"),
    *("may_share_memory", "shares_memory"),
    *("array_equal", "array_equiv", "allclose", "array2string", "array_repr", "array_str"),
    *("save", "savez", "savez_compressed", "savetxt", "einsum_path"),
):
    _looks(_name)


# These do not even look at the values, whose storage would count as shared from then on.


@adapts("shape")
def _(a: Array) -> Any:
    return a.shape


@adapts("ndim")
def _(a: Array) -> Any:
    return a.ndim


@adapts("size")
def _(a: Array, axis: Any = None) -> Any:
    return math.prod(a.shape[i] for i in shapes.normalize_axes("np.size", axis, a.ndim))


# What gives positions only


def _positions(name: str) -> None:
    function: Any = getattr(np, name)

    def find(*args: Any, **kwargs: Any) -> Any:
        like = first_tensor(args)
        found = function(*host(args), **{key: host(value) for key, value in kwargs.items()})
        device = None if like is None else like.device
        if isinstance(found, tuple):
            return tuple(ops.asarray(item, device=device) for item in found)
        return ops.asarray(found, device=device)

    ADAPTERS[name] = find


for _name in (
    *(
        "lexsort",
        "argpartition",
        "nanargmax",
        "nanargmin",
        "unravel_index",
        "ravel_multi_index",
        "diag_indices_from",
        "tril_indices_from",
    ),
    *("triu_indices_from", "packbits", "unpackbits"),
):
    _positions(_name)


# Elementwise


@adapts("divmod")
def _(x: Array, y: Array) -> Any:
    return x // y, x % y


@adapts("modf")
def _(x: Array) -> Any:
    whole = ops.trunc(x)
    return ops.where(ops.isinf(x), 0.0, x - whole), whole


@adapts("fabs")
def _(x: Array) -> Any:
    return ops.abs(ops.positive(x) if dtypes.is_floating(x.dtype) else x.astype("float32"))


@adapts("cbrt")
def _(x: Array) -> Any:
    return ops.sign(x) * ops.pow(ops.abs(x), 1 / 3)


@adapts("logaddexp2")
def _(x: Array, y: Array) -> Any:
    return ops.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2)


@adapts("radians")
def _(x: Array) -> Any:
    return ops.deg2rad(x)


@adapts("degrees")
def _(x: Array) -> Any:
    return ops.rad2deg(x)


@adapts("fix")
def _(x: Array) -> Any:
    return ops.trunc(x)


@adapts("round", "around")
def _(a: Array, decimals: int = 0) -> Any:
    if decimals == 0 or (decimals > 0 and a.dtype not in dtypes.DIFFERENTIABLE):
        return ops.round(a)
    scale = 10.0**decimals
    return ops.round(a * scale) / scale


@adapts("clip")
def _(a: Array, a_min: Any = None, a_max: Any = None, min: Any = None, max: Any = None) -> Any:
    return ops.clip(a, a_min if min is None else min, a_max if max is None else max)


@adapts("angle")
def _(z: Array, deg: bool = False) -> Any:
    angle = ops.atan2(ops.imag(z), ops.real(z))
    return angle * (180 / math.pi) if deg else angle


@adapts("isneginf")
def _(x: Array) -> Any:
    return x == -math.inf


@adapts("isposinf")
def _(x: Array) -> Any:
    return x == math.inf


@adapts("iscomplex")
def _(x: Array) -> Any:
    return ops.imag(x) != 0


@adapts("isreal")
def _(x: Array) -> Any:
    return ops.imag(x) == 0


@adapts("where")
def _(condition: Array, x: Array | None = None, y: Array | None = None) -> Any:
    if x is None and y is None:
        return ops.nonzero(condition)
    if x is None or y is None:
        raise DTypeError("np.where: takes one array or three. Hint: np.where(condition, x, y).")
    return ops.where(ops.astype(condition, "bool"), x, y)


@adapts("compress")
def _(condition: Array, a: Array, axis: int | None = None) -> Any:
    kept = ops.nonzero(flat(condition))[0]
    return ops.take(flat(a) if axis is None else a, kept, axis=axis or 0)


@adapts("extract")
def _(condition: Array, arr: Array) -> Any:
    return ops.take(flat(arr), ops.nonzero(flat(condition))[0], axis=0)


@adapts("take")
def _(a: Array, indices: Array, axis: int | None = None) -> Any:
    return ops.take(flat(a) if axis is None else a, indices, axis=axis or 0)


# Made like others


def _like(make: Any) -> Callable[..., Any]:
    def made(a: Tensor, dtype: Any = None, shape: Any = None, *values: Any) -> Tensor:
        sizes = a.shape if shape is None else shape
        result: Tensor = make(sizes, *values, a.dtype if dtype is None else dtype, a.device)
        return result

    return made


@adapts("zeros_like")
def _(a: Array, dtype: Any = None, shape: Any = None) -> Any:
    return _like(ops.zeros)(a, dtype, shape)


@adapts("ones_like")
def _(a: Array, dtype: Any = None, shape: Any = None) -> Any:
    return _like(ops.ones)(a, dtype, shape)


@adapts("empty_like")
def _(prototype: Array, dtype: Any = None, shape: Any = None) -> Any:
    return _like(ops.empty)(prototype, dtype, shape)


@adapts("full_like")
def _(a: Array, fill_value: Array, dtype: Any = None, shape: Any = None) -> Any:
    filled = ops.astype(fill_value, a.dtype if dtype is None else dtype)
    return ops.broadcast_to(filled, a.shape if shape is None else shape)


@adapts("linspace")
def _(
    start: Array, stop: Array, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0,
) -> Any:  # fmt: skip
    steps = num - 1 if endpoint else num
    step = (stop - start) / max(steps, 1)
    line = _line(num, start).reshape(num, *(1,) * step.ndim)
    points = start + line * step
    if endpoint and num > 1:  # whose last is exact, not rounded thrice
        last = ops.broadcast_to(ops.astype(stop, points.dtype), points.shape[1:])
        points = ops.concat([points[:-1], last[None]])
    points = ops.moveaxis(typed(points, dtype), 0, axis)
    return (points, step) if retstep else points


# Shapes


@adapts("transpose")
def _(a: Array, axes: Any = None) -> Any:
    return ops.permute_dims(a, tuple(range(a.ndim))[::-1] if axes is None else axes)


@adapts("ravel")
def _(a: Array, order: str = "C") -> Any:
    return flat(_ordered("ravel", a, order))


@adapts("reshape")
def _(a: Array, shape: Any, order: str = "C") -> Any:
    sizes = (shape,) if hasattr(shape, "__index__") else tuple(shape)
    if order == "C":
        return ops.reshape(a, sizes)
    turned = ops.reshape(_ordered("reshape", a, order), sizes[::-1])
    return ops.permute_dims(turned, tuple(range(len(sizes)))[::-1])


def _ordered(name: str, x: Tensor, order: str) -> Tensor:
    """Return what lies in rows as ``x`` does in the given order: its transpose for columns."""
    if order not in "CF":
        raise ValueRangeError(f"np.{name}: order={order!r} depends on memory. Hint: 'C' or 'F'.")
    return x if order == "C" else ops.permute_dims(x, tuple(range(x.ndim))[::-1])


@adapts("rollaxis")
def _(a: Array, axis: int, start: int = 0) -> Any:
    axis = shapes.normalize_axis("rollaxis", axis, a.ndim)
    start += a.ndim if start < 0 else 0
    return ops.moveaxis(a, axis, start - (axis < start))


@adapts("atleast_1d")
def _(*arys: Any) -> Any:
    return _each(arys, ops.atleast_1d)


@adapts("atleast_2d")
def _(*arys: Any) -> Any:
    return _each(arys, ops.atleast_2d)


@adapts("atleast_3d")
def _(*arys: Any) -> Any:
    return _each(arys, ops.atleast_3d)


def _each(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    like = first_tensor(values)
    changed = tuple(change(as_tensor("atleast", value, like)) for value in values)
    return changed[0] if len(changed) == 1 else changed


@adapts("vstack")
def _(tup: Arrays, dtype: Any = None) -> Any:
    return ops.vstack([typed(x, dtype) for x in tup])


@adapts("hstack")
def _(tup: Arrays, dtype: Any = None) -> Any:
    return ops.hstack([typed(x, dtype) for x in tup])


@adapts("block")
def _(arrays: Any) -> Any:
    like = first_tensor([arrays]) if isinstance(arrays, list) else arrays

    def depth(value: Any) -> int:
        return 1 + max(map(depth, value)) if isinstance(value, list) else 0

    def rank(value: Any) -> int:
        return max(map(rank, value)) if isinstance(value, list) else np.ndim(value)

    axes = max(depth(arrays), rank(arrays))

    def join(value: Any, axis: int) -> Tensor:
        if isinstance(value, list):
            return ops.concat([join(item, axis + 1) for item in value], axis=axis)
        x = as_tensor("block", value, like)
        return x.reshape(*(1,) * (axes - x.ndim), *x.shape)

    return join(arrays, axes - depth(arrays))


@adapts("append")
def _(arr: Array, values: Array, axis: int | None = None) -> Any:
    return ops.concat([arr, values], axis=axis)


def _cut(x: Tensor, where: Any, axis: int, even: bool) -> list[Tensor]:
    """Cut as NumPy does: into a number of parts, or before positions."""
    axis = shapes.normalize_axis("split", axis, x.ndim)
    size = x.shape[axis]
    if hasattr(where, "__index__"):
        parts = int(where)
        if parts < 1:
            raise ValueRangeError(f"np.split: {parts} parts, there must be at least 1.")
        if even and size % parts:
            raise ShapeError(f"np.split: {size} entries do not divide into {parts} equal parts.")
        bounds = [i * (size // parts) + min(i, size % parts) for i in range(parts + 1)]
    else:
        bounds = [0, *(int(i) for i in host(where)), size]
    return [_along(x, axis, slice(a, b)) for a, b in pairwise(bounds)]


@adapts("split")
def _(ary: Array, indices_or_sections: Any, axis: int = 0) -> Any:
    return _cut(ary, indices_or_sections, axis, True)


@adapts("array_split")
def _(ary: Array, indices_or_sections: Any, axis: int = 0) -> Any:
    return _cut(ary, indices_or_sections, axis, False)


@adapts("hsplit")
def _(ary: Array, indices_or_sections: Any) -> Any:
    return ops.hsplit(ary, indices_or_sections)


@adapts("vsplit")
def _(ary: Array, indices_or_sections: Any) -> Any:
    return ops.vsplit(ary, indices_or_sections)


@adapts("dsplit")
def _(ary: Array, indices_or_sections: Any) -> Any:
    return ops.dsplit(ary, indices_or_sections)


@adapts("tile")
def _(A: Array, reps: Any) -> Any:
    return ops.tile(A, tuple(reps) if isinstance(reps, list) else reps)


@adapts("copy")
def _(a: Array) -> Any:
    return ops.copy(a)


@adapts("delete")
def _(arr: Array, obj: Any, axis: int | None = None) -> Any:
    x = flat(arr) if axis is None else arr
    axis = axis or 0
    kept = np.delete(np.arange(x.shape[axis]), host(obj))
    return ops.take(x, kept, axis=axis)


@adapts("insert")
def _(arr: Array, obj: Any, values: Array, axis: int | None = None) -> Any:
    x = flat(arr) if axis is None else arr
    axis = shapes.normalize_axis("insert", axis or 0, x.ndim)
    size = x.shape[axis]
    if hasattr(obj, "__index__"):
        place = int(obj) + (size + 1 if obj < 0 else 0) - (obj < 0)
        shape = (*x.shape[:axis], -1, *x.shape[axis + 1 :])
        whole = values if values.ndim == x.ndim else None
        if whole is None:  # one entry, or as many as broadcast, before the place
            if x.ndim == 1:
                whole = flat(values)
            else:
                kept = (*x.shape[:axis], *x.shape[axis + 1 :])
                whole = ops.broadcast_to(values, kept).reshape(*(1 if n < 0 else n for n in shape))
        parts = [_along(x, axis, slice(0, place)), whole, _along(x, axis, slice(place, None))]
        return ops.concat([ops.astype(part, x.dtype) for part in parts], axis=axis)
    raise DTypeError("np.insert: only before one position. Hint: np.concatenate the pieces.")


@adapts("resize")
def _(a: Array, new_shape: Any) -> Any:
    sizes = (new_shape,) if hasattr(new_shape, "__index__") else tuple(new_shape)
    positions = np.resize(np.arange(a.size), sizes)
    return ops.reshape(ops.take(flat(a), positions.reshape(-1), axis=0), sizes)


@adapts("pad")
def _(array: Array, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Any:
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise ValueRangeError(f"np.pad: mode={mode!r} has no counterpart for Tensors.")
    widths = np.broadcast_to(np.asarray(host(pad_width)), (array.ndim, 2))
    fill = kwargs.pop("constant_values", 0)
    if kwargs:
        raise DTypeError(f"np.pad: has no counterpart for Tensors with {', '.join(kwargs)}.")
    for axis, (before, after) in enumerate(widths.tolist()):
        if mode == "constant":
            values = np.broadcast_to(np.asarray(host(fill)), (array.ndim, 2))[axis]
            shape = list(array.shape)
            ends = []
            for count, value in zip((before, after), values.tolist(), strict=True):
                shape[axis] = count
                ends.append(ops.full(tuple(shape), value, array.dtype, array.device))
            array = ops.concat([ends[0], array, ends[1]], axis=axis)
        else:  # NumPy says for a line of positions where each entry comes from
            line: Any = np.arange(array.shape[axis])
            source = np.pad(line, (before, after), mode)  # type: ignore[call-overload]
            array = ops.take(array, source, axis=axis)
    return array


@adapts("trim_zeros")
def _(filt: Array, trim: str = "fb") -> Any:
    kept = np.flatnonzero(filt.numpy())
    first = kept[0] if kept.size and "f" in trim.lower() else 0 if kept.size else filt.size
    last = kept[-1] + 1 if kept.size and "b" in trim.lower() else filt.size
    return filt[int(first) : int(last)]


# Diagonals


@adapts("diagonal")
def _(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return diagonal(ops.moveaxis(a, (axis1, axis2), (-2, -1)), offset)


@adapts("trace")
def _(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    return trace(ops.moveaxis(a, (axis1, axis2), (-2, -1)), offset, dtype=dtype)


@adapts("vander")
def _(x: Array, N: int | None = None, increasing: bool = False) -> Any:
    return ops.vander(x, N, increasing)
