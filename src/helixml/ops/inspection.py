"""Inspection: what dtypes hold, and what this namespace offers, by the array API standard.

`namespace` is how a tensor finds `helixml`; `__array_namespace_info__` says what is in it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from helixml import dtypes
from helixml.backends import registry
from helixml.device import Device
from helixml.dtypes import DType, DTypeLike
from helixml.errors import DTypeError, ValueRangeError

VERSION = "2024.12"  # of the standard
_VERSIONS = ("2021.12", "2022.12", "2023.12", VERSION)
_MOST_AXES = 64  # of NumPy's arrays


class FloatInfo(NamedTuple):
    """What a float dtype holds; of a complex dtype, what its parts do."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


class IntegerInfo(NamedTuple):
    """What an integer dtype holds."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype_of(value: Any) -> DType:
    return dtypes.parse(getattr(value, "dtype", value))


def finfo(type: Any) -> FloatInfo:
    """Return the limits of a float or complex dtype, or of the dtype of a Tensor.

    Raises
    ------
    DTypeError : it is an integer or boolean.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.finfo(hx.float32).eps
    1.1920928955078125e-07
    """
    dtype = _dtype_of(type)
    if dtypes.kind(dtype) not in "fcs":
        raise DTypeError(f"finfo: {dtype} is no float. Hint: hx.iinfo.")
    real = dtypes.real_of(dtype)
    found: Any = ml_dtypes.finfo(real)
    eps, most, least, smallest = map(
        float, (found.eps, found.max, found.min, found.smallest_normal)
    )
    return FloatInfo(int(found.bits), eps, most, least, smallest, real)


def iinfo(type: Any) -> IntegerInfo:
    """Return the limits of an integer dtype, or of the dtype of a Tensor.

    Raises
    ------
    DTypeError : it is no integer.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.iinfo(hx.int8).max
    127
    """
    dtype = _dtype_of(type)
    if dtypes.kind(dtype) not in "ui":
        raise DTypeError(f"iinfo: {dtype} is no integer. Hint: hx.finfo.")
    found = np.iinfo(dtype)
    return IntegerInfo(int(found.bits), int(found.max), int(found.min), dtype)


_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "ui",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "uifc",
}


def isdtype(dtype: DTypeLike, kind: Any) -> bool:
    """Say whether a dtype is of a kind.

    Parameters
    ----------
    dtype : a dtype.
    kind : a dtype, one of "bool", "signed integer", "unsigned integer", "integral",
        "real floating", "complex floating", "numeric", or a tuple of these.

    Raises
    ------
    ValueRangeError : there is no such kind.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.isdtype(hx.bfloat16, ("real floating", hx.int8))
    True
    """
    found = dtypes.parse(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(found, item) for item in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueRangeError(f"isdtype: kind={kind!r}. Hint: {', '.join(map(repr, _KINDS))}.")
        return dtypes.kind(found) in _KINDS[kind]
    return found == dtypes.parse(kind)


def can_cast(from_: Any, to: DTypeLike) -> bool:
    """Say whether promotion takes a dtype, or that of a Tensor, to another.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.can_cast(hx.int8, hx.int16), hx.can_cast(hx.float64, hx.float32)
    (True, False)
    """
    target = dtypes.parse(to)
    try:
        return dtypes.promote(_dtype_of(from_), target) == target
    except DTypeError:  # uint64 and a signed integer have nothing in common
        return False


class NamespaceInfo:
    """What `__array_namespace_info__` gives."""

    def capabilities(self) -> dict[str, Any]:
        """Return what the standard leaves open."""
        return {
            "boolean indexing": True,
            "data-dependent shapes": True,
            "max dimensions": _MOST_AXES,
        }

    def default_device(self) -> Device:
        """Return the configured default device."""
        return registry.default().device

    def devices(self) -> list[Device]:
        """Return the devices that can be used here."""
        return [Device(name) for name, state in registry.available().items() if state == "ok"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """Return the dtypes that Python numbers take."""
        return {
            "real floating": dtypes.default_float,
            "complex floating": dtypes.default_complex,
            "integral": dtypes.default_int,
            "indexing": dtypes.int64,
        }

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """Return the standard's dtypes of a kind, as in `isdtype`, that a device has, by name."""
        backend = registry.default() if device is None else registry.get(Device(device))
        held = {*backend.dtypes} - {*dtypes.HALVES}
        return {d.name: d for d in dtypes.ALL if d in held and (kind is None or isdtype(d, kind))}


def __array_namespace_info__() -> NamespaceInfo:
    """Return what this namespace offers, by the array API standard.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.__array_namespace_info__().default_dtypes()["integral"]
    dtype('int64')
    """
    return NamespaceInfo()


def namespace(api_version: str | None) -> Any:  # Any: a module
    """Return `helixml`, if it follows that version of the standard."""
    if api_version is not None and api_version not in _VERSIONS:
        raise ValueRangeError(
            f"__array_namespace__: version {api_version!r} is not one of {', '.join(_VERSIONS)}."
        )
    return import_module("helixml")
