"""Integers that the host still knows; without them range checks wait for the device."""

import numpy as np
import pytest

import helixml as hx
from helixml.backends.cuda.mirrors import Mirrors
from helixml.errors import ValueRangeError


def ids(backend, *values, dtype=np.int64):
    return backend.asarray(np.array(values, dtype))


def test_indices_from_the_host_are_checked_without_waiting(cp, backend):
    x = backend.asarray(np.arange(12.0).reshape(3, 4))
    at = ids(backend, 0, -3, 2)
    for same in (at, backend.reshape(at, (3, 1)), backend.astype(at, np.dtype("int32"))):
        backend.take(x, same, axis=0)
        backend.take(x, backend.getitem(same, (slice(0, 2),)), axis=0)
    with pytest.raises(IndexError, match=r"take: an index is not in \[-3, 3\)"):
        backend.take(x, ids(backend, 0, 3), axis=0)
    assert backend.capabilities()["range_checks_that_waited"] == 0


def test_indices_from_the_device_are_read_back_once(cp, backend):
    x = backend.asarray(np.arange(12.0).reshape(3, 4))
    at = backend.argmax(x, axis=1, keepdims=False)
    for _ in range(2):
        backend.take(x, at, axis=1)
    with pytest.raises(IndexError):
        backend.take(x, at, axis=0)
    assert backend.capabilities()["range_checks_that_waited"] == 1


def test_what_is_written_is_forgotten(cp, backend):
    x = backend.asarray(np.arange(3.0))
    at = ids(backend, 0, 1)
    part = backend.getitem(at, (slice(1, 2),))
    backend.assign(at, ids(backend, 1, 7))
    assert backend.to_numpy(part).tolist() == [7]
    with pytest.raises(IndexError):
        backend.take(x, part, axis=0)


def test_what_the_host_gives_is_a_copy(cp, backend):
    host = np.array([1, 2])
    x = backend.asarray(host)
    host[0] = 9
    backend.to_numpy(x)[1] = 9
    assert backend.to_numpy(x).tolist() == x.get().tolist() == [1, 2]


def test_extremes_of_what_is_known_are_known(cp, backend):
    least = backend.min(ids(backend, 4, 3, 5), axis=(0,), keepdims=False)
    mirrors = backend._mirrors
    assert mirrors.of(least) == 3
    assert mirrors.of(backend.negative(least)) is None


def test_mirrors_end_with_their_arrays(cp):
    mirrors = Mirrors()
    x = cp.asarray(np.array([1, 2]))
    mirrors.remember(x, np.array([1, 2]))
    assert len(mirrors._known) == 1
    del x
    assert not mirrors._known


@pytest.mark.parametrize("ignored", [None, -1])
def test_classes_are_checked(cp, backend, ignored):
    mirrors = Mirrors()
    mirrors.check_classes("loss", cp.asarray(np.array([0, 4])), 5, ignored)
    with pytest.raises(IndexError, match=r"loss: a target is not in \[0, 5\)"):
        mirrors.check_classes("loss", cp.asarray(np.array([0, 5, -1])), 5, ignored)
    if ignored is None:
        with pytest.raises(IndexError):
            mirrors.check_classes("loss", cp.asarray(np.array([-1])), 5, None)


def test_integers_to_a_negative_power_are_an_error_known_without_waiting(cp, device, backend):
    x = hx.tensor([1, 2, 3], device=device)
    assert (x**2).tolist() == [1, 4, 9]
    assert (x ** hx.tensor([2, 0, 1], device=device)).tolist() == [1, 1, 3]
    for power in (-1, hx.tensor([0, 1, -2], device=device)):
        with pytest.raises(ValueRangeError, match="to a negative power"):
            x**power
    assert backend.capabilities()["range_checks_that_waited"] == 0
    with pytest.raises(ValueRangeError, match="to a negative power"):
        x ** (x - 2)
    assert backend.capabilities()["range_checks_that_waited"] > 0
    assert (x.astype("float32") ** -1)[1].item() == 0.5
