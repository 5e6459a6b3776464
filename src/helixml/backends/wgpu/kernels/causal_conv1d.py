"""The causal depthwise convolution on the device; the kernels are in causal_conv1d.wgsl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.parts import Parts
from helixml.backends.wgpu.kernels.rows import THREADS, Family
from helixml.backends.wgpu.kernels.sequences import channels_first, steps_of
from helixml.backends.wgpu.runtime import Runtime

MOST_TAPS = 64
_RUN = 32  # steps that an invocation adds up, as in causal_conv1d.wgsl


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels of the convolution."""
    conv = CausalConv1d(runtime)
    return [
        Kernel("causal_conv1d", conv.forward, ("float32",), takes_taps),
        Kernel("causal_conv1d_vjp", conv.backward, ("float32",), takes_taps),
    ]


def takes_taps(inputs: Sequence[WgpuArray | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are steps, and not more taps than a loop of the kernel may have."""
    x, weight, *_ = inputs
    assert x is not None and weight is not None
    return x.size > 0 and 1 <= weight.shape[1] <= MOST_TAPS


class CausalConv1d(Family):
    """The convolution and its gradient."""

    file = "causal_conv1d.wgsl"

    def __init__(self, runtime: Runtime, threads: int = THREADS) -> None:
        super().__init__(runtime, threads)
        self._parts = Parts(runtime)

    def forward(
        self,
        x: WgpuArray,
        weight: WgpuArray,
        bias: WgpuArray | None = None,
        initial_state: WgpuArray | None = None,
        *,
        activation: str | None = None,
    ) -> tuple[tuple[WgpuArray], tuple[()]]:
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
        weight, bias, past = (self.dense(a) for a in (weight, bias, initial_state))
        b, d, l = x.shape
        y = self.runtime.empty((b, l, d), x.dtype)
        self.each(
            "conv",
            [x.storage, past or weight, weight, bias or weight, y],
            self._sizes(x, weight, x),
            y.size,
            trips=weight.shape[1],
            constants={
                "SILU": activation == "silu",
                "HAS_BIAS": bias is not None,
                "HAS_PAST": past is not None,
            },
        )
        return (channels_first(y),), ()

    def backward(
        self,
        cotangents: Sequence[WgpuArray],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray | None],
        residuals: Sequence[WgpuArray],
        *,
        activation: str | None = None,
    ) -> tuple[WgpuArray | None, ...]:
        """Return the gradients of x, weight, bias and initial_state, None where not needed."""
        x, *others = inputs
        weight, bias, past = (self.dense(a) for a in others)
        (g,) = cotangents
        assert x is not None
        b, d, l = x.shape
        taps = weight.shape[1]
        sizes = self._sizes(x, weight, g)
        has = {"HAS_PAST": past is not None}
        empty, dtype = self.runtime.empty, x.dtype

        pulls = empty((b, l, d), dtype)
        self.each(
            "conv_pulls",
            [x.storage, past or weight, weight, bias or weight, g.storage, pulls],
            sizes,
            pulls.size,
            trips=taps,
            constants={"SILU": activation == "silu", "HAS_BIAS": bias is not None, **has},
        )
        gx = gpast = gweight = gbias = None
        if needs[0] or needs[3]:
            gx = empty((b, l, d), dtype)
            gpast = None if past is None else self.empty_like(past)
            count = b * (l + taps - 1) * d
            arrays = [weight, pulls, gx, gpast or gx]
            self.each("conv_inputs", arrays, sizes, count, trips=taps, constants=has)
        if needs[1] or needs[2]:
            runs = -(-l // _RUN)
            parts = empty((b * runs, taps + 1, d), dtype)
            arrays = [x.storage, past or weight, pulls, parts]
            self.each("conv_weights", arrays, sizes, parts.size, trips=_RUN, constants=has)
            total = self._parts.total(parts, 0)
            gweight = total.view((d, taps), (1, d))
            gbias = total.view((d,), (1,), taps * d)
        return (
            channels_first(gx) if gx is not None and needs[0] else None,
            gweight if needs[1] else None,
            gbias if needs[2] and bias is not None else None,
            gpast if needs[3] else None,
        )

    @staticmethod
    def _sizes(x: WgpuArray, weight: WgpuArray, g: WgpuArray) -> dict[str, Any]:
        b, d, l = x.shape
        return {
            **{"b": b, "d": d, "l": l, "taps": weight.shape[1]},
            "x_steps": steps_of(x),
            "g_steps": steps_of(g),
        }
