"""What all optimizers share: parameter groups, state, and its saving.

An optimizer says which tensors it keeps for a parameter (`Optimizer.slots`) and how one step goes
(`Optimizer.update`). Here is what surrounds that: which parameters have a gradient, whose settings
agree, how many steps each has taken, and copies in float32 of those in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import helixml as hx
from helixml.errors import CheckpointError, ConfigError, DTypeError, ShapeError, ValueRangeError

__all__ = ["Optimizer", "Slots", "State", "decay_groups"]

State = dict[str, hx.Tensor]
Slots = Mapping[str, Callable[[hx.Tensor], hx.Tensor]]


class Optimizer:
    """Base class: groups of parameters with their settings, and a state for each parameter.

    Parameters
    ----------
    params : iterable of Parameters, or of groups: dicts with "params" and settings of their own.
    master_weights : whether parameters of float16 and bfloat16 have a copy in float32, which takes
        the updates and keeps what is too small for the parameter.
    defaults : settings of groups that do not say otherwise.

    Attributes
    ----------
    groups : list of dicts, "params" and settings.
    steps : int, calls of `step` so far.

    Notes
    -----
    The learning rate of a parameter is that of its group times its ``lr_scale``, if it has one. The
    t of the formulas counts the steps in which the parameter had a gradient, as in PyTorch. What is
    written to a parameter between two steps is taken over by its copy in float32.

    References
    ----------
    Micikevicius et al. 2018, "Mixed precision training", section 3.1: master weights.
    """

    def __init__(
        self, params: Iterable[Any], *, master_weights: bool = True, **defaults: Any
    ) -> None:
        name = type(self).__name__
        self.master_weights = master_weights
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
        # Of each parameter, by its position: its steps, its state, and the group that it is in.
        self._counts = [0] * len(seen)
        self._states: list[State] = [{} for _ in seen]
        self._owners = [group for group in self.groups for _ in group["params"]]
        self._positions = {id(p): i for i, p in enumerate(self.parameters)}

    def __setstate__(self, fields: dict[str, Any]) -> None:
        vars(self).update(fields)
        self._positions = {id(p): i for i, p in enumerate(self.parameters)}  # copies are others

    @property
    def records(self) -> bool:
        """Whether a captured step records `update`, which then only does sums with its numbers.

        Any other is called in every replay.
        """
        return False

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all."""
        rate: float = self.groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        hx.autograd.capturing.prevent("the learning rate is set within the step")
        for group in self.groups:
            group["lr"] = value

    @property
    def parameters(self) -> list[hx.Tensor]:
        """All parameters, in the order of the groups."""
        return [parameter for group in self.groups for parameter in group["params"]]

    def zero_grad(self) -> None:
        """Drop the gradients; the optimizer's own state stays."""
        for parameter in self.parameters:
            parameter.grad = None
            if hx.autograd.capturing.active is not None:
                hx.autograd.capturing.note_gradient(parameter)

    def state(self, parameter: hx.Tensor) -> State:
        """Return the state of a parameter; what is missing is made.

        Raises
        ------
        ConfigError : it is no parameter of this optimizer.
        """
        i = self._positions.get(id(parameter))
        if i is None:
            raise ConfigError(
                f"{type(self).__name__}: a tensor of shape {parameter.shape} is none of the "
                "parameters given to this optimizer."
            )
        return _fill(self._states[i], parameter, self._all_slots(parameter, self._owners[i]))

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises
        ------
        ShapeError : a gradient has another shape than its parameter; nothing is changed.

        Notes
        -----
        Replays of a step that `helixml.capture` recorded see settings as they are then.
        """
        if self.records:
            self._step()
        else:
            self._step_uncaptured()

    def _step(self) -> None:
        for parameter in self.parameters:
            gradient = parameter.grad
            if gradient is not None and gradient.shape != parameter.shape:
                raise ShapeError(
                    f"{type(self).__name__}: a parameter is {parameter.shape}, its gradient "
                    f"{gradient.shape}. Hint: was the parameter replaced after backward()?"
                )
        if self.records and hx.autograd.capturing.listener() is not None:
            hx.autograd.capturing.expect(_pattern, self)
            for parameter in self.parameters:
                hx.autograd.capturing.note_gradient(parameter)
        with hx.no_grad():
            for group in self.groups:
                alike: dict[Any, list[hx.Tensor]] = {}  # what one call of `update` can take
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        scale = getattr(parameter, "lr_scale", 1.0)
                        key = (
                            parameter.device,
                            scale,
                            self._counts[self._positions[id(parameter)]] + 1,
                        )
                        alike.setdefault(key, []).append(parameter)
                for (_, scale, count), parameters in alike.items():
                    settings = {**group, "lr": group["lr"] * scale}
                    if self.records and hx.autograd.capturing.listener() is not None:
                        settings, count = self._current(group, parameters)  # noqa: PLW2901
                    self._update(parameters, settings, count)
        self._stepped()

    def _update(self, parameters: list[hx.Tensor], settings: dict[str, Any], count: int) -> None:
        """Take step number ``count`` of these parameters, through their master weights."""
        states = [self.state(p) for p in parameters]
        targets = [
            _current_master(state["master"], p) if "master" in state else p
            for p, state in zip(parameters, states, strict=True)
        ]
        gradients = [
            p.grad if p.grad.dtype == target.dtype else p.grad.astype(target.dtype)
            for p, target in zip(parameters, targets, strict=True)
            if p.grad is not None
        ]
        self.update(targets, gradients, states, settings, count)
        for parameter, target in zip(parameters, targets, strict=True):
            if target is not parameter:
                parameter.assign_(target)
        self._counted([self._positions[id(parameter)] for parameter in parameters])

    _step_uncaptured = hx.autograd.uncaptured(_step)

    @hx.autograd.uncaptured
    def _counted(self, positions: list[int]) -> None:
        """Count a step of the parameters in these positions."""
        for i in positions:
            self._counts[i] += 1

    @hx.autograd.uncaptured
    def _stepped(self) -> None:
        """Count a call of `step`."""
        self.steps += 1

    def _current(
        self, group: dict[str, Any], parameters: list[hx.Tensor]
    ) -> tuple[dict[str, Any], Any]:
        """Return settings and count as numbers that replays ask for anew."""
        current = hx.autograd.capturing.current
        settings: dict[str, Any] = {}
        for name, value in group.items():
            if isinstance(value, tuple):
                settings[name] = tuple(current(_part, group, name, i) for i in range(len(value)))
            elif isinstance(value, float | int) and not isinstance(value, bool):
                settings[name] = current(_setting, group, name)
        settings["lr"] = current(_rate, group, parameters[0])
        return settings, current(_next, self, self._positions[id(parameters[0])])

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueRangeError unless the settings of a group make sense."""

    def slots(self, parameter: hx.Tensor, settings: Mapping[str, Any]) -> Slots:
        """Return what is kept for a parameter: name -> how it starts."""
        return {}

    def update(
        self,
        parameters: list[hx.Tensor],
        gradients: list[hx.Tensor],
        states: list[State],
        settings: Mapping[str, Any],
        step: int,
    ) -> None:
        """Update parameters of a group in place; every optimizer defines its own.

        Parameters
        ----------
        parameters : of one device; a master weight stands in for its parameter.
        gradients : one for each, of its dtype.
        states : one for each, to be updated in place.
        settings : the group's, ``lr`` scaled as these parameters want it.
        step : the number of this step of theirs, from 1.
        """
        raise NotImplementedError

    def _all_slots(self, parameter: hx.Tensor, settings: Mapping[str, Any]) -> Slots:
        """Return `slots`, and before them that of the master weight if there is to be one."""
        slots = self.slots(parameter, settings)
        if parameter.dtype.itemsize == 2 and self.master_weights:  # float16 and bfloat16
            return {"master": _master, **slots}
        return slots

    def state_dict(self) -> dict[str, Any]:
        """Return steps, settings, and the state of each parameter by its position."""
        parameters = self.parameters
        return {
            "steps": self.steps,
            "counts": list(self._counts),
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
        parameters = self.parameters
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
        # States of before there were counts have none: then every step was one of all parameters.
        counts = saved.get("counts", [steps] * len(parameters))
        if len(counts) != len(parameters) or not all(
            isinstance(count, int) and 0 <= count <= steps for count in counts
        ):
            raise CheckpointError(
                f"{name}: the saved state has counts={counts}, not {len(parameters)} numbers from "
                f"0 to {steps}."
            )
        for group, settings in zip(self.groups, groups, strict=True):
            if settings.keys() != group.keys() - {"params"}:
                raise CheckpointError(
                    f"{name}: the saved settings are {sorted(settings)}, "
                    f"this one has {sorted(group.keys() - {'params'})}."
                )
            try:
                self.check(settings)
            except (ValueRangeError, TypeError) as error:
                raise CheckpointError(f"{name}: a saved setting is wrong: {error}") from error
        settings_of = [s for g, s in zip(self.groups, groups, strict=True) for _ in g["params"]]
        found: list[State] = []
        for i, parameter in enumerate(parameters):
            own = _fill({}, parameter, self._all_slots(parameter, settings_of[i]))
            for slot, tensor in own.items():
                value = state.get(str(i), {}).get(slot)
                if value is None or tuple(value.shape) != tensor.shape:
                    what = "is missing" if value is None else f"has shape {tuple(value.shape)}"
                    raise CheckpointError(
                        f"{name}: the saved {slot} of parameter {i} {what}; "
                        f"it must be {tensor.shape}."
                    )
                tensor.assign_(hx.asarray(value).to(tensor.device))
            found.append(own)
        self.steps = steps
        for group, settings in zip(self.groups, groups, strict=True):
            group.update(settings)
        self._counts, self._states = list(counts), found
        hx.autograd.capturing.note_change()


def _pattern(optimizer: Optimizer) -> Any:
    """Return what the parameters that one call of `update` takes depend on, but for gradients."""
    counts = optimizer._counts
    sizes = [len(group["params"]) for group in optimizer.groups]
    first: dict[int, int] = {}
    return sizes, [first.setdefault(count, i) for i, count in enumerate(counts)]


def _setting(group: Mapping[str, Any], name: str) -> Any:
    return group[name]


def _part(group: Mapping[str, Any], name: str, i: int) -> Any:
    return group[name][i]


def _rate(group: Mapping[str, Any], parameter: hx.Tensor) -> Any:
    return group["lr"] * getattr(parameter, "lr_scale", 1.0)


def _next(optimizer: Optimizer, position: int) -> int:
    return optimizer._counts[position] + 1


def decay_groups(params: Iterable[Any], weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups: parameters that decay, and those whose ``decay`` is False.

    Parameters
    ----------
    params : iterable of Parameters.
    weight_decay : float, for the first group; it is 0 for the second.

    Returns
    -------
    list of dicts, for any optimizer; without a group that has no parameters.

    Examples
    --------
    >>> import helixml as hx
    >>> model = hx.nn.Linear(2, 3)
    >>> groups = hx.optim.decay_groups(model.parameters(), 0.1)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.1), (1, 0.0)]
    >>> optimizer = hx.optim.AdamW(groups, lr=1e-3)
    """
    decayed: list[Any] = []
    others: list[Any] = []
    for parameter in params:
        (decayed if getattr(parameter, "decay", True) else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


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


def _fill(state: State, parameter: hx.Tensor, slots: Slots) -> State:
    """Make what a state lacks; the rest begins as the master weight says, where there is one."""
    for name, make in slots.items():
        if name not in state:
            state[name] = make(state.get("master", parameter))
    return state


def _master(parameter: hx.Tensor) -> hx.Tensor:
    with hx.no_grad():
        copy: hx.Tensor = parameter.astype(hx.float32)
    return copy


def _current_master(master: hx.Tensor, parameter: hx.Tensor) -> hx.Tensor:
    """Return the master weight, after taking over what was written to the parameter since."""
    same = master.astype(parameter.dtype) == parameter
    return master.assign_(hx.where(same, master, parameter.astype(master.dtype)))
