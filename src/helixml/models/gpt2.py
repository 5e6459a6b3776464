"""Gpt2LM: a transformer with learned positions, in Hugging Face's names and layout of GPT-2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import helixml as hx
from helixml.errors import ShapeError
from helixml.models.config import ModelConfig
from helixml.models.language_model import LanguageModel, Parts, output_layer
from helixml.nn import (
    Attention,
    Dropout,
    Embedding,
    LayerNorm,
    Module,
    ModuleList,
    Parameter,
)
from helixml.nn.sequence import State, check_sequence, read
from helixml.quantization import StoredMatrix

__all__ = ["Gpt2Config", "Gpt2LM"]

_ACTIVATIONS = {
    "gelu_new": hx.gelu_tanh,
    "gelu_pytorch_tanh": hx.gelu_tanh,
    "gelu": hx.gelu,
    "relu": hx.relu,
    "silu": hx.silu,
}


@dataclass(frozen=True)
class Gpt2Config(ModelConfig):
    """Sizes of a `Gpt2LM`, under the keys of Hugging Face's ``config.json``.

    Attributes
    ----------
    vocab_size : number of tokens; 256 for bytes.
    n_positions : the longest text.
    n_embd, n_layer, n_head : features of the residual stream, layers, heads.
    n_inner : features inside the feed-forward blocks; 4 n_embd if None.
    activation_function : "gelu_new" (by tanh), "gelu", "relu" or "silu".
    embd_pdrop, resid_pdrop, attn_pdrop : shares that dropout zeroes while training, of the
        embedding, of what each block adds, and of the attention's weights.
    layer_norm_epsilon : eps of the normalisations.
    initializer_range : standard deviation of the starting values.
    scale_attn_weights : whether scores are divided by sqrt(n_embd / n_head).
    scale_attn_by_inverse_layer_idx : whether they are divided by the number of the layer, from 1.
    tie_word_embeddings : whether the output layer is the embedding's transpose.
    """

    model_type: ClassVar[str] = "gpt2"
    architecture: ClassVar[str] = "GPT2LMHeadModel"
    fixed: ClassVar[dict[str, Any]] = {"add_cross_attention": False}

    vocab_size: int = 256
    n_positions: int = 1024
    n_embd: int = 256
    n_layer: int = 4
    n_head: int = 4
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    embd_pdrop: float | int = 0.0
    resid_pdrop: float | int = 0.0
    attn_pdrop: float | int = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_embd % self.n_head:
            raise self.error(f"n_head={self.n_head} does not divide n_embd={self.n_embd}.")
        if self.activation_function not in _ACTIVATIONS:
            raise self.error(
                f"activation_function={self.activation_function!r} is not offered. "
                f"Hint: {', '.join(_ACTIVATIONS)}."
            )

    @property
    def num_hidden_layers(self) -> int:
        """The number of layers, as other models call it."""
        return self.n_layer


class _Conv1D(Module):
    """y = x W + b, the weight as GPT-2 keeps it: (in_features, out_features)."""

    def __init__(self, in_features: int, out_features: int, std: float, rng: hx.random.Rng) -> None:
        self.weight = Parameter(rng.normal((in_features, out_features), std=std))
        self.bias = Parameter(hx.zeros((out_features,)), decay=False)

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        y: hx.Tensor = hx.linear(x, self.weight.mT, self.bias)
        return y


class _StoredConv1D(StoredMatrix):
    """A `_Conv1D` whose weight takes less memory; see `LanguageModel.quantize`."""

    def __init__(self, layer: _Conv1D, dtype: Literal["int8", "bfloat16"]) -> None:
        super().__init__(layer.weight, dtype, axis=1)
        self.bias = layer.bias

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        y: hx.Tensor = hx.linear(x, self.weight.mT, self.bias)
        return y


class _Attention(Attention):
    """Attention with one map to queries, keys and values together."""

    def __init__(self, config: Gpt2Config, number: int, rng: hx.random.Rng) -> None:
        d, h = config.n_embd, config.n_head
        scale = 1 / math.sqrt(d // h) if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            scale /= number + 1
        super().__init__(h, h, d // h, scale=scale, dropout=config.attn_pdrop, rng=rng)
        self.c_attn = _Conv1D(d, 3 * d, config.initializer_range, rng)
        self.c_proj = _Conv1D(d, d, _depth_std(config), rng)

    def project(self, x: hx.Tensor) -> tuple[hx.Tensor, hx.Tensor, hx.Tensor]:
        d = self.c_attn.weight.shape[0]
        check_sequence("Gpt2LM", x, d)
        q, k, v = hx.split(self.c_attn(x), (d, d, d), axis=2)
        return q, k, v

    def output(self, y: hx.Tensor) -> hx.Tensor:
        result: hx.Tensor = self.c_proj(y)
        return result


class _FeedForward(Module):
    """W_2 f(W_1 x)."""

    def __init__(self, config: Gpt2Config, rng: hx.random.Rng) -> None:
        d = config.n_embd
        inner = config.n_inner or 4 * d
        self.c_fc = _Conv1D(d, inner, config.initializer_range, rng)
        self.c_proj = _Conv1D(inner, d, _depth_std(config), rng)
        self.activation = _ACTIVATIONS[config.activation_function]

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        y: hx.Tensor = self.c_proj(self.activation(self.c_fc(x)))
        return y


def _depth_std(config: Gpt2Config) -> float:
    """Return a deviation that keeps the residual stream's variance in depth (section 2.3)."""
    return config.initializer_range / math.sqrt(2 * config.n_layer)


class _Block(Module):
    """x + attention(norm(x)), and then y + feed_forward(norm(y))."""

    def __init__(self, config: Gpt2Config, number: int, rng: hx.random.Rng) -> None:
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = _Attention(config, number, rng)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = _FeedForward(config, rng)
        self.dropout = Dropout(config.resid_pdrop, rng)

    def forward(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        normed = self.ln_1(x)
        heard, state = read(self.attn, normed, state)
        x = x + self.dropout(heard)
        return x + self.dropout(self.mlp(self.ln_2(x))), state

    def init_state(self, batch: int) -> State:
        return self.attn.init_state(batch)


class _Transformer(Module):
    """Embeddings, layers, last normalisation."""

    def __init__(self, config: Gpt2Config, rng: hx.random.Rng) -> None:
        std = config.initializer_range
        self.wte = Embedding(config.vocab_size, config.n_embd, std, rng)
        self.wpe = Embedding(config.n_positions, config.n_embd, std, rng)
        self.drop = Dropout(config.embd_pdrop, rng)
        self.h = ModuleList(_Block(config, number, rng) for number in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)


class Gpt2LM(LanguageModel):
    """A transformer: tokens in, logits of the next one out.

    Parameters
    ----------
    config : `Gpt2Config`.
    rng : the stream for starting values and dropout.

    References
    ----------
    Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.3.

    Examples
    --------
    >>> import helixml as hx
    >>> config = hx.models.Gpt2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32)
    >>> model = hx.models.Gpt2LM(config, rng=hx.random.Rng(0))
    >>> model(hx.tensor([[72, 101, 108]])).shape
    (1, 3, 256)
    """

    stored_kinds: ClassVar = {**LanguageModel.stored_kinds, _Conv1D: _StoredConv1D}

    def __init__(self, config: Gpt2Config, rng: hx.random.Rng | None = None) -> None:
        rng = rng or hx.random.default_rng()
        self.config = config
        self.transformer = _Transformer(config, rng)
        self.lm_head = output_layer(config, config.n_embd, rng)

    def _parts(self) -> Parts:
        parts = self.transformer
        return Parts(parts.wte, parts.h, parts.ln_f, self.lm_head)

    def _embed(self, ids: hx.Tensor, state: State) -> hx.Tensor:
        """Add positions; raise ShapeError for a text that is longer than ``n_positions``."""
        start = 0 if state is None else state[0][0].shape[2]  # as many keys as tokens were read
        end = start + ids.shape[1]
        if end > self.config.n_positions:
            raise ShapeError(
                f"Gpt2LM: the text has {end} tokens, the model has n_positions="
                f"{self.config.n_positions}. Hint: read its last part alone."
            )
        parts = self.transformer
        stream: hx.Tensor = parts.drop(parts.wte(ids) + parts.wpe.weight[start:end])
        return stream
