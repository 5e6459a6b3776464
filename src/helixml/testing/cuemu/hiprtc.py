"""Ask AMD's compiler, which needs no GPU, whether a kernel compiles and what it costs.

HIPRTC is a library of ROCm: CuPy's build for ROCm compiles kernels by it. Debian and Ubuntu have
it, too. It says what a kernel costs in the notes of the machine code, which are MessagePack.
"""

from __future__ import annotations

import ctypes.util
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from helixml.errors import MissingDependencyError, ValueRangeError
from helixml.testing.cuemu.rtc import RuntimeCompiler

__all__ = ["ARCHITECTURES", "KernelCost", "compile_source", "find_hiprtc"]

# Wavefronts of the first two have 64 lanes, those of the third 32.
ARCHITECTURES = ("gfx906", "gfx90a", "gfx1030")
_INSTALL = "apt-get install libamdhip64-5 libhiprtc-builtins5, or ROCm"

_NUMBERS = {
    "vector_registers": "vgpr_count",
    "scalar_registers": "sgpr_count",
    "spilled_registers": "vgpr_spill_count",
    "stack_bytes": "private_segment_fixed_size",
    "shared_bytes": "group_segment_fixed_size",
    "lanes": "wavefront_size",
}


@dataclass(frozen=True)
class KernelCost:
    """What a kernel takes on one architecture.

    Attributes
    ----------
    name : of the kernel.
    vector_registers : of each thread.
    scalar_registers : of each wavefront.
    spilled_registers : vector registers that went to memory.
    stack_bytes : of each thread, those for spilled registers among them.
    shared_bytes : static shared memory of a block.
    lanes : threads of a wavefront.
    """

    name: str
    vector_registers: int
    scalar_registers: int
    spilled_registers: int
    stack_bytes: int
    shared_bytes: int
    lanes: int


@functools.cache
def find_hiprtc() -> str:
    """Return the name of the library.

    Raises
    ------
    MissingDependencyError : it is not installed.
    """
    for name in ("hiprtc", "amdhip64"):  # before ROCm 5.5 it is part of the latter
        found = ctypes.util.find_library(name)
        if found is not None:
            return found
    raise MissingDependencyError(f"cuemu.hiprtc: there is no HIPRTC. Hint: {_INSTALL}.")


def compile_source(
    source: str, options: Sequence[str] = (), *, architecture: str = "gfx90a"
) -> tuple[KernelCost, ...]:
    """Compile a source for an architecture; return what its kernels cost.

    Parameters
    ----------
    source : HIP C++.
    options : of HIPRTC, but not the architecture.
    architecture : one of `ARCHITECTURES`; others HIPRTC may not survive.

    Raises
    ------
    SourceError : it does not compile; the message is the compiler's.
    ValueRangeError : the architecture is none of those.
    MissingDependencyError : HIPRTC is not installed.
    """
    if architecture not in ARCHITECTURES:
        raise ValueRangeError(
            f"cuemu.hiprtc: architecture {architecture!r}. Hint: {', '.join(ARCHITECTURES)}."
        )
    words = [f"--gpu-architecture={architecture}", *options]
    code, _ = _compiler().compile(source, words, architecture)
    return _costs(code)


@functools.cache
def _compiler() -> RuntimeCompiler:
    return RuntimeCompiler(find_hiprtc(), "hiprtc", "Code")


def _costs(code: bytes) -> tuple[KernelCost, ...]:
    """Read the notes, in which each kernel has each of the names once, in one order."""
    # Strings and numbers of MessagePack: short ones, and those whose size is a byte of its own.
    names = re.findall(rb"\.symbol(?:[\xa0-\xbf]|\xd9.)(\w+)\.kd", code, re.DOTALL)
    number = rb"([\x00-\x7f]|\xcc.|\xcd..|\xce....)"
    columns = {
        name: [_number(found) for found in re.findall(rb"\." + key.encode() + number, code, re.S)]
        for name, key in _NUMBERS.items()
    }
    return tuple(
        KernelCost(name.decode(), **dict(zip(columns, row, strict=True)))
        for name, *row in zip(names, *columns.values(), strict=True)
    )


def _number(packed: bytes) -> int:
    return packed[0] if len(packed) == 1 else int.from_bytes(packed[1:], "big")
