"""Sums of complex exponentials on a GPU; the kernels are in exponential_sum.cu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.parts import Array
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.launch import Program
from helixml.backends.dispatch import Kernel

__all__ = ["ExponentialSum", "kernels"]

_THREADS = 128  # these as in the source
_RUN = 8
_PULLED = 256
_TERMS = 32  # of a block that sums over time
_BLOCKS = 512  # that a device is to have; segments are made where lines give fewer
_FEWEST_STEPS = 2048  # of a segment
_LONGEST = 1 << 24  # float32 counts no further


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels of sums of exponentials."""
    sums = ExponentialSum(cp)
    return [
        Kernel("exponential_sum", sums.forward, FLOATS, takes_terms),
        Kernel("exponential_sum_vjp", sums.backward, FLOATS, takes_terms),
    ]


def takes_terms(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are terms and steps, and steps that float32 can count."""
    weights = inputs[0]
    assert weights is not None
    return bool(weights.size > 0 and 0 < attributes["length"] <= _LONGEST)


class ExponentialSum:
    """The sums and their gradient.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "exponential_sum.cu")

    def forward(
        self, weights: Array, exponents: Array, *, length: int
    ) -> tuple[tuple[Array], tuple[()]]:
        """Return y (..., d, l) of weights (..., d, n, 2) and exponents (d, n, 2); no residual."""
        cp = self._cp
        d, n, _ = exponents.shape
        y = cp.empty((*weights.shape[:-2], length), weights.dtype)
        self._program.launch(
            "exponential_sum",
            [dense(cp, weights), dense(cp, exponents), y, d, n, length],
            dtype=y.dtype,
            grid=y.size // length * -(-length // (_THREADS * _RUN)),
            block=_THREADS,
        )
        return (y,), ()

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        length: int,
    ) -> tuple[Array | None, Array | None]:
        """Return the gradients of weights and exponents."""
        cp = self._cp
        g, weights, exponents = (dense(cp, x) for x in (cotangents[0], *inputs))
        d, n, _ = exponents.shape
        dtype, lines = weights.dtype, weights.size // (2 * n)
        blocks = lines * -(-n // _TERMS)
        segments = max(1, min(-(-_BLOCKS // blocks), length // _FEWEST_STEPS))
        segment = -(-length // segments)
        segments = -(-length // segment)
        moments = cp.empty((segments, lines, n, 4), dtypes.accumulation(dtype))
        self._program.launch(
            "pull_moments",
            [g, exponents, moments, lines, d, n, length, segment],
            dtype=dtype,
            grid=(blocks, segments),
            block=_PULLED,
        )
        dweights, dexponents = cp.empty(weights.shape, dtype), cp.empty(exponents.shape, dtype)
        self._program.launch(
            "pull_terms",
            [weights, moments, dweights, dexponents, lines, d, n, segments],
            dtype=dtype,
            grid=-(-d * n // _THREADS),
            block=_THREADS,
        )
        return dweights if needs[0] else None, dexponents if needs[1] else None
