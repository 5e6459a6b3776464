"""One step of an optimizer: losses of some batches, their gradient, and what is done to it.

`Update` is what every training here has in common: the language model's `Trainer`, `Fit`, and
data-parallel training call it. It knows neither files nor loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

import helixml as hx
from helixml import nn, optim
from helixml.errors import ConfigError, DataError, DivergedError, DTypeError, ShapeError
from helixml.random import Draws, Rng
from helixml.training.recomputation import recomputed

__all__ = ["Figures", "Objective", "Update", "generators_of", "rows_of"]

# What is trained: (model, batch) -> scalar Tensor, a mean over the batch. Any: data of any form,
# and the model or a function that computes as it does.
Objective = Callable[[Any, Any], hx.Tensor]


class Figures(NamedTuple):
    """What a step gave: its loss, the norm of its gradient, and whether it was left out."""

    loss: float
    grad_norm: float
    skipped: bool = False


class Update:
    """Compute the gradient of one or more batches and let the optimizer use it.

    The gradient of k batches is that of all their rows together: each counts by its rows.

    Parameters
    ----------
    model : Module. optimizer : Optimizer, of all or some of its parameters.
    objective : (model, batch) -> mean loss of the batch, a scalar Tensor.
    clip_norm : the gradient of all parameters together is scaled down to this norm.
    clip_value : every element of the gradient is moved into [-clip_value, clip_value], after.
    precision : None, or "bfloat16" or "float16": the model computes in it. The parameters keep
        their own dtype, and so do their gradients and the optimizer's state.
    scaler : GradScaler; for float16 there is one if none is given.
    recompute : blocks of the model run again in the backward pass instead of keeping values.
    captured : losses and their gradients are replayed, as `helixml.capture` does it: for models and
        objectives that do nothing in Python that must be done in every step.

    Raises
    ------
    ConfigError : a setting makes no sense.

    Notes
    -----
    With ``precision`` the model runs as `nn.functional_call` runs it: attributes that ``forward``
    assigns are lost, buffers that it writes in place stay.

    References
    ----------
    Micikevicius et al. 2018, "Mixed precision training", section 3.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        objective: Objective,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        precision: str | None = None,
        scaler: optim.GradScaler | None = None,
        recompute: bool = False,
        captured: bool = False,
    ) -> None:
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None and not limit > 0:
                raise ConfigError(f"training: {name}={limit} must be above 0. Hint: None is off.")
        if precision not in (None, "float32", "bfloat16", "float16"):
            raise ConfigError(
                f"training: precision={precision!r}. Hint: 'bfloat16', 'float16' or 'float32'."
            )
        self.model = model
        self.optimizer = optimizer
        self.objective = objective
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.dtype = None if precision in (None, "float32") else hx.dtypes.parse(precision)
        if scaler is None and precision == "float16":
            scaler = optim.GradScaler()
        self.scaler = scaler
        self.recompute = recompute
        self._differentiate: Callable[[Any, float], hx.Tensor] = self._gradient
        if captured and not recompute:  # blocks that run again are other objects in every step
            self._differentiate = step = hx.capture(self._gradient)
            step.quiet = True  # who trains can do nothing about it
        trained = {id(p) for p in optimizer.parameters}
        self._held = list(model.parameters())  # walking through the modules takes its time
        self.parameters = [p for p in self._held if id(p) in trained]
        if strange := len(trained) - len(self.parameters):
            raise ConfigError(
                f"training: {strange} of the optimizer's {len(trained)} parameters are not the "
                f"model's. Hint: {type(optimizer).__name__}(model.parameters())."
            )
        if recompute:
            with recomputed(model):  # says at once if the model has no blocks
                pass

    def step(self, batches: Sequence[Any], lr: float | None = None) -> Figures:
        """Train on batches, in one step.

        Parameters
        ----------
        batches : one or more; their gradients are added up.
        lr : the learning rate; None leaves the optimizer's own.

        Raises
        ------
        DivergedError : loss or gradient is not finite; the weights are those before the step.
        """
        self.drop_gradients()  # of a step that an exception ended
        return self.apply(self.add_gradients(batches), lr)

    def add_gradients(self, batches: Sequence[Any]) -> float:
        """Add the gradient of batches to the parameters'; return their loss.

        Raises
        ------
        DivergedError : the loss is not finite; the gradients are dropped.
        """
        rows = [rows_of(batch) for batch in batches] if len(batches) > 1 else [1]
        return math.fsum(
            self.add_gradient(batch, count / sum(rows))
            for batch, count in zip(batches, rows, strict=True)
        )

    def drop_gradients(self) -> None:
        """Drop the gradients of the model, of what the optimizer does not train too."""
        for parameter in self._held:
            parameter.grad = None

    def retrace(self, batches: Sequence[Any], draws: Draws) -> None:
        """Compute a step's gradient again, with the same random draws."""
        with draws.replay():
            self.add_gradients(batches)

    def agreed(self, reason: str) -> str:
        """Return why the training ends now, or "": the same for all who train together."""
        return reason

    def add_gradient(self, batch: Any, share: float = 1.0) -> float:
        """Add ``share`` times a batch's gradient to the parameters'; return that of its loss.

        Raises
        ------
        DivergedError : the loss is not finite; the gradients are dropped.
        """
        # What overflows is found and explained here; NumPy's own warnings would only precede that.
        with np.errstate(all="ignore"), self.blocks():
            value: float = self._differentiate(batch, share).item()
        if not math.isfinite(value):
            self.drop_gradients()
            raise DivergedError(f"the loss is {value}")
        return value * share

    def _gradient(self, batch: Any, share: float) -> hx.Tensor:
        """Add ``share`` times a batch's gradient to the parameters'; return its loss."""
        loss = self.loss(batch)
        scaled = loss if share == 1.0 else loss * share
        if self.scaler is not None:
            scaled = self.scaler.scale(scaled)
        scaled.backward()
        return loss.detach()

    def apply(self, loss: float, lr: float | None = None) -> Figures:
        """Clip the gradients that were added up, make the optimizer's step, and drop them.

        Raises
        ------
        DivergedError : the gradient is not finite, and no loss scaling can help.
        """
        scaler = self.scaler
        with np.errstate(all="ignore"):
            overflow = scaler is not None and not scaler.unscale(self.optimizer)
            limit = self.clip_norm or math.inf
            norm = optim.clip_grad_norm(self.parameters, limit).item()
            if math.isfinite(norm) and self.clip_value is not None:  # it would hide infinities
                optim.clip_grad_value(self.parameters, self.clip_value)
        hopeless = not math.isfinite(norm) and not overflow
        if not hopeless:
            if lr is not None:
                self.optimizer.lr = lr
            if scaler is None:
                self.optimizer.step()
            else:
                factor = scaler.factor
                scaler.step(self.optimizer)
                scaler.update()
                hopeless = overflow and scaler.factor >= factor  # it is the smallest already
        self.drop_gradients()
        if hopeless:
            raise DivergedError(f"the norm of the gradient is {norm}")
        return Figures(loss, norm, skipped=overflow)

    def loss(self, batch: Any) -> hx.Tensor:
        """Return the objective of a batch, computed in the chosen precision.

        Raises
        ------
        ShapeError, DTypeError : the objective gives no scalar Tensor of floats.
        """
        loss = self.objective(self.computing(), batch)
        if not isinstance(loss, hx.Tensor) or not hx.dtypes.is_floating(loss.dtype):
            what = getattr(loss, "dtype", type(loss).__name__)
            raise DTypeError(f"training: the loss is {what}, it must be a Tensor of floats.")
        if loss.shape != ():
            raise ShapeError(
                f"training: the loss has shape {loss.shape}, it must be a scalar. "
                "Hint: reduction='mean', or .mean()."
            )
        return loss

    def computing(self) -> Any:  # Any: called as the model is
        """Return the model, or a function that computes as it does in the chosen precision."""
        if self.dtype is None:
            return self.model
        # The cast is recorded: the gradients arrive at the parameters in the parameters' dtype.
        cast = {
            name: parameter.astype(self.dtype)
            for name, parameter in self.model.named_parameters()
            if hx.dtypes.is_floating(parameter.dtype)
        }

        def run(*args: Any, **options: Any) -> Any:
            low = [self._narrow(value) for value in args]
            named = {name: self._narrow(value) for name, value in options.items()}
            return _widen(nn.functional_call(self.model, cast, *low, **named))

        return run

    def blocks(self) -> AbstractContextManager[None]:
        """Return the context of a loss and its gradient: with blocks that run again, or not."""
        return recomputed(self.model) if self.recompute else nullcontext()

    def _narrow(self, value: Any) -> Any:
        """Return an input of the model in the chosen precision, if it is a Tensor of floats."""
        floats = isinstance(value, hx.Tensor) and hx.dtypes.is_floating(value.dtype)
        return value.astype(self.dtype) if floats else value


def rows_of(batch: Any) -> int:
    """Return how many rows a batch has: the first size of its first array.

    Raises
    ------
    DataError : the batch holds no array with rows.
    """
    values = batch
    while isinstance(values, (tuple, list, dict)) and len(values):
        values = next(iter(values.values())) if isinstance(values, dict) else values[0]
    shape = getattr(values, "shape", ())
    if not shape:
        raise DataError(
            f"training: a batch is {type(batch).__name__} without rows. "
            "Hint: (x, y) or a dict, of arrays whose first axis is the batch."
        )
    return int(shape[0])


def generators_of(model: nn.Module) -> Iterator[tuple[str, Rng]]:
    """Yield (path, generator) of those that modules hold: dropout draws from them."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Rng):
                yield f"{path}.{name}" if path else name, value


def _widen(value: Any) -> Any:
    """Return what a model gave with float32 in the place of the 16-bit floats."""
    if isinstance(value, (tuple, list)):
        return tuple(_widen(part) for part in value)
    if isinstance(value, dict):
        return {key: _widen(part) for key, part in value.items()}
    halves = isinstance(value, hx.Tensor) and value.dtype in (hx.float16, hx.bfloat16)
    return value.astype("float32") if halves else value
