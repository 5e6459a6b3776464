"""Linear algebra on the device: cuSOLVER and cuBLAS through CuPy, for stacks of matrices.

What CuPy lacks (`eig`, `expm`, and what it has for single matrices only) is the host's, which also
gets what has no entries. CuPy is told to raise where a factorisation fails; it would return what
memory held. Then the host decides: pivots that are 0 only by rounding are so in one order of the
entries and not in another, and devices must not differ in what is an error.

Determinants and inverses come from the same factors, bit for bit: what rounding does to them then
cancels in the gradient of a determinant, det(x) x^-H, and is multiplied by the condition otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from helixml.backends.lapack import HostLinearAlgebra

__all__ = ["DeviceLinearAlgebra"]

Array = Any  # an array of CuPy

# Entries of a single matrix up to which CuPy's determinants have the factors of a stack, cuBLAS's,
# and not cuSOLVER's; its inverses have the latter unless they are given a stack.
_BATCHED = 65536


class DeviceLinearAlgebra(HostLinearAlgebra):
    """The linear algebra of a backend whose arrays are CuPy's; it has `_cp`."""

    _cp: Any

    def _strictly(self) -> AbstractContextManager[None]:
        """Have failures raised."""
        if not isinstance(self._cp, ModuleType):
            return nullcontext()  # a stand-in does so anyway
        found: AbstractContextManager[None] = import_module("cupyx").errstate(linalg="raise")
        return found

    def _found(self, device: Callable[[], Any], host: Callable[[], Any], *arrays: Array) -> Any:
        """Return what the device finds, or else what the host finds or raises."""
        if not all(x.size for x in arrays):
            return host()
        try:
            with self._strictly():
                return device()
        except np.linalg.LinAlgError:
            return host()

    def cholesky(self, x: Array, /) -> Array:
        """Return the lower triangular factor."""
        own, host = self._cp.linalg.cholesky, super().cholesky
        return self._found(lambda: own(x), lambda: host(x), x)

    def qr(self, x: Array, /, *, mode: str) -> Any:
        """Return the factors Q and R."""
        own, host = self._cp.linalg.qr, super().qr
        return self._found(lambda: tuple(own(x, mode)), lambda: host(x, mode=mode), x)

    def eigh(self, x: Array, /) -> Any:
        """Return eigenvalues and eigenvectors of Hermitian matrices."""
        own, host = self._cp.linalg.eigh, super().eigh
        return self._found(lambda: tuple(own(x)), lambda: host(x), x)

    def eigvalsh(self, x: Array, /) -> Array:
        """Return eigenvalues of Hermitian matrices."""
        own, host = self._cp.linalg.eigvalsh, super().eigvalsh
        return self._found(lambda: own(x), lambda: host(x), x)

    def svd(self, x: Array, /, *, full_matrices: bool) -> Any:
        """Return the factors U, S and V^H."""
        own, host = self._cp.linalg.svd, super().svd
        return self._found(
            lambda: tuple(own(x, full_matrices)),
            lambda: host(x, full_matrices=full_matrices),
            x,
        )

    def svdvals(self, x: Array, /) -> Array:
        """Return singular values."""
        own, host = self._cp.linalg.svd, super().svdvals
        return self._found(lambda: own(x, compute_uv=False), lambda: host(x), x)

    def inv(self, x: Array, /) -> Array:
        """Return inverses."""
        own, host = self._cp.linalg.inv, super().inv
        if x.ndim == 2 and x.size <= _BATCHED:
            return self._found(lambda: own(x[None])[0], lambda: host(x), x)
        return self._found(lambda: own(self._cp.ascontiguousarray(x)), lambda: host(x), x)

    def det(self, x: Array, /) -> Array:
        """Return determinants."""
        own, host = self._cp.linalg.det, super().det
        return self._found(lambda: own(x), lambda: host(x), x)

    def slogdet(self, x: Array, /) -> Any:
        """Return the sign and the logarithm of the magnitude of determinants."""
        own, host = self._cp.linalg.slogdet, super().slogdet
        return self._found(lambda: tuple(own(x)), lambda: host(x), x)

    def solve(self, x: Array, y: Array, /) -> Array:
        """Return z with x z = y."""
        own, host = self._cp.linalg.solve, super().solve
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        left = self._cp.broadcast_to(x, (*batch, *x.shape[-2:]))
        right = self._cp.broadcast_to(y, (*batch, *y.shape[-2:]))
        return self._found(lambda: own(left, right), lambda: host(x, y), x, y)
