"""Structures of tensors in files."""

from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import helixml as hx
from helixml.errors import CheckpointError, DTypeError, FileError

pytestmark = pytest.mark.usefixtures("plain_settings")


def same(x, y):
    if isinstance(x, hx.Tensor):
        return x.dtype == y.dtype and x.shape == y.shape and x.tolist() == y.tolist()
    if isinstance(x, dict):
        return list(x) == list(y) and all(same(x[k], y[k]) for k in x)
    if isinstance(x, (list, tuple)):
        return type(x) is type(y) and len(x) == len(y) and all(map(same, x, y))
    return x == y and type(x) is type(y)


@pytest.mark.parametrize(
    "value",
    [
        hx.arange(3),
        {"a": hx.ones((2, 3)).T, "b": [hx.zeros(()), (hx.zeros((0, 2)), 3)], "c": "text"},
        [],
        {},
        {"step": 7, "lr": 1e-3, "on": True, "nothing": None},
        {"a.b": hx.ones((1,)), "a": {"b": hx.zeros((1,))}},
        [hx.tensor([1 + 2j]), hx.tensor(1j, dtype="complex128"), hx.ones((2,), dtype="bfloat16")],
        {"": hx.ones((1,))},
    ],
    ids=str,
)
def test_what_is_saved_is_loaded(tmp_path, value):
    hx.save(tmp_path / "x.safetensors", value)
    assert same(hx.load(str(tmp_path / "x.safetensors")), value)


def test_parameters_arrays_and_named_tuples(tmp_path):
    class Pair(NamedTuple):
        x: object
        y: object

    w = hx.nn.Parameter([1.0, 2.0])
    hx.save(tmp_path / "x", Pair(w * 2, np.arange(2)))
    first, second = hx.load(tmp_path / "x")
    assert first.tolist() == [2.0, 4.0]
    assert not first.requires_grad
    assert second.dtype == hx.int64


def test_a_module_and_its_optimizer(tmp_path):
    model = hx.nn.Linear(2, 1, rng=hx.random.Rng(0))
    optimizer = hx.optim.AdamW(model.parameters())
    model(hx.ones((3, 2))).sum().backward()
    optimizer.step()
    hx.save(tmp_path / "x", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    loaded = hx.load(tmp_path / "x")
    other = hx.nn.Linear(2, 1, rng=hx.random.Rng(1))
    other.load_state_dict(loaded["model"])
    again = hx.optim.AdamW(other.parameters())
    again.load_state_dict(loaded["optimizer"])
    assert other.weight.tolist() == model.weight.tolist()
    assert again.steps == 1


def test_other_programs_read_and_write_the_file(tmp_path):
    hx.save(tmp_path / "x", {"layer": {"w": hx.ones((2,))}}, metadata={"who": "me"})
    assert list(load_file(tmp_path / "x")) == ["layer.w"]
    save_file({"v": np.arange(2.0)}, tmp_path / "y")
    assert same(hx.load(tmp_path / "y"), {"v": hx.asarray(np.arange(2.0))})


def test_loading_puts_tensors_on_a_device(tmp_path, other_device):
    hx.save(tmp_path / "x", [hx.ones((2,), device=other_device)])
    assert hx.load(tmp_path / "x", device=other_device)[0].device == other_device


def test_mistakes(tmp_path):
    with pytest.raises(DTypeError, match=r"save: object at a\.1 is no tensor, number or text"):
        hx.save(tmp_path / "x", {"a": [1, object()]})
    with pytest.raises(DTypeError, match=r"save: the key 3 at the top is no text"):
        hx.save(tmp_path / "x", {3: hx.ones((1,))})
    with pytest.raises(FileError, match="write"):
        hx.save(tmp_path / "missing" / "x", hx.ones((1,)))
    with pytest.raises(CheckpointError, match="does not exist"):
        hx.load(tmp_path / "x")
    for text in ("[]", "{", '{"tensor": "gone"}', '{"what": 1}', '{"dict": 3}', "{}"):
        save_file({"v": np.arange(2.0)}, tmp_path / "y", metadata={"helixml": text})
        with pytest.raises(CheckpointError, match="a structure that its tensors do not fit"):
            hx.load(tmp_path / "y")
