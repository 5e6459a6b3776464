"""Finding backends: names, reasons, entry points, factories that give nonsense."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

import helixml as hx
from helixml.backends import registry
from helixml.errors import BackendError, DeviceError


@pytest.fixture
def installed(monkeypatch, toys):
    """Pretend that packages with these entry points are installed; note what is read of them."""
    registry.unregister("toy")
    reads = []

    def install(**entries):
        found = [EntryPoint(name, value, registry.GROUP) for name, value in entries.items()]

        def entry_points(**wanted):
            reads.append(wanted)
            return EntryPoints(found).select(**wanted)

        monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
        return reads

    return install


def test_one_device_has_one_backend():
    assert registry.get("cpu") is registry.get(hx.Device("cpu"))


def test_an_unknown_device_suggests_the_nearest():
    with pytest.raises(DeviceError, match=r"device 'cpuu': no backend.*did you mean 'cpu'"):
        registry.get("cpuu")


def test_a_device_like_no_other_lists_what_there_is():
    with pytest.raises(DeviceError, match=r"there are array_api_strict, cpu, .*reference"):
        registry.get("xyzzy")


@pytest.mark.parametrize("name", ["", "CPU", "cpu:", "cpu 1", "1cpu"])
def test_a_text_that_is_no_device_name(name):
    with pytest.raises(DeviceError, match="is not a device name"):
        hx.zeros((1,), device=name)


@pytest.mark.parametrize("kind", ["metal:0", "metal", "tpu", "npu", "qpu"])
def test_a_kind_that_nobody_serves_says_why(kind):
    with pytest.raises(DeviceError, match=rf"device '{kind}': no .* backend.*use 'cpu'"):
        registry.get(kind)


@pytest.mark.parametrize("name", ["cpu:1", "reference:0", "array_api_strict:0"])
def test_a_device_without_places_refuses_an_index(name):
    with pytest.raises(DeviceError, match="Hint: write"):
        registry.get(name)


def test_available_tells_of_every_kind():
    report = registry.available()
    assert report["cpu"] == report["reference"] == "ok"
    assert report["cuda"] == "ok" or "device 'cuda'" in report["cuda"]
    assert all(isinstance(reason, str) and reason for reason in report.values())


def test_a_registered_backend_computes(toys):
    x = hx.tensor([1.0, 2.0], device="toy", requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]
    assert x.device == "toy"
    assert repr(x) == "tensor([1., 2.], device='toy', requires_grad=True)"
    assert registry.available()["toy"] == "ok"


def test_registering_again_replaces(toys):
    first = registry.get("toy")
    registry.register("toy", toys.whole)
    assert registry.get("toy") is not first


def test_unregistering_forgets(toys):
    registry.get("toy")
    registry.unregister("toy")
    with pytest.raises(DeviceError):
        registry.get("toy")
    registry.unregister("toy")  # twice does no harm


def test_entry_points_are_read_only_for_names_that_are_not_built_in(installed):
    reads = installed(toy="toy_package:whole", cpu="toy_package:whole")
    assert registry.get("cpu").name == "cpu"
    assert registry.get("reference").name == "reference"
    assert reads == []
    assert hx.ones((2,), device="toy").sum().item() == 2.0
    assert reads == [{"group": "helixml.backends", "name": "toy"}]
    registry.get("toy")
    assert len(reads) == 1  # made once, kept


def test_entry_points_are_among_the_suggestions(installed):
    installed(toy="toy_package:whole")
    with pytest.raises(DeviceError, match="did you mean 'toy'"):
        registry.get("toyy")
    assert registry.available()["toy"] == "ok"


@pytest.mark.parametrize("factory", [lambda: None, lambda: 3, dict])
def test_a_factory_that_gives_nonsense(factory, toys):
    registry.register("toy", factory)
    with pytest.raises(BackendError, match=r"'toy': its factory gave .*testing.contract toy"):
        registry.get("toy")
    assert "its factory gave" in registry.available()["toy"]


def test_an_incomplete_backend_says_what_it_lacks(toys):
    registry.register("toy", lambda: toys.without("exp", "log"))
    with pytest.raises(BackendError, match=r"ArrayApiBackend.* lacks exp, log\."):
        registry.get("toy")


def test_an_entry_point_that_gives_nonsense(installed):
    installed(toy="builtins:dict")
    with pytest.raises(BackendError, match=r"its factory gave dict"):
        registry.get("toy")


@pytest.mark.parametrize("value", ["no_such_module_at_all:make", "toy_package:nothing"])
def test_an_entry_point_that_does_not_load(installed, value):
    installed(toy=value)
    with pytest.raises(BackendError, match=f"entry point '{value}' does not load"):
        registry.get("toy")
    assert "does not load" in registry.available()["toy"]


def test_errors_of_a_missing_device_pass_through(toys):
    def factory():
        raise DeviceError("device 'toy': it is unplugged. Hint: plug it in.")

    registry.register("toy", factory)
    with pytest.raises(DeviceError, match="unplugged"):
        registry.get("toy")
    assert "unplugged" in registry.available()["toy"]


def test_operands_on_two_devices_name_both(toys):
    with pytest.raises(DeviceError, match=r"add: operands live on cpu .* and toy"):
        hx.ones((2,), device="cpu") + hx.ones((2,), device="toy")


def test_moving_there_and_back_carries_gradients(toys):
    x = hx.tensor([1.0, 2.0], device="cpu", requires_grad=True)
    y = (x.to("toy") * 3.0).to("cpu").sum()
    y.backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [3.0, 3.0]
