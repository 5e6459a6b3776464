"""The CUDA backend on two devices: the emulator, wherever there is g++, and a GPU, if there is one.

Every test that asks for `cp` or `backend` runs on both. Goals are float64 loops of NumPy on inputs
that were rounded to the dtype under test.
"""

import shutil
from contextlib import nullcontext

import numpy as np
import pytest

from helixml import dtypes
from helixml.backends import registry
from helixml.backends.cuda.backend import CudaBackend
from helixml.device import Device
from helixml.testing import cuemu

# Each is a compilation of its own; the slow ones differ from the others by a typedef.
FLOATS = [
    dtypes.float32,
    dtypes.bfloat16,
    pytest.param(dtypes.float64, marks=pytest.mark.slow),
    pytest.param(dtypes.float16, marks=pytest.mark.slow),
]


def gpu():
    """Return CuPy, or None where it has no GPU."""
    try:
        import cupy
    except ImportError:
        return None
    return cupy if cupy.is_available() else None


GPU = gpu()


@pytest.fixture(params=["emulator", "gpu"] if GPU else ["emulator"])
def cp(request):
    """CuPy, or what stands in for it."""
    if request.param == "gpu":
        return GPU
    if shutil.which("g++") is None:
        pytest.skip("the emulator needs g++")
    return cuemu.cupy()


@pytest.fixture
def backend(cp):
    """Return the backend of the device."""
    return CudaBackend(cp, Device("cuda"))


@pytest.fixture
def device(backend):
    """Name a device that the backend serves."""
    registry.register("cuda", lambda: backend)
    yield "cuda"
    registry.unregister("cuda")


@pytest.fixture(params=["forward", "reverse", "random"])
def order(request, cp):
    """Run threads and blocks in one of three orders; a GPU has its own."""
    if not hasattr(cp, "cuemu"):
        if request.param != "forward":
            pytest.skip("a GPU orders threads itself")
        yield nullcontext()
        return
    with cuemu.order(request.param, 3):
        yield request.param


@pytest.fixture(params=FLOATS, ids=str)
def dtype(request):
    """One of the dtypes that kernels serve."""
    return request.param


def random(shape, dtype, seed=0, low=-2.0, high=2.0):
    """Return random numbers of the dtype."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


def wide(*hosts):
    """Return arrays in float64."""
    return [None if x is None else x.astype(np.float64) for x in hosts]


def close(found, goal, terms=1):
    """Assert that an array of the device is the goal, rounded: the error of a sum of ``terms``.

    A result is rounded to its dtype once; sums of n terms in float32 lose at most n eps, and
    sqrt(n) eps by chance; 8 is room for the few operations beside the sum.
    """
    host = found.get()
    eps = float(np.finfo(np.float64).eps if host.dtype == np.float64 else np.finfo(np.float32).eps)
    own = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(host.dtype.name, eps)
    size = max(1.0, float(np.abs(goal).max(initial=0)))
    bound = (2 * own + 8 * eps * max(1, terms) ** 0.5) * size
    assert host.shape == np.shape(goal)
    np.testing.assert_allclose(host.astype(np.float64), goal, rtol=0, atol=bound)
