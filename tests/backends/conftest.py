"""Backends that a third party might write, whole and broken; settings of the compiled kernels."""

import sys
from types import ModuleType

import numpy as np
import pytest

from helixml import config
from helixml.backends import registry
from helixml.backends.array_api import ArrayApiBackend
from helixml.backends.cpu import kernels, threads
from helixml.device import Device


def whole():
    """NumPy's own namespace follows the standard: a whole backend in one line."""
    return ArrayApiBackend(np, Device("toy"))


def without(*names):
    """Give a backend that lacks some functions."""
    backend = whole()
    for name in names:
        delattr(backend, name)
    return backend


class Broken(ArrayApiBackend):
    """Complete by its names, wrong in what it does."""

    def __init__(self):
        super().__init__(np, Device("toy"))
        self._calls = 0

    def exp(self, x, /):
        """Be wrong, and different each time."""
        self._calls += 1
        return np.exp(x) * self._calls

    def cos(self, x, /):
        """Write to the argument."""
        np.cos(x, out=x)
        return x

    def max(self, x, /, *, axis):
        """Forget keepdims."""
        return np.max(x, axis=axis)

    def tune(self):
        """Be no part of the protocol."""


@pytest.fixture
def toys(monkeypatch):
    """Give the functions above as an importable module; the device "toy" is served by `whole`."""
    module = ModuleType("toy_package")
    module.whole, module.without, module.Broken = whole, without, Broken
    monkeypatch.setitem(sys.modules, "toy_package", module)
    registry.register("toy", whole)
    yield module
    registry.unregister("toy")


if kernels.available():
    from helixml.backends.cpu.kernels import _kernels, layout

    INSTRUCTION_SETS = _kernels.instruction_sets()
else:  # the tests that need these fixtures are skipped
    INSTRUCTION_SETS = []


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request):
    """Each instruction set that this CPU runs, in turn, whatever the settings are."""
    before = kernels.available()
    _kernels.use_instruction_set(request.param)
    with config.using(device="cpu", kernels=True):
        yield request.param
    _kernels.use_instruction_set(before)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def three_threads(monkeypatch):
    """Three threads on any machine, for work of any size."""
    monkeypatch.setattr(threads, "_machine_limit", lambda: 3)
    threads.apply()
    if kernels.available():
        monkeypatch.setattr(layout, "SMALL", 0)
    yield
    monkeypatch.undo()
    threads.set_num_threads(None)


@pytest.fixture
def of_any_number_of_threads(three_threads):
    """A function that computes with 1, 2 and 3 threads and sees that the bits are the same."""

    def run(compute):
        results = []
        for n in (1, 2, 3):
            threads.set_num_threads(n)
            results.append(compute())
        assert len({x.tobytes() for x in results}) == 1
        return results[0]

    return run
