"""Where were the figures taken? Asked of the running libraries, printed above the table."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

import helixml as hx
from helixml.backends import registry


def describe() -> dict[str, str]:
    """Return processor, cores, instruction set in use, and versions."""
    capabilities = registry.get("cpu").capabilities()
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernels": str(capabilities["instruction_set"]),
        "threads": str(hx.get_num_threads()),
        "helixml": hx.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
