"""Files: whole or not at all.

`files` writes bytes and JSON under a temporary name, flushes them to the disk and renames them, so
that a reader never meets half a file. `arrays` stores named arrays as safetensors. Loading never
unpickles. Neither module knows what a model or a run is.
"""

from helixml.io.arrays import load_arrays, save_arrays
from helixml.io.files import read_json, write_bytes, write_json

__all__ = ["load_arrays", "read_json", "save_arrays", "write_bytes", "write_json"]
