"""Making the backend: what is missing is said, and nothing is imported before it is asked for."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import helixml as hx
from helixml.backends import cuda, registry
from helixml.backends.cuda.backend import CudaBackend
from helixml.device import Device
from helixml.errors import DeviceError, DTypeError, MissingDependencyError


def fake(*, available, driver=13020, needed=13020, count=1):
    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: needed,
        getDeviceCount=lambda: count,
        is_hip=False,
    )
    return SimpleNamespace(
        is_available=lambda: available,
        cuda=SimpleNamespace(runtime=runtime),
        __version__="14.2.0",
    )


@pytest.mark.parametrize(
    ("found", "name", "message"),
    [
        (fake(available=False, driver=0), "cuda", r"device 'cuda': .* no NVIDIA driver. Hint"),
        (
            fake(available=False, driver=12020),
            "cuda:0",
            r"the driver serves CUDA 12.2, CuPy 14.2.0 needs 13.2. Hint: a newer driver",
        ),
        (fake(available=False), "cuda", r"no GPU that it can use. Hint: nvidia-smi"),
        (fake(available=True), "cuda:1", r"device 'cuda:1': there is 1 GPU, numbered from 0"),
        (fake(available=True, count=2), "cuda:2", r"there are 2 GPUs"),
        (fake(available=True), "cuda:x", r"'x' is no number of a GPU. Hint: 'cuda:0'"),
    ],
)
def test_what_cannot_be_used_says_why(found, name, message):
    with pytest.raises(DeviceError, match=message):
        cuda.check(found, Device(name))


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_what_can_be_used_passes(name):
    cuda.check(fake(available=True, count=2), Device(name))


def test_without_cupy_its_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'helixml\[cuda13\]'"):
        cuda.create(Device("cuda"))
    registry.unregister("cuda")
    assert "Hint: pip install" in registry.available()["cuda"]


def test_importing_helixml_imports_neither_cupy_nor_the_backend():
    code = (
        "import sys, helixml; "
        "print([m for m in sys.modules if 'cupy' in m or 'backends.cuda' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_backend_says_what_it_runs_on(backend):
    found = backend.capabilities()
    assert found["name"] == "cuda"
    assert found["multiprocessors"] > 0
    assert {"gpu", "compute_capability", "memory", "cupy", "cuda_driver"} <= {*found}
    used = backend.memory()
    x = backend.zeros((1000,), dtype=np.dtype("float32"))
    assert backend.memory()["in_use"] >= used["in_use"] + x.nbytes


class TwoDevices:
    """A stand-in that has two devices and notes which of them is current."""

    def __init__(self, cp):
        self._cp, self.current, self.entered = cp, 0, []
        self.cuda = SimpleNamespace(
            **{k: v for k, v in vars(cp.cuda).items() if k not in ("Device", "runtime")},
            Device=self._device,
            runtime=SimpleNamespace(**{**vars(cp.cuda.runtime), "getDeviceCount": lambda: 2}),
        )

    def __getattr__(self, name):
        return getattr(self._cp, name)

    def _device(self, number=None):
        outer = self

        class Chosen(type(self._cp.cuda.Device())):
            def __init__(self):
                self.id = outer.current if number is None else number
                self.before = []

            def __enter__(self):
                self.before.append(outer.current)
                outer.current = self.id
                outer.entered.append(self.id)
                return self

            def __exit__(self, *exception):
                outer.current = self.before.pop()

        return Chosen()


def test_of_two_devices_each_backend_uses_its_own(cp):
    if not hasattr(cp, "cuemu"):
        pytest.skip("the stand-in is counted on")
    both = TwoDevices(cp)
    second = CudaBackend(both, Device("cuda:1"))
    for call in (
        lambda: second.exp(second.ones((3,), dtype=np.dtype("float32"))),
        lambda: second.kernels["silu"].function(second.ones((3,), dtype=np.dtype("float32"))),
    ):
        both.entered.clear()
        call()
        assert both.entered
        assert {*both.entered} == {1}
        assert both.current == 0


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_8_bit_floats_are_refused_whatever_they_would_come_from(device, name):
    x, host = hx.ones((2, 2), device=device), hx.ones((2, 2), name, device="cpu")
    for make in (
        lambda: x.astype(name),
        lambda: hx.zeros((2,), name, device=device),
        lambda: hx.ones((2,), name, device=device),
        lambda: hx.full((2,), 3.0, dtype=name, device=device),
        lambda: hx.eye(2, dtype=name, device=device),
        lambda: host.to(device),
        lambda: hx.tensor(host.numpy(), device=device),
    ):
        with pytest.raises(DTypeError, match=rf"'cuda': has no {name}; it has bool, .*astype\(\)"):
            make()
    assert np.dtype(getattr(hx, name)) not in x._backend.dtypes
