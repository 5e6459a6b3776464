"""NumPy's reductions, products, statistics and signals, written in ops for Tensors.

The other half of `numpy_functions`, which says how an adapter looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from helixml import dtypes, ops, shapes
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.matrices import diagonal
from helixml.ops.movement import as_float
from helixml.ops.norms import cond
from helixml.ops.numpy_protocol import adapts, first_tensor, flat, host, typed
from helixml.ops.pseudo_inverse import lstsq
from helixml.ops.singular_values import svd, svdvals

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


@adapts("percentile")
def _(
    a: Array, q: Any, axis: Any = None, method: Any = "linear", keepdims: bool = False
) -> Any:  # fmt: skip
    return ops.quantile(a, _shares(q), axis=axis, keepdims=keepdims, method=method)


@adapts("nanpercentile")
def _(
    a: Array, q: Any, axis: Any = None, method: Any = "linear", keepdims: bool = False
) -> Any:  # fmt: skip
    return ops.nanquantile(a, _shares(q), axis=axis, keepdims=keepdims, method=method)


def _shares(percents: Any) -> Any:
    return np.asarray(host(percents), np.float64) / 100


def _without_nan(x: Tensor, value: float) -> Tensor:
    result: Tensor = ops.where(ops.isnan(x), value, x) if dtypes.kind(x.dtype) in "fc" else x
    return result


@adapts("nansum")
def _(a: Array, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return ops.nansum(typed(a, dtype), axis=axis, keepdims=keepdims)


@adapts("nanprod")
def _(a: Array, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return ops.nanprod(typed(a, dtype), axis=axis, keepdims=keepdims)


@adapts("nanmean")
def _(a: Array, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return ops.nanmean(typed(a, dtype), axis=axis, keepdims=keepdims)


@adapts("nanvar")
def _(
    a: Array, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: bool = False,
    correction: Any = None,
) -> Any:  # fmt: skip
    return _centred(ops.nanvar, a, dtype, ddof, correction, axis=axis, keepdims=keepdims)


@adapts("nanstd")
def _(
    a: Array, axis: Any = None, dtype: Any = None, ddof: Any = 0, keepdims: bool = False,
    correction: Any = None,
) -> Any:  # fmt: skip
    return _centred(ops.nanstd, a, dtype, ddof, correction, axis=axis, keepdims=keepdims)


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


@adapts("einsum")
def _(*operands: Any, optimize: Any = False) -> Any:
    if not isinstance(operands[0], str):
        raise DTypeError("np.einsum: takes subscripts as text here. Hint: np.einsum('ij,jk', x, y)")
    like = first_tensor(operands[1:])
    arrays = [as_tensor("einsum", x, like) for x in operands[1:]]
    return ops.einsum(operands[0], *arrays, optimize=optimize)


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


@adapts("cross")
def _(
    a: Array, b: Array, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    return _cross(a, b, axisa, axisb, axisc)


def _cross(a: Tensor, b: Tensor, axisa: int, axisb: int, axisc: int) -> Tensor:
    a, b = ops.moveaxis(a, axisa, -1), ops.moveaxis(b, axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ShapeError(f"np.cross: takes vectors of 3, not {a.shape[-1]} and {b.shape[-1]}.")
    turned = [ops.roll(x, shift, axis=-1) for shift in (-1, 1) for x in (a, b)]
    product = turned[0] * turned[3] - turned[2] * turned[1]
    return ops.moveaxis(product, -1, axisc)


# Linear algebra


@adapts("linalg.cond")
def _(x: Array, p: Any = None) -> Any:
    return cond(x, ord=2 if p is None else p)


@adapts("linalg.lstsq")
def _(a: Array, b: Array, rcond: Any = None) -> Any:
    found = lstsq(a, b, rtol=rcond)
    summed = a.shape[0] > a.shape[1] and int(found.rank.item()) == a.shape[1]
    residuals = found.residuals.reshape(-1) if summed else ops.zeros((0,), a.dtype, a.device)
    return found.solution, residuals, found.rank, found.singular_values


@adapts("linalg.svd")
def _(a: Array, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    return svd(a, full_matrices=full_matrices) if compute_uv else svdvals(a)


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
    spread = ops.sqrt(ops.real(diagonal(found)))
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


@adapts("histogram")
def _(
    a: Array, bins: Any = 10, range: Any = None, density: Any = None, weights: Array | None = None
) -> Any:  # fmt: skip
    return ops.histogram(a, weights, bins=bins, range=range, density=bool(density))


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


@adapts("gradient")
def _(f: Any, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    f = as_tensor("gradient", f, first_tensor(spacing))
    steps = spacing if len(spacing) > 1 else spacing[0] if spacing else 1.0
    return ops.gradient(f, steps, axis=axis, edge_order=edge_order)


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
