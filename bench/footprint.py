"""What does ``import helixml`` cost over ``import numpy``?"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

_RSS = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def run(*, quick: bool = False) -> dict[str, float]:
    """Return the extra milliseconds (median of interleaved pairs), peak RSS and modules loaded."""
    _output("import helixml")
    extra, numpy = [], []
    for _ in range(5 if quick else 15):
        numpy.append(_seconds("import numpy") * 1e3)
        extra.append(_seconds("import helixml") * 1e3 - numpy[-1])
    rss = int(_output(f"import helixml; {_RSS}")) / 1024
    modules = _output(
        "import sys, numpy; n = len(sys.modules); import helixml; "
        "print(sum(not m.startswith('helixml') for m in sys.modules) - n)"
    )
    return {
        "numpy, milliseconds": statistics.median(numpy),
        "milliseconds over numpy": statistics.median(extra),
        "peak RSS, MiB": rss,
        "modules of others over numpy": float(modules),
    }


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
