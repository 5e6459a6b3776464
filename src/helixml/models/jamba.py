"""JambaLM: Mamba and attention layers, some with mixtures of experts, in Hugging Face's names."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import helixml as hx
from helixml.models.config import ModelConfig
from helixml.models.language_model import LanguageModel, Parts, output_layer
from helixml.nn import (
    Embedding,
    GatedFeedForward,
    MambaBlock,
    MixtureOfExperts,
    Module,
    ModuleList,
    MultiHeadAttention,
    RMSNorm,
    TopKRouter,
)
from helixml.nn.sequence import State, read

__all__ = ["JambaConfig", "JambaLM"]


@dataclass(frozen=True)
class JambaConfig(ModelConfig):
    """Sizes of a `JambaLM`, under the keys of Hugging Face's ``config.json``.

    Attributes
    ----------
    vocab_size : number of tokens; 256 for bytes.
    hidden_size : features of the residual stream.
    intermediate_size : features inside the feed-forward blocks and inside each expert.
    num_hidden_layers : layers, counted from 0 in what follows.
    attn_layer_period, attn_layer_offset : layers whose number has this remainder are attention,
        all others Mamba.
    expert_layer_period, expert_layer_offset : layers whose number has this remainder have a mixture
        of experts as feed-forward block, if there are more than one.
    num_experts, num_experts_per_tok : experts of a mixture, and how many each token goes through.
    num_attention_heads : heads of queries. num_key_value_heads : of keys and values; None for as
        many.
    mamba_d_state, mamba_d_conv, mamba_expand, mamba_dt_rank, mamba_conv_bias, mamba_proj_bias : see
        `nn.MambaBlock`; a rank of 0 means ceil(hidden_size / 16).
    rms_norm_eps : eps of the normalisations.
    initializer_range : standard deviation of the embedding's starting values.
    attention_dropout : share of the attention's weights that is zeroed while training.
    tie_word_embeddings : whether the output layer is the embedding's transpose.
    """

    model_type: ClassVar[str] = "jamba"
    architecture: ClassVar[str] = "JambaForCausalLM"
    fixed: ClassVar[dict[str, Any]] = {"hidden_act": "silu"}

    vocab_size: int = 256
    hidden_size: int = 256
    intermediate_size: int = 512
    num_hidden_layers: int = 8
    attn_layer_period: int = 8
    attn_layer_offset: int = field(default=4, metadata={"least": 0})
    expert_layer_period: int = 2
    expert_layer_offset: int = field(default=1, metadata={"least": 0})
    num_experts: int = 4
    num_experts_per_tok: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    mamba_d_state: int = 16
    mamba_d_conv: int = 4
    mamba_expand: int = 2
    mamba_dt_rank: int = field(default=0, metadata={"least": 0})
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    attention_dropout: float | int = 0.0
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in ("attn", "expert"):
            period = getattr(self, f"{kind}_layer_period")
            offset = getattr(self, f"{kind}_layer_offset")
            if offset >= period:
                raise self.error(
                    f"{kind}_layer_offset={offset}, it must be below {kind}_layer_period={period}."
                )
        if self.num_experts_per_tok > self.num_experts:
            raise self.error(
                f"num_experts_per_tok={self.num_experts_per_tok} of num_experts={self.num_experts}."
            )
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if groups is not None and heads % groups:
            raise self.error(f"num_key_value_heads={groups} does not divide {heads} heads.")
        if self.hidden_size % heads:
            raise self.error(f"num_attention_heads={heads} does not divide {self.hidden_size}.")

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Make a configuration from ``config.json``; keys of other purposes are left out.

        Raises
        ------
        ConfigError : a value makes no sense, or asks for something that `JambaLM` does not have.
        """
        if record.get("mamba_dt_rank") in (None, "auto"):
            record = {**record, "mamba_dt_rank": 0}
        return super().from_dict(record)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        return super().to_dict() | {
            "num_key_value_heads": self.num_key_value_heads or self.num_attention_heads,
            "mamba_dt_rank": self.mamba_dt_rank or math.ceil(self.hidden_size / 16),
            "hidden_act": "silu",
        }

    def is_attention(self, layer: int) -> bool:
        """Tell whether a layer is attention."""
        return layer % self.attn_layer_period == self.attn_layer_offset

    def has_experts(self, layer: int) -> bool:
        """Tell whether a layer has a mixture of experts."""
        of_period = layer % self.expert_layer_period == self.expert_layer_offset
        return self.num_experts > 1 and of_period


class _Mamba(MambaBlock):
    """A Mamba block that normalises dt, B and C, each with weights of its own."""

    def __init__(self, config: JambaConfig, rng: hx.random.Rng) -> None:
        super().__init__(
            config.hidden_size,
            config.mamba_d_state,
            config.mamba_d_conv,
            config.mamba_expand,
            dt_rank=config.mamba_dt_rank or None,
            bias=config.mamba_proj_bias,
            conv_bias=config.mamba_conv_bias,
            rng=rng,
        )
        self.dt_layernorm = RMSNorm(self.dt_proj.weight.shape[1], config.rms_norm_eps)
        self.b_layernorm = RMSNorm(config.mamba_d_state, config.rms_norm_eps)
        self.c_layernorm = RMSNorm(config.mamba_d_state, config.rms_norm_eps)

    def normed(
        self, dt: hx.Tensor, B: hx.Tensor, C: hx.Tensor
    ) -> tuple[hx.Tensor, hx.Tensor, hx.Tensor]:
        return self.dt_layernorm(dt), self.b_layernorm(B), self.c_layernorm(C)


class _Layer(Module):
    """x + mixer(norm(x)), and then y + feed_forward(norm(y))."""

    def __init__(self, config: JambaConfig, number: int, rng: hx.random.Rng) -> None:
        d = config.hidden_size
        self.self_attn = self.mamba = None
        if config.is_attention(number):
            self.self_attn = MultiHeadAttention(
                d,
                config.num_attention_heads,
                kv_heads=config.num_key_value_heads,
                dropout=config.attention_dropout,
                rng=rng,
            )
        else:
            self.mamba = _Mamba(config, rng)
        experts = [
            GatedFeedForward(d, config.intermediate_size, rng=rng)
            for _ in range(config.num_experts if config.has_experts(number) else 1)
        ]
        self.feed_forward: Module = experts[0]
        if config.has_experts(number):
            router = TopKRouter(
                d, config.num_experts, config.num_experts_per_tok, normalise=False, rng=rng
            )
            self.feed_forward = MixtureOfExperts(experts, router)
        self.input_layernorm = RMSNorm(d, config.rms_norm_eps)
        self.pre_ff_layernorm = RMSNorm(d, config.rms_norm_eps)

    def mixer(self) -> Any:  # Any: one sequence layer or the other
        return self.mamba if self.self_attn is None else self.self_attn

    def forward(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        normed = self.input_layernorm(x)
        mixed, state = read(self.mixer(), normed, state)
        normed, x = self.pre_ff_layernorm.add(mixed, x)  # x + mixed, and it normalised
        return x + self.feed_forward(normed), state

    def init_state(self, batch: int) -> State:
        return self.mixer().init_state(batch)


class _Stack(Module):
    """Embedding, layers, last normalisation."""

    def __init__(self, config: JambaConfig, rng: hx.random.Rng) -> None:
        d = config.hidden_size
        self.embed_tokens = Embedding(config.vocab_size, d, config.initializer_range, rng)
        self.layers = ModuleList(
            _Layer(config, number, rng) for number in range(config.num_hidden_layers)
        )
        self.final_layernorm = RMSNorm(d, config.rms_norm_eps)


class JambaLM(LanguageModel):
    """A hybrid of Mamba and attention: tokens in, logits of the next one out.

    Attention has no positions: the Mamba layers before it tell the order.

    Parameters
    ----------
    config : `JambaConfig`.
    rng : the stream for starting values and dropout.

    Notes
    -----
    What the experts of a layer did in the last call is in
    ``model.model.layers[i].feed_forward.report``: add its losses to that of the tokens in training.

    References
    ----------
    Lieber et al. 2024, "Jamba: a hybrid transformer-Mamba language model", sections 2 and 6.

    Examples
    --------
    >>> import helixml as hx
    >>> sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    >>> config = hx.models.JambaConfig(**sizes, attn_layer_period=2, attn_layer_offset=1)
    >>> model = hx.models.JambaLM(config, rng=hx.random.Rng(0))
    >>> model(hx.tensor([[72, 101, 108]])).shape
    (1, 3, 256)
    """

    def __init__(self, config: JambaConfig, rng: hx.random.Rng | None = None) -> None:
        rng = rng or hx.random.default_rng()
        self.config = config
        self.model = _Stack(config, rng)
        self.lm_head = output_layer(config, config.hidden_size, rng)

    def _parts(self) -> Parts:
        parts = self.model
        return Parts(parts.embed_tokens, parts.layers, parts.final_layernorm, self.lm_head)
