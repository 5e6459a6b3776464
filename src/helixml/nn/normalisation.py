"""Normalisation layers that take a mean away: LayerNorm, BatchNorm, GroupNorm, InstanceNorm.

Their formulas are the ops of the same names; what is added here are parameters, and the running
statistics of those that normalise by what earlier batches looked like. `RMSNorm` is in `layers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import helixml as hx
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.nn.layers import at_least_one
from helixml.nn.module import Module
from helixml.nn.parameter import Buffer, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
]


def _check_eps(layer: str, eps: float) -> None:
    if not eps >= 0:
        raise ValueRangeError(f"{layer}: eps={eps} is negative.")


class LayerNorm(Module):
    """Normalise mean and variance over the last axes; see `helixml.layer_norm`.

    Parameters
    ----------
    normalized_shape : int or ints, the sizes of the last axes, which are normalised together.
    eps : float, added to the variance.
    elementwise_affine : whether there are a weight and a bias.
    bias : whether there is a bias beside the weight.

    Attributes
    ----------
    weight : Parameter, normalized_shape, starting at 1, or None.
    bias : Parameter, normalized_shape, starting at 0, or None.

    References
    ----------
    Ba, Kiros & Hinton 2016, "Layer normalization", eq. 3.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.nn.LayerNorm(2, eps=0.0)(hx.tensor([[1.0, 3.0], [5.0, 1.0]])).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        given = normalized_shape
        shape = (given,) if isinstance(given, int) else tuple(given)
        if not shape or min(shape) < 1:
            raise ValueRangeError(f"LayerNorm: normalized_shape={given}, at least 1 each.")
        _check_eps("LayerNorm", eps)
        self.normalized_shape = shape
        self.eps = eps
        self.weight = Parameter(hx.ones(shape), decay=False) if elementwise_affine else None
        with_bias = elementwise_affine and bias
        self.bias = Parameter(hx.zeros(shape), decay=False) if with_bias else None

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return x normalised, (..., *normalized_shape)."""
        shape = self.normalized_shape
        if x.shape[max(x.ndim - len(shape), 0) :] != shape:
            raise ShapeError(f"LayerNorm: x is {x.shape}, its last axes must be {shape}.")
        size = math.prod(shape)
        row = x.reshape(*x.shape[: x.ndim - len(shape)], size)
        if self.weight is None:
            weight = hx.ones((size,), x.dtype, x.device)
        else:
            weight = self.weight.reshape(size)
        bias = None if self.bias is None else self.bias.reshape(size)
        y: hx.Tensor = hx.layer_norm(row, weight, bias, self.eps)
        return y.reshape(x.shape)

    def extra(self) -> str:
        """Return the sizes."""
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """Normalise mean and variance of each group of channels; see `helixml.group_norm`.

    Parameters
    ----------
    num_groups : int that divides num_channels.
    num_channels : int.
    eps : float, added to the variance.
    affine : whether there are a weight and a bias.

    Attributes
    ----------
    weight, bias : Parameters, (num_channels,), starting at 1 and 0, or None.

    References
    ----------
    Wu & He 2018, "Group normalization", eqs. 1, 2 and 6.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        at_least_one("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        _check_eps("GroupNorm", eps)
        if num_channels % num_groups:
            raise ValueRangeError(
                f"GroupNorm: num_groups={num_groups} does not divide num_channels={num_channels}."
            )
        self.num_groups = num_groups
        self.eps = eps
        self.weight = Parameter(hx.ones((num_channels,)), decay=False) if affine else None
        self.bias = Parameter(hx.zeros((num_channels,)), decay=False) if affine else None
        self.num_channels = num_channels

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return x normalised, (b, num_channels, ...)."""
        _check_channels(self, x, self.num_channels, range(2, 64))
        y: hx.Tensor = hx.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return y

    def extra(self) -> str:
        """Return the sizes."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


def _check_channels(layer: Module, x: hx.Tensor, features: int, ranks: Sequence[int]) -> None:
    if x.ndim not in ranks or x.shape[1] != features:
        lines = {3: "l", 4: "h, w", 5: "d, h, w"}
        line = "..." if len(ranks) > 1 else lines[ranks[0]]
        raise ShapeError(
            f"{type(layer).__name__}: x is {x.shape}, it must be (b, {features}, {line}). "
            "Hint: x[None] adds a batch."
        )
    if not hx.dtypes.is_floating(x.dtype):
        raise DTypeError(f"{type(layer).__name__}: x must be a float, not {x.dtype}.")


class _RunningNorm(Module):
    """What batch and instance normalisation share: parameters, and running statistics."""

    ranks: tuple[int, ...]  # how many axes x may have

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
    ) -> None:
        name = type(self).__name__
        at_least_one(name, num_features=num_features)
        _check_eps(name, eps)
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueRangeError(f"{name}: momentum={momentum} must be in [0, 1], or None.")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        shape, tracked = (num_features,), track_running_stats
        self.weight = Parameter(hx.ones(shape), decay=False) if affine else None
        self.bias = Parameter(hx.zeros(shape), decay=False) if affine else None
        self.running_mean = Buffer(hx.zeros(shape)) if tracked else None
        self.running_var = Buffer(hx.ones(shape)) if tracked else None
        self.num_batches_tracked = Buffer(hx.tensor(0, dtype="int64")) if tracked else None

    def _statistics(
        self, x: hx.Tensor, axes: tuple[int, ...]
    ) -> tuple[hx.Tensor, hx.Tensor] | None:
        """Return the running (mean, variance) if they are what x is normalised by.

        Otherwise x is normalised by its own over ``axes``; in training the running ones follow.
        """
        _check_channels(self, x, self.num_features, self.ranks)
        mean, var, count = self.running_mean, self.running_var, self.num_batches_tracked
        if not self.training and mean is not None and var is not None:
            return mean, var
        n = math.prod(x.shape[axis] for axis in axes)
        if n < (2 if self.training else 1):
            raise ShapeError(
                f"{type(self).__name__}: x {x.shape} has {n} entries for each mean, of which no "
                "variance can be taken. Hint: more entries, or eval()."
            )
        follows = self.training and not hx.autograd.is_recomputing()
        if follows and x.size and mean is not None and var is not None and count is not None:
            with hx.no_grad():
                count.assign_(count + 1)
                share = 1 / int(count.item()) if self.momentum is None else self.momentum
                others = () if 0 in axes else (0,)  # instances have statistics each
                x = x.astype(hx.promote(x.dtype, mean.dtype))  # not rounded to 16 bits
                own_mean = hx.mean(x, axis=axes, keepdims=True)
                own_var = hx.var(x, axis=axes, correction=1, keepdims=True)
                for running, own in ((mean, own_mean), (var, own_var)):
                    new = hx.mean(own, axis=others).reshape(-1).astype(running.dtype)
                    running.assign_(running + share * (new - running))
        return None

    def extra(self) -> str:
        """Return the settings."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class _BatchNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return x normalised, (b, num_features, ...)."""
        axes = (0, *range(2, x.ndim))
        known = self._statistics(x, axes)
        mean, var = known or (hx.mean(x, axis=axes), hx.var(x, axis=axes))
        y: hx.Tensor = hx.batch_norm(x, mean, var, self.weight, self.bias, self.eps)
        return y


class BatchNorm2d(_BatchNorm):
    """Normalise each channel by its mean and variance in the batch; see `helixml.batch_norm`.

    In training these are the batch's own, and running statistics move toward them; in evaluation
    the running statistics stand in their place. x is (b, c, h, w).

    Parameters
    ----------
    num_features : int, channels.
    eps : float, added to the variance.
    momentum : float in [0, 1], the share of a new batch in the running statistics; None for the
        mean of all batches so far.
    affine : whether there are a weight and a bias.
    track_running_stats : whether there are running statistics; without, each batch is normalised by
        its own in evaluation too.

    Attributes
    ----------
    weight, bias : Parameters, (num_features,), starting at 1 and 0, or None.
    running_mean, running_var : Buffers, (num_features,), or None; the variance is the unbiased one,
        a sum divided by n - 1.
    num_batches_tracked : Buffer, (), int64, or None.

    References
    ----------
    Ioffe & Szegedy 2015, "Batch normalization", algorithms 1 and 2. Deviation, as everywhere: the
    running statistics are weighted means, not means over a last pass.

    Examples
    --------
    >>> import helixml as hx
    >>> norm = hx.nn.BatchNorm1d(1, eps=0.0, momentum=1.0)
    >>> norm(hx.tensor([[1.0], [3.0]])).tolist()
    [[-1.0], [1.0]]
    >>> norm.running_mean, norm.running_var
    (tensor([2.]), tensor([2.]))
    """

    ranks = (4,)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (b, c) or (b, c, l); see `BatchNorm2d`."""

    ranks = (2, 3)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (b, c, d, h, w); see `BatchNorm2d`."""

    ranks = (5,)


class _InstanceNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return x normalised, (b, num_features, ...)."""
        known = self._statistics(x, tuple(range(2, x.ndim)))
        y: hx.Tensor
        if known is None:
            y = hx.instance_norm(x, self.weight, self.bias, self.eps)
        else:
            y = hx.batch_norm(x, *known, self.weight, self.bias, self.eps)
        return y


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each picture; see `helixml.instance_norm`. x is (b, c, h, w).

    Parameters
    ----------
    num_features : int, channels.
    eps : float, added to the variance.
    momentum : as in `BatchNorm2d`.
    affine : whether there are a weight and a bias.
    track_running_stats : whether there are running statistics, which evaluation normalises by.

    Attributes
    ----------
    weight, bias, running_mean, running_var, num_batches_tracked : as in `BatchNorm2d`; the running
        statistics follow the mean of the batch's.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky 2016, "Instance normalization", eq. 4.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.nn.InstanceNorm1d(1, eps=0.0)(hx.tensor([[[1.0, 3.0]], [[9.0, 5.0]]])).tolist()
    [[[-1.0, 1.0]], [[1.0, -1.0]]]
    """

    ranks = (4,)


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (b, c, l); see `InstanceNorm2d`."""

    ranks = (3,)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (b, c, d, h, w); see `InstanceNorm2d`."""

    ranks = (5,)
