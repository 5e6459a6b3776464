"""einops works on Tensors: its own tests pass, whichever package is imported first."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import helixml as hx
from helixml.testing import check_gradients

einops = pytest.importorskip("einops")


def test_rearrange_is_differentiable():
    x = hx.tensor(np.random.default_rng(0).normal(size=(2, 3, 4)), requires_grad=True)
    y = einops.rearrange(x, "b l (h d) -> b h l d", h=2)
    assert y.shape == (2, 2, 3, 2)
    assert y.requires_grad
    check_gradients(lambda x: einops.rearrange(x, "... l d -> ... (d l)"), x)
    check_gradients(lambda x: einops.reduce(x, "... l d -> ... l", "mean"), x)
    check_gradients(lambda x: einops.repeat(x, "... d -> ... (d r)", r=2), x)
    check_gradients(lambda x: einops.einsum(x, x, "... l d, ... m d -> ... l m"), x)


def test_layers_of_einops_are_modules():
    from helixml.einops import Rearrange, Reduce

    x = hx.arange(24, dtype="float32").reshape(2, 3, 4)
    model = hx.nn.Sequential(Rearrange("b l (h d) -> b h l d", h=2), Reduce("b h l d -> b", "sum"))
    assert model(x).tolist() == [66.0, 210.0]
    assert "b l (h d)" in repr(model)
    with pytest.raises(einops.EinopsError):
        model(hx.zeros((2, 3)))


@pytest.mark.parametrize("order", ["import helixml, einops", "import einops, helixml"])
def test_either_may_come_first(order):
    code = f"{order}; print(einops.rearrange(helixml.zeros((2, 3)), 'a b -> b a').shape)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "(3, 2)\n"


def test_helixml_alone_does_not_import_einops():
    code = "import sys, helixml; print('einops' in sys.modules, 'helixml.einops' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False False\n"


def test_a_missing_einops_is_missing_as_ever():
    code = (
        "import sys, helixml\n"
        "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        "import importlib; importlib.invalidate_caches()\n"
        "try:\n"
        "    import einops\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name)\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "einops\n"


def test_the_tests_of_einops_pass():
    folder = Path(einops.__file__).parent / "tests"
    if not folder.exists():
        pytest.skip("this einops came without its tests")
    own = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [own])])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "einops_plugin",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, "--import-mode=importlib", "-W", "ignore", str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 40, done.stdout
