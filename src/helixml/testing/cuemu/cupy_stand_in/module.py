"""The stand-in for the module ``cupy`` itself: functions that NumPy has too, and submodules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any  # whatever NumPy's functions of the same name take

import numpy as np

from helixml.testing.cuemu.cupy_stand_in import names
from helixml.testing.cuemu.cupy_stand_in.arrays import Array
from helixml.testing.cuemu.cupy_stand_in.calculation import (
    OutOfMemoryError,
    calculate,
    change,
    refuse_keywords,
)
from helixml.testing.cuemu.cupy_stand_in.creation import Creation
from helixml.testing.cuemu.cupy_stand_in.device import cuda_namespace
from helixml.testing.cuemu.cupy_stand_in.elementwise import ElementwiseKernel, ReductionKernel
from helixml.testing.cuemu.cupy_stand_in.kernels import RawKernel, RawModule
from helixml.testing.cuemu.cupy_stand_in.record import Record
from helixml.testing.cuemu.cupy_stand_in.streams import Queues

__all__ = ["StandIn"]


class StandIn(Creation):
    """A module ``cupy`` of its own: arrays of one are foreign to another.

    Attributes
    ----------
    cuemu : counts of launches, synchronisations and memory; see `Record`.
    cupyx : the stand-in for the module ``cupyx``.
    """

    __version__ = "14.2.0"

    def __init__(self, *, lazy: bool = False, seed: int = 0) -> None:
        self.cuemu = record = Record()
        record.queues = Queues(record, lazy=lazy, seed=seed)
        # each stand-in has classes of its own, which know its record
        self.ndarray = type("ndarray", (Array,), {"_record": record, "__slots__": ()})
        self.RawKernel = type("RawKernel", (RawKernel,), {"_array_type": self.ndarray})
        self.RawModule = type("RawModule", (RawModule,), {"_kernel_type": self.RawKernel})
        of_arrays = {"_array_type": self.ndarray}
        self.ElementwiseKernel = type("ElementwiseKernel", (ElementwiseKernel,), of_arrays)
        self.ReductionKernel = type("ReductionKernel", (ReductionKernel,), of_arrays)
        pinned = SimpleNamespace(free_all_blocks=lambda: None, n_free_blocks=lambda: 0)
        self.get_default_memory_pool = lambda: record.pool
        self.get_default_pinned_memory_pool = lambda: pinned
        self.cuda = cuda_namespace(record, OutOfMemoryError)
        self.cupyx = SimpleNamespace(
            scatter_add=self._scatter(np.add),
            scatter_max=self._scatter(np.maximum),
            scatter_min=self._scatter(np.minimum),
            empty_pinned=np.empty,
            zeros_pinned=np.zeros,
        )
        self.fft = _Namespace(self.ndarray, "cupy.fft", np.fft, names.FFT)
        self.linalg = _Namespace(self.ndarray, "cupy.linalg", np.linalg, names.LINALG)
        self.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=self._as_strided))
        for name in names.DTYPES | names.CONSTANTS:
            setattr(self, name, getattr(np, name))

    def __getattr__(self, name: str) -> Any:
        if name not in names.FUNCTIONS | names.IN_PLACE:
            raise AttributeError(f"module 'cupy' (stand-in) has no attribute {name!r}")
        function = _function(self.ndarray, name, getattr(np, name))
        setattr(self, name, function)
        return function

    def is_available(self) -> bool:
        """Tell that there is a device: an emulated one."""
        return True

    def get_array_module(self, *args: Any) -> Any:
        """Return the stand-in if an argument is its array, else NumPy."""
        return self if any(isinstance(x, Array) for x in args) else np

    def _scatter(self, ufunc: np.ufunc) -> Any:
        def scatter(a: Array, slices: Any, value: Any) -> None:
            change(self.ndarray, ufunc.at, (a, slices, value))

        return scatter

    def _as_strided(self, x: Array, shape: Any = None, strides: Any = None) -> Any:
        return calculate(self.ndarray, np.lib.stride_tricks.as_strided, (x, shape, strides))


class _Namespace:
    """A submodule: listed functions of one of NumPy's."""

    def __init__(
        self, array_type: type[Array], name: str, numpy_module: Any, listed: frozenset[str]
    ) -> None:
        self._array_type, self._name, self._numpy = array_type, name, numpy_module
        self._listed = listed

    def __getattr__(self, name: str) -> Any:
        if name not in self._listed:
            raise AttributeError(f"module {self._name!r} (stand-in) has no attribute {name!r}")
        space = self._name.removeprefix("cupy.") + "."
        function = _function(self._array_type, name, getattr(self._numpy, name), space)
        setattr(self, name, function)
        return function


def _function(array_type: type[Array], name: str, function: Any, space: str = "") -> Any:
    """Wrap a function of NumPy; space is "fft." or "linalg.", or "" for the module itself."""
    key = space + name

    def calculated(*arguments: Any, **keywords: Any) -> Any:
        refuse_keywords(key, keywords)
        waits = name in names.SYNCHRONIZING or (name == "where" and len(arguments) == 1)
        return calculate(array_type, function, arguments, keywords, waits=name if waits else "")

    def changed(*arguments: Any, **keywords: Any) -> None:
        change(array_type, function, arguments, keywords)

    wrapper = changed if name in names.IN_PLACE else calculated
    wrapper.__name__ = name
    return wrapper
