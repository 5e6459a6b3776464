"""dev.py: what it says when something is missing, when it builds, and where commands go."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dev(tmp_path, monkeypatch):
    """Load dev.py as a module that works on a copy of a tiny project."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("HELIXML_BUILD", raising=False)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(module, "PEERS", tmp_path / ".venv-peers")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "stamp.json")
    package = tmp_path / "src" / "helixml"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools", "numpy"]\n')
    for name in ("kernel.c", "simd.h", "wrap.pyx", "tape.pxd", "tape.py", "plain.py"):
        (package / name).write_text("1")
    return module


@pytest.fixture
def commands(dev, monkeypatch):
    """Record the commands that dev.py would run; the first makes the environment's Python."""
    ran = []

    def record(*command, **environment):
        ran.append((" ".join(map(str, command)), environment))
        dev.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        dev.PYTHON.touch()
        return 0

    monkeypatch.setattr(dev, "run", record)
    return ran


@pytest.mark.parametrize(
    ("lacking", "packages"),
    [
        ("gcc", "gcc libc6-dev"),
        ("header", "python{0}.{1}-dev"),
        ("pip", "python{0}.{1}-venv"),
        ("python", "python4.0 python4.0-venv python4.0-dev"),
    ],
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(
    dev, monkeypatch, capsys, lacking, packages
):
    monkeypatch.setattr(dev.shutil, "which", lambda name: None if lacking == "gcc" else "/bin/cc")
    header = Path(dev.ROOT, "Python.h")
    if lacking != "header":
        header.touch()
    monkeypatch.setattr(dev.sysconfig, "get_path", lambda name: str(header.parent))
    if lacking == "pip":
        monkeypatch.setattr(dev, "module_exists", lambda name: False)
        monkeypatch.setattr(dev, "packed_pip", lambda: None)
    if lacking == "python":
        monkeypatch.setattr(dev, "LEAST_PYTHON", (4, 0))
    monkeypatch.setattr(dev.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as caught:
        dev.prepare("plot")
    assert caught.value.code == 69
    line = "sudo apt-get install -y " + packages.format(*sys.version_info)
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_without_compiled_code_no_compiler_is_asked_for(dev, monkeypatch):
    monkeypatch.setenv("HELIXML_BUILD", "never")
    monkeypatch.setattr(dev.shutil, "which", lambda name: None)
    assert dev.missing_packages() == []


def test_the_first_run_installs_and_the_second_does_nothing(dev, commands, monkeypatch):
    monkeypatch.setattr(dev, "missing_packages", list)
    dev.prepare("plot")
    assert commands[0][0].endswith(f"-m venv {dev.VENV}")
    assert commands[-2][0].endswith("install -q setuptools numpy")
    assert commands[-1][0].endswith("--no-build-isolation -e .[plot]")
    assert commands[-1][1] == {"HELIXML_BUILD": "require"}
    commands.clear()
    dev.prepare("plot")
    assert commands == []
    dev.prepare("dev", "plot")
    assert commands[-1][0].endswith("-e .[dev,plot]")
    commands.clear()
    dev.prepare("plot")
    assert commands == []


def test_a_failed_build_ends_with_its_exit_code_and_is_tried_again(dev, commands, monkeypatch):
    monkeypatch.setattr(dev, "missing_packages", list)
    works = dev.run
    monkeypatch.setattr(dev, "run", lambda *c, **e: works(*c, **e) or 3 * ("-e" in c))
    with pytest.raises(SystemExit) as caught:
        dev.prepare("plot")
    assert caught.value.code == 3
    monkeypatch.setattr(dev, "run", works)
    commands.clear()
    dev.prepare("plot")
    assert commands[-1][0].endswith("-e .[plot]")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("kernel.c", True),
        ("simd.h", True),
        ("wrap.pyx", True),
        ("tape.pxd", True),
        ("tape.py", True),
        ("plain.py", False),
    ],
)
def test_only_what_is_compiled_makes_a_new_build(dev, name, counts):
    before = dev.fingerprint()
    (dev.ROOT / "src" / "helixml" / name).write_text("2")
    assert (dev.fingerprint() != before) == counts


def test_an_environment_of_another_python_is_made_anew(dev, commands, monkeypatch):
    monkeypatch.setattr(dev, "missing_packages", list)
    dev.prepare("plot")
    stamp = json.loads(dev.STAMP.read_text())
    dev.STAMP.write_text(json.dumps(stamp | {"python": "2.7"}))
    commands.clear()
    dev.prepare("plot")
    assert "-m venv --clear" in commands[0][0]


def test_options_alone_go_to_the_main_job(dev, monkeypatch, capsys):
    sent = []
    monkeypatch.setattr(dev, "train", lambda arguments: sent.append(arguments) or 0)
    assert dev.main([]) == dev.main(["--preset", "tiny"]) == dev.main(["train", "--help"]) == 0
    assert sent == [[], ["--preset", "tiny"], ["--help"]]
    assert dev.main(["--help"]) == 0
    assert "python3 dev.py test [--devices | --all]" in capsys.readouterr().out
    assert dev.main(["tset"]) == 2
    assert "there is no command 'tset'" in capsys.readouterr().err


def test_the_test_command_leaves_out_slow_tests_unless_all_are_asked_for(
    dev, commands, monkeypatch
):
    monkeypatch.setattr(dev, "prepare", lambda *extras: None)
    assert dev.main(["test", "-x", "--device", "reference"]) == 0
    ((command, environment),) = commands
    assert command.endswith("-m pytest -m not slow -x")
    assert environment == {"HELIXML_DEVICE": "reference"}
    commands.clear()
    assert dev.main(["test"]) == 0
    assert commands.pop()[0].endswith("-m pytest -m not slow -n auto --dist loadfile")
    monkeypatch.setattr(dev, "compiler_file", lambda name: None)
    monkeypatch.setattr(dev, "test_devices", lambda arguments: 0)
    assert dev.main(["test", "--all"]) == 0
    assert [environment for _, environment in commands] == [
        {},
        {"HELIXML_PURE": "1"},
        {"HELIXML_KERNELS": "0"},
    ]
    ignored = " ".join(f"--ignore={path}" for path in dev.DEVICE_TESTS)
    assert commands[0][0].endswith(f"-m pytest -n auto --dist loadfile {ignored}")
    again = f"-m pytest -m not slow -n auto --dist loadfile --ignore=tests/native {ignored}"
    assert all(command.endswith(again) for command, _ in commands[1:])
    assert dev.main(["test", "--device"]) == 2


def test_tests_of_devices_see_the_libraries_of_the_peers(dev, commands, monkeypatch):
    prepared = []
    monkeypatch.setattr(dev, "prepare", lambda *extras: prepared.append(extras))
    monkeypatch.setattr(dev, "prepare_peers", lambda: prepared.append("peers"))
    monkeypatch.setattr(dev, "compiler_file", lambda name: None)
    packages = dev.PEERS / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    (dev.ROOT / "tests/backends/cuda").mkdir(parents=True)
    assert dev.main(["test", "--devices"]) == 0
    assert prepared[1:] == [("dev", "devices", "plot"), "peers"]
    ((command, environment),) = commands
    assert command.endswith("-m pytest -rs -n auto --dist worksteal tests/backends/cuda")
    assert environment == {"PYTHONPATH": str(packages)}
    commands.clear()
    assert dev.main(["test", "--devices", "-kjax"]) == 0
    assert dev.main(["test", "--devices", "-k", "jax"]) == 0
    assert [command.partition("pytest ")[2] for command, _ in commands] == [
        "-rs -n auto --dist worksteal tests/backends/cuda -kjax",
        "-rs -k jax",
    ]
    commands.clear()
    assert dev.main(["test", "--all"]) == 0
    assert commands[-1] == (command, environment)


def test_a_failure_on_a_device_fails_the_test_command(dev, monkeypatch):
    monkeypatch.setattr(dev, "prepare", lambda *extras: None)
    monkeypatch.setattr(dev, "prepare_peers", lambda: None)
    monkeypatch.setattr(dev, "compiler_file", lambda name: None)
    monkeypatch.setattr(dev, "run", lambda *c, **environment: 3 * ("worksteal" in c))
    assert dev.main(["test"]) == 0
    assert dev.main(["test", "--devices"]) == dev.main(["test", "--all"]) == 3


def test_the_tests_of_devices_are_there():
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path in module.DEVICE_TESTS:
        assert (ROOT / path).exists() or path.endswith("wgpu")


def test_sanitized_kernels_are_built_and_tested_apart(dev, commands, monkeypatch):
    monkeypatch.delenv("HELIXML_BUILD", raising=False)
    monkeypatch.setattr(dev, "compiler_file", lambda name: f"/usr/lib/{name}")
    folder = dev.ROOT / "build" / "sanitized" / "address-undefined"
    tests = dev.ROOT / "tests" / "backends"
    tests.mkdir(parents=True)
    for name in ("test_cpu_kernels.py", "test_removed_kernels.py", "test_base.py"):
        (tests / name).touch()
    assert dev.test_sanitized(*dev.SANITIZERS[0]) == 0
    (build, build_environment), (pytest, environment) = commands
    assert build.endswith(f"build --build-base {folder} --build-lib {folder / 'lib'}")
    assert build_environment["HELIXML_SANITIZE"] == "address,undefined"
    assert pytest.endswith(f"not slow {tests / 'test_cpu_kernels.py'}")
    assert environment["LD_PRELOAD"] == "/usr/lib/libasan.so"
    assert environment["PYTHONPATH"] == str(folder / "lib")


def test_packages_for_aarch64_are_named_where_they_lack(dev, commands, monkeypatch, capsys):
    monkeypatch.setattr(dev, "prepare", lambda *extras: None)
    monkeypatch.setattr(dev, "compiler_file", lambda name: None)
    monkeypatch.setattr(dev.shutil, "which", lambda name: None)
    monkeypatch.setattr(dev, "test_devices", lambda arguments: 0)
    assert dev.main(["test", "--all"]) == 0
    assert "apt-get install -y gcc-aarch64-linux-gnu" in capsys.readouterr().err


def test_a_library_that_the_compiler_lacks_is_none(dev):
    assert dev.compiler_file("libsomething-else.so") is None


def test_a_failure_in_any_configuration_fails_the_test_command(dev, monkeypatch):
    monkeypatch.setattr(dev, "prepare", lambda *extras: None)
    monkeypatch.setattr(dev, "compiler_file", lambda name: None)
    monkeypatch.setattr(dev, "test_devices", lambda arguments: 0)
    monkeypatch.setattr(dev, "run", lambda *c, **environment: 1 if environment else 0)
    assert dev.main(["test"]) == 0
    assert dev.main(["test", "--all"]) == 1


def test_bench_makes_the_environment_of_the_peers_once(dev, commands, monkeypatch):
    monkeypatch.setattr(dev, "prepare", lambda *extras: None)
    assert dev.main(["bench", "--quick"]) == 0
    venv, install, bench = (command for command, _ in commands)
    assert venv.endswith(f"-m venv --clear {dev.PEERS}")
    assert install.endswith(" ".join(dev.PEER_PACKAGES))
    assert install.startswith(f"{dev.PEERS}/bin/python")
    assert bench == f"{dev.PYTHON} -m bench --quick"
    packages = dev.PEERS / "lib/python3.12/site-packages"
    pinned = (f"torch-{dev.TORCH}+cpu", f"transformers-{dev.TRANSFORMERS}", f"jax-{dev.JAX}")
    for name in (*pinned, "numpy-2", "expecttest-0", "ml_dtypes-0"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    commands.clear()
    assert dev.main(["bench"]) == 0
    assert commands[0][0] == venv  # not all of them
    for name in ("safetensors-0", "scipy-1"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    commands.clear()
    assert dev.main(["bench"]) == 0
    assert [command for command, _ in commands] == [f"{dev.PYTHON} -m bench"]
    assert dev.main(["parity", "--list"]) == 0
    assert commands[-1][0] == f"{dev.PEERS}/bin/python -m parity --list"
    assert dev.main(["parity", "models", "gpt2"]) == 0
    assert commands[-1][0] == f"{dev.PEERS}/bin/python -m parity models gpt2"


def test_bench_runs_without_the_peers_and_says_what_is_missing(dev, commands, monkeypatch, capsys):
    monkeypatch.setattr(dev, "prepare", lambda *extras: None)
    works = dev.run
    monkeypatch.setattr(dev, "run", lambda *c, **e: works(*c, **e) or "torch==2.13.0" in c)
    dev.PEERS.mkdir()
    assert dev.main(["bench"]) == 0
    assert commands[-1][0] == f"{dev.PYTHON} -m bench"
    assert (
        "pip install torch==2.13.0 transformers==5.23.0 jax==0.10.2 numpy"
        in capsys.readouterr().err
    )
    assert not dev.PEERS.exists()


@pytest.mark.slow
def test_without_ensurepip_pip_comes_out_of_its_own_wheel(dev, monkeypatch):
    monkeypatch.setattr(dev, "module_exists", lambda name: name == "pip")
    dev.make_environment(dev.VENV, anew=False)
    version = subprocess.check_output([dev.PYTHON, "-m", "pip", "--version"], text=True)
    assert str(dev.VENV) in version


def test_ci_runs_both_stages_and_says_what_must_not_be_skipped():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    first, second = (line for line in lines if line.startswith("HELIXML_REQUIRE="))
    assert first == "HELIXML_REQUIRE=wgpu python3 dev.py test"
    required = "HELIXML_REQUIRE=wgpu,nvrtc,hiprtc,cupy,torch,jax"
    assert second.startswith(f"{required} exec python3 dev.py test --devices")
    assert "set -euo pipefail" in lines
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_dev_needs_the_standard_library_only():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import dev\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "print(*names - sys.stdlib_module_names - {'__main__', 'dev'})"
    )
    bare = [sys.executable, "-B", "-I", "-S", "-c", code, str(ROOT)]
    assert subprocess.check_output(bare, text=True).split() == []
