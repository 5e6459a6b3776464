"""Choosing a device for an operation: by the time that it takes, and the memory that is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from helixml.backends import registry
from helixml.errors import DeviceError, ValueRangeError
from helixml.hardware.catalogue import DeviceRecord, device, devices
from helixml.hardware.cost_model import CostModel
from helixml.hardware.operations import Operation
from helixml.hardware.recording import operation

__all__ = ["Strategy", "estimates", "optimal"]

Strategy = Literal["performance", "memory", "balanced"]


def optimal(
    what: Operation | str,
    *operands: Any,
    among: Sequence[str | DeviceRecord] | None = None,
    strategy: Strategy = "performance",
    models: dict[str, CostModel] | None = None,
    **attributes: Any,
) -> DeviceRecord:
    """Return the device that suits an operation best.

    Parameters
    ----------
    what : an `Operation`, or the name of an op, whose operands (see `hardware.operation`) and
        settings follow.
    among : devices to choose from; all that can be used here if left out.
    strategy : "performance" takes the shortest predicted time among devices that have the memory;
        "balanced" too, but where the operation fills no more than half of the free memory, if there
        is such a device; "memory" takes the most free memory, and the shortest time where it is
        equal.
    models : by name of a device; `CostModel.fit` gives those that are left out.

    Raises
    ------
    DeviceError : no device has the dtypes, or the memory. ValueRangeError : there is no such
    strategy. Others as of `hardware.operation`.

    Examples
    --------
    >>> from helixml.hardware import CostModel, optimal
    >>> known = {"cpu": CostModel("cpu", 1e-6, 1e10, 1e11, 5e10, {})}
    >>> optimal("matmul", (256, 256), (256, 256), among=["cpu"], models=known).name
    'cpu'
    """
    if strategy not in ("performance", "memory", "balanced"):
        raise ValueRangeError(
            f'optimal: strategy is {strategy!r}. Hint: "performance", "memory" or "balanced".'
        )
    made = what if isinstance(what, Operation) else operation(what, *operands, **attributes)
    times = estimates(made, among, models)
    needs = sum(spec.nbytes for spec in (*made.inputs, *made.outputs) if spec is not None)
    free = {name: device(name).memory.free for name in times}
    room = {name for name in times if (left := free[name]) is None or needs <= left}
    if not room:
        raise DeviceError(
            f"optimal: {made.op} needs {needs:,} bytes, and no device of {', '.join(times)} has "
            "them free. Hint: cut the operation, or free some memory."
        )
    if strategy == "memory":
        most = max(free[name] or 0 for name in room)
        room = {name for name in room if (free[name] or 0) >= 0.99 * most}  # it is never quiet
    if strategy == "balanced":
        roomy = {name for name in room if (left := free[name]) is None or 2 * needs <= left}
        room = roomy or room
    return device(min(room, key=lambda name: times[name]))


def estimates(
    what: Operation,
    among: Sequence[str | DeviceRecord] | None = None,
    models: dict[str, CostModel] | None = None,
) -> dict[str, float]:
    """Return the predicted seconds of an operation on each device that has its dtypes.

    Parameters
    ----------
    what : the operation.
    among, models : as for `optimal`.

    Raises
    ------
    DeviceError : there is none.
    """
    names = [str(record) for record in (devices() if among is None else among)]
    dtypes = {spec.dtype for spec in (*what.inputs, *what.outputs) if spec is not None}
    able = [name for name in names if dtypes <= set(registry.get(name).dtypes)]
    if not able:
        wanted = ", ".join(sorted(dtype.name for dtype in dtypes))
        raise DeviceError(
            f"optimal: no device of {', '.join(names) or 'none'} computes with {wanted}. "
            "Hint: hx.devices() shows what is here."
        )
    known = models or {}
    return {
        name: (known[name] if name in known else CostModel.fit(name)).predict(what) for name in able
    }
