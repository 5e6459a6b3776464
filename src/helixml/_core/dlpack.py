"""DLPack: arrays handed to other libraries, and taken from them, without a copy.

NumPy makes and reads the capsules. It knows no bfloat16: such an array travels as uint16, and the
name of the dtype is exchanged in the capsule itself, whose layout is that of ``dlpack.h`` 1.x.
Nothing else here knows what is in one. Values of a device beyond host memory go through it; there
are no streams. Loaded when first needed.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.interop import check_leaving
from helixml._core.tensor import Tensor
from helixml.errors import DeviceError

__all__ = ["export", "import_array"]

_CPU = (1, 0)  # kDLCPU, device 0
_UINT, _BFLOAT = 1, 4  # type codes


class _Tensor(ctypes.Structure):  # DLTensor
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):  # DLManagedTensorVersioned
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


def export(tensor: Tensor, stream: Any, max_version: Any, dl_device: Any, copy: Any) -> Any:
    """Return a DLPack capsule: a read-only view, or a copy for those who know no such thing.

    Raises
    ------
    BufferError : ``copy`` is False and one is needed, or another device than the CPU is asked for.
    """
    check_leaving("DLPack", tensor)
    if stream is not None:
        raise BufferError(f"dlpack: stream={stream!r}, but values come from host memory.")
    if dl_device is not None and tuple(dl_device) != _CPU:
        raise BufferError(f"dlpack: values come from host memory {_CPU}, not from {dl_device}.")
    version = None if max_version is None or max_version[0] < 1 else (1, 0)
    if version is None:  # without a flag for read-only, the values must be the receiver's own
        if copy is False:
            raise BufferError(
                "dlpack: tensors are read-only, which DLPack says from version 1 on; before that "
                "only a copy can be given. Hint: leave copy out, or max_version=(1, 0)."
            )
        copy = True
    array = tensor.numpy()
    half = array.dtype == dtypes.bfloat16
    if half:
        array = array.view(np.uint16)
    if copy:
        array = array.copy()
    capsule = array.__dlpack__(max_version=version)
    if half:
        _described(capsule).code = _BFLOAT
    return capsule


def import_array(x: Any) -> np.ndarray[Any, Any]:
    """Return what speaks DLPack as a NumPy array of the same memory."""
    kind, number = x.__dlpack_device__()
    if kind != _CPU[0]:
        raise DeviceError(
            f"from_dlpack: {type(x).__name__} lives on DLPack device {(int(kind), number)}, "
            "beyond host memory. Hint: move it to the CPU first."
        )
    try:
        capsule = x.__dlpack__(max_version=(1, 0))
    except TypeError:  # from before version 1
        capsule = x.__dlpack__()
    described = _described(capsule)
    half = (described.code, described.bits, described.lanes) == (_BFLOAT, 16, 1)
    if half:
        described.code = _UINT
    array = np.from_dlpack(_Offer(capsule))
    return array.view(dtypes.bfloat16) if half else array


class _Offer:
    """A capsule as `numpy.from_dlpack` wants it."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **asked: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU


def _described(capsule: Any) -> _Tensor:
    """Return the description of the array in a capsule; writing to it writes the capsule."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype = ctypes.c_void_p
    pointer_of.argtypes = (ctypes.py_object, ctypes.c_char_p)
    is_valid = ctypes.pythonapi.PyCapsule_IsValid
    is_valid.argtypes = (ctypes.py_object, ctypes.c_char_p)
    name = b"dltensor_versioned"
    if is_valid(capsule, name):
        return _Versioned.from_address(pointer_of(capsule, name)).tensor
    return _Tensor.from_address(pointer_of(capsule, b"dltensor"))
