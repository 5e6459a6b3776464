"""LanguageModel: what every language model answers, whatever its layers are.

A model names its parts, and does what is its own in `run`, `logits` and `init_state`; reading in
pieces, drawing text and saving follow from these three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import helixml as hx
from helixml.errors import ConfigError, DTypeError, ShapeError, ValueRangeError
from helixml.models.beam_search import search
from helixml.models.generation import Stop, Stops, check_prompt, one_by_one, until
from helixml.models.sampling import Sampling
from helixml.models.speculation import check_draft, speculate
from helixml.nn import Embedding, Linear, Module, ModuleList
from helixml.nn.sequence import State, check_state
from helixml.quantization import STORED, StoredMatrix, store_weights

__all__ = ["LanguageModel", "Parts", "output_layer"]


class Parts(NamedTuple):
    """What most language models are made of, whatever they call it.

    Attributes
    ----------
    embedding : tokens, (b, l), to the residual stream, (b, l, d).
    layers : each maps a stream and a state, or None, to the next of both, and has `init_state`.
    norm : of the stream after the last layer.
    output : to logits, or None: the embedding's transpose is that.
    """

    embedding: Embedding
    layers: ModuleList
    norm: Module
    output: Linear | None


def output_layer(config: Any, features: int, rng: hx.random.Rng) -> Linear | None:
    """Return the map to logits, or None where the embedding's transpose is that."""
    tied = config.tie_word_embeddings
    return None if tied else Linear(features, config.vocab_size, False, rng)


class LanguageModel(Module):
    """Base class of language models: tokens in, logits of the next one out.

    Attributes
    ----------
    config : the configuration, with ``vocab_size``, ``num_hidden_layers`` and ``to_dict()``.
    weights_dtype : how `quantize` stored the weights, or None.
    stored_kinds : which layers it replaces by which; see `quantization.store_weights`.
    """

    config: Any  # Any: a ModelConfig with the fields of its own model
    weights_dtype: Literal["int8", "bfloat16"] | None = None
    stored_kinds: ClassVar[Mapping[type[Module], type[StoredMatrix]]] = STORED

    def _parts(self) -> Parts:
        """Return the parts; every model names its own."""
        raise ConfigError(
            f"{type(self).__name__}: this model has no _parts(). "
            "Hint: or else it needs run(), logits() and init_state() of its own."
        )

    def _embed(self, ids: hx.Tensor, state: State) -> hx.Tensor:
        """Return the residual stream before the first layer, (b, l, d)."""
        stream: hx.Tensor = self._parts().embedding(ids)
        return stream

    def _states(self, state: State) -> State:
        """Return the state of each layer; None for all where the whole text is read."""
        if state is None:
            return [None] * self.config.num_hidden_layers
        for number, part in enumerate(state):
            if part is None:
                raise ShapeError(
                    f"{type(self).__name__}: the state of layer {number} is None. "
                    "Hint: start with init_state(batch), go on with what chunk and step return."
                )
        return state

    def run(self, ids: hx.Tensor, state: State) -> tuple[list[hx.Tensor], State]:
        """Read tokens.

        Parameters
        ----------
        ids : Tensor, (b, l), integer.
        state : what `init_state` or `run` returned, or None: the whole text is ``ids``.

        Returns
        -------
        streams : the residual stream after each layer, and last what `logits` reads, (b, l, d).
        state : one entry a layer; of no meaning where None was given.
        """
        parts, past = self._parts(), self._states(state)
        stream = self._embed(ids, state)
        streams, states = [], []
        for layer, before in zip(parts.layers, past, strict=True):
            stream, after = layer(stream, before)
            streams.append(stream)
            states.append(after)
        return [*streams, parts.norm(stream)], states

    def logits(self, end: hx.Tensor) -> hx.Tensor:
        """Return logits, (..., d) to (..., vocab_size)."""
        parts = self._parts()
        logits: hx.Tensor = (
            parts.embedding.logits(end) if parts.output is None else parts.output(end)
        )
        return logits

    def init_state(self, batch: int) -> State:
        """Return the state before anything was read, one entry a layer."""
        return [layer.init_state(batch) for layer in self._parts().layers]

    def _check(self, ids: hx.Tensor, wanted: tuple[str, ...] = ("b", "l")) -> None:
        name = type(self).__name__
        if not isinstance(ids, hx.Tensor) or hx.dtypes.kind(ids.dtype) not in "ui":
            what = ids.dtype if isinstance(ids, hx.Tensor) else type(ids).__name__
            raise DTypeError(f"{name}: ids must be a Tensor of integers, not {what}.")
        if ids.ndim != len(wanted):
            raise ShapeError(f"{name}: ids are {ids.shape}, they must be ({', '.join(wanted)}).")

    def forward(self, ids: hx.Tensor) -> hx.Tensor:
        """Return logits, (b, l) integers to (b, l, vocab_size)."""
        self._check(ids)
        streams, _ = self.run(ids, None)
        return self.logits(streams[-1])

    def hidden_states(self, ids: hx.Tensor) -> list[hx.Tensor]:
        """Return the residual stream after each layer, and last what the output layer reads."""
        self._check(ids)
        return self.run(ids, None)[0]

    def chunk(self, ids: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Read a piece of text from ``state``: logits (b, l, vocab_size) and the next state."""
        self._check(ids)
        check_state(type(self).__name__, state, self.config.num_hidden_layers)
        streams, state = self.run(ids, state)
        return self.logits(streams[-1]), state

    def prefill(self, ids: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Read a prompt from ``state``: the logits after it, (b, vocab_size), and the next state.

        As `chunk` does, but without the logits before the last, of which nobody asks after a
        prompt: for a large vocabulary they take as long as many layers.

        Raises
        ------
        ShapeError : the prompt is empty.
        """
        self._check(ids)
        if ids.shape[1] == 0:
            raise ShapeError(f"prefill: the prompt is empty: {ids.shape}. Hint: use init_state().")
        check_state(type(self).__name__, state, self.config.num_hidden_layers)
        streams, state = self.run(ids, state)
        return self.logits(streams[-1][:, -1]), state

    def step(self, ids_t: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Read one token for each row: ids_t (b,), logits (b, vocab_size)."""
        self._check(ids_t, ("b",))
        logits, state = self.chunk(hx.expand_dims(ids_t, 1), state)
        return logits[:, 0], state

    def generate(
        self,
        ids: hx.Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        rng: hx.random.Rng | None = None,
        *,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: Sequence[Stop] = (),
        pad: int = 0,
        draft: LanguageModel | None = None,
        draft_tokens: int = 4,
    ) -> hx.Tensor:
        """Continue texts: read the prompt at once, then one token at a time from the state.

        Parameters
        ----------
        ids : Tensor, (b, l), integer, l at least 1.
        max_new_tokens : int.
        temperature, top_k, top_p, min_p, repetition_penalty : see `models.Sampling`. The penalty
            is for what the prompt and the new text have.
        rng : the stream to draw from; the same bits give the same text.
        stop : tokens, and sequences of them as lists or bytes. A row ends with the first that its
            new text has; all is done when every row has ended.
        pad : what fills the rows that ended before others.
        draft : a smaller model over the same tokens, which guesses ahead for one text; the
            distribution is that of this model. See `models.speculation`.
        draft_tokens : how many tokens it guesses at a time.

        Returns
        -------
        Tensor, (b, l + n), int64; n is max_new_tokens, or less after stops.

        Raises
        ------
        ShapeError : the prompt is empty, or has several rows for a draft. DTypeError : ids are no
            integers. ValueRangeError : an option has no meaning.

        Examples
        --------
        >>> import helixml as hx
        >>> config = hx.models.MambaConfig(hidden_size=8, num_hidden_layers=1)
        >>> model = hx.models.MambaLM(config, rng=hx.random.Rng(0))
        >>> prompt = hx.tensor([list(b"To be")])
        >>> model.generate(prompt, 3, top_p=0.9, stop=[b". "], rng=hx.random.Rng(0)).shape
        (1, 8)
        """
        if max_new_tokens is None:
            raise ValueRangeError("generate: max_new_tokens=None has no end. Hint: see stream().")
        new = self.stream(
            ids,
            max_new_tokens,
            temperature,
            top_k,
            rng,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            stop=stop,
            pad=pad,
            draft=draft,
            draft_tokens=draft_tokens,
        )
        columns = [ids.astype("int64"), *[hx.expand_dims(token, 1) for token in new]]
        joined: hx.Tensor = hx.concat(columns, axis=1)
        return joined

    def stream(
        self,
        ids: hx.Tensor,
        max_new_tokens: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        rng: hx.random.Rng | None = None,
        *,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: Sequence[Stop] = (),
        pad: int = 0,
        draft: LanguageModel | None = None,
        draft_tokens: int = 4,
    ) -> Iterator[hx.Tensor]:
        """Continue texts, and give each token as soon as it is drawn.

        Parameters
        ----------
        max_new_tokens : int, or None: the text has no end but its stops.
        ids, temperature, top_k, rng, top_p, min_p, repetition_penalty, stop, pad, draft,
            draft_tokens : as for `generate`.

        Returns
        -------
        An iterator of Tensors, (b,), int64.

        Raises
        ------
        ShapeError, DTypeError, ValueRangeError : as for `generate`, at once.
        """
        self._check(ids)
        check_prompt("generate", ids, max_new_tokens)
        rules = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
        if draft is None:
            tokens = one_by_one(self, ids, rules, rng)
        else:
            check_draft(ids, draft_tokens)
            tokens = speculate(self, draft, ids, rules, rng, draft_tokens, max_new_tokens)
        return until(tokens, max_new_tokens, Stops(stop), pad)

    def beam_search(
        self,
        ids: hx.Tensor,
        max_new_tokens: int,
        beams: int,
        *,
        length_penalty: float = 0.0,
        stop: Sequence[Stop] = (),
        pad: int = 0,
    ) -> tuple[hx.Tensor, hx.Tensor]:
        """Look for the likeliest continuations while a few are kept at a time.

        Parameters
        ----------
        ids : Tensor, (b, l), integer, l at least 1.
        max_new_tokens : int.
        beams : int, how many continuations of each prompt are kept.
        length_penalty : float; scores are divided by length^length_penalty.
        stop, pad : as for `generate`.

        Returns
        -------
        texts : Tensor, (b, beams, l + n), int64, the best first.
        scores : Tensor, (b, beams), float64, log-probabilities; see `models.beam_search`.

        Raises
        ------
        ShapeError, DTypeError, ValueRangeError : as for `generate`.

        Examples
        --------
        >>> import helixml as hx
        >>> config = hx.models.MambaConfig(hidden_size=8, num_hidden_layers=1)
        >>> model = hx.models.MambaLM(config, rng=hx.random.Rng(0))
        >>> texts, scores = model.beam_search(hx.tensor([[84, 111]]), 4, beams=3)
        >>> texts.shape, scores.shape
        ((1, 3, 6), (1, 3))
        """
        self._check(ids)
        check_prompt("beam_search", ids, max_new_tokens)
        return search(self, ids, max_new_tokens, beams, length_penalty, Stops(stop), pad)

    def quantize(self, dtype: Literal["int8", "bfloat16"]) -> Self:
        """Store the weights of Linear and Embedding in fewer bytes, in place, for inference.

        Folders keep them so: `save_pretrained` writes them, `from_pretrained` reads them.

        Parameters
        ----------
        dtype : "int8", with a scale for each output channel, or "bfloat16"; the model computes in
            floats as before. See `quantization.store_weights`.

        Returns
        -------
        The model itself.

        Raises
        ------
        ConfigError : that was done before. DTypeError : another dtype.
        """
        if self.weights_dtype is not None:
            raise ConfigError(f"quantize: the weights are stored as {self.weights_dtype} already.")
        store_weights(self, dtype, self.stored_kinds)
        self.weights_dtype = dtype
        return self

    def save_pretrained(self, folder: str | Path, *, max_shard_size: int | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``, or shards of at most so many bytes."""
        from helixml.models.pretrained import save

        save(self, folder, max_shard_size)
