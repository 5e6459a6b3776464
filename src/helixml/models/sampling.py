"""Drawing the next token from logits."""

from __future__ import annotations

import helixml as hx
from helixml.errors import ValueRangeError

__all__ = ["draw"]


def draw(
    logits: hx.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: hx.random.Rng | None = None,
) -> hx.Tensor:
    """Draw one class for each row of logits.

    Parameters
    ----------
    logits : Tensor, (b, v).
    temperature : float; 0 takes the most likely class.
    top_k : draw among the k most likely classes only.
    rng : the stream to draw from.

    Returns
    -------
    Tensor, (b,), int64.

    References
    ----------
    Gumbel 1954: argmax(logits - log(-log u)) has the distribution softmax(logits).
    """
    if not temperature >= 0:
        raise ValueRangeError(f"draw: temperature={temperature} is negative.")
    if top_k is not None and top_k < 1:
        raise ValueRangeError(f"draw: top_k={top_k} must be at least 1.")
    with hx.no_grad():
        if temperature == 0:
            greedy: hx.Tensor = hx.argmax(logits, axis=-1)
            return greedy
        logits = logits.astype("float32") / temperature
        if top_k is not None and top_k < logits.shape[-1]:
            order = hx.argsort(logits, axis=-1, descending=True)
            bound = hx.take_along_axis(logits, order[:, top_k - 1 : top_k], axis=-1)
            logits = hx.where(logits < bound, -float("inf"), logits)
        u = (rng or hx.random.default_rng()).uniform(logits.shape, device=logits.device)
        gumbel = -hx.log(-hx.log(hx.maximum(u, 1e-20)))
        drawn: hx.Tensor = hx.argmax(logits + gumbel, axis=-1)
        return drawn
