"""What does ``import helixml`` cost over ``import numpy``?"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from bench.turns import Figure

_RSS = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def run(*, quick: bool = False) -> list[Figure]:
    """Measure time (interleaved pairs), peak memory and modules loaded, in new processes."""
    _output("import helixml")
    ours, numpy = [], []
    for _ in range(5 if quick else 15):
        numpy.append(_seconds("import numpy") * 1e3)
        ours.append(_seconds("import helixml") * 1e3)
    over = statistics.median(own - other for own, other in zip(ours, numpy, strict=True))
    rss = [int(_output(f"import {name}; {_RSS}")) / 1024 for name in ("helixml", "numpy")]
    modules = _output(
        "import sys, numpy; n = len(sys.modules); import helixml; "
        "print(sum(not m.startswith('helixml') for m in sys.modules) - n)"
    )
    return [
        Figure.of_rounds("python -c 'import helixml'", "import numpy", ours, numpy),
        Figure("import helixml, over numpy", over),
        Figure.of_rounds("peak memory", "numpy's", rss[:1], rss[1:], unit="MiB"),
        Figure("modules of others, over numpy's", float(modules), unit="modules"),
    ]


def _seconds(code: str) -> float:
    start = time.perf_counter()
    _output(code)
    return time.perf_counter() - start


def _output(code: str) -> str:
    # Without compiled bytecode each import would translate the sources again.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout
