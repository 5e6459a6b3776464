"""Cross entropy of class indices on the device; see cross_entropy.cu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.rows import Array, dense, plan
from helixml.backends.cuda.launch import Program, stride_blocks
from helixml.backends.cuda.mirrors import Mirrors
from helixml.backends.dispatch import Kernel, Prepared

_BLOCK = 256
_EACH = 4  # entries that a thread scales, where it has read by what


def kernels(cp: Any, mirrors: Mirrors) -> list[Kernel]:
    """Return the kernels, for CuPy's module; targets are checked by what is known of them."""
    loss = CrossEntropy(cp, mirrors)
    return [
        Kernel("cross_entropy", loss.forward, FLOATS, _has_classes, True),
        Kernel("cross_entropy_vjp", loss.backward, FLOATS, _has_classes),
    ]


def _has_classes(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    return bool(inputs[0].ndim > 0 and inputs[0].shape[-1] > 0)


class CrossEntropy:
    """The kernels of cross_entropy.cu."""

    def __init__(self, cp: Any, mirrors: Mirrors) -> None:  # Any: a module
        self._cp = cp
        self._mirrors = mirrors
        self._program = Program(cp, "cross_entropy.cu")

    def forward(
        self,
        logits: Array,
        target: Array,
        *,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        recorded: bool = False,
    ) -> tuple[tuple[Array], tuple[Array | Prepared, ...]]:
        """Return -log softmax(logits)[target], with smoothed targets, reduced.

        Parameters
        ----------
        logits : (..., v).
        target : (...), integer, in [0, v) or ``ignore_index``.
        reduction : "mean" over what is not ignored (0 if nothing is left), "sum" or "none".

        Returns
        -------
        outputs : the loss, () or (...); sums are formed in float64.
        residuals : each row's largest logit and sum of exp(logit - largest), (rows,). If
            ``recorded``, and the reduction leaves a number, also the gradient of the logits, which
            costs little while a row is in registers.

        Raises
        ------
        IndexError
            If a target is no class.
        """
        cp = self._cp
        self._mirrors.check_classes("cross_entropy", target, logits.shape[-1], ignore_index)
        logits = dense(cp, logits)
        wide = dtypes.accumulation(logits.dtype)
        losses, tops, sums = (cp.empty((target.size,), wide) for _ in range(3))
        prepares = recorded and reduction != "none"
        gradient = cp.empty(logits.shape, logits.dtype) if prepares else None
        goals = self._classes(target)
        counted, share = self._counted(goals, ignore_index, reduction, logits)
        arrays = [logits, goals, losses, tops, sums, gradient]
        self._launch("cross_entropy", arrays, counted, share, logits, ignore_index, label_smoothing)
        residuals: tuple[Array | Prepared, ...] = tops, sums
        if gradient is not None:
            residuals = tops, sums, Prepared(gradient)
        if reduction == "none":
            return (losses.reshape(target.shape).astype(logits.dtype, copy=False),), residuals
        total = cp.empty((), logits.dtype)
        self._one_block("total", [losses, counted, total, share, losses.size], logits)
        return (total,), residuals

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Any],  # arrays, and perhaps a Prepared
        *,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> tuple[Array | None, ...]:
        """Return the gradient of the logits (the target has none)."""
        logits, target = inputs
        (g,) = cotangents
        tops, sums, *prepared = residuals
        assert logits is not None and target is not None and g is not None
        if not needs[0]:
            return None, None
        cp = self._cp
        g = dense(cp, g)
        ready: Array | None = prepared[0].take() if prepared else None
        if ready is not None:
            self._program.launch(
                "scale_prepared",
                [g, ready, ready.size],
                dtype=ready.dtype,
                grid=stride_blocks(cp, -(-ready.size // _EACH), _BLOCK),
                block=_BLOCK,
                constants=plan(logits.shape[-1], logits.dtype.itemsize, ready).constants,
            )
            return ready, None
        logits = dense(cp, logits)
        gradient = cp.empty(logits.shape, logits.dtype)
        goals = self._classes(target)
        counted, share = self._counted(goals, ignore_index, reduction, logits)
        arrays = [g, g.size > 1, logits, goals, tops, sums, gradient]
        self._launch(
            "cross_entropy_vjp", arrays, counted, share, logits, ignore_index, label_smoothing
        )
        return gradient, None

    def _classes(self, target: Array) -> Array:
        if target.dtype != dtypes.int64:
            target = target.astype(dtypes.int64)
        return dense(self._cp, target)

    def _counted(
        self, goals: Array, ignore_index: int | None, reduction: str, logits: Array
    ) -> tuple[Array | None, float]:
        """Return how many targets count, on the device; or None and by what losses are scaled."""
        if reduction != "mean":
            return None, 1.0
        if ignore_index is None:
            return None, 1 / max(goals.size, 1)
        counted = self._cp.empty((), dtypes.accumulation(logits.dtype))
        self._one_block("count_targets", [goals, counted, goals.size, ignore_index], logits)
        return counted, 1.0

    def _one_block(self, name: str, arguments: list[Any], logits: Array) -> None:
        way = plan(logits.shape[-1], logits.dtype.itemsize, logits)  # compiled for it already
        self._program.launch(
            name, arguments, dtype=logits.dtype, grid=1, block=1024, constants=way.constants
        )

    def _launch(
        self,
        name: str,
        arrays: list[Any],
        counted: Array | None,
        share: float,
        logits: Array,
        ignore_index: int | None,
        label_smoothing: float,
    ) -> None:
        columns = logits.shape[-1]
        rows = logits.size // columns
        gradient = arrays[-1]
        way = plan(columns, logits.dtype.itemsize, logits, gradient)
        ignored = (ignore_index is not None, ignore_index or 0)
        self._program.launch(
            name,
            [*arrays, counted, share, rows, columns, *ignored, label_smoothing],
            dtype=logits.dtype,
            grid=way.grid(rows),
            block=way.block,
            constants=way.constants,
        )
