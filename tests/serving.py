"""Every backend that can be tried without a GPU, for tests that want to see all of them agree."""

import os
import shutil
from contextlib import contextmanager

import pytest

from helixml.backends import registry
from helixml.backends.cuda.backend import CudaBackend
from helixml.device import Device
from helixml.errors import DeviceError, MissingDependencyError
from helixml.testing import cuemu
from required import require

__all__ = ["EVERYWHERE", "each", "serving"]

EVERYWHERE = ("cpu", "reference", "array_api_strict", "torch", "jax", "wgpu", "cuda")


def each(slow):
    """Return the parameters of a test of every device, those of ``slow`` marked."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in EVERYWHERE
    ]


@contextmanager
def serving(name):
    """Give the name of a device; "cuda" is the emulator. Skip the test without what it needs."""
    ours = name == "cuda" and os.environ.get("HELIXML_CUDA") != "emulator"  # else it is there
    if ours:
        if shutil.which("g++") is None:
            pytest.skip("the emulator needs g++")
        backend = CudaBackend(cuemu.cupy(), Device("cuda"))
        registry.register("cuda", lambda: backend)
    try:
        registry.get(name)
    except (DeviceError, MissingDependencyError) as error:
        require(name, str(error))
    try:
        yield name
    finally:
        if ours:
            registry.unregister("cuda")
