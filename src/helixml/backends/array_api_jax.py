"""JAX as a backend: its CPU, GPU and TPU devices, by the same code.

``jax.numpy`` has the standard's names; here stands what the standard lacks or JAX does better.
``jax:tpu:1`` is JAX's second TPU, and ``jax`` its default device.

- JAX makes 32-bit numbers of 64-bit ones unless it is told otherwise. Every function of the backend
  tells it so, for the time of the call and its own thread: other users of JAX in the same process
  notice nothing.
- JAX compiles each function anew for each shape, which takes tens of milliseconds: small arrays are
  made on the host instead, and what takes several functions is compiled as one.
- What adds at indices must add in one order. On CPUs and TPUs XLA does; elsewhere `base`
  sorts the indices.
- JAX takes 75 % of a GPU's memory when it starts, and to list devices starts it. So it is told to
  ask for memory as it needs it, ``XLA_PYTHON_CLIENT_PREALLOCATE=false``, unless the environment
  already says something of that, or JAX has started before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial, wraps
from inspect import signature
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from helixml import dtypes
from helixml.backends.array_api import ArrayApiBackend, forward, no_such_place
from helixml.backends.base import LOW, M0, M1, W0, W1, Entry, explicit
from helixml.backends.failures import no_memory, translated
from helixml.backends.protocol import Array, ComputeBackend
from helixml.device import Device
from helixml.dtypes import DType
from helixml.shapes import Shape

__all__ = ["JaxBackend", "create"]

_SMALL = 2**16  # elements; their way from the host is shorter than to compile for a new shape
_MEMORY = re.compile(r"out of memory\b.*", re.IGNORECASE)  # how XLA says it
# Functions of the backend that take several of JAX's, compiled as one for each shape and option.
_COMPILED = (
    *("sigmoid", "erf", "floor_divide", "remainder", "sum", "prod", "cumulative_sum", "any", "all"),
    *("matmul", "stack", "unfold", "linear_scan", "fft", "ifft", "rfft", "irfft"),
)


# By which a user says how much of a GPU's memory JAX takes ("GPU memory allocation" in its docs).
_SAID = (
    *("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_CLIENT_MEM_FRACTION"),
    *("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_ALLOCATOR"),
)


def create(device: Device) -> JaxBackend:
    """Return the backend of a place of JAX.

    Raises
    ------
    DeviceError : JAX has no such place here.
    """
    if not any(name in os.environ for name in _SAID):
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    kind, _, number = device.index.partition(":")
    try:
        place = jax.devices(kind or None)[int(number or 0)]
    except (RuntimeError, IndexError) as error:
        found = {"cpu": len(jax.devices("cpu")), jax.default_backend(): jax.device_count()}
        places = [f"jax:{name}:{n}" for name, count in found.items() for n in range(count)]
        raise no_such_place(device, "JAX", str(error), places) from error
    return JaxBackend(device, place)


class JaxBackend(ArrayApiBackend):
    """JAX's arrays in, its arrays out.

    Parameters
    ----------
    device : what helixml calls the place.
    place : what JAX calls it.
    """

    _candidates = dtypes.ALL

    def __init__(self, device: Device, place: Any) -> None:  # Any: a jax.Device, if it is installed
        with jax.enable_x64(True):
            super().__init__(jnp, device, place)
        self.array_type = jax.Array
        for name in _COMPILED:
            parameters = signature(getattr(ComputeBackend, name)).parameters.values()
            options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
            setattr(self, name, jax.jit(getattr(self, name), static_argnames=options))
        self._wrap(_wide)
        self._wrap(lambda function: translated(function, self._explain))

    def _explain(self, error: Exception) -> Exception | None:
        """Return what JAX's error means; None if that is not known."""
        if not isinstance(error, jax.errors.JaxRuntimeError):
            return None
        found = _MEMORY.search(str(error))
        return None if found is None else no_memory(self.device, found.group().rstrip("."))

    # Making, moving, asking

    def asarray(self, value: Any, /, *, dtype: DType | None = None) -> Array:
        """Return ``value`` as an array of its own, on this device."""
        if isinstance(value, jax.Array):
            value = jax.device_put(value, self._place)
            return value if dtype is None else self.astype(value, dtype)
        host = np.array(value, dtype=dtype)
        self._dtype(host.dtype)
        return jax.device_put(host, self._place)

    def to_numpy(self, x: Array, /) -> Any:
        """Return ``x`` as a NumPy array."""
        return np.asarray(x)

    def memory(self) -> dict[str, int]:
        """Return what JAX knows of its device."""
        found = self._place.memory_stats() or {}
        names = {"in_use": "bytes_in_use", "peak": "peak_bytes_in_use"}
        return {ours: found[theirs] for ours, theirs in names.items() if theirs in found}

    def synchronize(self) -> None:
        """Wait for all arrays there are."""
        jax.block_until_ready(jax.live_arrays())

    # Creation

    def zeros(self, shape: Shape, /, *, dtype: DType) -> Array:
        """Return zeros."""
        return self.full(shape, 0, dtype=dtype)

    def ones(self, shape: Shape, /, *, dtype: DType) -> Array:
        """Return ones."""
        return self.full(shape, 1, dtype=dtype)

    def full(self, shape: Shape, value: Any, /, *, dtype: DType) -> Array:
        """Return ``value`` everywhere."""
        theirs = self._dtype(dtype)
        _check_size(shape)
        if prod(shape) <= _SMALL:
            return jax.device_put(np.full(shape, value, dtype), self._place)
        return jnp.full(shape, value, theirs, device=self._place)

    def eye(self, rows: int, columns: int, /, *, k: int = 0, dtype: DType) -> Array:
        """Return ones on diagonal ``k``."""
        self._dtype(dtype)
        return self.asarray(np.eye(rows, columns, k, dtype))

    def arange(self, start: Any, stop: Any, step: Any, /, *, dtype: DType) -> Array:
        """Return evenly spaced values."""
        self._dtype(dtype)
        return self.asarray(np.arange(start, stop, step, dtype=dtype))

    # Elementwise

    def sigmoid(self, x: Array, /) -> Array:
        """Return 1 / (1 + exp(-x))."""
        return super().sigmoid(x) if jnp.iscomplexobj(x) else jax.nn.sigmoid(x)

    def erf(self, x: Array, /) -> Array:
        """Return the error function."""
        return jax.scipy.special.erf(x)

    def floor_divide(self, x: Array, y: Array, /) -> Array:
        """Return the quotient rounded down; 0, as NumPy's, where an integer is divided by 0."""
        return _over(self._of_numbers("floor_divide"), x, y)

    def remainder(self, x: Array, y: Array, /) -> Array:
        """Return what `floor_divide` leaves; 0, as NumPy's, where an integer is divided by 0."""
        return _over(self._of_numbers("remainder"), x, y)

    def matmul(self, x: Array, y: Array, /) -> Array:
        """Return the product; 16-bit floats add up in float32."""
        wide = dtypes.accumulation(self.dtype_of(x))
        found = jnp.matmul(x, y, preferred_element_type=wide, precision="highest")
        return found.astype(x.dtype)

    # Indexing

    def broadcast_to(self, x: Array, shape: Shape, /) -> Array:
        """Return ``x`` repeated."""
        _check_size(shape)
        return jnp.broadcast_to(x, shape)

    def getitem(self, x: Array, index: tuple[Any, ...], /) -> Array:
        """Return ``x[index]``."""
        return _part(x, entries=tuple(explicit(index, x.shape)))

    def place(self, x: Array, shape: Shape, index: tuple[Any, ...], /) -> Array:
        """Return zeros with ``x`` written at ``index``."""
        return _placed(x, shape=shape, entries=tuple(explicit(index, shape)))

    def take(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        """Return entries along ``axis``."""
        if not isinstance(indices, jax.core.Tracer):  # compiled functions make their own
            self._check_positions(indices, x.shape[axis])
        return _taken(x, _from_front(indices, x.shape[axis]), axis=axis)

    def scatter_add(self, x: Array, indices: Array, /, *, axis: int, size: int) -> Array:
        """Return zeros with ``x`` added at ``indices``, in the order of their positions."""
        if self._place.platform not in ("cpu", "tpu"):
            return super().scatter_add(x, indices, axis=axis, size=size)
        _check_size((*x.shape[:axis], size, *x.shape[axis + indices.ndim :]))
        return _scattered(x, _from_front(indices, size), axis=axis, size=size)

    def take_along_axis(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        """Return entries along ``axis``."""
        return _taken_along(x, _from_front(indices, x.shape[axis]), axis=axis)

    # Scans

    def linear_scan(self, a: Array, b: Array, initial: Array | None, /, *, reverse: bool) -> Array:
        """Return h_t = a_t h_(t-1) + b_t along the last axis, step by step."""
        if b.shape[-1] == 0:
            return b
        wide = dtypes.accumulation(b.dtype)
        start = None if initial is None else initial.astype(wide)
        return _scanned(a.astype(wide), b.astype(wide), start, reverse=reverse).astype(b.dtype)

    # Random bits

    def _philox_piece(self, key: tuple[int, int], counter: int, count: int) -> Array:
        parts = counter & (2**64 - 1), counter >> 64 & LOW, counter >> 96, *key
        return _philox(self.asarray(np.array(parts, np.uint64)), count=count)

    # Linear algebra

    def solve_triangular(self, x: Array, y: Array, /, *, upper: bool, unit_diagonal: bool) -> Array:
        """Return the solutions of x z = y for one triangle of x."""
        if not unit_diagonal:
            self._check_diagonal(x)
        return jax.scipy.linalg.solve_triangular(x, y, lower=not upper, unit_diagonal=unit_diagonal)


def _over(divide: Callable[..., Array], x: Array, y: Array) -> Array:
    if dtypes.kind(y.dtype) == "f":
        return divide(x, y)
    zero = y == 0
    return jnp.where(zero, 0, divide(x, jnp.where(zero, 1, y)))


def _check_size(shape: Shape) -> None:
    """Raise where there are more bytes than 64 bits count: XLA would end the process."""
    if prod(shape) >= 2**59:  # of 16 bytes each
        raise ValueError("array is too big")


def _wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes with 64-bit numbers, whatever JAX is set to."""

    @wraps(function)
    def run(*operands: Any, **options: Any) -> Any:
        with jax.enable_x64(True):
            return function(*operands, **options)

    return run


@partial(jax.jit, static_argnames="entries")
def _part(x: Array, *, entries: tuple[Entry, ...]) -> Array:
    plain, backward = forward(entries)
    return jnp.flip(x[plain], backward)


@partial(jax.jit, static_argnames=("shape", "entries"))
def _placed(x: Array, *, shape: Shape, entries: tuple[Entry, ...]) -> Array:
    plain, backward = forward(entries)
    return jnp.zeros(shape, x.dtype).at[plain].set(jnp.flip(x, backward))


@jax.jit
def _from_front(indices: Array, size: int) -> Array:
    indices = indices.astype(jnp.int64)
    return jnp.where(indices < 0, indices + size, indices)


@partial(jax.jit, static_argnames="axis")
def _taken(x: Array, positions: Array, *, axis: int) -> Array:
    return jnp.take(x, positions, axis=axis, mode="clip")


@partial(jax.jit, static_argnames="axis")
def _taken_along(x: Array, positions: Array, *, axis: int) -> Array:
    return jnp.take_along_axis(x, positions, axis=axis, mode="clip")


@partial(jax.jit, static_argnames=("axis", "size"))
def _scattered(x: Array, positions: Array, *, axis: int, size: int) -> Array:
    wide = dtypes.accumulation(x.dtype)
    shape = (*x.shape[:axis], size, *x.shape[axis + positions.ndim :])
    before = (slice(None),) * axis
    total = jnp.zeros(shape, wide).at[(*before, positions)].add(x.astype(wide))
    return total.astype(x.dtype)


@partial(jax.jit, static_argnames="reverse")
def _scanned(a: Array, b: Array, initial: Array | None, *, reverse: bool) -> Array:
    def step(state: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        state = now[0] * state + now[1]
        return state, state

    a, b = jnp.broadcast_arrays(a, b)
    a, b = jnp.moveaxis(a, -1, 0), jnp.moveaxis(b, -1, 0)
    if initial is not None:
        return jnp.moveaxis(jax.lax.scan(step, initial, (a, b), reverse=reverse)[1], 0, -1)
    first, rest = (b[-1:], slice(0, -1)) if reverse else (b[:1], slice(1, None))
    states = jax.lax.scan(step, first[0], (a[rest], b[rest]), reverse=reverse)[1]
    states = jnp.concatenate((states, first) if reverse else (first, states))
    return jnp.moveaxis(states, 0, -1)


@partial(jax.jit, static_argnames="count")
def _philox(parts: Array, *, count: int) -> Array:
    """Return words in uint64, as `BackendBase` does; ``parts`` are the counter's and the key's."""
    first = parts[0] + jnp.arange(count, dtype=jnp.uint64)
    x0, x1 = first & LOW, first >> 32
    x2, x3 = (jnp.broadcast_to(part, first.shape) for part in parts[1:3])
    k0, k1 = parts[3:]
    for _ in range(10):
        p0, p1 = x0 * M0, x2 * M1
        x0, x2 = (p1 >> 32) ^ x1 ^ k0, (p0 >> 32) ^ x3 ^ k1
        x1, x3 = p1 & LOW, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return jnp.stack((x0, x1, x2, x3), 1).astype(jnp.uint32)
