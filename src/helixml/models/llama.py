"""LlamaLM: a transformer with turned positions and gates, in Hugging Face's names of Llama."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.models.config import ModelConfig
from helixml.models.language_model import LanguageModel, Parts, output_layer
from helixml.nn import (
    Embedding,
    GatedFeedForward,
    Module,
    ModuleList,
    MultiHeadAttention,
    RMSNorm,
    Rotary,
    llama3_frequencies,
    rotary_frequencies,
    yarn_frequencies,
)
from helixml.nn.sequence import State, read

__all__ = ["LlamaConfig", "LlamaLM"]

_NUMBERS = (
    *("rope_theta", "factor", "low_freq_factor", "high_freq_factor", "attention_factor"),
    *("original_max_position_embeddings", "beta_fast", "beta_slow"),
)


@dataclass(frozen=True)
class LlamaConfig(ModelConfig):
    """Sizes of a `LlamaLM`, under the keys of Hugging Face's ``config.json``.

    Attributes
    ----------
    vocab_size : number of tokens; 256 for bytes.
    hidden_size : features of the residual stream.
    intermediate_size : features inside the feed-forward blocks.
    num_hidden_layers, num_attention_heads : layers, heads of queries.
    num_key_value_heads : heads of keys and values; as many as of queries if None.
    head_dim : features of a head; hidden_size / num_attention_heads if None.
    hidden_act : activation of the gate, "silu", "gelu" or "relu".
    max_position_embeddings : length of the texts that it is trained with.
    rope_parameters : how positions turn: ``rope_type`` ("default", "linear", "llama3" or "yarn"),
        ``rope_theta``, and what the type needs; see `nn.Rotary`.
    rms_norm_eps : eps of the normalisations.
    initializer_range : standard deviation of the embedding's starting values.
    attention_bias, mlp_bias : whether the projections of the attention and of the feed-forward
        blocks have biases.
    attention_dropout : share of the attention's weights that is zeroed while training.
    tie_word_embeddings : whether the output layer is the embedding's transpose.
    """

    model_type: ClassVar[str] = "llama"
    architecture: ClassVar[str] = "LlamaForCausalLM"

    vocab_size: int = 256
    hidden_size: int = 256
    intermediate_size: int = 688
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    rope_parameters: Mapping[str, Any] | None = None  # Any: numbers and texts
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    attention_bias: bool = False
    mlp_bias: bool = False
    attention_dropout: float | int = 0.0
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if groups is not None and heads % groups:
            raise self.error(f"num_key_value_heads={groups} does not divide {heads} heads.")
        if self.head_dim is None and self.hidden_size % heads:
            raise self.error(
                f"num_attention_heads={heads} does not divide hidden_size={self.hidden_size}."
            )
        if self.hidden_act not in ("silu", "gelu", "relu"):
            raise self.error(f"hidden_act={self.hidden_act!r} is not offered.")
        self.rotary()

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Make a configuration from ``config.json``, of today or with ``rope_scaling`` of before.

        Raises
        ------
        ConfigError : a value makes no sense, or asks for something that the model does not have.
        """
        if record.get("rope_parameters") is None:
            old = record.get("rope_scaling") or {}
            if not isinstance(old, Mapping):
                raise cls.error(f"rope_scaling={old!r}, it must be an object.")
            kind = old.get("rope_type", old.get("type", "default"))
            theta = record.get("rope_theta", 10000.0)
            rope = {"rope_theta": theta, **old, "rope_type": kind}
            record = {**record, "rope_parameters": rope}
        return super().from_dict(record)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        default = {"rope_type": "default", "rope_theta": 10000.0}
        return super().to_dict() | {
            "num_key_value_heads": self.num_key_value_heads or self.num_attention_heads,
            "head_dim": self.features_per_head,
            "rope_parameters": dict(self.rope_parameters or default),
        }

    @property
    def features_per_head(self) -> int:
        """Features of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def output_bias(self) -> bool:
        """Whether the attention's last map has a bias."""
        return self.attention_bias

    def window(self, layer: int) -> int | None:
        """Return how many positions a layer sees; None for all."""
        return None

    def rotary(self) -> Rotary:
        """Return what turns queries and keys.

        Raises
        ------
        ConfigError : ``rope_parameters`` are not of a type that is offered, or make no sense.
        """
        rope = self.rope_parameters or {}
        if not isinstance(rope, Mapping):
            raise self.error(f"rope_parameters={rope!r}, it must be an object.")
        given = {name: rope[name] for name in _NUMBERS if rope.get(name) is not None}
        for name, value in given.items():
            if type(value) not in (int, float) or not 0 < value < math.inf:
                raise self.error(f"rope_parameters: {name}={value!r}, it must be above 0.")
        kind = rope.get("rope_type", "default")
        if rope.get("partial_rotary_factor") not in (None, 1.0):
            raise self.error("rope_parameters: a partial_rotary_factor is not offered.")
        try:
            return self._rotary(kind, given, bool(rope.get("truncate", True)))
        except KeyError as missing:
            raise self.error(f"rope_parameters: type {kind!r} needs {missing}.") from None
        except ValueRangeError as error:
            raise self.error(f"rope_parameters: {error}") from error

    def _rotary(self, kind: object, given: Mapping[str, float], truncate: bool) -> Rotary:
        d, base = self.features_per_head, given.get("rope_theta", 10000.0)
        frequencies = rotary_frequencies(d, base)
        if kind == "default":
            return Rotary(frequencies)
        if kind == "linear":
            return Rotary([frequency / given["factor"] for frequency in frequencies])
        length = int(given.get("original_max_position_embeddings", self.max_position_embeddings))
        if kind == "llama3":
            low, high = given["low_freq_factor"], given["high_freq_factor"]
            return Rotary(llama3_frequencies(frequencies, given["factor"], low, high, length))
        if kind == "yarn":
            factor = given["factor"]
            fast, slow = given.get("beta_fast", 32), given.get("beta_slow", 1)
            stretched = yarn_frequencies(d, base, factor, length, fast, slow, truncate)
            # The temperature of the paper's section 3.3, as a gain of queries and keys each.
            gain = given.get("attention_factor", 0.1 * math.log(max(factor, 1)) + 1)
            return Rotary(stretched, gain=gain)
        raise self.error(
            f"rope_parameters: rope_type={kind!r} is not offered. "
            "Hint: default, linear, llama3, yarn."
        )


class _Layer(Module):
    """x + attention(norm(x)), and then y + feed_forward(norm(y))."""

    def __init__(self, config: LlamaConfig, number: int, rng: hx.random.Rng) -> None:
        d = config.hidden_size
        self.self_attn = MultiHeadAttention(
            d,
            config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.features_per_head,
            rotary=config.rotary(),
            window=config.window(number),
            dropout=config.attention_dropout,
            bias=config.attention_bias,
            out_bias=config.output_bias,
            rng=rng,
        )
        self.mlp = GatedFeedForward(
            d, config.intermediate_size, config.hidden_act, config.mlp_bias, rng=rng
        )
        self.input_layernorm = RMSNorm(d, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(d, config.rms_norm_eps)

    def forward(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        normed = self.input_layernorm(x)
        heard, state = read(self.self_attn, normed, state)
        normed, x = self.post_attention_layernorm.add(heard, x)  # x + heard, and it normalised
        return x + self.mlp(normed), state

    def init_state(self, batch: int) -> State:
        return self.self_attn.init_state(batch)


class _Stack(Module):
    """Embedding, layers, last normalisation."""

    def __init__(self, config: LlamaConfig, rng: hx.random.Rng) -> None:
        d = config.hidden_size
        self.embed_tokens = Embedding(config.vocab_size, d, config.initializer_range, rng)
        self.layers = ModuleList(
            _Layer(config, number, rng) for number in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(d, config.rms_norm_eps)


class LlamaLM(LanguageModel):
    """A transformer: tokens in, logits of the next one out.

    Parameters
    ----------
    config : `LlamaConfig`, or one of its kin: `MistralConfig`, `Qwen2Config`.
    rng : the stream for starting values and dropout.

    References
    ----------
    Touvron et al. 2023, "LLaMA: open and efficient foundation language models", section 2.2.
    Grattafiori et al. 2024, "The Llama 3 herd of models", section 3.2 (groups of heads).

    Examples
    --------
    >>> import helixml as hx
    >>> sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    >>> config = hx.models.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    >>> model = hx.models.LlamaLM(config, rng=hx.random.Rng(0))
    >>> model(hx.tensor([[72, 101, 108]])).shape
    (1, 3, 256)
    """

    def __init__(self, config: LlamaConfig, rng: hx.random.Rng | None = None) -> None:
        rng = rng or hx.random.default_rng()
        self.config = config
        self.model = _Stack(config, rng)
        self.lm_head = output_layer(config, config.hidden_size, rng)

    def _parts(self) -> Parts:
        parts = self.model
        return Parts(parts.embed_tokens, parts.layers, parts.norm, self.lm_head)
