"""A step of a Mamba mixer on a GPU, in four launches; the kernels are in mamba_step.cu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.parts import Array
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.kernels.stored_linear import (
    BLOCK,
    FEW,
    StoredLinear,
    constants,
    is_read,
)
from helixml.backends.cuda.launch import WARP, Program
from helixml.backends.dispatch import Kernel

__all__ = ["MambaStep", "kernels", "takes_few_sequences"]


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernel of a mixer's step."""
    return [Kernel("mamba_step", MambaStep(cp).forward, FLOATS, takes_few_sequences)]


def takes_few_sequences(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are few sequences, and the matrices are read as they lie."""
    x, _, _, in_proj, _, x_proj, dt_proj, _, _, out_proj, *_ = inputs
    assert x is not None
    matrices = in_proj, x_proj, dt_proj, out_proj
    return 0 < len(x) <= FEW and all(m is not None and is_read(m, x) for m in matrices)


class MambaStep:
    """The step.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "mamba_step.cu")
        self._product = StoredLinear(cp).forward

    def forward(
        self,
        x: Array,
        past: Array,
        state: Array,
        in_proj: Array,
        conv_weight: Array,
        x_proj: Array,
        dt_proj: Array,
        A_log: Array,
        D: Array,
        out_proj: Array,
        in_bias: Array | None = None,
        conv_bias: Array | None = None,
        dt_bias: Array | None = None,
        out_bias: Array | None = None,
        in_scale: Array | None = None,
        x_scale: Array | None = None,
        dt_scale: Array | None = None,
        out_scale: Array | None = None,
    ) -> tuple[tuple[Array, Array, Array], tuple[()]]:
        """Return what a mixer makes of one token, and its next state.

        Parameters
        ----------
        x : (b, m), past : (b, d, k - 1), state : (b, d, n); any strides.
        in_proj, ... : as for `helixml.mamba_step`; matrices of the same floats, of bfloat16 or of
            int8.

        Returns
        -------
        outputs : y (b, m), next past, next state.
        """
        cp = self._cp
        x, past, state, in_proj, conv_weight, dt_proj = (
            dense(cp, array) for array in (x, past, state, in_proj, conv_weight, dt_proj)
        )
        (b, d, n), (m, taps, rank) = (
            state.shape,
            (x.shape[1], conv_weight.shape[1], dt_proj.shape[1]),
        )
        dtype = x.dtype
        u, z, mixed = (cp.empty((b, d), dtype) for _ in range(3))
        later, following = cp.empty(past.shape, dtype), cp.empty(state.shape, dtype)
        rest = [dense(cp, row) for row in (in_scale, in_bias)]
        self._launch(
            "enter",
            2 * d,
            constants(x, in_proj, b, m),
            x,
            [x, in_proj, *rest, past, conv_weight, dense(cp, conv_bias), u, z, later],
            [b, m, d, taps],
        )
        ((selected,), _) = self._product(u, x_proj, x_scale)
        rest = [dense(cp, row) for row in (dt_scale, dt_bias)]
        others = [dense(cp, row) for row in (A_log, D)]
        self._launch(
            "advance",
            d,
            constants(selected, dt_proj, b, selected.shape[1]),
            x,
            [selected, dt_proj, *rest, u, z, *others, state, following, mixed],
            [b, d, n, rank],
        )
        ((y,), _) = self._product(mixed, out_proj, out_scale, out_bias)
        return (y, later, following), ()

    def _launch(
        self,
        name: str,
        rows: int,
        defined: Mapping[str, int],
        x: Array,
        arrays: list[Any],
        sizes: list[int],
    ) -> None:
        self._program.launch(
            name,
            [*arrays, *sizes],
            dtype=x.dtype,
            grid=-(-rows * WARP // BLOCK),
            block=BLOCK,
            constants=defined,
        )
