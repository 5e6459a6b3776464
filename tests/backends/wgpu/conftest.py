"""The WebGPU backend on whatever adapter there is: a GPU, or Mesa's software device.

Without one tests are skipped, and fail where HELIXML_REQUIRE names ``wgpu``. Goals are NumPy's, in
float64 and in Python's integers.
"""

import numpy as np
import pytest

from helixml.backends import registry
from helixml.backends.wgpu.launch import Program
from helixml.errors import DeviceError, MissingDependencyError
from required import require


@pytest.fixture(scope="session")
def backend():
    """Return the backend that the registry gives: to start a device takes long."""
    try:
        return registry.get("wgpu")
    except (MissingDependencyError, DeviceError) as error:
        require("wgpu", str(error))


@pytest.fixture(scope="session")
def runtime(backend):
    """Return the open device of the backend."""
    return backend._runtime


@pytest.fixture
def program(runtime, monkeypatch):
    """Return a function that makes a program of a text of WGSL."""

    def make(text):
        monkeypatch.setattr("helixml.backends.wgpu.launch._expanded", lambda file, seen: text)
        return Program(runtime, "text.wgsl")

    return make


@pytest.fixture
def host():
    """Return NumPy's generator."""
    return np.random.default_rng(7)
