"""MambaLM: a language model of Mamba blocks, in Hugging Face's names and layout."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import helixml as hx
from helixml.errors import ConfigError, DTypeError, ShapeError, ValueRangeError
from helixml.models.sampling import draw
from helixml.nn import Embedding, Linear, MambaBlock, Module, ModuleList, RMSNorm
from helixml.nn.sequence import State, check_state

__all__ = ["MambaConfig", "MambaLM"]


@dataclass(frozen=True)
class MambaConfig:
    """Sizes of a `MambaLM`, under the keys of Hugging Face's ``config.json``.

    Attributes
    ----------
    vocab_size : number of tokens; 256 for bytes.
    hidden_size : features of the residual stream.
    num_hidden_layers : blocks.
    state_size, conv_kernel, expand, time_step_rank : see `nn.MambaBlock`; a rank of 0 means
        ceil(hidden_size / 16).
    use_bias, use_conv_bias : biases of the projections and of the convolution.
    layer_norm_epsilon : eps of the normalisations.
    tie_word_embeddings : whether the output layer is the embedding's transpose.
    initializer_range : standard deviation of the embedding's starting values.
    time_step_min, time_step_max, time_step_floor : range of the starting step sizes, in tokens.
    """

    vocab_size: int = 256
    hidden_size: int = 256
    num_hidden_layers: int = 4
    state_size: int = 16
    conv_kernel: int = 4
    expand: int = 2
    time_step_rank: int = 0
    use_bias: bool = False
    use_conv_bias: bool = True
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02
    time_step_min: float = 0.001
    time_step_max: float = 0.1
    time_step_floor: float = 1e-4

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.type == "bool":
                fits, wanted = isinstance(value, bool), "true or false"
            elif field.type == "int":
                least = 0 if name == "time_step_rank" else 1
                fits, wanted = _is_number(value, int) and value >= least, f"an integer >= {least}"
            else:
                fits, wanted = _is_number(value, int | float) and 0 < value < math.inf, "above 0"
            if not fits:
                raise ConfigError(f"MambaConfig: {name}={value!r}, it must be {wanted}.")
        if self.time_step_min > self.time_step_max:
            raise ConfigError(
                f"MambaConfig: time_step_min={self.time_step_min} is above "
                f"time_step_max={self.time_step_max}."
            )

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> MambaConfig:
        """Make a configuration from ``config.json``; keys of other purposes are left out.

        Raises
        ------
        ConfigError : a value makes no sense, or asks for something that `MambaLM` does not have.
        """
        known = {field.name for field in fields(cls)}
        chosen = {key: value for key, value in record.items() if key in known}
        if chosen.get("time_step_rank") in (None, "auto"):
            chosen["time_step_rank"] = 0
        for key, wanted in (("hidden_act", "silu"), ("use_mambapy", False)):
            if record.get(key, wanted) != wanted:
                raise ConfigError(f"MambaConfig: {key}={record[key]!r} is not offered.")
        config = cls(**chosen)
        inner = config.expand * config.hidden_size
        if record.get("intermediate_size") not in (None, inner):
            raise ConfigError(
                f"MambaConfig: intermediate_size={record['intermediate_size']!r} is not "
                f"expand * hidden_size, {inner}."
            )
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        rank = self.time_step_rank or math.ceil(self.hidden_size / 16)
        return {
            "model_type": "mamba",
            "architectures": ["MambaForCausalLM"],
            **asdict(self),
            "time_step_rank": rank,
            "intermediate_size": self.expand * self.hidden_size,
            "hidden_act": "silu",
            "residual_in_fp32": True,
        }


def _is_number(value: object, kind: Any) -> bool:  # Any: a class, or a union of some
    """Tell whether ``value`` is of ``kind``; a bool, which Python counts as an int, is not."""
    return isinstance(value, kind) and not isinstance(value, bool)


class _Layer(Module):
    """One block and its normalisation; the residual stream runs beside it."""

    def __init__(self, config: MambaConfig, rng: hx.random.Rng) -> None:
        self.norm = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mixer = MambaBlock(
            config.hidden_size,
            config.state_size,
            config.conv_kernel,
            config.expand,
            dt_rank=config.time_step_rank or None,
            bias=config.use_bias,
            conv_bias=config.use_conv_bias,
            dt_min=config.time_step_min,
            dt_max=config.time_step_max,
            dt_floor=config.time_step_floor,
            rng=rng,
        )
        # Each block adds to the residual stream: keep its variance in depth (Radford et al. 2019,
        # "Language models are unsupervised multitask learners", section 2.3).
        with hx.no_grad():
            weight = self.mixer.out_proj.weight
            weight.assign_(weight / math.sqrt(config.num_hidden_layers))


class _Backbone(Module):
    """Embedding, layers, last normalisation."""

    def __init__(self, config: MambaConfig, rng: hx.random.Rng) -> None:
        self.embeddings = Embedding(
            config.vocab_size, config.hidden_size, config.initializer_range, rng
        )
        self.layers = ModuleList(_Layer(config, rng) for _ in range(config.num_hidden_layers))
        self.norm_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)

    def run(self, ids: hx.Tensor, state: State) -> tuple[list[hx.Tensor], State]:
        """Return the residual stream after each layer, the normalised end, and the next state."""
        stream = self.embeddings(ids)
        streams = []
        added: Any = None  # Any: from the first layer on a Tensor, its block's output
        states = []
        for number, layer in enumerate(self.layers):
            if added is None:
                normed = layer.norm(stream)
            else:  # the sum of stream and block is formed where it is normalised: one pass
                normed, stream = layer.norm.add(added, stream)
                streams.append(stream)
            if state is None:
                added = layer.mixer(normed)
            else:
                added, layer_state = layer.mixer.chunk(normed, state[number])
                states.append(layer_state)
        end, stream = self.norm_f.add(added, stream)
        return [*streams, stream, end], states


class MambaLM(Module):
    """A language model: bytes (or other tokens) in, logits of the next one out.

    Parameters
    ----------
    config : `MambaConfig`.
    rng : the stream for starting values.

    References
    ----------
    Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces".

    Examples
    --------
    >>> import helixml as hx
    >>> config = hx.models.MambaConfig(hidden_size=16, num_hidden_layers=2)
    >>> model = hx.models.MambaLM(config, rng=hx.random.Rng(0))
    >>> model(hx.tensor([[72, 101, 108]])).shape
    (1, 3, 256)
    """

    def __init__(self, config: MambaConfig, rng: hx.random.Rng | None = None) -> None:
        rng = rng or hx.random.default_rng()
        self.config = config
        self.backbone = _Backbone(config, rng)
        self.lm_head = (
            None
            if config.tie_word_embeddings
            else Linear(config.hidden_size, config.vocab_size, False, rng)
        )

    def _check(self, ids: hx.Tensor, wanted: tuple[str, ...] = ("b", "l")) -> None:
        if not isinstance(ids, hx.Tensor) or hx.dtypes.kind(ids.dtype) not in "ui":
            what = ids.dtype if isinstance(ids, hx.Tensor) else type(ids).__name__
            raise DTypeError(f"MambaLM: ids must be a Tensor of integers, not {what}.")
        if ids.ndim != len(wanted):
            raise ShapeError(f"MambaLM: ids are {ids.shape}, they must be ({', '.join(wanted)}).")

    def _logits(self, end: hx.Tensor) -> hx.Tensor:
        weight = self.backbone.embeddings.weight if self.lm_head is None else self.lm_head.weight
        logits: hx.Tensor = end @ weight.mT
        return logits

    def forward(self, ids: hx.Tensor) -> hx.Tensor:
        """Return logits, (b, l) integers to (b, l, vocab_size)."""
        self._check(ids)
        streams, _ = self.backbone.run(ids, None)
        return self._logits(streams[-1])

    def hidden_states(self, ids: hx.Tensor) -> list[hx.Tensor]:
        """Return the residual stream after each layer, and last what the output layer reads."""
        self._check(ids)
        return self.backbone.run(ids, None)[0]

    def init_state(self, batch: int) -> State:
        """Return the state before anything was read: one entry a layer."""
        return [layer.mixer.init_state(batch) for layer in self.backbone.layers]

    def chunk(self, ids: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Read a piece of text from ``state``: logits (b, l, vocab_size) and the next state."""
        self._check(ids)
        check_state("MambaLM", state, self.config.num_hidden_layers)
        streams, state = self.backbone.run(ids, state)
        return self._logits(streams[-1]), state

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
    ) -> hx.Tensor:
        """Continue texts: read the prompt at once, then one token at a time in constant memory.

        Parameters
        ----------
        ids : Tensor, (b, l), integer, l at least 1.
        max_new_tokens : int.
        temperature, top_k, rng : see `models.draw`.

        Returns
        -------
        Tensor, (b, l + max_new_tokens), int64.
        """
        self._check(ids)
        if ids.size == 0:
            raise ShapeError(
                f"generate: the prompt is empty: {ids.shape}. Hint: start with a newline, 10."
            )
        if max_new_tokens < 0:
            raise ValueRangeError(f"generate: max_new_tokens={max_new_tokens} is negative.")
        tokens = [ids.astype("int64")]
        with hx.no_grad():
            logits, state = self.chunk(ids, self.init_state(ids.shape[0]))
            logits = logits[:, -1]
            for number in range(max_new_tokens):
                drawn = draw(logits, temperature, top_k, rng)
                tokens.append(hx.expand_dims(drawn, 1))
                if number + 1 < max_new_tokens:
                    logits, state = self.step(drawn, state)
        joined: hx.Tensor = hx.concat(tokens, axis=1)
        return joined

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        from helixml.models.pretrained import save

        save(self, folder)
