"""Ask the questions and print one table: ``python -m bench [NAME ...] [--quick] [--json FILE]``.

The ratio is the other time over helixml's, so above 1 helixml is faster; it is the median of
rounds, the spread goes from the lowest to the highest. (`accuracy` compares errors, and says how.)
The NumPy probes are taken before
and after, and what other processes used of the machine is said: that is what the times are worth.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

from bench.turns import DEVICE, ROOT, Case, Figure, Worker, WorkerError, compare

NAMES = (
    "training_step",
    "transformer",
    "training_memory",
    "selective_scan",
    "jax_scan",
    "rows",
    "elementwise",
    "causal_conv",
    "long_convolution",
    "matmul",
    "after_matmul",
    "adamw",
    "decoding",
    "page_faults",
    "threads",
    "small_ops",
    "overhead",
    "captured",
    "profiler",
    "long_chain",
    "footprint",
    "activation_memory",
    "trainer_overhead",
    "length_scaling",
    "long_context",
    "flops_per_kilobyte",
    "accuracy",
    "cost_model",
    "wgpu",
)
# Those that say something of another device; the others look at the CPU, or at the engine.
DEVICE_NAMES = (
    *("training_step", "transformer", "selective_scan", "rows", "elementwise", "causal_conv"),
    *("long_convolution", "matmul", "adamw", "captured", "decoding"),
)
PEERS = ROOT / ".venv-peers"
PEERS_PYTHON = PEERS / "bin" / "python"
# PyTorch would give big arrays back to the system and take them anew in every call.
KEEP_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
    ":glibc.malloc.top_pad=536870912"
}
TOLERABLE = 0.1  # cores that other processes use
TWO_THREADS = {"HELIXML_NUM_THREADS": "2"}
COLUMNS = {
    "what": 62,
    "beside": 17,
    "helixml": 22,
    "other": 13,
    "ratio": 7,
    "spread": 16,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as well")
    parser.add_argument(
        "--device", metavar="NAME", help="where both sides compute, if not on the CPU"
    )
    options = parser.parse_args(arguments)
    if options.device:
        # Workers inherit it: helixml's tensors are made there, and so are PyTorch's on a GPU.
        os.environ |= {"HELIXML_DEVICE": options.device, DEVICE: options.device}
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")

    machine = _describe()
    print("; ".join(f"{key} {value}" for key, value in machine.items()))
    probes = [_probe(options.quick)]
    print()
    _print_row(list(COLUMNS))
    _print_row(["-" * width for width in COLUMNS.values()])
    figures: dict[str, list[Figure]] = {}
    failures: list[str] = []
    disturbance: dict[str, float] = {}
    for name in options.names or (DEVICE_NAMES if options.device else NAMES):
        figures[name] = []
        load = OtherLoad()
        for found in ask(name, options.quick):
            if isinstance(found, Figure):
                figures[name].append(found)
                _print_row(cells(found))
            else:
                failures.append(f"{name}: {found}")
                print(failures[-1], file=sys.stderr, flush=True)
        disturbance[name] = load.cores()
        if disturbance[name] > TOLERABLE:
            print(
                f"{name}: meanwhile other processes kept {disturbance[name]:.2g} cores busy; "
                "its times are worth little.",
                file=sys.stderr,
            )
    print()
    probes.append(_probe(options.quick))
    if options.json:
        record = {
            "machine": machine,
            "quick": options.quick,
            "probes": [[asdict(figure) for figure in probe] for probe in probes],
            "figures": {name: [asdict(f) for f in found] for name, found in figures.items()},
            "cores_used_by_others": disturbance,
            "failures": failures,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 1 if failures else 0


def ask(name: str, quick: bool) -> Iterator[Figure | WorkerError]:
    """Yield the figures of a question, and what went wrong."""
    question = importlib.import_module(f"bench.{name}")
    if hasattr(question, "cases"):
        yield from _compared(name, question, quick)
        return
    environment = dict(TWO_THREADS)
    if getattr(question, "WITH_PEERS", False):
        places = map(str, PEERS.glob("lib/python*/site-packages"))
        given = filter(None, [os.environ.get("PYTHONPATH")])
        environment["PYTHONPATH"] = os.pathsep.join([*given, *places])
    with Worker(sys.executable, f"bench.{name}", **environment) as worker:
        try:
            yield from (Figure(**record) for record in worker.ask("figures", quick=quick))
        except WorkerError as error:
            yield error


def _compared(name: str, question: ModuleType, quick: bool) -> Iterator[Figure | WorkerError]:
    python, environment = Path(sys.executable), {}
    if question.PEER in ("PyTorch", "JAX"):
        python = PEERS_PYTHON
        environment = getattr(question, "PEER_ENVIRONMENT", KEEP_MEMORY)
    if not python.exists():
        print(
            f"{name}: left out, {question.PEER} is missing. Hint: python3 dev.py bench makes "
            f"{PEERS_PYTHON.parents[1]}, or says why it could not.",
            file=sys.stderr,
        )
        return
    modules = f"bench.{name}", f"bench.ours.{name}", f"bench.peers.{name}"
    with (
        Worker(sys.executable, *modules[:2], **TWO_THREADS) as ours,
        Worker(python, modules[0], modules[2], **environment) as peer,
    ):
        found = getattr(question, "figures", _time)
        for number, case in enumerate(question.cases(quick=quick)):
            try:
                yield from found(case, number, (ours, peer), question.PEER, quick=quick)
            except WorkerError as error:
                yield error


def _time(
    case: Case, number: int, workers: tuple[Worker, Worker], against: str, *, quick: bool
) -> Iterator[Figure]:
    yield compare(case, number, workers, against, quick=quick)


class OtherLoad:
    """How busy others keep the machine, from now on; known where there is /proc/stat."""

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float:
        """Return the number of cores, on average; the processes begun since must have ended."""
        before, after = self._start, self._now()
        return max(0.0, (after[1] - before[1]) / (after[0] - before[0]))

    @staticmethod
    def _now() -> tuple[float, float]:
        """Return seconds now, and those for which others have had a core."""
        try:
            words = Path("/proc/stat").read_text().split(maxsplit=9)
        except OSError:
            return time.monotonic(), 0.0
        user, nice, system, _, _, irq, soft_irq = map(int, words[1:8])
        busy = (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy - sum(os.times()[:4])


def cells(figure: Figure) -> list[str]:
    """Return a figure as the cells of its row."""
    ours = _with_unit(figure.ours, figure.unit)
    if figure.bandwidth is not None:
        ours += f", {_rounded(figure.bandwidth)} GB/s"
    row = [figure.what, figure.against, ours]
    if figure.other is None:
        return [*row, "", "", ""]
    spread = f"{_rounded(min(figure.ratios))} - {_rounded(max(figure.ratios))}"
    if len(figure.ratios) == 1:
        spread = ""
    return [*row, _with_unit(figure.other, figure.unit), _rounded(figure.ratio), spread]


def _with_unit(value: float, unit: str) -> str:
    if unit == "ms" and value >= 10_000:
        value, unit = value / 1e3, "s"
    elif unit == "ms" and value < 0.1:
        value, unit = value * 1e3, "us"
    return f"{_rounded(value)} {unit}"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _print_row(row: list[str]) -> None:
    padded = [cell.ljust(width) for cell, width in zip(row, COLUMNS.values(), strict=True)]
    print("| " + " | ".join(padded) + " |", flush=True)


def _probe(quick: bool) -> list[Figure]:
    """Ask what the machine can do now; in a process of its own, whose threads end with it."""
    with Worker(sys.executable, "bench.probes") as worker:
        figures = [Figure(**record) for record in worker.ask("figures", quick=quick)]
    print("; ".join(f"{f.what}: {_with_unit(f.ours, f.unit)}" for f in figures), flush=True)
    return figures


def _describe() -> dict[str, str]:
    with Worker(sys.executable, "bench.machine", **TWO_THREADS) as worker:
        machine: dict[str, str] = worker.ask("describe")
    found = sorted(PEERS_PYTHON.parents[1].glob("lib/python*/site-packages/torch-*.dist-info"))
    torch = found[0].name.removeprefix("torch-").removesuffix(".dist-info") if found else "missing"
    return {"date": datetime.date.today().isoformat(), **machine, "torch": torch}


if __name__ == "__main__":
    sys.exit(main())
