"""Normalisation by root mean square, or by mean and variance, on the device; see norm.cu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.rows import Array, Plan, count_rows, dense, plan
from helixml.backends.cuda.launch import WARP, Program, multiprocessors
from helixml.backends.dispatch import Kernel
from helixml.dtypes import DType

_TEAMS = 2  # that add up gradients of the weight, on each multiprocessor


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels, for CuPy's module."""
    norm = Norm(cp)
    return [
        Kernel("rms_norm", norm.rms_norm, FLOATS, _has_columns),
        Kernel("rms_norm_vjp", norm.rms_norm_vjp, FLOATS, _has_columns),
        Kernel("layer_norm", norm.layer_norm, FLOATS, _has_columns),
        Kernel("layer_norm_vjp", norm.layer_norm_vjp, FLOATS, _has_columns),
    ]


def _has_columns(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    return bool(inputs[0].ndim > 0 and inputs[0].shape[-1] > 0)


class Norm:
    """The kernels of norm.cu."""

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "norm.cu")
        self._sums = Program(cp, "column_sums.cu")

    def rms_norm(
        self, x: Array, weight: Array, residual: Array | None = None, *, eps: float = 1e-6
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
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
        x, weight, residual = (dense(self._cp, a) for a in (x, weight, residual))
        y, total, scales = self._outputs(x, residual)
        way = plan(x.shape[-1], x.dtype.itemsize, x, weight, residual, total, y)
        given = [x, residual, weight, total, y, scales]
        self._launch("rms_norm", [*given, *_sizes(x), eps], x.dtype, way)
        outputs = (y,) if total is None else (y, total)
        return outputs, (scales, *outputs[1:])

    def layer_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        residual: Array | None = None,
        *,
        eps: float = 1e-5,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
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
        x, weight, bias, residual = (dense(self._cp, a) for a in (x, weight, bias, residual))
        y, total, scales = self._outputs(x, residual)
        means = self._cp.empty(scales.shape, scales.dtype)
        way = plan(x.shape[-1], x.dtype.itemsize, x, weight, bias, residual, total, y)
        given = [x, residual, weight, bias, total, y, means, scales]
        self._launch("layer_norm", [*given, *_sizes(x), eps], x.dtype, way)
        outputs = (y,) if total is None else (y, total)
        return outputs, (means, scales, *outputs[1:])

    def _outputs(self, x: Array, residual: Array | None) -> tuple[Array, Array | None, Array]:
        """Return room for y, for s if that is not x, and for the scales of the rows."""
        empty = self._cp.empty
        total = None if residual is None else empty(x.shape, x.dtype)
        return (
            empty(x.shape, x.dtype),
            total,
            empty((count_rows(x),), dtypes.accumulation(x.dtype)),
        )

    def _launch(self, name: str, arguments: list[Any], dtype: DType, way: Plan) -> None:
        grid = way.grid(arguments[-3])
        self._program.launch(
            name, arguments, dtype=dtype, grid=grid, block=way.block, constants=way.constants
        )

    def rms_norm_vjp(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        eps: float = 1e-6,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of x, weight and residual, None where not needed.

        Parameters
        ----------
        cotangents : of y and, with a residual, of s; either may be None.
        """
        x, weight, residual = inputs
        scale, *total = residuals
        s = total[0] if total else x
        ds, dweight, _ = self._backward("rms_norm_vjp", cotangents, s, weight, [scale], needs[1:2])
        return (
            ds if needs[0] else None,
            dweight,
            ds if needs[2] and residual is not None else None,
        )

    def layer_norm_vjp(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        eps: float = 1e-5,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of x, weight, bias and residual, None where not needed.

        Parameters
        ----------
        cotangents : of y and, with a residual, of s; either may be None.
        """
        x, weight, bias, residual = inputs
        mean, scale, *total = residuals
        s = total[0] if total else x
        ds, dweight, dbias = self._backward(
            "layer_norm_vjp", cotangents, s, weight, [mean, scale], needs[1:3]
        )
        return (
            ds if needs[0] else None,
            dweight,
            dbias if bias is not None else None,
            ds if needs[3] and residual is not None else None,
        )

    def _backward(
        self,
        name: str,
        cotangents: Sequence[Array | None],
        s: Array | None,
        weight: Array | None,
        statistics: list[Array],
        needs: Sequence[bool],
    ) -> tuple[Array, Array | None, Array | None]:
        """Return the gradients of s, and those of weight and bias if they are needed."""
        cp = self._cp
        s, weight = dense(cp, s), dense(cp, weight)
        assert s is not None and weight is not None
        g, g_total = (dense(cp, a) for a in (*cotangents, None)[:2])
        if g is None:
            g = cp.zeros(s.shape, s.dtype)
        rows, columns = _sizes(s)
        ds = cp.empty(s.shape, s.dtype)
        way = plan(columns, s.dtype.itemsize, s, weight, g, g_total, ds)
        grid = min(way.grid(rows), _TEAMS * multiprocessors(cp))
        teams = grid * way.teams
        room = cp.empty if way.is_kept else cp.zeros
        # One sum of a team each: of g n and, where a mean was taken away, of g
        parts = [room((teams, columns), dtypes.accumulation(s.dtype)) for _ in statistics]
        self._program.launch(
            name,
            [g, g_total, s, weight, *statistics, ds, *parts, rows, columns],
            dtype=s.dtype,
            grid=grid,
            block=way.block,
            constants=way.constants,
        )
        sums = [
            self._sum(part, s.dtype) if needed else None
            for part, needed in zip(parts, needs, strict=True)
        ]
        return ds, sums[0], sums[1] if len(sums) > 1 else None

    def _sum(self, parts: Array, dtype: DType) -> Array:
        """Return the sum over the first axis."""
        rows, columns = parts.shape
        y = self._cp.empty((columns,), dtype)
        self._sums.launch(
            "column_sums",
            [parts, y, rows, columns],
            dtype=dtype,
            grid=-(-columns // WARP),
            block=1024,
        )
        return y


def _sizes(x: Array) -> tuple[int, int]:
    return count_rows(x), x.shape[-1]
