"""Run checks of kernels under the thread and the address sanitizer, and without single barriers.

A check is a function named ``check_...`` in a Python file: it takes nothing, launches kernels at
small sizes and asserts their results. Each run is a process of its own, for a sanitizer must be
loaded before Python:

- "plain" runs the checks in three orders of threads, and sees wrong values and `KernelError`;
- "thread" sees races: two threads touch a cell, one of them writes, and no barrier is between;
- "address" sees touches outside of arrays and of shared memory, and misaligned vectors.

For ThreadSanitizer every thread of a kernel is a thread; blocks are ordered by nothing. It knows
no fences: a kernel whose last block reads what others wrote before __threadfence() is reported.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helixml.errors import BackendError, MissingDependencyError, ValueRangeError
from helixml.testing.cuemu.compiler import find_compiler
from helixml.testing.cuemu.mutation import Barrier, barriers

__all__ = ["BEGIN", "END", "SANITIZERS", "Mutant", "Outcome", "check", "mutate"]

SANITIZERS = ("plain", "thread", "address")
# What a child prints before and after each of its jobs, the verdict behind the latter.
BEGIN, END = "===== begin\n", "===== end "
_ENVIRONMENT = {
    "plain": {},
    "thread": {"CUEMU_SANITIZE": "thread", "TSAN_OPTIONS": "suppress_equal_addresses=0"},
    "address": {
        "CUEMU_SANITIZE": "address",
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    },
}
_LIBRARIES = {"thread": "libtsan.so", "address": "libasan.so"}
_NOTICED = re.compile(r"WARNING: ThreadSanitizer|ERROR: AddressSanitizer|: runtime error: ")
_SHOWN = re.compile(
    r"WARNING: ThreadSanitizer: .*|ERROR: AddressSanitizer: .*|.*runtime error: .*"
    r"|(?:Previous )?(?:atomic )?(?:read|write|Read|Write|READ|WRITE) of size .*"
    r"|kernel\.cu:\d+|block \([\d,]+\) thread \([\d,]+\)|\w*Error\b.*"
)


@dataclass(frozen=True)
class Outcome:
    """What a run of the checks gave.

    Attributes
    ----------
    sanitizer : "plain", "thread" or "address".
    verdict : "clean"; "found", by the sanitizer; "failed", by an exception; or "hung".
    report : what was printed, if it is not clean.
    """

    sanitizer: str
    verdict: str
    report: str

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return self.verdict == "clean"

    @property
    def summary(self) -> str:
        """The first lines that say what and where."""
        found = list(dict.fromkeys(match[0].strip() for match in _SHOWN.finditer(self.report)))
        return "; ".join(found[:6])


@dataclass(frozen=True)
class Mutant:
    """What the runs gave without one barrier."""

    barrier: Barrier
    outcomes: tuple[Outcome, ...]

    @property
    def red(self) -> tuple[str, ...]:
        """The sanitizers of the runs that noticed."""
        return tuple(outcome.sanitizer for outcome in self.outcomes if not outcome.clean)


def check(
    path: str | Path,
    *,
    names: Sequence[str] = (),
    sanitizers: Sequence[str] = SANITIZERS,
    timeout: float = 120.0,
) -> list[Outcome]:
    """Run the checks of a file once under each sanitizer.

    Parameters
    ----------
    path : the file.
    names : of its functions; all that are named ``check_...`` if none is given.
    sanitizers : of "plain", "thread" and "address".
    timeout : seconds for each run of the checks.

    Raises
    ------
    ValueRangeError : a sanitizer is unknown.
    MissingDependencyError : g++ or a sanitizer's library is missing.
    """
    return [_run(path, names, sanitizer, timeout, [None])[0][0] for sanitizer in sanitizers]


def mutate(
    path: str | Path,
    *,
    names: Sequence[str] = (),
    sanitizers: Sequence[str] = ("plain", "thread"),
    sources: Sequence[str] = (),
    timeout: float = 120.0,
) -> list[Mutant]:
    """Run the checks without each barrier of their kernels in turn; parameters as of `check`.

    With ``sources``, digests of them, barriers of others stay.

    Returns one `Mutant` a barrier: its ``red`` is empty where nobody noticed. Runs after the first
    that noticed are done too: which of them notice says what the checks are good for.

    Raises
    ------
    ValueRangeError : the checks fail as they are, or a sanitizer is unknown.
    MissingDependencyError : g++ or a sanitizer's library is missing.
    """
    (whole,), built = _run(path, names, "plain", timeout, [None])
    if not whole.clean:
        raise ValueRangeError(
            f"cuemu: the checks of {path} fail with all barriers: {whole.summary}. "
            "Hint: look at check() first."
        )
    found = [barrier for source in built for barrier in barriers(source)]
    removed = [barrier for barrier in found if not sources or barrier.source in sources]
    columns = [_run(path, names, s, timeout, removed)[0] for s in sanitizers]
    rows = zip(*columns, strict=True)
    return [Mutant(barrier, row) for barrier, row in zip(removed, rows, strict=True)]


def _run(
    path: str | Path,
    names: Sequence[str],
    sanitizer: str,
    timeout: float,
    jobs: Sequence[Barrier | None],
) -> tuple[list[Outcome], list[str]]:
    """Run the checks once a job: as they are, or without a barrier.

    One process does job after job, for it takes longest to start; if one is its end, the next
    process does the rest. Also returns the sources of the kernels that were compiled.
    """
    outcomes: list[Outcome] = []
    sources: list[str] = []
    while len(outcomes) < len(jobs):
        rest = jobs[len(outcomes) :]
        output, hung = _process(path, names, sanitizer, timeout * len(rest), rest)
        for found in re.finditer(r"^sources: (.*)$", output, re.MULTILINE):
            sources = json.loads(found[1])
        *_, last = parts = output.split(BEGIN)[1:] or [output]
        for part in parts:
            report, end, verdict = part.partition(END)
            word = verdict.split(maxsplit=1)[0] if end else "hung" if hung else "failed"
            if _NOTICED.search(report):
                word = "found"
            outcomes.append(Outcome(sanitizer, word, "" if word == "clean" else report))
        if END in last and len(outcomes) < len(jobs):  # it ended between two jobs
            raise BackendError(f"cuemu: a run of {path} ended early:\n{last}")
    return outcomes, sources


def _process(
    path: str | Path,
    names: Sequence[str],
    sanitizer: str,
    timeout: float,
    jobs: Sequence[Barrier | None],
) -> tuple[str, bool]:
    """Start a process for the jobs; return what it printed, and whether it did not end in time."""
    if sanitizer not in SANITIZERS:
        raise ValueRangeError(f"cuemu: unknown sanitizer {sanitizer!r}. Hint: {SANITIZERS}.")
    environment = {
        **os.environ,
        **_ENVIRONMENT[sanitizer],
        **{f"{name}_NUM_THREADS": "1" for name in ("HELIXML", "OMP", "OPENBLAS")},
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONUNBUFFERED": "1",
    }
    if sanitizer in _LIBRARIES:
        environment["LD_PRELOAD"] = _library(_LIBRARIES[sanitizer])
    command = [*_fixed_addresses(sanitizer), sys.executable, "-m", "helixml.testing.cuemu", "child"]
    for job in jobs:
        command += ["--without", f"{job.source}:{job.number}" if job else ""]
    try:
        done = subprocess.run(
            [*command, str(path), *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        printed = error.stdout or b""
        return printed.decode(errors="replace") if isinstance(printed, bytes) else printed, True
    return done.stdout, False


def _library(name: str) -> str:
    found = subprocess.run(
        [find_compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.isabs(found):
        raise MissingDependencyError(
            f"cuemu: the compiler has no {name}. Hint: apt-get install -y g++ brings it with it."
        )
    return found


def _fixed_addresses(sanitizer: str) -> list[str]:
    """ThreadSanitizer knows the usual layouts of memory, not those of kernels that shuffle more."""
    setting = Path("/proc/sys/vm/mmap_rnd_bits")
    if sanitizer == "thread" and shutil.which("setarch") and setting.exists():
        with setting.open() as file:
            if int(file.read()) > 28:
                return ["setarch", "-R"]
    return []
