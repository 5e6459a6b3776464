"""The wheel: small, whole, and without what only the build needs."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MUST_BYTES = 6_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.so", "*.egg-info", "tests")
    shutil.copytree(ROOT, source, ignore=ignore)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_is_small_text_included(wheel):
    assert wheel.stat().st_size <= MUST_BYTES


@pytest.mark.slow
def test_the_wheel_holds_text_licence_types_and_compiled_modules(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("data/plays.txt.bz2", "data/PLAYS-LICENCE.md", "py.typed", "cli/__main__.py"):
        assert f"helixml/{name}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any("_kernels" in name and name.endswith(".so") for name in names)
    assert not [name for name in names if name.endswith((".c", ".pyx", ".o"))]
