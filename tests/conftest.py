"""What all tests share: quiet NumPy, hypothesis without chance, the rarely needed second device.

The suite runs on the device that HELIXML_DEVICE names. With HELIXML_CUDA=emulator the device "cuda"
is the emulator's, which needs no GPU: slow, for a few files at a time.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import helixml as hx
from helixml import config, dtypes
from helixml.backends import registry
from helixml.backends.cpu import kernels
from helixml.errors import DTypeError

settings.register_profile(
    "helixml",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("helixml")

# Else JAX takes three quarters of a GPU that many processes, and other libraries in them, share.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

if os.environ.get("HELIXML_CUDA") == "emulator":
    from helixml.backends.cuda.backend import CudaBackend
    from helixml.device import Device
    from helixml.testing import cuemu

    registry.register("cuda", lambda: CudaBackend(cuemu.cupy(), Device("cuda")))


@pytest.fixture(autouse=True)
def quiet_numpy():
    """Overflow and nan are results here, not warnings."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def plain_settings():
    """Use the default settings, for tests of what they give and of what is printed."""
    with config.using(device="cpu", kernels=True, debug=False):
        yield


@pytest.fixture
def other_device():
    """Name a device beside the default one: slow and obvious, but somewhere else."""
    return "cpu" if config.get().device == "reference" else "reference"


@pytest.fixture
def with_kernels():
    """Use the kernels: without them a fused op's gradient is that of the ops it is made of.

    They are the CPU's where the default device has not all of these.
    """
    if kernels.available() is None:
        pytest.skip("the kernels were not compiled")
    device = config.get().device
    if not set(registry.get("cpu").kernels) <= set(registry.get(device).kernels):
        device = "cpu"
    with config.using(device=device, kernels=True):
        yield


@pytest.fixture
def on_the_cpu():
    """Compute on the CPU, whose memory NumPy shares."""
    with config.using(device="cpu"):
        yield


@pytest.fixture
def written_in_place():
    """Skip where a write makes a new array: a step that writes cannot be replayed there."""
    backend = registry.default()
    array = backend.zeros((1,), dtype=dtypes.float32)
    if backend.assign(array, array) is not array:
        pytest.skip(f"arrays on {config.get().device!r} are not written in place")


@pytest.fixture
def booleans_are_numbers():
    """Skip where booleans cannot be computed with, as the standard of arrays leaves it open."""
    x = hx.ones((1,), dtype="bool")
    try:
        x + x
    except DTypeError as error:
        pytest.skip(str(error))
