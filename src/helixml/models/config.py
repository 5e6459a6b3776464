"""ModelConfig: what the configurations of all models share.

A configuration is a frozen dataclass whose fields are the keys of Hugging Face's ``config.json``.
Fields of numbers and booleans are checked by their annotations; each model's own file has its
fields and what must hold between them. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from helixml.errors import ConfigError

__all__ = ["ModelConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """Base of the models' configurations.

    An "int" field is at least 1, or its ``metadata["least"]``, an "int | None" field may be None; a
    "float" field is above 0, a "float | int" field is a share, from 0 to below 1.

    Attributes
    ----------
    model_type, architecture : what ``config.json`` calls the model and its class.
    fixed : keys of ``config.json`` that the model reads as this one value alone.
    """

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    fixed: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                fits, wanted = isinstance(value, bool), "true or false"
            elif field.type in ("int", "int | None"):
                least = field.metadata.get("least", 1)
                fits, wanted = _is_number(value, int) and value >= least, f"an integer >= {least}"
                if field.type != "int":
                    fits, wanted = fits or value is None, f"{wanted} or null"
            elif field.type == "float":
                fits, wanted = _is_number(value, int | float) and 0 < value < math.inf, "above 0"
            elif field.type == "float | int":
                fits, wanted = _is_number(value, int | float) and 0 <= value < 1, "in [0, 1)"
            else:  # the model's own configuration knows
                continue
            if not fits:
                raise self.error(f"{field.name}={value!r}, it must be {wanted}.")

    @classmethod
    def error(cls, text: str) -> ConfigError:
        """Return an error that begins with the name of the configuration."""
        return ConfigError(f"{cls.__name__}: {text}")

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Make a configuration from ``config.json``; keys of other purposes are left out.

        Raises
        ------
        ConfigError : a value makes no sense, or asks for something that the model does not have.
        """
        for key, wanted in cls.fixed.items():
            if record.get(key, wanted) != wanted:
                raise cls.error(f"{key}={record[key]!r} is not offered.")
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in record.items() if key in known})

    def to_dict(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        names = {"model_type": self.model_type, "architectures": [self.architecture]}
        return names | asdict(self)


def _is_number(value: object, kind: Any) -> bool:  # Any: a class, or a union of some
    """Tell whether ``value`` is of ``kind``; a bool, which Python counts as an int, is not."""
    return isinstance(value, kind) and not isinstance(value, bool)
