"""Debugging: modes that make mistakes loud, each a context of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from helixml import config

__all__ = ["strict_asarray"]


@contextmanager
def strict_asarray() -> Iterator[None]:
    """Make it an error inside a ``with`` block that NumPy takes a tensor off the graph.

    ``np.asarray(t)``, and whatever calls it, gives the values and no gradient. Here it raises
    `GraphError` if ``t`` requires a gradient; so does DLPack. ``t.detach()`` and ``t.numpy()`` say
    that it is meant.

    Examples
    --------
    >>> import helixml as hx, numpy as np
    >>> x = hx.tensor([1.0], requires_grad=True)
    >>> with hx.debug.strict_asarray():
    ...     np.asarray(x)
    Traceback (most recent call last):
    ...
    helixml.errors.GraphError: np.asarray: ... Hint: t.detach() ... says that this is meant.
    """
    with config.using(strict_asarray=True):
        yield
