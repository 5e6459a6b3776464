"""`hx.testing.assert_close` accepts what is close and says what is not."""

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.testing import assert_close

pytestmark = pytest.mark.usefixtures("plain_settings")


@pytest.mark.parametrize(
    ("actual", "expected", "options"),
    [
        (hx.tensor([1.0]), hx.tensor([1.000001]), {}),
        (hx.tensor([1.0]), np.array([1.0], np.float32), {}),
        (hx.tensor([1, 2]), [1, 2], {}),
        (hx.tensor(0.1), 0.1, {}),
        (hx.tensor([1.0], dtype="bfloat16"), hx.tensor([1.01], dtype="bfloat16"), {}),
        (hx.tensor([np.inf, np.nan]), hx.tensor([np.inf, np.nan]), {"equal_nan": True}),
        (hx.tensor([1.0]), hx.tensor([1.5]), {"rtol": 0.0, "atol": 0.6}),
        (hx.tensor([1 + 1j]), hx.tensor([1 + 1.000001j]), {}),
        ({"a": (hx.ones((2,)), 1)}, {"a": (hx.ones((2,)), 1)}, {}),
        (hx.ones((1,), dtype="float64"), hx.ones((1,)), {"check_dtype": False}),
        (hx.zeros((0, 3)), hx.zeros((0, 3)), {}),
    ],
)
def test_close(actual, expected, options):
    assert_close(actual, expected, **options)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (hx.tensor([1.0, 2.0, 9.0]), hx.tensor([1.0, 2.5, 3.0]), r"2 of 3 .* at \(2,\), is 9\.0"),
        (hx.tensor([1, 2]), hx.tensor([1, 3]), r"1 of 2 entries differ; .*is 2 and not 3"),
        (hx.ones((2,)), hx.ones((3,)), r"the shapes differ: \(2,\) and \(3,\)"),
        (hx.ones((1,), dtype="float64"), hx.ones((1,)), r"dtypes differ: float64 and float32"),
        (hx.tensor([np.nan]), hx.tensor([np.nan]), r"1 of 1 entries differ"),
        (hx.tensor([np.inf]), hx.tensor([-np.inf]), r"inf apart"),
        (hx.tensor([1.0]), hx.tensor([np.inf]), r"1 of 1 entries differ"),
        ([hx.ones((1,)), 2], [hx.ones((1,)), 3], r"leaf 1: 1 of 1"),
        ({"a": 1}, [1], r"the structures differ"),
        ([1], (1, 2), r"the shapes differ"),
        (hx.tensor(2**62), hx.tensor(2**62 + 1), r"1 of 1 entries"),
    ],
)
def test_not_close(actual, expected, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(actual, expected)


def test_half_a_tolerance_is_a_mistake():
    with pytest.raises(ValueRangeError, match=r"rtol=0\.1 and atol=None"):
        assert_close(1.0, 1.0, rtol=0.1)
