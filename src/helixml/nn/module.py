"""Module: a tree of parameters with a ``forward``.

Parameters, buffers and child modules are found among the attributes by their type; nothing has to
be registered. Names are the attributes' names joined by dots, as in PyTorch's state dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeAlias

import helixml as hx
from helixml.errors import CheckpointError, ConfigError, DTypeError, IndexingError
from helixml.nn.foreign import taken
from helixml.nn.parameter import Buffer, Parameter

__all__ = ["Hook", "HookHandle", "Module", "ModuleDict", "ModuleList", "Sequential"]

Hook: TypeAlias = Callable[..., Any]  # Any: modules take and return what they like


class HookHandle:
    """What registering a hook on a module returns: `remove` takes it away."""

    def __init__(self, hooks: list[Hook], hook: Hook) -> None:
        self._hooks: list[Hook] | None = hooks
        self._hook = hook

    def remove(self) -> None:
        """Take the hook away; once more does nothing."""
        if self._hooks is not None:
            self._hooks.remove(self._hook)  # of one registered twice the first: all the same
            self._hooks = None


class Module:
    """Base class of layers and models.

    Assign `Parameter`, `Buffer` and `Module` objects to attributes in ``__init__`` and write
    ``forward``.

    Examples
    --------
    >>> import helixml as hx
    >>> class Twice(hx.nn.Module):
    ...     def __init__(self):
    ...         self.inner = hx.nn.Linear(2, 2, rng=hx.random.Rng(0))
    ...     def forward(self, x):
    ...         return self.inner(self.inner(x))
    >>> [name for name, _ in Twice().named_parameters()]
    ['inner.weight', 'inner.bias']
    """

    training: bool = True

    def __setattr__(self, name: str, value: Any) -> None:
        hx.autograd.capturing.note_change()  # captured steps look again at what they do
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        hx.autograd.capturing.note_change()
        object.__delattr__(self, name)

    _hooks_before: list[Hook] | None = None
    _hooks_after: list[Hook] | None = None

    def forward(self, *args: Any) -> Any:  # Any: each module has its own signature
        """Compute the module's result; every module defines its own."""
        raise ConfigError(f"{type(self).__name__}: this module has no forward().")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``; an error gets a note with the path of the module in which it arose."""
        try:
            if self._hooks_before is None and self._hooks_after is None:
                return self.forward(*args, **kwargs)
            return self._run_hooked(args, kwargs)
        except Exception as error:
            _note_path(error, self, args, kwargs)
            raise

    # Hooks

    def register_forward_pre_hook(self, hook: Hook) -> HookHandle:
        """Call ``hook(module, args)`` before each call of this module.

        Parameters
        ----------
        hook : what it returns stands in the place of the positional arguments: a tuple of them, or
            the only one; None changes nothing.

        Returns
        -------
        HookHandle, whose ``remove()`` takes the hook away.

        Notes
        -----
        Hooks run in the order in which they were registered, when the module is called; ``chunk``
        and ``step`` of sequence layers are calls of their own. They are copied and pickled with the
        module.
        """
        self._hooks_before = [] if self._hooks_before is None else self._hooks_before
        return _add_hook(self._hooks_before, hook)

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Call ``hook(module, args, result)`` after each call of this module.

        Parameters
        ----------
        hook : what it returns stands in the place of the result; None changes nothing.

        Returns
        -------
        HookHandle, whose ``remove()`` takes the hook away.

        Examples
        --------
        >>> import helixml as hx
        >>> layer, shapes = hx.nn.Linear(2, 3), []
        >>> handle = layer.register_forward_hook(lambda module, args, y: shapes.append(y.shape))
        >>> y = layer(hx.ones((4, 2)))
        >>> handle.remove()
        >>> y = layer(hx.ones((5, 2)))
        >>> shapes
        [(4, 3)]
        """
        self._hooks_after = [] if self._hooks_after is None else self._hooks_after
        return _add_hook(self._hooks_after, hook)

    def _run_hooked(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        for hook in list(self._hooks_before or ()):  # a hook may remove itself
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in list(self._hooks_after or ()):
            changed = hook(self, args, result)
            if changed is not None:
                result = changed
        return result

    # The tree

    def children(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of the parameters, buffers and modules held by attributes."""
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Buffer, Module)):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield (path, module) of this module and all below it."""
        yield prefix, self
        for name, value in self.children():
            if isinstance(value, Module):
                yield from value.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        seen = set()
        for path, module in self.named_modules():
            for name, value in module.children():
                if isinstance(value, kind) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (path, parameter); one that is shared comes once, under its first name."""
        yield from self._named(Parameter)

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Yield (path, buffer)."""
        yield from self._named(Buffer)

    def parameters(self) -> Iterator[Parameter]:
        """Yield the parameters."""
        for _, parameter in self.named_parameters():
            yield parameter

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call ``function`` with every module below this one, then with this one.

        Examples
        --------
        >>> import helixml as hx
        >>> def start(module):
        ...     if isinstance(module, hx.nn.Linear):
        ...         hx.nn.init.zeros_(module.bias)
        >>> hx.nn.Sequential(hx.nn.Linear(2, 2), hx.tanh).apply(start)[0].bias.tolist()
        [0.0, 0.0]
        """
        for _, module in reversed(list(self.named_modules())):
            function(module)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the parameters are learned."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    # State

    def _tensors(self) -> dict[str, hx.Tensor]:
        """Return parameters and buffers by path, those too that are not saved."""
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def state_dict(self) -> dict[str, hx.Tensor]:
        """Return parameters and buffers by path; the tensors themselves, not copies.

        Buffers that are not ``persistent`` are left out.
        """
        found = self._tensors().items()
        return {name: t for name, t in found if getattr(t, "persistent", True)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Overwrite parameters and buffers, in place; each keeps its device and its dtype.

        Parameters
        ----------
        state : path -> Tensor or array, exactly those of `state_dict`. Tensors of other libraries
            that speak DLPack are taken too: a state dict of PyTorch is one of a layer of the same
            name.

        Raises
        ------
        CheckpointError : names are missing or unexpected, shapes differ, an entry is no tensor, or
            one side has floats and the other has not; nothing is changed.
        """
        own = self.state_dict()
        given = {name: taken(name, value) for name, value in state.items()}
        problems = []
        if missing := sorted(own.keys() - given.keys()):
            problems.append(f"missing: {', '.join(missing)}")
        if unexpected := sorted(given.keys() - own.keys()):
            problems.append(f"unexpected: {', '.join(unexpected)}")
        for name, tensor in own.items():
            if name not in given:
                continue
            found = given[name]
            if found.shape != tensor.shape:
                problems.append(f"{name}: shape {found.shape}, not {tensor.shape}")
            elif _family(found) != _family(tensor):
                problems.append(f"{name}: {found.dtype}, not {tensor.dtype}")
        if problems:
            raise CheckpointError(
                f"load_state_dict: the state is not one of this {type(self).__name__}: "
                f"{'; '.join(problems)}. Hint: was it saved by a model of another size?"
            )
        with hx.no_grad():
            for name, tensor in own.items():
                tensor.assign_(given[name].to(tensor.device))

    def to(self, device: Any = None, dtype: Any = None) -> Self:
        """Move all parameters and buffers to a device, cast the float ones to a dtype, in place.

        Gradients of what changes are dropped.

        Raises
        ------
        DTypeError : ``dtype`` is no float.
        """
        kind = None if dtype is None else hx.dtypes.parse(dtype)
        if kind is not None and not hx.dtypes.is_floating(kind):
            raise DTypeError(f"to: a module's dtype is a float, not {kind}.")
        with hx.no_grad():
            for tensor in self._tensors().values():
                moved: hx.Tensor = tensor if device is None else tensor.to(device)
                floating = hx.dtypes.is_floating(moved.dtype)
                if kind is not None and floating and moved.dtype != kind:
                    moved = moved.astype(kind)
                if moved is not tensor:
                    tensor._become(hx.tensor(moved))
                    tensor.grad = None
        return self

    # Modes

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below it to training (dropout on)."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to evaluation (dropout off)."""
        return self.train(False)

    # Looks

    def extra(self) -> str:
        """Return what the repr shows in parentheses."""
        return ""

    def __repr__(self) -> str:
        return "\n".join(self._lines(""))

    def _lines(self, name: str) -> list[str]:
        count = sum(p.size for p in self.parameters())
        extra = self.extra()
        label = f"{name}: " if name else ""
        lines = [f"{label}{type(self).__name__}({extra})  {count:,} parameters"]
        for child, value in self.children():
            if isinstance(value, Module):
                lines += ["  " + line for line in value._lines(child)]
            else:
                kind = "" if isinstance(value, Parameter) else "  (buffer)"
                lines.append(f"  {child}: {value.shape} {value.dtype.name}{kind}")
        return lines


def _add_hook(hooks: list[Hook], hook: Hook) -> HookHandle:
    if not callable(hook):
        raise DTypeError(f"register a hook: {hook!r} cannot be called.")
    hooks.append(hook)
    return HookHandle(hooks, hook)


def _family(tensor: hx.Tensor) -> str:
    """Return "float", or the dtype's name: what a state may hold for such a tensor."""
    return "float" if hx.dtypes.is_floating(tensor.dtype) else tensor.dtype.name


def _note_path(
    error: Exception, module: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Note on ``error`` where in ``module`` it arose; the outermost call knows the full path."""
    inner, text, note = getattr(error, "_helixml_module", (None, "", ""))
    path = next((path for path, found in module.named_modules() if found is inner), None)
    if path is None:  # it arose here, or in a module that this one calls and does not hold
        shown = [_shown(value) for value in args]
        shown += [f"{name}={_shown(value)}" for name, value in kwargs.items()]
        inner, path, text = module, "", f"({', '.join(shown)})"
    else:
        error.__notes__.remove(note)
    where = type(module).__name__
    if path:
        where = f"{where}.{path} ({type(inner).__name__})"
    note = f"in {where}, called with {text}"
    error.add_note(note)
    error._helixml_module = (inner, text, note)  # type: ignore[attr-defined]


def _shown(value: object) -> str:
    if isinstance(value, hx.Tensor):
        return f"{value.shape} {value.dtype.name}"
    return type(value).__name__


class ModuleList(Module):
    """Modules in a list; their names are their numbers, and the list is those attributes.

    Parameters
    ----------
    modules : iterable of Modules.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def __iter__(self) -> Iterator[Any]:
        return iter([value for name, value in vars(self).items() if name.isdigit()])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int) -> Any:
        return list(self)[index]

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        if not isinstance(module, Module):
            raise DTypeError(
                f"ModuleList: {module!r} is no Module. Hint: Sequential takes functions."
            )
        setattr(self, str(len(self)), module)


class ModuleDict(Module):
    """Modules by name; the dict is this module's attributes.

    Parameters
    ----------
    modules : mapping from str to Module. A name is no attribute of every module ("training") and
        has no dot.

    Examples
    --------
    >>> import helixml as hx
    >>> heads = hx.nn.ModuleDict({"mean": hx.nn.Linear(2, 1), "scale": hx.nn.Linear(2, 1)})
    >>> list(heads), heads["mean"](hx.ones((3, 2))).shape
    (['mean', 'scale'], (3, 1))
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.update(modules or {})

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise DTypeError(f"ModuleDict: {module!r} is no Module.")
        if not isinstance(name, str):
            raise DTypeError(f"ModuleDict: {name!r} is no str.")
        if not name or "." in name or hasattr(ModuleDict, name):
            raise ConfigError(
                f"ModuleDict: {name!r} cannot be a name. Hint: no dot, and no attribute of modules."
            )
        setattr(self, name, module)

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise IndexingError(f"ModuleDict: there is no {name!r} among {list(self)}.")
        return vars(self)[name]

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(vars(self).get(name), Module) if isinstance(name, str) else False

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, value in vars(self).items() if isinstance(value, Module)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def keys(self) -> list[str]:
        """Return the names, in the order in which they came."""
        return list(self)

    def values(self) -> list[Module]:
        """Return the modules."""
        return [self[name] for name in self]

    def items(self) -> list[tuple[str, Module]]:
        """Return (name, module) pairs."""
        return [(name, self[name]) for name in self]

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add modules, or replace those of the same names."""
        for name in modules:
            self[name] = modules[name]


class Sequential(ModuleList):
    """Modules, and functions of one tensor, that run one after the other.

    Parameters
    ----------
    modules : Modules or functions.

    Examples
    --------
    >>> import helixml as hx
    >>> model = hx.nn.Sequential(hx.nn.Linear(2, 8), hx.silu, hx.nn.Linear(8, 1))
    >>> model(hx.ones((4, 2))).shape
    (4, 1)
    """

    def __init__(self, *modules: Callable[[Any], Any]) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Callable[[Any], Any]) -> None:
        """Add a module or a function at the end."""
        if not callable(module):
            raise DTypeError(f"Sequential: {module!r} cannot be called.")
        setattr(self, str(len(self)), module)

    def forward(self, x: Any) -> Any:
        """Return the last stage's result."""
        for stage in self:
            x = stage(x)
        return x
