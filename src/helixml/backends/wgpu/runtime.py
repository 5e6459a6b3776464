"""`Runtime`: one device of WebGPU, with what is recorded for it and not yet sent.

Dispatches are recorded in one open encoder and one pass, whose order the device keeps. They are
sent, `flush`, when there are many of them, before anything is read, and before the host writes to
a buffer that one of them uses: `write_buffer` would overtake them. The numbers that a dispatch is
given stand in a slot of one ring, which is written when the encoder is sent.

The limits that are asked for are those that WebGPU promises everywhere, whatever more the adapter
has, so that a kernel which runs here runs everywhere; the sizes of buffers alone are the adapter's.

wgpu is handed in; nothing here imports it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Sequence
from math import prod
from typing import Any

import numpy as np

from helixml.backends.wgpu.arrays import WORDS, Host, WgpuArray, packed, unpacked
from helixml.backends.wgpu.pool import Pool, Storage
from helixml.dtypes import DType
from helixml.errors import BackendError, DeviceError
from helixml.shapes import Shape

__all__ = ["LIMITS", "SLOT", "Runtime"]

# What WebGPU promises on every device (W3C, WebGPU, 3.6.2 "Limits", the column of defaults).
LIMITS = {
    "max-compute-workgroup-storage-size": 16 << 10,
    "max-compute-invocations-per-workgroup": 256,
    "max-compute-workgroup-size-x": 256,
    "max-compute-workgroup-size-y": 256,
    "max-compute-workgroup-size-z": 64,
    "max-compute-workgroups-per-dimension": 65535,
    "max-storage-buffers-per-shader-stage": 8,
    "max-storage-buffer-binding-size": 128 << 20,
    "max-buffer-size": 256 << 20,
    "max-uniform-buffer-binding-size": 64 << 10,
    "max-bind-groups": 4,
    "max-bindings-per-bind-group": 1000,
    "max-uniform-buffers-per-shader-stage": 12,
    "max-dynamic-uniform-buffers-per-pipeline-layout": 8,
    "min-uniform-buffer-offset-alignment": 256,
    "min-storage-buffer-offset-alignment": 256,
}
_FROM_ADAPTER = ("max-storage-buffer-binding-size", "max-buffer-size")

SLOT = 256  # bytes of the ring for one dispatch, at which offsets may begin everywhere
_DISPATCHES = 256  # recorded before they are sent
_GROUPS_KEPT = 4096  # bind groups


class Runtime:
    """The open queue of one device.

    Parameters
    ----------
    wgpu : the module.
    adapter : one of its adapters.
    """

    def __init__(self, wgpu: Any, adapter: Any) -> None:  # Any: wgpu's objects
        self._wgpu = wgpu
        self.adapter = adapter
        found = adapter.limits
        self.limits = {**LIMITS, **{name: int(found[name]) for name in _FROM_ADAPTER}}
        try:
            self.device = adapter.request_device_sync(required_limits=self.limits)
        except RuntimeError as error:
            raise DeviceError(
                f"wgpu: {adapter.info['device']} gives no device: {error}. "
                "Hint: another adapter, such as 'wgpu:1', or 'cpu'."
            ) from error
        usage = wgpu.BufferUsage
        self._usage = usage.STORAGE | usage.COPY_SRC | usage.COPY_DST
        self._ring = self.device.create_buffer(
            size=SLOT * _DISPATCHES, usage=usage.UNIFORM | usage.COPY_DST
        )
        self._numbers = bytearray(SLOT * _DISPATCHES)
        stage = wgpu.ShaderStage.COMPUTE
        self._ring_layout = self.device.create_bind_group_layout(
            entries=[
                {
                    "binding": 0,
                    "visibility": stage,
                    "buffer": {"type": "uniform", "has_dynamic_offset": True},
                }
            ]
        )
        self._ring_group = self.device.create_bind_group(
            layout=self._ring_layout,
            entries=[{"binding": 0, "resource": {"buffer": self._ring, "offset": 0, "size": SLOT}}],
        )
        self.pool = Pool(self._create, min(self.limits[name] for name in _FROM_ADAPTER))
        self._layouts: dict[tuple[int, ...], tuple[Any, Any]] = {}
        self._groups: dict[tuple[Any, ...], Any] = {}
        self._encoder: Any = None
        self._pass: Any = None
        self._recorded = 0
        self._used: set[int] = set()  # numbers of buffers that recorded dispatches use
        self._lock = threading.RLock()
        self.programs: dict[str, Any] = {}  # by file; what `launch.Program.of` keeps
        self.tables: dict[Any, WgpuArray] = {}  # waves of `kernels.fft`, by length
        self.submissions = 0
        self.dispatches = 0
        self.reads = 0

    # Arrays

    def empty(self, shape: Shape, dtype: DType, avoided: Container[int] = ()) -> WgpuArray:
        """Return a dense array that holds whatever was left in memory."""
        size = prod(shape) * WORDS[dtype] * 4
        if size > self.pool.largest:
            raise DeviceError(
                f"wgpu: an array of shape {tuple(shape)} and {dtype} takes {size:,} bytes; this "
                f"device binds {self.pool.largest:,} at most. Hint: a smaller batch, or 'cpu'."
            )
        return WgpuArray(self.pool.take(size, avoided), tuple(shape), dtype)

    def from_numpy(self, host: Host) -> WgpuArray:
        """Return a dense array with the values of ``host``."""
        # In a buffer that nothing recorded uses: writing it needs no flush.
        made = self.empty(host.shape, host.dtype, self._used)
        if host.size:
            self.write(made.storage, packed(host))
        return made

    def to_numpy(self, x: WgpuArray) -> Host:
        """Return the values of an array without gaps in host memory, once they are computed."""
        if not x.is_contiguous:
            raise BackendError("to_numpy: the array has gaps. Hint: dense() first.")
        if not x.size:
            return np.empty(x.shape, x.dtype)
        width = 4 * x.words
        words = self.read(x.storage, x.offset * width, x.size * width)
        return unpacked(words, x.dtype, x.size).reshape(x.shape)

    def _create(self, size: int) -> Any:
        """Return a new buffer; what nobody uses is destroyed first if memory is short."""
        try:
            return self.device.create_buffer(size=size, usage=self._usage)
        except self._wgpu.GPUError:
            self.trim()
        return self.asked(
            f"a buffer of {size:,} bytes",
            lambda: self.device.create_buffer(size=size, usage=self._usage),
        )

    def trim(self) -> None:
        """Destroy the buffers that nobody uses."""
        with self._lock:
            self.flush()
            self._groups.clear()
            self.pool.trim()

    # Host and device

    def write(self, storage: Storage, words: Host) -> None:
        """Write to a buffer, after all that was asked for before."""
        with self._lock:
            if storage.number in self._used:
                self.flush()
            self.asked("write", lambda: self.device.queue.write_buffer(storage.gpu, 0, words))

    def read(self, storage: Storage, offset: int, size: int) -> Any:
        """Return bytes of a buffer once everything that was asked for is computed."""
        with self._lock:
            self.flush()
            self.reads += 1
            return self.asked(
                "read", lambda: self.device.queue.read_buffer(storage.gpu, offset, size)
            )

    def synchronize(self) -> None:
        """Wait for the device: wgpu-py's own call for it fails in 0.32, so 4 bytes are read."""
        with self._lock:
            self.flush()
            self.asked("read", lambda: self.device.queue.read_buffer(self._sync_buffer(), 0, 4))

    def _sync_buffer(self) -> Any:
        if not hasattr(self, "_word"):
            self._word = self.device.create_buffer(size=16, usage=self._usage)
        return self._word

    def asked(self, what: str, call: Callable[[], Any]) -> Any:
        """Return what ``call`` gives; wgpu's errors become ours.

        Raises
        ------
        DeviceError : the device is lost, or has no memory left.
        BackendError : wgpu refuses what it is asked: a fault of this backend.
        """
        try:
            return call()
        except (self._wgpu.GPUError, RuntimeError) as error:
            lost = "device is lost" in str(error)
            if isinstance(error, self._wgpu.GPUValidationError) and not lost:
                raise BackendError(f"wgpu: {what}: {error}") from error
            told = self.pool.told()
            hint = "start a new process" if lost else "a smaller batch, or drop tensors"
            raise DeviceError(
                f"wgpu: {what}: {error}; {told['in_use']:,} bytes are in use. Hint: {hint}."
            ) from error

    # Dispatches

    def layouts(self, bindings: tuple[int, ...]) -> tuple[Any, Any]:
        """Return the layouts of a bind group and of a pipeline with storage at ``bindings``."""
        found = self._layouts.get(bindings)
        if found is None:
            stage = self._wgpu.ShaderStage.COMPUTE
            group = self.device.create_bind_group_layout(
                entries=[
                    {"binding": number, "visibility": stage, "buffer": {"type": "storage"}}
                    for number in bindings
                ]
            )
            pipeline = self.device.create_pipeline_layout(
                bind_group_layouts=[group, self._ring_layout]
            )
            found = self._layouts[bindings] = group, pipeline
        return found

    def record(
        self,
        pipeline: Any,
        bindings: tuple[int, ...],
        storages: Sequence[Storage],
        numbers: bytes,
        groups: tuple[int, int, int],
    ) -> None:
        """Record one dispatch; it runs after all that were recorded before."""
        used = tuple([s.number for s in storages])
        with self._lock:
            key = (bindings, used)
            group = self._groups.get(key)
            if group is None:
                group = self._bind(bindings, storages)
                if len(self._groups) >= _GROUPS_KEPT:
                    self._groups.clear()
                self._groups[key] = group
            if self._pass is None:
                self._encoder = self.device.create_command_encoder()
                self._pass = self._encoder.begin_compute_pass()
            at = self._recorded * SLOT
            self._numbers[at : at + len(numbers)] = numbers
            self._pass.set_pipeline(pipeline)
            self._pass.set_bind_group(0, group)
            self._pass.set_bind_group(1, self._ring_group, [at])
            self._pass.dispatch_workgroups(*groups)
            self._used.update(used)
            self._recorded += 1
            self.dispatches += 1
            if self._recorded == _DISPATCHES:
                self.flush()

    def _bind(self, bindings: tuple[int, ...], storages: Sequence[Storage]) -> Any:
        return self.device.create_bind_group(
            layout=self.layouts(bindings)[0],
            entries=[
                {"binding": number, "resource": {"buffer": s.gpu, "offset": 0, "size": s.size}}
                for number, s in zip(bindings, storages, strict=True)
            ],
        )

    def flush(self) -> None:
        """Send what is recorded."""
        with self._lock:
            if self._pass is None:
                return
            encoder, open_pass = self._encoder, self._pass
            self._encoder = self._pass = None
            count, self._recorded = self._recorded, 0
            self._used.clear()
            self.submissions += 1

            def send() -> None:
                open_pass.end()
                queue = self.device.queue
                queue.write_buffer(self._ring, 0, self._numbers, 0, count * SLOT)
                queue.submit([encoder.finish()])

            self.asked("submit", send)
