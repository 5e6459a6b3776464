"""Adam, with weight decay beside the gradient (AdamW) or in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import helixml as hx
from helixml.optim.checks import check_betas, check_not_negative
from helixml.optim.optimizer import Optimizer, Slots, State

__all__ = ["Adam", "AdamW"]

_MOMENTS: Final[Slots] = {"m": hx.zeros_like, "v": hx.zeros_like}


class AdamW(Optimizer):
    """Adam with decoupled weight decay; the update is `helixml.ops.adamw_many_`.

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
    p = p - lr weight_decay p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Parameters
    ----------
    params : iterable of Parameters or of groups.
    lr : float. betas : pair of float in [0, 1). eps : float. weight_decay : float.
    master_weights : see `Optimizer`.

    References
    ----------
    Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([1.0, -2.0])
    >>> optimizer = hx.optim.AdamW([w], lr=0.1, weight_decay=0.0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([ 0.9, -1.9], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
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
        )

    @property
    def records(self) -> bool:
        """Whether captured steps record `update`; Adam's asks whether there is a decay."""
        return type(self).update is AdamW.update

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueRangeError unless the settings of a group make sense."""
        check_not_negative(self, settings, "lr", "eps", "weight_decay")
        check_betas(self, settings)

    def slots(self, parameter: hx.Tensor, settings: Mapping[str, Any]) -> Slots:
        """Return what is kept for a parameter: both moments."""
        return _MOMENTS

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
        hx.ops.adamw_many_(
            parameters,
            gradients,
            [state["m"] for state in states],
            [state["v"] for state in states],
            lr=settings["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=settings["eps"],
            weight_decay=settings["weight_decay"],
            step=step,
        )


class Adam(AdamW):
    """Adam; its weight decay is part of the gradient and goes through the moments.

    g = grad + weight_decay p, then as in `AdamW` without decay.

    Parameters
    ----------
    params : iterable of Parameters or of groups.
    lr : float. betas : pair of float in [0, 1). eps : float. weight_decay : float.
    master_weights : see `Optimizer`.

    References
    ----------
    Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1; weight decay as in
    PyTorch.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([1.0, -2.0])
    >>> optimizer = hx.optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([ 0.9, -1.9], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        master_weights: bool = True,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, master_weights=master_weights)

    def update(
        self,
        parameters: list[hx.Tensor],
        gradients: list[hx.Tensor],
        states: list[State],
        settings: Mapping[str, Any],
        step: int,
    ) -> None:
        """Update parameters of a group."""
        if settings["weight_decay"]:
            decay = settings["weight_decay"]
            gradients = [g + decay * p for g, p in zip(gradients, parameters, strict=True)]
        super().update(parameters, gradients, states, {**settings, "weight_decay": 0.0}, step)
