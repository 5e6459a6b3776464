"""Activations and gates on the device, by activation.wgsl, and the products of the chain rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels import maps
from helixml.backends.wgpu.kernels.rows import Family
from helixml.backends.wgpu.runtime import Runtime

# The chain rule's products: 0 where x is 0, even if y is not finite, or 0 or nan.
PRODUCTS = {
    "chain": "select(x * y, 0.0, magnitude(x) == 0u && !is_finite(y))",
    "quotient": (
        "select(divide_(x, y), 0.0, magnitude(x) == 0u && (magnitude(y) == 0u || is_nan(y)))"
    ),
}
FUNCTIONS = {"silu": 0, "gelu": 1, "softplus": 2, "relu": 3}  # as in activation.wgsl


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels."""
    maps = Activation(runtime)
    pairs = {name: maps.activation(name) for name in ("silu", "gelu", "softplus")}
    pairs |= {f"{name}_gate": maps.gate(name) for name in ("silu", "gelu")}
    found = [
        Kernel(name + ending, function, ("float32",))
        for name, pair in pairs.items()
        for ending, function in zip(("", "_vjp"), pair, strict=True)
    ]
    return found + [Kernel(name, product(runtime, name), ("float32",)) for name in PRODUCTS]


def product(runtime: Runtime, name: str) -> Callable[..., Any]:
    """Return the kernel of one of `PRODUCTS`; views are read as they lie."""

    def forward(x: WgpuArray, y: WgpuArray) -> tuple[tuple[WgpuArray], tuple[()]]:
        shape = maps.broadcast(name, x.shape, y.shape)
        return (maps.map_views(runtime, PRODUCTS[name], [x, y], shape, x.dtype),), ()

    return forward


class Activation(Family):
    """The kernels of activation.wgsl."""

    file = "activation.wgsl"

    def activation(self, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the kernels of a function of x alone."""

        def forward(x: WgpuArray) -> tuple[tuple[WgpuArray, ...], tuple[()]]:
            return self._run("activate", name, 1, x), ()

        def backward(
            cotangents: Sequence[WgpuArray],
            needs: Sequence[bool],
            inputs: Sequence[WgpuArray],
            residuals: Sequence[WgpuArray],
        ) -> tuple[WgpuArray | None, ...]:
            if not needs[0]:
                return (None,)
            return self._run("activate_vjp", name, 1, inputs[0], cotangents[0])

        return forward, backward

    def gate(self, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the kernels of x times a function of the gate, of one shape."""

        def forward(x: WgpuArray, gate: WgpuArray) -> tuple[tuple[WgpuArray, ...], tuple[()]]:
            return self._run("gate", name, 1, x, gate), ()

        def backward(
            cotangents: Sequence[WgpuArray],
            needs: Sequence[bool],
            inputs: Sequence[WgpuArray],
            residuals: Sequence[WgpuArray],
        ) -> tuple[WgpuArray | None, ...]:
            dx, dgate = self._run("gate_vjp", name, 2, *inputs, cotangents[0])
            return dx if needs[0] else None, dgate if needs[1] else None

        return forward, backward

    def _run(
        self, entry: str, name: str, outputs: int, *arrays: WgpuArray
    ) -> tuple[WgpuArray, ...]:
        """Return new arrays that a kernel writes, of the shape of the arrays that it reads."""
        given = [self.dense(x) for x in arrays]
        results = tuple(self.empty_like(given[0]) for _ in range(outputs))
        size = given[0].size
        function = FUNCTIONS[name]
        self.each(entry, [*given, *results], {"size": size}, size, constants={"FUNCTION": function})
        return results
