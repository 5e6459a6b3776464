"""Settings: one frozen record, read from the environment once, overridden per context.

``HELIXML_DEVICE``, ``HELIXML_NUM_THREADS``, ``HELIXML_PURE``, ``HELIXML_KERNELS`` and
``HELIXML_DEBUG`` are read here and nowhere else. `using` changes settings for a block of code, and
only for the thread or task that runs it; `matmul_precision` changes that one for the process.

>>> from helixml import config
>>> with config.using(debug=True):
...     config.get().debug
True
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from helixml.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Config", "cache_dir", "get", "matmul_precision", "using"]


@dataclass(frozen=True)
class Config:
    """The settings of helixml.

    Attributes
    ----------
    device : where new tensors live when no device is named.
    num_threads : upper bound on threads; 0 means as many as the machine grants.
    pure : load no compiled module even if it is there (``HELIXML_PURE=1``).
    kernels : use compiled kernels (``HELIXML_KERNELS=0`` drops them and keeps the compiled engine).
    debug : remember the line of the user's code that made each node of the graph.
    strict_asarray : refuse ``np.asarray(t)`` of a tensor that requires a gradient.
    matmul_precision : "highest", or "high": see `matmul_precision`.
    """

    device: str = "cpu"
    num_threads: int = 0
    pure: bool = False
    kernels: bool = True
    debug: bool = False
    strict_asarray: bool = False
    matmul_precision: str = "highest"


def _flag(name: str, default: bool) -> bool:
    text = os.environ.get(name, "").strip().lower()
    if text in ("", "1", "0", "true", "false", "yes", "no", "on", "off"):
        return default if text == "" else text in ("1", "true", "yes", "on")
    raise ConfigError(f"{name}={text!r} is neither on nor off. Hint: set it to 1 or 0.")


def _count(name: str) -> int:
    text = os.environ.get(name, "").strip()
    if text == "":
        return 0
    if not text.isdigit():
        raise ConfigError(f"{name}={text!r} is not a count. Hint: set it to 1, 2, ...")
    return int(text)


def _from_environment() -> Config:
    return Config(
        device=os.environ.get("HELIXML_DEVICE", "cpu"),
        num_threads=_count("HELIXML_NUM_THREADS"),
        pure=_flag("HELIXML_PURE", False),
        kernels=_flag("HELIXML_KERNELS", True),
        debug=_flag("HELIXML_DEBUG", False),
    )


_process = _from_environment()
# Whether debug mode was ever on, or kernels ever off: spares the hot path a look-up.
debugging = _process.debug
kernels_vary = not _process.kernels
precision_varies = False  # whether another than the highest was ever asked for
_override: ContextVar[Config | None] = ContextVar("helixml_config", default=None)
precisions = {"highest"}  # that this machine has; backends add theirs


def get() -> Config:
    """Return the settings in force here."""
    return _override.get() or _process


@contextmanager
def using(**settings: object) -> Iterator[Config]:
    """Change settings inside a ``with`` block.

    Raises
    ------
    ConfigError : a name is not a setting; the message names the nearest one.
    """
    known = [field.name for field in fields(Config)]
    for name in settings:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"settings are {', '.join(known)}."
            raise ConfigError(f"config: {name!r} is not a setting. Hint: {hint}")
    changed = replace(get(), **settings)  # type: ignore[arg-type]
    _require_precision(changed.matmul_precision)
    global debugging, kernels_vary
    debugging = debugging or changed.debug
    kernels_vary = kernels_vary or not changed.kernels
    token = _override.set(changed)
    try:
        yield changed
    finally:
        _override.reset(token)


def matmul_precision(value: str) -> None:
    """Say how exactly the process multiplies large float32 matrices.

    Parameters
    ----------
    value : "highest", in float32. Or "high", on processors with AMX alone: each number as the sum
        of two of bfloat16, with errors of about 2^-16 instead of 2^-24 of the terms, in less time,
        down to half; an infinity gives nan. Small products stay as they are, float64 too.

    Raises
    ------
    ConfigError : this machine does not have it.

    Examples
    --------
    >>> from helixml import config
    >>> config.matmul_precision("highest")
    """
    global _process
    _require_precision(value)
    _process = replace(_process, matmul_precision=value)


def is_precision_high() -> bool:
    """Say whether "high" is enough for products of matrices."""
    return precision_varies and get().matmul_precision == "high"


def _require_precision(value: str) -> None:
    global precision_varies
    if value not in ("highest", "high"):
        raise ConfigError(
            f'config: matmul_precision is {value!r}. Hint: it is "highest" or "high".'
        )
    if value not in precisions:
        raise ConfigError(
            f"config: matmul_precision={value!r} needs a processor with AMX and the compiled "
            f'kernels, which are not here. Hint: leave it at "highest".'
        )
    precision_varies = precision_varies or value != "highest"


def cache_dir() -> Path:
    """Return the folder for files that can be made again: in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    from pathlib import Path

    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "helixml"
