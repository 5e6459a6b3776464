"""Activations, gates and the chain rule's products on raw arrays; the functions are in map.c."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import helixml.backends.cpu.kernels._elementwise as _elementwise
import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, share, table

# A kernel and its backward kernel.
Pair = tuple[Callable[..., Any], Callable[..., Any]]


def activation(name: str) -> Pair:
    """Return the kernels of a function of x alone, any shape and strides."""

    def dense(x: Array) -> Array:
        return values(np.require(x, requirements=["C", "A", "E"]))

    def both_dense(x: Array, g: Array) -> Array:
        return slopes(*(np.require(array, requirements=["C", "A", "E"]) for array in (x, g)))

    values = _elementwise.of_one(name, dense)
    slopes = _elementwise.of_two(f"{name}_pull", both_dense)

    def forward(x: Array) -> tuple[tuple[Array], tuple[()]]:
        return (values(x),), ()

    def backward(
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
    ) -> tuple[Array | None]:
        return (slopes(inputs[0], cotangents[0]) if needs[0] else None,)

    return forward, backward


def product(name: str) -> Callable[..., Any]:
    """Return the kernel of a function of two arrays whose shapes broadcast, any strides."""

    def by_rows(x: Array, y: Array) -> Array:
        if x.shape != y.shape:
            x, y = np.broadcast_arrays(x, y)
        out = empty(x.shape, x.dtype)
        _run(name, x, y, None, out, None)
        return out

    values = _elementwise.of_two(name, by_rows)

    def forward(x: Array, y: Array) -> tuple[tuple[Array], tuple[()]]:
        return (values(x, y),), ()

    return forward


def gate(name: str) -> Pair:
    """Return the kernels of x times a function of the gate, of one shape, any strides."""

    def backward(
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
    ) -> tuple[Array | None, Array | None]:
        (x, gate), (g,) = inputs, cotangents
        assert x is not None and gate is not None and g is not None
        dx, dgate = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
        _run(f"{name}_pull", x, gate, g, dx, dgate)
        return dx if needs[0] else None, dgate if needs[1] else None

    return product(name), backward


def _run(name: str, *arrays: Array | None) -> None:
    """Call a function of map.c: as one row if all arrays are contiguous, else row by row."""
    given = [x for x in arrays if x is not None]
    whole = all(x.flags.c_contiguous and x.flags.aligned for x in given)
    call = _kernels.Map(
        name,
        *(None if x is None else x.reshape(1, x.size) if whole else table(x) for x in arrays),
    )
    share(call.run, call.items, call.size)
