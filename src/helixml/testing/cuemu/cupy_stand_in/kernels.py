"""CuPy's ways to run kernels: RawKernel and RawModule from source, ElementwiseKernel from a line.

All of them end in `launch`, which is where arrays of the device become NumPy's for the emulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # arguments of kernels, of any kind

import numpy as np

from helixml.testing.cuemu.cupy_stand_in.arrays import Array
from helixml.testing.cuemu.kernels import Kernel, Module

__all__ = ["RawKernel", "RawModule"]


class RawKernel:
    """A kernel from source; compiled when first needed."""

    _array_type: type[Array]

    def __init__(
        self,
        code: str,
        name: str,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        *,
        enable_cooperative_groups: bool = False,
        jitify: bool = False,
        translate_cucomplex: bool = False,
    ) -> None:
        _refuse(backend, enable_cooperative_groups, jitify, translate_cucomplex)
        self.name = self.__name__ = name
        self.code, self.options = code, _options(options)
        self._compiled: Kernel | None = None
        self._module: RawModule | None = None

    @property
    def kernel(self) -> Kernel:
        """The compiled kernel."""
        if self._compiled is None:
            self._compiled = Module(self.code, self.options)[self.name]
        return self._compiled

    def compile(self, log_stream: Any = None) -> None:
        """Compile it now."""
        assert self.kernel

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """The most dynamic shared memory that a launch may ask for."""
        return self.kernel.max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value: int) -> None:
        self.kernel.allow_shared(value)

    @property
    def max_threads_per_block(self) -> int:
        """Threads that a block may have."""
        return 1024

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: Any = None,
    ) -> None:
        """Launch it: arrays of the device for pointers, NumPy scalars for values."""
        kernel, arguments = self.kernel, [self._argument(x) for x in args]
        prepared = kernel.prepare(grid, block, arguments, shared_mem)
        record = self._array_type._record
        record.launches[self.name] += 1

        guards = [
            x._guard(f"{self.name}, argument {number}")
            for number, x in enumerate(args)
            if isinstance(x, Array)
        ]

        def run() -> None:
            kernel.run(prepared)
            for check in guards:
                check()
            if kernel.statistics:
                record.bytes_read[self.name] += kernel.statistics.bytes_read
                record.bytes_written[self.name] += kernel.statistics.bytes_written

        record.queues.submit(run, stream)

    def _argument(self, x: Any) -> Any:
        if isinstance(x, self._array_type):
            return x._raw
        if isinstance(x, np.ndarray):
            raise TypeError(
                f"{self.name}: You are trying to pass a numpy.ndarray of {x.shape} as a kernel "
                "parameter. Hint: cupy.asarray() copies it to the device."
            )
        return x


class RawModule:
    """Kernels from one source; compiled when first needed."""

    _kernel_type: type[RawKernel]

    def __init__(
        self,
        *,
        code: str | None = None,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Sequence[str] | None = None,
        jitify: bool = False,
    ) -> None:
        _refuse(backend, enable_cooperative_groups, jitify, translate_cucomplex)
        if code is None or path is not None:
            raise TypeError("the stand-in's RawModule takes code=, not path=")
        self.code, self.options = code, _options(options)
        self.name_expressions = tuple(name_expressions) if name_expressions is not None else None
        self._module: Module | None = None

    @property
    def module(self) -> Module:
        """The compiled module."""
        if self._module is None:
            self._module = Module(self.code, self.options, self.name_expressions)
        return self._module

    def compile(self, log_stream: Any = None) -> None:
        """Compile it now."""
        assert self.module

    def get_function(self, name: str) -> RawKernel:
        """Return the kernel of the name, or of one of the name expressions.

        Raises
        ------
        CUDADriverError : there is none.
        """
        if name not in self.module.kernels:
            raise CUDADriverError(
                f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name!r}; "
                f"there are {sorted(self.module.kernels)}"
            )
        kernel = self._kernel_type(self.code, name, self.options)
        kernel._compiled = self.module[name].copy()
        return kernel


class CUDADriverError(RuntimeError):
    """An error of the CUDA driver."""


def _options(options: Any) -> tuple[str, ...]:
    if not isinstance(options, tuple):
        raise TypeError(
            f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})"
        )
    return options


def _refuse(backend: str, *switches: bool) -> None:
    if backend != "nvrtc" or any(switches):
        raise ValueError("the stand-in's kernels take backend='nvrtc' and no switches")
