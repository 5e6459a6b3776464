"""Bounding gradients before a step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import helixml as hx
from helixml.errors import ValueRangeError

__all__ = ["clip_grad_norm"]


def clip_grad_norm(params: Iterable[hx.Tensor], max_norm: float) -> hx.Tensor:
    """Scale all gradients so that their common Euclidean norm is at most ``max_norm``.

    Parameters
    ----------
    params : Parameters; those without a gradient count for nothing.
    max_norm : float, above 0.

    Returns
    -------
    Tensor, scalar: the norm before scaling. If it is not finite, the gradients stay as they are.

    References
    ----------
    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
    """
    if not max_norm > 0:
        raise ValueRangeError(f"clip_grad_norm: max_norm={max_norm} must be above 0.")
    held = [p for p in params if p.grad is not None]
    with hx.no_grad():
        if not held:
            return hx.zeros(())
        squares = [hx.sum(hx.square(p.grad)) for p in held]
        norm: hx.Tensor = hx.sqrt(hx.sum(hx.stack(squares)))
        value = norm.item()
        if max_norm < value < math.inf:
            scale = max_norm / value
            for parameter in held:
                assert parameter.grad is not None
                parameter.grad = parameter.grad * scale
    return norm
