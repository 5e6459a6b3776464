#!/usr/bin/env python3
"""Build helixml and run it; needs Python and a C compiler, nothing else.

    python3 dev.py [OPTIONS]          the main job: helixml train OPTIONS
    python3 dev.py test [--devices | --all] [--device D] [PYTEST OPTIONS]
    python3 dev.py bench [NAME ...] [--quick] [--device D] [--json FILE]   the questions in bench/
    python3 dev.py parity [NAME ...] [--list]      the ops beside PyTorch's, on its own samples
    python3 dev.py parity models [NAME ...]        the models beside transformers'; parity does both
    python3 dev.py lint               format, style, types, layers, spelling
    python3 dev.py train --help       the options of the main job

Every command first makes .venv and builds and installs the package in it, if the sources that are
compiled have changed since the last time. HELIXML_BUILD=never does without compiled code.
bench, parity and the tests of devices make .venv-peers too: what helixml is compared with never
comes into its own environment.
Exit code 69: something is missing; the line that installs it is printed.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "helixml-stamp.json"
PEERS = ROOT / ".venv-peers"
# Figures are comparable only if everyone compares with the same release. Where the wheel that pip
# finds is one for GPUs, PIP_EXTRA_INDEX_URL can name PyTorch's index of the smaller ones for CPUs.
TORCH = "2.13.0"
TRANSFORMERS = "5.23.0"
JAX = "0.10.2"
# After these: what PyTorch's tests' samples need, and what helixml needs to run beside it.
PEER_PACKAGES = (
    *(f"torch=={TORCH}", f"transformers=={TRANSFORMERS}", f"jax=={JAX}"),
    *("numpy", "expecttest", "ml-dtypes", "safetensors", "scipy"),
)
MISSING = 69
LEAST_PYTHON = (3, 11)

# A process for each core; the tests of one file in one, for some files compile what they test.
SIDE_BY_SIDE = ["-n", "auto", "--dist", "loadfile"]

# What `test --devices` runs, the slow tests too. Single tests take minutes there, those of one file
# an hour: each process takes what is left, and kernels that one of them compiled, all find on disk.
DEVICE_TESTS = (
    "tests/backends/test_device_contracts.py",
    "tests/backends/test_array_libraries.py",
    "tests/backends/test_devices_agree.py",
    "tests/backends/cuda",
    "tests/backends/wgpu",
    "tests/testing",
    "tests/examples/test_backend_package.py",
    "tests/regression/test_devices_alike.py",
)
STEALING = ["-n", "auto", "--dist", "worksteal"]

# What `test --all` repeats the tests with, beside the compiled build; but neither the C tests,
# which would be the same again, nor those of other devices, whose kernels are what they test, nor
# the slow ones: what they train and wait for, the others have run in small.
OTHER_CONFIGURATIONS = ({"HELIXML_PURE": "1"}, {"HELIXML_KERNELS": "0"})
# And the kernels' tests with kernels built with sanitizers: these, the library that must be loaded
# before Python, its options, and which tests. Races need threads; forks are beyond the sanitizer.
SANITIZERS = (
    ("address,undefined", "libasan.so", "detect_leaks=0:allocator_may_return_null=1", ""),
    ("thread", "libtsan.so", "halt_on_error=1", "thread and not fork and not workers"),
)
KERNEL_TESTS = ("*_kernel.py", "*_kernels.py", "layout.py", "matmul.py", "threads.py")
# These compile and run the C tests for aarch64.
AARCH64_TOOLS = ("aarch64-linux-gnu-gcc", "qemu-aarch64")
AARCH64_PACKAGES = ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user")
LINTERS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports",),
    ("cython-lint", "src"),
    ("codespell",),
)


def say(text: str) -> None:
    """Print a line for the person, apart from what commands print."""
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


def run(*command: object, **environment: str) -> int:
    """Run a command in the project's root and return its exit code."""
    words = [str(word) for word in command]
    # The environment's own tools come first: some linters call others by name.
    path = {"PATH": f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    return subprocess.call(words, cwd=ROOT, env={**os.environ, **path, **environment})


def require(*command: object, **environment: str) -> None:
    """Run a command; end with its exit code if it fails."""
    code = run(*command, **environment)
    if code:
        say("failed: " + " ".join(map(str, command)))
        sys.exit(code)


def missing_packages() -> list[str]:
    """Name the Debian packages that lack for making the environment and building in it."""
    if sys.version_info < LEAST_PYTHON:
        name = "python{}.{}".format(*LEAST_PYTHON)
        return [name, name + "-venv", name + "-dev"]
    name = "python{}.{}".format(*sys.version_info)
    packages = []
    if os.environ.get("HELIXML_BUILD") != "never":
        compiler = os.environ.get("CC", "gcc").split()[0]
        if not shutil.which(compiler):
            packages += ["gcc", "libc6-dev"]
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            packages.append(name + "-dev")
    if not (module_exists("ensurepip") or packed_pip() or module_exists("pip")):
        packages.append(name + "-venv")
    return packages


def print_installation(packages: Iterable[str]) -> None:
    """Print the line that installs Debian packages."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    print(*sudo, "apt-get install -y", *packages, file=sys.stderr, flush=True)


def module_exists(name: str) -> bool:
    """Tell whether this Python has the module."""
    return importlib.util.find_spec(name) is not None


def packed_pip() -> str | None:
    """Find pip's own wheel, as Debian's python3-pip-whl brings it."""
    return max(glob.glob("/usr/share/python-wheels/pip-*.whl"), default=None)


def make_environment(folder: Path, *, anew: bool) -> None:
    """Make an environment with pip in it; without ensurepip, pip comes out of its own wheel."""
    say(f"making {folder}")
    venv = (sys.executable, "-m", "venv", *(["--clear"] if anew else []), folder)
    if module_exists("ensurepip"):
        require(*venv)
        return
    require(*venv, "--without-pip")
    with tempfile.TemporaryDirectory() as place:
        wheel = packed_pip()
        if wheel is None:
            require(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place, "pip")
            wheel = glob.glob(place + "/pip-*.whl")[0]
        # A wheel is a zip archive, and pip runs from within it.
        python = folder / "bin" / "python"
        require(python, wheel + "/pip", "install", "-q", "--no-index", wheel)


def fingerprint() -> str:
    """Hash everything that the compiled package depends on."""
    source = ROOT / "src"
    files = {ROOT / "pyproject.toml", ROOT / "setup.py"}
    for pattern in ("*.pyx", "*.pxd", "*.c", "*.h"):
        files.update(source.rglob(pattern))
    files.update(path.with_suffix(".py") for path in source.rglob("*.pxd"))  # compiled as they are
    total = hashlib.sha256(os.environ.get("HELIXML_BUILD", "require").encode())
    for path in sorted(filter(Path.exists, files)):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def read_stamp() -> dict[str, object]:
    """Read what the last installation wrote down; nothing if there was none."""
    try:
        stamp: dict[str, object] = json.loads(STAMP.read_text())
        return stamp
    except (OSError, ValueError):
        return {}


def prepare(*extras: str) -> None:
    """Make the environment, build and install the package, unless that is done already."""
    home = {"python": sys.version, "root": str(ROOT)}
    sources = fingerprint()
    stamp = read_stamp()
    known_home = {key: stamp.get(key) for key in home} == home and PYTHON.exists()
    installed = stamp.get("extras", []) if known_home else []
    if known_home and stamp.get("sources") == sources and set(extras) <= set(installed):
        return
    packages = missing_packages()
    if packages:
        say("something is missing; this installs it:")
        print_installation(packages)
        sys.exit(MISSING)
    if not known_home:
        # An environment of another Python or place is made anew; one without a stamp is completed.
        make_environment(VENV, anew=STAMP.exists())
        STAMP.write_text(json.dumps(home))
    import tomllib  # not at the top: an older Python must come as far as the message above

    wanted = sorted(set(installed) | set(extras))
    say(f"building and installing helixml[{','.join(wanted)}]; the first time takes minutes")
    pip = (PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "-q")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    require(*pip, *project["build-system"]["requires"])
    # Isolation would download the build tools again for every build, and compile from nothing.
    package = f".[{','.join(wanted)}]"
    build = os.environ.get("HELIXML_BUILD", "require")
    require(*pip, "--no-build-isolation", "-e", package, HELIXML_BUILD=build)
    STAMP.write_text(json.dumps({**home, "sources": sources, "extras": wanted}))


def train(arguments: list[str]) -> int:
    """Run the main job."""
    prepare("plot")
    # In place of this process, so that Ctrl-C and SIGTERM reach the training itself.
    os.execv(PYTHON, [str(PYTHON), "-m", "helixml.cli", "train", *arguments])


def test(arguments: list[str]) -> int:
    """Run the fast tests; with ``--devices`` those of other devices, with ``--all`` everything."""
    prepare("dev", "plot")
    chosen = {"--all", "--devices"} & {*arguments}
    arguments = [word for word in arguments if word not in chosen]
    environment = {}
    if "--device" in arguments:
        place = arguments.index("--device")
        if place + 1 == len(arguments):
            say("--device needs the name of a device")
            return 2
        environment["HELIXML_DEVICE"] = arguments[place + 1]
        del arguments[place : place + 2]
    if "--all" in chosen:
        return test_all(arguments, environment)
    if "--devices" in chosen:
        return test_devices(arguments)
    return run(
        PYTHON, "-m", "pytest", "-m", "not slow", *(arguments or SIDE_BY_SIDE), **environment
    )


def test_all(arguments: list[str], environment: dict[str, str]) -> int:
    """Run the slow tests too, the others in every configuration, and those of all devices."""
    # The tests of devices come later, with what these need: once is enough.
    others = () if arguments else [f"--ignore={path}" for path in DEVICE_TESTS]
    arguments = arguments or SIDE_BY_SIDE
    fast = (PYTHON, "-m", "pytest", "-m", "not slow", *arguments)
    if not all(map(shutil.which, AARCH64_TOOLS)):
        say("the C tests are not run for aarch64; they are, once this has installed what it takes:")
        print_installation(AARCH64_PACKAGES)
    codes = [run(PYTHON, "-m", "pytest", *arguments, *others, **environment)]
    for other in OTHER_CONFIGURATIONS:
        say("once more with " + " ".join(f"{key}={value}" for key, value in other.items()))
        codes.append(run(*fast, "--ignore=tests/native", *others, **environment, **other))
    codes.append(test_devices([]))
    codes += [test_sanitized(*sanitizer) for sanitizer in SANITIZERS]
    return next((code for code in codes if code), 0)


def test_devices(arguments: list[str]) -> int:
    """Run what needs other libraries, compilers and drivers; without one its tests are skipped.

    HELIXML_REQUIRE names those without which tests fail instead. No GPU is needed: CUDA is
    emulated, and WebGPU runs on whatever driver of Vulkan there is.
    """
    prepare("dev", "devices", "plot")
    prepare_peers()
    # PyTorch and JAX come from the environment of the peers, and their NumPy with them.
    paths = map(str, PEERS.glob("lib/python*/site-packages"))
    environment = {"PYTHONPATH": os.pathsep.join(paths)}
    tests = [path for path in DEVICE_TESTS if (ROOT / path).exists()]
    if all(word.startswith("-") for word in arguments):  # options, and no tests
        arguments = [*STEALING, *tests, *arguments]
    return run(PYTHON, "-m", "pytest", "-rs", *arguments, **environment)


def test_sanitized(sanitizers: str, library: str, options: str, which: str) -> int:
    """Build the kernels with sanitizers, into a folder of their own, and run their tests."""
    loaded = compiler_file(library)
    if loaded is None or os.environ.get("HELIXML_BUILD") == "never":
        say(f"no tests with -fsanitize={sanitizers}, for want of {library}")
        return 0
    say(f"once more the kernels' tests, with kernels built with -fsanitize={sanitizers}")
    folder = ROOT / "build" / "sanitized" / sanitizers.replace(",", "-")
    package = folder / "lib"
    build = (PYTHON, "setup.py", "-q", "build", "--build-base", folder, "--build-lib", package)
    code = run(*build, HELIXML_BUILD="require", HELIXML_SANITIZE=sanitizers)
    if code:
        return code
    patterns = [ROOT / "tests" / "backends" / f"test_{name}" for name in KERNEL_TESTS]
    tests = {path for pattern in patterns for path in glob.glob(str(pattern))}
    # It repeats the tests of all ops, for each kernel.
    tests.discard(str(ROOT / "tests" / "backends" / "test_removed_kernels.py"))
    selection = ("-m", "not slow", *(("-k", which) if which else ()), *sorted(tests))
    return run(
        *(PYTHON, "-m", "pytest", "--capture=sys"),  # all else would hide what sanitizers print
        *selection,
        LD_PRELOAD=loaded,
        PYTHONPATH=str(package),
        ASAN_OPTIONS=options,
        TSAN_OPTIONS=options,
        UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
    )


def compiler_file(name: str) -> str | None:
    """Find a library of the C compiler; None if it has none of this name."""
    compiler = os.environ.get("CC", "gcc").split()[0]
    if not shutil.which(compiler):
        return None
    command = [compiler, f"-print-file-name={name}"]
    path = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    return path if os.path.isabs(path) else None  # gcc repeats a name that it does not know


def prepare_peers() -> None:
    """Make the environment of what helixml is compared with; without it the rest still runs."""
    names = [package.replace("-", "_").replace("==", "-") for package in PEER_PACKAGES]
    places = [PEERS.glob(f"lib/python*/site-packages/{name}*.dist-info") for name in names]
    if all(map(any, places)):
        return
    make_environment(PEERS, anew=True)
    say(f"installing {' '.join(PEER_PACKAGES)}")
    pip = (PEERS / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q")
    if run(*pip, "--retries", "1", *PEER_PACKAGES):
        shutil.rmtree(PEERS)
        say("PyTorch is missing, so only what needs no peer is measured; once there is a network,")
        say("the next bench tries again: pip install " + " ".join(PEER_PACKAGES))


def bench(arguments: list[str]) -> int:
    """Run the benchmarks."""
    prepare("plot")
    prepare_peers()
    return run(PYTHON, "-m", "bench", *arguments)


def parity(arguments: list[str]) -> int:
    """Compare ops with PyTorch's and models with transformers', in the environment of the peers."""
    prepare()
    prepare_peers()
    if not PEERS.exists():
        return MISSING
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))
    return run(PEERS / "bin" / "python", "-m", "parity", *arguments, PYTHONPATH=path)


def lint(arguments: list[str]) -> int:
    """Run every linter, and say which ones complain."""
    prepare("dev", "plot")
    failed = [words for words in LINTERS if run(PYTHON.parent / words[0], *words[1:], *arguments)]
    for words in failed:
        say("complaints from " + " ".join(words))
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    """Find the command; options alone go to the main job."""
    commands = {"train": train, "test": test, "bench": bench, "parity": parity, "lint": lint}
    if arguments and arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    if not arguments or arguments[0].startswith("-"):
        return train(arguments)
    if arguments[0] in commands:
        return commands[arguments[0]](arguments[1:])
    say(f"there is no command {arguments[0]!r}; python3 dev.py help lists them")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
