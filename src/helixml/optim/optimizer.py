"""What all optimizers share: parameter groups, state, and its saving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import helixml as hx
from helixml.errors import CheckpointError, ConfigError, DTypeError, ValueRangeError

__all__ = ["Optimizer"]


class Optimizer:
    """Base class: groups of parameters with their settings, and a state for each parameter.

    Parameters
    ----------
    params : iterable of Parameters, or of groups: dicts with "params" and settings of their own.
    defaults : settings of groups that do not say otherwise.

    Attributes
    ----------
    groups : list of dicts, "params" and settings.
    """

    # The state that each parameter has: name -> how it starts.
    slots: Mapping[str, Callable[[hx.Tensor], hx.Tensor]] = {}

    def __init__(self, params: Iterable[Any], **defaults: Any) -> None:
        name = type(self).__name__
        self.groups: list[dict[str, Any]] = []
        seen: set[int] = set()
        for item in _groups(name, params):
            group = {**defaults, **item}
            if unknown := group.keys() - defaults.keys() - {"params"}:
                raise ConfigError(
                    f"{name}: a group sets {sorted(unknown)}. "
                    f"Hint: settings are {', '.join(defaults)}."
                )
            self.check(group)
            for parameter in group["params"]:
                _check_parameter(name, parameter)
                if id(parameter) in seen:
                    raise ConfigError(f"{name}: a parameter is listed twice.")
                seen.add(id(parameter))
            self.groups.append(group)
        if not seen:
            raise ConfigError(f"{name}: there are no parameters to optimize.")
        self.steps = 0
        self._state: dict[int, dict[str, hx.Tensor]] = {}

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all."""
        rate: float = self.groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = value

    def zero_grad(self) -> None:
        """Drop the gradients; the optimizer's own state stays."""
        for group in self.groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state(self, parameter: hx.Tensor) -> dict[str, hx.Tensor]:
        """Return the state of a parameter, made on first use."""
        found = self._state.get(id(parameter))
        if found is None:
            found = {name: make(parameter) for name, make in self.slots.items()}
            self._state[id(parameter)] = found
        return found

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self.steps += 1
        with hx.no_grad():
            for group in self.groups:
                held = [p for p in group["params"] if p.grad is not None]
                for device in dict.fromkeys(p.device for p in held):
                    parameters = [p for p in held if p.device == device]
                    self.update(parameters, [self.state(p) for p in parameters], group)

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueRangeError unless the settings of a group make sense."""

    def update(
        self,
        parameters: list[hx.Tensor],
        states: list[dict[str, hx.Tensor]],
        group: dict[str, Any],
    ) -> None:
        """Update parameters of a group in place; every optimizer defines its own.

        They are those of one device that have gradients.
        """
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return steps, settings, and the state of each parameter by its position."""
        parameters = [p for group in self.groups for p in group["params"]]
        return {
            "steps": self.steps,
            "groups": [
                {key: value for key, value in group.items() if key != "params"}
                for group in self.groups
            ],
            "state": {str(i): dict(self.state(p)) for i, p in enumerate(parameters)},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises
        ------
        CheckpointError : it is of another optimizer or of other parameters; nothing is changed.
        """
        name = type(self).__name__
        parameters = [p for group in self.groups for p in group["params"]]
        for key in ("steps", "groups", "state"):
            if key not in saved:
                raise CheckpointError(f"{name}: the saved state has no {key!r}.")
        steps, groups, state = saved["steps"], saved["groups"], saved["state"]
        if not isinstance(steps, int) or steps < 0:
            raise CheckpointError(f"{name}: the saved state has steps={steps!r}.")
        if len(groups) != len(self.groups) or len(state) != len(parameters):
            raise CheckpointError(
                f"{name}: the saved state has {len(state)} parameters in {len(groups)} groups, "
                f"this one {len(parameters)} in {len(self.groups)}."
            )
        for group, settings in zip(self.groups, groups, strict=True):
            if settings.keys() != group.keys() - {"params"}:
                raise CheckpointError(
                    f"{name}: the saved settings are {sorted(settings)}, "
                    f"this one has {sorted(group.keys() - {'params'})}."
                )
            try:
                self.check(settings)
            except ValueRangeError as error:
                raise CheckpointError(f"{name}: a saved setting is wrong: {error}") from error
        found = {}
        for i, parameter in enumerate(parameters):
            for slot, own in self.state(parameter).items():
                value = state.get(str(i), {}).get(slot)
                if value is None or tuple(value.shape) != own.shape:
                    what = "is missing" if value is None else f"has shape {tuple(value.shape)}"
                    raise CheckpointError(
                        f"{name}: the saved {slot} of parameter {i} {what}; it must be {own.shape}."
                    )
                found[i, slot] = hx.asarray(value).to(own.device)
        self.steps = steps
        for group, settings in zip(self.groups, groups, strict=True):
            group.update(settings)
        for (i, slot), value in found.items():
            self.state(parameters[i])[slot].assign_(value)


def _groups(name: str, params: Iterable[Any]) -> list[dict[str, Any]]:
    """Return ``params`` as groups, each with a list of its parameters."""
    if isinstance(params, hx.Tensor) or not isinstance(params, Iterable):
        raise DTypeError(
            f"{name}: params is {type(params).__name__}, not a list of parameters or groups. "
            "Hint: model.parameters()."
        )
    items = list(params)
    if not items or not isinstance(items[0], dict):
        return [{"params": items}]
    for item in items:
        if not isinstance(item, dict) or "params" not in item:
            raise ConfigError(f"{name}: a group has no 'params': {item!r}.")
    return [{**item, "params": list(item["params"])} for item in items]


def _check_parameter(name: str, parameter: object) -> None:
    """Raise DTypeError unless an optimizer can write to ``parameter``."""
    if not isinstance(parameter, hx.Tensor):
        what = type(parameter).__name__
    elif not parameter.is_leaf:
        what = "computed by an op"
    elif not hx.dtypes.is_floating(parameter.dtype):
        what = parameter.dtype.name
    else:
        return
    raise DTypeError(f"{name}: a parameter is {what}, it must be a leaf Tensor of floats.")
