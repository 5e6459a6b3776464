"""Ask NVIDIA's compiler, which needs no GPU, whether a kernel compiles and what it costs.

NVRTC comes as a Python package: a library, called here through ctypes, and the headers of half
precision. It gives a kernel's registers, and what of its variables had to go to memory: spilled
registers, and the stack, where arrays are that are indexed by what the compiler cannot know.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helixml.errors import MissingDependencyError
from helixml.testing.cuemu.rtc import RuntimeCompiler

__all__ = ["ARCHITECTURES", "Compiled", "KernelCost", "compile_source", "find_nvrtc"]

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
_INSTALL = "pip install nvidia-cuda-nvrtc nvidia-cuda-runtime"

_ENTRY = re.compile(r"Compiling entry function '(?P<name>[^']+)' for '(?P<arch>\w+)'")
_NUMBERS = {
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spill_store_bytes": re.compile(r"(\d+) bytes spill stores"),
    "spill_load_bytes": re.compile(r"(\d+) bytes spill loads"),
    "registers": re.compile(r"Used (\d+) registers"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
    "constant_bytes": re.compile(r"(\d+) bytes cmem\[0\]"),
}


@dataclass(frozen=True)
class KernelCost:
    """What a kernel takes on one architecture.

    Attributes
    ----------
    name : as the linker knows it.
    registers : of each thread.
    stack_bytes, spill_store_bytes, spill_load_bytes : of each thread; 0 where all is in registers.
    shared_bytes : static shared memory of a block.
    constant_bytes : of arguments and constants.
    """

    name: str
    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    shared_bytes: int
    constant_bytes: int


@dataclass(frozen=True)
class Compiled:
    """A compiled source: the machine's code, the compiler's words, and each kernel's cost."""

    cubin: bytes
    log: str
    kernels: tuple[KernelCost, ...]


@functools.cache
def find_nvrtc() -> Path:
    """Return the path of the library.

    Raises
    ------
    MissingDependencyError : the package is not installed.
    """
    spec = importlib.util.find_spec("nvidia")
    for base in (spec.submodule_search_locations or ()) if spec else ():
        for pattern in ("*/lib/libnvrtc.so.*", "*/bin/nvrtc64_*.dll"):
            for path in sorted(Path(base).glob(pattern)):
                if "alt" not in path.name:
                    return path
    raise MissingDependencyError(f"cuemu.nvrtc: there is no NVRTC. Hint: {_INSTALL}")


def compile_source(
    source: str,
    options: Sequence[str] = (),
    *,
    architecture: str = "sm_80",
    name_expressions: Sequence[str] = (),
) -> Compiled:
    """Compile a source for an architecture.

    Parameters
    ----------
    source : CUDA C++.
    options : of NVRTC, but not the architecture.
    architecture : "sm_75", "sm_80", "sm_90", "sm_100", or another that this NVRTC knows.
    name_expressions : instances of templates to compile.

    Raises
    ------
    SourceError : it does not compile; the message is the compiler's.
    MissingDependencyError : NVRTC is not installed.
    """
    words = [f"-arch={architecture}", "--ptxas-options=-v", *_include(), *options]
    cubin, log = _compiler().compile(source, words, architecture, name_expressions)
    return Compiled(cubin, log, tuple(_costs(log)))


@functools.cache
def _compiler() -> RuntimeCompiler:
    return RuntimeCompiler(str(find_nvrtc()), "nvrtc", "CUBIN")


def _include() -> list[str]:
    """Find the headers of half precision, which the package of the CUDA runtime brings."""
    folder = find_nvrtc().parent.parent / "include"
    return [f"-I{folder}"] if (folder / "cuda_fp16.h").exists() else []


def _costs(log: str) -> list[KernelCost]:
    """Read ptxas's report: one paragraph a kernel."""
    entries = list(_ENTRY.finditer(log))
    ends = [entry.start() for entry in entries[1:]] + [len(log)]
    costs = []
    for entry, end in zip(entries, ends, strict=True):
        paragraph = log[entry.end() : end]
        numbers = {name: pattern.search(paragraph) for name, pattern in _NUMBERS.items()}
        costs.append(
            KernelCost(entry["name"], **{k: int(m[1]) if m else 0 for k, m in numbers.items()})
        )
    return costs
