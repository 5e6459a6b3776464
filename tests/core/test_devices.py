"""Tensors on several devices: moving, mixing, asking for what is not there."""

# ruff: noqa: PLW0108  a table of calls reads best if all are written alike

import pytest

import helixml as hx
from helixml.errors import DeviceError

pytestmark = pytest.mark.usefixtures("plain_settings")


def test_to_moves_and_gradients_come_back(other_device):
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    y = x.to(other_device)
    assert str(y.device) == other_device
    assert y._node.op.name == "transfer"
    (y * y).sum().backward()
    assert str(x.grad.device) == "cpu"
    assert x.grad.tolist() == [2.0, 4.0]


def test_to_is_differentiable_twice(other_device):
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    y = x.to(other_device)
    g = hx.autograd.gradients((y * y * y).sum(), x, create_graph=True)
    assert hx.autograd.gradients(g.sum(), x).tolist() == [6.0, 12.0]


def test_to_the_same_device_is_the_same_tensor(other_device):
    x = hx.tensor([1.0])
    assert x.to("cpu") is x
    y = x.to(other_device)
    assert y.to(other_device) is y


def test_moved_values_are_not_aliased(other_device):
    x = hx.tensor([1.0])
    y = x.to(other_device)
    x.assign_(5.0)
    assert y.tolist() == [1.0]


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, y: x + y,
        lambda x, y: x @ y,
        lambda x, y: hx.where(x > 0, x, y),
        lambda x, y: hx.concat([x, y]),
        lambda x, y: hx.divide(x, y),
        lambda x, y: hx.rms_norm(x, y),
        lambda x, y: x.assign_(y),
    ],
    ids=["add", "matmul", "where", "concat", "divide", "rms_norm", "assign_"],
)
def test_operands_on_different_devices_are_refused(operation, other_device):
    x = hx.tensor([1.0, 2.0])
    y = x.to(other_device)
    with pytest.raises(DeviceError, match=rf"operands live on cpu.*{other_device}.*\.to\('cpu'\)"):
        operation(x, y)


def test_scalars_and_arrays_go_where_the_tensor_is(other_device):
    x = hx.tensor([1.0, 2.0], device=other_device)
    y = x * 2 + [1.0, 1.0]
    assert str(y.device) == other_device
    assert y.tolist() == [3.0, 5.0]


def test_unknown_devices_name_the_nearest():
    with pytest.raises(DeviceError, match=r"device 'cpx': no backend serves it.*'cpu'"):
        hx.zeros((2,), device="cpx")
    with pytest.raises(DeviceError, match=r"there is one CPU"):
        hx.zeros((2,), device="cpu:1")
    with pytest.raises(DeviceError, match=r"is not a device name"):
        hx.zeros((2,), device="C P U")


@pytest.mark.parametrize("name", ["metal", "tpu", "qpu"])
def test_devices_that_nobody_serves_say_so(name):
    with pytest.raises(DeviceError, match=rf"device '{name}'.*use 'cpu'"):
        hx.zeros((2,), device=name)


def test_devices_compare_with_their_names():
    assert hx.Device("cuda:1") == "cuda:1"
    assert hx.Device("cuda:1") != hx.Device("cuda:0")
    assert hash(hx.Device("cpu")) == hash("cpu")
    assert (hx.Device("cuda:1").kind, hx.Device("cuda:1").index) == ("cuda", "1")
