"""What to say when a call of an op failed: worked out only then, so that good calls pay nothing.

An op computes first. If that raises something that is not the library's own error, `failure` looks
for the reason: the op's own explanation, an attribute of the wrong type, shapes that do not
broadcast. Called by `op`; knows signatures and shapes, no particular op.
"""

from __future__ import annotations

import warnings
from numbers import Real

from helixml import dtypes, shapes
from helixml._core.storage import user_frame
from helixml._core.tensor import Tensor
from helixml.errors import BackendError, DeviceMemoryError, DTypeError, DTypeWarning, ShapeError


def failure(op, error, inputs, attributes):
    """Return the library's error for a call of ``op`` that raised ``error``."""
    for name in op.parameters:
        wanted = str(op.function.__annotations__.get(name, ""))
        if name in attributes and not fits(wanted, attributes[name]):
            return DTypeError(f"{op.name}: {name} must be {wanted}, not {attributes[name]!r:.80}.")
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    if not op.shapes_differ:
        try:
            shapes.broadcast(op.name, *[tensor.shape for tensor in tensors])
        except ShapeError as found:
            return found
    if op.explain is not None:
        try:
            reason = op.explain(*op.grouped(inputs), **attributes)
        except AttributeError:  # it asks a number for its shape
            reason = None
        if reason is not None:
            return reason
    what = ", ".join([described(value) for value in inputs])
    if isinstance(error, MemoryError):
        return DeviceMemoryError(
            f"{op.name}: not enough memory for {what}: {error}. Hint: smaller pieces, or narrower "
            "dtypes."
        )
    options = "".join([f", {k}={v!r:.80}" for k, v in attributes.items()])
    if isinstance(error, (TypeError, AttributeError)):
        return DTypeError(f"{op.name}: does not take {what}{options}: {error}")
    return BackendError(f"{op.name}: failed for {what}{options}: {error}")


def described(value):
    """Return what an input is, in a few words."""
    if isinstance(value, Tensor):
        return f"{value.shape} {value.dtype}"
    return repr(value)


def fits(annotation, value):
    """Say whether an attribute's value is of the type that its annotation, as text, promises.

    Knows the annotations that attributes have; any other is taken to fit.
    """
    checks = {
        "None": lambda: value is None,
        "int": lambda: is_integer(value),
        "float": lambda: isinstance(value, Real) or (isinstance(value, Tensor) and not value.ndim),
        "bool": lambda: not hasattr(value, "__len__"),
        "Axis": lambda: value is None or is_integer(value) or are_integers(value),
        "tuple[int, ...]": lambda: are_integers(value),
        "Sequence[int]": lambda: are_integers(value),
    }
    parts = annotation.split(" | ")
    return any([part not in checks or checks[part]() for part in parts])


def is_integer(value):
    """Say whether a value can stand for an integer."""
    try:
        value.__index__()
    except (AttributeError, TypeError):
        return False
    return True


def are_integers(value):
    """Say whether a value is a sequence of integers."""
    return isinstance(value, (tuple, list)) and all([is_integer(item) for item in value])


# One text, whichever op it is: so Python's filter shows it once for a line that runs many layers.
_WIDENED = (
    "promotion: float64 input meets a float32 parameter, so this and what follows is computed in "
    "float64. Hint: x.astype('float32') before the call, or model.to(dtype='float64') if that is "
    "what you want."
)


def warn_if_widened(inputs):
    """Warn where a float64 operand makes an op with a float32 parameter compute in float64.

    Asked only where operands do not have one dtype. Parameters and buffers are the tensors of
    classes of their own.
    """
    kinds = {
        (value.dtype, type(value) is not Tensor) for value in inputs if isinstance(value, Tensor)
    }
    if (dtypes.float32, True) not in kinds or not kinds & _WIDE:
        return
    frame = user_frame()
    if frame is not None:
        warnings.warn_explicit(
            _WIDENED,
            DTypeWarning,
            frame.f_code.co_filename,
            frame.f_lineno,
            module=frame.f_globals.get("__name__", ""),
            registry=frame.f_globals.setdefault("__warningregistry__", {}),
        )


_WIDE = {(dtypes.float64, False), (dtypes.float64, True)}
