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

    Notes
    -----
    Gradients are overwritten, but those that were recorded: they are replaced.

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
        norm: hx.Tensor = hx.ops.norm_many([p.grad for p in held])
        value = norm.item()
        if max_norm < value < math.inf:
            scale = max_norm / value
            written = {}  # by identity: one gradient may serve several parameters
            for parameter in held:
                grad = parameter.grad
                assert grad is not None
                if grad.is_leaf:
                    written[id(grad)] = grad
                else:
                    parameter.grad = grad * scale
            hx.ops.scale_many_(list(written.values()), scale)
    return norm
