"""Elements of a view copied to another view, or one behind the other; see copy.wgsl."""

from __future__ import annotations

from helixml.backends.wgpu.arrays import WgpuArray, collapsed
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["RANK", "copy_into", "dense", "wrapped"]

GROUP = 256
RANK = 8  # axes that a kernel knows, after those that lie evenly were made one
_UNITS = {1: "u32", 2: "vec2<u32>"}


def dense(runtime: Runtime, x: WgpuArray) -> WgpuArray:
    """Return ``x``, or a copy that begins where its buffer does and has no gaps."""
    if x.is_dense:
        return x
    made = runtime.empty(x.shape, x.dtype)
    copy_into(runtime, made, x)
    if x.mirror is not None:
        made.remember(x.mirror)
    return made


def copy_into(runtime: Runtime, target: WgpuArray, source: WgpuArray) -> None:
    """Copy the elements of one view to another of the same shape and dtype, in another buffer.

    More than 8 axes are copied part by part.
    """
    if not target.size:
        return
    shape, (steps, to_steps) = collapsed(source.shape, source.strides, target.strides)
    _copy(runtime, source, target, shape, steps, to_steps, source.offset, target.offset)
    target.storage.version += 1


def _copy(
    runtime: Runtime,
    source: WgpuArray,
    target: WgpuArray,
    shape: tuple[int, ...],
    steps: tuple[int, ...],
    to_steps: tuple[int, ...],
    start: int,
    to: int,
) -> None:
    if len(shape) > RANK:
        for i in range(shape[0]):
            part = start + i * steps[0], to + i * to_steps[0]
            _copy(runtime, source, target, shape[1:], steps[1:], to_steps[1:], *part)
        return
    size = 1
    for n in shape:
        size *= n
    Program.of(runtime, "copy.wgsl").launch(
        "copy",
        [source.storage, target.storage],
        {
            "size": size,
            "rank": len(shape),
            "start": start,
            "to": to,
            "shape": shape,
            "steps": wrapped(steps),
            "to_steps": wrapped(to_steps),
        },
        groups=-(-size // GROUP),
        trips=len(shape),
        head=f"alias UNIT = {_UNITS[source.words]};",
    )


def wrapped(steps: tuple[int, ...]) -> list[int]:
    """Return steps as unsigned words, in which sums of negative ones come out right."""
    return [step & 0xFFFFFFFF for step in steps]
