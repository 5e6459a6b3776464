"""The C tests: compiled with the compiler at hand, plain, under sanitizers, and for aarch64.

Each program links the package's own C sources, compiled with setup.py's switches, for the
instruction sets that run on this machine. What is compiled is kept in build/native, one folder for
each way of building, and compiled again when sources or switches change. A program prints what is
wrong, with file and line, and ends with 1; one that hangs is stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import runpy
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
FAMILIES = (
    "simd", "attention", "conv", "copy", "fft_conv", "gather", "gemm", "linear_scan", "loss",
    "mamba_step", "map", "norm", "philox", "scan", "softmax", "state_space_dual", "sum", "update",
)  # fmt: skip
PROGRAMS = ("pool", "blocks", "amx", *FAMILIES)
AARCH64_PACKAGES = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
SECONDS = 600  # more than any program needs on a busy machine


@pytest.fixture(scope="session")
def settings():
    """What setup.py knows about compiling the kernels, by its names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("HELIXML_BUILD", "never")
        patch.setattr("setuptools.setup", lambda **anything: None)
        return runpy.run_path(str(ROOT / "setup.py"))


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's root; keep all that it prints as its output."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=SECONDS,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def compile_or_fail(*command: object) -> None:
    done = run(*command)
    if done.returncode:
        line = " ".join(map(str, command))
        pytest.fail(f"{line}\n{done.stdout[-8000:]}", pytrace=False)


@dataclass
class Build:
    """One way of compiling the programs."""

    name: str
    compiler: str | None
    settings: dict[str, object]
    switches: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    is_cross: bool = False
    runner: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return ROOT / "build" / "native" / self.name

    @cached_property
    def headers(self) -> bytes:
        files = [*map(Path, self.settings["HEADERS"]), *sorted(HERE.glob("*.h"))]
        return b"\0".join((ROOT / file).read_bytes() for file in files)

    def object(self, source: str | Path, folder: str, *switches: str) -> Path:
        """Compile a source unless its object is up to date."""
        kernels = str(self.settings["KERNELS"])
        command = [self.compiler, *self.settings["FLAGS"], *self.switches, *switches]
        command += ["-I", kernels, "-I", str(HERE), "-c", str(source)]
        target = self.folder / folder / (Path(source).stem + ".o")
        text = repr(command).encode() + (ROOT / source).read_bytes() + self.headers
        key, stamp = hashlib.sha256(text).hexdigest(), target.with_suffix(".key")
        if not (target.exists() and stamp.exists() and stamp.read_text() == key):
            target.parent.mkdir(parents=True, exist_ok=True)
            stamp.unlink(missing_ok=True)
            compile_or_fail(*command, "-o", target)
            stamp.write_text(key)
        return target

    def link_program(self, name: str, objects: list[Path]) -> Path:
        program = self.folder / f"{name}.program"
        command = (self.compiler, *self.switches, *self.link, *objects, "-o", program)
        compile_or_fail(*command, "-lm", "-lpthread")
        return program

    def kernels_program(self, sets: tuple[str, ...]) -> Path:
        """Build the program of all families, with the kernels of these instruction sets only."""
        known = {} if self.is_cross else self.settings["INSTRUCTION_SETS"]
        x86 = ("-DHELIX_X86",) if self.settings["X86"] and not self.is_cross else ()
        once = self.settings["ONCE"]
        variants = [path for path in self.settings["SOURCES"] if path not in once]
        own = ("arrays", *(name for name in FAMILIES if name != "simd"))
        jobs = [(path, "kernels", *(x86 if path.endswith("table.c") else ())) for path in once]
        jobs += [(HERE / "check.c", "tests"), (HERE / "kernels.c", "tests", *x86)]
        for is_double in (0, 1):
            dtype = f"-DHELIX_DOUBLE={is_double}"
            jobs += [(HERE / f"{name}.c", f"tests{is_double}", dtype) for name in own]
            for isa, switches in (known or {"generic": []}).items():
                folder, macros = f"{isa}{is_double}", (dtype, f"-DHELIX_ISA={isa}")
                if isa in sets:
                    macros += tuple(switches)
                    jobs += [(path, f"kernels-{folder}", *macros) for path in variants]
                    jobs.append((HERE / "simd.c", f"tests-{folder}", *macros))
                else:
                    jobs.append((HERE / "absent.c", f"tests-{folder}", *macros))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda job: self.object(*job), jobs))
        return self.link_program("kernels" if sets else "sets", objects)

    def program(self, name: str) -> list[str]:
        """Build a program; return the command that runs it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as lock:  # others may be testing in the same folder
            fcntl.flock(lock, fcntl.LOCK_EX)
            if name in FAMILIES:
                listed = [*self.runner, self.kernels_program(()), "--sets"]
                sets = subprocess.check_output(listed, text=True).split()
                return [*self.runner, str(self.kernels_program(tuple(sets))), name]
            own = (name, "check", *(("arrays",) if name == "amx" else ()))
            objects = [self.object(HERE / f"{part}.c", "tests") for part in own]
            once = [path for path in self.settings["ONCE"] if not path.endswith("table.c")]
            objects += [self.object(path, "kernels") for path in once]
            return [*self.runner, str(self.link_program(name, objects))]

    def test(self, name: str) -> None:
        """Run a program; fail with what it prints."""
        done = run(*self.program(name), **self.environment)
        if done.returncode:
            pytest.fail(
                f"{name} ended with {done.returncode}\n{done.stdout[-8000:]}", pytrace=False
            )


def host_compiler() -> str:
    """Return the C compiler of this machine, or skip the test."""
    wanted = os.environ.get("CC", "").split()
    for name in (*wanted[:1], "cc", "gcc", "clang"):
        if path := shutil.which(name):
            return path
    pytest.skip("there is no C compiler (Debian: apt-get install gcc libc6-dev)")


def require_sanitizer(compiler: str, switch: str, folder: Path) -> None:
    """Skip the test if a program with these sanitizers does not build and run."""
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    command = [compiler, switch, source, "-o", folder / "empty"]
    if run(*command).returncode:
        pytest.skip(f"the C compiler has no {switch}")
    if run(folder / "empty").returncode:
        pytest.skip(f"programs with {switch} do not run here")


@pytest.mark.parametrize("name", PROGRAMS)
def test_plain(settings, name):
    # -O1 compiles in a third of the time of -O3.
    Build("plain", host_compiler(), settings, ("-O1", "-DTHINNING=3")).test(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_optimized_as_in_the_package(settings, name):
    Build("optimized", host_compiler(), settings).test(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_reads_and_writes_stay_within_bounds(settings, name, tmp_path):
    switch = "-fsanitize=address,undefined"
    require_sanitizer(host_compiler(), switch, tmp_path)
    switches = ("-O1", "-g", switch, "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")
    options = {"ASAN_OPTIONS": "allocator_may_return_null=1"}
    build = Build("address", host_compiler(), settings, (*switches, "-DSANITIZED"))
    build.environment = options
    build.test(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_threads_do_not_race(settings, name, tmp_path):
    switch = "-fsanitize=thread"
    require_sanitizer(host_compiler(), switch, tmp_path)
    switches = ("-O1", "-g", switch, "-DSANITIZED", "-DTHINNING=3", "-DNO_FORK", "-DROUNDS=4000")
    build = Build("thread", host_compiler(), settings, switches)
    build.environment = {"TSAN_OPTIONS": "allocator_may_return_null=1"}
    build.test(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_aarch64(settings, name):
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if compiler is None or emulator is None:
        pytest.skip(f"no compiler or emulator (Debian: apt-get install {AARCH64_PACKAGES})")
    # The emulator does not survive that the child of a program with threads starts some.
    switches = ("-DNO_FORK", "-DROUNDS=2000", "-DTHINNING=5")
    build = Build("aarch64", compiler, settings, switches, ("-static",), True, (emulator,))
    build.test(name)
