"""helixml as a backend of einops: ``einops.rearrange(t, "b l d -> b d l")``, and layers of it.

einops finds backends among the subclasses of its own class, so making ours is all it takes. Nobody
need import this module: it is loaded with einops, whichever of the two packages comes first (see
`helixml._arrival`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import einops
import numpy as np
from einops._backends import AbstractBackend
from einops.layers import RearrangeMixin, ReduceMixin

import helixml as hx
from helixml import nn

__all__ = ["HelixmlBackend", "Rearrange", "Reduce"]


class HelixmlBackend(AbstractBackend):
    """What einops asks of a library of arrays, in helixml's functions."""

    framework_name = "helixml"

    def is_appropriate_type(self, tensor: object) -> bool:
        """Say whether this backend serves a value."""
        return isinstance(tensor, hx.Tensor)

    def from_numpy(self, x: np.ndarray) -> hx.Tensor:
        """Return an array as a Tensor, of which gradients can be asked."""
        return hx.tensor(x, requires_grad=x.dtype.kind in "fc")

    def to_numpy(self, x: hx.Tensor) -> np.ndarray:
        """Return the values."""
        return x.numpy()

    def arange(self, start: int, stop: int) -> hx.Tensor:
        """Return the integers from ``start`` to before ``stop``."""
        return hx.arange(start, stop)

    def transpose(self, x: hx.Tensor, axes: Sequence[int]) -> hx.Tensor:
        """Return the axes in another order."""
        return x.permute_dims(axes)

    def reduce(self, x: hx.Tensor, operation: str, axes: Sequence[int]) -> hx.Tensor:
        """Fold axes by sum, mean, prod, max, min, any or all."""
        folded: hx.Tensor = getattr(hx, operation)(x, axis=tuple(axes))
        return folded

    def stack_on_zeroth_dimension(self, tensors: Sequence[hx.Tensor]) -> hx.Tensor:
        """Stack along a new first axis."""
        stacked: hx.Tensor = hx.stack(list(tensors))
        return stacked

    def add_axis(self, x: hx.Tensor, new_position: int) -> hx.Tensor:
        """Insert an axis of size 1."""
        longer: hx.Tensor = hx.expand_dims(x, axis=new_position)
        return longer

    def tile(self, x: hx.Tensor, repeats: Sequence[int]) -> hx.Tensor:
        """Repeat along each axis."""
        tiled: hx.Tensor = hx.tile(x, tuple(repeats))
        return tiled

    def concat(self, tensors: Sequence[hx.Tensor], axis: int) -> hx.Tensor:
        """Join along an axis."""
        joined: hx.Tensor = hx.concat(list(tensors), axis=axis)
        return joined

    def is_float_type(self, x: hx.Tensor) -> bool:
        """Say whether means of the values make sense."""
        return hx.dtypes.is_floating(x.dtype)

    def layers(self) -> Any:
        """Return the module that has einops' layers."""
        return sys.modules[__name__]

    def einsum(self, pattern: str, *x: Any) -> hx.Tensor:
        """Multiply along named axes and sum."""
        product: hx.Tensor = np.einsum(pattern, *x)  # which calls helixml, for Tensors
        return product


class Rearrange(RearrangeMixin, nn.Module):
    """``einops.rearrange`` as a layer: ``Rearrange("b l (h d) -> b h l d", h=2)``.

    Examples
    --------
    >>> import helixml as hx
    >>> from helixml.einops import Rearrange
    >>> flatten = hx.nn.Sequential(Rearrange("b l d -> b (l d)"), hx.nn.Linear(6, 2))
    >>> flatten(hx.zeros((4, 3, 2))).shape
    (4, 2)
    """

    def extra(self) -> str:
        """Return the pattern."""
        return repr(self.pattern)

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Rearrange the axes of ``x``."""
        y: hx.Tensor = einops.rearrange(x, self.pattern, **self.axes_lengths)
        return y


class Reduce(ReduceMixin, nn.Module):
    """``einops.reduce`` as a layer: ``Reduce("b l d -> b d", "mean")``."""

    def extra(self) -> str:
        """Return the pattern and what folds."""
        return f"{self.pattern!r}, {self.reduction!r}"

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Fold axes of ``x``."""
        y: hx.Tensor = einops.reduce(x, self.pattern, self.reduction, **self.axes_lengths)
        return y
