"""Bounding gradients before a step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import helixml as hx
from helixml.errors import ValueRangeError

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(params: Iterable[hx.Tensor], max_norm: float, *, order: float = 2) -> hx.Tensor:
    """Scale all gradients so that their common norm is at most ``max_norm``.

    Parameters
    ----------
    params : Parameters; those without a gradient count for nothing.
    max_norm : float, above 0.
    order : which norm of all elements together: 1, the sum of their sizes; 2, the Euclidean;
        ``math.inf``, the largest.

    Returns
    -------
    Tensor, scalar: the norm before scaling. If it is not finite, the gradients stay as they are.

    Raises
    ------
    ValueRangeError : ``max_norm`` is not above 0, or ``order`` is none of these.

    Notes
    -----
    Gradients are overwritten, but those that were recorded: they are replaced.

    References
    ----------
    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
    """
    if not max_norm > 0:
        raise ValueRangeError(f"clip_grad_norm: max_norm={max_norm} must be above 0.")
    if order not in (1, 2, math.inf):
        raise ValueRangeError(f"clip_grad_norm: order={order} must be 1, 2 or inf.")
    return _clipped(list(params), max_norm, order)


@hx.autograd.uncaptured
def _clipped(params: list[hx.Tensor], max_norm: float, order: float) -> hx.Tensor:
    held = [p for p in params if p.grad is not None]
    with hx.no_grad():
        if not held:
            return hx.zeros(())
        norm = _norm([p.grad for p in held if p.grad is not None], order)
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


def clip_grad_value(params: Iterable[hx.Tensor], max_value: float) -> None:
    """Move every element of the gradients into [-``max_value``, ``max_value``].

    Parameters
    ----------
    params : Parameters; those without a gradient count for nothing.
    max_value : float, above 0. Elements that are nan stay so.

    Raises
    ------
    ValueRangeError : ``max_value`` is not above 0.

    Notes
    -----
    Changes the direction of the gradient, unlike `clip_grad_norm`. Gradients are overwritten, but
    those that were recorded: they are replaced.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([1.0, 2.0])
    >>> (w * w * w).sum().backward()
    >>> hx.optim.clip_grad_value([w], 5.0)
    >>> w.grad
    tensor([3., 5.])
    """
    if not max_value > 0:
        raise ValueRangeError(f"clip_grad_value: max_value={max_value} must be above 0.")
    with hx.no_grad():
        for parameter in params:
            grad = parameter.grad
            if grad is None:
                continue
            clipped = hx.clip(grad, -max_value, max_value)
            if grad.is_leaf:
                grad.assign_(clipped)
            else:
                parameter.grad = clipped


def _norm(gradients: list[hx.Tensor], order: float) -> hx.Tensor:
    """Return the norm of all elements together."""
    norm: hx.Tensor
    if order == 2:
        norm = hx.ops.norm_many(gradients)
        return norm
    parts = [hx.abs(g) for g in gradients if g.size]
    if not parts:
        return hx.zeros(())
    if order == 1:
        norm = hx.stack([part.sum() for part in parts]).sum()
    else:
        norm = hx.stack([part.max() for part in parts]).max()
    return norm
