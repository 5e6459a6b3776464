"""Build the extensions; everything else about the package is in pyproject.toml.

1. The CPU kernels: each C source beside _kernels.pyx (but those of ONCE) is compiled once per
   instruction set and dtype, and all objects are linked into one extension.
2. The engine: each helixml/_core/*.py with a .pxd of the same name is compiled as it is.

Environment: HELIXML_BUILD=require makes a failed build an error, =never builds no extension
(default: what does not build is left out, with a warning); HELIXML_SANITIZE=address,undefined
(or =thread) builds the kernels alone, with sanitizers; HELIXML_CYTHON_DEBUG=1 turns Cython's
bounds checks on.
"""

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

BUILD = os.environ.get("HELIXML_BUILD", "")
SANITIZE = os.environ.get("HELIXML_SANITIZE", "")
DEBUG = os.environ.get("HELIXML_CYTHON_DEBUG", "") == "1"

CORE = Path("src/helixml/_core")
KERNELS = Path("src/helixml/backends/cpu/kernels")
# Compiled once, for the baseline; the others once per instruction set and dtype.
ONCE = [str(KERNELS / name) for name in ("table.c", "pool.c", "blocks.c", "gemm_amx.c")]
SOURCES = sorted(map(str, KERNELS.glob("*.c")))
HEADERS = sorted(map(str, KERNELS.glob("*.h")))

X86 = platform.machine().lower() in ("x86_64", "amd64")
FLAGS = ["-O3", "-g0", "-std=c11", "-ffp-contract=fast"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-fno-wrapv", "-Wno-psabi"]
# Interleaves what does not wait for each other, as long as registers last.
FLAGS += ["-fschedule-insns", "-fsched-pressure"]
INSTRUCTION_SETS = {"generic": []}
if X86:
    INSTRUCTION_SETS["avx2"] = ["-mavx2", "-mfma"]
    INSTRUCTION_SETS["avx512"] = [f"-mavx512{part}" for part in ("f", "dq", "vl", "bw")]
    INSTRUCTION_SETS["avx512"] += ["-mfma", "-mprefer-vector-width=512"]
if SANITIZE:
    FLAGS += ["-O1", "-g1", f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
VARIANT = "-".join(filter(None, [SANITIZE.replace(",", "-"), "debug" if DEBUG else ""])) or "plain"


class BuildExtensions(build_ext):
    """Compile the kernels' variants, then build the extensions as usual."""

    def run(self):
        stamp = Path(self.build_temp, "variant")
        if not stamp.exists() or stamp.read_text() != VARIANT:
            self.force = True  # what was built before was built with other switches
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.write_text(VARIANT)
        super().run()

    def build_extension(self, ext):
        if ext.name.endswith("._kernels"):
            if self.compiler.compiler_type == "msvc":
                self.warn("the kernels need the vector types of gcc or clang: not built")
                ext.optional = True
                return
            ext.extra_objects = self.compile_variants()
        super().build_extension(ext)

    def compile_variants(self):
        """Compile each kernel source for each instruction set and dtype; return the objects."""
        jobs = [
            (source, isa, double)
            for source in SOURCES
            if source not in ONCE
            for isa in INSTRUCTION_SETS
            for double in (0, 1)
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda job: self.compile_variant(*job), jobs))

    def compile_variant(self, source, isa, double):
        folder = str(Path(self.build_temp, f"{isa}-{'double' if double else 'float'}"))
        (expected,) = self.compiler.object_filenames([source], output_dir=folder)
        if self.force or newer_group([source, *HEADERS, __file__], expected):
            self.compiler.compile(
                [source],
                output_dir=folder,
                macros=[("HELIX_ISA", isa), ("HELIX_DOUBLE", str(double))],
                extra_postargs=FLAGS + INSTRUCTION_SETS[isa],
            )
        return expected


def types_changed(folder):
    """Say whether a .pxd is newer than translated C: for .py sources Cython does not look."""
    translated = [c.stat().st_mtime for c in Path(folder, CORE).glob("*.c")]
    types = [pxd.stat().st_mtime for pxd in CORE.glob("*.pxd")]
    return bool(translated and types) and max(types) > min(translated)


def extensions():
    """Return the extensions, their Cython sources translated into build/cython."""
    import numpy as np
    from Cython.Build import cythonize
    from Cython.Compiler.Options import get_directive_defaults

    get_directive_defaults()["freelist"] = 0  # else known to decorators only

    macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
    common = {
        "extra_compile_args": ["-O1", "-g1", f"-fsanitize={SANITIZE}"] if SANITIZE else [],
        "extra_link_args": [f"-fsanitize={SANITIZE}"] if SANITIZE else [],
    }
    folder = f"build/cython/{VARIANT}"
    wrapper = str(KERNELS / "_kernels.pyx")
    kernels = Extension(
        "helixml.backends.cpu.kernels._kernels",
        [wrapper, *ONCE],
        depends=[*SOURCES, *HEADERS, wrapper, str(KERNELS / "_kernels.pxd")],
        include_dirs=[str(KERNELS), np.get_include()],
        libraries=["m"] if os.name == "posix" else [],
        define_macros=[*macros, *([("HELIX_X86", "1")] if X86 else [])],
        **common,
    )
    beside = [
        Extension(
            f"helixml.backends.cpu.kernels.{name}",
            [str(KERNELS / f"{name}.pyx")],
            depends=[str(KERNELS / "_kernels.pxd"), str(KERNELS / "kernels.h")],
            include_dirs=[str(KERNELS), np.get_include()],
            define_macros=macros,
            **common,
        )
        for name in ("_elementwise", "_small")
    ]
    engine = [
        Extension(
            f"helixml._core.{pxd.stem}",
            [str(pxd.with_suffix(".py"))],
            depends=[str(pxd), str(pxd.with_suffix(".py"))],
            define_macros=macros,
            extra_compile_args=["-g0", *common["extra_compile_args"]],
            extra_link_args=common["extra_link_args"],
        )
        for pxd in sorted(CORE.glob("*.pxd"))
        if pxd.with_suffix(".py").exists() and not SANITIZE
    ]
    plain = {"language_level": 3, "binding": True}
    unchecked = {
        "embedsignature": True,
        "boundscheck": DEBUG,
        "wraparound": DEBUG,
        "initializedcheck": DEBUG,
        "cdivision": not DEBUG,
    }
    found = [
        *cythonize([kernels, *beside], build_dir=folder, compiler_directives=plain | unchecked),
        # Annotations there are for readers and mypy; the .pxd files say what is C. In a .pxd
        # Cython would not see a freelist.
        *cythonize(
            engine,
            build_dir=folder,
            force=types_changed(folder),
            compiler_directives=plain | {"annotation_typing": False, "freelist": 256},
        ),
    ]
    for extension in found:
        extension.optional = BUILD != "require"  # cythonize would drop it
    return found


if BUILD not in ("", "require", "never"):
    raise SystemExit(f"HELIXML_BUILD is {BUILD!r}. Hint: require, never, or nothing.")
setup(
    ext_modules=[] if BUILD == "never" else extensions(),
    cmdclass={"build_ext": BuildExtensions},
)
