"""The causal depthwise convolution on a GPU; the kernels are in causal_conv1d.cu.

What lies in memory as rows of channels, as the layers' arrays (b, d, l) do, is read as it is, even
where rows are parts of longer ones; other arrays with time contiguous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.parts import Array, Parts, has_time, laid, rows_of
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.launch import Program
from helixml.backends.dispatch import Kernel

__all__ = ["CausalConv1d", "kernels", "takes_taps"]

MOST_TAPS = 16  # each takes three registers
_THREADS = 128
_RUN = {True: 4, False: 32}  # steps of a thread, with time contiguous or channels


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels of the convolution."""
    conv = CausalConv1d(cp)
    return [
        Kernel("causal_conv1d", conv.forward, FLOATS, takes_taps),
        Kernel("causal_conv1d_vjp", conv.backward, FLOATS, takes_taps),
    ]


def takes_taps(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether the taps fit into registers."""
    weight = inputs[1]
    return weight is not None and 1 <= weight.shape[1] <= MOST_TAPS


class CausalConv1d:
    """The convolution and its gradient.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "causal_conv1d.cu")
        self._parts = Parts(cp)

    def forward(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        initial_state: Array | None = None,
        *,
        activation: str | None = None,
    ) -> tuple[tuple[Array], tuple[()]]:
        """Return activation(sum_j weight_j x_(t-k+1+j) + bias), and no residuals.

        Parameters
        ----------
        x : (b, d, l), any strides.
        weight : (d, k).
        bias : (d,) or None.
        initial_state : (b, d, k - 1): what came before x; zeros if None.
        activation : None or "silu".

        Returns
        -------
        outputs : y (b, d, l).
        """
        b, d, l = x.shape
        time = has_time(x)
        y = self._cp.empty((b, d, l) if time else (b, l, d), x.dtype)
        others = [dense(self._cp, array) for array in (weight, bias, initial_state)]
        self._launch("conv", x, weight, activation, [*others, y])
        return (y if time else y.transpose(0, 2, 1),), ()

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        activation: str | None = None,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of x, weight, bias and initial_state, None where not needed."""
        cp = self._cp
        x, weight, bias, initial_state = inputs
        (g,) = cotangents
        assert x is not None and weight is not None and g is not None
        time = has_time(x)
        (b, d, l), (_, k) = x.shape, weight.shape
        accum = dtypes.accumulation(x.dtype)
        g = laid(cp, g, time)
        others = [dense(cp, array) for array in (weight, bias, initial_state)]
        gx = cp.empty(g.shape, x.dtype)
        blocks = self._blocks(time, l)
        parts = cp.empty((b * blocks, d * (k + 1)), accum)
        gpast = None if initial_state is None else cp.empty(initial_state.shape, x.dtype)
        self._launch("conv_vjp", x, weight, activation, [*others, gx, parts, gpast], g)
        gweight = gbias = None
        if needs[1] or needs[2]:
            total = self._parts.total(parts, 0, x.dtype)
            gweight, gbias = total[: d * k].reshape(d, k), total[d * k :]
        return (
            (gx if time else gx.transpose(0, 2, 1)) if needs[0] else None,
            gweight if needs[1] else None,
            gbias if needs[2] and bias is not None else None,
            gpast if needs[3] else None,
        )

    @staticmethod
    def _blocks(time: bool, length: int) -> int:
        """Return how many blocks share the steps of a sequence; one takes what is before them."""
        return max(1, -(-length // (_RUN[time] * (_THREADS if time else 1))))

    def _launch(
        self,
        name: str,
        x: Array,
        weight: Array,
        activation: str | None,
        arrays: list[Any],
        *cotangent: Array,
    ) -> None:
        (b, d, l), time = x.shape, has_time(x)
        blocks = self._blocks(time, l)
        rows, pitch = rows_of(self._cp, x, time)
        self._program.launch(
            name,
            [*cotangent, rows, *arrays, d, l, pitch, blocks],
            dtype=x.dtype,
            grid=b * blocks * (d if time else -(-d // _THREADS)),
            block=_THREADS,
            constants={
                "TIME": int(time),
                "SILU": int(activation == "silu"),
                "TAPS": weight.shape[1],
                "THREADS": _THREADS,
                "RUN": _RUN[time],
            },
        )
