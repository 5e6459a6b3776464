"""Random bits on the device are those of every other."""

import numpy as np
import pytest

from helixml.backends import registry

from .conftest import random

COUNTERS = [0, 2**32 - 2, 2**64 - 3, 2**128 - 2]


@pytest.mark.parametrize("counter", COUNTERS)
def test_words_are_the_cpu_s(backend, counter):
    goal = registry.get("reference").philox((7, 2**32 - 1), counter, 5)
    np.testing.assert_array_equal(backend.philox((7, 2**32 - 1), counter, 5).get(), goal)


@pytest.mark.parametrize("shape", [(), (3, 7), (64,), (0, 4)])
def test_what_is_dropped_is_dropped_on_the_cpu_too(cp, backend, dtype, shape):
    x = random(shape, dtype)
    options = {"threshold": 2**31 + 5, "scale": 1.9}
    goal = registry.get("reference").drop(x, (1, 2), 2**64 - 1, **options)
    found = backend.drop(cp.asarray(x), (1, 2), 2**64 - 1, **options)
    assert found.get().tobytes() == np.asarray(goal).tobytes()
