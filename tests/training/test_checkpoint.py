"""Checkpoints come back exactly, or say what is wrong with them."""

import math

import numpy as np
import pytest

import helixml as hx
from helixml.errors import CheckpointError
from helixml.io import load_arrays, save_arrays
from helixml.training import checkpoint

TREE = {
    "weights": {"a": [1.0, 2.0], "b/c": 3.0},
    "list": [1, 2.5, {"deep": None}],
    "best": math.inf,
    "text": "é",
}


@pytest.fixture
def saved(tmp_path):
    """Save a checkpoint with two Tensors in it."""
    folder = tmp_path / "checkpoint"
    weights = {"a": hx.tensor(np.arange(6.0).reshape(2, 3)), "b/c": hx.tensor(np.float32(0.1))}
    checkpoint.save_checkpoint(folder, TREE | {"weights": weights})
    return folder / checkpoint.FILE


def test_a_tree_comes_back_with_arrays_for_tensors(saved):
    tree = checkpoint.load_checkpoint(saved.parent)
    weights = tree.pop("weights")
    assert tree == {key: value for key, value in TREE.items() if key != "weights"}
    assert np.array_equal(weights["a"], np.arange(6.0).reshape(2, 3))
    assert weights["b/c"].dtype == np.float32 and weights["b/c"].shape == ()


def test_there_is_one_file_and_nothing_is_pickled(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["state.safetensors"]
    assert checkpoint.has_checkpoint(saved.parent)
    assert not checkpoint.has_checkpoint(saved.parent.parent)
    assert b"pickle" not in saved.read_bytes()


def test_a_truncated_checkpoint_says_so(saved):
    saved.write_bytes(saved.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"state\.safetensors .*truncated.*Hint: "):
        checkpoint.load_checkpoint(saved.parent)


def test_damage_anywhere_is_found(saved):
    whole = bytearray(saved.read_bytes())
    for place in range(0, len(whole), 7):
        damaged = whole.copy()
        damaged[place] ^= 0x01
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            checkpoint.load_checkpoint(saved.parent)


def test_a_newer_format_asks_for_an_upgrade(saved):
    arrays, metadata = load_arrays(saved)
    save_arrays(saved, arrays, metadata | {"format": "2"})
    with pytest.raises(CheckpointError, match=r"format 2, .* up to 1\. Hint: upgrade helixml"):
        checkpoint.load_checkpoint(saved.parent)


def test_other_safetensors_are_no_checkpoint(saved):
    save_arrays(saved, {"a": np.zeros(3)}, {"format": "pt"})
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        checkpoint.load_checkpoint(saved.parent)


def test_a_missing_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.load_checkpoint(tmp_path)
