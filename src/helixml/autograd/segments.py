"""Which calls of a recorded step a device can do in one command.

`segmented` takes the steps of a program in their order and puts calls side by side that need no
Python between them: calls on the device alone, whose operands are arrays and constants. What stood
between them and can wait (a gradient is set, random words are drawn, indices are checked) comes
behind them. Nothing passes a write or a function in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from helixml.autograd.recording import Call, Draw, Gradient, Host, Recorder, Ref, Write

__all__ = ["Segment", "operands", "refs", "segmented"]

_LEAST = 4  # calls that are worth a command of their own
_ARRAYS = ("slot", "input", "outer", "gradient", "constant")

Placed = tuple[int, Any]  # a step and its place in the recording


class Segment(NamedTuple):
    """Calls that stand side by side.

    Attributes
    ----------
    calls : with their places.
    operands : arrays from before, in the order in which they are used first.
    results : slots that are made here and used behind.
    """

    calls: tuple[Placed, ...]
    operands: tuple[Ref, ...]
    results: tuple[Ref, ...]


def refs(value: Any) -> Iterator[Ref]:
    """Yield the refs in a tree, those too that a ref is of."""
    if isinstance(value, Ref):
        yield value
        if value.of is not None:
            yield from refs(value.of)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from refs(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from refs(item)


def operands(step: Any) -> list[Any]:
    """Return what a step reads."""
    if isinstance(step, Segment):
        return [step.operands]
    if isinstance(step, (Call, Host)):
        return [step.args, step.kwargs]
    if isinstance(step, Gradient):
        return [step.tensor, step.value]
    return [step.tensor] if isinstance(step, Write) else []


def segmented(steps: list[Placed], recorder: Recorder, result: Any, fixed: set[Ref]) -> list[Any]:
    """Return the steps, many of them in a `Segment`, each with the place of its first.

    Parameters
    ----------
    steps : of a program.
    result : tree of refs that the program returns.
    fixed : refs of arrays that are the same in every replay.
    """
    ordered = _ordered(steps, recorder)
    uses: dict[Ref, set[int]] = {}  # where a slot is used, by the places in `ordered`
    for place, item in enumerate(ordered):
        for step in [call for _, call in item] if isinstance(item, list) else [item[1]]:
            for ref in refs(operands(step)):
                uses.setdefault(ref, set()).add(place)
    returned = set(refs(result))
    found: list[Any] = []
    for place, item in enumerate(ordered):
        if not isinstance(item, list):
            found.append(item)
            continue
        made = dict.fromkeys(ref for _, call in item for ref in refs(call.result))
        kept = [ref for ref in made if ref in returned or uses.get(ref, set()) - {place}]
        views = _views(item, kept, recorder)
        found.extend(views)
        calls = [placed for placed in item if placed not in views]
        if not calls:
            continue
        kept = [ref for _, call in calls for ref in refs(call.result) if ref in kept]
        made = dict.fromkeys(ref for _, call in calls for ref in refs(call.result))
        read = dict.fromkeys(ref for _, call in calls for ref in refs(operands(call)))
        given = [r for r in read if r.kind in _ARRAYS and r not in made and r not in fixed]
        found.append((calls[0][0], Segment(tuple(calls), tuple(given), tuple(kept))))
    return found


def _views(item: list[Placed], kept: list[Ref], recorder: Recorder) -> list[Placed]:
    """Return the calls that show memory from before as results of the segment.

    Where operands are copied before it begins, such views would show the copies.
    """
    made = {ref: placed for placed in item for ref in refs(placed[1].result)}
    sought = [ref for ref in kept if recorder.roots[ref.number] not in made]
    views: dict[int, Placed] = {}
    while sought:
        placed = made[sought.pop()]
        if placed[0] not in views:
            views[placed[0]] = placed
            sought.extend(ref for ref in refs(operands(placed[1])) if ref in made)
    return [views[place] for place in sorted(views)]


def _ordered(steps: list[Placed], recorder: Recorder) -> list[Placed | list[Placed]]:
    """Return the steps in another order, with lists of what is to be a segment."""
    found: list[Any] = []
    calls: list[Placed] = []  # of the segment to come
    waiting: list[Placed] = []  # what comes behind it
    late: set[Ref] = set()  # what that makes
    known: set[Ref] = set()  # all that was made

    def close() -> None:
        found.extend([list(calls)] if len(calls) >= _LEAST else calls)
        found.extend(waiting)
        for items in (calls, waiting, late):
            items.clear()

    for place, step in steps:
        made = set(refs(step.result)) if isinstance(step, Call) else set()
        fits = isinstance(step, Call) and step.on_device and _is_of_arrays(step, recorder)
        if fits and not made & known:
            if late.intersection(refs(operands(step))):
                close()
            calls.append((place, step))
        elif isinstance(step, (Gradient, Draw)) or (isinstance(step, Call) and not step.writes):
            waiting.append((place, step))
            late |= made
        else:
            close()
            found.append((place, step))
        known |= made
    close()
    return found


def _is_of_arrays(call: Call, recorder: Recorder) -> bool:
    """Say whether a call takes nothing but arrays and constants."""
    return all(
        ref.kind in _ARRAYS and not (ref.kind == "slot" and ref.number in recorder.objects)
        for ref in refs([call.args, call.kwargs])
        if ref.kind not in ("the outer", "the input")  # whose gradient it takes
    )
