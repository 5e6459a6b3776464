"""`to`: a whole structure of tensors, or a module, on another device."""

from __future__ import annotations

from typing import Any

import helixml as hx
from helixml.autograd.structures import flatten
from helixml.backends import registry
from helixml.device import Device
from helixml.nn.module import Module

__all__ = ["to"]


def to(device: str | Device, tree: Any) -> Any:  # Any: what was given, elsewhere
    """Return a structure with all its tensors on a device.

    Parameters
    ----------
    device : its name.
    tree : Tensor, module, or tuples, lists and dicts of these, nested as you like. What is neither
        stays as it is.

    Returns
    -------
    The same structure. A tensor that stands in several places is moved once, and stands in all of
    them again; one that lives there already is itself. Modules are moved in place, as
    `Module.to` does.

    Raises
    ------
    DeviceError : there is no such device; then nothing has been moved.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.ones((2,))
    >>> moved = hx.hardware.to("reference", {"x": x, "both": (x, 3)})
    >>> moved["x"].device, moved["both"][0] is moved["x"], moved["both"][1]
    (Device('reference'), True, 3)
    """
    registry.get(device)
    leaves, form = flatten(tree)
    moved: dict[int, Any] = {}
    for kind in (Module, hx.Tensor):  # a parameter beside its module moves with that
        for leaf in leaves:
            if isinstance(leaf, kind) and id(leaf) not in moved:
                moved[id(leaf)] = leaf.to(device)
    return form.build(iter([moved.get(id(leaf), leaf) for leaf in leaves]))
