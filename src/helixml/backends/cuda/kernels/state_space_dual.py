"""State-space duality on a GPU; the kernels and their mathematics are in state_space_dual.cu.

Products are sums of products in float32, for float64 in itself, on the ordinary units: no result
is rounded on its way. Sizes are chosen from shapes alone, so that the same call gives the same bits
on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.parts import Array, Parts
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.launch import WARP, Program
from helixml.backends.dispatch import Kernel

__all__ = ["StateSpaceDual", "kernels"]

_SIDE = 16  # a block has its square of threads
_THREADS = _SIDE * _SIDE
_MOST_OWN = {4: 4, 8: 2}  # rows and columns of a tile for a thread, by the bytes of a number
_BLOCKS = 512  # that a device is to have; heads share sums of B and C where chunks give them
_MOST_TILES = 65_535  # on a grid's second axis


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels of state-space duality."""
    dual = StateSpaceDual(cp)
    return [
        Kernel("ssd", dual.forward, FLOATS, takes_steps),
        Kernel("ssd_vjp", dual.backward, FLOATS, takes_steps),
    ]


def takes_steps(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is any step, anything in it, and a grid for its state."""
    x, B = inputs[0], inputs[3]
    assert x is not None and B is not None
    entries = x.shape[3] * B.shape[3]
    return bool(x.size > 0 and B.size > 0 and entries <= _MOST_TILES * _THREADS)


class _Plan:
    """How a call is cut up: the constants of its program, its sizes, its tiles."""

    def __init__(self, x: Array, B: Array, chunk_size: int) -> None:
        b, l, h, p = x.shape
        g, n = B.shape[2:]
        self.dtype = x.dtype
        self.accum = dtypes.accumulation(x.dtype)
        most = min(l, chunk_size)
        wanted = -(-min(most, max(n, p)) // _SIDE)
        own = next(o for o in (1, 2, 4) if o >= wanted or o == _MOST_OWN[self.accum.itemsize])
        self.constants = {"OWN": own}
        self.tile = own * _SIDE
        chunks = -(-l // min(most, self.tile))
        size = -(-l // chunks)
        self.chunks = -(-l // size)
        self.sizes = [l, h, p, g, n, size, self.chunks]
        self.lines = b * h
        self.steps = b * l * h
        self.channel_tiles, self.state_tiles = -(-p // self.tile), -(-n // self.tile)
        self.entry_tiles = -(-p * n // _THREADS)
        blocks = b * g * self.chunks * self.state_tiles
        self.parts = max(1, min(h // g, _BLOCKS // blocks))
        self.share = -(-(h // g) // self.parts)
        self.parts = -(-(h // g) // self.share)


class StateSpaceDual:
    """The dual form of a scan, and its gradient.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "state_space_dual.cu")
        self._parts = Parts(cp)

    def forward(
        self,
        x: Array,
        dt: Array,
        A: Array,
        B: Array,
        C: Array,
        D: Array | None = None,
        initial_state: Array | None = None,
        *,
        chunk_size: int = 64,
        return_last_state: bool = False,
    ) -> tuple[tuple[Array, ...], tuple[Array]]:
        """Return outputs and, if asked for, the last state, as `helixml.ssd` explains them.

        Parameters
        ----------
        x : (b, l, h, p), dt : (b, l, h), A, D : (h,), B, C : (b, l, g, n),
            initial_state : (b, h, p, n); any strides.

        Returns
        -------
        outputs : y (b, l, h, p) and the last state (b, h, p, n).
        residuals : the states before each chunk, (b, h, chunks, p, n), in what is computed in.
        """
        cp = self._cp
        plan = _Plan(x, B, chunk_size)
        x, dt, A, B, C, D, initial_state = (
            dense(cp, each) for each in (x, dt, A, B, C, D, initial_state)
        )
        (b, _, h, p), n = x.shape, B.shape[3]
        last = cp.empty((b, h, p, n), plan.dtype) if return_last_state else None
        states, _ = self._states(plan, x, dt, A, B, initial_state, last)
        y = cp.empty(x.shape, plan.dtype)
        self._launch(
            plan,
            "chunk_outputs",
            [x, dt, A, B, C, D, states, y, *plan.sizes],
            (plan.lines * plan.chunks, plan.channel_tiles),
        )
        return (y,) if last is None else (y, last), (states,)

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        chunk_size: int = 64,
        return_last_state: bool = False,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of the seven inputs, None where not needed."""
        cp = self._cp
        x, dt, A, B, C, D = (dense(cp, each) for each in inputs[:6])
        plan = _Plan(x, B, chunk_size)
        (b, l, h, p), (g, n) = x.shape, B.shape[2:]
        dtype, accum, chunks = plan.dtype, plan.accum, plan.lines * plan.chunks
        (states,) = residuals
        dy = cp.zeros(x.shape, dtype) if cotangents[0] is None else dense(cp, cotangents[0])
        dlast = dense(cp, cotangents[1]) if return_last_state else None
        dinitial = cp.empty((b, h, p, n), dtype)
        exits, handed = self._states(plan, dy, dt, A, C, dlast, dinitial, states)

        dx = cp.empty(x.shape, dtype)
        direct, skips, kept = (cp.empty((plan.channel_tiles, b, l, h), accum) for _ in range(3))
        within = cp.empty((b, l, h), accum)
        self._launch(
            plan,
            "pull_channels",
            [
                *(dy, x, dt, A, B, C, D, exits, dx, direct, skips, kept, within),
                *(*plan.sizes, plan.steps),
            ],
            (chunks, plan.channel_tiles),
        )
        dB, dC = (cp.empty((b, l, g, plan.parts, n), accum) for _ in "BC")
        read = cp.empty((plan.state_tiles, b, l, h), accum)
        self._launch(
            plan,
            "pull_states",
            [
                *(dy, x, dt, A, B, C, states, exits, dB, dC, read),
                *(*plan.sizes, plan.parts, plan.share, plan.steps),
            ],
            (b * g * plan.parts * plan.chunks, plan.state_tiles),
        )
        ddt = cp.empty((b, l, h), dtype)
        dA, dD = (cp.empty((b * plan.chunks, h), accum) for _ in "AD")
        self._launch(
            plan,
            "pull_rates",
            [
                *(dt, A, direct, skips, kept, within, read, handed, ddt, dA, dD),
                *(*plan.sizes, plan.entry_tiles, plan.steps),
            ],
            (chunks,),
            max(WARP, plan.tile),
        )
        total = self._parts.total
        gradients: tuple[Callable[[], Array], ...] = (
            lambda: dx,
            lambda: ddt,
            lambda: total(dA, 0, dtype),
            lambda: total(dB, 3, dtype),
            lambda: total(dC, 3, dtype),
            lambda: total(dD, 0, dtype),
            lambda: dinitial,
        )
        return tuple(
            gradient() if need and each is not None else None
            for gradient, need, each in zip(gradients, needs, inputs, strict=True)
        )

    def _states(
        self,
        plan: _Plan,
        x: Array,
        dt: Array,
        A: Array,
        B: Array,
        first: Array | None,
        last: Array | None,
        states: Array | None = None,
    ) -> tuple[Array, Array | None]:
        """Return the states before each chunk; backward, given ``states``, the cotangents after.

        Backward also the products of both, for each tile of a state.
        """
        cp = self._cp
        (b, _, h, p), n = x.shape, B.shape[3]
        backward = states is not None
        sums = cp.empty((b, h, plan.chunks, p, n), plan.accum)
        wholes = cp.empty((b, h, plan.chunks), plan.accum)
        self._launch(
            plan,
            "chunk_sums",
            [x, dt, A, B, sums, wholes, *plan.sizes, backward],
            (plan.lines * plan.chunks, plan.channel_tiles * plan.state_tiles),
        )
        handed = cp.empty((b, h, plan.chunks, plan.entry_tiles), plan.accum) if backward else None
        self._launch(
            plan,
            "pass_states",
            [wholes, first, sums, last, states, handed, plan.chunks, p * n, backward],
            (plan.lines, plan.entry_tiles),
        )
        return sums, handed

    def _launch(
        self,
        plan: _Plan,
        name: str,
        arguments: list[Any],
        grid: tuple[int, ...],
        block: int = _THREADS,
    ) -> None:
        self._program.launch(
            name,
            arguments,
            dtype=plan.dtype,
            grid=grid,
            block=block,
            constants=plan.constants,
        )
