"""What nodes keep, by name: for those who look at the graph and do not walk it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any  # nodes and ops, which are compiled

from helixml._core.saving import Plan
from helixml.backends.dispatch import Prepared


def plan_of(node: Any) -> Any:
    """Return the `Plan` by which a node saved; None for a fused op, which has none."""
    op = node.op
    plans = getattr(op, "plans", None)
    if plans is None:
        return None
    mask = 0
    for i, parent in enumerate(node.parents):
        if parent is not None:
            mask |= 1 if op.variadic else 1 << i
    if mask not in plans:  # a node that was made by hand
        plans[mask] = Plan(op, mask, len(node.parents))
    return plans[mask]


def saved_items(node: Any) -> Iterator[tuple[str, Any]]:
    """Give (name, item) of what a node keeps: inputs, outputs, residuals, shapes and numbers."""
    plan = plan_of(node)
    if plan is not None:
        for step, item in zip(plan.steps, node.saved or (), strict=False):
            if step[1] == "outputs":
                for k, part in enumerate(item):
                    yield f"outs[{k}]", part
            else:
                yield step[0], item
    elif node.saved:  # a fused op: inputs and residuals
        tensors, residuals = node.saved
        for i, item in enumerate(tensors):
            yield node.op.input_name(i, len(tensors)), item
        for i, item in enumerate(residuals):
            yield f"residual {i}", item.array if isinstance(item, Prepared) else item


def readers(node: Any, name: str) -> tuple[str, ...]:
    """Return the inputs whose rules read the saved value ``name``; () for a fused op's kernel."""
    op = node.op
    rules = getattr(op, "rules", {})
    name = name.partition("[")[0]
    found = []
    for i, parent in enumerate(node.parents):
        given = op.input_name(i, len(node.parents))
        if parent is not None and given in rules and name in rules[given][1]:
            found.append(given)
    return tuple(dict.fromkeys(found))
