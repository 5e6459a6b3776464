"""Buffers: used again, never beyond their end, and clear words where there is none."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from helixml import dtypes
from helixml.backends.wgpu import open_adapter
from helixml.backends.wgpu.backend import WgpuBackend
from helixml.backends.wgpu.pool import Pool
from helixml.backends.wgpu.runtime import Runtime
from helixml.device import Device
from helixml.errors import DeviceError


class Buffer:
    def __init__(self, size):
        self.size = size
        self.destroyed = False

    def destroy(self):
        self.destroyed = True


def test_a_buffer_is_used_again_when_its_last_owner_is_gone():
    pool = Pool(Buffer, 1 << 20)
    first = pool.take(1000)
    gpu, other = first.gpu, pool.take(1000)
    assert other.gpu is not gpu
    del first
    assert pool.take(900).gpu is gpu
    assert pool.told() == {"in_use": 1024, "peak": 2048, "held": 2048}


def test_a_buffer_to_avoid_is_left():
    pool = Pool(Buffer, 1 << 20)
    first = pool.take(256)
    number = first.number
    del first
    assert pool.take(256, {number}).number != number


def test_a_buffer_survives_the_garbage_collection_of_its_owners():
    pool = Pool(Buffer, 1 << 20)
    storage = pool.take(256)
    gpu, cycle = storage.gpu, [storage]
    cycle.append(cycle)
    del storage, cycle
    gc.collect()
    assert pool.take(256).gpu is gpu


def test_trimming_destroys_what_nobody_uses():
    pool = Pool(Buffer, 1 << 20)
    used, free = pool.take(256), pool.take(256)
    gpu = free.gpu
    del free
    assert pool.trim() == 256
    assert gpu.destroyed and not used.gpu.destroyed
    assert pool.told()["held"] == 256


def test_the_largest_buffer_is_not_rounded_up():
    assert Pool(Buffer, 1000).take(900).size == 1000


def test_memory_counts_living_arrays(backend):
    before = backend.memory()["in_use"]
    x = backend.asarray(np.ones(1024, np.float32))
    assert backend.memory()["in_use"] == before + 4096
    y = backend.reshape(x, (32, 32))
    del x
    assert backend.memory()["in_use"] == before + 4096
    del y
    told = backend.memory()
    assert told["in_use"] == before
    assert told["held"] >= told["peak"] >= before + 4096


def test_an_array_that_no_binding_holds_says_its_size(backend, runtime):
    entries = runtime.pool.largest // 4 + 1
    seen = backend.zeros((entries,), dtype=dtypes.float32)  # one element, seen often
    with pytest.raises(DeviceError, match=rf"\({entries},\) and float32 takes .* binds"):
        backend.copy(seen)


def test_a_lost_device_says_so(runtime):
    own = open_adapter(Device("wgpu"))
    backend = WgpuBackend(own, Device("wgpu"))
    x = backend.asarray(np.ones(5, np.float32))
    y = backend.add(x, x)
    own.device.destroy()
    with pytest.raises(DeviceError, match=r"(?s)device is lost.* Hint: start a new process"):
        backend.to_numpy(y)
    with pytest.raises(DeviceError, match=r"(?s)a buffer of .*device is lost"):
        backend.asarray(np.ones(70000, np.float32))


def test_short_memory_first_destroys_what_nobody_uses(runtime, monkeypatch):
    def refused():
        raise runtime._wgpu.GPUOutOfMemoryError("no memory")

    with pytest.raises(DeviceError, match=r"a thing: no memory; .* Hint: a smaller batch"):
        runtime.asked("a thing", refused)
    trimmed, real = [], Runtime.trim

    class Short:
        def __init__(self, device):
            self._device = device

        def create_buffer(self, **options):
            if not trimmed:
                raise runtime._wgpu.GPUOutOfMemoryError("no memory")
            return self._device.create_buffer(**options)

    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "trim", lambda self: trimmed.append(real(self)))
        patch.setattr(runtime, "device", Short(runtime.device))
        assert runtime._create(256).size == 256
    assert len(trimmed) == 1


# 2: reads and writes beyond the end are silent, so what lies behind is watched


@pytest.fixture
def guarded(runtime, monkeypatch):
    """Fill every new buffer with a pattern; return a function that looks at what lies behind."""
    made = []
    real = Runtime.empty

    def empty(self, shape, dtype, avoided=()):
        x = real(self, shape, dtype, avoided)
        self.write(x.storage, np.full(x.storage.size // 4, 0x7FC0DEAD, np.uint32))
        made.append(x)
        return x

    def check():
        assert made
        for x in made:
            words = np.frombuffer(runtime.read(x.storage, 0, x.storage.size), np.uint32)
            assert (words[x.size * x.words :] == 0x7FC0DEAD).all(), x

    monkeypatch.setattr(Runtime, "empty", empty)
    return check


def test_no_kernel_writes_behind_its_arrays(backend, guarded, host):
    x = backend.asarray(host.normal(size=(7, 13)).astype(np.float32))
    y = backend.asarray(host.normal(size=(13, 5)).astype(np.float32))
    ids = backend.asarray(np.array([[0, -1, 3], [3, 6, 0]]))
    rows = backend.asarray(host.normal(size=(2, 3, 13)).astype(np.float32))
    backend.add(x, backend.flip(x, axis=(0, 1)))
    backend.copy(backend.permute_dims(x, (1, 0)))
    backend.matmul(x, y)
    for axis in ((0,), (1,), (0, 1)):
        backend.sum(x, axis=axis, keepdims=False)
    backend.sum(backend.asarray(np.ones((3, 20011), np.float32)), axis=(1,), keepdims=False)
    backend.sum(backend.asarray(np.ones((1200, 67), np.float32)), axis=(0,), keepdims=False)
    backend.argmax(x, axis=1, keepdims=False)
    backend.argsort(x, axis=1)
    backend.searchsorted(backend.reshape(y, (65,)), x, side="left")
    backend.cumulative_sum(x, axis=1)
    backend.linear_scan(x, x, None, reverse=True)
    backend.take(x, ids, axis=0)
    backend.scatter_add(rows, ids, axis=0, size=7)
    backend.fold(
        backend.unfold(x, size=3, step=2, axis=1, dilation=2), length=13, step=2, axis=1, dilation=2
    )
    for n in (8, 13, 100):
        backend.fft(x, n=n, axis=1, norm="backward")
    backend.philox((1, 2), 3, 5)
    backend.drop(x, (1, 2), 3, threshold=2**31, scale=2.0)
    backend.matmul(ids, backend.permute_dims(ids, (1, 0)))
    guarded()


def test_threads_share_the_device(backend, host):
    x = host.normal(size=(8, 33)).astype(np.float32)
    goal = x @ x.T + x.sum()

    def work(_):
        for _ in range(20):
            made = backend.asarray(x)
            total = backend.sum(made, axis=(0, 1), keepdims=False)
            product = backend.matmul(made, backend.permute_dims(made, (1, 0)))
            found = backend.to_numpy(backend.add(product, total))
        return found

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(4)):
            np.testing.assert_allclose(found, goal, rtol=0, atol=1e-4)
