"""What a training run is asked to do: frozen records, presets, and how settings are changed.

A setting has a dotted name, ``section.key``: ``model.hidden_size``, ``optim.lr``. Later sources
win: the preset, then a TOML file, then single settings (``--set optim.lr=1e-3``). Each is checked:
an unknown name is an error that names the nearest known one, a value must have the type of its
field and lie in its range.

Knows nothing of models or files other than the TOML one; trainer.py carries it out.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final, get_type_hints

from helixml.errors import ConfigError

__all__ = [
    "PRESETS",
    "DataSettings",
    "ModelSettings",
    "OptimSettings",
    "RunSettings",
    "TrainConfig",
]


def _setting(  # Any: as in dataclasses.field
    default: Any,
    *,
    least: float | None = None,
    below: float | None = None,
    one_of: tuple[str, ...] = (),
) -> Any:
    """Declare a field, its default and its range: ``least <= value < below``, or one of texts."""
    return field(default=default, metadata={"least": least, "below": below, "one_of": one_of})


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The language model and its size, in Hugging Face's words.

    Attributes
    ----------
    layer : names of sequence layers, see `models.ByteLMConfig`: one for all layers, or one a
        layer. None at all means Mamba's own model, `models.MambaLM`.
    intermediate_size : features inside the feed-forward blocks of a `models.ByteLM`; 0 for none.
    state_size, conv_kernel, expand : of the layers that have such; 0 leaves it to the layer, and
        is 16, 4 and 2 for Mamba.
    """

    layer: tuple[str, ...] = _setting(())
    hidden_size: int = _setting(256, least=1)
    num_hidden_layers: int = _setting(4, least=1)
    intermediate_size: int = _setting(0, least=0)
    state_size: int = _setting(0, least=0)
    conv_kernel: int = _setting(0, least=0)
    expand: int = _setting(0, least=0)


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """AdamW, its learning rate over time, and gradient clipping.

    Attributes
    ----------
    lr : the highest learning rate, reached after the warm-up.
    weight_decay : applied to matrices only: not to vectors, and not to ``A_log``.
    clip_norm : the gradient of all parameters together is scaled down to this norm; 0 is off.
    warmup_steps : steps of linear growth of the learning rate, at most a tenth of all; a cosine
        follows.
    final_ratio : learning rate of the last step over the highest.
    precision : float32, bfloat16 or float16: the model computes in it while training. Parameters,
        gradients and AdamW's averages are float32 whatever it is, and float16's loss is scaled.
    """

    lr: float = _setting(4e-3, least=0.0)
    beta1: float = _setting(0.9, least=0.0, below=1.0)
    beta2: float = _setting(0.99, least=0.0, below=1.0)
    eps: float = _setting(1e-8, least=0.0)
    weight_decay: float = _setting(0.1, least=0.0)
    clip_norm: float = _setting(1.0, least=0.0)
    warmup_steps: int = _setting(100, least=0)
    final_ratio: float = _setting(0.02, least=0.0)
    precision: str = _setting("float32", one_of=("float32", "bfloat16", "float16"))


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The text and how it is cut.

    Attributes
    ----------
    text : files read as one text; none means the plays that come with helixml.
    context : bytes in a window of training.
    batch_size : windows in a step.
    chunk : bytes of a window that the model reads at a time in training, see
        `training.loss_in_chunks`; 0 reads the whole window.
    held_out_window, held_out_batch : the same for the held-out measurement.
    """

    text: tuple[str, ...] = _setting(())
    context: int = _setting(512, least=1)
    batch_size: int = _setting(4, least=1)
    chunk: int = _setting(0, least=0)
    held_out_window: int = _setting(1024, least=1)
    held_out_batch: int = _setting(16, least=1)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How long to train, from which seed, and what to do along the way.

    Attributes
    ----------
    bytes : positions to train on, as many whole steps as they give; used unless ``steps`` or
        ``seconds`` is set.
    steps : number of steps; 0 leaves it to ``seconds`` or ``bytes``.
    seconds : aim for this time; twenty timed steps turn it into a number of steps; 0 is unset.
    evaluate_every : steps between measurements on the held-out text; 0 measures at the end only.
    checkpoint_seconds : time between two checkpoints.
    sample_bytes : length of the sample at the end; 0 draws none.
    activations : kept, or recomputed: the model's layers then run again in the backward pass, which
        takes a third more time and a fraction of the memory.
    """

    bytes: int = _setting(4_000_000, least=1)
    steps: int = _setting(0, least=0)
    seconds: float = _setting(0.0, least=0.0)
    seed: int = _setting(0, least=0)
    evaluate_every: int = _setting(0, least=0)
    checkpoint_seconds: float = _setting(30.0, least=0.0)
    sample_bytes: int = _setting(400, least=0)
    sample_temperature: float = _setting(0.8, least=0.0)
    activations: str = _setting("kept", one_of=("kept", "recomputed"))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a training run."""

    preset: str = "small"
    model: ModelSettings = field(default_factory=ModelSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    data: DataSettings = field(default_factory=DataSettings)
    run: RunSettings = field(default_factory=RunSettings)

    @classmethod
    def from_preset(cls, name: str = "small") -> TrainConfig:
        """Return the preset ``name``: tiny, small or base.

        Raises
        ------
        ConfigError : there is no such preset.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset: there is no {name!r}. Hint: {_nearest(name, PRESETS)}")
        return cls(preset=name).updated(PRESETS[name])

    @classmethod
    def from_toml(cls, path: Path, *, preset: str | None = None) -> TrainConfig:
        """Read a TOML file: tables ``model``, ``optim``, ``data``, ``run`` and a key ``preset``.

        Parameters
        ----------
        preset : wins over the file's own preset.

        Raises
        ------
        ConfigError : the file cannot be read, is not TOML, or sets something that cannot be set.
        """
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"config: {path} cannot be read: {error.strerror}. Hint: check its name."
            ) from error
        except ValueError as error:  # bad TOML or bad UTF-8
            raise ConfigError(
                f"config: {path} is not TOML: {error}. Hint: tables like [optim] hold keys like lr."
            ) from error
        own = tables.pop("preset", "small")
        base = cls.from_preset(preset or (own if isinstance(own, str) else repr(own)))
        changes: dict[str, object] = {}
        for section, table in tables.items():
            if isinstance(table, Mapping):
                changes |= {f"{section}.{key}": value for key, value in table.items()}
            else:
                changes[section] = table
        return base.updated(changes)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TrainConfig:  # Any: what JSON holds
        """Rebuild the configuration that `to_dict` wrote down."""
        changes = {
            f"{section}.{key}": value
            for section, table in record.items()
            if section != "preset"
            for key, value in table.items()
        }
        return cls(preset=record["preset"]).updated(changes)

    def to_dict(self) -> dict[str, Any]:  # Any: what JSON holds
        """Return all settings as nested plain data."""
        return asdict(self)

    def updated(self, changes: Mapping[str, object]) -> TrainConfig:
        """Return a copy with settings changed, such as ``{"optim.lr": 1e-3}``.

        Raises
        ------
        ConfigError : an unknown name, or a value of the wrong type or out of range.
        """
        sections: dict[str, dict[str, object]] = {}
        for name, value in changes.items():
            section, key, kind, limits = _lookup(name)
            sections.setdefault(section, {})[key] = _checked(name, value, kind, limits)
        parts = {name: replace(getattr(self, name), **keys) for name, keys in sections.items()}
        return replace(self, **parts)

    def with_assignments(self, assignments: Iterable[str]) -> TrainConfig:
        """Return a copy with settings changed by texts such as ``"optim.lr=1e-3"``.

        Raises
        ------
        ConfigError : a text without ``=``, an unknown name, or a value that does not fit.
        """
        changes: dict[str, object] = {}
        for text in assignments:
            name, equals, value = text.partition("=")
            if not equals:
                raise ConfigError(f"set: {text!r} has no '='. Hint: write optim.lr=1e-3.")
            name = name.strip()
            changes[name] = _parsed(name, value.strip(), _lookup(name)[2])
        return self.updated(changes)


# Parameters, embedding tied to the output: tiny 824,712; small 1,817,856; base 6,848,256.
PRESETS: Final[dict[str, dict[str, object]]] = {
    "tiny": {
        "model.hidden_size": 168,
        "model.num_hidden_layers": 4,
        "data.batch_size": 2,
        "run.bytes": 1_536_000,
    },
    "small": {
        "model.hidden_size": 256,
        "model.num_hidden_layers": 4,
        "run.bytes": 4_000_000,
    },
    "base": {
        "model.hidden_size": 384,
        "model.num_hidden_layers": 7,
        "optim.lr": 2e-3,
        "run.bytes": 16_000_000,
    },
}

_SECTIONS: Final = {
    "model": ModelSettings,
    "optim": OptimSettings,
    "data": DataSettings,
    "run": RunSettings,
}


def _lookup(name: str) -> tuple[str, str, object, Mapping[str, Any]]:  # Any: as `_setting` has it
    """Find a setting by its dotted name: section, key, type and range."""
    known = [f"{section}.{f.name}" for section, record in _SECTIONS.items() for f in fields(record)]
    if name not in known:
        raise ConfigError(f"config: unknown key {name!r}. Hint: {_nearest(name, known)}")
    section, key = name.split(".")
    record = _SECTIONS[section]
    limits = next(f.metadata for f in fields(record) if f.name == key)
    return section, key, get_type_hints(record)[key], limits


def _nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name comes nearest, with or without its section."""

    def likeness(other: str) -> float:
        return max(
            SequenceMatcher(None, name, other).ratio(),
            SequenceMatcher(None, name.rpartition(".")[2], other.rpartition(".")[2]).ratio(),
        )

    return f"did you mean {max(known, key=likeness)!r}?"


def _parsed(name: str, text: str, kind: object) -> object:
    """Turn the text of an assignment into a value of type ``kind``."""
    try:
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
    except ValueError:
        raise _misfit(name, text, kind) from None
    return text


def _checked(name: str, value: object, kind: object, limits: Mapping[str, Any]) -> object:
    """Return ``value`` if it has the type and lies in the range of its field."""
    if kind is str:
        if value not in limits["one_of"]:
            known = ", ".join(limits["one_of"])
            raise ConfigError(f"config: {name} = {value!r} is unknown. Hint: one of {known}.")
        return value
    if kind not in (int, float):  # a tuple of texts
        texts = (value,) if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
            return tuple(texts)
        raise _misfit(name, value, kind)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        raise _misfit(name, value, kind)
    least, below = limits["least"], limits["below"]
    if (
        not math.isfinite(value)
        or (least is not None and value < least)
        or (below is not None and value >= below)
    ):
        bounds = f"at least {least}" + (f" and below {below}" if below is not None else "")
        raise ConfigError(f"config: {name} = {value!r} is out of range. Hint: it must be {bounds}.")
    return value if kind is int else float(value)


def _misfit(name: str, value: object, kind: object) -> ConfigError:
    wanted = "a name or a list of names"
    if kind in (int, float):
        wanted = "a whole number" if kind is int else "a number"
    return ConfigError(f"config: {name} = {value!r} has the wrong type. Hint: it must be {wanted}.")
