"""The kernel table of a backend, and the one place where a kernel is chosen.

A kernel is declared once: its name, what to call, the dtypes it serves and, if it is picky, a
condition. Its absence means that the op's definition runs; so a kernel can be deleted and nothing
but speed changes.

Conventions, on raw arrays, inputs in the op's order with ``None`` for those left out:

- ``NAME(*inputs, **attributes) -> (outputs, residuals)``, two tuples; residuals are arrays that the
  backward kernel wants back.
- ``NAME_vjp(cotangents, needs, inputs, residuals, **attributes) -> gradients``; ``cotangents`` has
  one array or None for each output, ``needs`` says which gradients are wanted, ``gradients`` has
  one array or None for each input; equal gradients may be one array.
- a kernel that ``prepares`` is called with ``recorded=True`` as well where the call is recorded. It
  may then compute the gradient ahead, for a cotangent of ones, and give it as a residual in a
  `Prepared`. The backward kernel that takes it owns it; a second one finds nothing and computes.
- a kernel of an op that writes in place overwrites those inputs and returns nothing.

Inputs are never modified otherwise. All have one dtype, but those that the op declares to be
integers or the like: this module sees to it. What dtypes of these a kernel takes, its condition
says.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from helixml import config
from helixml.errors import BackendError

__all__ = ["Kernel", "KernelTable", "Prepared"]

Array = Any  # a raw array of whatever kind the backend uses


_name = cache(str)  # of a dtype: NumPy takes long to tell


@dataclass(frozen=True)
class Kernel:
    """One declared kernel.

    Attributes
    ----------
    name : the fused op's name, or that with ``_vjp``.
    function : see the module's text.
    dtypes : names of the floating dtypes that it serves.
    when : None, or ``(inputs, attributes) -> bool`` that says whether it can take a call.
    prepares : whether it may compute the gradient ahead; see the module's text.
    """

    name: str
    function: Callable[..., Any]
    dtypes: tuple[str, ...]
    when: Callable[[Sequence[Array], Mapping[str, Any]], bool] | None = None
    prepares: bool = False


class Prepared:
    """A gradient that was computed ahead; whoever takes it first owns it.

    >>> prepared = Prepared("gradient")
    >>> prepared.take(), prepared.take()
    ('gradient', None)
    """

    __slots__ = ("_arrays",)

    def __init__(self, array: Array) -> None:
        self._arrays = [array]

    @property
    def array(self) -> Array | None:
        """What is there to take, or None."""
        return self._arrays[0] if self._arrays else None

    def take(self) -> Array | None:
        """Return the array, once; then None. Of two threads one gets it."""
        try:
            return self._arrays.pop()
        except IndexError:
            return None


class KernelTable:
    """Kernels by name.

    >>> table = KernelTable([Kernel("double", lambda x: ((2 * x,), ()), ("float32",))])
    >>> sorted(table)
    ['double']
    """

    def __init__(self, kernels: Iterable[Kernel] = ()) -> None:
        kernels = list(kernels)
        self._kernels: dict[str, Kernel] = {}
        self.preparing = frozenset(kernel.name for kernel in kernels if kernel.prepares)
        for kernel in kernels:
            if kernel.name in self._kernels:
                raise BackendError(f"kernels: {kernel.name!r} is declared twice.")
            self._kernels[kernel.name] = kernel

    def __iter__(self) -> Iterator[str]:
        return iter(self._kernels)

    def __getitem__(self, name: str) -> Kernel:
        return self._kernels[name]

    def __len__(self) -> int:
        return len(self._kernels)

    def find(
        self,
        name: str,
        inputs: Sequence[Array],
        attributes: Mapping[str, Any],
        integers: Container[int] = (),
    ) -> Callable[..., Any] | None:
        """Return the function of the kernel that can take this call, or None.

        All inputs must be of one dtype that the kernel serves, but those at the positions in
        ``integers``, whose dtypes the op has checked.
        """
        kernel = self._kernels.get(name)
        if kernel is None or (config.kernels_vary and not config.get().kernels):
            return None
        dtype = None
        for position, array in enumerate(inputs):
            if array is None or position in integers:
                continue
            found = array.dtype
            if dtype is None:
                dtype = found
            elif found is not dtype and found != dtype:
                return None
        if dtype is None or _name(dtype) not in kernel.dtypes:
            return None
        if kernel.when is not None and not kernel.when(inputs, attributes):
            return None
        return kernel.function

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Take kernels out of the table for a block of code (for tests and comparisons)."""
        taken = {name: self._kernels.pop(name) for name in names if name in self._kernels}
        try:
            yield
        finally:
            self._kernels.update(taken)
