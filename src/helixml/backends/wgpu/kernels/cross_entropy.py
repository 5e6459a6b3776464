"""Cross entropy of class indices on the device; see cross_entropy.wgsl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.parts import Parts
from helixml.backends.wgpu.kernels.rows import MOST_COLUMNS, THREADS, Family
from helixml.backends.wgpu.runtime import Runtime


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels."""
    loss = CrossEntropy(runtime)
    return [
        Kernel("cross_entropy", loss.forward, ("float32",), has_classes),
        Kernel("cross_entropy_vjp", loss.backward, ("float32",), has_classes),
    ]


def has_classes(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are targets, and classes, and not too many for a team."""
    logits, target = inputs
    return bool(target.size and 0 < logits.shape[-1] <= MOST_COLUMNS)


class CrossEntropy(Family):
    """The kernels of cross_entropy.wgsl."""

    file = "cross_entropy.wgsl"

    def __init__(self, runtime: Runtime, threads: int = THREADS) -> None:
        super().__init__(runtime, threads)
        self._parts = Parts(runtime)

    def forward(
        self,
        logits: WgpuArray,
        target: WgpuArray,
        *,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> tuple[tuple[WgpuArray], tuple[WgpuArray, ...]]:
        """Return -log softmax(logits)[target], with smoothed targets, reduced.

        Parameters
        ----------
        logits : (..., v).
        target : (...), integer, in [0, v) or ``ignore_index``.
        reduction : "mean" over what is not ignored (0 if nothing is left), "sum" or "none".

        Returns
        -------
        outputs : the loss, () or (...).
        residuals : each row's largest logit and sum of exp(logit - largest), (rows,), and how many
            targets count, (1,).

        Raises
        ------
        IndexError
            If a target is no class.
        """
        logits, target = self.dense(logits), self.dense(target)
        columns = logits.shape[-1]
        _check(self.runtime, target, columns, ignore_index)
        room = [self.runtime.empty((target.size,), logits.dtype) for _ in range(4)]
        tops, sums, losses, counts = room
        self.rows(
            "cross_entropy",
            [logits, target.storage, *room],
            _sizes(target, columns, ignore_index, label_smoothing),
            passes=5,
            constants={"IGNORES": ignore_index is not None},
        )
        counted = self._parts.total(counts, 0)
        if reduction == "none":
            loss = losses.view(target.shape, target.strides)
        else:
            loss = self._parts.total(losses, 0)
            if reduction == "mean":
                total, loss = loss, self.empty_like(loss)
                self.each("mean_loss", [total, counted, loss], {}, 1)
        return (loss,), (tops, sums, counted)

    def backward(
        self,
        cotangents: Sequence[WgpuArray],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray],
        residuals: Sequence[WgpuArray],
        *,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> tuple[WgpuArray | None, None]:
        """Return the gradient of the logits (the target has none)."""
        if not needs[0]:
            return None, None
        logits, target, g = (self.dense(x) for x in (*inputs, *cotangents))
        tops, sums, counted = residuals
        gradient = self.empty_like(logits)
        columns = logits.shape[-1]
        self.rows(
            "cross_entropy_vjp",
            [logits, target.storage, tops, sums, g, counted, gradient],
            _sizes(target, columns, ignore_index, label_smoothing),
            passes=1,
            constants={
                "IGNORES": ignore_index is not None,
                "EACH": reduction == "none",
                "MEAN": reduction == "mean",
            },
        )
        return gradient, None


def _sizes(
    target: WgpuArray, columns: int, ignore_index: int | None, smoothing: float
) -> dict[str, Any]:
    return {
        "rows": target.size,
        "columns": columns,
        "words": target.words,
        "ignored": ignore_index or 0,
        "smoothing": smoothing,
    }


def _check(runtime: Runtime, target: WgpuArray, classes: int, ignore_index: int | None) -> None:
    """Raise an IndexError for a target that is no class; the device is asked if need be."""
    host = target.mirror
    if host is None:
        host = runtime.to_numpy(target)
        target.remember(host)
    wrong = (host < 0) | (host >= classes)
    if ignore_index is not None:
        wrong &= host != ignore_index
    if np.any(wrong):
        raise IndexError(
            f"cross_entropy: target {host[wrong].flat[0]} is no class in [0, {classes})."
        )
