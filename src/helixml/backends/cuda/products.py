"""Products of matrices by cuBLAS, called as it is.

CuPy calls cuBLAS too, but not while a graph is captured, and it copies or makes lists of addresses
for some stacks. So the library that CuPy has loaded is called here, by one function of it for all
dtypes and stacks, with CuPy's handles. Without the library (it bears another name, or CuPy is a
stand-in) products are CuPy's.

cuBLAS counts columns first. What NumPy's order calls C = A B is there C^T = B^T A^T, so operands
change places; one that lies transposed is named so and not copied.
"""

from __future__ import annotations

import ctypes
from functools import cache
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.errors import BackendError

__all__ = ["Products"]

Array = Any  # an array of CuPy

# cudaDataType_t and cublasComputeType_t; 16-bit floats are multiplied and summed in float32.
_TYPES = {
    dtypes.float32: (0, 68, np.float32),
    dtypes.float64: (1, 70, np.float64),
    dtypes.float16: (2, 68, np.float32),
    dtypes.bfloat16: (14, 68, np.float32),
    dtypes.complex64: (4, 68, np.complex64),
    dtypes.complex128: (5, 70, np.complex128),
}
_ANY_ALGORITHM = -1
_MOST = 2**31 - 1  # of what cuBLAS counts in 32 bits
_WORKSPACE = 32 << 20  # bytes; as much as NVIDIA recommends for its largest GPUs
_STATUS = {1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH"}
_STATUS |= {11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED"}


class Products:
    """Products of CuPy's arrays.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    library : cuBLAS, if it is another than the one that CuPy has loaded.
    """

    def __init__(self, cp: Any, library: Any = None) -> None:  # Any: a module, a ctypes.CDLL
        self._cp = cp
        self._library = _loaded(cp) if library is None else _declared(library)

    def matmul(self, x: Array, y: Array) -> Array:
        """Return the matrix product.

        Parameters
        ----------
        x : ([...,] m, k) or (k,), any strides.
        y : ([...,] k, n) or (k,), of one dtype with x; stacks broadcast.

        Returns
        -------
        ([...,] m, n) of that dtype, without the axes that vectors lack.

        Raises
        ------
        ValueError : the sizes do not match.
        """
        known = _TYPES.get(x.dtype)
        if self._library is None or known is None or x.dtype != y.dtype:
            return self._theirs(x, y)
        if x.ndim == y.ndim == 2:
            return self._stacked(x, y, (), known)
        if y.ndim == 1:
            return self.matmul(x, y[:, None])[..., 0]
        if x.ndim == 1:
            return self.matmul(x[None], y)[..., 0, :]
        if x.ndim > 2 and y.ndim == 2:  # one product of more rows
            flat = self.matmul(x.reshape(prod(x.shape[:-1]), x.shape[-1]), y)
            return flat.reshape(*x.shape[:-1], y.shape[-1])
        return self._stacked(x, y, np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), known)

    def _theirs(self, x: Array, y: Array) -> Array:
        """Return what CuPy computes; it knows no stacks of bfloat16."""
        if x.ndim > 2 and y.ndim == 2:
            flat = self._theirs(x.reshape(prod(x.shape[:-1]), x.shape[-1]), y)
            return flat.reshape(*x.shape[:-1], y.shape[-1])
        dtype = x.dtype
        if dtype == dtypes.bfloat16 and max(x.ndim, y.ndim) > 2:
            x, y = x.astype(np.float32), y.astype(np.float32)
        return self._cp.matmul(x, y).astype(dtype, copy=False)

    def _stacked(
        self, x: Array, y: Array, stack: tuple[int, ...], known: tuple[int, int, type]
    ) -> Array:
        """Return the products of matrices side by side in ``stack``."""
        cp = self._cp
        (m, k), (others, n) = x.shape[-2:], y.shape[-2:]
        if k != others:
            raise ValueError(f"matmul: {k} columns of {x.shape}, and {others} rows of {y.shape}.")
        result = cp.ndarray((*stack, m, n), x.dtype)
        count = prod(stack)
        if not (count and m and n):
            return result
        if not k:
            result[...] = 0
            return result
        x, is_turned_x, row_x, step_x = _laid_out(cp, x, stack)
        y, is_turned_y, row_y, step_y = _laid_out(cp, y, stack)
        if max(m, n, k, row_x, row_y, count) > _MOST:
            return self._theirs(x, y)
        kind, compute, scalar = known
        one, zero = _scalars(scalar)
        cuda, library = cp.cuda, self._library
        handle = cuda.device.get_cublas_handle()
        workspace = cuda.alloc(_WORKSPACE)  # whoever takes it next comes later in the stream
        status = (
            library.cublasSetStream_v2(handle, cuda.get_current_stream().ptr)
            or library.cublasSetWorkspace_v2(handle, workspace.ptr, _WORKSPACE)
            or library.cublasGemmStridedBatchedEx(
                *(handle, is_turned_y, is_turned_x, n, m, k),
                *(one, y.data.ptr, kind, row_y, step_y),
                *(x.data.ptr, kind, row_x, step_x),
                *(zero, result.data.ptr, kind, n, m * n, count, compute, _ANY_ALGORITHM),
            )
        )
        if status:
            raise BackendError(f"cuBLAS: CUBLAS_STATUS_{_STATUS.get(status, status)}")
        return result


def _laid_out(cp: Any, x: Array, stack: tuple[int, ...]) -> tuple[Array, bool, int, int]:
    """Return an operand as cuBLAS takes it, a copy if it must be.

    Returns
    -------
    The array; whether its matrices lie transposed; entries from row to row, or from column to
    column if so; entries from matrix to matrix.
    """
    size = x.itemsize
    rows, columns = x.shape[-2:]
    down, across = x.strides[-2:]
    step = _step(x, stack) if stack else 0
    if step is not None:
        if (across == size or columns == 1) and (down >= columns * size or rows == 1):
            return x, False, down // size if rows > 1 else columns, step
        if (down == size or rows == 1) and (across >= rows * size or columns == 1):
            return x, True, across // size if columns > 1 else rows, step
    x = cp.ascontiguousarray(cp.broadcast_to(x, (*stack, rows, columns)) if stack else x)
    return x, False, columns, rows * columns


def _step(x: Array, stack: tuple[int, ...]) -> int | None:
    """Return entries from matrix to matrix of a stack; None if they are not equally far apart."""
    own = (1,) * (len(stack) - x.ndim + 2) + x.shape[:-2]
    strides = (0,) * (len(stack) - x.ndim + 2) + x.strides[:-2]
    step: int | None = None
    reach = 0  # from the first matrix to the one behind the last, as far as is known
    for n, entries, stride in zip(stack[::-1], own[::-1], strides[::-1], strict=True):
        if n == 1:
            continue
        apart = stride if entries > 1 else 0
        if step is None:
            step = apart
        elif apart != reach:
            return None
        reach = n * apart
    return 0 if step is None else step // x.dtype.itemsize


@cache
def _scalars(kind: type) -> tuple[Any, Any]:
    """Return addresses of one and of zero."""
    kept: np.ndarray[Any, Any] = np.array([1, 0], kind)
    _kept.append(kept)
    return tuple(ctypes.c_void_p(kept[i:].ctypes.data) for i in range(2))  # type: ignore[return-value]


_kept: list[Any] = []  # what addresses are of


@cache
def _loaded(cp: Any) -> Any:
    """Return the library that CuPy has loaded, None if it is not found."""
    if not isinstance(cp, ModuleType) or cp.cuda.runtime.is_hip:
        return None
    version = cp.cuda.runtime.runtimeGetVersion() // 1000
    for name in (f"libcublas.so.{version}", f"cublas64_{version}.dll"):
        try:
            return _declared(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
    return None


def _declared(library: Any) -> Any:
    """Say what its functions take."""
    integer, long, address = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
    library.cublasSetStream_v2.argtypes = [address, address]
    library.cublasSetWorkspace_v2.argtypes = [address, address, ctypes.c_size_t]
    library.cublasGemmStridedBatchedEx.argtypes = [
        *(address, integer, integer, integer, integer, integer),  # handle, turned, sizes
        *(address, address, integer, integer, long),  # alpha, A
        *(address, integer, integer, long),  # B
        *(address, address, integer, integer, long),  # beta, C
        *(integer, integer, integer),  # count, how
    ]
    return library
