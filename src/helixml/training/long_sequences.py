"""Losses of texts whose activations do not fit in memory: piece by piece, with exact gradients.

A model that carries a state reads a long text in pieces. Each piece is a checkpoint: the tape keeps
the state between two pieces, and what lies inside a piece is computed again when the backward pass,
from the last piece to the first, comes to it. So memory is that of one piece and of the states,
and the gradient is that of the whole, through every state; nothing is cut off.
"""

from __future__ import annotations

from typing import Any

import helixml as hx
from helixml.errors import ConfigError, ShapeError, ValueRangeError

__all__ = ["loss_in_chunks"]


def loss_in_chunks(
    model: Any,  # Any: what has init_state and chunk; no class stands for all of these
    ids: hx.Tensor,
    targets: hx.Tensor,
    *,
    chunk: int,
) -> hx.Tensor:
    """Return the mean cross entropy of a language model, which reads ``chunk`` tokens at a time.

    Parameters
    ----------
    model : a `models.LanguageModel`, or whatever else has ``init_state(batch)`` and
        ``chunk(ids, state)``, which gives logits (b, l, classes) and the next state.
    ids, targets : Tensors, (b, l), integer.
    chunk : int, tokens of a piece; the last one may be shorter.

    Returns
    -------
    Tensor, (), with the value and the gradient of
    ``cross_entropy(model(ids), targets)`` but for rounding.

    Raises
    ------
    ConfigError : the model cannot read in pieces. ShapeError : targets are not laid out as ids.
    ValueRangeError : chunk is below 1.

    Notes
    -----
    Takes the forward pass twice. A state that grows with what was read, as keys and values of
    attention do, is kept once for each piece.

    Examples
    --------
    >>> import helixml as hx
    >>> config = hx.models.MambaConfig(hidden_size=8, num_hidden_layers=1)
    >>> model = hx.models.MambaLM(config, rng=hx.random.Rng(0))
    >>> ids = hx.random.Rng(1).integers(0, 256, (1, 100))
    >>> loss = hx.training.loss_in_chunks(model, ids[:, :-1], ids[:, 1:], chunk=32)
    >>> loss.backward()
    >>> bool(abs(loss - hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:])) < 1e-5)
    True
    """
    if chunk < 1:
        raise ValueRangeError(f"loss_in_chunks: chunk={chunk}, must be at least 1.")
    if not (hasattr(model, "chunk") and hasattr(model, "init_state")):
        raise ConfigError(
            f"loss_in_chunks: {type(model).__name__} has no init_state() and chunk(). "
            "Hint: language models have; training in 16 bits hides them."
        )
    if ids.ndim != 2 or targets.shape != ids.shape or not ids.size:
        raise ShapeError(
            f"loss_in_chunks: ids are {ids.shape}, targets {targets.shape}; they must be (b, l) "
            "both, with at least one entry."
        )

    def read(ids: hx.Tensor, targets: hx.Tensor, state: Any) -> tuple[hx.Tensor, Any]:
        logits, state = model.chunk(ids, state)
        return hx.cross_entropy(logits, targets), _copied(state)

    batch, length = ids.shape
    state = model.init_state(batch)
    shares = []
    for start in range(0, length, chunk):
        part = slice(start, start + chunk)
        loss, state = hx.autograd.checkpoint(read, ids[:, part], targets[:, part], state)
        shares.append(loss * (min(chunk, length - start) / length))
    total: hx.Tensor = hx.sum(hx.stack(shares))
    return total


def _copied(state: Any) -> Any:  # Any: tensors in lists, tuples and dicts
    """Return a state in memory of its own: views would keep whole pieces alive."""
    if isinstance(state, hx.Tensor):
        return hx.copy(state)
    if isinstance(state, dict):
        return {key: _copied(part) for key, part in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)([_copied(part) for part in state])
    return state
