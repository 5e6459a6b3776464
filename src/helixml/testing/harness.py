"""The op harness: what each op says of itself, turned into checks.

An op's samples, error samples and oracle become: values in every dtype and memory layout, VJPs
against difference quotients to second order, kernels against definitions, frozen, overwritten and
unmodified inputs, singular derivatives behind `where`, error texts, misuse. Nothing here names an
op: what an op is exempt from follows from its properties, and from `Op.options`:

- ``kinds`` : kinds of dtypes (`dtypes.kind`) that its float inputs may have; "buifc" by default,
  and "buif" of an op that is ``real_only``. A call with another must raise `DTypeError`.
- ``dtypes`` : those that its float inputs may have, where not all of a kind are taken.
- ``determined`` : where the results are open in part, as the signs of eigenvectors are, a function
  of the results, NumPy arrays or tensors, that returns what is determined of them.
- ``exact_dtype`` : False where the oracle itself decides the dtype of the result.
- ``shapes_differ`` : True where operands that do not broadcast may be right.

`plan` lists the checks for one device; `helixml.testing.contract` and the tests run them. What each
check does stands in `helixml.testing.checks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from helixml import ops
from helixml._core.composed import Fused
from helixml._core.op import REGISTRY, Op, Primitive
from helixml.backends import registry
from helixml.dtypes import ALL, DType
from helixml.testing.calls import (
    Call,
    Setting,
    call_of,
    cotangents_of,
    samples_of,
    vjp_of,
    written_by,
)
from helixml.testing.checks import CHECKS

__all__ = [
    "CHECKS",
    "Call",
    "Check",
    "Setting",
    "call_of",
    "cotangents_of",
    "failures",
    "plan",
    "samples_of",
    "vjp_of",
    "written_by",
]


@dataclass(frozen=True)
class Check:
    """One check of one op; `run` raises AssertionError with everything that failed."""

    op: Op
    name: str
    setting: Setting

    def __str__(self) -> str:
        return f"{self.op.name}-{self.name}"

    def run(self) -> None:
        """Run the check."""
        found: list[str] = []
        cause: Exception | None = None
        with np.errstate(all="ignore"):
            for what, step in CHECKS[self.name](self.op, self.setting):
                try:
                    step()
                except AssertionError as error:
                    found.append(f"{what}: {error}")
                except Exception as error:  # the harness goes on: one table of all failures
                    found.append(f"{what}: {error!r}")
                    cause = cause or error
        if found:
            raise AssertionError(f"{self.op.name}:\n  " + "\n  ".join(found)) from cause


def plan(
    device: str = "cpu", dtypes: tuple[DType, ...] | None = None, full: bool = True
) -> Iterator[Check]:
    """List the checks of every op with samples on ``device``.

    Parameters
    ----------
    device : name of the device.
    dtypes : those to check; what the backend's ``dtypes`` says, or all, if left out.
    full : every sample, dtype and layout; otherwise one sample in each dtype.
    """
    ops.load_all()
    held = dtypes or getattr(registry.get(device), "dtypes", None) or ALL
    setting = Setting(device, tuple(held), full)
    for op in list(REGISTRY.values()):
        if op.make_samples is None:
            continue
        for name in CHECKS:
            if applies(op, name):
                yield Check(op, name, setting)


def failures(
    device: str = "cpu", dtypes: tuple[DType, ...] | None = None, full: bool = True
) -> list[str]:
    """Run the checks of `plan` and return the messages of those that failed."""
    found = []
    for check in plan(device, dtypes, full):
        try:
            check.run()
        except AssertionError as error:
            found.append(f"{check}: {error}")
    return found


def applies(op: Op, name: str) -> bool:
    """Say whether a check says anything of an op."""
    if name == "kernels":
        return isinstance(op, Fused)
    if name == "errors":
        return op.make_errors is not None
    if name in ("values", "layouts", "mixed"):
        return op.oracle is not None
    if name == "singular":
        return isinstance(op, Primitive) and op.plain and op.oracle is not None
    if name == "misuse":
        return True
    return not getattr(op, "writes", ())  # gradients and what they leave alone
