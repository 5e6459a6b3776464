"""A step of a Mamba mixer on the device, in six dispatches; see mamba_step.wgsl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.rows import THREADS, Family
from helixml.backends.wgpu.kernels.stored_linear import FEW, StoredLinear, is_read
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["MambaStep", "kernels", "takes_few_sequences"]

_MOST_STATES = 4096  # of a channel, which one invocation walks


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernel of a mixer's step."""
    return [Kernel("mamba_step", MambaStep(runtime).forward, ("float32",), takes_few_sequences)]


def takes_few_sequences(inputs: Sequence[WgpuArray | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are few sequences, and the matrices are read as they lie."""
    x, _, state, in_proj, _, x_proj, dt_proj, _, _, out_proj, *_ = inputs
    assert x is not None and state is not None
    matrices = in_proj, x_proj, dt_proj, out_proj
    return (
        0 < x.shape[0] <= FEW
        and 0 < state.shape[2] <= _MOST_STATES
        and all(is_read(m) for m in matrices)
    )


class MambaStep(Family):
    """The step."""

    file = "mamba_step.wgsl"

    def __init__(self, runtime: Runtime, threads: int = THREADS) -> None:
        super().__init__(runtime, threads)
        self._product = StoredLinear(runtime, threads).product

    def forward(
        self,
        x: WgpuArray,
        past: WgpuArray,
        state: WgpuArray,
        in_proj: WgpuArray,
        conv_weight: WgpuArray,
        x_proj: WgpuArray,
        dt_proj: WgpuArray,
        A_log: WgpuArray,
        D: WgpuArray,
        out_proj: WgpuArray,
        in_bias: WgpuArray | None = None,
        conv_bias: WgpuArray | None = None,
        dt_bias: WgpuArray | None = None,
        out_bias: WgpuArray | None = None,
        in_scale: WgpuArray | None = None,
        x_scale: WgpuArray | None = None,
        dt_scale: WgpuArray | None = None,
        out_scale: WgpuArray | None = None,
    ) -> tuple[tuple[WgpuArray, WgpuArray, WgpuArray], tuple[()]]:
        """Return what a mixer makes of one token, and its next state.

        Parameters
        ----------
        x : (b, m), past : (b, d, k - 1), state : (b, d, n); any strides.
        in_proj, ... : as for `helixml.mamba_step`; matrices of float32 or int8.

        Returns
        -------
        outputs : y (b, m), next past, next state.
        """
        x, past, state = (self.dense(a) for a in (x, past, state))
        conv_weight, conv_bias, A_log, D = (
            self.dense(a) for a in (conv_weight, conv_bias, A_log, D)
        )
        (b, d, n), m, taps = state.shape, x.shape[1], conv_weight.shape[1]
        rank = dt_proj.shape[1]
        both = self._product(x, (b,), m, in_proj, in_scale, in_bias)
        u, later = self.runtime.empty((b, d), x.dtype), self.empty_like(past)
        self.each(
            "enter",
            [both, u, past, later, conv_weight, conv_bias or conv_weight],
            {"b": b, "d": d, "taps": taps},
            b * d,
            trips=taps,
            constants={"HAS_BIAS": conv_bias is not None},
        )
        selected = self._product(u, (b,), d, x_proj, x_scale)
        mixed = self._product(selected, (b,), rank + 2 * n, dt_proj, dt_scale, dt_bias)
        following = self.empty_like(state)
        self.each(
            "advance",
            [both, u, selected, mixed, A_log, D, state, following],
            {"b": b, "d": d, "n": n, "rank": rank},
            b * d,
            trips=n,
        )
        return (self._product(mixed, (b,), d, out_proj, out_scale, out_bias), later, following), ()
