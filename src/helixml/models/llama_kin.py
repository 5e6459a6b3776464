"""Configurations of models that are a `LlamaLM` but for windows and biases: Mistral, Qwen2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from helixml.models.llama import LlamaConfig

__all__ = ["MistralConfig", "Qwen2Config"]


@dataclass(frozen=True)
class MistralConfig(LlamaConfig):
    """Sizes of a Mistral: a `LlamaLM` whose attention sees the last positions only.

    Attributes
    ----------
    sliding_window : how many positions are seen, or None for all. All else is `LlamaConfig`'s.

    References
    ----------
    Jiang et al. 2023, "Mistral 7B", section 2.
    """

    model_type: ClassVar[str] = "mistral"
    architecture: ClassVar[str] = "MistralForCausalLM"
    fixed: ClassVar[dict[str, Any]] = {"attention_bias": False, "mlp_bias": False}

    sliding_window: int | None = None

    def window(self, layer: int) -> int | None:
        """Return how many positions a layer sees."""
        return self.sliding_window


@dataclass(frozen=True)
class Qwen2Config(MistralConfig):
    """Sizes of a Qwen2: queries, keys and values have biases, the upper layers may have windows.

    Attributes
    ----------
    use_sliding_window : whether any layer has a window.
    max_window_layers : how many layers, from the first, have none. All else is `MistralConfig`'s.

    References
    ----------
    Yang et al. 2024, "Qwen2 technical report", section 2.2.
    """

    model_type: ClassVar[str] = "qwen2"
    architecture: ClassVar[str] = "Qwen2ForCausalLM"
    fixed: ClassVar[dict[str, Any]] = {"mlp_bias": False}

    attention_bias: bool = True
    use_sliding_window: bool = False
    max_window_layers: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.attention_bias:
            raise self.error("attention_bias=False is not offered.")

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Qwen2Config:
        """Make a configuration from ``config.json``.

        Raises
        ------
        ConfigError : a value makes no sense, or asks for something that the model does not have.
        """
        config = super().from_dict(record)
        kinds = ["full_attention", "sliding_attention"]
        layers = range(config.num_hidden_layers)
        wanted = [kinds[config.window(number) is not None] for number in layers]
        if record.get("layer_types") not in (None, wanted):
            raise cls.error(f"layer_types={record['layer_types']!r} is not offered, only {wanted}.")
        return config

    def window(self, layer: int) -> int | None:
        """Return how many positions a layer sees."""
        windowed = self.use_sliding_window and layer >= self.max_window_layers
        return self.sliding_window if windowed else None

    @property
    def output_bias(self) -> bool:
        """Whether the attention's last map has a bias."""
        return False
