"""UnifiedTensor: against a model of copies and versions, with random reads and writes."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helixml as hx
from helixml.backends import registry
from helixml.backends.cpu import CpuBackend
from helixml.device import Device
from helixml.errors import DeviceError, DTypeError, ShapeError
from helixml.hardware import UnifiedTensor

DEVICES = ("cpu", "reference", "third")
SIZE = 12


@pytest.fixture(autouse=True, scope="module")
def third():
    """Serve a third device."""

    class Third(CpuBackend):
        device_kinds = ("third",)

    registry.register("third", lambda: Third(Device("third")))
    yield
    registry.unregister("third")


def value(number, device="cpu"):
    return hx.full((3,), float(number), dtype="float32").to(device)


ACTIONS = st.one_of(
    st.tuples(st.just("read"), st.sampled_from((*DEVICES, None))),
    st.tuples(st.just("write"), st.sampled_from(DEVICES)),
    st.tuples(st.just("update"), st.sampled_from(DEVICES)),
    st.tuples(st.just("drop"), st.sampled_from(DEVICES)),
    st.tuples(st.just("spoil"), st.sampled_from(DEVICES)),
)


@given(st.lists(ACTIONS, max_size=30))
def test_any_reads_and_writes_are_those_of_the_model(actions):
    shared = UnifiedTensor(value(0))
    held = {"cpu": 0}  # device -> version of its copy
    latest, version, moves = 0.0, 0, 0
    for number, (action, device) in enumerate(actions, 1):
        if action == "read":
            found = shared.read(device)
            assert found.tolist() == [latest] * 3
            if device is not None:
                assert found.device == device
                moves += held.get(device) != version
                held[device] = version
        elif action == "write":
            latest, version = float(number), version + 1
            held[device] = version
            shared.write(value(number, device))
        elif action == "update":
            moves += held.get(device) != version
            latest, version = latest + 1.0, version + 1
            held[device] = version
            shared.update(lambda x: x + 1.0, device)
        elif action == "drop":
            only = [name for name, v in held.items() if v == version] == [device]
            if device not in held or only:
                with pytest.raises(DeviceError):
                    shared.drop(device)
            else:
                del held[device]
                shared.drop(device)
        elif held.get(device) == version:  # what a reader does to what it got is its own business
            found = shared.read(device)
            with hx.no_grad():
                found.assign_(-1.0)
            assert shared.read(device).tolist() == [latest] * 3
        assert shared.devices == held
        assert shared.version == version
        assert shared.moves == moves
        assert shared.moved_bytes == SIZE * moves
        assert set(shared.stale) == {name for name, v in held.items() if v < version}
        for name in DEVICES:
            assert shared.is_current(name) == (held.get(name) == version)


def test_copies_are_real():
    shared = UnifiedTensor(value(1))
    here, there = shared.read("cpu"), shared.read("reference")
    assert not np.shares_memory(here._array, there._array)
    assert shared.moved_bytes == SIZE


def test_the_given_tensor_is_no_part_of_it():
    x = value(1)
    shared = UnifiedTensor(x)
    with hx.no_grad():
        x.assign_(9.0)
    assert shared.read().tolist() == [1.0] * 3


def test_what_requires_a_gradient_stays_outside_of_it():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    shared = UnifiedTensor(x * 2.0)
    assert not shared.read("reference").requires_grad


def test_threads_take_turns():
    shared = UnifiedTensor(value(0))
    seen = []

    def work(device):
        for _ in range(25):
            shared.update(lambda x: x + 1.0, device)
            found = shared.read(device).tolist()
            seen.append(len(set(found)) == 1)

    threads = [threading.Thread(target=work, args=(name,)) for name in (*DEVICES, "cpu")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.read().tolist() == [100.0] * 3
    assert shared.version == 100
    assert all(seen)
    assert shared.moved_bytes == SIZE * shared.moves


def test_other_shapes_and_dtypes_are_refused():
    shared = UnifiedTensor(value(0))
    with pytest.raises(ShapeError, match=r"the shape is \(3,\), got \(2,\)"):
        shared.write(hx.ones((2,)))
    with pytest.raises(DTypeError, match=r"holds float32, got float64"):
        shared.write(hx.ones((3,), dtype="float64"))
    with pytest.raises(DTypeError, match=r"holds float32, got list"):
        shared.write([1.0, 2.0, 3.0])
    with pytest.raises(DTypeError, match=r"takes a Tensor, not list"):
        UnifiedTensor([1.0])
    with pytest.raises(DeviceError, match="no TPU backend"):
        shared.read("tpu")
    with pytest.raises(DeviceError, match=r"no copy on 'reference'. Hint: there is cpu"):
        shared.drop("reference")
    with pytest.raises(DeviceError, match=r"'cpu' is the only current one"):
        shared.drop("cpu")
    assert (shared.version, shared.shape, shared.dtype) == (0, (3,), hx.float32)
    assert repr(shared) == "UnifiedTensor(shape=(3,), version=0, devices={'cpu': 0})"
