"""How well does a fitted cost model foresee the times of operations it was not fitted on?

And what does it cost to let it choose the device: how much longer an operation takes on the device
with the shortest predicted time than on the one that is quickest. Points are those of
`helixml.hardware.suite`; each is fitted, and measured again for the choice.
"""

from __future__ import annotations

import statistics

import helixml as hx
from bench.turns import Figure
from helixml.hardware import CostModel, optimal, suite
from helixml.hardware.cost_model import measured

DEVICES = ("cpu", "reference", "torch", "wgpu", "cuda")
WITH_PEERS = True  # PyTorch is one of the devices
ENOUGH = 50  # points


def run(*, quick: bool = False) -> list[Figure]:
    """Fit a model for each device that is here, and compare what they say with what is measured."""
    here = [record.name for record in hx.devices() if record.kind in DEVICES]
    if quick:
        here = here[:1]
    models = {name: CostModel.fit(name, refresh=True) for name in here}
    figures = []
    for name, model in models.items():
        if name == "cpu" and model.tested < ENOUGH:
            raise AssertionError(f"only {model.tested} points on {name}; {ENOUGH} are wanted")
        errors = [abs(predicted / took - 1) for _, predicted, took in model.points]
        what = f"cost model of {name}, {model.tested} points: error"
        figures.append(Figure(f"{what}, mean", 100 * model.error, unit="%"))
        figures.append(Figure(f"{what}, median", 100 * statistics.median(errors), unit="%"))
        figures.append(Figure(f"{what}, 9 of 10 below", 100 * _ninth(errors), unit="%"))
    if len(models) > 1:
        figures += _choices(models)
    return figures


def _choices(models: dict[str, CostModel]) -> list[Figure]:
    """Return what the chosen device costs beside the best, over points that all have measured."""
    times = {}
    for name in models:
        found = measured(name, list(suite.points("test", name)))
        times[name] = {str(point.operation): point for point in found.values()}
    shared = set.intersection(*[set(found) for found in times.values()])
    regrets = []
    for key in sorted(shared):
        chosen = optimal(times["cpu"][key].operation, among=list(models), models=models).name
        best = min(found[key].seconds for found in times.values())
        regrets.append(times[chosen][key].seconds / best - 1)
    what = f"choice among {', '.join(models)}, {len(regrets)} points: longer than the best"
    return [
        Figure(f"{what}, mean", 100 * statistics.fmean(regrets), unit="%"),
        Figure(f"{what}, most", 100 * max(regrets), unit="%"),
    ]


def _ninth(values: list[float]) -> float:
    return statistics.quantiles(values, n=10)[-1]
