"""Activations and gates on the device; the functions are in map.cu."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.rows import Array, dense
from helixml.backends.cuda.launch import Program, stride_blocks
from helixml.backends.dispatch import Kernel

_BLOCK = 256


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels, for CuPy's module."""
    maps = Map(cp)
    found = []
    for name in ("silu", "gelu", "softplus"):
        forward, backward = maps.activation(name)
        found += [Kernel(name, forward, FLOATS), Kernel(f"{name}_vjp", backward, FLOATS)]
    for name in ("silu_gate", "gelu_gate"):
        forward, backward = maps.gate(name)
        found += [Kernel(name, forward, FLOATS), Kernel(f"{name}_vjp", backward, FLOATS)]
    return found


def functions(cp: Any) -> dict[str, Callable[..., Any]]:
    """Return functions of a backend by the protocol's names."""
    maps = Map(cp)
    return {"sigmoid": maps.function("sigmoid"), "erf": maps.function("error_function")}


class Map:
    """The kernels of map.cu."""

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "map.cu")

    def function(self, name: str) -> Callable[[Array], Array]:
        """Return a function of one array."""

        def values(x: Array) -> Array:
            (y,) = self._run(name, 1, x)
            return y

        return values

    def activation(self, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the kernels of a function of x alone."""

        def forward(x: Array) -> tuple[tuple[Array, ...], tuple[()]]:
            return self._run(name, 1, x), ()

        def backward(
            cotangents: Sequence[Array | None],
            needs: Sequence[bool],
            inputs: Sequence[Array | None],
            residuals: Sequence[Array],
        ) -> tuple[Array | None, ...]:
            return self._run(f"{name}_vjp", 1, inputs[0], cotangents[0]) if needs[0] else (None,)

        return forward, backward

    def gate(self, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the kernels of x times a function of the gate, of one shape."""

        def forward(x: Array, gate: Array) -> tuple[tuple[Array, ...], tuple[()]]:
            return self._run(name, 1, x, gate), ()

        def backward(
            cotangents: Sequence[Array | None],
            needs: Sequence[bool],
            inputs: Sequence[Array | None],
            residuals: Sequence[Array],
        ) -> tuple[Array | None, ...]:
            dx, dgate = self._run(f"{name}_vjp", 2, *inputs, cotangents[0])
            return dx if needs[0] else None, dgate if needs[1] else None

        return forward, backward

    def _run(self, name: str, outputs: int, *arrays: Array | None) -> tuple[Array, ...]:
        """Return new arrays that a kernel writes, of the shape of the arrays that it reads."""
        cp = self._cp
        given = [dense(cp, x) for x in arrays]
        first = given[0]
        assert first is not None
        results = tuple(cp.empty(first.shape, first.dtype) for _ in range(outputs))
        entries = 16 // first.dtype.itemsize
        self._program.launch(
            name,
            [*given, *results, first.size],
            dtype=first.dtype,
            grid=stride_blocks(cp, -(-first.size // entries), _BLOCK),
            block=_BLOCK,
        )
        return results
