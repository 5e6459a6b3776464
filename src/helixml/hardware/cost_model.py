"""`CostModel`: how long an operation takes on a device, before it has run.

The ideal time of an operation is that of the roofline (Williams, Waterman & Patterson 2009,
"Roofline: an insightful visual performance model"), with the time of a call that does nothing:

    ideal = latency + max(FLOPs / rate, bytes / bandwidth)

Rate, bandwidth and latency are measured (`capabilities`). No op is ideal, and how far it is from
that depends on the scale: caches, threads that begin to pay, short rows. So the model is

    time = ideal * slowness(op, ideal)

where slowness is a line through measured points, straight between the logarithms of both and flat
beyond them. An op that was not measured has the slowness of its class, and one of a class that was
not, that of all.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, Final

import helixml as hx
from helixml.backends import registry
from helixml.device import Device
from helixml.errors import FileError, ValueRangeError
from helixml.hardware import probes, suite
from helixml.hardware.capabilities import cache_file, capabilities, keep, unwritten
from helixml.hardware.graph import ComputeGraph
from helixml.hardware.operations import Operation
from helixml.hardware.recording import operation
from helixml.io.files import read_json

__all__ = ["CostModel", "Measured", "measured"]

LONGEST: Final = 0.01  # seconds of a call after which a row asks for nothing larger
ROUNDS: Final = 6
BUDGET: Final = 0.002  # seconds of the repetitions of one timing
Curve = tuple[tuple[float, float], ...]  # (log ideal, log slowness), rising ideal
_lock = threading.Lock()


@dataclass(frozen=True)
class Measured:
    """An operation and the seconds that it took."""

    operation: Operation
    seconds: float


@dataclass(frozen=True)
class CostModel:
    """Seconds of operations on one device.

    Attributes
    ----------
    device : its name.
    latency : seconds of the smallest call. bandwidth : bytes a second.
    float32_rate, float64_rate : FLOPs a second; see `Capabilities`.
    curves : op -> slowness by scale; a class, or "" for all ops, -> that of its ops.
    error : mean of abs(predicted - measured) / measured on points that it was not fitted on; nan
        where there were none.
    tested : how many points these were.

    Examples
    --------
    >>> from helixml.hardware import CostModel, operation
    >>> model = CostModel("cpu", 1e-6, 1e10, 1e11, 5e10, {"": ((0.0, 0.0),)})
    >>> f"{model.predict(operation('matmul', (64, 64), (64, 64))) * 1e6:.2f} us"
    '6.24 us'
    """

    device: str
    latency: float
    bandwidth: float
    float32_rate: float | None
    float64_rate: float | None
    curves: Mapping[str, Curve]
    error: float = math.nan
    tested: int = 0
    points: tuple[tuple[str, float, float], ...] = field(default=(), repr=False)

    @classmethod
    def fit(cls, device: str | Device = "cpu", *, refresh: bool = False) -> CostModel:
        """Return the model of a device: measured now, or once before under the same conditions.

        Parameters
        ----------
        device : its name.
        refresh : measure now, whatever a file says.

        Raises
        ------
        DeviceError : there is no such device.

        Notes
        -----
        The ops of `hardware.suite` are measured at sizes to fit on and at others to test on, in a
        few seconds; on a slow device the larger sizes are left out. The model is kept in a file, as
        `capabilities` are.
        """
        name = str(device)
        registry.get(name)
        path = cache_file(name, "cost-model")
        with _lock:
            known: CostModel | None = None
            if not refresh:
                known = cls._read(path) or unwritten.get(path)
            if known is None:
                fitted, tested = list(suite.points("fit", name)), list(suite.points("test", name))
                found = measured(name, fitted + tested, rounds=ROUNDS)
                known = cls.fit_to(
                    name,
                    [found[point] for row in fitted for point in row if point in found],
                    [found[point] for row in tested for point in row if point in found],
                )
                keep(path, known)
        return known

    @classmethod
    def fit_to(
        cls, device: str, fitted: Iterable[Measured], tested: Iterable[Measured] = ()
    ) -> CostModel:
        """Return the model that goes through some measured points, tested on others.

        Raises
        ------
        ValueRangeError : there is no point to fit on.
        """
        told = capabilities(device)
        limits = (told.latency, told.bandwidth, told.float32_rate, told.float64_rate)
        ideal = cls(device, *limits, {})
        found: dict[str, list[tuple[float, float]]] = {}
        for point in fitted:
            scale = ideal.ideal(point.operation)
            pair = math.log(scale), math.log(point.seconds / scale)
            for name in (point.operation.op, f"class {point.operation.kind}", ""):
                found.setdefault(name, []).append(pair)
        if not found:
            raise ValueRangeError("fit_to: no point to fit on. Hint: give some `Measured`.")
        model = cls(device, *limits, {name: _curve(pairs) for name, pairs in found.items()})
        points = tuple((p.operation.op, model.predict(p.operation), p.seconds) for p in tested)
        errors = [abs(predicted - took) / took for _, predicted, took in points]
        error = fmean(errors) if errors else math.nan
        return cls(device, *limits, model.curves, error, len(errors), points)

    def ideal(self, operation: Operation) -> float:
        """Return the seconds of an operation on the roofline: latency + max(work, traffic)."""
        wide = any(
            spec is not None and spec.dtype in (hx.float64, hx.complex128)
            for spec in (*operation.inputs, *operation.outputs)
        )
        rate = (self.float64_rate if wide else self.float32_rate) or self.float32_rate
        work = (operation.flops or 0) / rate if rate else 0.0
        return self.latency + max(work, operation.bytes / self.bandwidth)

    def predict(self, what: Operation | ComputeGraph) -> float:
        """Return the seconds of an operation, or of all of a graph, one after the other."""
        if isinstance(what, ComputeGraph):
            return sum(self.predict(operation) for operation in what.operations)
        scale = self.ideal(what)
        for name in (what.op, f"class {what.kind}", ""):
            curve = self.curves.get(name)
            if curve:
                return scale * math.exp(_at(curve, math.log(scale)))
        return scale

    def __str__(self) -> str:
        lines = [
            f"{self.device}: {self.bandwidth / 1e9:.3g} GB/s, "
            f"{(self.float32_rate or 0) / 1e9:.3g} GFLOP/s, {self.latency * 1e6:.3g} us a call; "
            f"error {self.error:.1%} on {self.tested} points that were not fitted",
            "op              predicted    measured    error",
        ]
        for name, predicted, took in self.points:
            times = f"{predicted * 1e6:8.2f} us {took * 1e6:8.2f} us"
            lines.append(f"{name:14} {times} {predicted / took - 1:+8.1%}")
        return "\n".join(lines)

    @classmethod
    def _read(cls, path: Any) -> CostModel | None:
        """Return what the file holds, or None if it is missing or damaged."""
        try:
            held = read_json(path)
            curves = {
                name: tuple((float(x), float(y)) for x, y in curve)
                for name, curve in held["curves"].items()
            }
            points = tuple((str(n), float(p), float(t)) for n, p, t in held["points"])
            found = cls(**{**held, "curves": curves, "points": points})
            return found if found.latency > 0 and found.bandwidth > 0 and curves else None
        except (FileError, TypeError, KeyError, ValueError, AttributeError):
            return None


def measured(
    device: str | Device, points: Sequence[Sequence[suite.Point]], *, rounds: int = ROUNDS
) -> dict[suite.Point, Measured]:
    """Return calls with what they are as operations, and the seconds that they take on a device.

    Parameters
    ----------
    points : rows of calls, each from the smallest to the largest. What comes after one that takes
        longer than `LONGEST` is left out.
    rounds : how often each is timed; the least counts, for what disturbs a machine lasts longer
        than one timing, and shorter than a round.
    """
    name = str(device)
    rows = [list(row) for row in points]
    operations: dict[suite.Point, Operation] = {}
    best: dict[suite.Point, float] = {}
    with hx.no_grad():
        for number in range(rounds):
            for row in rows:
                for i, point in enumerate(row):
                    if not number:
                        made = operation(point.op, *point.operands, **point.attributes)
                        operations[point] = made
                    took = probes.seconds(point.call(), name, budget=BUDGET)
                    best[point] = min(took, best.get(point, took))
                    if took > LONGEST:
                        del row[i + 1 :]
                        break
    return {point: Measured(operations[point], took) for point, took in best.items()}


def _curve(pairs: list[tuple[float, float]]) -> Curve:
    """Return points in order, those of about one scale (a factor of 1.2) as their median."""
    pairs = sorted(pairs)
    groups: list[list[tuple[float, float]]] = []
    for pair in pairs:
        if groups and pair[0] - groups[-1][0][0] < math.log(1.2):
            groups[-1].append(pair)
        else:
            groups.append([pair])
    return tuple((fmean(x for x, _ in group), median(y for _, y in group)) for group in groups)


def _at(curve: Curve, x: float) -> float:
    """Return the height of a curve at x: straight between its points, flat beyond them."""
    i = bisect_left(curve, (x, -math.inf))
    if i == 0:
        return curve[0][1]
    if i == len(curve):
        return curve[-1][1]
    (x0, y0), (x1, y1) = curve[i - 1], curve[i]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
