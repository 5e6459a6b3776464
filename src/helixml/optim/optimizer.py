"""What all optimizers share: parameter groups, state, and its saving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import helixml as hx
from helixml.errors import CheckpointError, ConfigError

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
        items = list(params)
        if not items:
            raise ConfigError(f"{type(self).__name__}: there are no parameters to optimize.")
        if not isinstance(items[0], dict):
            items = [{"params": items}]
        self.groups: list[dict[str, Any]] = []
        seen: set[int] = set()
        for item in items:
            unknown = item.keys() - defaults.keys() - {"params"}
            if unknown:
                raise ConfigError(
                    f"{type(self).__name__}: a group sets {sorted(unknown)}. "
                    f"Hint: settings are {', '.join(defaults)}."
                )
            group = {**defaults, **item, "params": list(item["params"])}
            for parameter in group["params"]:
                if id(parameter) in seen:
                    raise ConfigError(f"{type(self).__name__}: a parameter is listed twice.")
                seen.add(id(parameter))
            self.groups.append(group)
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
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.update(parameter, self.state(parameter), group)

    def update(
        self, parameter: hx.Tensor, state: dict[str, hx.Tensor], group: dict[str, Any]
    ) -> None:
        """Update one parameter in place; every optimizer defines its own."""
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
        parameters = [p for group in self.groups for p in group["params"]]
        if len(saved["groups"]) != len(self.groups) or len(saved["state"]) != len(parameters):
            raise CheckpointError(
                f"{type(self).__name__}: the saved state has {len(saved['state'])} parameters in "
                f"{len(saved['groups'])} groups, this one {len(parameters)} in {len(self.groups)}."
            )
        for i, parameter in enumerate(parameters):
            for name, own in self.state(parameter).items():
                found = saved["state"][str(i)].get(name)
                if found is None or tuple(found.shape) != own.shape:
                    raise CheckpointError(
                        f"{type(self).__name__}: the saved {name} of parameter {i} "
                        f"{'is missing' if found is None else f'has shape {tuple(found.shape)}'}; "
                        f"it must be {own.shape}."
                    )
        self.steps = int(saved["steps"])
        for group, settings in zip(self.groups, saved["groups"], strict=True):
            group.update(settings)
        for i, parameter in enumerate(parameters):
            for name, own in self.state(parameter).items():
                own.assign_(hx.asarray(saved["state"][str(i)][name]).to(own.device))
