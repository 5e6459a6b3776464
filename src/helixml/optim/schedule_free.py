"""Schedule-Free AdamW: averaging the iterates in place of lowering the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import helixml as hx
from helixml.errors import CheckpointError, ConfigError
from helixml.optim.checks import check_betas, check_not_negative
from helixml.optim.optimizer import Optimizer, Slots, State

__all__ = ["ScheduleFreeAdamW"]


class ScheduleFreeAdamW(Optimizer):
    """AdamW without a schedule: gradients at y, steps of z, and x, their average, as the result.

    rate_t = lr sqrt(1 - beta2^t) min(1, t / warmup_steps),
    v = beta2 v + (1 - beta2) g^2, g the gradient at y,
    z = z - rate_t (g / (sqrt(v) + eps) + weight_decay y),
    x = (1 - c) x + c z with c = rate_t^2 / (rate_1^2 + ... + rate_t^2),
    y = (1 - beta1) z + beta1 x

    While training the parameters are y. `eval` writes x to them, for measuring and saving; `train`
    writes y again.

    Parameters
    ----------
    params : iterable of Parameters or of groups.
    lr : float, one to ten times what AdamW with a schedule would take. betas : pair of float in
        [0, 1). eps : float. weight_decay : float.
    warmup_steps : int, in which the learning rate rises.
    master_weights : see `Optimizer`.

    Notes
    -----
    Layers that keep running statistics have seen y: run some batches through them at x before
    measuring. What is written to parameters between steps is lost, unlike with other optimizers.

    References
    ----------
    Defazio et al. 2024, "The road less scheduled", algorithm 1 and eq. 23. Both x and z are kept,
    where the authors' program keeps z alone and recovers x from y: switching is exact, and beta1
    may be 0. Their later versions divide v by 1 - beta2^t, in place of the root in rate_t.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([1.0, -2.0])
    >>> optimizer = hx.optim.ScheduleFreeAdamW([w], lr=0.1)
    >>> for _ in range(200):
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    >>> optimizer.eval()
    >>> bool(hx.all(hx.abs(w) < 0.2))
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        *,
        master_weights: bool = True,
    ) -> None:
        super().__init__(
            params,
            master_weights=master_weights,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            warmup_steps=warmup_steps,
        )
        self.training = True

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueRangeError unless the settings of a group make sense."""
        check_not_negative(self, settings, "lr", "eps", "weight_decay", "warmup_steps")
        check_betas(self, settings)

    def slots(self, parameter: hx.Tensor, settings: Mapping[str, Any]) -> Slots:
        """Return what is kept for a parameter: x, z, the second moment, the sum of rate_t^2."""
        return {"x": _copy, "z": _copy, "v": hx.zeros_like, "weights": _zero}

    @hx.autograd.uncaptured
    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises
        ------
        ConfigError : the parameters are the average.
        """
        if not self.training:
            raise ConfigError(
                "ScheduleFreeAdamW: step() after eval(), the parameters are the average, where no "
                "gradient is wanted. Hint: call the optimizer's train() before the forward pass."
            )
        super().step()

    def update(
        self,
        parameters: list[hx.Tensor],
        gradients: list[hx.Tensor],
        states: list[State],
        settings: Mapping[str, Any],
        step: int,
    ) -> None:
        """Update parameters of a group."""
        beta1, beta2 = settings["betas"]
        rate = settings["lr"] * min(1.0, step / max(settings["warmup_steps"], 1))
        rate *= math.sqrt(1 - beta2**step)  # Adam's correction of v
        for y, g, state in zip(parameters, gradients, states, strict=True):
            x, z, v, weights = state["x"], state["z"], state["v"], state["weights"]
            v.assign_(beta2 * v + (1 - beta2) * hx.square(g))
            scale = hx.sqrt(v) + settings["eps"]
            z.assign_(z - rate * (g / scale + settings["weight_decay"] * y))
            weights.assign_(weights + rate**2)
            c = rate**2 / weights if rate else 0.0  # eq. 23
            x.assign_(x + c * (z - x))
            y.assign_(_between(x, z, beta1))

    def eval(self) -> None:
        """Write x, the average, to the parameters."""
        with hx.no_grad():
            for parameter in self.parameters:
                parameter.assign_(self.state(parameter)["x"])
        self.training = False

    def train(self) -> None:
        """Write y, where gradients are taken, to the parameters."""
        with hx.no_grad():
            for group in self.groups:
                for parameter in group["params"]:
                    state = self.state(parameter)
                    parameter.assign_(_between(state["x"], state["z"], group["betas"][0]))
        self.training = True

    def state_dict(self) -> dict[str, Any]:
        """Return what `Optimizer.state_dict` does, and whether the parameters are y or x."""
        return {**super().state_dict(), "training": self.training}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`; the parameters are to be loaded from the same moment.

        Raises
        ------
        CheckpointError : it is of another optimizer or of other parameters; nothing is changed.
        """
        training = saved.get("training")
        if not isinstance(training, bool):
            raise CheckpointError(
                f"ScheduleFreeAdamW: the saved state has training={training!r}, not True or False."
            )
        super().load_state_dict(saved)
        self.training = training


def _between(x: hx.Tensor, z: hx.Tensor, beta1: float) -> hx.Tensor:
    """Return (1 - beta1) z + beta1 x, which is z to the last bit where x is."""
    return z + beta1 * (x - z)


def _copy(parameter: hx.Tensor) -> hx.Tensor:
    copy: hx.Tensor = hx.tensor(parameter)
    return copy


def _zero(parameter: hx.Tensor) -> hx.Tensor:
    zero: hx.Tensor = hx.zeros((), dtype=parameter.dtype, device=parameter.device)
    return zero
