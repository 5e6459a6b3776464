"""Lion: steps of one size, in the direction of a momentum's sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import helixml as hx
from helixml.optim.checks import check_betas, check_not_negative
from helixml.optim.optimizer import Optimizer, Slots, State

__all__ = ["Lion"]


class Lion(Optimizer):
    """Follow the sign of a momentum.

    p = p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p),  m = beta2 m + (1 - beta2) g

    Parameters
    ----------
    params : iterable of Parameters or of groups.
    lr : float, a third to a tenth of what AdamW would take. betas : pair of float in [0, 1).
    weight_decay : float, three to ten times that of AdamW.
    master_weights : see `Optimizer`.

    References
    ----------
    Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([1.0, -2.0])
    >>> optimizer = hx.optim.Lion([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([ 0.9, -1.9], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        master_weights: bool = True,
    ) -> None:
        super().__init__(
            params, master_weights=master_weights, lr=lr, betas=betas, weight_decay=weight_decay
        )

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueRangeError unless the settings of a group make sense."""
        check_not_negative(self, settings, "lr", "weight_decay")
        check_betas(self, settings)

    def slots(self, parameter: hx.Tensor, settings: Mapping[str, Any]) -> Slots:
        """Return what is kept for a parameter: a momentum."""
        return {"m": hx.zeros_like}

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
        hx.ops.lion_many_(
            parameters,
            gradients,
            [state["m"] for state in states],
            lr=settings["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=settings["weight_decay"],
        )
