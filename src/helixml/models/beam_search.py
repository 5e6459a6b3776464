"""Beam search: the likeliest continuations that are found while a few are kept at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.models.generation import Stops
from helixml.nn.sequence import State

if TYPE_CHECKING:
    from helixml.models.language_model import LanguageModel

__all__ = ["map_state", "search"]


def search(
    model: LanguageModel,
    ids: hx.Tensor,
    max_new_tokens: int,
    beams: int,
    length_penalty: float,
    stops: Stops,
    pad: int,
) -> tuple[hx.Tensor, hx.Tensor]:
    """Keep, token by token, the continuations with the best scores.

    score = log P(continuation | prompt) / length^length_penalty

    Parameters
    ----------
    model : a language model whose states have the batch on the first axis of each Tensor.
    ids : Tensor, (b, l), integer, l at least 1.
    max_new_tokens : int.
    beams : int, how many continuations of each prompt are kept. As many as there are make the
        search exhaustive.
    length_penalty : float; above 0 it favours continuations that end later.
    stops : a continuation ends after the first stop in it.
    pad : what fills those that ended before others; it does not count.

    Returns
    -------
    texts : Tensor, (b, beams, l + n), int64, the best first; n is max_new_tokens, or less where
        all ended.
    scores : Tensor, (b, beams), float64; -inf where there are not so many continuations.

    Raises
    ------
    ValueRangeError : an option has no meaning. ShapeError, DTypeError : as for `generate`.

    References
    ----------
    Graves 2012, "Sequence transduction with recurrent neural networks", section 2.5. Wu et al.
    2016, "Google's neural machine translation system", eq. 14, has (5 + length) / 6 in place of
    the length.
    """
    if hx.dtypes.as_integer("beam_search", "beams", beams) < 1:
        raise ValueRangeError(f"beam_search: beams={beams} must be at least 1.")
    if not abs(length_penalty) < float("inf"):
        raise ValueRangeError(f"beam_search: length_penalty={length_penalty} must be finite.")
    with hx.no_grad():
        rows = ids.shape[0]
        ids = ids.astype("int64")
        logits, state = model.prefill(ids, model.init_state(rows))
        classes = logits.shape[-1]
        # All beams of a row begin alike, so only the first counts.
        each = hx.repeat(hx.arange(rows, device=ids.device), beams)  # (b * k,)
        logits, state = hx.take(logits, each, axis=0), _take(state, each)
        texts = hx.take(ids, each, axis=0)  # (b * k, l + n)
        first = hx.arange(beams, device=ids.device) == 0
        total = hx.where(first, 0.0, -hx.inf).astype("float64")
        total = hx.broadcast_to(total, (rows, beams))
        length = hx.zeros((rows, beams), dtype="int64", device=ids.device)
        ended = length > 0
        scores = total
        for number in range(max_new_tokens):
            logp = hx.log_softmax(logits.astype("float64"), axis=-1)
            logp = hx.reshape(logp, (rows, beams, classes))
            # What has ended goes on in one way, as class 0, which costs nothing.
            stays = hx.where(hx.arange(classes, device=ids.device) == 0, 0.0, -hx.inf)
            logp = hx.where(hx.expand_dims(ended, 2), stays, logp)
            totals = hx.expand_dims(total, 2) + logp  # (b, k, v)
            lengths = length + hx.logical_not(ended).astype("int64")
            scale = hx.expand_dims(lengths, 2).astype("float64") ** length_penalty
            ranked = hx.reshape(totals / scale, (rows, -1))
            best = hx.argsort(ranked, axis=-1, descending=True, stable=True)[:, :beams]
            scores = hx.take_along_axis(ranked, best, axis=1)
            total = hx.take_along_axis(hx.reshape(totals, (rows, -1)), best, axis=1)
            parent, token = best // classes, best % classes  # (b, k)
            length = hx.take_along_axis(lengths, parent, axis=1)
            ended = hx.take_along_axis(ended, parent, axis=1)
            place = parent + hx.expand_dims(hx.arange(rows, device=ids.device) * beams, 1)
            place = hx.reshape(place, (-1,))  # (b * k,), the parents among all beams
            shown = hx.reshape(hx.where(ended, pad, token), (-1, 1))
            texts = hx.concat([hx.take(texts, place, axis=0), shown], axis=1)
            stopped = stops.ended(texts[:, ids.shape[1] :])
            ended = hx.logical_or(ended, hx.reshape(stopped, ended.shape))
            if number + 1 == max_new_tokens or hx.all(ended):
                break
            logits, state = model.step(hx.reshape(token, (-1,)), _take(state, place))
        return hx.reshape(texts, (rows, beams, -1)), scores


def _take(state: State, rows: hx.Tensor) -> State:
    """Return the state of some rows of the batch."""
    return map_state(lambda part: hx.take(part, rows, axis=0) if part.ndim else part, state)


def map_state(function: Callable[[hx.Tensor], Any], state: State) -> State:
    """Return a state with a function of each of its Tensors; what is no Tensor stays."""
    if isinstance(state, hx.Tensor):
        return function(state)
    if isinstance(state, dict):
        return {name: map_state(function, part) for name, part in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):  # a named one takes its parts apart
        return type(state)(*[map_state(function, part) for part in state])
    if isinstance(state, list | tuple):
        return type(state)(map_state(function, part) for part in state)
    return state
