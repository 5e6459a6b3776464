"""Quantisation: finding scales and zero points, and training a model that will live with them.

The arithmetic is in `helixml.quantize`, `dequantize` and `fake_quantize`. Here: `min_max`,
`percentile` and `least_squares`, which choose scale and zero point for given values; `FakeQuantize`
and `quantize_aware`, for training; `QuantizedLinear` and `convert`, for what was trained;
`store_weights`, for models that were trained without, whose weights shall take less memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import helixml as hx
from helixml import nn
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.nn.layers import check_ids

__all__ = [
    "AwareLinear",
    "FakeQuantize",
    "QuantizedLinear",
    "StoredEmbedding",
    "StoredLinear",
    "StoredMatrix",
    "convert",
    "least_squares",
    "min_max",
    "percentile",
    "quantize_aware",
    "store_weights",
]

Pair = tuple[hx.Tensor, hx.Tensor]  # scale and zero point

# Calibration


def min_max(
    x: hx.Tensor, *, axis: int | None = None, symmetric: bool = False, dtype: Any = "int8"
) -> Pair:
    """Return scale and zero point with which the whole range of values is held.

    Parameters
    ----------
    x : Tensor, at least one entry, float, finite.
    axis : int, where the channels are, each of which gets its own; None for one pair for all.
    symmetric : whether 0 stands for 0 (for weights), instead of the range being used to its ends.
    dtype : int8, uint8, int16 or uint16.

    Returns
    -------
    scale : Tensor, () or (c,), float32 or float64. zero_point : Tensor, same shape, int32.

    Raises
    ------
    ShapeError : x is empty. DTypeError : it is no float. ValueRangeError : it has inf or nan.

    Notes
    -----
    0 is always held exactly, and every value with an error of at most scale / 2.

    Examples
    --------
    >>> import helixml as hx
    >>> scale, zero_point = hx.quantization.min_max(hx.tensor([-1.0, 4.1]))
    >>> scale, zero_point
    (tensor(0.02), tensor(-78, dtype=int32))
    """
    rows = _rows("min_max", x, axis)
    return _pair(hx.min(rows, axis=-1), hx.max(rows, axis=-1), symmetric, dtype)


def percentile(
    x: hx.Tensor,
    share: float = 99.9,
    *,
    axis: int | None = None,
    symmetric: bool = False,
    dtype: Any = "int8",
) -> Pair:
    """Return scale and zero point for the values between two percentiles: what is beyond is cut.

    Parameters
    ----------
    x, axis, symmetric, dtype : as for `min_max`.
    share : percent of the values that are kept on each side, in (50, 100].

    Returns
    -------
    As `min_max`, whose result it is for 100.

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `min_max`, and for another share.
    """
    if not 50 < share <= 100:
        raise ValueRangeError(f"percentile: share={share} must be above 50 and at most 100.")
    rows = hx.sort(_rows("percentile", x, axis), axis=-1)
    last = rows.shape[-1] - 1
    place = last * share / 100
    return _pair(_between(rows, last - place), _between(rows, place), symmetric, dtype)


def _between(rows: hx.Tensor, place: float) -> Any:
    """Return what stands at a place in sorted rows, with what lies between two of them."""
    below = int(place)
    above = min(below + 1, rows.shape[-1] - 1)
    return rows[..., below] + (rows[..., above] - rows[..., below]) * (place - below)


def least_squares(
    x: hx.Tensor,
    *,
    axis: int | None = None,
    symmetric: bool = False,
    dtype: Any = "int8",
    steps: int = 50,
) -> Pair:
    """Return scale and zero point with the least squared error among shares of the range.

    Parameters
    ----------
    x, axis, symmetric, dtype : as for `min_max`.
    steps : how many shares of the range are tried, from all of it down to 1 / steps.

    Returns
    -------
    As `min_max`, whose squared error it never exceeds.

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `min_max`, and for steps < 1.
    """
    if steps < 1:
        raise ValueRangeError(f"least_squares: steps={steps} must be 1 or more.")
    rows = _rows("least_squares", x, axis)
    low, high = hx.min(rows, axis=-1), hx.max(rows, axis=-1)
    place = None if axis is None else 0
    best: Any = None
    for step in range(steps, 0, -1):
        scale, zero_point = _pair(low * (step / steps), high * (step / steps), symmetric, dtype)
        held = hx.fake_quantize(rows, scale, zero_point, axis=place, dtype=dtype)
        error = hx.sum(hx.square(held - rows), axis=-1)
        if best is None:
            best = error, scale, zero_point
        else:
            better = error < best[0]
            now = error, scale, zero_point
            best = tuple(hx.where(better, a, b) for a, b in zip(now, best, strict=True))
    return best[1], best[2]


def _rows(op: str, x: hx.Tensor, axis: int | None) -> Any:
    """Return the values of each channel in a row, (c, n), or of all, (n,), without a graph."""
    x = hx.asarray(x)
    if not hx.dtypes.is_floating(x.dtype):
        raise DTypeError(f"{op}: x must be a float, not {x.dtype}.")
    if x.size == 0:
        raise ShapeError(f"{op}: there are no values in shape {x.shape}.")
    if not hx.all(hx.isfinite(x)):
        raise ValueRangeError(f"{op}: x has inf or nan, which no integers hold.")
    wide = hx.astype(x.detach(), hx.dtypes.accumulation(x.dtype))
    if axis is None:
        return hx.reshape(wide, (-1,))
    moved = hx.moveaxis(wide, axis, 0)
    return hx.reshape(moved, (moved.shape[0], -1))


def _pair(low: Any, high: Any, symmetric: bool, dtype: Any) -> Pair:
    """Return scale and zero point for ranges, which are widened to hold 0."""
    info = hx.iinfo(hx.dtypes.parse(dtype))
    least, most = int(info.min), int(info.max)
    low, high = hx.minimum(low, 0), hx.maximum(high, 0)
    if symmetric:
        middle = 0 if least else (most + 1) // 2  # unsigned: 0 is in the middle
        scale = hx.maximum(high, -low) / (most - middle)
    else:
        scale = (high - low) / (most - least)
    # Nothing but zeros: any scale holds them. One that is subnormal would lose its digits.
    tiny = float(hx.finfo(scale.dtype).smallest_normal)
    scale = hx.where(scale < tiny, 1.0, scale)
    if symmetric:
        zero_point = hx.full_like(scale, middle)
    else:
        zero_point = hx.clip(hx.round(least - low / scale), least, most)
    return scale, hx.astype(zero_point, "int32")


# Training


class FakeQuantize(nn.Module):
    """Round activations as quantisation would, with gradients that pass through.

    The range is a running mean of the ranges of the batches seen in training.

    Parameters
    ----------
    momentum : number in (0, 1], the weight of a new batch; the first one sets the range.
    dtype : int8, uint8, int16 or uint16.

    Attributes
    ----------
    low, high : Buffer, (), float32. seen : Buffer, (), int64, how many batches were seen.

    References
    ----------
    Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", section 3.1.

    Examples
    --------
    >>> import helixml as hx
    >>> rounded = hx.quantization.FakeQuantize()
    >>> rounded(hx.tensor([0.0, 0.6, 255.0]))
    tensor([  0.,   1., 255.])
    """

    def __init__(self, momentum: float = 0.1, dtype: Any = "int8") -> None:
        if not 0 < momentum <= 1:
            raise ValueRangeError(f"FakeQuantize: momentum={momentum} must be in (0, 1].")
        self.momentum = momentum
        self.dtype = dtype
        self.low = nn.Buffer(hx.zeros(()))
        self.high = nn.Buffer(hx.zeros(()))
        self.seen = nn.Buffer(hx.zeros((), "int64"))

    def forward(self, x: hx.Tensor) -> Any:
        """Return x, rounded to what integers hold; x itself before any batch was seen."""
        if self.training and x.size:
            self.observe(x)
        if not self.seen.item():
            return x
        scale, zero_point = self.pair()
        y = hx.fake_quantize(x, scale, zero_point, dtype=self.dtype)
        return hx.astype(y, x.dtype)

    def observe(self, x: hx.Tensor) -> None:
        """Move the range toward that of ``x``."""
        rows = _rows("FakeQuantize", x, None)
        share = self.momentum if self.seen.item() else 1.0
        with hx.no_grad():
            for buffer, now in ((self.low, hx.min(rows)), (self.high, hx.max(rows))):
                buffer.assign_(buffer + (hx.astype(now, "float32") - buffer) * share)
            self.seen.assign_(self.seen + 1)

    def pair(self) -> Pair:
        """Return scale and zero point of the range."""
        return _pair(self.low, self.high, False, self.dtype)


class AwareLinear(nn.Module):
    """A `Linear` that computes with what quantisation will leave of weights and activations.

    Weights are rounded symmetrically, each output channel by its own scale.

    Parameters
    ----------
    linear : Linear, whose parameters it takes over.
    momentum, dtype : as for `FakeQuantize`.
    """

    def __init__(self, linear: nn.Linear, momentum: float = 0.1, dtype: Any = "int8") -> None:
        self.weight = linear.weight
        self.bias = linear.bias
        self.dtype = dtype
        self.activation = FakeQuantize(momentum, dtype)

    def forward(self, x: hx.Tensor) -> Any:
        """Map the last axis of x, (..., in_features) to (..., out_features)."""
        scale, zero_point = min_max(self.weight, axis=0, symmetric=True, dtype=self.dtype)
        weight = hx.fake_quantize(self.weight, scale, zero_point, axis=0, dtype=self.dtype)
        return hx.linear(self.activation(x), weight, self.bias)


class QuantizedLinear(nn.Module):
    """A `Linear` whose weights are stored as integers, for inference.

    Computes in floats, with the values that an `AwareLinear` has after its training.

    Parameters
    ----------
    aware : AwareLinear.

    Attributes
    ----------
    weight : Buffer, (out_features, in_features), integer. scale, zero_point : Buffer,
        (out_features,). bias : Buffer, (out_features,), or None.
    """

    def __init__(self, aware: AwareLinear) -> None:
        pair = min_max(aware.weight, axis=0, symmetric=True, dtype=aware.dtype)
        weight = hx.quantize(aware.weight, *pair, axis=0, dtype=aware.dtype)
        self.weight = nn.Buffer(weight)
        self.scale, self.zero_point = nn.Buffer(pair[0]), nn.Buffer(pair[1])
        self.bias = None if aware.bias is None else nn.Buffer(aware.bias.detach())
        self.activation = aware.activation.eval()

    def forward(self, x: hx.Tensor) -> Any:
        """Map the last axis of x, (..., in_features) to (..., out_features)."""
        weight = hx.dequantize(self.weight, self.scale, self.zero_point, axis=0)
        return hx.linear(self.activation(x), weight, self.bias)


def quantize_aware(model: nn.Module, *, momentum: float = 0.1, dtype: Any = "int8") -> Any:
    """Put an `AwareLinear` in the place of every `Linear` of a model, which then is to be trained.

    Parameters
    ----------
    model : Module; changed in place, its parameters stay the same objects.
    momentum, dtype : as for `FakeQuantize`.

    Returns
    -------
    The model; an AwareLinear, if it is a Linear itself.
    """
    return _replaced(model, nn.Linear, lambda found: AwareLinear(found, momentum, dtype))


def convert(model: nn.Module) -> Any:
    """Put a `QuantizedLinear` in the place of every `AwareLinear` of a model, in place.

    Returns
    -------
    The model; a QuantizedLinear, if it is an AwareLinear itself.
    """
    return _replaced(model, AwareLinear, QuantizedLinear)


# Storage


class StoredMatrix(nn.Module):
    """A matrix kept as int8 with a scale for each channel, or as bfloat16.

    Parameters
    ----------
    weight : Tensor, (m, n), float.
    dtype : "int8", symmetric, so that 0 stays 0, or "bfloat16".
    axis : 0 or 1, where the channels are.

    Attributes
    ----------
    stored : Buffer, (m, n). scale : Buffer, (m,) or (n,), or None. weight : the matrix in floats.
    """

    def __init__(
        self, weight: hx.Tensor, dtype: Literal["int8", "bfloat16"], axis: int = 0
    ) -> None:
        if dtype not in ("int8", "bfloat16"):
            raise DTypeError(f"store_weights: dtype={dtype!r}. Hint: 'int8' or 'bfloat16'.")
        self.dtype = hx.dtypes.accumulation(weight.dtype)  # that ``weight`` has
        self.axis = axis
        weight = weight.detach()
        self.scale = None
        if dtype == "int8":
            self.scale = nn.Buffer(min_max(weight, axis=axis, symmetric=True)[0])
            self.stored = nn.Buffer(hx.quantize(weight, self.scale, axis=axis))
        else:
            self.stored = nn.Buffer(weight.astype("bfloat16"))

    @property
    def weight(self) -> hx.Tensor:
        """The matrix in floats, made anew each time."""
        floats: hx.Tensor = self.stored.astype(self.dtype)
        return floats if self.scale is None else floats * hx.expand_dims(self.scale, 1 - self.axis)

    def _map(self, x: hx.Tensor, bias: hx.Tensor | None = None) -> hx.Tensor:
        """Return x W^T + b, the matrix read as it is stored where there is a kernel for that."""
        y: hx.Tensor
        if x.dtype == self.dtype and self.axis == 0:
            y = hx.stored_linear(x, self.stored, self.scale, bias)
        else:
            y = hx.linear(x, self.weight, bias)
        return y

    def extra(self) -> str:
        """Return the sizes."""
        return f"{self.stored.shape} {self.stored.dtype.name}"


class StoredLinear(StoredMatrix):
    """A `Linear` whose matrix takes less memory; computes in floats.

    Parameters
    ----------
    linear : Linear, whose bias it takes over.
    dtype : "int8", each output channel with its own scale and 0 for 0, or "bfloat16".

    Attributes
    ----------
    stored : Buffer, (out_features, in_features). scale : Buffer, (out_features,), or None.
    weight : the matrix in floats. bias : Parameter, (out_features,), or None.
    """

    def __init__(self, linear: nn.Linear, dtype: Literal["int8", "bfloat16"]) -> None:
        super().__init__(linear.weight, dtype)
        self.bias = linear.bias

    def forward(self, x: hx.Tensor) -> Any:
        """Map the last axis of x, (..., in_features) to (..., out_features)."""
        return self._map(x, self.bias)

    def matrix(self) -> tuple[hx.Tensor, hx.Tensor | None]:
        """Return the matrix and its scale as they are stored; see `nn.Linear.matrix`."""
        return self.stored, self.scale


class StoredEmbedding(StoredMatrix):
    """An `Embedding` whose table takes less memory; gives floats.

    Parameters
    ----------
    embedding : Embedding.
    dtype : "int8", each vector with its own scale and 0 for 0, or "bfloat16".

    Attributes
    ----------
    stored : Buffer, (num_embeddings, features). scale : Buffer, (num_embeddings,), or None.
    weight : the table in floats.
    """

    def __init__(self, embedding: nn.Embedding, dtype: Literal["int8", "bfloat16"]) -> None:
        super().__init__(embedding.weight, dtype)

    def forward(self, ids: hx.Tensor) -> hx.Tensor:
        """Return vectors, (...) integers to (..., features).

        Raises
        ------
        IndexingError : an id is negative, or not below num_embeddings.
        """
        check_ids(ids)
        rows: hx.Tensor = hx.take(self.stored, ids, axis=0).astype(self.dtype)
        if self.scale is None:
            return rows
        scaled: hx.Tensor = rows * hx.expand_dims(hx.take(self.scale, ids, axis=0), -1)
        return scaled

    def logits(self, x: hx.Tensor) -> hx.Tensor:
        """Return x W^T, (..., features) to (..., num_embeddings); see `Embedding.logits`."""
        return self._map(x)


STORED: Mapping[type[nn.Module], type[StoredMatrix]] = {
    nn.Linear: StoredLinear,
    nn.Embedding: StoredEmbedding,
}


def store_weights(
    model: nn.Module,
    dtype: Literal["int8", "bfloat16"],
    kinds: Mapping[type[nn.Module], type[StoredMatrix]] = STORED,
) -> Any:
    """Store the matrix of every `Linear` and `Embedding` of a model in fewer bytes, in place.

    Parameters
    ----------
    model : Module; what is no such matrix (biases, norms, convolutions) stays as it is.
    dtype : "int8", a byte for each number and a scale for each row, or "bfloat16", two bytes.
    kinds : which class takes the place of which, for models with further layers of a matrix; it
        is called with the module and the dtype.

    Returns
    -------
    The model; a StoredLinear or StoredEmbedding, if it is a Linear or Embedding itself.

    Raises
    ------
    DTypeError : another dtype. ValueRangeError : a weight is inf or nan, which int8 cannot hold.

    Notes
    -----
    A weight moves by at most scale / 2 in int8, where scale is the row's largest / 127, and by
    2^-9 of itself in bfloat16. For a few rows, as those of one token, a matrix is read as it is
    stored, which saves time too; for more, floats are made for each call. See `stored_linear`.

    References
    ----------
    Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", eq. 1, with Z = 0; activations stay floats here.

    Examples
    --------
    >>> import helixml as hx
    >>> linear = hx.nn.Linear(100, 10, rng=hx.random.Rng(0))
    >>> sum(tensor.nbytes for tensor in linear.state_dict().values())
    4040
    >>> stored = hx.quantization.store_weights(linear, "int8")
    >>> sum(tensor.nbytes for tensor in stored.state_dict().values())
    1080
    """
    for kind, stored in kinds.items():
        make: Any = stored  # Any: each takes the module, and not its matrix alone
        model = _replaced(model, kind, lambda found, make=make: make(found, dtype))
    return model


def _replaced(model: nn.Module, kind: Any, make: Any, made: dict[int, Any] | None = None) -> Any:
    """Return the model with other modules; one that stands in several places stays one."""
    made = {} if made is None else made
    if id(model) in made:
        return made[id(model)][1]
    if type(model) is kind:
        made[id(model)] = model, make(model)  # the old one too: its id must not be used again
        return made[id(model)][1]
    made[id(model)] = model, model
    for name, child in list(model.children()):
        if isinstance(child, nn.Module):
            setattr(model, name, _replaced(child, kind, make, made))
    return model
