"""The resident set of this process, in bytes: what it is, and the most that it has been."""

from __future__ import annotations

import resource
from pathlib import Path


def resident() -> int:
    """Return what it is now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def most_resident() -> int:
    """Return the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
