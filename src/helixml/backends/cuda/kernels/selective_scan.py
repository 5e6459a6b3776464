"""The selective scan on a GPU; the kernels and their mathematics are in selective_scan.cu.

What lies in memory as rows of channels, as the layers' arrays (b, d, l) do, is read and written as
it is, and z, B and C even where rows are parts of longer ones; other arrays with time contiguous.
Sizes are chosen from shapes alone, so that the same call gives the same bits on every device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.parts import (
    Array,
    Parts,
    has_time,
    laid,
    power_of_two,
    rows_of,
    wide,
)
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.launch import WARP, Program
from helixml.backends.dispatch import Kernel
from helixml.dtypes import DType

__all__ = ["MOST_STATES", "SelectiveScan", "kernels", "takes_states"]

MOST_STATES = 256
_FEWEST_TILES = 4  # in a segment: each is walked twice
_BLOCKS = 512  # that a device is to have; segments are made where channels give fewer
_SUMS = 8 << 10  # bytes of shared memory for gradients of B and C, about
_CARRY = 256


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels of the selective scan."""
    scan = SelectiveScan(cp)
    return [
        Kernel("selective_scan", scan.forward, FLOATS, takes_states, prepares=True),
        Kernel("selective_scan_vjp", scan.backward, FLOATS, takes_states),
    ]


def takes_states(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether the states of a channel fit into a warp."""
    A = inputs[2]
    return A is not None and 1 <= A.shape[1] <= MOST_STATES


class _Plan:
    """How a call is laid out and cut up: the constants of its program and its grid."""

    def __init__(self, u: Array, A: Array, B: Array, C: Array, softplus: bool) -> None:
        self.b, self.d, self.l = u.shape
        self.n = A.shape[1]
        self.dtype: DType = u.dtype
        self.time = has_time(u)
        width = power_of_two(self.n)
        each = min(width, 4) if width <= 4 * WARP else width // WARP
        lanes = width // each
        registers = each * dtypes.accumulation(self.dtype).itemsize // 4  # for a thread's states
        self.steps = min(
            16 if dtypes.accumulation(self.dtype) == dtypes.float32 else 8, 64 // registers
        )
        piece = min(8, self.steps, 32 // registers)
        self.channels = min(64, 4 * WARP // lanes)
        self.threads = self.channels * lanes
        self.varying = tuple(int(x.ndim > 2) for x in (B, C))
        self.groups_of = tuple(x.shape[1] if x.ndim == 4 else 1 for x in (B, C))
        self.groups = max(self.groups_of)
        itemsize = dtypes.accumulation(self.dtype).itemsize
        warps = -(-self.threads // WARP)
        row = warps * 2 * width * itemsize
        flush = piece
        while flush > 1 and flush * row > _SUMS:
            flush //= 2
        self.constants = {
            "TIME": int(self.time),
            "STATES": self.n,
            "EACH": each,
            "LANES": lanes,
            "CHANNELS": self.channels,
            "STEPS": self.steps,
            "PIECE": piece,
            "FLUSH": flush,
            "FORWARD_BLOCKS": 4 if registers <= 4 else 2,
            "BACKWARD_BLOCKS": 4 if registers == 4 else 2,
            "SOFTPLUS": int(softplus),
            "VARYING_B": self.varying[0],
            "VARYING_C": self.varying[1],
        }
        share = self.d // max(self.groups, 1)
        self.parts = -(-share // self.channels)
        blocks = self.b * self.groups * self.parts
        self.tiles = -(-self.l // self.steps)
        segments = min(-(-_BLOCKS // max(blocks, 1)), max(1, self.tiles // _FEWEST_TILES))
        tiles_in_segment = max(1, -(-self.tiles // segments))
        self.segment = tiles_in_segment * self.steps
        self.segments = max(1, -(-self.tiles // tiles_in_segment))
        self.grid = (blocks, self.segments) if blocks else 0


class SelectiveScan:
    """The scan and its gradient.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "selective_scan.cu")
        self._parts = Parts(cp)

    def forward(
        self,
        u: Array,
        delta: Array,
        A: Array,
        B: Array,
        C: Array,
        D: Array | None = None,
        z: Array | None = None,
        delta_bias: Array | None = None,
        initial_state: Array | None = None,
        *,
        delta_softplus: bool = False,
        return_last_state: bool = False,
        recorded: bool = False,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Run the scan; return its outputs and residuals.

        Parameters
        ----------
        u, delta, z : (b, d, l), any strides; z may be None.
        A : (d, n).
        B, C : (d, n), (b, n, l) or (b, g, n, l), g a divisor of d.
        D, delta_bias : (d,) or None.
        initial_state : (b, d, n) or None for zeros.

        Returns
        -------
        outputs : y (b, d, l) and, if asked for, the last state (b, d, n).
        residuals : the states before each tile of steps, (b, tiles, d, n), if the call is
            recorded; else none.
        """
        cp = self._cp
        plan = _Plan(u, A, B, C, delta_softplus)
        b, d, l, n = plan.b, plan.d, plan.l, plan.n
        accum = dtypes.accumulation(plan.dtype)
        u, delta = (laid(cp, x, plan.time) for x in (u, delta))
        A, D, delta_bias = (dense(cp, x) for x in (A, D, delta_bias))
        (z, *z_pitch), (B, *b_pitch), (C, *c_pitch) = self._rows(plan, z, B, C)
        entries = wide(cp, initial_state)
        if plan.segments > 1:
            entries = self._entries(plan, u, delta, A, B, delta_bias, entries, b_pitch)
        y = cp.empty((b, d, l) if plan.time else (b, l, d), plan.dtype)
        states = cp.empty((b, plan.tiles, d, n), accum) if recorded else None
        last = cp.empty((b, d, n), plan.dtype) if return_last_state else None
        self._launch(
            plan,
            "scan",
            [u, delta, A, B, C, D, z, delta_bias, entries, y, states, last],
            [d, l, plan.groups, *plan.groups_of, plan.segment, *z_pitch, *b_pitch, *c_pitch],
        )
        y = y if plan.time else y.transpose(0, 2, 1)
        return (y, last) if return_last_state else (y,), () if states is None else (states,)

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        delta_softplus: bool = False,
        return_last_state: bool = False,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of the nine inputs, None where not needed."""
        cp = self._cp
        if not residuals:  # recorded where residuals are put away
            softplus = delta_softplus
            _, residuals = self.forward(*inputs, delta_softplus=softplus, recorded=True)
        u, delta, A, B, C, D, z, delta_bias, _ = inputs
        assert u is not None and A is not None and B is not None and C is not None
        plan = _Plan(u, A, B, C, delta_softplus)
        b, d, l, n, segments = plan.b, plan.d, plan.l, plan.n, plan.segments
        dtype, accum = plan.dtype, dtypes.accumulation(plan.dtype)
        ranks = B.ndim, C.ndim
        u, delta, g = (laid(cp, x, plan.time) for x in (u, delta, cotangents[0]))
        if g is None:
            g = cp.zeros(u.shape, dtype)
        A, D, delta_bias = (dense(cp, x) for x in (A, D, delta_bias))
        (z, *z_pitch), (B, *b_pitch), (C, *c_pitch) = self._rows(plan, z, B, C)
        exits = wide(cp, cotangents[1]) if return_last_state else None
        if segments > 1:
            pitches = [*z_pitch, *c_pitch]
            exits = self._exits(plan, g, delta, A, C, z, delta_bias, exits, pitches)

        gu, gdelta = cp.empty(u.shape, dtype), cp.empty(u.shape, dtype)
        gz = None if z is None else cp.empty(u.shape, dtype)
        kinds = 3 - sum(plan.varying)  # gradients like A's that are sums over time
        totals = cp.empty((b * segments, kinds * d * n + 2 * d), accum)
        ginitial = cp.empty((b, d, n), dtype)
        shared = cp.empty((sum(plan.varying), b, plan.groups, plan.parts, l, n), accum)
        gB, gC = (shared[i] if v else None for i, v in zip((0, -1), plan.varying, strict=True))
        self._launch(
            plan,
            "scan_vjp",
            [
                *(g, u, delta, A, B, C, D, z, delta_bias, residuals[0], exits),
                *(gu, gdelta, gz, gB, gC, totals, ginitial),
            ],
            [d, l, plan.groups, *plan.groups_of, plan.segment, *z_pitch, *b_pitch, *c_pitch],
        )
        if not plan.time:
            gu, gdelta, gz = (None if x is None else x.transpose(0, 2, 1) for x in (gu, gdelta, gz))
        gA = gD = gbias = None
        if any(needs[i] for i in (2, 5, 7)) or not all(plan.varying):
            total = self._parts.total(totals, 0, dtype)
            states = total[: kinds * d * n].reshape(kinds, d, n)
            gA = states[0]
            gD, gbias = total[kinds * d * n :].reshape(2, d)
            gB, gC = (
                x if v else states[i]
                for x, v, i in zip((gB, gC), plan.varying, (1, -1), strict=True)
            )
        if needs[3] or needs[4]:
            gB, gC = self._shared_totals(plan, shared, gB, gC, ranks)
        gradients = gu, gdelta, gA, gB, gC, gD, gz, gbias, ginitial
        return tuple(
            gradient if need and x is not None else None
            for gradient, need, x in zip(gradients, needs, inputs, strict=True)
        )

    def _entries(
        self,
        plan: _Plan,
        u: Array,
        delta: Array,
        A: Array,
        B: Array,
        delta_bias: Array | None,
        first: Array | None,
        pitch: list[int],
    ) -> Array:
        """Return the states before each segment."""
        ends, totals = self._of_segments(plan)
        self._launch(
            plan,
            "segment_ends",
            [u, delta, A, B, delta_bias, ends, totals],
            [plan.d, plan.l, plan.groups, plan.groups_of[0], plan.segment, *pitch],
        )
        return self._carried(plan, A, totals, first, ends, backward=False)

    def _exits(
        self,
        plan: _Plan,
        g: Array,
        delta: Array,
        A: Array,
        C: Array,
        z: Array | None,
        delta_bias: Array | None,
        last: Array | None,
        pitches: list[int],
    ) -> Array:
        """Return the cotangents of the states after each segment."""
        starts, totals = self._of_segments(plan)
        self._launch(
            plan,
            "segment_starts",
            [g, delta, A, C, z, delta_bias, starts, totals],
            [plan.d, plan.l, plan.groups, plan.groups_of[1], plan.segment, *pitches],
        )
        return self._carried(plan, A, totals, last, starts, backward=True)

    def _of_segments(self, plan: _Plan) -> tuple[Array, Array]:
        shape, accum = (plan.b, plan.segments, plan.d), dtypes.accumulation(plan.dtype)
        return self._cp.empty((*shape, plan.n), accum), self._cp.empty(shape, accum)

    def _carried(
        self,
        plan: _Plan,
        A: Array,
        totals: Array,
        first: Array | None,
        ends: Array,
        *,
        backward: bool,
    ) -> Array:
        size = plan.b * plan.d * plan.n
        self._program.launch(
            "carry",
            [A, totals, first, ends, plan.d, plan.segments, backward, size],
            dtype=plan.dtype,
            grid=-(-size // _CARRY),
            block=_CARRY,
            constants=plan.constants,
        )
        return ends

    def _launch(self, plan: _Plan, name: str, arrays: list[Any], sizes: list[int]) -> None:
        self._program.launch(
            name,
            [*arrays, *sizes],
            dtype=plan.dtype,
            grid=plan.grid,
            block=plan.threads,
            constants=plan.constants,
        )

    def _rows(
        self, plan: _Plan, z: Array | None, B: Array, C: Array
    ) -> list[tuple[Array | None, int]]:
        """Return z, and B and C as (d, n) or (b, g, l, n), with how far their rows lie apart."""
        found = [rows_of(self._cp, z, plan.time)]
        for x in (B, C):
            if x.ndim == 3:
                found.append(rows_of(self._cp, x, time=False))
            else:
                lines = x if x.ndim == 2 else x.transpose(0, 1, 3, 2)
                found.append((dense(self._cp, lines), plan.n))
        return found

    def _shared_totals(
        self, plan: _Plan, shared: Array, gB: Array, gC: Array, ranks: tuple[int, int]
    ) -> list[Array]:
        """Return the gradients of B and C from what blocks added up for them, in ``shared``."""
        kept = {g for g, varies in zip(plan.groups_of, plan.varying, strict=True) if varies}
        if len(kept) == 1:  # both at once
            shared = self._of_groups(plan, shared, *kept)
            gB, gC = (
                shared[i] if v else x
                for x, v, i in zip((gB, gC), plan.varying, (0, -1), strict=True)
            )
        elif kept:
            gB, gC = (
                self._of_groups(plan, x[None], groups)[0]
                for x, groups in zip((gB, gC), plan.groups_of, strict=True)
            )
        return [x[:, 0] if rank == 3 else x for x, rank in zip((gB, gC), ranks, strict=True)]

    def _of_groups(self, plan: _Plan, parts: Array, groups: int) -> Array:
        """Add up (k, b, groups, parts, l, n) for fewer groups; return (k, b, groups, n, l)."""
        kinds, count = parts.shape[0], plan.groups // groups * plan.parts
        lines = parts.reshape(kinds * plan.b, groups, count, plan.l, plan.n)
        total = self._parts.total(lines, 2, plan.dtype)
        return total.reshape(kinds, plan.b, groups, plan.l, plan.n).transpose(0, 1, 2, 4, 3)
