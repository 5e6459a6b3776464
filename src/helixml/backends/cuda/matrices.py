"""Linear algebra on the device: cuSOLVER and cuBLAS through CuPy, for stacks of matrices.

What CuPy lacks (`eig`, `expm`, and what it has for single matrices only) is the host's, which also
gets what has no entries. CuPy is told to raise where a factorisation fails; it would return what
memory held.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from helixml.backends.lapack import HostLinearAlgebra

__all__ = ["DeviceLinearAlgebra"]

Array = Any  # an array of CuPy


class DeviceLinearAlgebra(HostLinearAlgebra):
    """The linear algebra of a backend whose arrays are CuPy's; it has `_cp`."""

    _cp: Any

    def _strictly(self) -> AbstractContextManager[None]:
        """Have failures raised."""
        if not isinstance(self._cp, ModuleType):
            return nullcontext()  # a stand-in does so anyway
        found: AbstractContextManager[None] = import_module("cupyx").errstate(linalg="raise")
        return found

    def cholesky(self, x: Array, /) -> Array:
        """Return the lower triangular factor."""
        if not x.size:
            return super().cholesky(x)
        with self._strictly():
            return self._cp.linalg.cholesky(x)

    def qr(self, x: Array, /, *, mode: str) -> Any:
        """Return the factors Q and R."""
        if not x.size:
            return super().qr(x, mode=mode)
        with self._strictly():
            return tuple(self._cp.linalg.qr(x, mode))

    def eigh(self, x: Array, /) -> Any:
        """Return eigenvalues and eigenvectors of Hermitian matrices."""
        if not x.size:
            return super().eigh(x)
        with self._strictly():
            return tuple(self._cp.linalg.eigh(x))

    def eigvalsh(self, x: Array, /) -> Array:
        """Return eigenvalues of Hermitian matrices."""
        if not x.size:
            return super().eigvalsh(x)
        with self._strictly():
            return self._cp.linalg.eigvalsh(x)

    def svd(self, x: Array, /, *, full_matrices: bool) -> Any:
        """Return the factors U, S and V^H."""
        if not x.size:
            return super().svd(x, full_matrices=full_matrices)
        with self._strictly():
            return tuple(self._cp.linalg.svd(x, full_matrices))

    def svdvals(self, x: Array, /) -> Array:
        """Return singular values."""
        if not x.size:
            return super().svdvals(x)
        with self._strictly():
            return self._cp.linalg.svd(x, compute_uv=False)

    def inv(self, x: Array, /) -> Array:
        """Return inverses."""
        if not x.size:
            return super().inv(x)
        with self._strictly():
            return self._cp.linalg.inv(x)

    def solve(self, x: Array, y: Array, /) -> Array:
        """Return z with x z = y."""
        if not (x.size and y.size):
            return super().solve(x, y)
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        x = self._cp.broadcast_to(x, (*batch, *x.shape[-2:]))
        y = self._cp.broadcast_to(y, (*batch, *y.shape[-2:]))
        with self._strictly():
            return self._cp.linalg.solve(x, y)
