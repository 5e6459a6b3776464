"""Backends that a third party might write, whole and broken."""

import sys
from types import ModuleType

import numpy as np
import pytest

from helixml.backends import registry
from helixml.backends.array_api import ArrayApiBackend
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
        del self.exp, self.cos

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
