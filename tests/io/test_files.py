"""Files are written whole or not at all, and a failure says where and how much."""

import errno
import json
import os
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from helixml.errors import CheckpointError, FileError, HelixError
from helixml.io import load_arrays, read_json, save_arrays, write_bytes, write_json
from helixml.io.files import make_folder, remove_leftovers

# The limit is set in a process of its own: it would hold for the test run's log as well.
FULL_DISK = """
import pathlib, resource, signal, sys
from helixml.errors import FileError
from helixml.io import write_bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_bytes(pathlib.Path(sys.argv[1]), bytes(10_000))
except FileError as error:
    print(error)
"""


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "x"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_leaves_the_old_file_and_says_how_many_bytes(tmp_path):
    path = tmp_path / "x"
    write_bytes(path, b"old")
    said = subprocess.check_output([sys.executable, "-c", FULL_DISK, path], text=True)
    assert re.fullmatch(rf"write: {path}, 10,000 bytes: .*\. Hint: free some space .*\n", said)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_write_that_fails_at_the_flush_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_bytes(path, b"old")

    def no_space(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(FileError, match="No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_in_place_of_the_folder_is_an_error_of_the_library(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(FileError, match="Not a directory"):
        write_bytes(tmp_path / "x" / "y", b"")
    with pytest.raises(FileError, match=r"mkdir: .*Hint: choose a folder"):
        make_folder(tmp_path / "x" / "y")
    assert issubclass(FileError, HelixError) and issubclass(FileError, OSError)


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".x.123.helixml-tmp").write_text("half")
    (tmp_path / ".hidden").write_text("kept")
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == [".hidden"]


def test_json_comes_back_and_bad_json_says_so(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, "é"]})
    assert read_json(path) == json.loads(path.read_text(encoding="utf-8")) == {"a": [1, "é"]}
    path.write_bytes(b'{"a": ')
    with pytest.raises(FileError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(FileError, match="No such file"):
        read_json(tmp_path / "missing.json")


DTYPES = ["float16", "float32", "float64", "int8", "int64", "uint8", "bool", "complex64"]


@pytest.mark.parametrize("dtype", [*map(np.dtype, DTYPES), np.dtype(ml_dtypes.bfloat16)], ids=str)
def test_arrays_come_back_bit_for_bit(tmp_path, dtype):
    grid = np.arange(12).reshape(3, 4).astype(dtype)
    arrays = {
        "rows": grid,
        "strided": grid.T,
        "reversed": grid[::-1, ::2],
        "scalar": grid[1, 1].reshape(()),
        "empty": grid[:0],
    }
    save_arrays(tmp_path / "x.safetensors", arrays, {"key": "text"})
    loaded, metadata = load_arrays(tmp_path / "x.safetensors")
    assert metadata == {"key": "text"}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()


def test_a_truncated_file_is_named_with_a_hint(tmp_path):
    path = tmp_path / "x.safetensors"
    save_arrays(path, {"a": np.arange(100.0)})
    whole = path.read_bytes()
    for length in (0, 4, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"x\.safetensors .*truncated.*Hint: "):
            load_arrays(path)


def test_a_missing_file_and_a_folder_are_checkpoint_errors(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_arrays(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_arrays(tmp_path)
