"""Schedules: functions from the number of a step to a learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from helixml.errors import ValueRangeError

__all__ = ["WarmupCosine"]


@dataclass(frozen=True)
class WarmupCosine:
    """Rise linearly to ``lr``, then fall along half a cosine to ``final_ratio * lr``.

    Parameters
    ----------
    lr : the peak. warmup_steps : steps of the rise. total_steps : all steps.
    final_ratio : what is left of ``lr`` at the end.

    References
    ----------
    Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts.

    Examples
    --------
    >>> rate = WarmupCosine(1.0, 2, 6, 0.0)
    >>> [round(rate(step), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """

    lr: float
    warmup_steps: int
    total_steps: int
    final_ratio: float = 0.0

    def __post_init__(self) -> None:
        fits = 0 <= self.lr < math.inf and 0 <= self.final_ratio <= 1
        if not fits or self.total_steps < 1 or self.warmup_steps < 0:
            raise ValueRangeError(
                f"WarmupCosine: lr={self.lr}, warmup_steps={self.warmup_steps}, "
                f"total_steps={self.total_steps}, final_ratio={self.final_ratio} make no schedule."
            )

    def __call__(self, step: int) -> float:
        """Return the learning rate of ``step``, counted from 0."""
        if step < 0:
            raise ValueRangeError(f"WarmupCosine: step={step}, the first step is 0.")
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        span = max(self.total_steps - self.warmup_steps, 1)
        done = min((step - self.warmup_steps) / span, 1.0)
        wave = 0.5 * (1 + math.cos(math.pi * done))
        return self.lr * (self.final_ratio + (1 - self.final_ratio) * wave)
