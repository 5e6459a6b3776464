"""The optimizers: each is its settings and one in-place op for all its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.optim.optimizer import Optimizer

__all__ = ["SGD", "AdamW"]


def _not_negative(optimizer: Optimizer, group: Mapping[str, Any], *settings: str) -> None:
    for name in settings:
        if not group[name] >= 0:
            raise ValueRangeError(
                f"{type(optimizer).__name__}: {name}={group[name]}, it must be 0 or more."
            )


class AdamW(Optimizer):
    """Adam with decoupled weight decay; the update is `helixml.ops.adamw_many_`.

    Parameters
    ----------
    params : iterable of Parameters or of groups.
    lr : float. betas : pair of float in [0, 1). eps : float. weight_decay : float.

    References
    ----------
    Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2. Its t counts
    the optimizer's steps, those included in which a parameter had no gradient.

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

    slots = {"m": hx.zeros_like, "v": hx.zeros_like}  # noqa: RUF012  read only

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueRangeError unless the settings of a group make sense."""
        _not_negative(self, group, "lr", "eps", "weight_decay")
        betas = group["betas"]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueRangeError(f"AdamW: betas={betas} must be two numbers in [0, 1).")

    def update(
        self,
        parameters: list[hx.Tensor],
        states: list[dict[str, hx.Tensor]],
        group: dict[str, Any],
    ) -> None:
        """Update parameters of a group."""
        beta1, beta2 = group["betas"]
        hx.ops.adamw_many_(
            parameters,
            [p.grad for p in parameters],
            [state["m"] for state in states],
            [state["v"] for state in states],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            step=self.steps,
        )


class SGD(Optimizer):
    """Gradient descent with momentum; the update is `helixml.ops.sgd_many_`.

    Parameters
    ----------
    params : iterable of Parameters or of groups.
    lr : float. momentum : float. nesterov : bool. weight_decay : float.

    References
    ----------
    Sutskever et al. 2013, "On the importance of initialization and momentum", eq. 3.
    """

    slots = {"velocity": hx.zeros_like}  # noqa: RUF012  read only

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
        )

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueRangeError unless the settings of a group make sense."""
        _not_negative(self, group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and group["momentum"] == 0:
            raise ValueRangeError("SGD: nesterov needs a momentum above 0, momentum=0.")

    def update(
        self,
        parameters: list[hx.Tensor],
        states: list[dict[str, hx.Tensor]],
        group: dict[str, Any],
    ) -> None:
        """Update parameters of a group."""
        hx.ops.sgd_many_(
            parameters,
            [p.grad for p in parameters],
            [state["velocity"] if group["momentum"] else None for state in states],
            lr=group["lr"],
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            weight_decay=group["weight_decay"],
        )
