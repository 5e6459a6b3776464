"""A device for the kernels of WebGPU, whose arrays lie between guard zones.

Every new buffer is filled with nan, and has room behind the array: what a kernel leaves out shows,
and so does what it writes where it should not, which WebGPU does not tell. Goals are float64 loops
of NumPy.
"""

import numpy as np
import pytest

GUARD = 1024  # bytes behind each array
PATTERN = 0x7FC0DEAD  # a nan


@pytest.fixture(scope="session")
def device(backend):
    """Return the open device of the backend."""
    return backend._runtime


@pytest.fixture
def runtime(device, monkeypatch):
    """Return the device; after the test all guard zones must be whole."""
    take, given = device.pool.take, []

    def guarded(size, *more):
        storage = take(size + GUARD, *more)
        device.write(storage, np.full(storage.size // 4, PATTERN, np.uint32))
        given.append((storage, size))
        return storage

    monkeypatch.setattr(device.pool, "take", guarded)
    yield device
    for storage, size in given:
        assert is_whole(device, storage, size), "a kernel wrote behind an array"


def is_whole(runtime, storage, size):
    """Say whether nothing was written behind the bytes of an array."""
    words = np.frombuffer(runtime.read(storage, 0, storage.size), np.uint32)
    return bool((words[-(-size // 4) :] == PATTERN).all())


@pytest.fixture(params=[32, 256])
def threads(request):
    """Return the size of a workgroup."""
    return request.param


def random(shape, seed=0, low=-2.0, high=2.0):
    """Return random float32 numbers."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def wide(*hosts):
    """Return arrays in float64."""
    return [None if x is None else x.astype(np.float64) for x in hosts]


def put(runtime, *hosts):
    """Return arrays on the device."""
    return [None if x is None else runtime.from_numpy(np.asarray(x)) for x in hosts]


def strided(runtime, host):
    """Return a view of the device that begins behind its buffer and has its axes exchanged."""
    bigger = np.pad(host, [(1, 2)] * host.ndim)
    made = runtime.from_numpy(np.ascontiguousarray(bigger.T))
    steps = made.strides[::-1]
    return made.view(host.shape, steps, sum(steps))


def get(runtime, x):
    """Return an array of the device in host memory, whatever its strides."""
    whole = np.frombuffer(runtime.read(x.storage, 0, x.storage.size), x.dtype)
    steps = [step * x.dtype.itemsize for step in x.strides]
    return np.lib.stride_tricks.as_strided(whole[x.offset :], x.shape, steps).copy()


def close(runtime, found, goal, terms=1):
    """Assert that an array of the device is the goal: the error of a sum of ``terms``.

    Sums of n terms in float32 lose at most n eps, and sqrt(n) eps by chance; 8 is room for the few
    operations beside the sum, 4 for the last ones.
    """
    host = get(runtime, found)
    eps = float(np.finfo(np.float32).eps)
    size = max(1.0, float(np.abs(goal).max(initial=0)))
    assert host.shape == np.shape(goal)
    bound = (4 + 8 * max(1, terms) ** 0.5) * eps * size
    np.testing.assert_allclose(host.astype(np.float64), goal, rtol=0, atol=bound)
