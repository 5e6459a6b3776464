"""Loss scaling: gradients too small for float16 become 0 unless the loss is multiplied first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import helixml as hx
from helixml.errors import CheckpointError, ConfigError, ValueRangeError
from helixml.optim.optimizer import Optimizer

__all__ = ["GradScaler"]


class GradScaler:
    """Multiply the loss by a factor that is as large as the gradients allow.

    A step whose gradients overflow is left out and lowers the factor; many good ones in a row raise
    it.

    Parameters
    ----------
    factor : float, 1 or more, the first factor.
    growth : float above 1, by which it is raised.
    backoff : float in (0, 1), by which it is lowered.
    interval : int, good steps in a row before it is raised.
    smallest : float, what the factor is never below.

    Raises
    ------
    ValueRangeError : a setting has no meaning.

    Notes
    -----
    Gradients in half precision are divided in float32 and stay in it: the optimizer's master
    weights take them so.

    References
    ----------
    Micikevicius et al. 2018, "Mixed precision training", section 3.2.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter(hx.tensor([1.0, 2.0], dtype="float16"))
    >>> optimizer = hx.optim.SGD([w], lr=0.25)
    >>> scaler = hx.optim.GradScaler(1024.0)
    >>> scaler.scale((w * w).sum()).backward()
    >>> scaler.step(optimizer)
    True
    >>> scaler.update()
    >>> w
    tensor([0.5, 1. ], dtype=float16, requires_grad=True)
    """

    def __init__(
        self,
        factor: float = 65536.0,
        growth: float = 2.0,
        backoff: float = 0.5,
        interval: int = 2000,
        smallest: float = 1.0,
    ) -> None:
        for name, value, fits in (
            ("factor", factor, 1 <= factor < float("inf")),
            ("growth", growth, 1 < growth < float("inf")),
            ("backoff", backoff, 0 < backoff < 1),
            ("interval", interval, interval >= 1),
            ("smallest", smallest, 0 < smallest <= factor),
        ):
            if not fits:
                raise ValueRangeError(f"GradScaler: {name}={value} has no meaning.")
        self.factor = factor
        self.growth = growth
        self.backoff = backoff
        self.interval = interval
        self.smallest = smallest
        self.good_steps = 0  # since the factor changed
        # By optimizer, between two updates: whose gradients are divided, and who had a step.
        self._is_finite: dict[int, bool] = {}
        self._stepped: set[int] = set()

    def scale(self, loss: hx.Tensor) -> hx.Tensor:
        """Return the loss times the factor, at least in float32."""
        if loss.dtype in hx.dtypes.HALVES:
            loss = loss.astype(hx.float32)
        factor: float = hx.autograd.capturing.current(getattr, self, "factor")
        return loss * factor

    def unscale(self, optimizer: Optimizer) -> bool:
        """Divide the gradients by the factor, for clipping before `step`.

        Returns
        -------
        bool : whether all are finite.

        Raises
        ------
        ConfigError : they were divided already.
        """
        if id(optimizer) in self._is_finite:
            raise ConfigError(
                "GradScaler: these gradients were divided already. "
                "Hint: call update() after every step()."
            )
        held = [p for p in optimizer.parameters if p.grad is not None]
        with hx.no_grad():
            for parameter in held:
                gradient = parameter.grad
                assert gradient is not None
                if gradient.dtype in hx.dtypes.HALVES:
                    gradient = gradient.astype(hx.float32)
                parameter.grad = gradient * (1 / self.factor)
            is_finite = all(bool(hx.all(hx.isfinite(p.grad))) for p in held)
        self._is_finite[id(optimizer)] = is_finite
        return is_finite

    def step(self, optimizer: Optimizer) -> bool:
        """Take the optimizer's step, unless a gradient is not finite; return whether it was taken.

        Divides the gradients first, where `unscale` has not.

        Raises
        ------
        ConfigError : the optimizer had its step, and `update` was not called.
        """
        if id(optimizer) in self._stepped:
            raise ConfigError(
                "GradScaler: step() twice with one optimizer. Hint: call update() after every step."
            )
        if id(optimizer) not in self._is_finite:
            self.unscale(optimizer)
        taken = self._is_finite[id(optimizer)]
        self._stepped.add(id(optimizer))
        if taken:
            optimizer.step()
        return taken

    def update(self) -> None:
        """Adapt the factor to how the steps since the last update went.

        Raises
        ------
        ConfigError : there were none.
        """
        if not self._stepped:
            raise ConfigError("GradScaler: update() before any step().")
        if all(self._is_finite.values()):
            self.good_steps += 1
            if self.good_steps >= self.interval:
                self.factor *= self.growth
                self.good_steps = 0
        else:
            self.factor = max(self.factor * self.backoff, self.smallest)
            self.good_steps = 0
        self._is_finite, self._stepped = {}, set()

    def state_dict(self) -> dict[str, Any]:
        """Return the factor and the good steps since it changed."""
        return {"factor": self.factor, "good_steps": self.good_steps}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises
        ------
        CheckpointError : it is none; nothing is changed.
        """
        factor, good = saved.get("factor"), saved.get("good_steps")
        if not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise CheckpointError(f"GradScaler: the saved state has factor={factor!r}.")
        if not isinstance(good, int) or good < 0:
            raise CheckpointError(f"GradScaler: the saved state has good_steps={good!r}.")
        self.factor, self.good_steps = float(factor), good
