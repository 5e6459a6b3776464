"""How tensors meet NumPy: values out, copies, repr.

NumPy's functions of tensors are in `helixml.ops.numpy_protocol`.
"""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.tensor import OPS, Tensor
from helixml.errors import DeviceError


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
