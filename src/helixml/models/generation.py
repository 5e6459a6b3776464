"""Texts from a language model, token by token: rules for the next token, and when to stop.

The prompt is read in one parallel pass (`model.prefill`), after it the model goes on with its state
(`model.step`), so that a layer with a state of constant size needs constant memory. With a draft
model tokens come several at a time: `models.speculation`. Texts of large probability:
`models.beam_search`. What users call is in `LanguageModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any

import helixml as hx
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.models.sampling import Sampling

if TYPE_CHECKING:
    from helixml.models.language_model import LanguageModel

__all__ = ["Stop", "Stops", "check_prompt", "mark_seen", "one_by_one", "until"]

Stop = int | bytes | Sequence[int]  # a token, or tokens in a row


class Stops:
    """Tell when texts end: after any of some sequences of tokens.

    Parameters
    ----------
    stop : tokens or sequences of tokens; bytes are a sequence.

    Raises
    ------
    ValueRangeError : a sequence is empty, or a token negative. DTypeError : what is given are no
        integers.
    """

    def __init__(self, stop: Sequence[Stop]) -> None:
        if isinstance(stop, bytes):
            raise ValueRangeError(f"generate: stop={stop!r} is no list. Hint: stop=[{stop!r}].")
        self._ends = [_tokens(end) for end in stop]
        for end in self._ends:
            if not end or min(end) < 0:
                raise ValueRangeError(
                    f"generate: stop has {end}; it must hold tokens, or sequences of them."
                )
        self.longest = max((len(end) for end in self._ends), default=0)

    def __bool__(self) -> bool:
        return bool(self._ends)

    def ended(self, texts: hx.Tensor) -> hx.Tensor:
        """Return which texts end with a stop, (..., l) integers to (...) bool."""
        found: hx.Tensor = hx.zeros(texts.shape[:-1], dtype="bool", device=texts.device)
        for end in self._ends:
            if len(end) <= texts.shape[-1]:
                last = hx.tensor(end, dtype="int64", device=texts.device)
                same = hx.all(texts[..., -len(end) :] == last, axis=-1)
                found = hx.logical_or(found, same)
        return found


def _tokens(end: Any) -> list[int]:  # Any: a Stop, or what was given in its place
    """Return one stop as a list."""
    if isinstance(end, str):
        raise DTypeError(f"generate: stop has {end!r}. Hint: {end!r}.encode() are its bytes.")
    row = [end] if isinstance(end, Integral) else list(end)
    return [hx.dtypes.as_integer("generate", "a stop", token) for token in row]


def check_prompt(op: str, ids: hx.Tensor, max_new_tokens: int | None) -> None:
    """Raise unless there is something to continue, by a number of tokens that makes sense."""
    if ids.size == 0:
        raise ShapeError(f"{op}: the prompt is empty: {ids.shape}. Hint: start with a newline, 10.")
    if max_new_tokens is None:
        return
    if hx.dtypes.as_integer(op, "max_new_tokens", max_new_tokens) < 0:
        raise ValueRangeError(f"{op}: max_new_tokens={max_new_tokens} is negative.")


def mark_seen(ids: hx.Tensor, classes: int) -> hx.Tensor:
    """Return which tokens occur in each row, (b, l) integers to (b, classes) bool."""
    count = hx.zeros((ids.shape[0], classes), dtype="int64", device=ids.device)
    ids = ids.astype("int64")
    seen: hx.Tensor = hx.scatter_add(count, ids, hx.ones_like(ids), axis=1) > 0
    return seen


def one_by_one(
    model: LanguageModel, ids: hx.Tensor, rules: Sampling, rng: hx.random.Rng | None
) -> Iterator[hx.Tensor]:
    """Yield the next token of each row, (b,), int64, without end."""
    # No mode is held over a yield: what the caller does in between keeps its own.
    with hx.no_grad():
        logits, state = model.prefill(ids, model.init_state(ids.shape[0]))
        classes = logits.shape[-1]
        seen = mark_seen(ids, classes) if rules.repetition_penalty != 1 else None
    while True:
        with hx.no_grad():
            drawn = rules.draw(logits, rng, seen)
        yield drawn
        with hx.no_grad():
            if seen is not None:
                seen = hx.logical_or(seen, mark_seen(hx.expand_dims(drawn, 1), classes))
            logits, state = model.step(drawn, state)


def until(
    tokens: Iterator[hx.Tensor], max_new_tokens: int | None, stops: Stops, pad: int
) -> Iterator[hx.Tensor]:
    """Yield tokens up to a number, or until every row had a stop; rows that had are ``pad``."""
    recent: list[hx.Tensor] = []  # the last tokens, as many as the longest stop has
    ended: Any = False  # Any: from the first token on a Tensor, (b,) bool
    for drawn in islice(tokens, max_new_tokens):
        if not stops:
            yield drawn
            continue
        yield hx.where(ended, pad, drawn) if recent else drawn
        recent = [*recent, drawn][-stops.longest :]
        ended = hx.logical_or(ended, stops.ended(hx.stack(recent, axis=1)))
        if hx.all(ended):
            return
