"""g++ makes a library of a kernel's source; libraries are kept by what they were made of.

The folder is one of the user's own under the system's temporary folder. A library holds the
scheduler too, so that modules share nothing.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from helixml.errors import ConfigError, FileError, MissingDependencyError
from helixml.testing.cuemu.errors import SourceError
from helixml.testing.cuemu.mutation import digest, mutated
from helixml.testing.cuemu.transform import rewrite

__all__ = [
    "build",
    "built_sources",
    "cache_folder",
    "compiler_options",
    "find_compiler",
    "is_available",
]

_built: dict[str, str] = {}

_HERE = Path(__file__).parent
_INCLUDE = _HERE / "include"
_RUNTIME = _HERE / "runtime"
_FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-I", str(_INCLUDE))
# Contracted products would depend on the compiler; aliases by other types are common in kernels.
_KERNEL_FLAGS = ("-O2", "-g1", "-ffp-contract=off", "-fno-strict-aliasing", "-Wno-attributes")
_SANITIZERS = {
    "": ((), ()),
    "count": (
        ("-DCUEMU_COUNT",),
        (
            "-fsanitize=thread",
            "-fno-tree-vectorize",
            "--param",
            "tsan-instrument-func-entry-exit=0",
        ),
    ),
    "thread": (("-DCUEMU_TSAN",), ("-fsanitize=thread", "-g", "-fno-omit-frame-pointer")),
    "address": (
        ("-DCUEMU_ASAN",),
        (
            "-fsanitize=address,alignment,bounds,shift,integer-divide-by-zero",
            "-fno-sanitize-recover=all",
            *("-g", "-fno-omit-frame-pointer"),
        ),
    ),
}

# Options of NVRTC that mean nothing to g++, and those that it is given.
_IGNORED = re.compile(
    r"--?(?:use_fast_math|lineinfo|generate-line-info|extra-device-vectorization|restrict|w"
    r"|device-as-default-execution-space|default-device"
    r"|(?:fmad|ftz|prec-div|prec-sqrt)=(?:true|false)|maxrregcount=\d+|ptxas-options=.+"
    r"|(?:arch|gpu-architecture)=\w+|std=c\+\+(?:11|14|17|20)|include-path=.+|I.+)"
)
_PASSED = re.compile(r"-D\w+(?:=.*)?")


def is_available() -> bool:
    """Tell whether kernels can be compiled and run here: on Linux, with g++."""
    return sys.platform == "linux" and shutil.which(_compiler_name()) is not None


def find_compiler() -> str:
    """Return the path of g++, or of what the environment variable CUEMU_CXX names.

    Raises
    ------
    MissingDependencyError : there is none.
    """
    name = _compiler_name()
    path = shutil.which(name)
    if path is None:
        raise MissingDependencyError(
            f"cuemu: there is no {name}. Hint: apt-get install -y g++, or set CUEMU_CXX."
        )
    return path


def _compiler_name() -> str:
    return os.environ.get("CUEMU_CXX", "g++")


def cache_folder() -> Path:
    """Return the folder of compiled modules; it belongs to this user alone.

    Raises
    ------
    FileError : somebody else made the folder: libraries there must not be loaded.
    """
    folder = Path(tempfile.gettempdir(), f"helixml-cuemu-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileError(f"cuemu: {folder} can be written by others. Hint: remove it.")
    return folder


def built_sources() -> list[str]:
    """Return the sources of all modules that this process has built."""
    return list(_built.values())


def compiler_options(options: Sequence[str]) -> list[str]:
    """Translate options of NVRTC to those of g++.

    Raises
    ------
    ConfigError : an option is unknown.

    Examples
    --------
    >>> compiler_options(("-DSCALAR=float", "--use_fast_math", "--define-macro=WIDTH=4"))
    ['-DSCALAR=float', '-DWIDTH=4']
    """
    passed = []
    for option in options:
        short = option.replace("--define-macro=", "-D", 1)
        if _PASSED.fullmatch(short):
            passed.append(short)
        elif not _IGNORED.fullmatch(option):
            raise ConfigError(
                f"cuemu: unknown compiler option {option!r}. "
                "Hint: -DNAME=VALUE, -std=c++17, --use_fast_math and their like."
            )
    return passed


def build(
    source: str, options: Sequence[str], kernels: Sequence[str], sanitizer: str
) -> ctypes.CDLL:
    """Compile a module and load it.

    Parameters
    ----------
    source : CUDA C++.
    options : of NVRTC.
    kernels : names, or expressions that name instances of templates. Number i of them is called by
        the library's ``cuemu_run_i`` and described by its ``cuemu_signature_i``.
    sanitizer : "", "address", "thread" or "count".

    Raises
    ------
    SourceError : the source is refused, by the rules of transform.py or by the compiler.
    """
    if sanitizer not in _SANITIZERS:
        raise ConfigError(f"cuemu: unknown sanitizer {sanitizer!r}. Hint: {tuple(_SANITIZERS)}.")
    _built[digest(source)] = source
    source = mutated(source)
    text = '#include "cuemu.h"\n#line 1 "kernel.cu"\n' + rewrite(source) + "\n" + _entries(kernels)
    runtime = _runtime(sanitizer)
    flags = [*_FLAGS, *_KERNEL_FLAGS, *_SANITIZERS[sanitizer][1], *compiler_options(options)]
    key = _digest(text, *flags, runtime, *_headers())
    library = cache_folder() / f"kernel-{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            written = Path(folder, "kernel.cpp")
            written.write_text(text)
            if sanitizer == "count":  # compiled for the sanitizer, linked without it
                compiled = Path(folder, "kernel.o")
                _compile([*flags, "-c", str(written)], compiled)
                written, flags = compiled, list(_FLAGS)
            _compile([*flags, "-shared", str(written), runtime], library)
    return ctypes.CDLL(str(library))


def _entries(kernels: Sequence[str]) -> str:
    export = 'extern "C" __attribute__((visibility("default")))'
    lines = ['#line 1 "name_expressions"']
    for number, name in enumerate(kernels):
        lines += [
            f"{export} int cuemu_run_{number}(void** arguments, const cuemu::Launch* how) "
            f"{{ return cuemu::run({name}, arguments, *how); }}",
            f"{export} void cuemu_signature_{number}(char* out) "
            f"{{ cuemu::signature({name}, out); }}",
        ]
    return "\n".join(lines) + "\n"


@functools.cache
def _headers() -> tuple[str, ...]:
    return tuple(path.read_text() for path in sorted(_INCLUDE.glob("*.h")))


@functools.cache
def _runtime(sanitizer: str) -> str:
    """Compile the scheduler, which itself is not sanitized; return the path of the object."""
    flags = [*_FLAGS, "-O2", "-g", *_SANITIZERS[sanitizer][0]]
    sources = [path.read_text() for path in sorted(_RUNTIME.iterdir())]
    target = cache_folder() / f"runtime-{_digest(*sources, *_headers(), *flags)}.o"
    if not target.exists():
        _compile([*flags, "-c", str(_RUNTIME / "runtime.cc")], target)
    return str(target)


def _digest(*parts: str) -> str:
    compiler = find_compiler()
    status = Path(compiler).resolve().stat()
    total = hashlib.sha256(f"{compiler} {status.st_size} {status.st_mtime_ns}".encode())
    for part in parts:
        total.update(part.encode() + b"\0")
    return total.hexdigest()[:24]


def _compile(arguments: Sequence[str], target: Path) -> None:
    """Compile to a file beside the target first: two processes may want the same one."""
    partial = target.with_suffix(f".{os.getpid()}")
    command = [find_compiler(), *arguments, "-o", str(partial)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        partial.unlink(missing_ok=True)
        raise SourceError(f"kernel source: g++ refuses it:\n{done.stderr[:4000].strip()}")
    partial.replace(target)
