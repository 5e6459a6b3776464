"""Calls of ops as files: what an op was given, to give it to the op again.

A file is an ``.npz`` of NumPy: the arrays, and a text in JSON that says where each belongs. Nothing
in it runs when it is read; the op is found by its name.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core import op as ops
from helixml._core import tape
from helixml._core.anomaly import flat
from helixml._core.kept import plan_of
from helixml._core.modes import no_grad
from helixml._core.tensor import Tensor
from helixml.errors import DataError, FileError
from helixml.io.files import write_bytes
from helixml.ops.creation import tensor, zeros

__all__ = ["replay_call", "write_call"]

FORMAT = 1
_PLAIN = (bool, int, float, str, type(None))


class _Unwritable(Exception):
    """Something in a call is no plain data."""


def write_call(path: Path, op: Any, call: tuple[Any, ...]) -> str:
    """Write a call of ``op`` to a file.

    Parameters
    ----------
    path : Path, which gets the file, atomically.
    op : the op.
    call : ("run", inputs, attributes, whether these are prepared), ("call", arguments, arguments by
        name) or ("pull", node, cotangents, needs); see `helixml._core.anomaly`.

    Returns
    -------
    "", or why there is no file: the op cannot be found by its name, or takes what is no plain data.

    Raises
    ------
    FileError : the file cannot be written.
    """
    known: Any = ops.REGISTRY.get(op.name)
    if known is not op:
        return f"{op.name} is no op of the library"
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    try:
        parts = _node_parts(op, *call[1:]) if call[0] == "pull" else list(call[1:])
        text = {"format": FORMAT, "op": op.name, "kind": call[0], "parts": _encode(parts, arrays)}
    except _Unwritable as error:
        return str(error)
    buffer = io.BytesIO()
    np.savez(buffer, json=np.array(json.dumps(text)), **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())
    return ""


def replay_call(path: Path) -> Any:
    """Compute again what a file of `write_call` says.

    Returns
    -------
    A Tensor or a tuple of them; for gradients a tuple with None where none was asked for; for an op
    that writes in place, what it wrote.

    Raises
    ------
    FileError : the file cannot be read. DataError : it is damaged, or something else.
    """
    text, arrays = _read(path)
    find: Any = ops.op_named
    op = find(text["op"])
    with no_grad():
        return _computed(op, text["kind"], _decode(text["parts"], arrays))


def _computed(op: Any, kind: str, parts: list[Any]) -> Any:
    if kind == "run":
        return op.run(tuple(parts[0]), *parts[1:])
    if kind == "call":
        result = op(*parts[0], **parts[1])
        if result is None:
            return tuple(flat([*parts[0], *parts[1].values()]))
        return result
    node, cotangents, needs = _node(op, *parts)
    return tuple(op.pull(node, cotangents, needs))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            text = json.loads(str(file["json"]))
            arrays = {name: file[name] for name in file.files if name != "json"}
    except OSError as error:
        raise FileError(f"replay: cannot read {path}: {error}.") from error
    except (ValueError, KeyError, EOFError) as error:
        raise DataError(f"replay: {path} holds no call of an op: {error}.") from error
    if text.get("format") != FORMAT:
        raise DataError(f"replay: {path} has format {text.get('format')}, not {FORMAT}.")
    return text, arrays


def _node_parts(op: Any, node: Any, cotangents: Any, needs: Any) -> list[Any]:
    """Return what it takes to make a node again: no parents, but their shapes and dtypes."""
    ends: list[Any] = []
    for i, parent in enumerate(node.parents):
        if parent is None:
            ends.append(None)
        elif isinstance(parent, tape.Node):
            source: Any = parent
            ends.append(source.describe(0 if node.slots is None else node.slots[i]))
        else:
            ends.append((parent.shape, parent.dtype))
    shape = (node.outputs, node.shape, node.dtype)
    return [ends, node.saved, node.attrs, shape, list(cotangents), list(needs)]


def _node(
    op: Any, ends: Any, saved: Any, attributes: Any, shape: Any, cotangents: Any, needs: Any
) -> tuple[Any, Any, Any]:
    parents = tuple([None if end is None else zeros(end[0], end[1]) for end in ends])
    backend = next(c for c in cotangents if c is not None)._backend
    make: Any = tape.new_node
    node = make(op, parents, None, saved, attributes, *shape, backend)
    plan_of(node)  # which makes it, if this process has recorded no such call
    return node, tuple(cotangents), tuple(needs)


# Values as JSON: plain ones as they are, all others as an object with one key


def _encode(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor):
        return {"tensor": _put(value.numpy(), arrays)}
    if isinstance(value, tape.Saved):
        if hasattr(value.array, "open"):
            raise _Unwritable("a hook has put its values away")
        return {"saved": _put(value.backend.to_numpy(value.array), arrays)}
    if isinstance(value, np.ndarray):
        return {"array": _put(value, arrays)}
    if isinstance(value, list):
        return [_encode(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, arrays) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": [[key, _encode(item, arrays)] for key, item in value.items()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, slice):
        return {"slice": _encode([value.start, value.stop, value.step], arrays)}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, np.generic):
        return {"array": _put(np.asarray(value), arrays)}
    raise _Unwritable(f"{type(value).__name__} is no plain data")


def _put(array: np.ndarray[Any, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> list[str]:
    """Keep an array, as bytes of its size where NumPy's format does not know its dtype."""
    key = f"array{len(arrays)}"
    raw = np.array(array, order="C")
    if raw.dtype.kind not in "biufc":
        raw = raw.view(f"u{raw.dtype.itemsize}")
    arrays[key] = raw
    return [key, array.dtype.name]


def _decode(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in ("tensor", "saved", "array"):
        array = arrays[content[0]].view(dtypes.parse(content[1]))
        if kind == "array":
            return array
        made = tensor(array)
        if kind == "tensor":
            return made
        return tape.Saved(  # type: ignore[no-untyped-call]
            made._array, made._backend, made._share(), None, 0
        )
    if kind == "tuple":
        return tuple([_decode(item, arrays) for item in content])
    if kind == "dict":
        return {key: _decode(item, arrays) for key, item in content}
    if kind == "complex":
        return complex(*content)
    if kind == "slice":
        return slice(*_decode(content, arrays))
    if kind == "dtype":
        return dtypes.parse(content)
    return Ellipsis
