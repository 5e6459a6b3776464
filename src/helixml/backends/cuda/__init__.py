"""NVIDIA's GPUs: CuPy's arrays, cuBLAS, cuFFT, and kernels of our own in CUDA C++.

AMD's GPUs too, by CuPy's build for ROCm: the kernels are the same, see kernels/hip.cuh.

`create` gives the backend of one GPU. CuPy is imported there and nowhere else; the rest takes its
module as an argument. `backend` has the array functions, `kernels` the kernels, `launch` compiles
and runs them, `mirrors` keeps range checks from waiting for the device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from helixml.device import Device
from helixml.errors import DeviceError, HelixError, MissingDependencyError

if TYPE_CHECKING:
    from helixml.backends.cuda.backend import CudaBackend

__all__ = ["create"]

_FITTING = (
    "'helixml[cuda13]', 'helixml[cuda12]' where nvidia-smi shows CUDA Version 12, or "
    "'helixml[rocm7]' for AMD's GPUs with ROCm 7."
)
_ANEW = (
    f"Hint: pip uninstall cupy cupy-cuda12x cupy-cuda13x cupy-rocm-7-0, then pip install {_FITTING}"
)


def create(device: Device) -> CudaBackend:
    """Return the backend of ``"cuda"``, the first GPU, or ``"cuda:N"``.

    Raises
    ------
    MissingDependencyError : CuPy is not installed, or only in parts.
    DeviceError : there is no driver, it is too old, or there is no such GPU.
    """
    what = f"device {device.name!r}"
    try:
        cp = import_module("cupy")
    except Exception as error:  # CuPy loads libraries, whose faults are of any class
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise MissingDependencyError(
                f"{what}: {error}. Hint: pip install {_FITTING}"
            ) from error
        reason = error.__cause__ or error  # of which CuPy's own error tells in twenty lines
        raise MissingDependencyError(
            f"{what}: CuPy is installed but does not load: {type(reason).__name__}: {reason}. "
            f"{_ANEW}"
        ) from error
    if not hasattr(cp, "is_available"):  # of a removed package, folders may be left
        raise MissingDependencyError(
            f"{what}: CuPy is installed in parts only: it has no is_available. {_ANEW}"
        )
    check(cp, device)
    from helixml.backends.cuda.backend import CudaBackend

    return CudaBackend(cp, device)


def check(cp: Any, device: Device) -> None:
    """Raise a DeviceError that says why CuPy cannot use ``device``, if it cannot."""
    what = f"device {device.name!r}"
    try:
        _check(cp, device, what)
    except HelixError:
        raise
    except Exception as error:  # asking CUDA for its version can fail, too
        raise DeviceError(
            f"{what}: CUDA does not start: {type(error).__name__}: {error}. Hint: nvidia-smi shows "
            "whether the driver works; after an update of it the machine must start anew."
        ) from error


def _check(cp: Any, device: Device, what: str) -> None:
    if device.index and not device.index.isdigit():
        raise DeviceError(f"{what}: {device.index!r} is no number of a GPU. Hint: 'cuda:0'.")
    if not cp.is_available():
        runtime = cp.cuda.runtime
        if runtime.is_hip:
            raise DeviceError(
                f"{what}: CuPy {cp.__version__} is the one for AMD's GPUs, and finds none. Hint: "
                "rocminfo lists them, HIP_VISIBLE_DEVICES hides some."
            )
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if driver == 0:
            raise DeviceError(
                f"{what}: this machine has no NVIDIA driver. Hint: nvidia-smi shows whether it is "
                "there; use 'cpu'."
            )
        if driver < needed:
            raise DeviceError(
                f"{what}: the driver serves CUDA {_version(driver)}, CuPy {cp.__version__} needs "
                f"{_version(needed)}. Hint: a newer driver, or CuPy for the older CUDA."
            )
        raise DeviceError(
            f"{what}: the driver is there, but no GPU that it can use. Hint: nvidia-smi lists "
            "them, CUDA_VISIBLE_DEVICES hides some."
        )
    count = cp.cuda.runtime.getDeviceCount()
    if int(device.index or 0) >= count:
        there = "is 1 GPU" if count == 1 else f"are {count} GPUs"
        raise DeviceError(f"{what}: there {there}, numbered from 0.")


def _version(number: int) -> str:
    """Return the name of a version of CUDA, which numbers it 1000 major + 10 minor."""
    return f"{number // 1000}.{number % 1000 // 10}"
