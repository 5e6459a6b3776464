"""Layers without memory: linear maps, embeddings, normalisation, dropout."""

from __future__ import annotations

from functools import partial
from typing import Any

import helixml as hx
from helixml.errors import IndexingError, ValueRangeError
from helixml.nn import init
from helixml.nn.module import Module
from helixml.nn.parameter import Parameter

__all__ = ["Dropout", "Embedding", "Linear", "RMSNorm"]


def at_least_one(layer: str, **sizes: int) -> None:
    """Raise ValueRangeError unless all ``sizes`` are 1 or more."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueRangeError(f"{layer}: {name}={value}, must be at least 1.")


def plain_map(layer: Any) -> tuple[hx.Tensor, hx.Tensor | None, hx.Tensor | None] | None:
    """Return the (matrix, scale, bias) of a layer, for an op that does its work beside other work.

    The layer is then `stored_linear` of them. None where it may be more: the class that defines
    its ``forward`` defines no ``matrix``, or there are hooks.
    """
    last = next(kind for kind in type(layer).__mro__ if "forward" in vars(kind))
    if layer._hooks_before or layer._hooks_after or "matrix" not in vars(last):
        return None
    return *layer.matrix(), layer.bias


class Linear(Module):
    """y = x W^T + b; see `helixml.linear`.

    Parameters
    ----------
    in_features, out_features : int.
    bias : whether there is a b.
    rng : the stream for starting values.

    Attributes
    ----------
    weight : Parameter, (out_features, in_features). bias : Parameter, (out_features,), or None.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.nn.Linear(3, 2)(hx.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rng: hx.random.Rng | None = None,
    ) -> None:
        at_least_one("Linear", in_features=in_features, out_features=out_features)
        shape = (out_features, in_features)
        self.weight = Parameter(init.fan_in_uniform(shape, in_features, rng))
        self.bias = (
            Parameter(init.fan_in_uniform((out_features,), in_features, rng), decay=False)
            if bias
            else None
        )

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Map the last axis of x, (..., in_features) to (..., out_features)."""
        y: hx.Tensor = hx.linear(x, self.weight, self.bias)
        return y

    def matrix(self) -> tuple[hx.Tensor, None]:
        """Return the matrix that `forward` multiplies with, and no scale; see `plain_map`."""
        return self.weight, None

    def extra(self) -> str:
        """Return the sizes."""
        out_features, in_features = self.weight.shape
        return f"{in_features} -> {out_features}"


class Embedding(Module):
    """A table of vectors, looked up by number.

    Parameters
    ----------
    num_embeddings, features : int.
    std : standard deviation of the starting values.
    rng : the stream for starting values.

    Attributes
    ----------
    weight : Parameter, (num_embeddings, features).
    """

    def __init__(
        self,
        num_embeddings: int,
        features: int,
        std: float = 1.0,
        rng: hx.random.Rng | None = None,
    ) -> None:
        at_least_one("Embedding", num_embeddings=num_embeddings, features=features)
        stream = rng or hx.random.default_rng()
        self.weight = Parameter(stream.normal((num_embeddings, features), std=std))

    def forward(self, ids: hx.Tensor) -> hx.Tensor:
        """Return vectors, (...) integers to (..., features).

        Raises
        ------
        IndexingError : an id is negative, or not below num_embeddings.
        """
        ids = hx.asarray(ids)
        check_ids(ids)
        found: hx.Tensor = hx.take(self.weight, ids, axis=0)
        return found

    def logits(self, x: hx.Tensor) -> hx.Tensor:
        """Return x W^T, (..., features) to (..., num_embeddings): an output tied to the table.

        References
        ----------
        Press & Wolf 2017, "Using the output embedding to improve language models", section 2.
        """
        scores: hx.Tensor = hx.linear(x, self.weight)
        return scores


@partial(hx.autograd.uncaptured, changes=False)
def check_ids(ids: hx.Tensor) -> None:
    """Raise IndexingError if an id is negative, which `take` would count from the end."""
    if ids.size and not hx.dtypes.is_floating(ids.dtype):
        least = hx.min(ids).item()
        if least < 0:
            raise IndexingError(f"Embedding: id {least} is negative.")


class RMSNorm(Module):
    """Normalise the last axis by its root mean square; see `helixml.rms_norm`.

    Parameters
    ----------
    features : int. eps : float.

    Attributes
    ----------
    weight : Parameter, (features,), starting at 1.
    """

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        at_least_one("RMSNorm", features=features)
        if not eps >= 0:
            raise ValueRangeError(f"RMSNorm: eps={eps} is negative.")
        self.weight = Parameter(hx.ones((features,)), decay=False)
        self.eps = eps

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return x normalised, (..., features)."""
        y: hx.Tensor = hx.rms_norm(x, self.weight, self.eps)
        return y

    def add(self, x: hx.Tensor, residual: hx.Tensor) -> tuple[hx.Tensor, hx.Tensor]:
        """Return (x + residual normalised, x + residual), in one pass where there is a kernel."""
        pair: tuple[hx.Tensor, hx.Tensor] = hx.rms_norm(x, self.weight, self.eps, residual)
        return pair


class Dropout(Module):
    """Zero entries at random while training; see `helixml.dropout`.

    Parameters
    ----------
    p : float in [0, 1), the share of zeros.
    rng : the stream to draw from.
    """

    def __init__(self, p: float = 0.5, rng: hx.random.Rng | None = None) -> None:
        if not 0.0 <= p < 1.0:
            raise ValueRangeError(f"Dropout: p={p} must be in [0, 1).")
        self.p = p
        self.rng = rng

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return x with entries dropped, while training."""
        return hx.dropout(x, self.p, rng=self.rng, training=self.training)

    def extra(self) -> str:
        """Return the share of zeros."""
        return f"p={self.p}"
