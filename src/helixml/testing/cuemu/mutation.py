"""Remove barriers from kernels, one at a time: every test of a kernel should notice each of them.

A barrier whose removal no run notices is either needless, or not tested at sizes where it matters:
take blocks of more than one warp, that do not divide the problem, and loops that run twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from helixml.testing.cuemu.transform import without_comments

__all__ = ["Barrier", "barriers", "digest", "mutated", "remove", "without"]

_active: tuple[str, int] | None = None

_BARRIER = re.compile(r"\b__sync(?:threads|warp)\s*\([^;()]*\)\s*;")


@dataclass(frozen=True)
class Barrier:
    """A barrier in a source.

    Attributes
    ----------
    source : `digest` of the source.
    number, line : which one it is, from 0, and its line, from 1.
    text : as it is written.
    """

    source: str
    number: int
    line: int
    text: str


def digest(source: str) -> str:
    """Return what a source is known by."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def barriers(source: str) -> list[Barrier]:
    r"""List the statements ``__syncthreads();`` and ``__syncwarp(...);`` of a source.

    Examples
    --------
    >>> [barrier.line for barrier in barriers("a();\n__syncthreads();\nb(); __syncwarp();")]
    [2, 3]
    """
    source_digest, text = digest(source), without_comments(source)
    return [
        Barrier(source_digest, number, text.count("\n", 0, match.start()) + 1, match[0])
        for number, match in enumerate(_BARRIER.finditer(text))
    ]


@contextlib.contextmanager
def without(source: str, number: int) -> Iterator[None]:
    """Compile modules of a source, given by its digest, without one of its barriers."""
    global _active
    earlier, _active = _active, (source, number)
    try:
        yield
    finally:
        _active = earlier


def mutated(source: str) -> str:
    """Return what is to be compiled instead of a source."""
    if _active and _active[0] == digest(source):
        return remove(source, _active[1])
    return source


def remove(source: str, number: int) -> str:
    """Return the source without one barrier; an empty statement stays."""
    text = without_comments(source)
    match = list(_BARRIER.finditer(text))[number]
    return text[: match.start()] + ";" + "\n" * match[0].count("\n") + text[match.end() :]
