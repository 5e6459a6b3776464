"""The plays: right bytes, unpacked once, and texts that cannot be opened."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helixml import config, data
from helixml.data import corpus
from helixml.errors import DataError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Use an empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(config, "cache_dir", lambda: folder)
    return folder


def test_the_plays_are_the_published_bytes_mapped_from_the_cache(cache):
    plays = data.open_plays()
    assert plays.dtype == np.uint8 and not plays.flags.writeable
    assert hashlib.sha256(plays).hexdigest() == corpus.PLAYS_SHA256
    assert len(plays) == corpus.PLAYS_BYTES
    assert Path(plays.filename) == cache / "plays.txt"
    assert [path.name for path in cache.iterdir()] == ["plays.txt"]


def test_the_plays_are_unpacked_once(cache, monkeypatch):
    data.open_plays()
    monkeypatch.setattr(corpus.bz2, "decompress", None)
    assert len(data.open_plays()) == corpus.PLAYS_BYTES


def test_a_damaged_cache_is_replaced(cache):
    data.open_plays()
    path = cache / "plays.txt"
    path.write_bytes(b"?" + path.read_bytes()[1:])
    assert data.open_plays()[0] == ord("A")
    path.write_bytes(b"short")
    assert len(data.open_plays()) == corpus.PLAYS_BYTES


def test_a_cache_that_cannot_be_written_is_no_obstacle(cache):
    cache.write_text("a file where the folder should be")
    assert hashlib.sha256(data.open_plays()).hexdigest() == corpus.PLAYS_SHA256


def test_the_licence_note_lies_beside_the_text():
    note = Path(corpus.__file__).with_name("PLAYS-LICENCE.md").read_text(encoding="utf-8")
    assert "public domain" in note and corpus.PLAYS_SHA256 in note and "4,957,316" in note


def test_texts_that_cannot_be_opened_say_why(tmp_path):
    (tmp_path / "empty").touch()
    cases = {
        "missing": "No such file",
        "": "is a folder",
        "empty": "is empty",
        "empty/x": "Not a dir",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=rf"text: .*{message}.* Hint: "):
            data.open_text(tmp_path / name)


def test_the_rule_that_makes_the_text(tmp_path):
    tool = Path(__file__).parents[2] / "tools" / "make_plays.py"
    folder = tmp_path / "plays"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "one.md").write_text("\n\n# A *Title*  \n### ACT _I_\n#  two\n")
    (folder / "a.md").write_text("#not a # heading\nline\t\n\n")
    code = (
        "import runpy, sys, pathlib; m = runpy.run_path(sys.argv[1]);"
        "print(m['clean_text'](m['join_plays'](pathlib.Path(sys.argv[2]))), end='')"
    )
    made = subprocess.check_output([sys.executable, "-c", code, tool, folder], text=True)
    assert made == "not a # heading\nline\n\n\n\n\n\nA Title\nACT I\n two\n"
