"""Statistics of samples: weighted means, covariances, counts in bins."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, NotDifferentiableError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.elementwise import divide, sqrt
from helixml.ops.indexing import take, take_adjoint
from helixml.ops.logic import NO_ORDER
from helixml.ops.movement import as_float, broadcast_to, cast, reshape
from helixml.ops.numbers import conj
from helixml.ops.sorting import searchsorted
from helixml.shapes import Axis

_PARTS = "count real(x) or abs(x), with weights real(w), then imag(w)"


def _wide(x):
    return x.astype(np.result_type(x, np.float64))


def _ptp_oracle(x, axis=None, keepdims=False):
    return np.ptp(x, axis=axis, keepdims=keepdims)


@composite(real_only=NO_ORDER, oracle=_ptp_oracle)
def ptp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the range of the values over axes: the largest minus the smallest.

    Parameters
    ----------
    x : Tensor, not empty over ``axis``.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.

    Returns
    -------
    Tensor, the dtype of ``x``.

    Raises
    ------
    ShapeError : an axis is empty, out of range or named twice.

    Notes
    -----
    Gradient: g where the largest and -g where the smallest was found, shared between ties.
    """
    highest = reduction.max(x, axis=axis, keepdims=keepdims)
    return highest - reduction.min(x, axis=axis, keepdims=keepdims)


@ptp.samples
def _():
    yield sample(floats(3, 4, distinct=True), kinds="uifc")
    yield sample(floats(2, 3, 4, distinct=True), axis=(0, -1), keepdims=True, kinds="uifc")
    yield sample(floats(3, 4, distinct=True), axis=0, kinds="uifc")


ptp.errors(lambda: (Failure(lambda: ptp(blank(2), axis=1), ShapeError, r"axis 1 is out of range"),))


def _average_oracle(x, weights=None, axis=None, keepdims=False):
    return np.average(_wide(x), axis=axis, weights=weights, keepdims=keepdims)


@composite(oracle=_average_oracle)
def average(
    x: Tensor, weights: Tensor | None = None, axis: Axis = None, keepdims: bool = False
) -> Tensor:
    """Return the weighted mean over axes, sum(w x) / sum(w).

    Parameters
    ----------
    x : Tensor, not empty over ``axis``.
    weights : Tensor of the shape of ``x``, or, over one axis, a vector of its size; None for equal
        weights.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.

    Returns
    -------
    Tensor, a float dtype; nan where the weights add up to 0.

    Raises
    ------
    ShapeError : the weights do not fit, or an axis is empty, out of range or named twice.

    Notes
    -----
    Differentiable in both.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.average(hx.tensor([1.0, 2.0]), hx.tensor([3.0, 1.0]))
    tensor(1.25)
    """
    axes = shapes.normalize_axes("average", axis, x.ndim)
    if weights is None:
        return reduction.mean(x, axis=axes, keepdims=keepdims)
    if weights.shape != x.shape:
        if len(axes) != 1 or weights.shape != (x.shape[axes[0]],):
            raise ShapeError(
                f"average: weights are {weights.shape}, x is {x.shape}; over axes {axes} they have "
                "the shape of x, or one axis of the size of the only one."
            )
        weights = reshape(weights, (-1, *(1,) * (x.ndim - axes[0] - 1)))
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"average: has no value over an empty axis of shape {x.shape}.")
    x, weights = as_float(x), as_float(weights)
    weights = broadcast_to(weights, x.shape)
    total = reduction.sum(weights, axis=axes, keepdims=keepdims)
    return divide(reduction.sum(x * weights, axis=axes, keepdims=keepdims), total)


@average.samples
def _():
    positive = floats(3, 4, low=0.1)
    yield sample((3, 4))
    yield sample((3, 4), positive)
    yield sample((3, 4), floats(4, low=0.1), axis=-1)
    yield sample((3, 4), floats(3, low=0.1), axis=0, keepdims=True)
    yield sample((2, 3, 4), floats(2, 3, 4, low=0.1), axis=(0, 2), kinds="f")
    yield sample((2, 3), axis=1)


@average.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: average(x, blank(2), axis=1), ShapeError, r"weights are \(2,\), x is")
    yield Failure(lambda: average(x, blank(3)), ShapeError, r"over axes \(0, 1\)")
    yield Failure(lambda: average(blank(0), blank(0)), ShapeError, r"over an empty axis")


def _cov_oracle(x, rowvar=True, correction=1.0):
    return np.cov(_wide(x), rowvar=rowvar, ddof=correction)


def _deviations(op: str, x: Tensor, rowvar: bool) -> Tensor:
    """Return variables in rows, each minus its mean."""
    if x.ndim > 2 or x.ndim == 0:
        raise ShapeError(f"{op}: takes a vector or a matrix, the shape is {x.shape}.")
    x = as_float(x)
    rows = reshape(x, (1, -1)) if x.ndim == 1 else x if rowvar else x.mT
    if rows.shape[1] == 0:
        raise ShapeError(f"{op}: has no observations, the shape is {x.shape}.")
    return rows - reduction.mean(rows, axis=1, keepdims=True)


@composite(oracle=_cov_oracle)
def cov(x: Tensor, *, rowvar: bool = True, correction: float = 1.0) -> Tensor:
    """Return the covariances of variables, (x - mean)(x - mean)^H / (n - correction).

    Parameters
    ----------
    x : Tensor, (m, n) or (n,): m variables, each observed n times.
    rowvar : variables stand in rows; if false in columns.
    correction : 1 for a sample (Bessel), 0 for the population.

    Returns
    -------
    Tensor, (m, m), or a scalar for one variable; a float dtype.

    Raises
    ------
    ShapeError : ``x`` has no or more than two axes, or there are no observations. ValueRangeError :
    no more than ``correction`` observations.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.cov(hx.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    apart = _deviations("cov", x, rowvar)
    free = apart.shape[1] - dtypes.as_number("cov", "correction", correction)
    if not free > 0:
        raise ValueRangeError(
            f"cov: needs more than {correction} observations, shape {x.shape} has {apart.shape[1]}."
        )
    result = (apart @ conj(apart).mT) * (1 / free)
    return reshape(result, ()) if result.size == 1 else result


def _corrcoef_oracle(x, rowvar=True):
    return np.corrcoef(_wide(x), rowvar=rowvar)


@composite(oracle=_corrcoef_oracle)
def corrcoef(x: Tensor, *, rowvar: bool = True) -> Tensor:
    """Return the correlation coefficients of variables (Pearson), c_ij / sqrt(c_ii c_jj).

    Parameters
    ----------
    x : Tensor, (m, n) or (n,): m variables, each observed n times.
    rowvar : variables stand in rows; if false in columns.

    Returns
    -------
    Tensor, (m, m), or a scalar for one variable; a float dtype. nan for a variable that is
    constant.

    Raises
    ------
    ShapeError : ``x`` has no or more than two axes, or there are no observations.
    """
    apart = _deviations("corrcoef", x, rowvar)
    lengths = sqrt(reduction.sum(reduction.squared_size(apart), axis=1, keepdims=True))
    lines = divide(apart, lengths)
    result = lines @ conj(lines).mT
    return reshape(result, ()) if result.size == 1 else result


for _op in (cov, corrcoef):

    @_op.samples
    def _():
        yield sample((3, 5))
        yield sample((5, 2), rowvar=False)
        yield sample(floats(6, distinct=True), kinds="f", value_only=True)

    def _errors(op):
        def errors():
            yield Failure(lambda: op(blank(1, 2, 3)), ShapeError, r"a vector or a matrix")
            yield Failure(lambda: op(blank(2, 0)), ShapeError, r"has no observations")
            if op is cov:
                yield Failure(lambda: op(blank(2, 1)), ValueRangeError, r"more than 1\.0 observat")

        return errors

    _op.errors(_errors(_op))

# Counting


def _bincount_oracle(x, weights=None, minlength=0):
    x = x.astype(np.int64)
    if weights is None or weights.dtype.kind != "c":
        return np.bincount(x, weights, minlength)
    parts = (np.bincount(x, part, minlength) for part in (weights.real, weights.imag))
    return next(parts) + 1j * next(parts)


@composite(oracle=_bincount_oracle)
def bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """Count how often each number occurs, or add up its weights.

    Parameters
    ----------
    x : Tensor, (n,), integers that are not negative.
    weights : Tensor, (n,), or None.
    minlength : the least length of the result.

    Returns
    -------
    Tensor, (max(x) + 1,) or longer: int64, or the dtype of ``weights``.

    Raises
    ------
    DTypeError : ``x`` holds no integers. ShapeError : ``x`` or ``weights`` have another shape.
    ValueRangeError : a number or ``minlength`` is negative.

    Notes
    -----
    Gradient in the weights: g at each number. The result is as long as the largest number: see
    `segment_sum` for a length of one's own.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.bincount(hx.tensor([0, 2, 2]), minlength=4)
    tensor([1, 0, 2, 0])
    """
    from helixml.ops.creation import ones

    if x.ndim != 1:
        raise ShapeError(f"bincount: takes a vector, the shape is {x.shape}.")
    if dtypes.kind(x.dtype) not in "ui":
        raise DTypeError(f"bincount: takes integers, not {x.dtype}. Hint: x.astype('int64').")
    if weights is not None and weights.shape != x.shape:
        raise ShapeError(f"bincount: weights are {weights.shape}, x is {x.shape}.")
    least = dtypes.as_integer("bincount", "minlength", minlength)
    if least < 0:
        raise ValueRangeError(f"bincount: minlength={least} is negative.")
    host = x._backend.to_numpy(x._array)
    low, high = (int(host.min()), int(host.max())) if host.size else (0, -1)
    if low < 0:
        raise ValueRangeError(f"bincount: {low} is negative.")
    if weights is None:
        weights = ones(x.shape, dtypes.int64, x.device)
    return take_adjoint(weights, x, axis=0, size=max(high + 1, least))


@bincount.samples
def _():
    yield sample(integers(7, high=4))
    yield sample(integers(7, high=4), floats(7), minlength=9, kinds="fc")
    yield sample(integers(0))
    yield sample(integers(0), minlength=2)


@bincount.errors
def _():
    yield Failure(lambda: bincount(np.array([0, -1])), ValueRangeError, r"-1 is negative")
    yield Failure(lambda: bincount(np.array([0]), minlength=-1), ValueRangeError, r"minlength=-1")
    yield Failure(lambda: bincount(blank(2)), DTypeError, r"takes integers, not float32")
    yield Failure(lambda: bincount(np.array([[1]])), ShapeError, r"takes a vector, .* \(1, 1\)")
    yield Failure(
        lambda: bincount(np.array([1]), blank(2)), ShapeError, r"weights are \(2,\), x is \(1,\)"
    )


def _digitize_oracle(x, bins, right=False):
    return np.asarray(np.digitize(x, bins, right))


@composite(real_only=NO_ORDER, oracle=_digitize_oracle)
def digitize(x: Tensor, bins: Tensor, right: bool = False) -> Tensor:
    """Return in which bin each value lies.

    Parameters
    ----------
    x : Tensor, any shape.
    bins : Tensor, (n,), edges in ascending or descending order.
    right : a value on an edge belongs to the bin that the edge ends, in ascending order; otherwise
        to the one that it begins.

    Returns
    -------
    Tensor, int64, of the shape of ``x``, values in [0, n]: i if ``bins[i - 1] <= x < bins[i]``.
    Carries no gradient.

    Raises
    ------
    ShapeError : ``bins`` is no vector. ValueRangeError : it is not in order.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.digitize(hx.tensor([0.5, 1.0, 7.0]), hx.tensor([0.0, 1.0, 2.0]))
    tensor([1, 2, 3])
    """
    if bins.ndim != 1:
        raise ShapeError(f"digitize: bins must be a vector, the shape is {bins.shape}.")
    x, bins = x.detach(), bins.detach()
    if reduction.all(bins[1:] >= bins[:-1]):
        return searchsorted(bins, x, side="left" if right else "right")
    if not reduction.all(bins[1:] <= bins[:-1]):
        raise ValueRangeError("digitize: bins neither ascend nor descend. Hint: sort them.")
    return bins.shape[0] - searchsorted(bins[::-1], x, side="left" if right else "right")


@digitize.samples
def _():
    line = values(-1.0, 0.0, 0.0, 1.5)
    yield sample((3, 4), line)
    yield sample(values(-1.0, 0.0, 1.5, -2.0, 9.0), line, right=True)
    yield sample(values(-1.0, 0.0, 1.5, -2.0, 9.0), values(1.5, 0.0, -1.0))
    yield sample(values(-1.0, 0.0, 1.5, -2.0, 9.0), values(1.5, 0.0, -1.0), right=True)
    yield sample((), floats(0))


@digitize.errors
def _():
    x = blank(2)
    yield Failure(lambda: digitize(x, blank(1, 2)), ShapeError, r"bins must be a vector")
    yield Failure(
        lambda: digitize(x, np.array([0.0, 2.0, 1.0])), ValueRangeError, r"neither ascend nor desc"
    )


class Histogram(NamedTuple):
    """What `histogram` gives."""

    counts: Tensor
    edges: Tensor


def _histogram_oracle(x, weights=None, *, bins=10, range=None, density=False):
    counts, edges = np.histogram(x, bins, range, density, weights)
    return counts, edges.astype(x.dtype if x.dtype.kind == "f" else np.float64)


@composite(real_only=_PARTS, oracle=_histogram_oracle)
def histogram(
    x: Tensor,
    weights: Tensor | None = None,
    *,
    bins: Any = 10,
    range: Any = None,
    density: bool = False,
) -> Histogram:
    """Count values in bins.

    Parameters
    ----------
    x : Tensor, any shape, real and finite.
    weights : Tensor of the shape of ``x``: what each value counts; None for 1.
    bins : how many bins of equal width, or their edges (list, array or Tensor), ascending. Each bin
        holds its lower edge, and the last one its upper edge too.
    range : (lowest, highest) edge where ``bins`` is a number; those of the values if left out.
        Values outside count nowhere.
    density : divide by the total and by the widths, so that the integral is 1.

    Returns
    -------
    counts : Tensor, (number of bins,): int64; with weights the dtype that these and ``x`` promote
        to; for a density a float.
    edges : Tensor, (number of bins + 1,), a float dtype.

    Raises
    ------
    ValueRangeError : ``bins`` or ``range`` do not ascend, there are no bins, or a value that the
    range is taken from is not finite. ShapeError : ``weights`` or ``bins`` have another shape.

    Notes
    -----
    Gradient in the weights. Nothing carries one to ``x``: bins are looked up in host memory, and
    edges that are taken from the values are constants.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.histogram(hx.tensor([0.0, 1.0, 1.5, 2.0]), bins=2)
    Histogram(counts=tensor([1, 3]), edges=tensor([0., 1., 2.]))
    """
    from helixml.ops.creation import ones

    if weights is not None and weights.shape != x.shape:
        raise ShapeError(f"histogram: weights are {weights.shape}, x is {x.shape}.")
    host = x._backend.to_numpy(x._array).astype(np.float64).reshape(-1)
    edges = _edges(host, bins, range)
    count = len(edges) - 1
    place = np.searchsorted(edges, host, side="right") - 1
    place[host == edges[-1]] = count - 1
    kept = np.flatnonzero((place >= 0) & (place < count))
    common = x.dtype
    if weights is None:
        weights = ones(x.shape, dtypes.int64, x.device)
    else:
        common = dtypes.result_type(common, weights.dtype)
        weights = cast(weights, common)
    inside = take(reshape(weights, (-1,)), as_tensor("histogram", kept, x), axis=0)
    spots = as_tensor("histogram", place[kept], x)
    counts = take_adjoint(inside, spots, axis=0, size=count)
    common = dtypes.as_float(common)
    if density:
        widths = as_tensor("histogram", np.diff(edges).astype(common), x)
        counts = cast(counts, common) / (cast(reduction.sum(counts), common) * widths)
    return Histogram(counts, as_tensor("histogram", edges.astype(common), x))


def _edges(x: Any, bins: Any, limits: Any) -> Any:
    """Return the edges of the bins, in float64."""
    if isinstance(bins, Tensor):
        if bins.requires_grad:
            raise NotDifferentiableError(
                "histogram: has no derivative with respect to 'bins'. Hint: bins.detach()."
            )
        bins = bins.numpy()
    if isinstance(bins, np.ndarray) or not hasattr(bins, "__index__"):
        try:
            edges = np.asarray(bins).astype(np.float64)
        except (TypeError, ValueError):
            raise DTypeError(f"histogram: bins must be numbers, not {bins!r:.80}.") from None
        if edges.ndim != 1 or edges.size < 2:
            raise ShapeError(f"histogram: bins has shape {edges.shape}, not two edges or more.")
        if not (edges[1:] >= edges[:-1]).all():
            raise ValueRangeError("histogram: the edges of the bins do not ascend.")
        return edges
    count = dtypes.as_integer("histogram", "bins", bins)
    if count < 1:
        raise ValueRangeError(f"histogram: bins={count}, must be at least 1.")
    if limits is None:
        low, high = (x.min(), x.max()) if x.size else (0.0, 1.0)
    else:
        if not isinstance(limits, (tuple, list)) or len(limits) != 2:
            raise DTypeError(f"histogram: range must be two numbers, not {limits!r:.80}.")
        low, high = (float(dtypes.as_number("histogram", "range", edge)) for edge in limits)
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueRangeError(f"histogram: the range from {low} to {high} is none.")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, count + 1)


@histogram.samples
def _():
    edges = [-1.0, 0.0, 0.5, 1.0]
    yield sample((3, 4), bins=edges, kinds="uifc")
    yield sample(values(-1.0, 0.0, 0.5, 1.0, 1.0, 3.0), bins=edges, kinds="uifc")
    yield sample(values(0.0, 1.0, 2.0, 4.0, 4.0), bins=4, kinds="uifc", value_only=True)
    yield sample(values(3.0, 3.0), bins=2, kinds="uifc", value_only=True)
    yield sample((3, 4), bins=3, range=(-1.5, 1.5), kinds="f")
    yield sample(floats(0), bins=3, kinds="uifc")
    yield sample(floats(4, high=1.0), floats(4), bins=2, range=(-2, 1), kinds="f")
    yield sample(integers(4), floats(4), bins=3, range=(0, 3), kinds="f")
    yield sample(values(0.0, 1.0, 2.0, 4.0), bins=[0, 1, 4], density=True, kinds="f",
                 value_only=True)  # fmt: skip


@histogram.errors
def _():
    x = blank(2)
    yield Failure(lambda: histogram(x, bins=0), ValueRangeError, r"bins=0, must be at least 1")
    yield Failure(lambda: histogram(x, bins=[1, 0]), ValueRangeError, r"bins do not ascend")
    yield Failure(lambda: histogram(x, bins=[1]), ShapeError, r"\(1,\), not two edges or more")
    yield Failure(lambda: histogram(x, range=(1, 0)), ValueRangeError, r"from 1\.0 to 0\.0 is none")
    yield Failure(lambda: histogram(x / x), ValueRangeError, r"from nan to nan is none")
    yield Failure(lambda: histogram(x, blank(3)), ShapeError, r"weights are \(3,\), x is \(2,\)")
