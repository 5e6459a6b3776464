"""MemoryPool: against a model of what is in use and kept, and what owners may rely on."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import helixml as hx
from helixml.errors import BackendError, DeviceError, ValueRangeError
from helixml.hardware import MemoryPool

BUDGET = 40
SHAPES = ((1,), (2,), (3, 1))  # 4, 8 and 12 bytes

ACTIONS = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(SHAPES)),
    st.tuples(st.sampled_from(("release", "retain")), st.integers(0, 5)),
    st.tuples(st.just("trim"), st.integers(0, 20)),
)


def size(shape):
    return 4 * shape[0]


@given(st.lists(ACTIONS, max_size=40))
def test_a_pool_holds_what_the_model_does(actions):
    pool = MemoryPool("cpu", budget=BUDGET)
    held, kept = [], []  # [handle, shape, owners]; shapes, the oldest first
    taken = reused = peak = 0
    for action, what in actions:
        in_use = sum(size(shape) for _, shape, _ in held)
        if action == "take":
            if in_use + size(what) > BUDGET:
                with pytest.raises(BackendError, match=r"in use. Hint: release some handles"):
                    pool.take(what)
                continue
            held.append([pool.take(what), what, 1])
            taken += 1
            if what in kept:
                reused += 1
                del kept[len(kept) - 1 - kept[::-1].index(what)]
            else:
                while in_use + size(what) + sum(map(size, kept)) > BUDGET:
                    del kept[0]
        elif action == "trim":
            pool.trim(what)
            while sum(map(size, kept)) > what:
                del kept[0]
        elif held:
            entry = held[what % len(held)]
            getattr(entry[0], action)()
            entry[2] += 1 if action == "retain" else -1
            if not entry[2]:
                held.remove(entry)
                kept.append(entry[1])
        in_use = sum(size(shape) for _, shape, _ in held)
        peak = max(peak, in_use)
        found = pool.statistics
        assert (found.in_use, found.cached) == (in_use, sum(map(size, kept)))
        assert (found.taken, found.reused, found.peak) == (taken, reused, peak)
        assert [entry[0].owners for entry in held] == [entry[2] for entry in held]


def test_what_was_given_back_is_used_again(other_device):
    pool = MemoryPool(other_device)
    handle = pool.take((3,), "float64")
    array = handle.tensor._array
    assert (handle.tensor.device, handle.tensor.dtype) == (other_device, hx.float64)
    handle.release()
    again = pool.take((3,), "float64").tensor
    again.assign_(2.0)  # nobody else looks at it: nothing is copied
    assert again._array is array
    assert pool.take((3,), "float64").tensor._array is not array  # that one is in use


def test_whoever_still_holds_a_tensor_keeps_its_values():
    pool = MemoryPool("cpu")
    handle = pool.take((2,))
    old = handle.tensor
    old.assign_(1.0)
    handle.release()
    pool.take((2,)).tensor.assign_(2.0)
    assert old.tolist() == [1.0, 1.0]


def test_a_handle_without_owners_is_refused():
    handle = MemoryPool("cpu").take((2,))
    handle.retain().release()
    with handle as tensor:
        assert tensor.shape == (2,)
    for ask in (handle.release, handle.retain, lambda: handle.tensor):
        with pytest.raises(BackendError, match=r"released by its last owner. Hint: retain\(\)"):
            ask()


def test_bad_pools_are_refused():
    with pytest.raises(ValueRangeError, match="the budget is -1 bytes"):
        MemoryPool("cpu", budget=-1)
    with pytest.raises(DeviceError, match="no TPU backend"):
        MemoryPool("tpu")


def test_threads_share_a_pool():
    pool = MemoryPool("cpu", budget=4 * 8 * 4)
    right = []

    def work(number):
        for _ in range(50):
            with pool.take((8,)) as x:
                x.assign_(float(number))
                right.append(x.tolist() == [float(number)] * 8)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = pool.statistics
    assert right == [True] * 200
    assert (found.in_use, found.taken) == (0, 200)
    assert found.peak <= 128
    assert found.cached <= 128
