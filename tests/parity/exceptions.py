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


def unread(outcome: Outcome) -> bool:
    """Return whether only PyTorch has a gradient at an entry."""
    return outcome.kind == "gradient" and any(
        f": {zero} for " in outcome.detail for zero in ("0.0", "0j", "-0j")
    )


def of_one(outcome: Outcome) -> bool:
    """Return whether it is a gradient that is 0 but for rounding, along an axis of one entry."""
    sample = outcome.sample
    axis = sample.kwargs.get("dim", 1)
    sizes = [value.shape[axis] for value in (sample.input, *sample.args) if value.ndim]
    return outcome.kind == "gradient" and min(sizes) == 1


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
        ("nn.functional.layer_norm", "nn.functional.rms_norm")
        + ("nn.functional.group_norm", "native_layer_norm", "native_group_norm"),
        "rows of one or two entries: 1 / sqrt(eps) magnifies what rounding leaves of equal terms",
        lambda outcome: outcome.kind == "gradient" and outcome.sample.input.shape[-1] <= 2,
    ),
    Exceptional(
        ("cholesky", "linalg.cholesky", "linalg.cholesky_ex"),
        "PyTorch's gradient is not Hermitian: what it has besides, no change of the matrix meets",
        lambda outcome: outcome.is_complex and outcome.kind == "gradient",
    ),
    Exceptional(
        ("linalg.pinv|hermitian",),
        "PyTorch's gradient takes the whole matrix, its inverse only the lower triangle",
        lambda outcome: outcome.kind == "gradient",
    ),
    Exceptional(
        ("nn.functional.hardtanh",),
        "bounds with nothing between them are an error",
        refused("is not below high"),
    ),
    Exceptional(
        ("bincount",),
        "sums of integers are integers",
        lambda outcome: outcome.kind == "dtype",
    ),
    Exceptional(
        ("cholesky_solve", "cholesky_inverse"),
        "a factor's other triangle is not read, and has no gradient; PyTorch gives it one",
        unread,
    ),
    Exceptional(
        ("cdist", "nn.functional.pdist", "nn.functional.normalize", "nn.functional.hardshrink"),
        "an order that makes no norm, or a bound below 0, is an error",
        lambda outcome: outcome.kind == "refused" and "ValueRangeError" in outcome.detail,
    ),
    Exceptional(
        ("nn.functional.normalize", "nn.functional.cosine_similarity"),
        "of one entry the direction does not change: the gradient is 0, or what rounding leaves",
        of_one,
    ),
    Exceptional(
        ("corrcoef",),
        "of two observations the correlation does not change: the gradient is 0, or rounding",
        lambda outcome: outcome.kind == "gradient" and outcome.sample.input.shape[-1] <= 2,
    ),
    Exceptional(
        ("quantile", "nanquantile"),
        "shares are constants",
        lambda outcome: outcome.kind == "gradient" and "of tensor 1" in outcome.detail,
    ),
    Exceptional(
        ("nn.functional.hinge_embedding_loss",),
        "targets other than 1 and -1 mean nothing, so they are errors; PyTorch computes with them",
        refused("targets must be 1 or -1"),
    ),
    Exceptional(
        ("istft",),
        "PyTorch leaves out the window's gradient",
        lambda outcome: outcome.kind == "gradient" and "of tensor 1" in outcome.detail,
    ),
    Exceptional(
        ("einsum",),
        "axes of an ellipsis that the result has not are summed only by PyTorch",
        refused("the result has not"),
    ),
    Exceptional(
        ("special.bessel_j0",),
        "PyTorch's has 7 digits where abs(x) is 4 to 9",
        lambda outcome: outcome.kind == "value",
    ),
    Exceptional(
        ("special.ndtr",),
        "far below 0 PyTorch's is 0, where helixml keeps the tail",
        lambda outcome: outcome.kind == "value" and " for 0.0 at" in outcome.detail,
    ),
)


def exception_for(outcome: Outcome) -> Exceptional | None:
    """Return the row that excuses a disagreement; None if none does."""
    for row in EXCEPTIONS:
        if outcome.entry in row.entries and row.when(outcome):
            return row
    return None
