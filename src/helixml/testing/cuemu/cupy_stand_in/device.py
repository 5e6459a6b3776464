"""The submodule ``cupy.cuda``: one device and its runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any  # devices and streams of the stand-in, made at run time

from helixml.testing.cuemu.cupy_stand_in.memory_pool import TOTAL, MemoryPool
from helixml.testing.cuemu.cupy_stand_in.record import Record
from helixml.testing.cuemu.cupy_stand_in.streams import CUDARuntimeError

__all__ = ["cuda_namespace"]

PROPERTIES = {
    "name": b"helixml cuemu",
    "totalGlobalMem": TOTAL,
    "sharedMemPerBlock": 48 << 10,
    "sharedMemPerBlockOptin": 163 << 10,
    "sharedMemPerMultiprocessor": 164 << 10,
    "regsPerBlock": 65536,
    "warpSize": 32,
    "maxThreadsPerBlock": 1024,
    "maxThreadsPerMultiProcessor": 2048,
    "maxThreadsDim": (1024, 1024, 64),
    "maxGridSize": (2**31 - 1, 65535, 65535),
    "multiProcessorCount": 4,
    "major": 8,
    "minor": 0,
    "l2CacheSize": 4 << 20,
    "memoryBusWidth": 64,
    "asyncEngineCount": 2,
    "concurrentKernels": 1,
}


class Device:
    """The only device; a context in which it is the current one."""

    _record: Record
    compute_capability = "80"

    def __init__(self, device: int | None = None) -> None:
        if device not in (None, 0):
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = 0

    def __int__(self) -> int:
        return self.id

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def use(self) -> Device:
        """Make it the current device."""
        return self

    @property
    def mem_info(self) -> tuple[int, int]:
        """Bytes that are free, and all."""
        return TOTAL - self._record.pool.total_bytes(), TOTAL

    @property
    def attributes(self) -> dict[str, int]:
        """Some of the device's attributes."""
        return {
            "MaxThreadsPerBlock": 1024,
            "MaxSharedMemoryPerBlock": 48 << 10,
            "MaxSharedMemoryPerBlockOptin": 163 << 10,
            "MultiProcessorCount": 4,
            "WarpSize": 32,
            "ComputeCapabilityMajor": 8,
            "ComputeCapabilityMinor": 0,
        }

    def synchronize(self) -> None:
        """Let the host wait until all streams are empty."""
        self._record.queues.synchronize("device.synchronize")


def cuda_namespace(record: Record, out_of_memory: type[Exception]) -> SimpleNamespace:
    """Return the stand-in for ``cupy.cuda``."""
    queues = record.queues
    device: Any = type("Device", (Device,), {"_record": record})
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        setDevice=device,
        getDeviceProperties=lambda number: dict(PROPERTIES) if device(number) else {},
        memGetInfo=lambda: device().mem_info,
        deviceSynchronize=lambda: queues.synchronize("device.synchronize"),
        streamSynchronize=lambda ptr: queues.synchronize("stream.synchronize"),
        runtimeGetVersion=lambda: 13020,
        driverGetVersion=lambda: 13020,
        is_hip=False,
        streamCaptureModeGlobal=0,
        streamCaptureModeThreadLocal=1,
        streamCaptureModeRelaxed=2,
    )

    @contextmanager
    def using_allocator(allocator: Any) -> Iterator[None]:
        """Let arrays take memory from the pool whose `malloc` is given."""
        outer, record.giving = record.giving, allocator.__self__
        try:
            yield
        finally:
            record.giving = outer

    return SimpleNamespace(
        Device=device,
        Stream=queues.Stream,
        Event=queues.Event,
        Graph=queues.Graph,
        MemoryPool=lambda *arguments: MemoryPool(record),
        alloc_pinned_memory=lambda size: memoryview(bytearray(size)),
        get_current_stream=lambda: queues.current,
        get_elapsed_time=lambda start, end: 1e3 * (end._time - start._time),
        is_available=lambda: True,
        memory=SimpleNamespace(OutOfMemoryError=out_of_memory),
        runtime=runtime,
        set_allocator=lambda allocator=None: None,
        using_allocator=using_allocator,
        set_pinned_memory_allocator=lambda allocator=None: None,
        stream=SimpleNamespace(get_current_stream=lambda: queues.current),
    )
