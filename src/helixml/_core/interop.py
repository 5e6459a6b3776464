"""How tensors meet NumPy: conversion in, conversion out, NumPy functions on tensors, repr."""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.op import REGISTRY
from helixml._core.tensor import OPS, Tensor
from helixml.errors import DeviceError, DTypeError

# What NumPy's functions are called here; other names are the same.
_ALIASES = {
    "true_divide": "divide",
    "absolute": "abs",
    "power": "pow",
    "invert": "bitwise_invert",
    "rint": "round",
    "mod": "remainder",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift",
    "conjugate": "conj",
}


def to_array(tensor, dtype, copy):
    """Return ``np.asarray(tensor)``: a read-only view, or a copy if NumPy asks for one."""
    return np.array(tensor.numpy(), dtype=dtype, copy=copy)


def dlpack(tensor, stream, max_version, dl_device, copy):
    """Return a DLPack capsule: a read-only view, or a copy for those who know no such thing.

    There are no streams; values of another device go through host memory.
    """
    old = max_version is None or max_version[0] < 1
    array = tensor.numpy(copy=bool(copy) or old)
    return array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device)


def array_ufunc(ufunc, method, inputs, options):
    """Run a NumPy function of tensors as the op of that name, on the tape."""
    name = _ALIASES.get(ufunc.__name__, ufunc.__name__)
    op = REGISTRY.get(name)
    if op is None or method != "__call__" or options:
        what = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        extra = f" with {', '.join(options)}" if options else ""
        raise DTypeError(
            f"np.{what}{extra}: has no differentiable counterpart for a Tensor. "
            "Hint: use np.asarray(t) to leave the graph on purpose."
        )
    return op(*inputs)


def device_mismatch(op, x, y):
    """Return the error for operands on different devices."""
    return DeviceError(
        f"{op}: operands live on {x.device} (shape {x.shape}) and {y.device} (shape {y.shape}). "
        f"Hint: move one with .to({str(x.device)!r})."
    )


def represent(tensor):
    """Return the text that shows a tensor: values, and whatever is not the default."""
    values = tensor._backend.to_numpy(tensor._array)
    kind = dtypes.kind(tensor.dtype)
    shown = values.astype(np.float32) if tensor.dtype == dtypes.bfloat16 else values
    body = np.array2string(shown, separator=", ", prefix="tensor(")
    notes = []
    if tensor.size == 0 or tensor.size > np.get_printoptions()["threshold"]:
        notes.append(f"shape={tensor.shape}")
    if not (
        tensor.dtype in (dtypes.default_float, dtypes.bool_)
        or (tensor.dtype == dtypes.default_int and kind == "i")
    ):
        notes.append(f"dtype={tensor.dtype.name}")
    if tensor.device != "cpu":
        notes.append(f"device={str(tensor.device)!r}")
    if tensor._node is not None:
        origin = f"@{tensor._node.origin}" if tensor._node.origin else ""
        notes.append(f"grad_fn={tensor._node.op.name}{origin}")
    elif tensor._tracked:
        notes.append("requires_grad=True")
    return f"tensor({', '.join([body, *notes])})"


def reduce(tensor):
    """Return how to rebuild a tensor: values, device, flag; never the graph."""
    values = np.array(tensor.numpy())
    return rebuild, (type(tensor), values, str(tensor.device), tensor._tracked)


def rebuild(kind, values, device, tracked):
    """Make a tensor again from what `reduce` gave."""
    made = OPS.tensor(values, device=device, requires_grad=tracked)
    return made if kind is Tensor else kind(made)
