"""State dicts of PyTorch, by stand-ins that behave as its tensors do; `parity exchange` has it."""

import sys
import types

import numpy as np
import pytest

import helixml as hx
from helixml import models, nn
from helixml.errors import CheckpointError, DeviceError, MissingDependencyError


class Tensor:
    """A tensor as PyTorch has it: DLPack, no buffer; one that requires a gradient gives neither."""

    def __init__(self, values, requires_grad=False, device=(1, 0)):
        self.values = values
        self.requires_grad = requires_grad
        self.device = device

    def detach(self):
        return Tensor(self.values, device=self.device)

    def clone(self):
        return Tensor(hx.tensor(self.values) if isinstance(self.values, hx.Tensor) else self.values)

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **asked):
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient")
        return self.values.__dlpack__(**asked)

    def __array__(self, *args, **kwargs):
        raise TypeError("Got unsupported ScalarType BFloat16")


class Layer:
    def __init__(self, **state):
        self.state = state

    def state_dict(self):
        return self.state


def weights(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.usefixtures("on_the_cpu")
def test_a_module_gives_tensors_that_share_its_memory():
    values = weights(2, 3)
    state = models.from_torch(Layer(weight=Tensor(values, requires_grad=True)))
    assert state["weight"].tolist() == values.tolist()
    values[0, 0] = 7
    assert state["weight"][0, 0].item() == 7
    changed = state["weight"]
    changed[0, 1] = 8
    assert values[0, 1] != 8


def test_bfloat16_stays_bfloat16():
    half = hx.tensor([1.5, -2.0], dtype="bfloat16")
    state = models.from_torch({"bias": Tensor(half)})
    assert (state["bias"].dtype, state["bias"].tolist()) == (hx.bfloat16, [1.5, -2.0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(3, 2),
        lambda: nn.LSTM(3, 4, 2, bidirectional=True),
        lambda: nn.Conv2d(2, 4, 3),
        lambda: nn.BatchNorm1d(3),
        lambda: nn.LayerNorm(4),
    ],
)
def test_a_state_of_pytorch_is_loaded_as_it_is(make):
    layer, other = make(), make()
    state = {
        name: Tensor(np.asarray(x.detach().numpy() * 2), requires_grad=x.dtype == hx.float32)
        for name, x in other.state_dict().items()
    }
    layer.load_state_dict(state)
    for name, x in layer.state_dict().items():
        assert x.tolist() == (other.state_dict()[name].detach() * 2).tolist()


def test_a_state_in_bfloat16_fills_a_layer_in_float32():
    layer = nn.Linear(2, 1)
    half = {"weight": [[1.5, -2.0]], "bias": [3.0]}
    layer.load_state_dict({n: Tensor(hx.tensor(v, dtype="bfloat16")) for n, v in half.items()})
    assert (layer.weight.dtype, layer.weight.tolist()) == (hx.float32, [[1.5, -2.0]])


def test_a_wrong_shape_changes_nothing():
    layer = nn.Linear(3, 2)
    before = layer.weight.tolist()
    with pytest.raises(CheckpointError, match=r"weight: shape \(3, 2\), not \(2, 3\)"):
        layer.load_state_dict({"weight": Tensor(weights(3, 2)), "bias": Tensor(weights(2))})
    assert layer.weight.tolist() == before


def test_what_cannot_be_taken_is_named():
    with pytest.raises(DeviceError, match=r"state: weight: .*DLPack device \(2, 0\)"):
        models.from_torch({"weight": Tensor(weights(2), device=(2, 0))})
    with pytest.raises(DeviceError, match=r"state: weight: .*DLPack device \(2, 0\)"):
        nn.Linear(3, 2).load_state_dict({"weight": Tensor(weights(2), device=(2, 0))})
    with pytest.raises(CheckpointError, match=r"state: extra is dict, not a tensor"):
        models.from_torch({"extra": {"a": 1}})
    with pytest.raises(CheckpointError, match=r"from_torch: takes a module .*, not list"):
        models.from_torch([1])


@pytest.fixture
def torch(monkeypatch):
    stand_in = types.ModuleType("torch")
    stand_in.from_dlpack = lambda x: Tensor(np.from_dlpack(x))
    monkeypatch.setitem(sys.modules, "torch", stand_in)


@pytest.mark.usefixtures("on_the_cpu", "torch")
def test_a_module_is_given_by_its_names():
    layer = nn.LSTM(3, 4)
    state = models.to_torch(layer)
    assert list(state) == list(layer.state_dict())
    for name, x in layer.state_dict().items():
        assert state[name].values.tolist() == x.tolist()
    shared = models.to_torch({"x": layer.bias_ih_l0}, copy=False)["x"].values
    assert np.shares_memory(shared, layer.bias_ih_l0.detach().numpy())
    with pytest.raises(CheckpointError, match=r"to_torch: takes a module .*, not int"):
        models.to_torch(3)


def test_without_pytorch_an_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"to_torch: needs PyTorch. Hint: pip install"):
        models.to_torch(nn.Linear(2, 2))
