"""Averages of a training's weights: exponential (EMA) and equal (SWA).

The average is often better than the last weights, and is what one measures and saves: inside
``with average.applied():`` the model has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import helixml as hx
from helixml.errors import CheckpointError, ConfigError, DTypeError, ValueRangeError

__all__ = ["EMA", "SWA", "WeightAverage"]


class WeightAverage:
    """Base class: an average for each parameter.

    Parameters
    ----------
    params : iterable of Parameters; their present values are the first averages.

    Attributes
    ----------
    params : list of Tensor. averages : list of Tensor, in float32 where a parameter has half
        precision. updates : int, how many weights have gone in.

    Notes
    -----
    Buffers are not averaged. Layers that keep running statistics need some batches with the average
    applied before it is measured.
    """

    def __init__(self, params: Iterable[hx.Tensor]) -> None:
        if isinstance(params, hx.Tensor) or not isinstance(params, Iterable):
            raise DTypeError(
                f"{type(self).__name__}: params is {type(params).__name__}, not a list of "
                "parameters. Hint: model.parameters()."
            )
        self.params = list(params)
        with hx.no_grad():
            self.averages = [_copy(parameter) for parameter in self.params]
        self.updates = 0
        self._is_applied = False

    def weight(self) -> float:
        """Return how far the average moves towards the parameters at this update."""
        raise NotImplementedError

    @hx.autograd.uncaptured
    def update(self) -> None:
        """Take the present values of the parameters into the average.

        Raises
        ------
        ConfigError : the parameters are the average now.
        """
        self._need_own_weights("update")
        self.updates += 1
        weight = self.weight()
        with hx.no_grad():
            for parameter, average in zip(self.params, self.averages, strict=True):
                average.assign_(average + weight * (parameter - average))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the parameters their averages inside a ``with`` block, and their own values after.

        Raises
        ------
        ConfigError : they have them already.
        """
        self._need_own_weights("applied")
        with hx.no_grad():
            own = [hx.tensor(parameter) for parameter in self.params]
        self.apply()
        self._is_applied = True
        try:
            yield
        finally:
            self._is_applied = False
            with hx.no_grad():
                for parameter, value in zip(self.params, own, strict=True):
                    parameter.assign_(value)

    def apply(self) -> None:
        """Overwrite the parameters by their averages, for good."""
        with hx.no_grad():
            for parameter, average in zip(self.params, self.averages, strict=True):
                parameter.assign_(average)

    def _need_own_weights(self, what: str) -> None:
        if self._is_applied:
            raise ConfigError(
                f"{type(self).__name__}: {what}() inside applied(), where the parameters are the "
                "average. Hint: leave the with block first."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates, and the averages by the parameters' positions."""
        averages = {str(i): average for i, average in enumerate(self.averages)}
        return {"updates": self.updates, "averages": averages}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises
        ------
        CheckpointError : it is of other parameters; nothing is changed.
        """
        name = type(self).__name__
        updates, averages = saved.get("updates"), saved.get("averages", {})
        if not isinstance(updates, int) or updates < 0:
            raise CheckpointError(f"{name}: the saved state has updates={updates!r}.")
        if len(averages) != len(self.averages):
            raise CheckpointError(
                f"{name}: the saved state has {len(averages)} averages, this one "
                f"{len(self.averages)}."
            )
        found = []
        for i, own in enumerate(self.averages):
            value = averages.get(str(i))
            if value is None or tuple(value.shape) != own.shape:
                what = "is missing" if value is None else f"has shape {tuple(value.shape)}"
                raise CheckpointError(
                    f"{name}: the saved average {i} {what}; it must be {own.shape}."
                )
            found.append(hx.zeros_like(own).assign_(hx.asarray(value).to(own.device)))
        self.updates = updates
        self.averages = found


class EMA(WeightAverage):
    """Exponential moving average of weights: a = decay a + (1 - decay) p.

    Parameters
    ----------
    params : iterable of Parameters; their present values are the first averages.
    decay : float in [0, 1).
    warmup : begin with a decay of (1 + n) / (10 + n) at update n, so that early weights are
        forgotten sooner.

    Raises
    ------
    ValueRangeError : ``decay`` is out of its range.

    References
    ----------
    Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging"; the
    exponential form and its beginning as in TensorFlow's ExponentialMovingAverage.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([1.0])
    >>> average = hx.optim.EMA([w], decay=0.75)
    >>> with hx.no_grad():
    ...     _ = w.assign_([5.0])
    >>> average.update()
    >>> with average.applied():
    ...     w.tolist()
    [2.0]
    >>> w.tolist()
    [5.0]
    """

    def __init__(
        self, params: Iterable[hx.Tensor], decay: float = 0.999, *, warmup: bool = False
    ) -> None:
        super().__init__(params)
        if not 0 <= decay < 1:
            raise ValueRangeError(f"EMA: decay={decay}, it must lie in [0, 1).")
        self.decay = decay
        self.warmup = warmup

    def weight(self) -> float:
        """Return how far the average moves towards the parameters at this update."""
        if self.warmup:
            return 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        return 1 - self.decay


class SWA(WeightAverage):
    """Equal average of the weights at every update: a = a + (p - a) / n.

    Parameters
    ----------
    params : iterable of Parameters; before the first update the average is their present values.

    References
    ----------
    Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization",
    algorithm 1.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([0.0])
    >>> average = hx.optim.SWA([w])
    >>> for value in (1.0, 2.0, 6.0):
    ...     with hx.no_grad():
    ...         _ = w.assign_([value])
    ...     average.update()
    >>> average.averages
    [tensor([3.])]
    """

    def weight(self) -> float:
        """Return how far the average moves towards the parameters at this update."""
        return 1 / self.updates


def _copy(parameter: hx.Tensor) -> hx.Tensor:
    """Return a copy, at least of float32."""
    half = parameter.dtype in hx.dtypes.HALVES
    copy: hx.Tensor = hx.tensor(parameter, dtype=hx.float32 if half else None)
    return copy
