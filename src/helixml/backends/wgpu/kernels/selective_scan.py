"""The selective scan on the device; the kernels and their mathematics are in selective_scan.wgsl.

Arrays are read as they lie, what is written lies as (b, l, d). Sizes are chosen from shapes alone,
so that the same call gives the same bits on every device of the same rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.copies import wrapped
from helixml.backends.wgpu.kernels.parts import Parts
from helixml.backends.wgpu.kernels.rows import Family
from helixml.backends.wgpu.kernels.sequences import channels_first, steps_of
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["SelectiveScan", "kernels", "takes_states"]

MOST_STATES = 256  # of a channel: a workgroup has a channel at least, four states an invocation
LONGEST = 1 << 19  # sequence
_THREADS = 64
_STEPS = 16  # of a tile, as in selective_scan.wgsl
_TRIPS = 4096  # of an invocation, at most
_FEWEST_TILES = 4  # in a segment: each is walked twice
_INVOCATIONS = 1 << 14  # that a device is to have; segments are made where channels give fewer


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels of the selective scan."""
    scan = SelectiveScan(runtime)
    return [
        Kernel("selective_scan", scan.forward, ("float32",), takes_states, prepares=True),
        Kernel("selective_scan_vjp", scan.backward, ("float32",), takes_states),
    ]


def takes_states(inputs: Sequence[WgpuArray | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether a workgroup has room for a channel, and both B and C change with time."""
    u, _, A, B, C, *_ = inputs
    assert u is not None and A is not None and B is not None and C is not None
    return (
        u.size > 0
        and u.shape[2] <= LONGEST
        and 1 <= A.shape[1] <= MOST_STATES
        and B.ndim > 2
        and C.ndim > 2
    )


class _Plan:
    """How a call is cut up: its constants, its sizes and its number of workgroups."""

    def __init__(
        self,
        u: WgpuArray,
        A: WgpuArray,
        B: WgpuArray,
        C: WgpuArray,
        threads: int,
        tiles: int | None,
    ) -> None:
        self.b, self.d, self.l = u.shape
        self.n = A.shape[1]
        self.lanes = -(-self.n // 4)
        channels = threads // self.lanes
        flush = max(1, min(_STEPS, 256 // threads))
        self.groups_of = tuple(x.shape[1] if x.ndim == 4 else 1 for x in (B, C))
        self.groups = max(self.groups_of)
        self.parts = -(-(self.d // self.groups) // channels)
        self.constants = {"LANES": self.lanes, "FLUSH": flush}

        # Iterations of an invocation for a tile: both ways over its steps, and its sums
        of_channels = -(-flush * channels // threads) * (1 + self.lanes)
        of_rows = -(-2 * flush * self.lanes // threads) * (1 + channels)
        trips = 3 * _STEPS + _STEPS // flush * (1 + of_channels + of_rows)
        self.tiles = -(-self.l // _STEPS)
        invocations = self.b * self.d * self.lanes
        segments = -(-_INVOCATIONS // invocations)
        most = min(self.tiles, _TRIPS // trips)
        in_segment = tiles or max(-(-self.tiles // segments), _FEWEST_TILES)
        in_segment = max(1, min(in_segment, most))
        self.segment = in_segment * _STEPS
        self.segments = -(-self.tiles // in_segment)
        self.trips = max(in_segment * trips, self.segments)
        self.workgroups = self.b * self.groups * self.parts * self.segments

    def sizes(self, *, recorded: bool, **views: WgpuArray | None) -> dict[str, Any]:
        """Return the uniforms; ``recorded`` keeps states before all tiles, not only segments."""
        steps: dict[str, Any] = {f"{name}_steps": (0,) * 4 for name in ("u", "delta", "z", "g")}
        steps |= {f"{name}_steps": steps_of(x) for name, x in views.items() if x is not None}
        b_groups, c_groups = self.groups_of
        return {
            **{"b": self.b, "d": self.d, "l": self.l, "n": self.n, "groups": self.groups},
            **{"B_groups": b_groups, "C_groups": c_groups, "parts": self.parts},
            "C_start": self.b * b_groups * self.l * self.lanes,
            "segment": self.segment,
            "segments": self.segments,
            "every": _STEPS if recorded else self.segment,
            "kept": self.tiles if recorded else self.segments,
            **steps,
        }


class SelectiveScan(Family):
    """The scan and its gradient.

    Parameters
    ----------
    runtime : the device.
    threads : of a workgroup, at most 128: it has tiles of its channels in 16 KiB.
    tiles : of 16 steps in a segment, if not chosen by the sizes.
    """

    file = "selective_scan.wgsl"

    def __init__(self, runtime: Runtime, threads: int = _THREADS, tiles: int | None = None) -> None:
        super().__init__(runtime, threads)
        self._parts = Parts(runtime)
        self._tiles = tiles

    def forward(
        self,
        u: WgpuArray,
        delta: WgpuArray,
        A: WgpuArray,
        B: WgpuArray,
        C: WgpuArray,
        D: WgpuArray | None = None,
        z: WgpuArray | None = None,
        delta_bias: WgpuArray | None = None,
        initial_state: WgpuArray | None = None,
        *,
        delta_softplus: bool = False,
        return_last_state: bool = False,
        recorded: bool = False,
    ) -> tuple[tuple[WgpuArray, ...], tuple[WgpuArray, ...]]:
        """Run the scan; return its outputs and residuals.

        Parameters
        ----------
        u, delta, z : (b, d, l), any strides; z may be None.
        A : (d, n).
        B, C : (b, n, l) or (b, g, n, l), g a divisor of d.
        D, delta_bias : (d,) or None.
        initial_state : (b, d, n) or None for zeros.

        Returns
        -------
        outputs : y (b, d, l) and, if asked for, the last state (b, d, n).
        residuals : the states before each tile of steps, (b, tiles, d, 4 lanes), if the call is
            recorded; else none.
        """
        plan = _Plan(u, A, B, C, self.threads, self._tiles)
        b, d, l = u.shape
        sizes = plan.sizes(recorded=recorded, u=u, delta=delta, z=z)
        channels, rows = self._channels(plan, A, D, delta_bias, sizes), self._rows(plan, B, C)
        first = self.dense(initial_state)
        states = self._empty(b, sizes["kept"], d, 4 * plan.lanes)
        how = {"SOFTPLUS": delta_softplus}
        enters = plan.segments > 1 or first is not None
        if enters:
            ends, totals = self._of_segments(plan)
            arrays = [u.storage, delta.storage, channels, rows, ends, totals]
            if plan.segments > 1:
                self._launch(plan, "segment_ends", arrays, sizes, how)
            self._carry(plan, channels, first, ends, totals, states, sizes)
        y = self._empty(b, l, d)
        last = self._empty(b, d, plan.n)
        gate = u if z is None else z
        arrays = [u.storage, delta.storage, gate.storage, channels, rows, states, y, last]
        own = {"HAS_Z": z is not None, "HAS_LAST": return_last_state, "ENTERS": enters}
        self._launch(plan, "scan", arrays, sizes, {**how, **own})
        y = channels_first(y)
        return (y, last) if return_last_state else (y,), (states,) if recorded else ()

    def backward(
        self,
        cotangents: Sequence[WgpuArray | None],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray | None],
        residuals: Sequence[WgpuArray],
        *,
        delta_softplus: bool = False,
        return_last_state: bool = False,
    ) -> tuple[WgpuArray | None, ...]:
        """Return the gradients of the nine inputs, None where not needed."""
        if not residuals:  # recorded where residuals are put away
            softplus = delta_softplus
            given: Any = inputs
            _, residuals = self.forward(*given, delta_softplus=softplus, recorded=True)
        u, delta, A, B, C, D, z, delta_bias, _ = inputs
        assert u is not None and delta is not None
        assert A is not None and B is not None and C is not None
        plan = _Plan(u, A, B, C, self.threads, self._tiles)
        b, d, l = u.shape
        n, width, segments = plan.n, 4 * plan.lanes, plan.segments
        g = cotangents[0]
        if g is None:
            g = self.runtime.from_numpy(np.zeros((1, 1, 1), np.float32)).view(u.shape, (0, 0, 0))
        sizes = plan.sizes(recorded=True, u=u, delta=delta, z=z, g=g)
        channels, rows = self._channels(plan, A, D, delta_bias, sizes), self._rows(plan, B, C)
        (states,) = residuals
        gate = u if z is None else z
        how = {"SOFTPLUS": delta_softplus, "HAS_Z": z is not None}

        runs = b * plan.tiles * d
        signals, D_parts = self._empty(b, l, d, 4), self._empty(b * plan.tiles, d)
        arrays = [u.storage, delta.storage, gate.storage, channels, g.storage, signals, D_parts]
        self.each("signals", arrays, sizes, runs, trips=_STEPS, constants={**plan.constants, **how})

        ends, totals = self._of_segments(plan)
        exits = self._empty(b, segments, d, width)
        if segments > 1:
            arrays = [signals, channels, rows, ends, totals]
            self._launch(plan, "segment_starts", arrays, sizes)
        pulled = self.dense(cotangents[1]) if return_last_state else None
        backward = {**sizes, "every": plan.segment, "kept": segments}
        self._carry(plan, channels, pulled, ends, totals, exits, backward, {"IS_BACKWARD": 1})

        results, A_parts = self._empty(b, l, d, 4), self._empty(b * segments, d, width)
        shared = self._empty(b, plan.groups * plan.parts, l, 2, width)
        arrays = [signals, exits, results, channels, rows, states, A_parts, shared]
        self._launch(plan, "walk_back", arrays, sizes)

        gu, gdelta = self._empty(b, l, d), self._empty(b, l, d)
        gz = gu if z is None else self._empty(b, l, d)
        bias_parts = self._empty(b * plan.tiles, d)
        arrays = [gu, gdelta, results, gz, g.storage, gate.storage, bias_parts]
        self.each("finish", arrays, sizes, runs, trips=_STEPS, constants={**plan.constants, **how})

        total = self._parts.total
        gradients: tuple[Callable[[], WgpuArray], ...] = (
            lambda: channels_first(gu),
            lambda: channels_first(gdelta),
            lambda: total(A_parts, 0).view((d, n), (width, 1)),
            lambda: self._of_rows(plan, shared, B, 0),
            lambda: self._of_rows(plan, shared, C, 1),
            lambda: total(D_parts, 0),
            lambda: channels_first(gz),
            lambda: total(bias_parts, 0),
            lambda: exits.view((b, d, n), (segments * d * width, width, 1)),
        )
        return tuple(
            gradient() if need and x is not None else None
            for gradient, need, x in zip(gradients, needs, inputs, strict=True)
        )

    def _empty(self, *shape: int) -> WgpuArray:
        return self.runtime.empty(shape, dtypes.float32)

    def _of_segments(self, plan: _Plan) -> tuple[WgpuArray, WgpuArray]:
        """Return room for what segments end with, and for the sums of their steps."""
        shape = plan.b, plan.segments, plan.d
        return self._empty(*shape, 4 * plan.lanes), self._empty(*shape)

    def _channels(
        self,
        plan: _Plan,
        A: WgpuArray,
        D: WgpuArray | None,
        delta_bias: WgpuArray | None,
        sizes: Mapping[str, Any],
    ) -> WgpuArray:
        """Return A, and D with the bias, as vectors for each channel."""
        A, D, delta_bias = (self.dense(x) for x in (A, D, delta_bias))
        channels = self._empty(plan.d, plan.lanes + 1, 4)
        own = {"HAS_D": D is not None, "HAS_BIAS": delta_bias is not None}
        arrays = [A, D or A, delta_bias or A, channels]
        count = plan.d * (plan.lanes + 1)
        self.each(
            "fill_channels", arrays, sizes, count, trips=4, constants={**plan.constants, **own}
        )
        return channels

    def _rows(self, plan: _Plan, *sources: WgpuArray) -> WgpuArray:
        """Return B and C as vectors of states for each step."""
        counts = [plan.b * groups * plan.l * 4 * plan.lanes for groups in plan.groups_of]
        rows = self._empty(sum(counts))
        for source, groups, count, to in zip(
            sources, plan.groups_of, counts, (0, counts[0]), strict=True
        ):
            steps = source.strides
            if source.ndim == 3:
                steps = (steps[0], 0, *steps[1:])
            sizes = {
                **{"groups": groups, "l": plan.l, "n": plan.n, "count": count},
                "start": source.offset,
                "to": to,
                "steps": wrapped(steps),
            }
            self.each("fill_rows", [source.storage, rows], sizes, count, constants=plan.constants)
        return rows

    def _carry(
        self,
        plan: _Plan,
        channels: WgpuArray,
        first: WgpuArray | None,
        ends: WgpuArray,
        totals: WgpuArray,
        entries: WgpuArray,
        sizes: Mapping[str, Any],
        constants: Mapping[str, int] | None = None,
    ) -> None:
        """Write what each segment begins with to ``entries``."""
        self.each(
            "carry",
            [first or totals, entries, channels, ends, totals],
            sizes,
            plan.b * plan.d * plan.lanes,
            trips=4 + plan.segments,
            constants={**plan.constants, "HAS_FIRST": first is not None, **(constants or {})},
        )

    def _of_rows(self, plan: _Plan, shared: WgpuArray, source: WgpuArray, which: int) -> WgpuArray:
        """Return the gradient of B or C from what workgroups added up for it."""
        b, l, n, width = plan.b, plan.l, plan.n, 4 * plan.lanes
        groups = plan.groups_of[which]
        count = plan.groups * plan.parts // groups
        parts = WgpuArray(shared.storage, (b * groups, count, l * 2 * width), shared.dtype)
        total = self._parts.total(parts, 1)
        steps = 2 * width * l, 1, 2 * width
        shape = n, l
        if source.ndim == 4:
            return total.view((b, groups, *shape), (groups * steps[0], *steps), which * width)
        return total.view((b, *shape), steps, which * width)

    def _launch(
        self,
        plan: _Plan,
        entry: str,
        arrays: list[Any],
        sizes: Mapping[str, Any],
        constants: Mapping[str, int] | None = None,
    ) -> None:
        """Launch a kernel that walks segments."""
        Program.of(self.runtime, self.file).launch(
            entry,
            arrays,
            sizes,
            groups=plan.workgroups,
            trips=plan.trips,
            constants={"THREADS": self.threads, **plan.constants, **(constants or {})},
        )
