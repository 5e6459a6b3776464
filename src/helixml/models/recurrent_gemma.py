"""RecurrentGemmaLM: gated linear recurrences and local attention, in Hugging Face's names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import helixml as hx
from helixml.models.config import ModelConfig
from helixml.models.language_model import LanguageModel, Parts, output_layer
from helixml.nn import (
    Embedding,
    GatedFeedForward,
    GriffinBlock,
    Module,
    ModuleList,
    MultiHeadAttention,
    Parameter,
    Rotary,
    rotary_frequencies,
)
from helixml.nn.sequence import State, read

__all__ = ["RecurrentGemmaConfig", "RecurrentGemmaLM"]


@dataclass(frozen=True)
class RecurrentGemmaConfig(ModelConfig):
    """Sizes of a `RecurrentGemmaLM`, under the keys of Hugging Face's ``config.json``.

    Attributes
    ----------
    vocab_size : number of tokens; 256 for bytes.
    hidden_size : features of the residual stream.
    intermediate_size : twice the features inside the feed-forward blocks.
    num_hidden_layers : layers.
    block_types : "recurrent" or "attention" for each layer, begun anew when it ends.
    num_attention_heads : heads of queries, and blocks of the recurrences' gates.
    num_key_value_heads : heads of keys and values; None for as many.
    lru_width : channels of the recurrences; hidden_size if None.
    conv1d_width : taps of the convolutions before them.
    attention_window_size : positions that attention sees.
    rope_theta, partial_rotary_factor : base of the positions' frequencies, and the share of a head
        that they turn; ``config.json`` has them in ``rope_parameters``.
    logits_soft_cap : c in c tanh(logits / c).
    rms_norm_eps : eps of the normalisations.
    attention_bias : whether the maps to queries, keys and values have biases.
    attention_dropout : share of the attention's weights that is zeroed while training.
    w_init_variance_scale : conv1d_width times the variance of the embedding's starting values.
    tie_word_embeddings : whether the output layer is the embedding's transpose.
    """

    model_type: ClassVar[str] = "recurrent_gemma"
    architecture: ClassVar[str] = "RecurrentGemmaForCausalLM"
    fixed: ClassVar[dict[str, Any]] = {"hidden_activation": "gelu_pytorch_tanh"}

    vocab_size: int = 256
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    block_types: tuple[str, ...] = ("recurrent", "recurrent", "attention")
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    lru_width: int | None = None
    conv1d_width: int = 4
    attention_window_size: int = 2048
    rope_theta: float = 10000.0
    partial_rotary_factor: float = 0.5
    logits_soft_cap: float = 30.0
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    attention_dropout: float | int = 0.0
    w_init_variance_scale: float = 0.01
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        types: Any = self.block_types  # Any: a file may hold anything
        if isinstance(types, list):  # as JSON has it
            types = tuple(types)
            object.__setattr__(self, "block_types", types)
        known = {"recurrent", "attention"}
        if not isinstance(types, tuple) or not types or not set(map(str, types)) <= known:
            raise self.error(f"block_types={types!r}, they must be of {sorted(known)}.")
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if groups is not None and heads % groups:
            raise self.error(f"num_key_value_heads={groups} does not divide {heads} heads.")
        for name in ("hidden_size", "lru_width"):
            size = getattr(self, name)
            if size is not None and size % heads:
                raise self.error(f"num_attention_heads={heads} does not divide {name}={size}.")
        if self.intermediate_size < 2:
            raise self.error(f"intermediate_size={self.intermediate_size}, half of it is used.")
        if self.partial_rotary_factor > 1 or not self.turned or self.turned % 2:
            raise self.error(
                f"partial_rotary_factor={self.partial_rotary_factor} turns {self.turned} features "
                f"of {self.hidden_size // heads}; their number must be even, and at least 2."
            )

    @property
    def turned(self) -> int:
        """Features of a head that positions turn."""
        return int(self.hidden_size // self.num_attention_heads * self.partial_rotary_factor)

    def is_attention(self, layer: int) -> bool:
        """Tell whether a layer is attention."""
        return self.block_types[layer % len(self.block_types)] == "attention"

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Make a configuration from ``config.json``; keys of other purposes are left out.

        Raises
        ------
        ConfigError : a value makes no sense, or asks for something that the model does not have.
        """
        rope = record.get("rope_parameters") or {}
        if not isinstance(rope, Mapping) or rope.get("rope_type", "default") != "default":
            raise cls.error(f"rope_parameters={rope!r} is not offered. Hint: rope_type 'default'.")
        keys = ("rope_theta", "partial_rotary_factor")
        return super().from_dict(record | {key: rope[key] for key in keys if key in rope})

    def to_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        record = super().to_dict() | {
            "block_types": list(self.block_types),
            "num_key_value_heads": self.num_key_value_heads or self.num_attention_heads,
            "lru_width": self.lru_width or self.hidden_size,
            "hidden_activation": "gelu_pytorch_tanh",
        }
        rope = {key: record.pop(key) for key in ("rope_theta", "partial_rotary_factor")}
        return record | {"rope_parameters": {"rope_type": "default", **rope}}


class _Norm(Module):
    """RMS normalisation, times 1 + weight."""

    def __init__(self, config: RecurrentGemmaConfig) -> None:
        self.weight = Parameter(hx.zeros((config.hidden_size,)), decay=False)
        self.eps = config.rms_norm_eps

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        y: hx.Tensor = hx.rms_norm(x, 1 + self.weight, self.eps)
        return y


class _Layer(Module):
    """x + temporal(norm(x)), and then y + feed_forward(norm(y))."""

    def __init__(self, config: RecurrentGemmaConfig, number: int, rng: hx.random.Rng) -> None:
        d, heads = config.hidden_size, config.num_attention_heads
        self.temporal_pre_norm = _Norm(config)
        self.temporal_block: Any  # Any: one sequence layer or the other
        if config.is_attention(number):
            self.temporal_block = MultiHeadAttention(
                d,
                heads,
                kv_heads=config.num_key_value_heads,
                rotary=Rotary(rotary_frequencies(config.turned, config.rope_theta)),
                window=config.attention_window_size,
                dropout=config.attention_dropout,
                bias=config.attention_bias,
                out_bias=True,
                rng=rng,
            )
        else:
            self.temporal_block = GriffinBlock(
                d, config.lru_width, heads, config.conv1d_width, unscaled_start=True, rng=rng
            )
        self.channel_pre_norm = _Norm(config)
        self.mlp_block = GatedFeedForward(
            d, config.intermediate_size // 2, "gelu_tanh", bias=True, rng=rng
        )

    def forward(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        normed = self.temporal_pre_norm(x)
        mixed, state = read(self.temporal_block, normed, state)
        x = x + mixed
        return x + self.mlp_block(self.channel_pre_norm(x)), state

    def init_state(self, batch: int) -> State:
        return self.temporal_block.init_state(batch)


class _Stack(Module):
    """Embedding, layers, last normalisation."""

    def __init__(self, config: RecurrentGemmaConfig, rng: hx.random.Rng) -> None:
        std = math.sqrt(config.w_init_variance_scale / config.conv1d_width)
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size, std, rng)
        self.layers = ModuleList(
            _Layer(config, number, rng) for number in range(config.num_hidden_layers)
        )
        self.final_norm = _Norm(config)


class RecurrentGemmaLM(LanguageModel):
    """Griffin's hybrid of gated linear recurrences and local attention.

    Parameters
    ----------
    config : `RecurrentGemmaConfig`.
    rng : the stream for starting values and dropout.

    References
    ----------
    De et al. 2024, "Griffin: mixing gated linear recurrences with local attention for efficient
    language models", section 2; Botev et al. 2024, "RecurrentGemma: moving past transformers for
    efficient open language models". As in Hugging Face's model the embedding is scaled by
    sqrt(hidden_size) rounded to bfloat16, and the first step of a recurrence is not scaled.

    Examples
    --------
    >>> import helixml as hx
    >>> sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    >>> config = hx.models.RecurrentGemmaConfig(**sizes, num_attention_heads=2)
    >>> model = hx.models.RecurrentGemmaLM(config, rng=hx.random.Rng(0))
    >>> model(hx.tensor([[72, 101, 108]])).shape
    (1, 3, 256)
    """

    def __init__(self, config: RecurrentGemmaConfig, rng: hx.random.Rng | None = None) -> None:
        rng = rng or hx.random.default_rng()
        self.config = config
        self.model = _Stack(config, rng)
        self.lm_head = output_layer(config, config.hidden_size, rng)
        self.scale = float(hx.tensor(math.sqrt(config.hidden_size), dtype="bfloat16").item())

    def _parts(self) -> Parts:
        parts = self.model
        return Parts(parts.embed_tokens, parts.layers, parts.final_norm, self.lm_head)

    def _embed(self, ids: hx.Tensor, state: State) -> hx.Tensor:
        return super()._embed(ids, state) * self.scale

    def logits(self, end: hx.Tensor) -> hx.Tensor:
        """Return logits, (..., hidden_size) to (..., vocab_size), between -cap and cap."""
        cap = self.config.logits_soft_cap
        logits: hx.Tensor = hx.tanh(super().logits(end) / cap) * cap
        return logits
