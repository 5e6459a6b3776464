"""Normalisation by root mean square, or by mean and variance, on the device; see norm.wgsl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.parts import Parts
from helixml.backends.wgpu.kernels.rows import MOST_COLUMNS, THREADS, Family, count_rows
from helixml.backends.wgpu.runtime import Runtime

_RUN = 32  # rows that a thread adds up, as in norm.wgsl


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels."""
    norm = Norm(runtime)
    return [
        Kernel(name, getattr(norm, name), ("float32",), has_columns)
        for name in ("rms_norm", "rms_norm_vjp", "layer_norm", "layer_norm_vjp")
    ]


def has_columns(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether rows have entries, and not too many for a team."""
    x = inputs[0]
    return bool(x.ndim > 0 and 0 < x.shape[-1] <= MOST_COLUMNS)


class Norm(Family):
    """The kernels of norm.wgsl."""

    file = "norm.wgsl"

    def __init__(self, runtime: Runtime, threads: int = THREADS) -> None:
        super().__init__(runtime, threads)
        self._parts = Parts(runtime)

    def rms_norm(
        self,
        x: WgpuArray,
        weight: WgpuArray,
        residual: WgpuArray | None = None,
        *,
        eps: float = 1e-6,
    ) -> tuple[tuple[WgpuArray, ...], tuple[WgpuArray, ...]]:
        """Return s / sqrt(mean(s**2) + eps) * weight over the last axis, where s = x + residual.

        Parameters
        ----------
        x, residual : (..., d); the residual may be None.
        weight : (d,).

        Returns
        -------
        outputs : y (..., d); with a residual also s (..., d).
        residuals : 1 / sqrt(mean(s**2) + eps), (rows,); s again.
        """
        outputs, _, scales = self._forward(x, weight, None, residual, eps, centred=False)
        return outputs, (scales, *outputs[1:])

    def layer_norm(
        self,
        x: WgpuArray,
        weight: WgpuArray,
        bias: WgpuArray | None = None,
        residual: WgpuArray | None = None,
        *,
        eps: float = 1e-5,
    ) -> tuple[tuple[WgpuArray, ...], tuple[WgpuArray, ...]]:
        """Return (s - mean(s)) / sqrt(var(s) + eps) * weight + bias over the last axis.

        Parameters
        ----------
        x, residual : (..., d); s is their sum, or x alone.
        weight, bias : (d,); the bias may be None.

        Returns
        -------
        outputs : y (..., d); with a residual also s (..., d).
        residuals : mean(s) and 1 / sqrt(var(s) + eps), (rows,); s again.
        """
        outputs, means, scales = self._forward(x, weight, bias, residual, eps, centred=True)
        return outputs, (means, scales, *outputs[1:])

    def _forward(
        self,
        x: WgpuArray,
        weight: WgpuArray,
        bias: WgpuArray | None,
        residual: WgpuArray | None,
        eps: float,
        *,
        centred: bool,
    ) -> tuple[tuple[WgpuArray, ...], WgpuArray, WgpuArray]:
        """Return the outputs, and the means and the scales of the rows."""
        x, weight, bias, residual = (self.dense(a) for a in (x, weight, bias, residual))
        rows, columns = count_rows(x), x.shape[-1]
        y = self.empty_like(x)
        total = None if residual is None else self.empty_like(x)
        means, scales = (self.runtime.empty((rows,), x.dtype) for _ in range(2))
        self.rows(
            "norm",
            [x, residual or x, weight, bias or x, total or x, y, means, scales],
            {"rows": rows, "columns": columns, "eps": eps},
            passes=5,
            constants={
                "CENTRED": centred,
                "HAS_BIAS": bias is not None,
                "HAS_RESIDUAL": residual is not None,
            },
        )
        return (y,) if total is None else (y, total), means, scales

    def rms_norm_vjp(
        self,
        cotangents: Sequence[WgpuArray | None],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray | None],
        residuals: Sequence[WgpuArray],
        *,
        eps: float = 1e-6,
    ) -> tuple[WgpuArray | None, ...]:
        """Return the gradients of x, weight and residual, None where not needed.

        Parameters
        ----------
        cotangents : of y and, with a residual, of s; either may be None.
        """
        x, weight, residual = inputs
        scales, *total = residuals
        s = total[0] if total else x
        statistics = scales, scales
        ds, dweight, _ = self._backward(
            cotangents, s, weight, statistics, [*needs[1:2], False], centred=False
        )
        return (
            ds if needs[0] else None,
            dweight,
            ds if needs[2] and residual is not None else None,
        )

    def layer_norm_vjp(
        self,
        cotangents: Sequence[WgpuArray | None],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray | None],
        residuals: Sequence[WgpuArray],
        *,
        eps: float = 1e-5,
    ) -> tuple[WgpuArray | None, ...]:
        """Return the gradients of x, weight, bias and residual, None where not needed.

        Parameters
        ----------
        cotangents : of y and, with a residual, of s; either may be None.
        """
        x, weight, bias, residual = inputs
        means, scales, *total = residuals
        s = total[0] if total else x
        wanted = [needs[1], needs[2] and bias is not None]
        ds, dweight, dbias = self._backward(
            cotangents, s, weight, (means, scales), wanted, centred=True
        )
        return (
            ds if needs[0] else None,
            dweight,
            dbias,
            ds if needs[3] and residual is not None else None,
        )

    def _backward(
        self,
        cotangents: Sequence[WgpuArray | None],
        s: WgpuArray | None,
        weight: WgpuArray | None,
        statistics: tuple[WgpuArray, WgpuArray],
        needs: Sequence[bool],
        *,
        centred: bool,
    ) -> tuple[WgpuArray, WgpuArray | None, WgpuArray | None]:
        """Return the gradients of s, and those of weight and bias if they are needed."""
        s, weight = self.dense(s), self.dense(weight)
        g, g_total = (self.dense(a) for a in (*cotangents, None)[:2])
        if g is None:
            g = self.runtime.from_numpy(np.zeros(s.shape, np.float32))
        rows, columns = count_rows(s), s.shape[-1]
        ds = self.empty_like(s)
        self.rows(
            "norm_vjp",
            [s, g, weight, g_total or s, ds, *statistics],
            {"rows": rows, "columns": columns, "eps": 0.0},
            passes=4,
            constants={"CENTRED": centred, "HAS_TOTAL": g_total is not None},
        )
        if not any(needs):
            return ds, None, None
        runs = max(1, -(-rows // _RUN))
        parts = [self.runtime.empty((runs, columns), s.dtype) for _ in range(2)]
        self.each(
            "norm_columns",
            [s, g, *parts, *statistics],
            {"rows": rows, "columns": columns, "eps": 0.0},
            runs * columns,
            trips=_RUN,
            constants={"CENTRED": centred, "HAS_BIAS": needs[1]},
        )
        dweight, dbias = (
            self._parts.total(part, 0) if needed else None
            for part, needed in zip(parts, needs, strict=True)
        )
        return ds, dweight, dbias
