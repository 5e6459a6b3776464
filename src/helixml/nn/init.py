"""Starting values of parameters."""

from __future__ import annotations

import math

import helixml as hx

__all__ = ["fan_in_uniform", "time_step_bias"]


def fan_in_uniform(shape: tuple[int, ...], fan_in: int, rng: hx.random.Rng | None) -> hx.Tensor:
    """Return values uniform in +-1 / sqrt(fan_in): PyTorch's default for linear layers.

    Parameters
    ----------
    shape : tuple of int.
    fan_in : how many inputs each output sums over.
    rng : the stream to draw from.

    References
    ----------
    He et al. 2015, "Delving deep into rectifiers", section 2.2, with a gain of sqrt(1/3).
    """
    bound = 1 / math.sqrt(max(fan_in, 1))
    return (rng or hx.random.default_rng()).uniform(shape, -bound, bound)


def time_step_bias(
    d: int, low: float, high: float, floor: float, rng: hx.random.Rng | None
) -> hx.Tensor:
    """Return biases b such that softplus(b) is spread log-uniformly over [low, high).

    Parameters
    ----------
    d : int, how many.
    low, high, floor : step sizes, in units of one token; none falls below ``floor``.
    rng : the stream to draw from.

    References
    ----------
    Gu & Dao 2023, "Mamba", section 3.6.
    """
    u = (rng or hx.random.default_rng()).uniform((d,), math.log(low), math.log(high))
    step = hx.maximum(hx.exp(u), floor)
    bias: hx.Tensor = step + hx.log(-hx.expm1(-step))  # the inverse of softplus
    return bias
