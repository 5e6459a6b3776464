"""Reversible blocks: layers whose inputs are computed again from their outputs.

A `ReversibleSequence` keeps its first inputs and its last outputs, however many blocks lie between:
the backward pass goes through the blocks in reverse and undoes each. `RevBlock` is one such block
of any two functions, `RevSSM` a stack of them around state space layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter as Argument
from inspect import Signature
from typing import Any

import helixml as hx
from helixml.errors import DTypeError, GraphError, ShapeError, ValueRangeError
from helixml.nn.activations import SwiGLU
from helixml.nn.functional import with_replaced
from helixml.nn.layers import RMSNorm, at_least_one
from helixml.nn.mamba import MambaBlock
from helixml.nn.module import Module, ModuleList
from helixml.nn.sequence import State, StepByChunk, check_state

__all__ = ["RevBlock", "RevSSM", "ReversibleSequence"]


class RevBlock(StepByChunk):
    """The two halves of x, each moved by a function of the other.

    y1 = x1 + f(x2), y2 = x2 + g(y1); undone by x2 = y2 - g(y1), x1 = y1 - f(x2).

    Parameters
    ----------
    f, g : Modules that keep the shape of a half.

    Notes
    -----
    A block by itself is computed as any other module. In a `ReversibleSequence` it keeps nothing.

    References
    ----------
    Gomez et al. 2017, "The reversible residual network", eqs. 6 and 7; eq. 8 undoes them.
    """

    def __init__(self, f: Module, g: Module) -> None:
        for function in (f, g):
            if not isinstance(function, Module):
                raise DTypeError(f"RevBlock: {function!r} is no Module.")
        self.f = f
        self.g = g

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return y, the halves along the last axis joined again, in the shape of x."""
        x1, x2 = _halves("RevBlock", x)
        y1 = x1 + _like(x2, self.f(x2))
        y2 = x2 + _like(y1, self.g(y1))
        y: hx.Tensor = hx.concat([y1, y2], axis=-1)
        return y

    def init_state(self, batch: int) -> State:
        """Return the states of f and of g; () for one that has no memory."""
        return tuple(
            part.init_state(batch) if hasattr(part, "init_state") else ()
            for part in (self.f, self.g)
        )

    def chunk(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Run a piece of a sequence, (b, l, d), from ``state``; recorded as by any layer."""
        check_state("RevBlock", state, 2)
        x1, x2 = _halves("RevBlock", x)
        moved, f_state = _chunk(self.f, x2, state[0])
        y1 = x1 + moved
        moved, g_state = _chunk(self.g, y1, state[1])
        y: hx.Tensor = hx.concat([y1, x2 + moved], axis=-1)
        return y, (f_state, g_state)


def _halves(layer: str, x: hx.Tensor) -> tuple[hx.Tensor, hx.Tensor]:
    if x.ndim == 0 or x.shape[-1] % 2:
        raise ShapeError(f"{layer}: x is {x.shape}; its last axis must have two equal halves.")
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def _like(x: hx.Tensor, moved: hx.Tensor) -> hx.Tensor:
    """Return ``moved`` if it has the shape of the half that it came from."""
    if moved.shape != x.shape:
        raise ShapeError(
            f"RevBlock: a function made {moved.shape} of a half {x.shape}; it must keep the shape."
        )
    return moved


def _chunk(part: Module, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
    if hasattr(part, "chunk"):
        y, state = part.chunk(x, state)
        return y, state
    return part(x), state


class ReversibleSequence(StepByChunk):
    """Reversible blocks one after the other, which keep nothing between them.

    Parameters
    ----------
    blocks : RevBlocks.
    drift_factor : float of at least 1: by how much the blocks may enlarge what rounding moves.

    Attributes
    ----------
    drift : float, how far the inputs that the last backward pass came to lay from those that were,
        as a share of the largest value; None before.

    Raises
    ------
    GraphError : in the backward pass, if the drift exceeds its bound,
        min(2 depth eps drift_factor, sqrt(eps)): each block rounds twice forward and twice
        backward, by eps / 2 of the largest value; beyond sqrt(eps) half the digits of the gradient
        would be lost. Also if a block reads a tensor that requires a gradient and is no attribute
        of its modules: its gradient would be missing.

    Notes
    -----
    The backward pass runs f and g once more. Random draws (dropout) are those of the forward pass.
    Buffers that they write (running statistics) are written twice; and what they leave elsewhere
    than in their results (`MixtureOfExperts.report`) has no gradient. Gradients are of any order.
    Blocks that draw inputs together by a factor each lose digits by that factor each: bound them
    (small starting values, norms inside), or keep the halves in a wider dtype.

    ``chunk`` and ``step`` are computed as those of any layer, and keep what each block needs.

    References
    ----------
    Gomez et al. 2017, "The reversible residual network", algorithm 1.

    Examples
    --------
    >>> import helixml as hx
    >>> rng = hx.random.Rng(0)
    >>> def block():
    ...     return hx.nn.RevBlock(hx.nn.Linear(2, 2, rng=rng), hx.nn.Linear(2, 2, rng=rng))
    >>> layer = hx.nn.ReversibleSequence([block() for _ in range(8)])
    >>> x = hx.tensor([[1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    >>> layer(x).sum().backward()
    >>> layer.drift < 1e-6, x.grad.shape
    (True, (1, 4))
    """

    drift: float | None = None

    def __init__(self, blocks: Iterable[RevBlock], *, drift_factor: float = 100.0) -> None:
        self.blocks = ModuleList(blocks)
        if not all(isinstance(block, RevBlock) for block in self.blocks):
            raise DTypeError("ReversibleSequence: a block is no RevBlock.")
        if not drift_factor >= 1:
            raise ValueRangeError(f"ReversibleSequence: drift_factor={drift_factor}, at least 1.")
        self.drift_factor = drift_factor

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Run all blocks on x, (..., d)."""
        x1, x2 = _halves("ReversibleSequence", x)
        if not hx.is_recording():
            for block in self.blocks:
                x = block(x)
            return x
        y1, y2 = _reversible(self, x1, x2)
        y: hx.Tensor = hx.concat([y1, y2], axis=-1)
        return y

    def init_state(self, batch: int) -> State:
        """Return the states of all blocks."""
        return [block.init_state(batch) for block in self.blocks]

    def chunk(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Run a piece of a sequence, (b, l, d), from ``state``."""
        check_state("ReversibleSequence", state, len(self.blocks))
        states = []
        for block, past in zip(self.blocks, state, strict=True):
            x, present = block.chunk(x, past)
            states.append(present)
        return x, states

    def _check_drift(self, found: list[hx.Tensor], wanted: list[hx.Tensor], most: float) -> None:
        """Measure how far the inputs that were found are from those that were."""
        pairs = list(zip(found, wanted, strict=True))
        if not wanted[0].size:
            return
        far = max(hx.max(hx.abs(a - b)).item() for a, b in pairs)
        largest = max(most, *(hx.max(hx.abs(b)).item() for b in wanted))
        self.drift = far / largest if largest > 0 else far
        eps = float(hx.finfo(wanted[0].dtype).eps)
        bound = min(2 * len(self.blocks) * eps * self.drift_factor, eps**0.5)
        if not self.drift <= bound:
            raise GraphError(
                f"ReversibleSequence: inputs come back with a drift of {self.drift:.2g}, more than "
                f"{bound:.2g} for {len(self.blocks)} blocks in {wanted[0].dtype}. Hint: smaller "
                "functions (norms inside, small starting values), fewer blocks, or a wider dtype."
            )


def _tensors(module: Module) -> dict[int, hx.Tensor]:
    """Return the tensors that a module holds and that require gradients, by id.

    Within `functional_call` these are no Parameters.
    """
    found = {}
    for _, part in module.named_modules():
        for value in vars(part).values():
            if isinstance(value, hx.Tensor) and value.requires_grad:
                found[id(value)] = value
    return found


def _reversible(layer: ReversibleSequence, x1: hx.Tensor, x2: hx.Tensor) -> Any:
    """Run the blocks as one node of the graph, whose rule runs them backward."""
    functions = [part for block in layer.blocks for part in (block.f, block.g)]
    own = [_tensors(function) for function in functions]
    everything = {key: value for tensors in own for key, value in tensors.items()}
    draws = [hx.random.Draws() for _ in functions]

    def run(x1: hx.Tensor, x2: hx.Tensor, *tensors: hx.Tensor) -> tuple[hx.Tensor, hx.Tensor]:
        for function, drawn in zip(functions, draws, strict=True):
            with drawn.record():
                x1, x2 = x2, x1 + _like(x2, function(x2))  # f, then g with the halves exchanged
        return x1, x2

    def undo(g: Any, outs: Any, x1: hx.Tensor, x2: hx.Tensor, *tensors: hx.Tensor) -> Any:
        again = hx.is_recording()  # the gradient is to be differentiated in turn
        values = dict(zip(everything, tensors, strict=True))
        sums: dict[int, hx.Tensor] = {}
        (y1, y2), (g1, g2) = outs, g
        most = max(hx.max(hx.abs(y)).item() if y.size else 0.0 for y in outs)
        for function, mine, drawn in reversed(list(zip(functions, own, draws, strict=True))):
            given = [values[key] for key in mine]
            if not again:
                y1, given = y1.detach(), [value.detach() for value in given]
            with drawn.replay(), hx.autograd.recomputing():
                moved, pulled = _pulled(function, list(mine), y1, given, g2)
            # y2 = x1 + f(x2) and y1 = x2, so that x1 = y2 - f(y1).
            y1, y2 = y2 - moved, y1
            g1, g2 = g2, g1 + pulled[0]
            for key, gradient in zip(mine, pulled[1:], strict=True):
                sums[key] = sums[key] + gradient if key in sums else gradient
        layer._check_drift([y1, y2], [x1, x2], most)
        return (g1, g2, *(sums[key] for key in everything))

    names = ["x1", "x2", *(f"tensor{i}" for i in range(len(everything)))]
    run.__signature__ = _signature(names)  # type: ignore[attr-defined]
    undo.__signature__ = _signature(["g", "outs", *names])  # type: ignore[attr-defined]
    node = hx.autograd.custom_vjp(run)
    node.vjp(*names)(undo)
    return node(x1, x2, *everything.values())


def _pulled(
    function: Module, keys: list[int], x: hx.Tensor, tensors: list[hx.Tensor], g: hx.Tensor
) -> tuple[hx.Tensor, tuple[hx.Tensor, ...]]:
    """Return function(x), with ``tensors`` for those of the ids ``keys``, and what g pulls back."""

    def call(x: hx.Tensor, *tensors: hx.Tensor) -> Any:
        return with_replaced(function, dict(zip(keys, tensors, strict=True)))(x)

    with hx.enable_grad():  # so that a tensor from elsewhere shows
        y, pull = hx.autograd.vjp(call, x, *tensors)
    if y.requires_grad and not hx.is_recording():
        raise GraphError(
            "ReversibleSequence: a block reads a tensor that requires a gradient and is no "
            "attribute of its modules. Hint: make it one, or detach() it."
        )
    found = pull(g.astype(y.dtype))
    return y, found if isinstance(found, tuple) else (found,)


def _signature(names: list[str]) -> Signature:
    return Signature([Argument(name, Argument.POSITIONAL_OR_KEYWORD) for name in names])


class RevSSM(ReversibleSequence):
    """A reversible stack of state space layers, each followed by a gated feed-forward block.

    f = mixer(RMSNorm(x)), g = SwiGLU(RMSNorm(x)), each on half of the features.

    Parameters
    ----------
    features : int, even.
    depth : int, blocks.
    make_mixer : called with the features of a half and ``rng``, makes the sequence layer of a
        block; a `MambaBlock` if left out. With a Hyena operator the stack is a reversible Hyena.
    expand : int, features inside the feed-forward blocks are expand times those of a half.
    drift_factor : as in `ReversibleSequence`.
    rng : the stream for starting values.

    Examples
    --------
    >>> import helixml as hx
    >>> layer = hx.nn.RevSSM(8, depth=2, rng=hx.random.Rng(0))
    >>> layer(hx.ones((1, 5, 8))).shape
    (1, 5, 8)
    """

    def __init__(
        self,
        features: int,
        depth: int,
        make_mixer: Callable[[int, hx.random.Rng], Module] | None = None,
        *,
        expand: int = 2,
        drift_factor: float = 100.0,
        rng: hx.random.Rng | None = None,
    ) -> None:
        at_least_one("RevSSM", features=features, depth=depth, expand=expand)
        if features % 2:
            raise ValueRangeError(f"RevSSM: features={features} must be even.")
        rng = rng or hx.random.default_rng()
        half = features // 2
        make = make_mixer or _mamba
        super().__init__(
            [
                RevBlock(
                    Normalised(half, make(half, rng)),
                    Normalised(half, SwiGLU(half, expand * half, rng=rng)),
                )
                for _ in range(depth)
            ],
            drift_factor=drift_factor,
        )


def _mamba(features: int, rng: hx.random.Rng) -> Module:
    return MambaBlock(features, rng=rng)


class Normalised(Module):
    """A layer behind a norm; what memory it has is the layer's."""

    def __init__(self, features: int, layer: Module) -> None:
        self.norm = RMSNorm(features)
        self.layer = layer

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return layer(norm(x))."""
        y: hx.Tensor = self.layer(self.norm(x))
        return y

    def init_state(self, batch: int) -> State:
        """Return the layer's state, () if it has none."""
        return self.layer.init_state(batch) if hasattr(self.layer, "init_state") else ()

    def chunk(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Run a piece of a sequence."""
        return _chunk(self.layer, self.norm(x), state)
