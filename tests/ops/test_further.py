"""Functions that are loaded on first use."""

from importlib import import_module
from pkgutil import iter_modules

import pytest

import helixml as hx
from helixml import ops
from helixml.ops.further import FURTHER


@pytest.mark.parametrize(("name", "file"), FURTHER.items())
def test_a_name_is_what_its_file_defines(name, file):
    function = getattr(import_module(f"helixml.ops.{file}"), name)
    assert getattr(hx, name) is getattr(ops, name) is function
    assert name in dir(hx)
    assert name in hx.__all__
    assert name not in ops.__all__  # which helixml imports at once


def test_no_file_hides_a_function():
    files = {file.name for file in iter_modules(ops.__path__)}
    assert not files & {*FURTHER, *ops.__all__}
