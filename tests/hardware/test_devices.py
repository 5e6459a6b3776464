"""Devices, what they can, what they hold: found, measured, kept, and chosen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import helixml as hx
from helixml import hardware
from helixml.backends import registry
from helixml.backends.cpu import CpuBackend
from helixml.device import KINDS, Device
from helixml.errors import DeviceError, DTypeError, HelixWarning, ValueRangeError
from helixml.hardware import capabilities as function_of_that_name
from helixml.hardware import machine as machine_of_that_name
from helixml.hardware import probes
from helixml.hardware.capabilities import Capabilities, cache_file
from helixml.hardware.machine import _caches, _count

assert callable(function_of_that_name)
assert callable(machine_of_that_name)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keep files here, and count what is measured instead of measuring."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []

    def told(name, value):
        def probe(*given):
            asked.append((name, *given))
            return value

        return probe

    monkeypatch.setattr(probes, "bandwidth", told("bandwidth", 2e10))
    monkeypatch.setattr(probes, "latency", told("latency", 1e-6))
    monkeypatch.setattr(probes, "peak_rate", told("rate", 1e11))
    return asked


@pytest.fixture
def plugged():
    """Serve a kind that nobody serves, as a third party would."""

    class Other(CpuBackend):
        name = "other"
        device_kinds = ("qpu",)

    registry.register("qpu", lambda: Other(Device("qpu")))
    yield "qpu"
    registry.unregister("qpu")


def test_devices_are_those_that_the_registry_can_make():
    found = hx.devices()
    names = [device.name for device in found]
    assert names[0] == hx.config.get().device
    assert set(names) == {kind for kind, why in registry.available().items() if why == "ok"}
    for device in found:
        assert hx.ones((2,), device=device.name).device == device.name
        assert (device.kind, device.index) == (device.name, "")
    assert [device.name for device in hx.devices("reference")] == ["reference"]


@pytest.mark.parametrize("kind", ["tpu", "npu", "qpu", "bci", "metal"])
def test_devices_that_nobody_serves_say_how_to_plug_one_in(kind):
    assert kind in KINDS
    assert kind in hardware.missing()
    for ask in (hx.devices, hardware.device, hx.hardware.memory, lambda k: hx.ones(2, device=k)):
        with pytest.raises(DeviceError, match=r"Hint: .* entry points 'helixml.backends'"):
            ask(kind)


def test_a_kind_that_is_plugged_in_is_a_device(plugged):
    assert plugged in [device.name for device in hx.devices()]
    assert plugged not in hardware.missing()
    assert hardware.device(plugged).backend == "other"
    assert hx.ones((2,)).to(plugged).device == plugged


def test_devices_by_op_and_dtype():
    everywhere = {device.name for device in hx.devices()}
    assert {d.name for d in hardware.supporting("matmul")} == everywhere
    assert {d.name for d in hardware.supporting("relu")} == everywhere  # made of others
    halves = {d.name for d in hardware.supporting("matmul", dtype="bfloat16")}
    assert "cpu" in halves
    assert "array_api_strict" not in halves  # the standard has no 16-bit floats
    with_kernel = {d.name for d in hardware.supporting("selective_scan", kernel=True)}
    assert with_kernel == {
        name for name in everywhere if "selective_scan" in registry.get(name).kernels
    }
    with pytest.raises(ValueRangeError, match="no op 'matmull'"):
        hardware.supporting("matmull")
    with pytest.raises(DTypeError):
        hardware.supporting("matmul", dtype="float31")


def test_capabilities_are_measured_once_and_kept(cache):
    first = hardware.capabilities("cpu")
    assert set(cache) == {
        ("bandwidth", "cpu"),
        ("rate", "cpu", "float32"),
        ("rate", "cpu", "float64"),
        ("latency", "cpu"),
    }
    once = len(cache)
    assert hardware.capabilities("cpu") == first == hx.hardware.device("cpu").capabilities
    assert len(cache) == once
    assert hardware.capabilities("cpu", refresh=True) == first
    assert len(cache) == 2 * once
    assert json.loads(cache_file("cpu").read_text())["bandwidth"] == 2e10
    assert [path.name for path in cache_file("cpu").parent.iterdir()] == [cache_file("cpu").name]


def broken_files():
    good = {
        **{"device": "cpu", "processor": "p", "cores": 2, "caches": [], "simd": [], "kernels": ""},
        **{"bandwidth": 1.0, "float32_rate": 1.0, "float64_rate": None, "latency": 1.0},
    }
    yield "cut", json.dumps(good)[:-20]
    yield "empty", ""
    yield "another thing", "[1, 2]"
    yield "a number", "3"
    yield "a field less", json.dumps({k: v for k, v in good.items() if k != "latency"})
    yield "a field more", json.dumps({**good, "more": 1})
    yield "no number", json.dumps({**good, "bandwidth": "fast"})
    yield "impossible", json.dumps({**good, "latency": 0.0})
    yield "bad caches", json.dumps({**good, "caches": [{"level": 1}]})
    yield "bytes", "\x00\xff"


@pytest.mark.parametrize("text", [pytest.param(t, id=name) for name, t in broken_files()])
def test_a_broken_file_is_measured_anew(cache, text):
    path = cache_file("cpu")
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="latin-1")
    assert hardware.capabilities("cpu").bandwidth == 2e10
    once = len(cache)
    assert once > 0
    assert hardware.capabilities("cpu").bandwidth == 2e10
    assert len(cache) == once  # and the file is whole again


def test_figures_are_of_one_setting(cache, plain_settings):
    ours = cache_file("cpu")
    assert cache_file("reference") != ours
    with hx.config.using(kernels=False):
        assert cache_file("cpu") != ours
    threads = hx.get_num_threads()
    hx.set_num_threads(1)
    try:
        alone = cache_file("cpu")
    finally:
        hx.set_num_threads(None if threads > 1 else 1)
    assert (alone == ours) == (threads == 1)


def test_a_folder_that_cannot_be_written_is_a_warning(cache, tmp_path, monkeypatch):
    stands_in_the_way = tmp_path / "file"
    stands_in_the_way.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(stands_in_the_way))
    with pytest.warns(HelixWarning, match="figures are measured in every process"):
        assert hardware.capabilities("cpu").bandwidth == 2e10
    once = len(cache)
    assert hardware.capabilities("cpu").bandwidth == 2e10  # and is measured once all the same
    assert len(cache) == once


def test_the_best_of_some_rounds_counts(cache, monkeypatch):
    for probe, values in (("bandwidth", (1e9, 3e9, 2e9)), ("latency", (5e-6, 2e-6, 3e-6))):
        turns = iter(values)
        monkeypatch.setattr(probes, probe, lambda *_, turns=turns: next(turns))
    rates = iter((1e9, None, 4e9, None, 2e9, None))
    monkeypatch.setattr(probes, "peak_rate", lambda *_: next(rates))
    found = hardware.capabilities("cpu")
    assert (found.bandwidth, found.latency) == (3e9, 2e-6)
    assert (found.float32_rate, found.float64_rate) == (4e9, None)


def test_capabilities_read_as_a_line():
    found = Capabilities("cpu", "P", 2, (), ("avx2",), "avx2", 2.5e10, 1e11, None, 5e-7)
    assert str(found) == (
        "P; 2 threads; 25 GB/s; float32 100 GFLOP/s; float64 none; a small op 0.5 us"
    )


def test_probes_measure_something():
    x = hx.ones((4,))
    assert 0 < probes.seconds(lambda: x + x, "cpu", budget=1e-4) < 1
    assert 0 < probes.latency("cpu") < 1
    calls = []
    probes.seconds(lambda: calls.append(1), "cpu", budget=1e-3, least=3)
    assert len(calls) >= 4


def test_a_device_without_wide_numbers_has_no_rate_for_them(plugged):
    backend = registry.get(plugged)
    backend.dtypes = tuple(d for d in backend.dtypes if d != hx.float64)
    real = backend.ones

    def ones(shape, *, dtype):
        if dtype == hx.float64:
            raise DTypeError("ones: no such numbers.")
        return real(shape, dtype=dtype)

    backend.ones = ones
    assert probes.peak_rate(plugged, "float64") is None


def test_caches_are_read_from_files(tmp_path):
    def cache(i, **told):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, text in told.items():
            (folder / name).write_text(text + "\n")

    cache(0, level="2", type="Unified", size="2048K", shared_cpu_list="0-1,4")
    cache(1, level="1", type="Data", size="48K", shared_cpu_list="0")
    cache(2, level="1", type="Instruction", size="32K", shared_cpu_list="0")
    cache(3, level="3", type="Unified", size="", shared_cpu_list="0")  # not told
    found = [(c.level, c.bytes, c.shared_by) for c in _caches(tmp_path)]
    assert found == [(1, 48 << 10, 1), (2, 2 << 20, 3)]
    assert _caches(tmp_path / "nothing") == ()
    assert _count("0-3,8,10-11") == 7


def test_the_machine_has_cores_and_memory():
    here = hardware.machine()
    assert here.cores == len(os.sched_getaffinity(0))
    total, free = hardware.memory("cpu").total, hardware.memory("cpu").free
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert abs(total - pages) < 0.05 * pages
    assert 0 < free <= total


def test_memory_in_use_is_the_backends_count(with_kernels):
    before = hardware.memory("cpu").in_use
    x = hx.ones((1 << 18,), device="cpu") + 1.0
    assert hardware.memory("cpu").in_use - before >= x.nbytes
    assert hardware.memory("cpu").peak >= x.nbytes


# What a block allocates


def test_a_block_counts_results_and_not_views():
    x = hx.ones((64, 64))
    with hardware.allocations() as found:
        y = hx.reshape(x, (4096,))
        assert (found.bytes, found.arrays) == (0, 0)
        z = y * 2.0
        assert (found.bytes, found.arrays, found.held) == (4 * 4096, 1, 4 * 4096)
        del z
        assert found.held == 0
        w = hx.exp(x) @ x
    assert (found.bytes, found.arrays) == (3 * 4 * 4096, 3)
    assert found.peak == 2 * 4 * 4096
    assert found.held == w.nbytes
    del w
    assert found.held == 0
    x = x + x  # the block is over
    assert found.arrays == 3


def test_a_block_counts_what_is_made_from_nothing():
    with hardware.allocations() as found:
        x = hx.zeros((10,))
        y = hx.arange(5, dtype="int64")
    assert found.bytes == x.nbytes + y.nbytes == 40 + 40
    assert found.held == 80


def test_blocks_nest_and_leave_everything_as_it_was():
    before = dict(vars(hx.exp))
    backend = dict(vars(registry.get("cpu")))
    x = hx.ones((8,))
    with hardware.allocations() as outer:
        hx.exp(x)
        with pytest.raises(ZeroDivisionError), hardware.allocations() as inner:
            hx.exp(x)
            hx.exp(x) * (1 // 0)
    assert (outer.arrays, inner.arrays) == (3, 2)
    assert set(vars(hx.exp)) == set(before)
    assert set(vars(registry.get("cpu"))) == set(backend)


def test_a_block_tells_what_devices_say(with_kernels):
    with hardware.allocations("cpu") as found:
        x = hx.ones((1 << 18,), device="cpu") * 2.0
    assert found.in_use["cpu"] >= x.nbytes


# Structures


def test_structures_move_as_a_whole(other_device):
    x = hx.tensor([1.0, 2.0])
    model = hx.nn.Linear(2, 3, rng=hx.random.Rng(0))
    want = model(x).numpy()
    tree = {"model": model, "state": [x, (x, None, 3)], "name": "a"}
    moved = hardware.to(other_device, tree)
    assert moved["model"] is model
    assert {p.device for p in model.parameters()} == {Device(other_device)}
    assert moved["state"][0] is moved["state"][1][0]
    assert moved["state"][1][1:] == (None, 3)
    assert x.device == hx.config.get().device
    np.testing.assert_allclose(model(moved["state"][0]).numpy(), want, rtol=1e-6)
    back = hardware.to("cpu", moved["state"])
    assert back[0].tolist() == [1.0, 2.0]
    assert hardware.to(x.device, x) is x


def test_a_parameter_beside_its_module_stays_its_own(other_device):
    model = hx.nn.Linear(2, 3, rng=hx.random.Rng(0))
    weight, moved = hardware.to(other_device, (model.weight, model))
    assert weight is moved.weight is model.weight
    assert weight.device == other_device


def test_a_structure_is_not_moved_to_where_nothing_is():
    model = hx.nn.Linear(2, 3, rng=hx.random.Rng(0))
    with pytest.raises(DeviceError, match="no TPU backend"):
        hardware.to("tpu", [model, hx.ones((2,))])
    assert {str(p.device) for p in model.parameters()} == {hx.config.get().device}


def test_the_package_is_loaded_when_it_is_used():
    code = (
        "import sys, helixml as hx\n"
        "assert 'helixml.hardware' not in sys.modules\n"
        "assert 'devices' in dir(hx) and 'hardware' in dir(hx)\n"
        "hx.devices()\n"
        "assert 'helixml.hardware' in sys.modules\n"
    )
    source = str(Path(hx.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": source}
    )
