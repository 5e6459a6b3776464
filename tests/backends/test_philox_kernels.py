"""Random words and dropout by them, bit for bit as the definition in `base` makes them."""

from __future__ import annotations

import numpy as np
import pytest

from helixml.backends import registry
from helixml.backends.array_api import ArrayApiBackend
from helixml.backends.cpu import kernels
from helixml.backends.reference import philox_block
from helixml.device import Device

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels.philox import drop, philox

DTYPES = ["float32", "float64"]

pytestmark = pytest.mark.usefixtures("instruction_set")


KEYS = [(0, 0), (1, 2), (0xFFFFFFFF, 0xFFFFFFFF)]
COUNTERS = [0, 7, 2**32 - 3, 2**64 - 40000, 5 * 2**64 + 2**33, 2**128 - 2**64]


@pytest.fixture(scope="module")
def base():
    return ArrayApiBackend(np, Device("toy"))


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("key", KEYS)
def test_words_are_those_of_the_definition(of_any_number_of_threads, base, key, counter):
    for blocks in (0, 1, 2, 7, 8, 9, 33, 10000):
        found = of_any_number_of_threads(lambda n=blocks: philox(key, counter, n))
        assert found.dtype == np.uint32
        np.testing.assert_array_equal(found, base.philox(key, counter, blocks))


def test_words_are_those_of_the_scalar_algorithm():
    for i, found in enumerate(philox((3, 2**31), 2**32 - 20, 50)):
        assert found.tolist() == philox_block((3, 2**31), 2**32 - 20 + i)


@pytest.mark.parametrize("counter", [2**64 - 2, 2**128 - 1])
def test_a_counter_whose_upper_half_moves_is_left_to_the_definition(base, counter):
    assert philox((1, 2), counter, 3) is None
    assert drop(np.ones(12), (1, 2), counter, threshold=2**31, scale=1.0) is None
    found = registry.get("cpu").philox((1, 2), counter, 3)
    np.testing.assert_array_equal(found, base.philox((1, 2), counter, 3))


@pytest.mark.parametrize("threshold", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropped_entries_are_those_of_the_definition(
    of_any_number_of_threads, rng, base, dtype, threshold
):
    options = {"threshold": threshold, "scale": 1 / 0.7}
    for shape in ((), (3,), (4, 5), (0, 2), (1023,), (201, 333)):
        x = np.asarray(rng.standard_normal(shape), dtype)
        found = of_any_number_of_threads(lambda x=x: drop(x, (5, 6), 2**32 - 9, **options))
        wanted = base.drop(x, (5, 6), 2**32 - 9, **options)
        assert found.dtype == dtype
        assert found.shape == shape
        np.testing.assert_array_equal(found.view(), wanted)


def test_words_follow_the_order_of_elements_not_of_memory(rng, base):
    x = rng.standard_normal((30, 40))
    options = {"threshold": 2**31, "scale": 2.0}
    wanted = drop(x, (1, 2), 3, **options)
    for view in (np.asfortranarray(x), np.ascontiguousarray(x[:, ::-1])[:, ::-1]):
        np.testing.assert_array_equal(drop(view, (1, 2), 3, **options), wanted)


def test_what_is_dropped_is_zero_whatever_it_was():
    x = np.array([np.nan, np.inf, -np.inf, -1.0, 5e-324])
    dropped = drop(x, (0, 0), 0, threshold=2**32 - 1, scale=2.0)
    assert dropped.tobytes() == np.zeros(5).tobytes()
    np.testing.assert_array_equal(drop(x, (0, 0), 0, threshold=0, scale=2.0), x * 2)
