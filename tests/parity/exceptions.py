"""Single samples where the engine means to answer otherwise than PyTorch, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parity.compare import Outcome


@dataclass(frozen=True)
class Exceptional:
    """Samples that need not agree.

    Attributes
    ----------
    entries : names in the table, with their variants.
    reason : why both answers are right, or why this one is kept.
    when : whether an outcome is one of these.
    """

    entries: tuple[str, ...]
    reason: str
    when: Callable[[Outcome], Any] = lambda outcome: True


def refused(text: str) -> Callable[[Outcome], bool]:
    """Return whether the engine refused the sample in these words."""
    return lambda outcome: outcome.kind == "refused" and text in outcome.detail


EXCEPTIONS = (
    Exceptional(
        ("cat",),
        "an empty tensor of one axis joins any other only in PyTorch, for old programs' sake",
        refused("is out of range for 1 dimension"),
    ),
    Exceptional(
        ("tensordot",),
        "summed axes must agree; PyTorch lets those of size 1 broadcast",
        refused("do not pair"),
    ),
    Exceptional(
        ("nn.functional.softplus",),
        "beyond its threshold PyTorch returns x itself; helixml's softplus is exact everywhere",
        lambda outcome: outcome.sample.kwargs.get("threshold", 20) < 20,
    ),
    Exceptional(
        ("float_power",),
        "PyTorch computes it in complex128; helixml does not widen complex64",
        lambda outcome: outcome.kind == "dtype",
    ),
    Exceptional(
        ("nn.functional.layer_norm", "nn.functional.rms_norm"),
        "rows of one or two entries: 1 / sqrt(eps) magnifies what rounding leaves of equal terms",
        lambda outcome: outcome.kind == "gradient" and outcome.sample.input.shape[-1] <= 2,
    ),
)


def exception_for(outcome: Outcome) -> Exceptional | None:
    """Return the row that excuses a disagreement; None if none does."""
    for row in EXCEPTIONS:
        if outcome.entry in row.entries and row.when(outcome):
            return row
    return None
