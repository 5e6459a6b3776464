"""How exact are the CPU kernels' results, beside PyTorch's?

Elementwise functions are measured in units in the last place of the exact number (ulp), over the
whole useful range, tails included; the unit of denormal numbers is the smallest of them. All else
is measured in eps of the largest exact number of an array, which float64 is good enough for.

A kernel may err by 2 units, or by twice as much as PyTorch does. The table's ratio is this bound
over helixml's error: above 1 it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bench import exact
from bench.turns import Case, Figure, Worker, cotangent, results

PEER = "PyTorch"
BOUND = 2.0  # units
# Where each function is asked, in stretches: where PyTorch is far off excuses no other. They end
# where results become 0 or change no more, where exp(-x) overflows, where 1 + erf(x) loses all.
FAR, WIDE_FAR = (-104, -87, 0, 20), (-746, -708, 0, 40)
STRETCHES = {
    "float32": {
        "exp": (-104, -87, 88.7),
        "expm1": (-20, 88.7),
        "log": (0, 2e-38, 3e38),
        "log1p": (-1, 1, 3e38),
        "sqrt": (0, 3e38),
        "tanh": (-10, 0, 10),
        "erf": (-4.5, 0, 4.5),
        "sigmoid": FAR,
        "softplus": FAR,
        "silu": FAR,
        "gelu": (-14.5, -4, 0, 6),
        "silu_gate": FAR,
        "gelu_gate": (-14.5, -4, 0, 6),
    },
    "float64": {
        "exp": (-746, -708, 709.7),
        "expm1": (-40, 709.7),
        "log": (0, 3e-308, 1e308),
        "log1p": (-1, 1, 1e308),
        "sqrt": (0, 1e308),
        "tanh": (-20, 0, 20),
        "erf": (-6, 0, 6),
        "sigmoid": WIDE_FAR,
        "softplus": WIDE_FAR,
        "silu": WIDE_FAR,
        "gelu": (-38.6, -8, 0, 9),
        "silu_gate": WIDE_FAR,
        "gelu_gate": (-38.6, -8, 0, 9),
    },
}

# Operands that are as in a trained layer: positive steps, negative rates, decays below 1.
IN_RANGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "delta": lambda x: np.float32(0.05) * np.abs(x),
    "A": lambda x: -np.abs(x),
    "a": lambda x: np.exp(-np.abs(x)),
    "w": lambda x: x / np.float32(32),
}


@dataclass(frozen=True)
class AccuracyCase(Case):
    """A case, and the names of the operands whose gradients follow the value."""

    operands: Sequence[str] = ()


def cases(*, quick: bool = False) -> list[AccuracyCase]:
    """List the cases; quick ones are smaller."""
    count = 1 << (12 if quick else 18)
    found = []
    for dtype, functions in STRETCHES.items():
        if dtype == "float64" and not exact.DIGITS_TO_SPARE:
            continue
        for name, ends in functions.items():
            operands = ("x", "gate") if name.endswith("_gate") else ("x",)
            for low, high in pairwise(ends):
                inputs = _samples(low, high, count, dtype, operands)
                what = f"{name}, {dtype}, {low:g} to {high:g}"
                options = {"backward": True}
                found.append(AccuracyCase(what, name, inputs, options, operands=operands))
    return found + _row_cases(64 if quick else 512)


def _row_cases(n: int) -> list[AccuracyCase]:
    """List the cases of n rows or steps."""
    d, classes = 1024, 256
    rows, weight = {"x": (n, d)}, {"weight": (d,)}
    channels = {"x": (2, 64, n), "weight": (64, 4), "bias": (64,)}
    scanned: dict[str, tuple[int, ...]] = {"u": (2, 64, n), "delta": (2, 64, n), "A": (64, 16)}
    scanned |= {"B": (2, 16, n), "C": (2, 16, n), "D": (64,)}
    shapes: dict[str, Mapping[str, tuple[int, ...]]] = {
        "matmul": {**rows, "w": (classes, d)},
        "linear": {**rows, "w": (classes, d), "bias": (classes,)},
        "sum_rows": rows,
        "sum_columns": {"x": (8 * n, 64)},
        "softmax": rows,
        "log_softmax": rows,
        "cross_entropy": {"logits": (n, classes)},
        "rms_norm": {**rows, **weight},
        "layer_norm": {**rows, **weight, "bias": (d,)},
        "causal_conv1d": channels,
        "linear_scan": {"a": (2, 64, n), "b": (2, 64, n)},
        "selective_scan": scanned,
        "take": {"x": (classes, 64)},
        "cumulative_sum": rows,
        "adamw": {"parameter": (n, d), "grad": (n, d)},
        "sgd": {"parameter": (n, d), "grad": (n, d)},
    }
    more = {"cross_entropy": (classes, n), "take": (classes, 16 * n)}
    return [
        AccuracyCase(
            name.replace("_", " of ") if name.startswith("sum") else name,
            name,
            _operands(operands, more.get(name)),
            {"backward": True},
            operands=tuple(operands),
        )
        for name, operands in shapes.items()
    ]


def figures(
    case: AccuracyCase, number: int, workers: tuple[Worker, Worker], against: str, *, quick: bool
) -> Iterator[Figure]:
    """Measure the value and each gradient on both sides; yield a figure of each."""
    ours, peer = results(number, workers, quick=quick)
    if hasattr(exact, case.name):
        wanted, units, unit = _exact_results(case, number), in_last_places, "ulp"
    else:
        wanted = results(number, workers[1:], quick=quick, dtype="float64")[0]
        units, unit = in_eps_of_largest, "eps"
    # An optimizer's step has no gradients.
    names = ["value", *(f"gradient by {name}" for name in case.operands)][: len(wanted)]
    for name, own, other, true in zip(names, ours, peer, wanted, strict=True):
        errors = units(own, true), units(other, true)
        bound = max(BOUND, 2 * errors[1])
        ratio = bound / errors[0] if errors[0] else np.inf
        yield Figure(f"{case.what}: {name}", errors[0], against, errors[1], (ratio,), unit)


def _exact_results(case: Case, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the exact results, each with the size of its terms."""
    operands = case.inputs(np.random.default_rng(number))
    g = cotangent(operands[0].shape, operands[0].dtype).astype(exact.WIDE)
    with np.errstate(all="ignore"):
        value, *slopes = getattr(exact, case.name)(*(x.astype(exact.WIDE) for x in operands))
        pairs = [slope if isinstance(slope, tuple) else (slope, slope) for slope in slopes]
        return [(value, value), *((g * slope, g * size) for slope, size in pairs)]


def in_last_places(found: np.ndarray, wanted: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the largest error, by the last place of the terms' size; what overflows is left out.

    What should be finite and is not is infinitely wrong.
    """
    number, size = wanted
    with np.errstate(all="ignore"):
        rounded = np.abs(size).astype(found.dtype)
        finite = np.isfinite(rounded)
        error = np.abs(found.astype(exact.WIDE) - number)[finite] / np.spacing(rounded[finite])
    return float(np.where(np.isnan(error), np.inf, error).max())


def in_eps_of_largest(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest error in eps of the largest exact number."""
    largest = np.abs(wanted).max()
    return float(np.abs(found - wanted).max() / (np.finfo(found.dtype).eps * largest))


def _samples(low: float, high: float, count: int, dtype: str, operands: Sequence[str]):
    """Return a maker of numbers from low to high: half evenly, half of all sizes and signs."""

    def make(rng: np.random.Generator) -> list[np.ndarray]:
        half = count // 2
        least, most = min(abs(low), abs(high)), max(abs(low), abs(high))
        if low <= 0 <= high:
            least = float(np.finfo(dtype).smallest_subnormal)
        sizes = np.exp2(rng.uniform(np.log2(least), np.log2(most), half))
        sizes *= rng.choice([-1, 1], half)
        x = np.concatenate([rng.uniform(low, high, half), sizes])
        x = x[(x > low) & (x < high)].astype(dtype)
        if len(operands) == 1:
            return [x]
        return [rng.standard_normal(x.shape, np.float32).astype(dtype), x]

    return make


def _operands(shapes: Mapping[str, tuple[int, ...]], indices: tuple[int, int] | None):
    """Return a maker of float32 operands, and of so many indices below a size."""

    def make(rng: np.random.Generator) -> list[np.ndarray]:
        found = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
        for name, into in IN_RANGE.items():
            if name in found:
                found[name] = into(found[name])
        given = [] if indices is None else [rng.integers(indices[0], size=indices[1])]
        return [*found.values(), *given]

    return make
