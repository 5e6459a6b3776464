"""Settings: one frozen record, read from the environment once, overridden per context.

``HELIXML_DEVICE``, ``HELIXML_NUM_THREADS``, ``HELIXML_PURE``, ``HELIXML_KERNELS`` and
``HELIXML_DEBUG`` are read here and nowhere else. `using` changes settings for a block of code, and
only for the thread or task that runs it.

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

__all__ = ["Config", "cache_dir", "get", "using"]


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
    """

    device: str = "cpu"
    num_threads: int = 0
    pure: bool = False
    kernels: bool = True
    debug: bool = False
    strict_asarray: bool = False


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
_override: ContextVar[Config | None] = ContextVar("helixml_config", default=None)


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
    global debugging, kernels_vary
    debugging = debugging or changed.debug
    kernels_vary = kernels_vary or not changed.kernels
    token = _override.set(changed)
    try:
        yield changed
    finally:
        _override.reset(token)


def cache_dir() -> Path:
    """Return the folder for files that can be made again: in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    from pathlib import Path

    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "helixml"
