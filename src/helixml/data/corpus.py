"""Open texts as memory-mapped arrays of bytes.

The plays lie packed beside this file (PLAYS-LICENCE.md says where they come from). They are
unpacked once into the cache folder, checked against their hash, and mapped from there on. A cache
that cannot be written is no error: the text then lives in memory.

Knows nothing of windows, batches or models; see byte_dataset.py for those.
"""

from __future__ import annotations

import bz2
import hashlib
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np

from helixml import config
from helixml.errors import DataError, FileError
from helixml.io.files import make_folder, write_bytes

__all__ = ["PLAYS_BYTES", "PLAYS_SHA256", "PLAYS_TRAINING_BYTES", "open_plays", "open_text"]

PLAYS_BYTES: Final = 4_957_316
PLAYS_TRAINING_BYTES: Final = 4_461_585
PLAYS_SHA256: Final = "5333db769a610daf4aa8fb9325a06d10a629cf93247854f2d0f6058738085b24"


def open_plays() -> np.ndarray:
    """Open the plays of Shakespeare.

    Returns
    -------
    ndarray, (4957316,), uint8, read-only; memory-mapped unless the cache cannot be written.
    """
    path = config.cache_dir() / "plays.txt"
    if _is_plays(path):
        return open_text(path)
    packed = resources.files("helixml.data").joinpath("plays.txt.bz2").read_bytes()
    text = bz2.decompress(packed)
    try:
        make_folder(path.parent)
        write_bytes(path, text)
    except FileError:
        return np.frombuffer(text, np.uint8)
    return open_text(path)


def open_text(path: Path) -> np.ndarray:
    """Open the file ``path`` as bytes.

    Returns
    -------
    ndarray, (n,), uint8, read-only, memory-mapped.

    Raises
    ------
    DataError : there is no such file, it is a folder, cannot be read, or is empty.
    """
    try:
        if path.is_dir():
            raise DataError(f"text: {path} is a folder. Hint: name the files in it one by one.")
        if path.stat().st_size == 0:
            raise DataError(f"text: {path} is empty. Hint: give a file with some text in it.")
        return np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise DataError(
            f"text: {path} cannot be read: {error.strerror}. Hint: check the name and that you may "
            "read it."
        ) from error


def _is_plays(path: Path) -> bool:
    """Tell whether ``path`` holds the plays, byte for byte."""
    try:
        if path.stat().st_size != PLAYS_BYTES:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == PLAYS_SHA256
    except OSError:
        return False
