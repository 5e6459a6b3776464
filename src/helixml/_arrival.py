"""What is done when another package arrives: einops is told of helixml, whichever comes first.

Without importing the other package, and without asking users to import one more module, there is
one place to learn that it is being imported: Python's list of finders.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Arrival:
    """A finder that finds nothing by itself, and has a module follow another's import."""

    def __init__(self, awaited: str, follower: str) -> None:
        self.awaited = awaited
        self.follower = follower

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the others find, with the import of the follower after its own."""
        if name != self.awaited:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                self._append(spec.loader)
                return spec
        return None

    def _append(self, loader: Any) -> None:
        """Have a loader import the follower after it has run the module."""
        run = loader.exec_module

        def run_both(module: ModuleType) -> None:
            run(module)
            import_module(self.follower)

        loader.exec_module = run_both


def follow(awaited: str, follower: str) -> None:
    """Import the module ``follower`` as soon as ``awaited`` has been imported."""
    if awaited in sys.modules:
        import_module(follower)
    elif not any(getattr(finder, "follower", None) == follower for finder in sys.meta_path):
        sys.meta_path.insert(0, Arrival(awaited, follower))
