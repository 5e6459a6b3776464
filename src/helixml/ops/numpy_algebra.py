"""NumPy's reductions, products, statistics and signals, written in ops for Tensors.

The other half of `numpy_functions`, which says how an adapter looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from helixml import dtypes, ops, shapes
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.movement import as_float
from helixml.ops.numpy_functions import diagonal
from helixml.ops.numpy_protocol import adapts, first_tensor, flat, host, typed

Array = Tensor
Arrays = list[Tensor]


# Reductions


def _centred(function: Any, x: Tensor, dtype: Any, ddof: Any, correction: Any, **axes: Any) -> Any:
    if ddof and correction is not None:
        raise DTypeError("np.var: takes ddof= or correction=, not both.")
    return function(typed(x, dtype), correction=ddof if correction is None else correction, **axes)


@adapts("mean")
def _(a: Array, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return ops.mean(typed(a, dtype), axis=axis, keepdims=keepdims)


@adapts("var")
def _(
    a: Array, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: bool = False,
    correction: Any = None,
) -> Any:  # fmt: skip
    return _centred(ops.var, a, dtype, ddof, correction, axis=axis, keepdims=keepdims)


@adapts("std")
def _(
    a: Array, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: bool = False,
    correction: Any = None,
) -> Any:  # fmt: skip
    return _centred(ops.std, a, dtype, ddof, correction, axis=axis, keepdims=keepdims)


@adapts("ptp")
def _(a: Array, axis: Any = None, keepdims: bool = False) -> Any:
    axes = {"axis": axis, "keepdims": keepdims}
    return ops.max(a, **axes) - ops.min(a, **axes)


@adapts("average")
def _(
    a: Array, axis: Any = None, weights: Array | None = None, returned: bool = False,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    if weights is None:
        result = ops.mean(a, axis=axis, keepdims=keepdims)
        total = ops.full(result.shape, a.size / max(result.size, 1), result.dtype, result.device)
    else:
        if weights.shape != a.shape:
            if not hasattr(axis, "__index__") or weights.shape != (a.shape[axis],):
                raise ShapeError(
                    f"np.average: weights {weights.shape} fit neither {a.shape} nor axis {axis}."
                )
            line = [1] * a.ndim
            line[axis] = -1
            weights = ops.broadcast_to(weights.reshape(*line), a.shape)
        total = ops.sum(weights, axis=axis, keepdims=keepdims)
        result = ops.sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (result, total) if returned else result


def _quantile(x: Tensor, q: Any, axis: Any, keepdims: bool, nan: bool = False) -> Tensor:
    """Return quantiles by straight lines between the ordered values."""
    rank = x.ndim
    axes = shapes.normalize_axes("quantile", axis, rank)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    moved = ops.moveaxis(x, axes, tuple(range(-len(axes), 0)))
    others = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    line = ops.sort(as_float(moved).reshape(*others, -1), axis=-1)
    n = line.shape[-1]
    if n == 0:
        raise ShapeError(f"np.quantile: has no value over an empty axis of shape {x.shape}.")
    share = np.asarray(host(q), np.float64)
    if share.size and not ((share >= 0) & (share <= 1)).all():
        raise ValueRangeError("np.quantile: q must be between 0 and 1.")
    results = []
    for value in share.reshape(-1).tolist():
        place = value * (n - 1)
        low = min(int(place), n - 1)
        part = line[..., low]
        if place > low:
            above = line[..., low + 1]
            between = part + (above - part) * (place - low)
            part = ops.where(above == part, part, between)  # both may be infinite
        part = ops.where(ops.any(ops.isnan(line), axis=-1), math.nan, part)
        results.append(part.reshape(*kept) if keepdims else part)
    whole = ops.stack(results, axis=0)
    return whole.reshape(*share.shape, *results[0].shape)


@adapts("median")
def _(a: Array, axis: Any = None, keepdims: bool = False) -> Any:
    return _quantile(a, 0.5, axis, keepdims)


@adapts("quantile")
def _(a: Array, q: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _quantile(a, q, axis, keepdims)


@adapts("percentile")
def _(a: Array, q: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _quantile(a, np.asarray(host(q), np.float64) / 100, axis, keepdims)


def _without_nan(x: Tensor, value: float) -> Tensor:
    result: Tensor = ops.where(ops.isnan(x), value, x) if dtypes.kind(x.dtype) in "fc" else x
    return result


@adapts("nansum")
def _(a: Array, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return ops.sum(_without_nan(a, 0.0), axis=axis, keepdims=keepdims, dtype=dtype)


@adapts("nanprod")
def _(a: Array, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return ops.prod(_without_nan(a, 1.0), axis=axis, keepdims=keepdims, dtype=dtype)


def _nanmean(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    count = ops.count_nonzero(x == x, axis=axis, keepdims=keepdims)
    result: Tensor = ops.sum(_without_nan(x, 0.0), axis=axis, keepdims=keepdims) / count
    return result


@adapts("nanmean")
def _(a: Array, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return _nanmean(typed(a, dtype), axis, keepdims)


@adapts("nanvar")
def _(a: Array, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: bool = False) -> Any:
    return _nanvar(typed(a, dtype), axis, ddof, keepdims)


@adapts("nanstd")
def _(a: Array, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: bool = False) -> Any:
    return ops.sqrt(_nanvar(typed(a, dtype), axis, ddof, keepdims))


def _nanvar(x: Tensor, axis: Any, ddof: Any, keepdims: bool) -> Tensor:
    centred = ops.square(_without_nan(x - _nanmean(x, axis, True), 0.0))
    count = ops.count_nonzero(x == x, axis=axis, keepdims=keepdims)
    result: Tensor = ops.sum(centred, axis=axis, keepdims=keepdims) / (count - ddof)
    return result


@adapts("nanmax")
def _(a: Array, axis: Any = None, keepdims: bool = False) -> Any:
    return _nan_extreme(ops.max, a, -math.inf, axis, keepdims)


@adapts("nanmin")
def _(a: Array, axis: Any = None, keepdims: bool = False) -> Any:
    return _nan_extreme(ops.min, a, math.inf, axis, keepdims)


def _nan_extreme(fold: Any, x: Tensor, least: float, axis: Any, keepdims: bool) -> Tensor:
    result: Tensor = fold(_without_nan(x, least), axis=axis, keepdims=keepdims)
    if dtypes.kind(x.dtype) == "f":
        none = ops.all(ops.isnan(x), axis=axis, keepdims=keepdims)
        result = ops.where(none, math.nan, result)
    return result


@adapts("cumsum")
def _(a: Array, axis: int | None = None, dtype: Any = None) -> Any:
    return ops.cumulative_sum(*_lined(a, axis), dtype=dtype)


@adapts("cumprod")
def _(a: Array, axis: int | None = None, dtype: Any = None) -> Any:
    return ops.cumulative_prod(*_lined(a, axis), dtype=dtype)


@adapts("nancumsum")
def _(a: Array, axis: int | None = None, dtype: Any = None) -> Any:
    return ops.cumulative_sum(*_lined(_without_nan(a, 0.0), axis), dtype=dtype)


@adapts("nancumprod")
def _(a: Array, axis: int | None = None, dtype: Any = None) -> Any:
    return ops.cumulative_prod(*_lined(_without_nan(a, 1.0), axis), dtype=dtype)


def _lined(x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """Return ``x``, flat if there is no axis, and the axis."""
    return (flat(x), 0) if axis is None else (x, axis)


# Products


@adapts("dot")
def _(a: Array, b: Array) -> Any:
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return ops.tensordot(a, b, axes=((a.ndim - 1,), (max(b.ndim - 2, 0),)))


@adapts("inner")
def _(a: Array, b: Array) -> Any:
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return ops.tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 1,)))


@adapts("vdot")
def _(a: Array, b: Array) -> Any:
    return ops.sum(ops.conj(flat(a)) * flat(b))


@adapts("matvec")
def _(x1: Array, x2: Array) -> Any:
    return (x1 @ x2[..., None])[..., 0]


@adapts("vecmat")
def _(x1: Array, x2: Array) -> Any:
    return (ops.conj(x1)[..., None, :] @ x2)[..., 0, :]


@adapts("outer")
def _(a: Array, b: Array) -> Any:
    return a.reshape(-1, 1) * b.reshape(1, -1)


@adapts("linalg.outer")
def _(x1: Array, x2: Array) -> Any:
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(f"np.linalg.outer: takes two vectors, not {x1.shape} and {x2.shape}.")
    return x1.reshape(-1, 1) * x2.reshape(1, -1)


@adapts("kron")
def _(a: Array, b: Array) -> Any:
    rank = max(a.ndim, b.ndim)
    sizes = [(*(1,) * (rank - x.ndim), *x.shape) for x in (a, b)]
    left = a.reshape(*(n for size in sizes[0] for n in (size, 1)))
    right = b.reshape(*(n for size in sizes[1] for n in (1, size)))
    return (left * right).reshape(*(m * n for m, n in zip(*sizes, strict=True)))


@adapts("cross")
def _(
    a: Array, b: Array, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    return _cross(a, b, axisa, axisb, axisc)


@adapts("linalg.cross")
def _(x1: Array, x2: Array, axis: int = -1) -> Any:
    return _cross(x1, x2, axis, axis, axis)


def _cross(a: Tensor, b: Tensor, axisa: int, axisb: int, axisc: int) -> Tensor:
    a, b = ops.moveaxis(a, axisa, -1), ops.moveaxis(b, axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ShapeError(f"np.cross: takes vectors of 3, not {a.shape[-1]} and {b.shape[-1]}.")
    turned = [ops.roll(x, shift, axis=-1) for shift in (-1, 1) for x in (a, b)]
    product = turned[0] * turned[3] - turned[2] * turned[1]
    return ops.moveaxis(product, -1, axisc)


@adapts("linalg.multi_dot")
def _(arrays: Arrays) -> Any:
    result = arrays[0]
    for array in arrays[1:]:
        result = result @ array
    return result


@adapts("linalg.matrix_power")
def _(a: Array, n: int) -> Any:
    if n < 0:
        raise ValueRangeError(f"np.linalg.matrix_power: n={n} is negative. Hint: of the inverse.")
    result = ops.broadcast_to(ops.eye(a.shape[-1], dtype=a.dtype, device=a.device), a.shape)
    while n:  # by squaring
        if n % 2:
            result = result @ a
        a, n = a @ a if n > 1 else a, n // 2
    return result


@adapts("einsum")
def _(*operands: Any, optimize: Any = False) -> Any:
    own = getattr(ops, "einsum", None)
    if own is not None:
        return own(*operands)
    if not isinstance(operands[0], str):
        raise DTypeError("np.einsum: takes subscripts as text here. Hint: np.einsum('ij,jk', x, y)")
    like = first_tensor(operands[1:])
    return _einsum(operands[0], [as_tensor("einsum", x, like) for x in operands[1:]])


def _einsum(subscripts: str, tensors: list[Tensor]) -> Tensor:
    """Multiply operands along named axes and sum over those that the result has not.

    Two operands at a time, by one matrix product over the axes that only these two have.
    """
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ShapeError(f"np.einsum: {subscripts!r} has {len(terms)} terms for {len(tensors)}.")
    spare = iter(sorted(set(map(chr, range(0x3B1, 0x3F0))) - set(text)))
    dots = ""
    for term, x in zip(terms, tensors, strict=True):
        if "..." in term:
            count = x.ndim - len(term.replace("...", ""))
            while len(dots) < count:
                dots = next(spare) + dots
    terms = [
        term.replace("...", dots[len(dots) - (x.ndim - len(term.replace("...", ""))) :])
        for term, x in zip(terms, tensors, strict=True)
    ]
    joined = "".join(terms)
    if not arrow:
        right = "..." * bool(dots) + "".join(
            sorted(a for a in set(joined) if joined.count(a) == 1 and a not in dots)
        )
    right = right.replace("...", dots)
    sizes: dict[str, int] = {}
    parts = []
    for term, x in zip(terms, tensors, strict=True):
        if len(term) != x.ndim:
            raise ShapeError(f"np.einsum: {term!r} names {len(term)} axes, the shape is {x.shape}.")
        for axis in [axis for axis in dict.fromkeys(term) if term.count(axis) > 1]:
            while term.count(axis) > 1:  # a repeated axis stands for the diagonal
                i, j = [k for k, a in enumerate(term) if a == axis][:2]
                if x.shape[i] != x.shape[j]:
                    raise ShapeError(f"np.einsum: axis {axis!r} has {x.shape[i]} and {x.shape[j]}.")
                x = diagonal(x, 0, i, j)  # noqa: PLW2901
                term = term[:i] + term[i + 1 : j] + term[j + 1 :] + axis  # noqa: PLW2901
        for axis, n in zip(term, x.shape, strict=True):
            if sizes.setdefault(axis, n) != n and 1 not in (n, sizes[axis]):
                raise ShapeError(f"np.einsum: axis {axis!r} has {sizes[axis]} and {n} entries.")
            sizes[axis] = max(sizes[axis], n) if n != 0 else 0
        parts.append((term, x))
    if not set(right) <= set(sizes) or len(set(right)) < len(right):
        raise ShapeError(
            f"np.einsum: the result of {subscripts!r} names an axis of no operand, or one twice."
        )
    term, x = parts[0]
    for number, (other, y) in enumerate(parts[1:], 2):
        needed = set(right).union(*(name for name, _ in parts[number:]))
        term, x = _contracted(term, x, other, y, needed)
    for axis in [a for a in term if a not in right]:
        x = ops.sum(x, axis=term.index(axis))
        term = term.replace(axis, "")
    return ops.permute_dims(x, tuple(term.index(axis) for axis in right))


def _contracted(xs: str, x: Tensor, ys: str, y: Tensor, needed: set[str]) -> tuple[str, Tensor]:
    """Return the product of two operands, summed over the axes that nobody needs."""
    for axis in [a for a in xs if a not in ys and a not in needed]:
        x, xs = ops.sum(x, axis=xs.index(axis)), xs.replace(axis, "")
    for axis in [a for a in ys if a not in xs and a not in needed]:
        y, ys = ops.sum(y, axis=ys.index(axis)), ys.replace(axis, "")
    both = [a for a in xs if a in ys]
    size = {a: max(x.shape[xs.index(a)], y.shape[ys.index(a)]) for a in both}
    x = ops.broadcast_to(x, tuple(size.get(a, n) for a, n in zip(xs, x.shape, strict=True)))
    y = ops.broadcast_to(y, tuple(size.get(a, n) for a, n in zip(ys, y.shape, strict=True)))
    batch = [a for a in both if a in needed]
    summed = [a for a in both if a not in needed]
    rows = [a for a in xs if a not in ys]
    columns = [a for a in ys if a not in xs]

    def arranged(term: str, z: Tensor, *groups: list[str]) -> Tensor:
        z = ops.permute_dims(z, tuple(term.index(a) for group in groups for a in group))
        shape, start = list(z.shape[: len(batch)]), len(batch)
        for group in groups[1:]:
            shape.append(math.prod(z.shape[start : start + len(group)]))
            start += len(group)
        return z.reshape(tuple(shape))

    product = arranged(xs, x, batch, rows, summed) @ arranged(ys, y, batch, summed, columns)
    whole = [
        *(size[a] for a in batch),
        *(x.shape[xs.index(a)] for a in rows),
        *(y.shape[ys.index(a)] for a in columns),
    ]
    return "".join([*batch, *rows, *columns]), product.reshape(tuple(whole))


# Norms


@adapts("linalg.norm")
def _(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if axis is None:
        if ord is None:
            kept = (1,) * x.ndim if keepdims else ()
            return _vector_norm(flat(x), 2, 0, False).reshape(kept)
        axis = tuple(range(x.ndim))
    axes = shapes.normalize_axes("np.linalg.norm", axis, x.ndim)
    if len(axes) == 1 or (ord is None and len(axes) == 2):
        return _vector_norm(x, 2 if ord is None else ord, axes, keepdims)
    return _matrix_norm(x, ord, axes, keepdims)


@adapts("linalg.vector_norm")
def _(x: Array, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    return _vector_norm(x, ord, axis, keepdims)


@adapts("linalg.matrix_norm")
def _(x: Array, keepdims: bool = False, ord: Any = "fro") -> Any:
    return _matrix_norm(x, ord, (x.ndim - 2, x.ndim - 1), keepdims)


def _vector_norm(x: Tensor, order: Any, axis: Any, keepdims: bool) -> Tensor:
    axes = {"axis": axis, "keepdims": keepdims}
    size = ops.abs(as_float(x))
    if order == math.inf:
        return ops.max(size, **axes)
    if order == -math.inf:
        return ops.min(size, **axes)
    if order == 0:
        return ops.astype(ops.count_nonzero(size, **axes), size.dtype)
    if order == 1:
        return ops.sum(size, **axes)
    if order == 2:
        return ops.sqrt(ops.sum(ops.square(size), **axes))
    if not isinstance(order, (int, float)):
        raise ValueRangeError(f"np.linalg.norm: ord={order!r} is no norm of vectors.")
    return ops.pow(ops.sum(ops.pow(size, order), **axes), 1 / order)


def _matrix_norm(x: Tensor, order: Any, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if len(axes) != 2:
        raise ShapeError(f"np.linalg.norm: a norm of matrices needs two axes, not {axes}.")
    if order in ("fro", None):
        return _vector_norm(x, 2, axes, keepdims)
    if order in (1, -1, math.inf, -math.inf):
        rows, columns = axes if abs(order) == 1 else axes[::-1]
        sums = ops.sum(ops.abs(x), axis=rows, keepdims=True)
        found = (ops.max if order > 0 else ops.min)(sums, axis=columns, keepdims=True)
        return found if keepdims else ops.squeeze(found, axis=axes)
    svdvals = getattr(ops, "svdvals", None)
    if svdvals is None or order not in (2, -2, "nuc"):
        raise ValueRangeError(f"np.linalg.norm: ord={order!r} has no counterpart for Tensors.")
    values = svdvals(ops.moveaxis(x, axes, (-2, -1)))
    folded = {2: ops.max, -2: ops.min, "nuc": ops.sum}[order](values, axis=-1)
    return ops.expand_dims(folded, axis=axes) if keepdims else folded


# Statistics of several variables


@adapts("cov")
def _(
    m: Array, y: Array | None = None, rowvar: bool = True, bias: bool = False,
    ddof: int | None = None, dtype: Any = None,
) -> Any:  # fmt: skip
    return _covariance(m, y, rowvar, int(not bias) if ddof is None else ddof, dtype)


@adapts("corrcoef")
def _(x: Array, y: Array | None = None, rowvar: bool = True, dtype: Any = None) -> Any:
    found = _covariance(x, y, rowvar, 1, dtype)
    if found.ndim == 0:
        return found / found
    spread = ops.sqrt(ops.real(diagonal(found, 0, 0, 1)))
    return found / spread.reshape(-1, 1) / spread.reshape(1, -1)


def _covariance(m: Tensor, y: Tensor | None, rowvar: bool, ddof: int, dtype: Any) -> Tensor:
    def rows(x: Tensor) -> Tensor:
        if x.ndim > 2:
            raise ShapeError(f"np.cov: takes one or two axes, the shape is {x.shape}.")
        x = x if x.ndim == 2 else x.reshape(1, -1)
        return x if rowvar or x.shape[0] == 1 else x.T

    x = rows(m) if y is None else ops.concat([rows(m), rows(y)], axis=0)
    x = as_float(typed(x, dtype))
    centred = x - ops.mean(x, axis=1, keepdims=True)
    found = centred @ ops.conj(centred.T) / (x.shape[1] - ddof)
    return found.reshape(()) if found.size == 1 else found


@adapts("bincount")
def _(x: Array, weights: Array | None = None, minlength: int = 0) -> Any:
    if weights is None:
        return ops.asarray(np.bincount(x.numpy(), minlength=minlength), device=x.device)
    size = max(minlength, int(ops.max(x).item()) + 1 if x.size else 0)
    return ops.zeros((size,), weights.dtype, weights.device).at[x].add(weights)


# Order and sets


@adapts("sort")
def _(a: Array, axis: int | None = -1) -> Any:
    return ops.sort(flat(a) if axis is None else a, axis=axis or 0)


@adapts("partition")
def _(a: Array, kth: Any, axis: int | None = -1) -> Any:
    return ops.sort(flat(a) if axis is None else a, axis=axis or 0)  # more than is asked for


@adapts("argsort")
def _(a: Array, axis: int | None = -1) -> Any:
    return ops.argsort(flat(a) if axis is None else a, axis=axis or 0)


@adapts("unique")
def _(
    ar: Array, return_index: bool = False, return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:  # fmt: skip
    found = ops.unique_all(ar)
    asked = (True, return_index, return_inverse, return_counts)
    chosen = tuple(value for value, wanted in zip(found, asked, strict=True) if wanted)
    return chosen[0] if len(chosen) == 1 else chosen


@adapts("union1d")
def _(ar1: Array, ar2: Array) -> Any:
    return ops.unique_values(ops.concat([ar1, ar2], axis=None))


@adapts("intersect1d")
def _(ar1: Array, ar2: Array) -> Any:
    first = ops.unique_values(ar1)
    return first[ops.isin(first, ar2)]


@adapts("setdiff1d")
def _(ar1: Array, ar2: Array) -> Any:
    first = ops.unique_values(ar1)
    return first[ops.isin(first, ar2, invert=True)]


@adapts("setxor1d")
def _(ar1: Array, ar2: Array) -> Any:
    first, second = ops.unique_values(ar1), ops.unique_values(ar2)
    apart = [first[ops.isin(first, second, invert=True)]]
    apart.append(second[ops.isin(second, first, invert=True)])
    return ops.sort(ops.concat(apart))


# Along lines: differences, integrals, interpolation, filters


@adapts("diff")
def _(a: Array, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    def end(value: Any) -> Any:
        if value is None:
            return None
        value = as_tensor("diff", value, a)
        shape = [*a.shape]
        shape[axis] = 1
        return value if value.ndim else ops.broadcast_to(value, tuple(shape))

    return ops.diff(a, end(prepend), end(append), axis=axis, n=n)


@adapts("ediff1d")
def _(ary: Array, to_end: Array | None = None, to_begin: Array | None = None) -> Any:
    parts = [to_begin, ops.diff(flat(ary)), to_end]
    return ops.concat([flat(part) for part in parts if part is not None])


@adapts("trapezoid")
def _(y: Array, x: Array | None = None, dx: Any = 1.0, axis: int = -1) -> Any:
    line = ops.moveaxis(y, axis, -1)
    steps = dx
    if x is not None:
        steps = ops.diff(x if x.ndim == 1 else ops.moveaxis(x, axis, -1))
    return ops.sum((line[..., 1:] + line[..., :-1]) * steps, axis=-1) / 2


@adapts("gradient")
def _(f: Any, *spacing: Any, axis: Any = None) -> Any:
    f = as_tensor("gradient", f, first_tensor(spacing))
    axes = shapes.normalize_axes("np.gradient", axis, f.ndim)
    steps = spacing * len(axes) if len(spacing) == 1 else spacing or (1.0,) * len(axes)
    if len(steps) != len(axes):
        raise ShapeError(f"np.gradient: {len(steps)} spacings for {len(axes)} axes.")
    found = tuple(_slope(f, step, axis) for step, axis in zip(steps, axes, strict=True))
    return found[0] if len(found) == 1 else found


def _slope(f: Tensor, step: Any, axis: int) -> Tensor:
    """Return central differences, one-sided at the ends, over even or uneven steps."""
    line = ops.moveaxis(as_float(f), axis, -1)
    if line.shape[-1] < 2:
        raise ShapeError(f"np.gradient: needs two entries along axis {axis}, shape {f.shape}.")
    steps = as_tensor("gradient", step, line)
    apart = ops.diff(steps) if steps.ndim else ops.broadcast_to(steps, (line.shape[-1] - 1,))
    slopes = ops.diff(line) / apart
    before, after = apart[:-1], apart[1:]
    middle = (slopes[..., :-1] * after + slopes[..., 1:] * before) / (before + after)
    whole = ops.concat([slopes[..., :1], middle, slopes[..., -1:]], axis=-1)
    return ops.moveaxis(whole, -1, axis)


@adapts("interp")
def _(x: Array, xp: Array, fp: Array, left: Any = None, right: Any = None) -> Any:
    place = ops.searchsorted(xp.detach(), flat(x.detach()), side="right") - 1
    place = ops.clip(place, 0, xp.size - 2).reshape(x.shape)
    x0, x1 = (ops.take(xp, place + i, axis=0) for i in (0, 1))
    y0, y1 = (ops.take(fp, place + i, axis=0) for i in (0, 1))
    between = y0 + (y1 - y0) * ((x - x0) / (x1 - x0))
    between = ops.where(x < xp[0], fp[0] if left is None else left, between)
    return ops.where(x > xp[-1], fp[-1] if right is None else right, between)


@adapts("convolve")
def _(a: Array, v: Array, mode: str = "full") -> Any:
    return _correlated(*((a, v) if a.size >= v.size else (v, a)), mode)


@adapts("correlate")
def _(a: Array, v: Array, mode: str = "valid") -> Any:
    if a.size < v.size:
        return ops.flip(_correlated(ops.conj(v), ops.flip(a), mode))
    return _correlated(a, ops.flip(ops.conj(v)), mode)


def _correlated(a: Tensor, v: Tensor, mode: str) -> Tensor:
    """Return the convolution of a line with a line that is not longer, as one matrix product."""
    n, m = a.size, v.size
    if a.ndim > 1 or v.ndim > 1 or not m:
        raise ShapeError(f"np.convolve: takes two lines, not {a.shape} and {v.shape}.")
    if mode not in ("full", "same", "valid"):
        raise ValueRangeError(f"np.convolve: mode={mode!r}. Hint: 'full', 'same' or 'valid'.")
    ends = ops.zeros((m - 1,), a.dtype, a.device)
    windows = np.arange(n + m - 1)[:, None] + np.arange(m)[::-1]
    whole = ops.take(ops.concat([ends, flat(a), ends]), windows, axis=0) @ flat(v)
    first, count = {"full": (0, n + m - 1), "same": ((m - 1) // 2, n), "valid": (m - 1, n - m + 1)}[
        mode
    ]
    result: Tensor = whole[first : first + count]
    return result


@adapts("polyval")
def _(p: Array, x: Array) -> Any:
    value = ops.zeros(x.shape, dtypes.promote(p.dtype, x.dtype), x.device)
    for coefficient in ops.unstack(p):
        value = value * x + coefficient
    return value


@adapts("fft.fftshift")
def _(x: Array, axes: Any = None) -> Any:
    return _shifted(x, axes, lambda n: n // 2)


@adapts("fft.ifftshift")
def _(x: Array, axes: Any = None) -> Any:
    return _shifted(x, axes, lambda n: -(n // 2))


def _shifted(x: Tensor, axes: Any, shift: Callable[[int], int]) -> Tensor:
    order = shapes.normalize_axes("fftshift", axes, x.ndim)
    result: Tensor = ops.roll(x, tuple(shift(x.shape[a]) for a in order), axis=order)
    return result


# Functions of functions


@adapts("apply_along_axis")
def _(func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    lines = ops.moveaxis(as_tensor("apply_along_axis", arr), axis, -1)
    axis = shapes.normalize_axis("apply_along_axis", axis, lines.ndim)
    rows = ops.unstack(lines.reshape(-1, lines.shape[-1]))
    results = ops.stack([as_tensor("apply", func1d(row, *args, **kwargs)) for row in rows])
    inner = tuple(range(axis, axis + results.ndim - 1))
    whole = results.reshape(*lines.shape[:-1], *results.shape[1:])
    return ops.moveaxis(whole, tuple(range(lines.ndim - 1, whole.ndim)), inner)


@adapts("apply_over_axes")
def _(func: Callable[..., Any], a: Array, axes: Any) -> Any:
    for axis in (axes,) if hasattr(axes, "__index__") else axes:
        found = func(a, axis)
        a = found if found.ndim == a.ndim else ops.expand_dims(found, axis=axis)
    return a


@adapts("piecewise")
def _(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    x = as_tensor("piecewise", x, first_tensor([condlist]))
    conditions = list(condlist) if isinstance(condlist, (list, tuple)) else [condlist]
    result: Any = ops.zeros_like(x)
    if len(funclist) == len(conditions) + 1:
        rest = ~ops.any(ops.stack([ops.asarray(c) for c in conditions]), axis=0)
        conditions.append(rest)
    if len(funclist) != len(conditions):
        raise ShapeError(f"np.piecewise: {len(funclist)} functions, {len(conditions)} conditions.")
    for condition, function in zip(conditions, funclist, strict=True):
        value = function(x, *args, **kw) if callable(function) else function
        result = ops.where(condition, value, result)
    return result


@adapts("meshgrid")
def _(*xi: Any, copy: bool = True, sparse: bool = False, indexing: Any = "xy") -> Any:
    if sparse:
        raise DTypeError("np.meshgrid: sparse=True has no counterpart for Tensors.")
    return tuple(ops.meshgrid(*xi, indexing=indexing))


@adapts("broadcast_arrays")
def _(*args: Any, subok: bool = False) -> Any:
    shape = shapes.broadcast("broadcast_arrays", *(np.shape(arg) for arg in args))
    return tuple(
        ops.broadcast_to(arg, shape) if isinstance(arg, Tensor) else np.broadcast_to(arg, shape)
        for arg in args
    )
