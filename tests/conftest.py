"""What all tests share: quiet NumPy, hypothesis without chance, the rarely needed second device.

The suite runs on the device that HELIXML_DEVICE names. With HELIXML_CUDA=emulator the device "cuda"
is the emulator's, which needs no GPU: slow, for a few files at a time.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from helixml import config
from helixml.backends import registry
from helixml.backends.cpu import kernels

settings.register_profile(
    "helixml",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("helixml")

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
    """Name a device beside the CPU: slow and obvious, but somewhere else."""
    registry.get("reference")
    return "reference"


@pytest.fixture
def with_kernels():
    """Use the kernels: without them a fused op's gradient is that of the ops it is made of."""
    if kernels.available() is None:
        pytest.skip("the kernels were not compiled")
    with config.using(kernels=True):
        yield
