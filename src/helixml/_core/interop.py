"""How tensors meet NumPy: values out, copies, repr.

NumPy's functions of tensors are in `helixml.ops.numpy_protocol`.
"""

from __future__ import annotations

import numpy as np

from helixml import config, dtypes
from helixml._core.tensor import OPS, Tensor
from helixml.errors import DeviceError, GraphError, ValueRangeError


def to_array(tensor, dtype, copy):
    """Return ``np.asarray(tensor)``: a read-only view, or a copy if NumPy asks for one."""
    check_leaving("np.asarray", tensor)
    return np.array(tensor.numpy(), dtype=dtype, copy=copy)


def check_leaving(op, tensor):
    """Raise GraphError in `helixml.debug.strict_asarray` if a gradient would be lost."""
    if tensor.requires_grad and config.get().strict_asarray:
        raise GraphError(
            f"{op}: a tensor of shape {tensor.shape} that requires a gradient would leave the "
            "graph. Hint: t.detach() or t.numpy() says that this is meant."
        )


def device_mismatch(op, x, y):
    """Return the error for operands on different devices."""
    return DeviceError(
        f"{op}: operands live on {x.device} (shape {x.shape}) and {y.device} (shape {y.shape}). "
        f"Hint: move one with .to({str(x.device)!r})."
    )


_print_options: dict = {}
# Our names of the settings, NumPy's, and the least value.
_PRINT_NAMES = {
    "precision": ("precision", 0),
    "threshold": ("threshold", 0),
    "edgeitems": ("edgeitems", 1),
    "linewidth": ("max_line_width", 10),
    "suppress": ("suppress_small", 0),
}


def set_print_options(
    *,
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    suppress: bool | None = None,
) -> None:
    """Set how tensors are shown; what is left out goes back to NumPy's own setting.

    Parameters
    ----------
    precision : digits after the point.
    threshold : number of elements from which the middle is left out.
    edgeitems : elements shown at each end of an axis then.
    linewidth : characters in a line.
    suppress : never write small numbers with an exponent.

    Raises
    ------
    DTypeError : a value is no integer. ValueRangeError : it is too small.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.set_print_options(precision=2)
    >>> hx.tensor([1.23456])
    tensor([1.23])
    >>> hx.set_print_options()
    """
    given = dict(
        precision=precision,
        threshold=threshold,
        edgeitems=edgeitems,
        linewidth=linewidth,
        suppress=suppress,
    )
    options = {}
    for name, value in given.items():
        if value is None:
            continue
        theirs, least = _PRINT_NAMES[name]
        number = dtypes.as_integer("set_print_options", name, value)
        if number < least:
            raise ValueRangeError(f"set_print_options: {name}={value}, must be at least {least}.")
        options[theirs] = bool(number) if name == "suppress" else number
    _print_options.clear()
    _print_options.update(options)


def represent(tensor):
    """Return the text that shows a tensor: values, and whatever is not the default."""
    values = tensor._backend.to_numpy(tensor._array)
    kind = dtypes.kind(tensor.dtype)
    shown = values.astype(np.float32) if tensor.dtype == dtypes.bfloat16 else values
    body = np.array2string(shown, separator=", ", prefix="tensor(", **_print_options)
    notes = []
    threshold = _print_options.get("threshold", np.get_printoptions()["threshold"])
    if tensor.size == 0 or tensor.size > threshold:
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
