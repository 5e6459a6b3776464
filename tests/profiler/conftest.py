"""What the profiler's tests share."""

import pytest

from helixml import config
from helixml.backends.cpu import kernels


@pytest.fixture
def with_kernels():
    """Use the kernels: without them a fused op's gradient is that of the ops it is made of."""
    if kernels.available() is None:
        pytest.skip("the kernels were not compiled")
    with config.using(kernels=True):
        yield
