"""What all tests share: quiet NumPy, hypothesis without chance, the rarely needed second device."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from helixml.backends import registry

settings.register_profile(
    "helixml",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("helixml")


@pytest.fixture(autouse=True)
def quiet_numpy():
    """Overflow and nan are results here, not warnings."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def other_device():
    """Name a device beside the CPU: slow and obvious, but somewhere else."""
    registry.get("reference")
    return "reference"
