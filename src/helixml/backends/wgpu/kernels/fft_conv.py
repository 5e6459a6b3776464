"""The long convolution on the device, by transforms of fft.wgsl; the rest is in fft_conv.wgsl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml import dtypes
from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.fft import transform
from helixml.backends.wgpu.kernels.parts import Parts
from helixml.backends.wgpu.kernels.rows import THREADS, Family, power_of_two
from helixml.backends.wgpu.kernels.sequences import channels_first, steps_of
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["FFTConv", "kernels", "takes_steps"]


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels of the long convolution."""
    conv = FFTConv(runtime)
    return [
        Kernel("fft_conv", conv.forward, ("float32",), takes_steps),
        Kernel("fft_conv_vjp", conv.backward, ("float32",), takes_steps),
    ]


def takes_steps(inputs: Sequence[WgpuArray | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is anything to compute."""
    u, k, *_ = inputs
    return u is not None and u.size > 0 and k is not None and k.size > 0


class FFTConv(Family):
    """The convolution and its gradient."""

    file = "fft_conv.wgsl"

    def __init__(self, runtime: Runtime, threads: int = THREADS) -> None:
        super().__init__(runtime, threads)
        self._parts = Parts(runtime)

    def forward(
        self,
        u: WgpuArray,
        k: WgpuArray,
        bias: WgpuArray | None = None,
        gate: WgpuArray | None = None,
    ) -> tuple[tuple[WgpuArray], tuple[()]]:
        """Return the convolution of channels with filters, as `helixml.ops.fft_conv` explains it.

        Parameters
        ----------
        u, gate : (b, d, l), any strides; gate may be None.
        k : (d, m), (1, d, m) or (1, m).
        bias : (d,) or None.

        Returns
        -------
        outputs : y (b, d, l).
        residuals : none; spectra are computed again.
        """
        n = _length(u, k)
        filters = self._filters(u, k, bias, n)
        return (self._back(u, self._times(self._spectra(u, n), filters), gate),), ()

    def backward(
        self,
        cotangents: Sequence[WgpuArray],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray | None],
        residuals: Sequence[WgpuArray],
    ) -> tuple[WgpuArray | None, ...]:
        """Return the gradients of u, k, bias and gate."""
        u, k, bias, gate = inputs
        (g,) = cotangents
        assert u is not None and k is not None
        n, (_, d, _), taps = _length(u, k), u.shape, k.shape[-1]
        pulls = self._spectra(g, n, gate)
        gu = gk = gbias = ggate = None
        if needs[0] or needs[3]:
            filters = self._filters(u, k, bias, n)
        if needs[0]:
            gu = self._back(u, self._times(pulls, filters, is_conjugate=True), None)
        if needs[1] or needs[2] or needs[3]:
            spectra = self._spectra(u, n)
        if needs[1] or needs[2]:
            both = self._times(pulls, spectra, is_conjugate=True)
            flat = WgpuArray(both.storage, (both.shape[0], d, n, 2), dtypes.float32)
            total = self._parts.total(flat, 0)
            total = WgpuArray(total.storage, (d, n), dtypes.complex64)
            total = transform(self.runtime, total, -1, 1 / n)
            each = WgpuArray(total.storage, (d, taps), dtypes.float32, (2 * n, 2))  # real parts
            gbias = each.view((d,), (2 * n,))
            filters_of = k.shape[-2]
            if filters_of < d:
                each = self._parts.total(self.dense(each), 0)
            gk = each.view(k.shape, (0,) * (k.ndim - 2) + (each.strides[0], each.strides[-1]))
        if gate is not None and needs[3]:
            ggate = self._back(u, self._times(spectra, filters), g)
        return (
            gu,
            gk if needs[1] else None,
            gbias if needs[2] and bias is not None else None,
            ggate,
        )

    def _spectra(self, x: WgpuArray, n: int, gate: WgpuArray | None = None) -> WgpuArray:
        """Return the transforms of pairs of sequences, times a gate, (ceil(b / 2), d, n)."""
        b, d, _ = x.shape
        pairs = self.runtime.empty((-(-b // 2), d, n), dtypes.complex64)
        factors = x if gate is None else gate
        arrays = [x.storage, factors.storage, pairs]
        has = {"HAS_GATE": gate is not None}
        self.each("pair", arrays, _sizes(x, factors, n), pairs.size, constants=has)
        return transform(self.runtime, pairs, 1, 1.0)

    def _filters(self, u: WgpuArray, k: WgpuArray, bias: WgpuArray | None, n: int) -> WgpuArray:
        """Return the transforms of filters, with the bias, (d, n)."""
        k, bias, d = self.dense(k), self.dense(bias), u.shape[1]
        filters, taps = k.shape[-2:]
        long = self.runtime.empty((d, n), dtypes.complex64)
        sizes = {"d": d, "filters": filters, "taps": taps, "n": n}
        has = {"HAS_BIAS": bias is not None}
        self.each("lengthen", [k, bias or k, long], sizes, long.size, constants=has)
        return transform(self.runtime, long, 1, 1.0)

    def _times(self, left: WgpuArray, right: WgpuArray, *, is_conjugate: bool = False) -> WgpuArray:
        """Return left times right, or its conjugate; ``right`` may lack the first axis."""
        made = self.empty_like(left)
        sizes = {"size": left.size, "repeats": right.size}
        self.each(
            "multiply",
            [left, right, made],
            sizes,
            left.size,
            constants={"IS_CONJUGATE": is_conjugate},
        )
        return made

    def _back(self, u: WgpuArray, spectra: WgpuArray, gate: WgpuArray | None) -> WgpuArray:
        """Return the first steps of what has these spectra, times a gate, (b, d, l)."""
        b, d, l = u.shape
        n = spectra.shape[-1]
        pairs = transform(self.runtime, spectra, -1, 1 / n)
        y = self.runtime.empty((b, l, d), u.dtype)
        factors = u if gate is None else gate
        has = {"HAS_GATE": gate is not None}
        arrays = [factors.storage, pairs, y]
        self.each("unpair", arrays, _sizes(u, factors, n), y.size, constants=has)
        return channels_first(y)


def _sizes(x: WgpuArray, gate: WgpuArray, n: int) -> dict[str, Any]:
    b, d, l = x.shape
    steps = {"x_steps": steps_of(x), "gate_steps": steps_of(gate)}
    return {"b": b, "d": d, "l": l, "n": n, **steps}


def _length(u: WgpuArray, k: WgpuArray) -> int:
    """Return how many numbers to transform, so that nothing wraps around."""
    return power_of_two(u.shape[-1] + k.shape[-1] - 1)
