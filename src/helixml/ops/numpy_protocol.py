"""NumPy's functions of Tensors: which rule computes ``np.f(t)``, and how arguments reach it.

NumPy asks here what a function of its own means for Tensors. The answer is looked for in this
order, and remembered:

1. an op that names the function in ``numpy=``;
2. an adapter in `numpy_functions` or `numpy_algebra`, for what takes other arguments, or that ops
   are put together for;
3. an op, or function of `helixml.ops`, of the same name: ``np.linalg.inv`` is the op ``inv``;
4. an op that has the function as its oracle.

Of elementwise functions, which all take arguments alike, adapters come last.

Arguments are bound by NumPy's own signature, so its defaults and keywords hold. A parameter that
the rule has not must have its default; anything else (``out=``, ``where=``) is an error that names
it. What has no rule is an error too: a gradient is never lost in silence. Loaded at the first call
of a NumPy function with a Tensor.

NumPy does not ask about lists of Tensors where it expects one array (``np.mean([t, t])``), nor in
functions that begin with ``np.asarray``: these give arrays. `helixml.debug.strict_asarray` makes
that an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any

import numpy as np

from helixml._core.op import REGISTRY, Op
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError

__all__ = [
    "ADAPTERS",
    "adapts",
    "array_function",
    "array_ufunc",
    "first_tensor",
    "flat",
    "full_name",
    "host",
    "rule_of",
    "typed",
]

_ANY_NUMBER = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
ADAPTERS: dict[str, Callable[..., Any]] = {}  # NumPy's name -> function of Tensors
_rules: dict[Any, Any] = {}  # NumPy function -> what computes it for Tensors

_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}
# These write into their first argument, which ops of the same name do not.
_WRITERS = {"copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask"}
_ACCUMULATIONS = {"add": "cumsum", "multiply": "cumprod"}


def full_name(function: Any) -> str:
    """Return NumPy's name of a function of its own: ``concatenate``, ``linalg.norm``."""
    if isinstance(function, np.ufunc):
        return function.__name__
    return f"{function.__module__}.{function.__name__}".removeprefix("numpy.")


def array_function(function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Compute a NumPy function of Tensors: the body of ``Tensor.__array_function__``."""
    for kind in types:
        if not (issubclass(kind, Tensor) or kind is np.ndarray or kind is np.memmap):
            return NotImplemented
    return _rule(function)(*args, **kwargs)


def array_ufunc(ufunc: Any, method: str, inputs: Any, options: Any) -> Any:
    """Compute a NumPy ufunc of Tensors: the body of ``Tensor.__array_ufunc__``."""
    name = ufunc.__name__
    if method == "__call__":
        rule = _rule(ufunc)
        if not options:
            return rule(*inputs)
        asked = {key: value for key, value in options.items() if not _is_nothing(key, value)}
        if asked and not (isinstance(rule, Op) and rule.attributes.issuperset(asked)):
            raise _refusal(name, f"with {', '.join(asked)}")
        return rule(*inputs, **asked)
    if method == "reduce" and name in _REDUCTIONS:
        return _rule(getattr(np, _REDUCTIONS[name]))(*inputs, **{"axis": 0, **options})
    if method == "accumulate" and name in _ACCUMULATIONS:
        return _rule(getattr(np, _ACCUMULATIONS[name]))(*inputs, **{"axis": 0, **options})
    if method == "outer" and not options:
        like = first_tensor(inputs)
        x, y = (as_tensor(name, value, like) for value in inputs)
        return _rule(ufunc)(x.reshape(*x.shape, *(1,) * y.ndim), y)
    raise _refusal(f"{name}.{method}")


def rule_of(function: Any) -> Any:
    """Return what computes a NumPy function for Tensors, or None."""
    found = _rules.get(function)
    if found is None:
        found = _find(function, full_name(function))
        if found is not None:
            _rules[function] = found
    return found


def _rule(function: Any) -> Any:
    found = rule_of(function)
    if found is None:
        raise _refusal(full_name(function))
    return found


def _refusal(name: str, what: str = "") -> DTypeError:
    return DTypeError(
        f"np.{name}{what and ' '}{what}: has no counterpart for Tensors that keeps gradients. "
        "Hint: np.asarray(t), or t.detach().numpy(), leaves the graph on purpose."
    )


def _find(function: Any, name: str) -> Any:
    from helixml import ops
    from helixml.ops import numpy_algebra, numpy_functions  # noqa: F401  they fill the table

    if name in _WRITERS:
        return None
    found = _candidate(function, name)
    if found is None:  # an op of a file that nothing has asked for yet
        ops.load_all()
        found = _candidate(function, name)
    return found


def _candidate(function: Any, name: str) -> Any:
    """Return a rule from what is loaded, or None."""
    from helixml import ops

    short = name.rpartition(".")[2]
    declared = [op for op in REGISTRY.values() if name in op.numpy]
    adapters = [ADAPTERS[name]] if name in ADAPTERS else []
    named = [f for f in [REGISTRY.get(short, getattr(ops, short, None))] if callable(f)]
    tested = [op for op in REGISTRY.values() if op.oracle is function]
    if isinstance(function, np.ufunc):
        return next(iter([*declared, *named, *tested, *adapters]), None)
    for target in [*declared, *adapters, *named, *tested]:
        names = _correspondence(function, target)
        if names is not None:
            return _bound(function, name, target, names)
    return None


def _parameters(function: Any) -> list[Parameter] | None:
    """Return the parameters of a NumPy function; some that are written in C do not tell."""
    try:
        return list(signature(function).parameters.values())
    except ValueError:
        return None


def _correspondence(function: Any, target: Any) -> dict[str, str] | None:
    """Return the target's name of each of NumPy's parameters, or None if the two do not fit.

    Names that are equal correspond; after them arrays do, in order, for NumPy calls its first
    parameter ``a``, ``x``, ``arr``, ``m``.
    """
    theirs = _parameters(function)
    ours = list(signature(target).parameters.values())
    if theirs is None or any(p.kind in _ANY_NUMBER for p in ours):
        return {}
    known = {p.name for p in ours}
    inputs = list(target.inputs) if isinstance(target, Op) else [p.name for p in ours[:1]]
    names = {p.name: p.name for p in theirs if p.name in known}
    rest = [name for name in inputs if name not in names]
    needed = [p for p in theirs if p.default is Parameter.empty and p.kind not in _ANY_NUMBER]
    for p in needed:
        if p.name not in known and rest:
            names[p.name] = rest.pop(0)
    fits = all(p.name in names for p in needed) and all(
        p.name in names.values() for p in ours if p.default is Parameter.empty
    )
    return names if fits else None


def _bound(function: Any, name: str, target: Any, names: dict[str, str]) -> Any:
    """Return a function with NumPy's signature that calls the target by the target's names."""
    theirs = _parameters(function)
    if theirs is None or not names:
        return _direct(name, target)
    whole = signature(function)

    def rule(*args: Any, **kwargs: Any) -> Any:
        given = whole.bind(*args, **kwargs).arguments
        passed = {}
        for p in theirs:
            value = given.get(p.name, p.default)
            if value is np._NoValue:
                continue
            if p.name not in names:
                if p.name in given and not (_is_nothing(p.name, value) or _same(value, p.default)):
                    raise _refusal(name, f"with {p.name}={value!r:.60}")
            # None is NumPy's word for "as usual", but for an axis, where it means all of them.
            elif value is not None or p.default is not None or p.name == "axis":
                passed[names[p.name]] = value
        return target(**passed)

    return rule


def _direct(name: str, target: Any) -> Any:
    """Return a function that calls a target which takes arguments as NumPy does, but fewer."""
    known = signature(target).parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in known.values()):
        return target

    def rule(*args: Any, **kwargs: Any) -> Any:
        passed = {}
        for key, value in kwargs.items():
            if key in known:
                passed[key] = value
            elif not (_is_nothing(key, value) or value == "same_kind"):  # as casting= is
                raise _refusal(name, f"with {key}={value!r:.60}")
        return target(*args, **passed)

    return rule


def _is_nothing(name: str, value: Any) -> bool:
    """Say whether a value asks for nothing, whatever a signature says that the default is."""
    if name == "out" and type(value) is tuple:
        return all(array is None for array in value)
    return value is None or (name == "where" and value is True)


def _same(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, (str, int, float)) and value == default)


# For those who write adapters


def adapts(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function in the table under NumPy's names; it gets Tensors where it wants them."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        notes = function.__annotations__
        wanted = {name: note for name, note in notes.items() if "Array" in note}
        order = list(function.__code__.co_varnames[: function.__code__.co_argcount])

        @wraps(function)
        def converted(*args: Any, **kwargs: Any) -> Any:
            values = {**dict(zip(order, args, strict=False)), **kwargs}
            like = first_tensor(values.values())
            for name in wanted.keys() & values.keys():
                value = values[name]
                if "Arrays" in wanted[name]:
                    values[name] = [as_tensor(names[0], item, like) for item in value]
                elif value is not None:
                    values[name] = as_tensor(names[0], value, like)
            return function(*args[len(order) :], **values)

        for name in names:
            ADAPTERS[name] = converted if wanted else function
        return function

    return enter


def first_tensor(values: Any) -> Tensor | None:
    """Return the first Tensor among ``values`` and in lists among them."""
    for value in values:
        found = value
        if isinstance(value, (list, tuple)):
            found = first_tensor(value)
        if isinstance(found, Tensor):
            return found
    return None


def host(value: Any) -> Any:
    """Return the values of Tensors, in structures too, as arrays of NumPy."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, (list, tuple)):
        return type(value)(host(item) for item in value)
    return value


def typed(x: Tensor, dtype: Any) -> Tensor:
    """Return ``x``, cast if a dtype is given."""
    return x if dtype is None else x.astype(dtype)


def flat(x: Tensor) -> Tensor:
    """Return the entries in one line."""
    return x.reshape(-1)
