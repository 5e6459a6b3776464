"""Drawing the next token from logits."""

from __future__ import annotations

import helixml as hx
from helixml.errors import ShapeError, ValueRangeError

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
    top_k : draw among the k most likely classes only; of equal ones the first come first.
    rng : the stream to draw from.

    Returns
    -------
    Tensor, (b,), int64.

    Raises
    ------
    ShapeError : logits are not (b, v) with at least one class.
    ValueRangeError : an option has no meaning.

    References
    ----------
    Gumbel 1954: argmax(logits - log(-log u)) has the distribution softmax(logits).
    """
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ShapeError(f"draw: logits are {logits.shape}, they must be (b, v), v at least 1.")
    if not temperature >= 0:
        raise ValueRangeError(f"draw: temperature={temperature} is negative.")
    if top_k is not None and top_k < 1:
        raise ValueRangeError(f"draw: top_k={top_k} must be at least 1.")
    with hx.no_grad():
        if temperature == 0:
            greedy: hx.Tensor = hx.argmax(logits, axis=-1)
            return greedy
        kept = None
        if top_k is not None and top_k < logits.shape[1]:
            kept = hx.argsort(logits, axis=-1, descending=True)[:, :top_k]
            logits = hx.take_along_axis(logits, kept, axis=-1)  # (b, k)
        # From the top down: the likeliest stays 0 however low the temperature is.
        logits = logits.astype("float64")
        logits = (logits - hx.max(logits, axis=-1, keepdims=True)) / temperature
        u = (rng or hx.random.default_rng()).uniform(logits.shape, device=logits.device)
        gumbel = -hx.log(-hx.log(hx.maximum(u, 1e-20)))
        drawn: hx.Tensor = hx.argmax(logits + gumbel, axis=-1)
        if kept is None:
            return drawn
        chosen: hx.Tensor = hx.take_along_axis(kept, hx.expand_dims(drawn, 1), axis=1)[:, 0]
        return chosen
