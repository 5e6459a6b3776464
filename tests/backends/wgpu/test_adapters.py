"""Which adapter a device names, and what is said where there is none."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from helixml.backends import registry, wgpu
from helixml.device import Device
from helixml.errors import DeviceError, MissingDependencyError


def module(*adapters):
    """Return a stand-in for wgpu's module with adapters (name, kind, API)."""
    found = [
        SimpleNamespace(info={"device": name, "adapter_type": kind, "backend_type": api})
        for name, kind, api in adapters
    ]
    return SimpleNamespace(gpu=SimpleNamespace(enumerate_adapters_sync=lambda: found))


MACHINE = module(
    ("llvmpipe", "CPU", "Vulkan"),
    ("small", "IntegratedGPU", "D3D12"),
    ("small", "IntegratedGPU", "Vulkan"),
    ("large", "DiscreteGPU", "Vulkan"),
    ("large", "DiscreteGPU", "Vulkan"),
    ("large", "DiscreteGPU", "OpenGL"),
)


def test_gpus_come_before_software_and_each_is_there_once():
    names = [(a.info["device"], a.info["backend_type"]) for a in wgpu.adapters(MACHINE)]
    assert names == [
        *[("large", "Vulkan")] * 2,
        ("small", "Vulkan"),
        ("llvmpipe", "Vulkan"),
    ]
    assert wgpu.choose(MACHINE, Device("wgpu")).info["device"] == "large"
    assert wgpu.choose(MACHINE, Device("wgpu:2")).info["device"] == "small"


def test_an_adapter_that_is_not_there_lists_those_that_are():
    with pytest.raises(DeviceError, match=r"'wgpu:4': there is no adapter 4. .* 0 'large', .*"):
        wgpu.choose(MACHINE, Device("wgpu:4"))
    with pytest.raises(DeviceError, match=r"'fast' is no number of an adapter. Hint: 'wgpu:0'"):
        wgpu.choose(MACHINE, Device("wgpu:fast"))


def test_without_an_adapter_the_way_to_one_is_named():
    with pytest.raises(DeviceError, match=r"no adapter of Vulkan.*mesa-vulkan-drivers.*'cpu'"):
        wgpu.choose(module(), Device("wgpu"))
    with pytest.raises(DeviceError, match="no adapter of Vulkan"):
        wgpu.choose(module(("large", "DiscreteGPU", "OpenGL")), Device("wgpu"))


def test_without_wgpu_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wgpu", None)
    with pytest.raises(MissingDependencyError, match=r"'wgpu': .*pip install 'helixml\[wgpu"):
        wgpu.open_adapter(Device("wgpu"))


def test_importing_helixml_leaves_wgpu_alone():
    text = "import sys, helixml; assert 'wgpu' not in sys.modules"
    subprocess.run([sys.executable, "-c", text], check=True)


def test_the_backend_tells_what_it_runs_on(backend):
    told = backend.capabilities()
    assert told["adapter"] and told["api"] in ("Vulkan", "Metal", "D3D12")
    assert told["largest_array"] >= 128 << 20
    assert registry.available()["wgpu"] == "ok"
