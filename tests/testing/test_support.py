"""The support table has a row for every op, says truly what computes, and shows every hole."""

from pathlib import Path

import pytest

from helixml import dtypes
from helixml._core.op import REGISTRY
from helixml.backends import registry
from helixml.backends.array_api import ArrayApiBackend
from helixml.device import Device
from helixml.testing import support
from serving import EVERYWHERE, serving


def test_every_op_has_a_row_and_every_device_a_column(monkeypatch):
    monkeypatch.setattr(support, "cell_of", lambda op, device: support.Cell())
    cells = support.survey(("cpu", "reference"))
    assert set(cells) == set(REGISTRY)
    assert all(list(row) == ["cpu", "reference"] for row in cells.values())
    lines = support.markdown(cells).splitlines()[: len(REGISTRY) + 2]
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        f"| {name}" for name in sorted(REGISTRY)
    ]
    assert {line.count("|") for line in lines} == {4}


def test_letters_say_what_computes(with_kernels):
    names = ("softmax", "add", "mean", "gamma", "eig", "take", "unique_values")
    cells = support.survey(("cpu", "array_api_strict"), names)
    letters = {
        name: ["".join(sorted(cell.served)) for cell in row.values()] for name, row in cells.items()
    }
    assert letters == {
        "softmax": ["DK", "D"],  # the kernel serves floats
        "add": ["F", "F"],
        "mean": ["F", "F"],
        "gamma": ["F", "H"],  # NumPy's arrays are the host's already
        "eig": ["F", "H"],
        "take": ["F", "F"],  # the range of indices may be looked at
        "unique_values": ["D", "H"],
    }


def test_without_kernels_definitions_run(plain_settings):
    from helixml import config

    with config.using(kernels=False):
        (row,) = support.survey(("cpu",), ["softmax"]).values()
    assert set(row["cpu"].served) == {"D"}


def test_what_a_backend_does_not_hold_is_a_footnote():
    cells = support.survey(("cpu", "array_api_strict"), ["exp", "transfer"])
    assert cells["exp"]["cpu"].lacking == []
    assert cells["exp"]["array_api_strict"].lacking == [*dtypes.HALVES]
    lines = support.markdown(cells).splitlines()
    assert lines[2].endswith("| F int uint bool f32 f64 c64 c128[^1] |")
    assert lines[3] == "| transfer | -[^2] | -[^2] |"
    assert "[^1]: array_api_strict holds no float16, bfloat16." in lines
    assert "[^2]: Has no samples; the checks of array functions hold it." in lines


def test_a_hole_shows_where_and_why():
    import numpy as np

    class Holed(ArrayApiBackend):
        def exp(self, x, /):
            """Be wrong in one dtype."""
            if x.dtype == np.float64:
                raise OSError("out of exponentials")
            return np.exp(x)

        def cos(self, x, /):
            """Be wrong."""
            return np.sin(x)

    registry.register("holed", lambda: Holed(np, Device("holed")))
    try:
        cells = support.survey(["holed"], ["exp", "cos", "sin"])
        text = support.markdown(cells)
    finally:
        registry.unregister("holed")
    assert not cells["sin"]["holed"].failed
    assert dtypes.float32 in cells["exp"]["holed"].served["F"]
    assert [*cells["exp"]["holed"].failed] == [dtypes.float64]
    assert "FAILS in float64: " in text
    assert "out of exponentials" in text
    assert dtypes.float32 in cells["cos"]["holed"].failed


def test_watching_leaves_a_backend_as_it_was():
    backend = registry.get("array_api_strict")
    before = dict(vars(backend)), dict(vars(backend.kernels))
    support.survey(["array_api_strict"], ["gamma", "softmax"])
    assert (dict(vars(backend)), dict(vars(backend.kernels))) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_hole_is_a_stated_limitation(name):
    with serving(name) as device:
        cells = support.survey([device])
        held = registry.get(device).dtypes
    assert set(cells) == set(REGISTRY)
    for op, row in cells.items():
        assert not row[device].failed, op
        assert not {*row[device].lacking} & {*held}, op
        assert row[device].served or row[device].lacking or not row[device].sampled, op


def test_the_readme_shows_what_is_printed(with_kernels):
    cells = support.survey(("cpu", "array_api_strict"), ("add", "gamma", "softmax"))
    lines = support.markdown(cells).splitlines()
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert "\n".join(lines[:5]) in readme
    assert lines[-1] in readme
