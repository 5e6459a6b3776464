"""Finding faults: where the first value that is not finite was made, and which line made what.

Everything here costs nothing until it is switched on. The hooks are in `helixml._core.anomaly`, the
files in `helixml.io.calls`; what the graph keeps is told by `helixml.explain_memory`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from helixml import config
from helixml._core.anomaly import CLASSES, Anomaly, Watch
from helixml._core.storage import user_line
from helixml.autograd.custom import custom_vjp
from helixml.errors import FileError, NonFiniteError
from helixml.io.calls import replay_call, write_call
from helixml.nn.module import Module

__all__ = ["anomaly", "replay", "strict_asarray", "trace_lines"]

_modules: ContextVar[tuple[Module, ...]] = ContextVar("helixml_modules", default=())
_numbers = itertools.count(1)


@contextmanager
def strict_asarray() -> Iterator[None]:
    """Make it an error inside a ``with`` block that NumPy takes a tensor off the graph.

    ``np.asarray(t)``, and whatever calls it, gives the values and no gradient. Here it raises
    `GraphError` if ``t`` requires a gradient; so does DLPack. ``t.detach()`` and ``t.numpy()`` say
    that it is meant.

    Examples
    --------
    >>> import helixml as hx, numpy as np
    >>> x = hx.tensor([1.0], requires_grad=True)
    >>> with hx.debug.strict_asarray():
    ...     np.asarray(x)
    Traceback (most recent call last):
    ...
    helixml.errors.GraphError: np.asarray: ... Hint: t.detach() ... says that this is meant.
    """
    with config.using(strict_asarray=True):
        yield


@contextmanager
def trace_lines() -> Iterator[None]:
    """Remember for each node of the graph the line of the user's code that made it.

    Returns
    -------
    A context manager. The lines are shown by errors, by a Tensor's text, and by
    `helixml.explain_memory`; ``HELIXML_DEBUG=1`` does the same for a whole program.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([1.0], requires_grad=True)
    >>> with hx.debug.trace_lines():
    ...     loss = hx.exp(x).sum()
    >>> hx.explain_memory(loss).entries[0].line != ""
    True
    """
    with config.using(debug=True):
        yield


@contextmanager
def anomaly(folder: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Raise where the first value that is not finite is made, forward or backward.

    Parameters
    ----------
    folder : where the call is written, so that `replay` can make it again; ``helixml/anomaly`` in
        the cache folder of the user if left out.

    Returns
    -------
    A context manager; it sees the ops of all threads.

    Raises
    ------
    NonFiniteError : an op made inf or nan out of operands that are all finite, also where that is
        its right value (log of 0). One that got inf or nan only passes it on, and is no anomaly.

    Notes
    -----
    Looks at each result once: slow. A gradient's rule is one step, whatever it makes on the way.
    On a device its values are copied to the host. Outside of the block nothing is asked.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([1.0, 0.0], requires_grad=True)
    >>> with hx.debug.anomaly():
    ...     loss = hx.log(x).sum()
    Traceback (most recent call last):
    helixml.errors.NonFiniteError: log: its result is -inf at (1,), 1 of 2 entries, out of ...
    """
    place = config.cache_dir() / "anomaly" if folder is None else Path(folder)
    watch: Any = Watch(lambda found: _report(found, place), _note)
    call = Module.__call__

    def tracked(module: Module, *args: Any, **kwargs: Any) -> Any:
        token = _modules.set((*_modules.get(), module))
        try:
            return call(module, *args, **kwargs)
        finally:
            _modules.reset(token)

    watch.enter((*CLASSES, custom_vjp))
    watch.put(Module, "__call__", tracked)
    try:
        with config.using(debug=True):
            yield
    finally:
        watch.leave()


def replay(path: str | os.PathLike[str]) -> Any:
    """Compute again what `anomaly` found.

    Parameters
    ----------
    path : of the file that the error names.

    Returns
    -------
    What the op returned: a Tensor or a tuple of them; of a gradient a tuple, one for each input,
    with None where none was asked for.

    Raises
    ------
    FileError : the file cannot be read. DataError : it is no such file.
    """
    return replay_call(Path(path))


def _module_path() -> str:
    """Return where in the outermost module the code runs: ``Model.layers.3 (Linear)``."""
    running = _modules.get()
    if not running:
        return ""
    outer, inner = running[0], running[-1]
    path = next((path for path, found in outer.named_modules() if found is inner), None)
    name = type(outer).__name__
    if path is None:
        return f"{name}, in a {type(inner).__name__} that it does not hold"
    return f"{name}.{path} ({type(inner).__name__})" if path else name


def _note(node: Any) -> None:
    """Write the module on a new node, beside the line."""
    module = _module_path()
    if module and node.origin is not None and ", in " not in node.origin:
        node.origin = f"{node.origin}, in {module}"


def _report(found: Anomaly, folder: Path) -> NoReturn:
    if found.phase == "forward":
        where_called: Any = user_line
        line, module = where_called(), _module_path()
    else:
        line, _, module = (found.node.origin or "").partition(", in ")
    path = folder / f"{found.op.name}-{os.getpid()}-{next(_numbers)}.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = write_call(path, found.op, found.call)
    except (OSError, FileError) as error:
        reason = str(error)
    hint = f"hx.debug.replay({str(path)!r}) computes it again."
    if reason:
        hint = f"there is no file to replay it, as {reason}."
    called = "its gradient was computed; the op was called" if found.node else "called"
    where = f"{called} at {line or 'an unknown line'}" + (f", in {module}" if module else "")
    operands = ", ".join([_shown(name, value) for name, value in found.operands])
    raise NonFiniteError(
        f"{found.op.name}: {found.what} is {_first(found.result)}, out of finite operands: "
        f"{operands}; {where}. Hint: {hint}",
        op=found.op.name,
        phase=found.phase,
        line=line,
        module=module,
        replay=None if reason else str(path),
    )


def _first(result: Any) -> str:
    """Return the first entry that is not finite, where it is, and how many there are."""
    values = result.numpy()
    wrong = ~np.isfinite(values)
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f" at {index}" if index else ""
    return f"{values[index]}{place}, {int(wrong.sum())} of {values.size} entries"


def _shown(name: str, value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{name} {tuple(value.shape)} {value.dtype}"
    return f"{name} {value!r:.40}"
