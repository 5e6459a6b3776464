"""Write files atomically, and read JSON with errors that say what to do.

A write goes to a temporary name in the same folder, is flushed to the disk, and then renamed over
the target; the folder is flushed as well. A process killed at any moment leaves the old file or
the new one. A write that fails (full disk, no permission) removes its temporary file, leaves the
old file as it was and raises `FileError`.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from helixml.errors import FileError

__all__ = ["make_folder", "read_json", "remove_leftovers", "write_bytes", "write_json"]

_SUFFIX = ".helixml-tmp"


def write_bytes(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write ``data`` to ``path``: wholly, or not at all.

    Raises
    ------
    FileError : the folder is missing or not writable, or the disk is full; the old file remains.
    """
    # The process id keeps two processes that write the same file (the cache) apart.
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise FileError(
            f"write: {path}, {len(data):,} bytes: {error.strerror or error}. "
            "Hint: free some space or choose another folder; what was there before is unchanged."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:  # Any: whatever json can hold
    """Write ``value`` as indented JSON to ``path``: wholly, or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:  # Any: whatever the file holds
    """Read the JSON file ``path``.

    Raises
    ------
    FileError : the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise FileError(f"read: {path}: {error.strerror}. Hint: is it the right folder?") from error
    except ValueError as error:  # covers bad JSON and bad UTF-8
        raise FileError(
            f"read: {path} is not valid JSON: {error}. Hint: restore the file from a copy."
        ) from error


def make_folder(path: Path) -> None:
    """Make the folder ``path`` with its parents if it is not there.

    Raises
    ------
    FileError : something else stands in the way, or a parent is not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"mkdir: {path}: {error.strerror}. Hint: choose a folder that you may write to."
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in ``folder``."""
    for path in folder.glob(f".*{_SUFFIX}"):
        path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush the folder's entries, so that a rename survives a power cut."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no handle on a folder
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
