"""RwkvLM: the language model RWKV-4, in Hugging Face's names and layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import helixml as hx
from helixml.models.config import ModelConfig
from helixml.models.language_model import LanguageModel, Parts, output_layer
from helixml.nn import (
    Embedding,
    LayerNorm,
    Module,
    ModuleList,
    RwkvChannelMixing,
    RwkvTimeMixing,
)
from helixml.nn.sequence import State, check_state

__all__ = ["RwkvConfig", "RwkvLM"]


@dataclass(frozen=True)
class RwkvConfig(ModelConfig):
    """Sizes of an `RwkvLM`, under the keys of Hugging Face's ``config.json``.

    Attributes
    ----------
    vocab_size : number of tokens; 256 for bytes.
    context_length : tokens of the texts in training; the model reads texts of any length.
    hidden_size : features of the residual stream.
    num_hidden_layers : blocks.
    attention_hidden_size : channels of the time mixing; 0 means hidden_size.
    intermediate_size : units of the channel mixing; 0 means 4 * hidden_size.
    layer_norm_epsilon : eps of the blocks' normalisations.
    rescale_every : in evaluation the residual stream is halved after so many layers, against
        overflow in half precision; 0 for never.
    tie_word_embeddings : whether the output layer is the embedding's transpose.
    """

    model_type: ClassVar[str] = "rwkv"
    architecture: ClassVar[str] = "RwkvForCausalLM"

    vocab_size: int = 256
    context_length: int = 1024
    hidden_size: int = 256
    num_hidden_layers: int = 4
    attention_hidden_size: int = field(default=0, metadata={"least": 0})
    intermediate_size: int = field(default=0, metadata={"least": 0})
    layer_norm_epsilon: float = 1e-5
    rescale_every: int = field(default=6, metadata={"least": 0})
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Make a configuration from ``config.json``; keys of other purposes are left out.

        Raises
        ------
        ConfigError : a value makes no sense.
        """
        record = dict(record)
        for key in ("attention_hidden_size", "intermediate_size"):
            if record.get(key) is None:
                record[key] = 0
        if isinstance(every := record.get("rescale_every"), int) and every < 0:
            record["rescale_every"] = 0
        return super().from_dict(record)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        return super().to_dict() | {
            "attention_hidden_size": self.attention_hidden_size or self.hidden_size,
            "intermediate_size": self.intermediate_size or 4 * self.hidden_size,
        }


class _Block(Module):
    """Time mixing and channel mixing, each on the normalised stream and added to it."""

    def __init__(self, config: RwkvConfig, number: int, rng: hx.random.Rng) -> None:
        features, eps = config.hidden_size, config.layer_norm_epsilon
        if number == 0:
            self.pre_ln = LayerNorm(features, eps)
        self.ln1 = LayerNorm(features, eps)
        self.ln2 = LayerNorm(features, eps)
        self.attention = RwkvTimeMixing(
            features,
            config.attention_hidden_size or None,
            layer=number,
            num_layers=config.num_hidden_layers,
            rng=rng,
        )
        self.feed_forward = RwkvChannelMixing(
            features,
            config.intermediate_size or None,
            layer=number,
            num_layers=config.num_hidden_layers,
            rng=rng,
        )

    def forward(self, stream: hx.Tensor, state: State, scale: float) -> tuple[hx.Tensor, State]:
        """Return the stream after the block, to which what is added is scaled, and the state."""
        mixed, past = self.attention.chunk(self.ln1(stream), state[0])
        stream = stream + scale * mixed
        mixed, past_of_channels = self.feed_forward.chunk(self.ln2(stream), state[1])
        return stream + scale * mixed, (past, past_of_channels)

    def init_state(self, batch: int) -> State:
        return self.attention.init_state(batch), self.feed_forward.init_state(batch)


class _Backbone(Module):
    """Embedding, blocks, last normalisation."""

    def __init__(self, config: RwkvConfig, rng: hx.random.Rng) -> None:
        # Small, with a normalisation behind it (Peng et al. 2023, section 3.4).
        self.embeddings = Embedding(config.vocab_size, config.hidden_size, 1e-4, rng)
        self.blocks = ModuleList(_Block(config, n, rng) for n in range(config.num_hidden_layers))
        self.ln_out = LayerNorm(config.hidden_size)  # its eps is no part of the configuration


class RwkvLM(LanguageModel):
    """A language model of RWKV-4's time mixing and channel mixing.

    Parameters
    ----------
    config : `RwkvConfig`.
    rng : the stream for starting values.

    Notes
    -----
    In evaluation the residual stream is halved after every ``rescale_every`` layers, and with it
    all that later layers add. Normalisations take that away again but for their eps, which weighs
    more against a smaller stream: logits differ a little from those of training. Hugging Face's
    model divides the weights of the layers' outputs in place; here they stay what they are, and
    what the layers add is scaled, which is the same.

    References
    ----------
    Peng et al. 2023, "RWKV: reinventing RNNs for the transformer era", section 3 and figure 2.

    Examples
    --------
    >>> import helixml as hx
    >>> config = hx.models.RwkvConfig(hidden_size=16, num_hidden_layers=2)
    >>> model = hx.models.RwkvLM(config, rng=hx.random.Rng(0))
    >>> model(hx.tensor([[72, 101, 108]])).shape
    (1, 3, 256)
    """

    def __init__(self, config: RwkvConfig, rng: hx.random.Rng | None = None) -> None:
        rng = rng or hx.random.default_rng()
        self.config = config
        self.rwkv = _Backbone(config, rng)
        self.head = output_layer(config, config.hidden_size, rng)

    def _parts(self) -> Parts:
        parts = self.rwkv
        return Parts(parts.embeddings, parts.blocks, parts.ln_out, self.head)

    def run(self, ids: hx.Tensor, state: State) -> tuple[list[hx.Tensor], State]:
        """Return the residual stream after each block, the normalised end, and the next state."""
        if state is None:
            state = self.init_state(ids.shape[0])
        every = 0 if self.training else self.config.rescale_every
        stream = self.rwkv.blocks[0].pre_ln(self.rwkv.embeddings(ids))
        streams, states, scale = [], [], 1.0
        for number, block in enumerate(self.rwkv.blocks):
            check_state(f"RwkvLM, block {number}", state[number], 2)
            stream, after = block(stream, state[number], scale)
            if every and (number + 1) % every == 0:
                stream = stream / 2
                scale = scale / 2
            streams.append(stream)
            states.append(after)
        return [*streams, self.rwkv.ln_out(stream)], states
