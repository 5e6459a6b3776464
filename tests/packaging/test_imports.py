"""What `import helixml` and the command line load, and what they leave alone."""

import subprocess
import sys

import pytest

HEAVY = ("scipy", "click", "rich", "matplotlib")


def loaded_by(code):
    """Return the modules that a fresh Python has loaded after running ``code``."""
    script = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    return set(subprocess.check_output([sys.executable, "-c", script], text=True).split())


def test_import_helixml_leaves_heavy_packages_and_upper_floors_alone():
    loaded = loaded_by("import helixml")
    assert not loaded & {*HEAVY, "safetensors", "helixml.cli", "helixml.training", "helixml.data"}
    assert not {name for name in loaded if name.startswith("helixml.ops.numpy_")}


def test_special_functions_wait_for_scipy_until_one_is_called():
    loaded = loaded_by("import helixml.fft, helixml.special")
    assert not loaded & set(HEAVY)
    assert "scipy" in loaded_by("import helixml as hx\nhx.special.gamma(hx.ones(()))")


def test_linear_algebra_is_loaded_by_its_first_use():
    files = {f"helixml.ops.{name}" for name in ("contraction", "decomposition", "norms", "solving")}
    assert not loaded_by("import helixml") & {"helixml.linalg", *files}
    loaded = loaded_by("import helixml as hx; hx.linalg.inv(hx.eye(2)); hx.einsum('ii', hx.eye(2))")
    assert {"helixml.linalg", *files} <= loaded
    assert "scipy" not in loaded


def test_training_needs_no_command_line_and_no_plotting():
    assert not loaded_by("import helixml.training") & set(HEAVY)


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_no_command(argument):
    code = f"from helixml.cli import main\nmain([{argument!r}], standalone_mode=False)"
    loaded = loaded_by(code)
    assert not loaded & {"rich", "helixml.training", "helixml.cli.train", "helixml.cli.info"}
