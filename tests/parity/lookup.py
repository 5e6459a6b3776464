"""Functions of helixml by name, so that the table can name what a build does not have."""

from __future__ import annotations

from typing import Any

import helixml

# Where a function may live; the first place that has it wins.
PLACES = ("", "special", "linalg", "fft", "nn.functional", "random")


class NotOffered(Exception):
    """The engine has no function of this name."""


class Functions:
    """helixml's functions as attributes, wherever they live; `NotOffered` for all others."""

    def __init__(self, root: Any = helixml, path: str = "") -> None:
        self._root = root
        self._path = path

    def __getattr__(self, name: str) -> Any:
        for place in PLACES if self._root is helixml else ("",):
            found = self._root
            for part in [*filter(None, place.split(".")), name]:
                found = getattr(found, part, None)
            if found is not None:
                return Functions(found, name) if type(found) is type(helixml) else found
        raise NotOffered(f"{self._path}.{name}" if self._path else name)

    def named(self, names: str) -> Any:
        """Return the first function that exists of ``"name or other.name"``."""
        first = None
        for path in names.split(" or "):
            found = self
            try:
                for part in path.split("."):
                    found = getattr(found, part)
            except NotOffered as missing:
                first = first or missing
            else:
                return found
        assert first is not None
        raise first


hx: Any = Functions()
