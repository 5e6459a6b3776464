"""Run the benchmarks: ``python bench [NAME ...]``; each file answers one question.

Every line is a ratio to something measured in the same run, or a count; times alone mean nothing on
a machine that others use. ``--json FILE`` writes the numbers as well.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

NAMES = ("small_ops", "footprint", "long_chain", "training_step")


def main() -> None:
    """Run the named benchmarks, or all that need no file."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    sys.path.insert(0, str(Path(__file__).parent))
    print(f"{platform.machine()}, Python {platform.python_version()}")
    results = {}
    for name in options.names or NAMES:
        results[name] = importlib.import_module(name).run(quick=options.quick)
        for what, value in results[name].items():
            print(f"{name}: {what}: {value:.4g}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
