"""BackboneLM: language models of one mixer a layer, in the names of Hugging Face's Mamba models.

The residual stream runs from the embedding past all layers to the last normalisation; each layer
adds what its mixer makes of the normalised stream, and then, where there is one, what its
feed-forward block makes of it. Which mixer that is, the model says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import helixml as hx
from helixml.models.language_model import LanguageModel, Parts, output_layer
from helixml.nn import Embedding, GatedFeedForward, Linear, Module, ModuleList, RMSNorm
from helixml.nn.sequence import State, read

__all__ = ["BackboneLM"]

MakesMixer = Callable[[int, hx.random.Rng], Module]


class _Layer(Module):
    """One mixer, perhaps a feed-forward block, and the normalisation of each."""

    def __init__(self, config: Any, mixer: Module, hidden: int, rng: hx.random.Rng) -> None:
        self.norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mixer: Any = mixer  # Any: a sequence layer, which no class stands for
        self.feed_norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon) if hidden else None
        self.feed_forward = (
            GatedFeedForward(config.hidden_size, hidden, rng=rng) if hidden else None
        )
        last = [_last_map(mixer)]
        if self.feed_forward is not None:
            last.append(self.feed_forward.down_proj)
        # Each of these adds to the residual stream: keep its variance in depth (Radford et al.
        # 2019, "Language models are unsupervised multitask learners", section 2.3).
        with hx.no_grad():
            for linear in last:
                scaled = linear.weight / math.sqrt(len(last) * config.num_hidden_layers)
                linear.weight.assign_(scaled)

    def forward(
        self, stream: hx.Tensor, added: hx.Tensor | None, state: State
    ) -> tuple[hx.Tensor, hx.Tensor, hx.Tensor, State]:
        """Take in what the layer before made, and make something of the whole.

        Parameters
        ----------
        stream : Tensor, (b, l, d), the residual stream.
        added : Tensor, (b, l, d), not yet in the stream; None before the first layer.
        state : the mixer's, or None.

        Returns
        -------
        The stream as it entered this layer, the stream now, what is not yet in it, and the mixer's
        next state.
        """
        entered, normed = self._enter(stream, added)
        mixed, state = read(self.mixer, normed, state)
        return entered, *self._feed(entered, mixed), state

    def init_state(self, batch: int) -> State:
        return self.mixer.init_state(batch)

    def _enter(self, stream: hx.Tensor, added: hx.Tensor | None) -> tuple[hx.Tensor, hx.Tensor]:
        """Return the sum and the sum normalised."""
        if added is None:
            return stream, self.norm(stream)
        normed, stream = self.norm.add(added, stream)  # one pass where there is a kernel
        return stream, normed

    def _feed(self, stream: hx.Tensor, mixed: hx.Tensor) -> tuple[hx.Tensor, hx.Tensor]:
        """Return the stream and what is to be added to it, after the feed-forward block if any."""
        if self.feed_norm is None or self.feed_forward is None:
            return stream, mixed
        normed, stream = self.feed_norm.add(mixed, stream)
        return stream, self.feed_forward(normed)


def _last_map(mixer: Any) -> Linear:
    """Return the projection that a sequence layer ends with; each kind has a name of its own."""
    names = ("out_proj", "o_proj", "linear_out", "output_linear", "output")
    last = next(getattr(mixer, name) for name in names if hasattr(mixer, name))
    return last if isinstance(last, Linear) else last[0]


class _Backbone(Module):
    """Embedding, layers, last normalisation."""

    def __init__(self, config: Any, mixer: MakesMixer, hidden: int, rng: hx.random.Rng) -> None:
        self.embeddings = Embedding(
            config.vocab_size, config.hidden_size, config.initializer_range, rng
        )
        self.layers = ModuleList(
            _Layer(config, mixer(number, rng), hidden, rng)
            for number in range(config.num_hidden_layers)
        )
        self.norm_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)


class BackboneLM(LanguageModel):
    """A language model of layers of one mixer each.

    Parameters
    ----------
    config : with ``vocab_size``, ``hidden_size``, ``num_hidden_layers``, ``layer_norm_epsilon``,
        ``initializer_range`` and ``tie_word_embeddings``. (Any: each model has its own class.)
    mixer : makes the mixer of the layer of a number, with a stream for starting values: a sequence
        layer that ends with a projection.
    rng : the stream for starting values.
    hidden : features inside the gated feed-forward block after each mixer; 0 for none.
    """

    def __init__(
        self, config: Any, mixer: MakesMixer, rng: hx.random.Rng | None = None, hidden: int = 0
    ) -> None:
        rng = rng or hx.random.default_rng()
        self.config = config
        self.backbone = _Backbone(config, mixer, hidden, rng)
        self.lm_head = output_layer(config, config.hidden_size, rng)

    def _parts(self) -> Parts:
        parts = self.backbone
        return Parts(parts.embeddings, parts.layers, parts.norm_f, self.lm_head)

    def run(self, ids: hx.Tensor, state: State) -> tuple[list[hx.Tensor], State]:
        """Return the residual stream after each layer, the normalised end, and the next state."""
        stream = self._embed(ids, state)
        added: Any = None  # Any: from the first layer on a Tensor, what the last block adds
        streams, states = [], []
        for layer, before in zip(self.backbone.layers, self._states(state), strict=True):
            entered, stream, added, after = layer(stream, added, before)
            streams.append(entered)
            states.append(after)
        end, stream = self.backbone.norm_f.add(added, stream)
        return [*streams[1:], stream, end], states
