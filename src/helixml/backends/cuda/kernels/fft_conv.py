"""The long convolution on a GPU; the kernels are in fft_conv.cu.

They transform in shared memory. What is too long for it goes through cuFFT, with the products
between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.parts import Array, Parts, power_of_two
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.launch import WARP, Program
from helixml.backends.dispatch import Kernel
from helixml.dtypes import DType

__all__ = ["FFTConv", "kernels", "takes_steps"]

_SHORTEST = 64  # of transforms
_SHARED = 48 << 10  # bytes that any block may have
# A thread keeps a part of a spectrum in registers; by bytes of a real number.
_LONGEST = {4: 1 << 14, 8: 1 << 12}


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels of the long convolution."""
    conv = FFTConv(cp)
    return [
        Kernel("fft_conv", conv.forward, FLOATS, takes_steps),
        Kernel("fft_conv_vjp", conv.backward, FLOATS, takes_steps),
    ]


def takes_steps(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is anything to compute."""
    return inputs[0] is not None and inputs[0].size > 0


class FFTConv:
    """The convolution and its gradient.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "fft_conv.cu")
        self._parts = Parts(cp)
        self._roots: dict[tuple[Any, ...], Array] = {}

    def forward(
        self, u: Array, k: Array, bias: Array | None = None, gate: Array | None = None
    ) -> tuple[tuple[Array], tuple[()]]:
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
        cp = self._cp
        u, bias, gate = (dense(cp, x) for x in (u, bias, gate))
        k = dense(cp, k.reshape(k.shape[-2:]))
        log = self._log(u, k)
        if log is None:
            return (self._long(u, k, bias, gate),), ()
        b, d, l = u.shape
        y = cp.empty(u.shape, u.dtype)
        roots, spectra = self._spectra(k, log)
        arrays = [u, spectra, bias, gate, roots, y]
        self._launch("conv", log, u.dtype, -(-b // 2) * d, [*arrays, b, d, l, len(k)])
        return (y,), ()

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
    ) -> tuple[Array | None, ...]:
        """Return the gradients of u, k, bias and gate."""
        cp = self._cp
        u, k, bias, gate = inputs
        (g,) = cotangents
        assert g is not None and u is not None and k is not None
        g, u, bias, gate = (dense(cp, x) for x in (g, u, bias, gate))
        shape = k.shape
        k = dense(cp, k.reshape(shape[-2:]))
        needs = [need and x is not None for need, x in zip(needs, inputs, strict=True)]
        log = self._log(u, k)
        if log is None:
            gu, gk, ggate = self._long_vjp(g, u, k, bias, gate, needs)
        else:
            gu, gk, ggate = self._short_vjp(g, u, k, bias, gate, needs, log)
        gbias = None
        if gk is not None:
            gbias = dense(cp, gk[:, 0]).astype(u.dtype) if needs[2] else None
            if len(k) < len(gk):
                gk = self._parts.total(gk, 0, u.dtype)
            gk = gk.reshape(shape).astype(u.dtype, copy=False) if needs[1] else None
        return gu if needs[0] else None, gk, gbias, ggate

    def _short_vjp(
        self,
        g: Array,
        u: Array,
        k: Array,
        bias: Array | None,
        gate: Array | None,
        needs: Sequence[bool],
        log: int,
    ) -> tuple[Array, Array | None, Array | None]:
        """Return the gradients of u, of each channel's filter, (d, m), and of the gate."""
        cp = self._cp
        (b, d, l), m, pairs = u.shape, k.shape[1], -(-u.shape[0] // 2)
        accum = dtypes.accumulation(u.dtype)
        gu = cp.empty(u.shape, u.dtype)
        gk = cp.empty((pairs, d, m), accum) if needs[1] or needs[2] else None
        ggate = cp.empty(u.shape, u.dtype) if needs[3] else None
        roots, spectra = self._spectra(k, log)
        arrays = [g, u, spectra, bias, gate, roots, gu, gk, ggate]
        self._launch("conv_vjp", log, u.dtype, pairs * d, [*arrays, b, d, l, m, len(k)])
        return gu, None if gk is None else self._parts.total(gk, 0, accum), ggate

    def _long(self, u: Array, k: Array, bias: Array | None, gate: Array | None) -> Array:
        """Return the convolution by cuFFT."""
        n, dtype = self._length(u, k), u.dtype
        wide = u.astype(dtypes.accumulation(dtype), copy=False)
        y = self._back(self._cp.fft.rfft(wide, n) * self._whole_spectra(k, bias, n), n, u)
        return (y if gate is None else y * gate).astype(dtype, copy=False)

    def _long_vjp(
        self,
        g: Array,
        u: Array,
        k: Array,
        bias: Array | None,
        gate: Array | None,
        needs: Sequence[bool],
    ) -> tuple[Array, Array | None, Array | None]:
        """Return the gradients of u, of each channel's filter, (d, m), and of the gate."""
        cp = self._cp
        n, dtype = self._length(u, k), u.dtype
        accum = dtypes.accumulation(dtype)
        spectra = self._whole_spectra(k, bias, n)
        wide, pulled = (x.astype(accum, copy=False) for x in (u, g))
        inputs = cp.fft.rfft(wide, n)
        ggate = None
        if needs[3]:
            ggate = (pulled * self._back(inputs * spectra, n, u)).astype(dtype, copy=False)
        gp = cp.fft.rfft(pulled if gate is None else pulled * gate, n)
        gu = self._back(gp * spectra.conj(), n, u).astype(dtype, copy=False)
        gk = None
        if needs[1] or needs[2]:
            both = (gp * inputs.conj()).sum(axis=0)
            gk = dense(cp, cp.fft.irfft(both, n)[:, : k.shape[1]].astype(accum, copy=False))
        return gu, gk, ggate

    def _whole_spectra(self, k: Array, bias: Array | None, n: int) -> Array:
        wide = dtypes.accumulation(k.dtype)
        spectra = self._cp.fft.rfft(k.astype(wide, copy=False), n)
        return spectra if bias is None else spectra + bias.astype(wide, copy=False)[:, None]

    def _back(self, spectra: Array, n: int, u: Array) -> Array:
        return dense(self._cp, self._cp.fft.irfft(spectra, n)[..., : u.shape[-1]])

    @staticmethod
    def _length(u: Array, k: Array) -> int:
        """Return how many numbers to transform, so that nothing wraps around."""
        return max(_SHORTEST, power_of_two(u.shape[-1] + k.shape[-1] - 1))

    def _log(self, u: Array, k: Array) -> int | None:
        """Return the logarithm of that number; None if a block has no room."""
        n = self._length(u, k)
        room = self._cp.cuda.Device().attributes.get("MaxSharedMemoryPerBlockOptin", _SHARED)
        if n > _LONGEST[dtypes.accumulation(u.dtype).itemsize] or _bytes(n, u.dtype) > room:
            return None
        return n.bit_length() - 1

    def _spectra(self, k: Array, log: int) -> tuple[Array, Array]:
        """Return roots of unity and the filters' spectra, in the kernels' order."""
        cp, accum = self._cp, dtypes.accumulation(k.dtype)
        key = (cp.cuda.Device().id, log, accum)
        roots = self._roots.get(key)
        if roots is None:
            turns = np.exp(-2j * np.pi * np.arange(1 << (log - 1)) / (1 << log))
            roots = self._roots[key] = cp.asarray(turns.view(np.float64).astype(accum))
        spectra = cp.empty((len(k), 2 << log), accum)
        self._launch("spectrum", log, k.dtype, len(k), [k, roots, spectra, k.shape[1]])
        return roots, spectra

    def _launch(self, name: str, log: int, dtype: DType, blocks: int, arguments: list[Any]) -> None:
        threads = max(WARP, min(256 if log < 14 else 512, 1 << (log - 3)))
        self._program.launch(
            name,
            arguments,
            dtype=dtype,
            grid=blocks,
            block=threads,
            shared=_bytes(1 << log, dtype),
            constants={"LOG": log, "THREADS": threads},
        )


def _bytes(n: int, dtype: DType) -> int:
    """Return the shared memory of a block, as `placed` fills it."""
    return (n + n // 16) * 2 * dtypes.accumulation(dtype).itemsize
