"""Errors of a library of arrays, told as helixml's.

`translated` wraps functions of a backend: what they raise passes through, unless the backend's
``explain`` knows it. Nothing is looked at before something fails. What an error means each backend
knows itself: `cuda.failures`, `array_api_torch`, `array_api_jax`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from helixml.device import Device
from helixml.errors import DeviceMemoryError, HelixError

__all__ = ["no_memory", "translated"]


def no_memory(device: Device, reason: str) -> DeviceMemoryError:
    """Return the error for memory that has run out."""
    return DeviceMemoryError(
        f"device {device.name!r}: not enough memory: {reason}. Hint: a smaller batch, "
        "hx.autograd.checkpoint, 16-bit floats; or drop what is no longer needed."
    )


def translated(
    function: Callable[..., Any], explain: Callable[[Exception], Exception | None]
) -> Callable[..., Any]:
    """Return a function that raises what ``explain`` returns in place of what it explains."""

    @wraps(function, updated=())
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except HelixError:
            raise
        except Exception as error:  # of a library's many classes; what is not known passes on
            known = explain(error)
            if known is None:
                raise
            raise known from error

    return call
