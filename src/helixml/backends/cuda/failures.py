"""What CUDA's failures mean: memory that runs out, and a GPU that no longer answers.

CuPy's classes are told by name, for the class of its runtime's errors lies in a module that
stand-ins do not have.
"""

from __future__ import annotations

import re
from typing import Any

from helixml.backends.failures import no_memory
from helixml.device import Device
from helixml.errors import DeviceError

__all__ = ["explain"]

# Errors after which CUDA answers every call of the process with the same error: section "Data types
# used by CUDA Runtime" of the CUDA Runtime API reference, those whose text says that the process
# must be terminated and relaunched. The driver writes CUDA_ERROR_ILLEGAL_ADDRESS, and HIP
# hipErrorIllegalAddress.
_LOST = re.compile(
    r"(cuda|hip)_?error_?(illegal_?address|launch_?failure|launch_?failed|launch_?timeout"
    r"|hardware_?stack_?error|illegal_?instruction|misaligned_?address|invalid_?address_?space"
    r"|invalid_?pc|assert|ecc_?(uncorrectable|not_?correctable)|nvlink_?uncorrectable"
    r"|context_?is_?destroyed|mps_?client_?terminated|external_?device|contained)",
    re.IGNORECASE,
)
# The names of the runtime, the driver, and the libraries: cuBLAS, cuFFT, cuSOLVER and their kin.
_MEMORY = re.compile(
    r"(cuda|hip)_?error_?(memory_?allocation|out_?of_?memory)"
    r"|\bcu[a-z]+_(status_)?alloc(ation)?_failed",
    re.IGNORECASE,
)


def explain(error: Exception, device: Device, cp: Any) -> DeviceError | None:  # Any: a module
    """Return helixml's error for one of CuPy's; None if it is no failure of the device."""
    text = str(error).rstrip(".")
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        pool = cp.get_default_memory_pool()
        return no_memory(device, f"{text}; arrays hold {pool.used_bytes():,} bytes there")
    lost = _LOST.search(text)
    if lost is None:
        return None
    return DeviceError(
        f"device {device.name!r}: the GPU stopped: {text}. Nothing in this process can use it any "
        "more, and what is on it is lost. Hint: start the process anew, from a checkpoint; with "
        "CUDA_LAUNCH_BLOCKING=1 the error comes from the call that made it."
    )
