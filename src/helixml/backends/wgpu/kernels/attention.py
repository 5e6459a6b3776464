"""Attention on the device; the kernels are in attention.wgsl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.rows import Family
from helixml.backends.wgpu.launch import MOST_TRIPS, Program
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["Attention", "kernels", "takes_heads"]

FEW_QUERIES = 4  # below, products of a few rows beat whole tiles
_THREADS = 64
_SIDES = (16, 8, 4, 2)
_SHARED = 16 << 10  # bytes of a workgroup


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels of attention."""
    attention = Attention(runtime)
    return [
        Kernel("attention", attention.forward, ("float32",), takes_heads),
        Kernel("attention_vjp", attention.backward, ("float32",), takes_heads),
    ]


def takes_heads(inputs: Sequence[WgpuArray | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is neither mask nor factors, and tiles of these rows can be walked.

    Sequences must not be so long that loops would end before them.
    """
    q, k, v, mask, factors = inputs
    assert q is not None and k is not None and v is not None
    return (
        mask is None
        and factors is None
        and q.shape[:-3] == k.shape[:-3]
        and _heads(q) % max(1, _heads(k)) == 0
        and q.shape[-2] >= FEW_QUERIES
        and q.size > 0
        and v.size > 0
        and _side(q, v) is not None
        and _trips(q, k, v, _THREADS) <= MOST_TRIPS
    )


class Attention(Family):
    """Attention and its gradient."""

    file = "attention.wgsl"

    def __init__(self, runtime: Runtime, threads: int = _THREADS) -> None:
        super().__init__(runtime, threads)

    def forward(
        self,
        q: WgpuArray,
        k: WgpuArray,
        v: WgpuArray,
        mask: None = None,
        factors: None = None,
        *,
        causal: bool = False,
        window: int | None = None,
        scale: float | None = None,
        offset: int = 0,
    ) -> tuple[tuple[WgpuArray], tuple[WgpuArray, WgpuArray]]:
        """Return means of values, as `helixml.attention` explains them.

        Parameters
        ----------
        q : (..., h, l, d), k : (..., g, m, d), v : (..., g, m, e); any strides.

        Returns
        -------
        outputs : y (..., h, l, e).
        residuals : y again; the logarithms of the sums that weights were divided by.
        """
        sizes = _sizes(q, k, causal, window, scale, offset)
        depth = v.shape[-1]
        q, k, v = (self._filled(x) for x in (q, k, v))
        y = self.runtime.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
        logarithms = self.runtime.empty(q.shape[:-1], q.dtype)
        self._launch("attention", [q, k, v, logarithms, y], q, k, v, sizes)
        y = _cut(y, depth)
        return (y,), (y, logarithms)

    def backward(
        self,
        cotangents: Sequence[WgpuArray],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray | None],
        residuals: Sequence[WgpuArray],
        *,
        causal: bool = False,
        window: int | None = None,
        scale: float | None = None,
        offset: int = 0,
    ) -> tuple[WgpuArray | None, ...]:
        """Return the gradients of q, k and v."""
        q, k, v, *_ = inputs
        assert q is not None and k is not None and v is not None
        sizes = _sizes(q, k, causal, window, scale, offset)
        ends = q.shape[-1], k.shape[-1], v.shape[-1]
        g, q, k, v = (self._filled(x) for x in (cotangents[0], q, k, v))
        y, logarithms = self._filled(residuals[0]), residuals[1]
        means = self.empty_like(logarithms)
        depth = v.shape[-1] // 4
        arrays = [means, g, y]
        self.each(
            "pulled_means", arrays, sizes, means.size, trips=depth, constants={"DEPTH": depth}
        )
        gq = gk = gv = None
        given = [q, k, v, logarithms, means, g]
        if needs[0]:
            gq = self.empty_like(q)
            self._launch("pull_queries", [*given, gq], q, k, v, sizes)
        if needs[1] or needs[2]:
            gk, gv = self.empty_like(k), self.empty_like(v)
            self._launch("pull_keys", [*given, gk, gv], q, k, v, sizes)
        found = zip((gq, gk, gv), ends, needs, strict=False)
        return *(_cut(x, end) if x and need else None for x, end, need in found), None, None

    def _filled(self, x: WgpuArray) -> WgpuArray:
        """Return rows of whole vectors of four numbers, with zeros at their ends."""
        x = self.dense(x)
        width = x.shape[-1]
        vectors = -(-width // 4)
        if width == 4 * vectors:
            return x
        made = self.runtime.empty((*x.shape[:-1], 4 * vectors), x.dtype)
        sizes = {"rows": math.prod(x.shape[:-1]), "width": width}
        self.each("fill", [x, made], sizes, made.size, constants={"WIDTH": vectors})
        return made

    def _launch(
        self,
        entry: str,
        arrays: list[WgpuArray],
        q: WgpuArray,
        k: WgpuArray,
        v: WgpuArray,
        sizes: Mapping[str, Any],
    ) -> None:
        side = _side(q, v)
        assert side is not None  # takes_heads has seen to it
        walked = k if entry == "pull_keys" else q
        width, depth = q.shape[-1] // 4, v.shape[-1] // 4
        Program.of(self.runtime, self.file).launch(
            entry,
            arrays,
            sizes,
            groups=math.prod(walked.shape[:-2]) * -(-walked.shape[-2] // side),
            trips=_trips(q, k, v, self.threads),
            constants={
                **{"THREADS": self.threads, "SIDE": side, "WIDTH": width, "DEPTH": depth},
                "LONGEST": max(width, depth),
            },
        )


def _cut(x: WgpuArray, end: int) -> WgpuArray:
    """Return the first entries of rows; ``x`` itself if there are no more."""
    if x.shape[-1] == end:
        return x
    return x.view((*x.shape[:-1], end), x.strides)


def _heads(x: WgpuArray) -> int:
    return x.shape[-3] if x.ndim > 2 else 1


def _sizes(
    q: WgpuArray,
    k: WgpuArray,
    causal: bool,
    window: int | None,
    scale: float | None,
    offset: int,
) -> dict[str, Any]:
    """Return the uniforms; a band of keys is cut to where keys begin and end."""
    (l, d), m = q.shape[-2:], k.shape[-2]
    far = l + m
    first = -far if window is None else offset - window + 1
    last = offset if causal else far if window is None else offset + window - 1
    return {
        "lines": math.prod(q.shape[:-2]),
        **{"l": l, "m": m, "share": _heads(q) // _heads(k)},
        "first": max(-far, min(first, far)),
        "last": max(-far, min(last, far)),
        "scale": 1 / math.sqrt(d) if scale is None else scale,
    }


def _side(q: WgpuArray, v: WgpuArray) -> int | None:
    """Return how many queries and keys a workgroup takes at a time; None: there is no room."""
    width, depth = (-(-x.shape[-1] // 4) * 4 for x in (q, v))
    numbers = 3 * width + 3 * depth  # of a query and a key, as pull_keys has them
    return next((n for n in _SIDES if 4 * n * (numbers + 2 * n) <= _SHARED), None)


def _trips(q: WgpuArray, k: WgpuArray, v: WgpuArray, threads: int) -> int:
    """Return a bound of what an invocation iterates: tiles, and the loops in one."""
    side = _side(q, v)
    assert side is not None
    width, depth = (-(-x.shape[-1] // 4) for x in (q, v))

    def turns(count: int) -> int:
        return -(-count // threads)

    rows, columns = turns(side * width), turns(side * depth)
    reading = 2 * (rows + columns)
    pairs = 2 * turns(side * side) * (2 + width + depth)
    sums = 2 * turns(side) * (1 + side) + (rows + columns) * (1 + side)
    tiles = max(-(-k.shape[-2] // side), _heads(q) // _heads(k) * -(-q.shape[-2] // side)) + 2
    return tiles * (1 + reading + pairs + sums)
