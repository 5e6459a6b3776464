"""How PyTorch's arguments are spelled in helixml, where more than a keyword differs.

Functions that make a call with PyTorch's parameters, and functions that are such calls; `table`
says for which entry.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any

from parity.lookup import NotOffered, hx

LN2 = 0.6931471805599453


KEYWORDS = {
    "dim": "axis",
    "dims": "axis",
    "keepdim": "keepdims",
    "p": "ord",
    "ord": "ord",
    "device": None,
    "input": "x",
    "other": "y",
}


def by_name(names: str) -> Callable[..., Any]:
    """Return a call of the function of that name, with keywords translated."""

    def call(*args: Any, **kwargs: Any) -> Any:
        renamed = {KEYWORDS.get(key, key): value for key, value in kwargs.items()}
        renamed.pop(None, None)
        return hx.named(names)(*args, **renamed)

    return call


def axes(dim: Any) -> Any:
    """Return ``dim`` as helixml takes it: PyTorch reduces over all axes for an empty tuple."""
    return None if dim is None or dim in ([], ()) else tuple(dim) if isinstance(dim, list) else dim


def shape_of(size: Any) -> tuple[int, ...]:
    """Return a shape that was given as one sequence or as several numbers."""
    flat = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
    return tuple(int(n) for n in flat)


def correction_of(unbiased: Any, correction: Any) -> Any:
    """Return Bessel's correction, which PyTorch applies unless told otherwise."""
    if correction is not None:
        return correction
    return 1 if unbiased is None or unbiased else 0


def dtyped(x: Any, dtype: Any) -> Any:
    """Return ``x`` in ``dtype``, if one is given."""
    return x if dtype is None else hx.astype(x, dtype)


def reduced(name: str) -> Callable[..., Any]:
    """Return a reduction with PyTorch's signature."""

    def call(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        return hx.named(name)(dtyped(x, dtype), axis=axes(dim), keepdims=keepdim)

    return call


def moment(name: str) -> Callable[..., Any]:
    """Return var or std with PyTorch's signature."""

    def call(
        x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, correction: Any = None
    ) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        found = correction_of(unbiased, correction)
        return getattr(hx, name)(x, axis=axes(dim), keepdims=keepdim, correction=found)

    return call


def extreme(name: str) -> Callable[..., Any]:
    """Return (values, positions) along an axis, or the extreme of all."""

    def call(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            return getattr(hx, name)(x)
        values = getattr(hx, name)(x, axis=dim, keepdims=keepdim)
        return values, getattr(hx, "arg" + name)(x, axis=dim, keepdims=keepdim)

    return call


def transform(name: str) -> Callable[..., Any]:
    """Return a Fourier transform along one axis."""
    return lambda x, n=None, dim=-1, norm=None: getattr(hx.fft, name)(
        x, n=n, axis=dim, **given(norm=norm)
    )


def transform_many(name: str, last: bool = False) -> Callable[..., Any]:
    """Return a Fourier transform along several axes."""
    default = (-2, -1) if last else None
    return lambda x, s=None, dim=default, norm=None: getattr(hx.fft, name)(
        x, **given(s=s and tuple(s), axes=(dim,) if isinstance(dim, int) else dim, norm=norm)
    )


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {key: value for key, value in options.items() if value is not None}


def convolution(name: str) -> Callable[..., Any]:
    """Return a convolution with PyTorch's signature."""

    def call(
        x: Any,
        w: Any,
        b: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        sizes = {"stride": stride, "padding": padding, "dilation": dilation}
        options = {key: paired(value) for key, value in sizes.items()}
        function = getattr(hx, name)
        return unbatched(lambda y: function(y, w, b, groups=groups, **options), x, w.ndim)

    return call


def convolution_transpose(name: str) -> Callable[..., Any]:
    """Return a transposed convolution with PyTorch's signature."""

    def call(
        x: Any,
        w: Any,
        b: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        sizes = {
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "dilation": dilation,
        }
        options = {key: paired(value) for key, value in sizes.items()}
        function = getattr(hx, name)
        return unbatched(lambda y: function(y, w, b, groups=groups, **options), x, w.ndim)

    return call


def paired(value: Any) -> Any:
    """Return a size an axis as a number or a tuple."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(value) == 1 else tuple(value)
    return value


def maximum_pool(name: str) -> Callable[..., Any]:
    """Return a maximum pool with PyTorch's signature."""

    def call(
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        pooled = getattr(hx, name)(
            x, paired(kernel_size), stride=paired(stride) or None, padding=paired(padding),
            dilation=paired(dilation), **({"ceil_mode": True} if ceil_mode else {}),
            **({"return_indices": True} if return_indices else {}),
        )  # fmt: skip
        return pooled

    return call


def average_pool(name: str) -> Callable[..., Any]:
    """Return an average pool with PyTorch's signature."""

    def call(
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
    ) -> Any:
        options: dict[str, Any] = {}
        if ceil_mode:
            options["ceil_mode"] = True
        if not count_include_pad:
            options["count_include_pad"] = False
        if divisor_override is not None:
            options["divisor_override"] = divisor_override
        return getattr(hx, name)(
            x,
            paired(kernel_size),
            stride=paired(stride) or None,
            padding=paired(padding),
            **options,
        )

    return call


def padded(x: Any, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    """Return ``x`` padded: PyTorch counts from the last axis, helixml from the first."""
    if isinstance(value, complex) and not value.imag:
        value = value.real
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    return hx.pad(
        x, widths, mode=mode, **({} if value is None or mode != "constant" else {"value": value})
    )


def interpolated(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Any:
    """Return ``x`` resized."""
    options = {} if align_corners is None else {"align_corners": align_corners}
    if antialias:
        raise NotOffered("interpolate(antialias=)")
    if recompute_scale_factor:  # then the sizes alone say how far entries are apart
        scales = paired(scale_factor)
        scales = scales if isinstance(scales, tuple) else (scales,) * (x.ndim - 2)
        size = [int(n * scale) for n, scale in zip(x.shape[2:], scales, strict=True)]
    if size is not None:
        return hx.interpolate(x, size=paired(size), mode=mode, **options)
    return hx.interpolate(x, scale_factor=paired(scale_factor), mode=mode, **options)


def activation(name: str, *parameters: str) -> Callable[..., Any]:
    """Return an activation whose options after ``x`` are ``parameters``."""

    def call(x: Any, *args: Any, inplace: bool = False, **kwargs: Any) -> Any:
        options = dict(zip(parameters, args, strict=False), **kwargs)
        return hx.named(name)(x, **options)

    return call


def factory(name: str) -> Callable[..., Any]:
    """Return ``zeros`` and its like: the shape may come as numbers; other options go."""

    def call(*size: Any, dtype: Any = None, **_: Any) -> Any:
        return getattr(hx, name)(shape_of(size), dtype=dtype)

    return call


def like(name: str) -> Callable[..., Any]:
    """Return ``zeros_like`` and its like."""
    return lambda x, *args, dtype=None, **_: getattr(hx, name)(x, *args, dtype=dtype)


def constant(name: str, value: Any) -> Callable[..., Any]:
    """Return ``new_zeros`` and its like: of another tensor's dtype."""
    return lambda x, *size, dtype=None, **_: getattr(hx, name)(
        shape_of(size), dtype=dtype or x.dtype
    )


def flipped(name: str) -> Callable[..., Any]:
    """Return a binary function with its operands exchanged."""
    return lambda x, y: getattr(hx, name)(y, x)


def divided(x: Any, y: Any, *, rounding_mode: Any = None) -> Any:
    """Return a quotient, rounded as asked."""
    if rounding_mode == "floor":
        return hx.floor_divide(x, y)
    quotient = hx.divide(x, y)
    return quotient if rounding_mode is None else hx.trunc(quotient)


def chunked(x: Any, chunks: int, dim: int = 0) -> Any:
    """Return PyTorch's chunks: as many of ceil(n / chunks) as there are."""
    n = x.shape[dim]
    size = max(-(-n // chunks), 1)
    return split_by(x, size, dim)


def split_by(x: Any, size: Any, dim: int = 0) -> Any:
    """Return parts of one size, or of the sizes given."""
    n = x.shape[dim]
    if isinstance(size, int):
        size = [min(size, n - start) for start in range(0, n, size)] if n else [0]
    return hx.split(x, list(size), axis=dim)


def divided_at(x: Any, where: Any, dim: int = 0) -> Any:
    """Return parts that end at the positions given, or as equal as can be."""
    n = x.shape[dim]
    if not isinstance(where, int) and hasattr(where, "shape"):
        where = where.tolist() if where.ndim else int(where)
    if isinstance(where, int):
        sizes = [n // where + (k < n % where) for k in range(where)]
    else:
        places = [0, *[min(max(p + n if p < 0 else p, 0), n) for p in where], n]
        sizes = [max(b - a, 0) for a, b in pairwise(places)]
    if sum(sizes) != n:  # parts that overlap are slices
        return [
            hx.named("getitem")(x, (slice(None),) * (dim % x.ndim) + (slice(a, b),))
            for a, b in pairwise(places)
        ]
    return hx.split(x, sizes, axis=dim)


def at_axis(x: Any, dim: int, index: Any) -> Any:
    """Return the index that is ``index`` on one axis and everything on the others."""
    return (slice(None),) * (dim % max(x.ndim, 1)) + (index,)


def written(method: str) -> Callable[..., Any]:
    """Return ``x`` with slices of one axis replaced or added to."""

    def call(x: Any, dim: int, index: Any, value: Any, *, alpha: Any = 1) -> Any:
        if x.ndim == 0:
            x = x[None]
            index = index.reshape(-1)
            value = value if isinstance(value, (int, float, complex)) else value.reshape(-1)
            return call(x, 0, index, value, alpha=alpha)[0]
        place = x.at[at_axis(x, dim, index if index.ndim or method != "add" else index[None])]
        if isinstance(value, (int, float, complex)) or alpha == 1:
            return getattr(place, method)(value)
        return getattr(place, method)(value * alpha)

    return call


def put_at(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """Return ``x`` with the entries at ``indices`` replaced or added to."""
    place = x.at[tuple(indices)]
    return place.add(values) if accumulate else place.set(values)


def cumulative(name: str) -> Callable[..., Any]:
    """Return a running sum or product: PyTorch takes scalars too."""

    def call(x: Any, dim: int, *, dtype: Any = None) -> Any:
        function = getattr(hx, name)
        return (
            function(x, axis=dim, dtype=dtype)
            if x.ndim
            else function(x[None], axis=0, dtype=dtype)[0]
        )

    return call


def sorted_pair(x: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """Return (sorted values, positions)."""
    if not x.ndim:
        return x, hx.zeros((), dtype="int64")
    order = {"axis": dim, "descending": descending, "stable": bool(stable)}
    return hx.sort(x, **order), hx.argsort(x, **order)


def identity(x: Any, *_: Any, **__: Any) -> Any:
    """Return ``x``: what PyTorch does to its memory has no counterpart."""
    return hx.copy(x)


def conversion(name: str) -> Callable[..., Any]:
    """Return a cast."""
    return lambda x, **_: hx.astype(x, name)


def window(name: str) -> Callable[..., Any]:
    """Return a window function."""
    return lambda *args, dtype=None, requires_grad=False, device=None, layout=None, **kwargs: (
        hx.named(f"signal.{name} or signal.windows.{name} or {name}")(*args, dtype=dtype, **kwargs)
    )


def chosen(function: str) -> Callable[..., Any]:
    """Return a function of (x, n) whose order comes first in SciPy's spelling."""
    return lambda x, n=None: hx.named(function)(n, x)


def searched(
    x: Any,
    y: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: Any = None,
    sorter: Any = None,
) -> Any:
    """Return positions; where PyTorch takes many sorted rows, one search a row."""
    side = side or ("right" if right else "left")
    if x.ndim == 1:
        found = hx.searchsorted(x, y, sorter, side=side)
    else:
        rows = x.reshape(-1, x.shape[-1]) if x.size else hx.zeros((0, 0))
        goals = y.reshape(rows.shape[0], -1) if y.size else hx.zeros((0, 0))
        orders = (
            sorter.reshape(rows.shape)
            if sorter is not None and sorter.size
            else [None] * rows.shape[0]
        )
        parts = [
            hx.searchsorted(r, g, o, side=side) for r, g, o in zip(rows, goals, orders, strict=True)
        ]
        found = hx.stack(parts).reshape(y.shape) if parts else hx.zeros(y.shape, dtype="int64")
    return dtyped(found, "int32" if out_int32 else None)


def positions(x: Any) -> Any:
    """Return the positions of what is not zero as rows."""
    if not x.ndim:
        return hx.zeros((int(hx.count_nonzero(x)), 0), dtype="int64")
    return hx.stack(hx.nonzero(x), axis=-1)


def gathered(x: Any, dim: int, index: Any) -> Any:
    """Return entries along an axis; PyTorch's index may cover less of the other axes."""
    if not x.ndim or not index.ndim:
        return gathered(x.reshape(1), 0, index.reshape(-1)).reshape(index.shape)
    dim %= x.ndim
    if not index.size:  # and may then have any shape
        return hx.zeros(index.shape, dtype=x.dtype) * (x.sum() if x.size else 0)
    part = x[tuple(slice(None if k == dim else n) for k, n in enumerate(index.shape))]
    return hx.take_along_axis(part, index, axis=dim)


def taken_along(x: Any, indices: Any, dim: Any) -> Any:
    """Return entries along an axis; the other axes broadcast."""
    if dim is None:
        return hx.take_along_axis(x.reshape(-1), indices.reshape(-1), axis=0)
    if not x.ndim:
        return taken_along(x.reshape(1), indices.reshape(1), 0).reshape(())
    dim %= x.ndim
    sizes = [max(m, n) if m and n else 0 for m, n in zip(x.shape, indices.shape, strict=True)]

    def grown(y: Any) -> Any:
        return hx.broadcast_to(y, tuple(y.shape[k] if k == dim else n for k, n in enumerate(sizes)))

    return hx.take_along_axis(grown(x), grown(indices), axis=dim)


def swapped(x: Any, dim0: int, dim1: int) -> Any:
    """Return ``x`` with two axes exchanged."""
    order = list(range(x.ndim))
    if order:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return hx.permute_dims(x, tuple(order))


def squeezed(x: Any, dim: Any = None) -> Any:
    """Return ``x`` without axes of size 1; PyTorch passes over others."""
    if dim is None:
        return hx.squeeze(x)
    named = [dim] if isinstance(dim, int) else list(dim)
    return hx.squeeze(x, axis=tuple(d for d in named if x.ndim and x.shape[d] == 1))


def on_scalars(call: Callable[..., Any], always: bool) -> Callable[..., Any]:
    """Return the same call where a scalar has an axis, as in PyTorch; for some even unnamed."""

    def wrapped(x: Any, *args: Any, **kwargs: Any) -> Any:
        over_all = not args and not set(kwargs) & {"dim", "dims"}
        if getattr(x, "ndim", 1) or (over_all and not always):
            return call(x, *args, **kwargs)
        outputs = call(x.reshape(1), *args, **kwargs)
        if isinstance(outputs, (tuple, list)):
            return tuple(y.reshape(()) for y in outputs)
        return outputs.reshape(())

    return wrapped


def unique(
    x: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: Any = None,
) -> Any:
    """Return the distinct values, and what else is asked."""
    return hx.unique(x, return_inverse=return_inverse, return_counts=return_counts, axis=dim)


def added_product(x: Any, product: Any, beta: Any, alpha: Any) -> Any:
    """Return beta x + alpha product; a beta of 0 means that x is not looked at."""
    scaled = product if alpha == 1 else alpha * product
    if beta == 0:
        return scaled + hx.zeros(x.shape, dtype=scaled.dtype)
    return (x if beta == 1 else beta * x) + scaled


def narrowed(x: Any, dim: int, start: Any, length: int) -> Any:
    """Return ``length`` entries of an axis."""
    start = int(start)
    start += x.shape[dim] if start < 0 else 0
    return x[at_axis(x, dim, slice(start, start + length))]


def sliced(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """Return a slice of an axis."""
    return x[at_axis(x, dim, slice(start, end, step))]


def at_least(n: int) -> Callable[..., Any]:
    """Return ``atleast_1d`` and its like."""

    def one(x: Any) -> Any:
        if n == 3 and x.ndim == 2:
            return x[..., None]
        if n == 3 and x.ndim == 1:
            return x[None, :, None]
        return x[(None,) * max(n - x.ndim, 0)]

    return lambda *xs: (
        [one(x) for x in (xs[0] if isinstance(xs[0], (list, tuple)) else xs)]
        if len(xs) > 1 or isinstance(xs[0], (list, tuple))
        else one(xs[0])
    )


def stacked(n: int, axis: int) -> Callable[..., Any]:
    """Return ``hstack`` and its like."""

    def call(xs: Any) -> Any:
        grown = [at_least(n)(x) for x in xs]
        return hx.concat(grown, axis=0 if axis == 1 and n == 1 and grown[0].ndim == 1 else axis)

    return call


def flattened(x: Any, start: int, end: int) -> Any:
    """Return ``x`` with some axes made one."""
    if not x.ndim:
        return x.reshape(1)
    start, end = start % x.ndim, end % x.ndim
    return x.reshape(*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def expanded(x: Any, size: Any) -> Any:
    """Return ``x`` broadcast; -1 keeps a size."""
    lead = len(size) - x.ndim
    return hx.broadcast_to(
        x, tuple(x.shape[i - lead] if n == -1 else n for i, n in enumerate(size))
    )


def quantiles(name: str) -> Callable[..., Any]:
    """Return quantile or nanquantile, for shares that are given."""

    def call(
        x: Any, q: Any, dim: Any = None, keepdim: bool = False, interpolation: str = "linear"
    ) -> Any:
        shares = q.detach() if hasattr(q, "detach") else q
        if not x.ndim:
            x, dim, keepdim = x.reshape(1), 0, False
        return getattr(hx, name)(x, shares, axis=dim, keepdims=keepdim, method=interpolation)

    return call


def median_of(name: str) -> Callable[..., Any]:
    """Return the lower of the two middle values, as PyTorch does."""
    return lambda x, dim=None, keepdim=False: getattr(hx, name)(
        x, 0.5, axis=dim, keepdims=keepdim, method="lower"
    )


def unbatched(call: Callable[[Any], Any], x: Any, axes: int) -> Any:
    """Return the result for an input that may lack the batch's axis."""
    return call(x[None])[0] if x.ndim < axes else call(x)


def rounded(x: Any, decimals: int = 0) -> Any:
    """Return ``x`` rounded to decimal places."""
    if not decimals:
        return hx.round(x)
    scale = 10.0 ** abs(decimals)
    return hx.round(x * scale) / scale if decimals > 0 else hx.round(x / scale) * scale


def trapezoid(name: str) -> Callable[..., Any]:
    """Return an integral; PyTorch broadcasts the places."""

    def call(y: Any, x: Any = None, dx: float = 1.0, dim: int = -1) -> Any:
        if x is not None and x.ndim > 1:
            x = hx.broadcast_to(x, y.shape)
        return getattr(hx, name)(y, x, dx=dx, axis=dim)

    return call


def sampled(
    x: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: Any = False,
) -> Any:
    """Return samples of a picture."""
    if mode == "bicubic" or padding_mode == "reflection":
        raise NotOffered("grid_sample's bicubic mode and reflection")
    return hx.grid_sample(
        x, grid, mode=mode, padding_mode=padding_mode, align_corners=bool(align_corners)
    )


WAYS = {"add": "add", "sum": "add", "multiply": "multiply", "prod": "multiply"} | {
    "amax": "max",
    "amin": "min",
}


def scattered(x: Any, dim: int, index: Any, value: Any, reduce: Any = None) -> Any:
    """Return ``x`` with values put in; PyTorch's index may cover less of every axis."""
    if not x.ndim:
        value = value.reshape(1) if hasattr(value, "shape") else value
        return scattered(x.reshape(1), 0, index.reshape(-1), value, reduce).reshape(())
    if not index.size:
        return hx.copy(x)
    dim %= x.ndim
    if hasattr(value, "shape"):
        value = value[tuple(slice(0, n) for n in index.shape)]
    part = tuple(slice(None) if k == dim else slice(0, n) for k, n in enumerate(index.shape))
    found = hx.scatter(x[part], index, value, axis=dim, reduce=WAYS[reduce] if reduce else None)
    return x.at[part].set(found)


def scatter_reduced(
    x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool = True
) -> Any:
    """Return ``x`` with values combined into it."""
    if not include_self or reduce == "mean":
        raise NotOffered("scatter(include_self=) and means")
    return scattered(x, dim, index, src, reduce)


def counted(x: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """Return how many values are in each of equal bins."""
    limits = None if min == max == 0 else (float(min), float(max))
    return hx.astype(hx.histogram(x, bins=bins, range=limits)[0], x.dtype)


def histogram_of(
    x: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False
) -> Any:
    """Return counts and edges in the dtype of the values."""
    bins = bins.detach() if hasattr(bins, "detach") else bins
    weight = None if weight is None else weight.detach().reshape(-1)
    found = hx.histogram(x.detach().reshape(-1), weight, bins=bins, range=range, density=density)
    return [hx.astype(part, x.dtype) for part in found]


def diagonal_set(x: Any, values: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """Return ``x`` with a diagonal replaced."""
    moved = hx.moveaxis(x, (dim1, dim2), (-2, -1))
    start = [max(-offset, 0), max(offset, 0)]
    line = hx.arange(values.shape[-1])
    found = moved.at[..., line + start[0], line + start[1]].set(values)
    return hx.moveaxis(found, (-2, -1), (dim1, dim2))


def converted(x: Any, arguments: Any) -> Any:
    """Return ``x`` in the dtype that is among the arguments."""
    for value in arguments:
        if hasattr(value, "dtype"):
            return hx.astype(x, value.dtype)
        if not isinstance(value, (str, bool)):
            return hx.astype(x, value)
    return hx.copy(x)


def transformed(
    x: Any,
    n_fft: int,
    hop_length: Any = None,
    win_length: Any = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: Any = None,
    return_complex: Any = None,
    **_: Any,
) -> Any:
    """Return the transforms of windows; PyTorch leaves what does not fill the last one."""
    if win_length not in (None, n_fft) or normalized or onesided is False or not return_complex:
        raise NotOffered("stft's other scales and sides")
    hop = hop_length or n_fft // 4
    if center:
        half = n_fft // 2
        x = hx.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode=pad_mode)
    x = x[..., : (x.shape[-1] - n_fft) // hop * hop + n_fft]
    ones = hx.ones((n_fft,), dtype=x.dtype) if window is None else window
    return hx.fft.stft(x, n_fft, hop, ones, center=False)


def restored(
    y: Any,
    n_fft: int,
    hop_length: Any = None,
    win_length: Any = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: Any = None,
    length: Any = None,
    return_complex: bool = False,
) -> Any:
    """Return the signal of windows."""
    if win_length not in (None, n_fft) or normalized or onesided is False or return_complex:
        raise NotOffered("istft's other scales and sides")
    if y.shape[-2] != n_fft // 2 + 1:
        raise NotOffered("istft(onesided=False)")
    ones = hx.ones((n_fft,), dtype=hx.real(y).dtype) if window is None else window
    hop = hop_length or n_fft // 4
    return hx.fft.istft(y, n_fft, hop, ones, center=center, **given(length=length))


def first(outputs: Any) -> Any:
    """Return the first output of either side."""
    return outputs[0] if isinstance(outputs, (tuple, list)) else outputs
