"""Compiled modules and their kernels: arguments are checked, then the scheduler runs them."""

from __future__ import annotations

import copy
import ctypes
import functools
import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.testing.cuemu import execution
from helixml.testing.cuemu.compiler import build
from helixml.testing.cuemu.errors import LaunchError, SourceError, kernel_error
from helixml.testing.cuemu.transform import kernel_names, rewrite

__all__ = ["Kernel", "Module", "Parameter", "Prepared", "Statistics", "launches"]

SHARED_LIMIT = 48 << 10  # bytes that a block has without asking for more
SHARED_MOST = 163 << 10  # and after: compute capability 8.0
THREADS_MOST = 1024

launches: Counter[str] = Counter()
"""How often each kernel was launched in this process, by name."""

_stacks_of: dict[str, int | None] = {}
_lock = threading.Lock()  # the scheduler knows one launch at a time


class _Launch(ctypes.Structure):
    """`cuemu::Launch` of include/cuemu_launch.h."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_bytes", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("order", ctypes.c_int),
        ("seconds", ctypes.c_double),
        ("stacks", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Statistics:
    """What the last launch took.

    Attributes
    ----------
    switches : turns that threads took because one waited.
    shared_bytes : the most shared memory that a block had.
    bytes_read, bytes_written : of global memory; 0 but under `cuemu.counting`.
    atomics : operations on global memory, whose bytes are in both of these.
    """

    switches: int
    shared_bytes: int
    bytes_read: int
    bytes_written: int
    atomics: int


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: a pointer to values of a kind, or a value.

    Attributes
    ----------
    kind : "float", "int", "uint", "bool", "half", "bfloat", "struct" or "void".
    bytes, alignment : of the value, or of what the pointer points to.
    """

    pointer: bool
    const: bool
    kind: str
    bytes: int
    alignment: int

    @functools.cached_property
    def dtypes(self) -> tuple[str, ...]:
        """The names of the dtypes that fit; none: any does."""
        if self.kind in ("void", "struct"):
            return ()
        if self.kind in ("half", "bfloat"):
            return ("float16" if self.kind == "half" else "bfloat16",)
        name = self.kind if self.kind == "bool" else f"{self.kind}{8 * self.bytes}"
        return (name, "bool") if name == "uint8" and self.pointer else (name,)

    def __str__(self) -> str:
        names = " or ".join(self.dtypes) or (
            "anything" if self.kind == "void" else f"structure of {self.bytes} bytes"
        )
        return (
            f"{'const ' if self.const and self.pointer else ''}{names}{'*' if self.pointer else ''}"
        )


@dataclass(frozen=True)
class Prepared:
    """A launch whose arguments are checked: how, six sizes, pointers, and what these point to."""

    how: execution.Execution
    sizes: tuple[int, ...]
    shared_mem: int
    pointers: ctypes.Array[ctypes.c_void_p]
    cells: Sequence[object]
    arguments: Sequence[object]


class Module:
    """A compiled source: its kernels by name.

    Parameters
    ----------
    code : CUDA C++, as it is given to NVRTC; its rules are in transform.py.
    options : of NVRTC.
    name_expressions : instances of templates, as ``"scan<float, 4>"``.

    Raises
    ------
    SourceError : the source breaks a rule, does not compile, or has no kernel.
    ConfigError : an option is unknown.
    MissingDependencyError : there is no g++.

    Examples
    --------
    >>> import numpy as np
    >>> double = Module('''extern "C" __global__ void twice(float* x) {
    ...     x[threadIdx.x] *= 2.0f;
    ... }''')["twice"]  # doctest: +SKIP
    >>> double((1,), (4,), (np.ones(4, np.float32),))  # doctest: +SKIP
    """

    def __init__(
        self, code: str, options: Sequence[str] = (), name_expressions: Sequence[str] | None = None
    ) -> None:
        rewrite(code)  # the rules first: a broken one may be why there is no kernel
        names = list(dict.fromkeys([*kernel_names(code), *(name_expressions or ())]))
        if not names:
            raise SourceError(
                "kernel source: it has no kernel. "
                'Hint: write extern "C" __global__ void NAME(, or give name_expressions.'
            )
        self._source = (code, tuple(options), names)
        self._libraries: dict[str, ctypes.CDLL] = {}
        self.kernels = {name: Kernel(self, name, i) for i, name in enumerate(names)}

    def library(self, sanitizer: str) -> ctypes.CDLL:
        """Return the compiled library, instrumented for a sanitizer or for "count"."""
        if sanitizer not in self._libraries:
            library = build(*self._source, sanitizer)
            library.cuemu_message.restype = ctypes.c_char_p
            library.cuemu_stacks.restype = ctypes.c_void_p
            self._libraries[sanitizer] = library
        return self._libraries[sanitizer]

    def __getitem__(self, name: str) -> Kernel:
        """Return a kernel; KeyError if there is none of the name."""
        return self.kernels[name]


class Kernel:
    """One kernel of a module.

    Attributes
    ----------
    name : or expression.
    parameters : what it takes.
    max_dynamic_shared_size_bytes : the most that a launch may ask for; can be set up to 163 KiB.
    statistics : of the last launch, or None.
    """

    def __init__(self, module: Module, name: str, number: int) -> None:
        self.name = name
        self._module, self._number = module, number
        text = ctypes.create_string_buffer(1 << 14)
        library = module.library(execution.current().sanitizer)
        getattr(library, f"cuemu_signature_{number}")(text)
        self.parameters = [_parameter(line) for line in text.value.decode().splitlines()]
        self.max_dynamic_shared_size_bytes = SHARED_LIMIT
        self.statistics: Statistics | None = None

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[np.ndarray | np.generic],
        shared_mem: int = 0,
    ) -> None:
        """Run the kernel; see `cuemu.order` and `cuemu.timeout`.

        Parameters
        ----------
        grid, block : one to three sizes each, x first.
        arguments : C-contiguous arrays for pointers, NumPy scalars for values; their dtypes must be
            the kernel's.
        shared_mem : bytes of dynamic shared memory.

        Raises
        ------
        LaunchError : grid, block or shared memory are beyond a device's, or empty.
        DTypeError, ShapeError, ValueRangeError : an argument does not fit its parameter.
        KernelError : by its subclasses, what the threads did wrong, with block, thread and line.
        """
        self.run(self.prepare(grid, block, arguments, shared_mem))

    def prepare(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[np.ndarray | np.generic],
        shared_mem: int = 0,
    ) -> Prepared:
        """Check a launch, and run nothing yet: parameters and errors as of a call."""
        sizes = (*self._sizes("grid", grid), *self._sizes("block", block))
        self._check_limits(sizes, shared_mem)
        return Prepared(
            execution.current(), sizes, shared_mem, *self._pointers(arguments), arguments
        )

    def run(self, prepared: Prepared) -> None:
        """Run what was prepared; raises KernelError by its subclasses."""
        how, sizes = prepared.how, prepared.sizes
        library = self._module.library(how.sanitizer)
        launch = _Launch(
            (ctypes.c_uint * 3)(*sizes[:3]),
            (ctypes.c_uint * 3)(*sizes[3:]),
            prepared.shared_mem,
            how.seed,
            how.order_number,
            how.seconds,
            _stacks(library, how.sanitizer),
        )
        run = getattr(library, f"cuemu_run_{self._number}")
        counts = (ctypes.c_uint64 * 5)()
        with _lock:
            number = run(prepared.pointers, ctypes.byref(launch))
            message = library.cuemu_message().decode()
            library.cuemu_statistics(counts)
            launches[self.name] += 1
        self.statistics = Statistics(*counts)
        if number:
            raise kernel_error(number, f"{self.name}, grid {sizes[:3]}, block {sizes[3:]}", message)

    def copy(self) -> Kernel:
        """Return the same kernel with limits and statistics of its own."""
        return copy.copy(self)

    def allow_shared(self, number: int) -> None:
        """Set `max_dynamic_shared_size_bytes`.

        Raises
        ------
        LaunchError : the device has less.
        """
        if not 0 <= number <= SHARED_MOST:
            raise LaunchError(
                f"{self.name}: max_dynamic_shared_size_bytes={number}. Hint: at most {SHARED_MOST}."
            )
        self.max_dynamic_shared_size_bytes = number

    def _sizes(self, what: str, given: Sequence[int]) -> tuple[int, ...]:
        if not isinstance(given, tuple) or not 1 <= len(given) <= 3:
            raise LaunchError(
                f"{self.name}: {what}={given!r}. Hint: a tuple of one to three numbers."
            )
        sizes = tuple(int(size) for size in given) + (1,) * (3 - len(given))
        if min(sizes) < 1:
            raise LaunchError(
                f"{self.name}: {what}={given} is empty. "
                "Hint: launch nothing where there is nothing to do; CuPy would take it for 1."
            )
        return sizes

    def _check_limits(self, sizes: tuple[int, ...], shared: int) -> None:
        _, y, z, *block = sizes
        if math.prod(block) > THREADS_MOST or block[2] > 64:
            raise LaunchError(
                f"{self.name}: a block of {tuple(block)} threads. "
                f"Hint: at most {THREADS_MOST} in all, and 64 along z."
            )
        if sizes[0] >= 1 << 31 or max(y, z) > 65535:
            raise LaunchError(
                f"{self.name}: a grid of {sizes[:3]} blocks. Hint: at most 65535 along y and z."
            )
        if shared < 0 or shared > self.max_dynamic_shared_size_bytes:
            raise LaunchError(
                f"{self.name}: shared_mem={shared} bytes, allowed are "
                f"{self.max_dynamic_shared_size_bytes}. Hint: set the kernel's "
                f"max_dynamic_shared_size_bytes first, to at most {SHARED_MOST}."
            )

    def _pointers(
        self, arguments: Sequence[np.ndarray | np.generic]
    ) -> tuple[ctypes.Array[ctypes.c_void_p], list[object]]:
        if len(arguments) != len(self.parameters):
            names = ", ".join(map(str, self.parameters))
            raise ShapeError(
                f"{self.name}: {len(arguments)} arguments for {len(self.parameters)} parameters. "
                f"Hint: it takes ({names})."
            )
        pointers = (ctypes.c_void_p * max(1, len(arguments)))()
        keep: list[object] = []
        for i, (parameter, argument) in enumerate(zip(self.parameters, arguments, strict=True)):
            where = f"{self.name}, argument {i}"
            if parameter.pointer:
                cell = _array_address(where, parameter, argument)
                keep.append(cell)
                pointers[i] = ctypes.addressof(cell)
            else:
                value = _value(where, parameter, argument)
                keep.append(value)
                pointers[i] = value.ctypes.data
        return pointers, keep


def _stacks(library: ctypes.CDLL, sanitizer: str) -> int | None:
    """Return the memory that threads' stacks lie in, one for all modules of a kind."""
    if sanitizer not in _stacks_of:
        _stacks_of[sanitizer] = library.cuemu_stacks()
    return _stacks_of[sanitizer]


@functools.cache
def _name(dtype: np.dtype) -> str:
    return dtype.name  # NumPy makes it anew each time


def _parameter(line: str) -> Parameter:
    form, access, kind, size, alignment = line.split()
    return Parameter(form == "pointer", access == "const", kind, int(size), int(alignment))


def _array_address(where: str, parameter: Parameter, x: object) -> ctypes.c_void_p:
    if isinstance(x, np.uint64) and x == 0:
        return ctypes.c_void_p(None)  # a null pointer, as CuPy takes it
    if not isinstance(x, np.ndarray):
        raise DTypeError(f"{where}: {type(x).__name__} for {parameter}. Hint: pass an array.")
    if parameter.dtypes and _name(x.dtype) not in parameter.dtypes:
        raise DTypeError(f"{where}: an array of {x.dtype} for {parameter}. Hint: astype() first.")
    if not x.flags.c_contiguous:
        raise ShapeError(
            f"{where}: the array is not C-contiguous: shape {x.shape}, strides {x.strides}. "
            "Hint: ascontiguousarray() first; a kernel sees a pointer alone."
        )
    if not parameter.const and not x.flags.writeable:
        raise ValueRangeError(
            f"{where}: a read-only array for {parameter}. Hint: declare it const."
        )
    if x.ctypes.data % min(16, parameter.alignment):
        raise ValueRangeError(
            f"{where}: address {x.ctypes.data:#x} for {parameter} is not aligned to "
            f"{parameter.alignment} bytes. Hint: start the view at a multiple of that."
        )
    return ctypes.c_void_p(x.ctypes.data)


def _value(where: str, parameter: Parameter, x: object) -> np.ndarray:
    if not isinstance(x, (np.generic, np.ndarray)) or np.ndim(x):
        names = " or ".join(parameter.dtypes) or "structured"
        raise DTypeError(
            f"{where}: a Python {type(x).__name__} for {parameter}. "
            f"Hint: a NumPy scalar says its size: numpy.{names}(...)."
        )
    value = np.array(x).reshape(1)
    fits = _name(value.dtype) in parameter.dtypes if parameter.dtypes else True
    if not fits or value.itemsize != parameter.bytes:
        raise DTypeError(f"{where}: a {value.dtype} for {parameter}. Hint: convert it.")
    return value
