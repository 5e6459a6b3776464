"""How well does a small model learn a text? ``python bench/bits_per_byte.py TEXT``.

Trains the preset ``tiny`` (at most 834,304 parameters) on 1,536,000 bytes of the first nine tenths
of TEXT and prints its held-out bits per byte on the rest, in windows of 1,024 bytes: the setting
in which nanoGPT's CPU example reaches 2.733 on tinyshakespeare, which uses windows of 64.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

BYTES = 1_536_000


def main() -> None:
    """Train on the text named on the command line."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "helixml.cli", "train", "--text", sys.argv[1]]
        command += ["--preset", "tiny", "--bytes", str(BYTES), "--out", str(Path(folder, "run"))]
        subprocess.run([*command, *sys.argv[2:]], check=True)


if __name__ == "__main__":
    main()
