"""Structures of tensors in one file: `save` and `load`.

The file is safetensors: any program that reads that finds the tensors, by names that tell their
places (``layers.0.weight``). What the structure was, and the numbers and texts in it, stand beside
them as JSON. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import helixml as hx
from helixml.errors import CheckpointError, DTypeError
from helixml.io.arrays import load_arrays, save_arrays

__all__ = ["load", "save"]

_KEY = "helixml"  # of the structure in the file's metadata
_COMPLEX = {"complex128": "float64", "complex64": "float32"}  # stored as pairs of these


def save(path: str | os.PathLike[str], value: Any, *, metadata: Mapping[str, str] = {}) -> None:
    """Write a structure of tensors to a safetensors file, atomically.

    Parameters
    ----------
    path : the file; ``.safetensors`` is the usual ending.
    value : Tensor or NumPy array, or dicts with texts for keys, lists and tuples of them, nested as
        you like; numbers, texts, truth values and None may stand among them. The values are
        written, not their graph.
    metadata : texts by name, to be found in the file's header.

    Raises
    ------
    DTypeError : something in ``value`` is none of these.
    FileError : the file cannot be written; the old one remains.

    Examples
    --------
    >>> import helixml as hx, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
    >>> hx.save(path, {"step": 3, "weights": [hx.ones((2,)), hx.zeros((1,))]})
    >>> hx.load(path)
    {'step': 3, 'weights': [tensor([1., 1.]), tensor([0.])]}
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def describe(item: Any, name: str) -> Any:
        if isinstance(item, (hx.Tensor, np.ndarray)):
            array = item.numpy() if isinstance(item, hx.Tensor) else np.asarray(item)
            name = name or "tensor"
            while name in arrays:  # {"a.b": x, "a": {"b": y}}
                name += "'"
            described = {"tensor": name}
            if array.dtype.name in _COMPLEX:
                described["dtype"] = array.dtype.name
                pairs = np.ascontiguousarray(array).view(_COMPLEX[array.dtype.name])
                array = pairs.reshape(*array.shape, 2)
            arrays[name] = array
            return described
        if isinstance(item, Mapping):
            if wrong := [key for key in item if not isinstance(key, str)]:
                raise DTypeError(f"save: the key {wrong[0]!r} at {name or 'the top'} is no text.")
            return {"dict": {key: describe(part, _joined(name, key)) for key, part in item.items()}}
        if isinstance(item, (list, tuple)):
            kind = "tuple" if isinstance(item, tuple) else "list"
            return {kind: [describe(part, _joined(name, i)) for i, part in enumerate(item)]}
        if item is None or isinstance(item, (bool, int, float, str)):
            return {"value": item}
        raise DTypeError(
            f"save: {type(item).__name__} at {name or 'the top'} is no tensor, number or text, and "
            "no dict, list or tuple of them. Hint: model.state_dict() gives a module's tensors."
        )

    structure = json.dumps(describe(value, ""))
    save_arrays(Path(path), arrays, {**metadata, _KEY: structure})


def load(path: str | os.PathLike[str], *, device: Any = None) -> Any:
    """Read a structure of tensors from a safetensors file.

    Parameters
    ----------
    path : a file by `save`, or any other of safetensors, which gives a dict of its tensors.
    device : where to put the tensors.

    Returns
    -------
    What `save` was given, with Tensors outside any graph. Named tuples come back as tuples.

    Raises
    ------
    CheckpointError : the file is missing, unreadable, truncated or not safetensors.
    """
    arrays, metadata = load_arrays(Path(path))
    if _KEY not in metadata:
        return {name: hx.asarray(array, device=device) for name, array in arrays.items()}

    def build(described: dict[str, Any]) -> Any:
        ((kind, content),) = [(k, v) for k, v in described.items() if k != "dtype"]
        if kind == "tensor":
            array = arrays[content]
            if "dtype" in described:
                array = array.view(described["dtype"]).reshape(array.shape[:-1])
            return hx.asarray(array, device=device)
        if kind == "dict":
            return {key: build(part) for key, part in content.items()}
        if kind in ("list", "tuple"):
            parts = [build(part) for part in content]
            return parts if kind == "list" else tuple(parts)
        if kind == "value":
            return content
        raise KeyError(kind)

    try:
        return build(json.loads(metadata[_KEY]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"load: {path} has a structure that its tensors do not fit ({error}). "
            "Hint: it was damaged, or written by a newer version."
        ) from error


def _joined(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)
