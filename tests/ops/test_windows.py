"""Windows: what they take of memory, and what they share."""

import numpy as np
import pytest

import helixml as hx
from helixml.profiler import profile


@pytest.mark.usefixtures("on_the_cpu")
def test_windows_on_the_cpu_take_no_memory():
    x = hx.ones((4, 100))
    with profile() as report:
        windows = hx.unfold(hx.unfold(x[:, ::2], 9), 3, axis=0)
    assert windows.shape == (2, 42, 9, 3)
    assert report.bytes == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_write_to_windows_is_seen_in_one_place_only(dtype):
    x = hx.ones((4,), dtype=dtype)
    windows = hx.unfold(x, 2)
    windows[0, 1] = 5
    np.testing.assert_array_equal(windows.numpy().astype(int), [[1, 5], [1, 1], [1, 1]])
    assert (x == 1).numpy().all()
