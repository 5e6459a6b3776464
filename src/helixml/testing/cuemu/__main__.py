"""Check kernels from the command line.

python -m helixml.testing.cuemu check FILE [NAME ...] [--sanitizer S ...]
python -m helixml.testing.cuemu mutate FILE [NAME ...]   without each barrier in turn
python -m helixml.testing.cuemu nvrtc FILE.cu [OPTION ...]   what NVIDIA's compiler makes of it

FILE holds functions check_...(), which launch kernels and assert their results; NAMEs choose some.
Exit code 1: something was found, or a barrier was not missed.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from helixml.testing.cuemu import execution, mutation, nvrtc
from helixml.testing.cuemu.compiler import built_sources
from helixml.testing.cuemu.sanitizers import BEGIN, END, SANITIZERS, check, mutate

_ORDERS: tuple[tuple[str, int], ...] = (("forward", 0), ("reverse", 0), ("random", 1))


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m helixml.testing.cuemu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "mutate", "child"):
        command = commands.add_parser(name)
        command.add_argument("file")
        command.add_argument("names", nargs="*")
        if name == "child":
            command.add_argument("--without", action="append")
        else:
            command.add_argument("--sanitizer", choices=SANITIZERS, action="append")
            command.add_argument("--timeout", type=float, default=120.0)
    command = commands.add_parser("nvrtc")
    command.add_argument("file")
    command.add_argument("options", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    if given.command == "child":
        _child(given.file, given.names, given.without)
        return 0
    if given.command == "nvrtc":
        return _nvrtc(given.file, given.options)
    bad = 0
    if given.command == "check":
        chosen = given.sanitizer or SANITIZERS
        for outcome in check(
            given.file, names=given.names, sanitizers=chosen, timeout=given.timeout
        ):
            print(f"{outcome.sanitizer}: {outcome.verdict} {outcome.summary}".rstrip())
            bad += not outcome.clean
    else:
        chosen = given.sanitizer or ("plain", "thread")
        for mutant in mutate(
            given.file, names=given.names, sanitizers=chosen, timeout=given.timeout
        ):
            red = ", ".join(mutant.red) or "NOBODY"
            where = f"source {mutant.barrier.source}, line {mutant.barrier.line}"
            print(f"{where}: {mutant.barrier.text} missed by {red}")
            bad += not mutant.red
    return int(bad > 0)


def _child(path: str, names: Sequence[str], jobs: Sequence[str]) -> None:
    """Run the checks in this process, once a job; what is printed is read by `sanitizers`."""
    functions = runpy.run_path(path, run_name="checks")
    chosen = names or [name for name in functions if name.startswith("check_")]
    for job in jobs:
        print(BEGIN, end="")
        source, _, number = job.partition(":")
        with mutation.without(source, int(number or 0)):
            failures = sum(_failures(name, functions[name]) for name in chosen)
        if not chosen:
            print(f"ValueRangeError: {path} has no function check_...")
        print(END + ("clean" if chosen and not failures else "failed"))
    print("sources: " + json.dumps(built_sources()))


def _failures(name: str, function: Callable[[], object]) -> int:
    """Count in how many orders of threads a check fails; a sanitizer needs but one."""
    failures = 0
    for order in _ORDERS[:1] if execution.current().sanitizer else _ORDERS:
        try:
            with execution.order(order):
                function()
        except Exception:  # whatever a check raises is its verdict
            print(f"{name}, order {order[0]}")
            traceback.print_exc()
            failures += 1
    return failures


def _nvrtc(path: str, options: Sequence[str]) -> int:
    source = Path(path).read_text()
    for architecture in nvrtc.ARCHITECTURES:
        for kernel in nvrtc.compile_source(source, options, architecture=architecture).kernels:
            print(f"{architecture} {kernel}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
