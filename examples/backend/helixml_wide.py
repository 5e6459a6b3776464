"""A device that computes without rounding: what would exact arithmetic have given?

On the device "wide" every float is a float64, whatever dtype its tensor has, and every complex
number has two. Numbers are rounded to their dtype where they come to the device, where somebody
casts them, and where they leave; a thousand ops between make no difference that float32 could show.
So the distance between a result there and on "cpu" is what rounding did, to a sum, a model or a
training: `rounding` measures it. The device counts its calls, too.

Read it as a template: an array type of its own, tier 0 of `ComputeBackend` taken from a library,
here NumPy, and all the rest left to `BackendBase`. docs/backend.md says what follows after that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from inspect import isfunction

import numpy as np

import helixml as hx
from helixml import dtypes
from helixml.backends.base import BackendBase
from helixml.backends.dispatch import KernelTable
from helixml.backends.protocol import ComputeBackend
from helixml.device import Device
from helixml.errors import DTypeError


@dataclass(frozen=True, eq=False)
class Wide:
    """An array: values, and the dtype that helixml knows them by."""

    values: np.ndarray
    dtype: np.dtype

    # dtype, shape and size are all that helixml reads of an array itself

    @property
    def shape(self):
        """Return the shape."""
        return self.values.shape

    @property
    def size(self):
        """Return the number of elements."""
        return self.values.size


def stored(dtype):
    """Return what values of a dtype are kept in."""
    return {"f": np.float64, "c": np.complex128}.get(dtypes.kind(dtype), dtype)


def rounded(host, dtype):
    """Return values as a dtype holds them, kept as wide as they were."""
    return host.astype(dtype).astype(stored(dtype))


class WideBackend(BackendBase):
    """NumPy's functions on wide arrays; what they are called is what the standard calls them."""

    name = "wide"
    device_kinds = ("wide",)
    array_type = Wide
    dtypes = dtypes.ALL

    def __init__(self):
        self.device = Device("wide")
        self._calls = Counter()
        self.kernels = KernelTable()  # none: the definitions of fused ops run
        for name, value in vars(ComputeBackend).items():
            if isfunction(value) and not hasattr(type(self), name):  # neither here nor derived
                setattr(self, name, self._bound(name))

    def _bound(self, name):
        """Return NumPy's function of a name, which takes and returns wide arrays."""
        function = getattr(np, name)

        def bound(*operands, **options):
            return self._computed(function, *operands, **options)

        return bound

    def _computed(self, function, *operands, **options):
        """Call a function of NumPy's, and give its result the precision of the operands' dtype."""
        self._calls[function.__name__] += 1
        wides = []  # operands, also in a list, as that of `concat`

        def opened(value):
            if isinstance(value, list):
                return [opened(item) for item in value]
            if isinstance(value, Wide):
                wides.append(value)
                return value.values
            return value

        try:
            with np.errstate(all="ignore"):
                found = np.asarray(function(*map(opened, operands), **options))
        except TypeError as error:  # NumPy does not subtract booleans, say
            raise DTypeError(f"{function.__name__}: {error}. Hint: cast with astype().") from error
        floats = [x.dtype for x in wides if dtypes.is_differentiable(x.dtype)]
        if found.dtype.kind == "c":
            return Wide(found, dtypes.promote(floats[0], dtypes.complex64))
        return Wide(found, dtypes.real_of(floats[0]) if found.dtype.kind == "f" else found.dtype)

    # Making and moving

    def asarray(self, value, /, *, dtype=None):
        """Return ``value`` on the device."""
        if isinstance(value, Wide):
            return value if dtype is None else self.astype(value, dtype)
        host = np.array(value, dtype=dtype)
        return Wide(host.astype(stored(host.dtype)), host.dtype)

    def to_numpy(self, x, /):
        """Return the values, rounded."""
        with np.errstate(all="ignore"):  # an overflow is inf, as it would have been
            return x.values.astype(x.dtype)

    def ensure(self, value, /):
        """Return ``value``: results are arrays here, also those without axes."""
        return value

    def dtype_of(self, x, /):
        """Return the dtype that helixml knows."""
        return x.dtype

    def copy(self, x, /):
        """Return a copy."""
        return Wide(x.values.copy(), x.dtype)

    def writable(self, x, /):
        """Return ``x``, or a copy where elements share memory, as those of `broadcast_to` do."""
        return x if x.values.flags.writeable else self.copy(x)

    def assign(self, target, source, /):
        """Overwrite ``target``: it is `writable`, or the engine made it so."""
        target.values[...] = self.astype(source, target.dtype).values
        return target

    def capabilities(self):
        """Say how often each function was called."""
        return {**super().capabilities(), "calls": dict(self._calls)}

    # Tier 0, where NumPy's own function does not do

    def zeros(self, shape, /, *, dtype):
        """Return zeros."""
        return Wide(np.zeros(shape, stored(dtype)), dtype)

    def ones(self, shape, /, *, dtype):
        """Return ones."""
        return Wide(np.ones(shape, stored(dtype)), dtype)

    def full(self, shape, value, /, *, dtype):
        """Return ``value`` everywhere."""
        return Wide(np.full(shape, rounded(np.asarray(value), dtype)), dtype)

    def arange(self, start, stop, step, /, *, dtype):
        """Return evenly spaced values."""
        return Wide(np.arange(start, stop, step).astype(stored(dtype)), dtype)

    def eye(self, rows, columns, /, *, k=0, dtype):
        """Return ones on a diagonal."""
        return Wide(np.eye(rows, columns, k, stored(dtype)), dtype)

    def astype(self, x, dtype, /):
        """Return ``x`` in another dtype: here somebody asks for rounding."""
        with np.errstate(all="ignore"):
            return x if x.dtype == dtype else Wide(rounded(x.values, dtype), dtype)

    def round(self, x, /):
        """Return the nearest integers; integers and booleans as they are."""
        return x if x.dtype.kind in "biu" else self._computed(np.round, x)

    def argsort(self, x, /, *, axis):
        """Return the order that sorts; the protocol wants equals to keep theirs."""
        return self._computed(np.argsort, x, axis=axis, stable=True)

    def getitem(self, x, index, /):
        """Return a view."""
        return Wide(np.asarray(x.values[index]), x.dtype)

    def take(self, x, indices, /, *, axis):
        """Return entries; NumPy takes no unsigned indices, and raises IndexError as it must."""
        return self._computed(np.take, x, indices.values.astype(np.int64), axis=axis)


def rounding(function: Callable[..., hx.Tensor], *tensors: hx.Tensor) -> float:
    """Return by how much the result of a function is wrong, relative to its largest value."""
    here = function(*tensors).astype("float64").numpy()
    there = function(*(x.to("wide") for x in tensors)).astype("float64").numpy()  # not rounded
    return float(np.abs(here - there).max() / np.abs(there).max())
