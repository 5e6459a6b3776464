"""The backend in examples/backend is a package: installed, found by its entry point, and right."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import helixml as hx

FOLDER = Path(__file__).parents[2] / "examples" / "backend"
PROJECT = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def installed(tmp_path):
    """Write what pip writes of a package of one module, its entry points among it."""
    project = PROJECT["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    for module in PROJECT["tool"]["setuptools"]["py-modules"]:
        shutil.copy(FOLDER / f"{module}.py", tmp_path)
    place = tmp_path / f"{name}-{version}.dist-info"
    place.mkdir()
    place.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{kind} = {value}" for kind, value in entries.items())]
    place.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def python(folder, *words):
    """Run Python where the package in ``folder`` is installed; return what it printed."""
    paths = [
        str(folder),
        str(Path(hx.__file__).parents[1]),
        *filter(None, [os.getenv("PYTHONPATH")]),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_entry_point_serves_the_device_and_it_keeps_the_surface_of_the_contract(installed):
    words = ["wide", "--quick", "--only", "^surface|^arrays|(matmul|softmax|take)-"]
    text = python(installed, "-m", "helixml.testing.contract", *words)
    assert "backend wide: " in text
    assert ", 0 failed" in text
    assert int(text.split()[2]) > 17


CODE = """
import helixml as hx
from helixml_wide import WideBackend, rounding
from helixml.backends import registry

assert type(registry.get("wide")) is WideBackend
rng = hx.random.Rng(0)
x = rng.normal((64, 64))
print(rounding(lambda t: hx.sum(t * t), x))
y = x.to("wide") @ x.to("wide")
print(y.dtype, y.numpy().dtype, y.astype("float64").numpy().tobytes().hex()[:32])
print((hx.full((), 60000.0, dtype="float16", device="wide") * 2 / 4).item())
print((hx.full((), 60000.0, dtype="float16") * 2 / 4).item())
print(registry.get("wide").capabilities()["calls"]["matmul"])
"""


def test_it_shows_what_rounding_does(installed):
    error, product, there, here, calls = python(installed, "-c", CODE).splitlines()
    assert 0 < float(error) < 1e-5
    x = hx.random.Rng(0).normal((64, 64)).numpy().astype(np.float64)
    head = (x @ x).tobytes()[:16]
    assert product.split() == ["float32", "float32", product.split()[2]]
    found = np.frombuffer(bytes.fromhex(product.split()[2]))
    np.testing.assert_allclose(found, np.frombuffer(head), rtol=1e-13)
    assert (float(there), float(here)) == (30000.0, float("inf"))
    assert calls == "1"


@pytest.mark.slow
def test_pip_installs_it_and_it_keeps_the_whole_contract(tmp_path):
    source = shutil.copytree(FOLDER, tmp_path / "source")  # building writes into it
    target = tmp_path / "installed"
    pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-build-isolation")
    python(tmp_path, *pip, "--no-deps", "--target", str(target), str(source))
    assert "0 failed" in python(target, "-m", "helixml.testing.contract", "wide", "--quick")


def test_it_is_as_long_as_its_documentation_says():
    assert len((FOLDER / "helixml_wide.py").read_text(encoding="utf-8").splitlines()) < 200
