"""The stand-in has no name that the real CuPy lacks: asked of the package, which needs no GPU.

pip install cupy-cuda13x
"""

import importlib.util
import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from helixml.testing import cuemu
from helixml.testing.cuemu.cupy_stand_in import names
from helixml.testing.cuemu.cupy_stand_in.creation import Creation
from required import require

if importlib.util.find_spec("cupy") is None:
    try:
        require("cupy", "pip install cupy-cuda13x")
    except pytest.skip.Exception as skipped:
        pytest.skip(str(skipped), allow_module_level=True)

import cupy
import cupyx

OWN = {"cuemu", "cupyx"}  # what the stand-in has besides the module


def public(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("listed", "real"),
    [
        (names.FUNCTIONS | names.IN_PLACE | names.DTYPES | names.CONSTANTS, cupy),
        (names.SYNCHRONIZING, cupy),
        (names.FFT, cupy.fft),
        (names.LINALG, cupy.linalg),
        (names.METHODS, cupy.ndarray),
    ],
    ids=["functions", "synchronizing", "fft", "linalg", "methods"],
)
def test_every_listed_name_is_cupys(listed, real):
    assert sorted(listed - public(real)) == []


def keywords(function):
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some of NumPy's have none to show
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def test_the_keywords_that_cupy_lacks_are_those_that_are_refused():
    spaces = {
        "": (names.FUNCTIONS, np, cupy),
        "fft.": (names.FFT, np.fft, cupy.fft),
        "linalg.": (names.LINALG, np.linalg, cupy.linalg),
    }
    for space, (listed, numpys, cupys) in spaces.items():
        for name in sorted(listed):
            both = keywords(getattr(numpys, name)), keywords(getattr(cupys, name))
            if isinstance(getattr(cupys, name), cupy.ufunc) or None in both:
                continue
            lacking = both[0] - both[1] - {"where", "initial"}
            assert lacking <= names.LACKING.get(space + name, frozenset()), space + name


@pytest.mark.parametrize("name", sorted(public(Creation)))
def test_functions_that_make_arrays_have_cupys_parameters(name):
    found = list(inspect.signature(getattr(cuemu.cupy(), name)).parameters)
    assert found == list(inspect.signature(getattr(cupy, name)).parameters)


@pytest.mark.parametrize(
    ("owner", "real"),
    [
        ("ndarray", cupy.ndarray),
        ("RawKernel", cupy.RawKernel),
        ("RawModule", cupy.RawModule),
        ("ElementwiseKernel", cupy.ElementwiseKernel),
        ("ReductionKernel", cupy.ReductionKernel),
    ],
)
def test_every_attribute_of_a_class_is_cupys(owner, real):
    assert sorted(public(getattr(cuemu.cupy(), owner)) - public(real)) == []


def test_every_name_of_the_module_and_its_submodules_is_cupys():
    cp = cuemu.cupy()
    assert sorted(public(cp) - OWN - public(cupy)) == []
    lacking = []

    def compare(space, real, path):
        for name, value in vars(space).items():
            if not hasattr(real, name):
                lacking.append(f"{path}.{name}")
            elif isinstance(value, SimpleNamespace):
                compare(value, getattr(real, name), f"{path}.{name}")
            elif isinstance(value, type) and isinstance(getattr(real, name), type):
                missing = public(value) - public(getattr(real, name))
                lacking.extend(f"{path}.{name}.{part}" for part in missing)

    compare(cp.cuda, cupy.cuda, "cuda")
    compare(cp.lib, cupy.lib, "lib")
    compare(cp.cupyx, cupyx, "cupyx")
    assert lacking == []


def test_every_method_of_the_memory_pool_is_cupys():
    pool = cuemu.cupy().get_default_memory_pool()
    assert sorted(public(pool) - public(cupy.cuda.MemoryPool)) == []
