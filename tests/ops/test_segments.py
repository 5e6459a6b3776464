"""Segments: what stands where there is nothing, and how ties share a gradient."""

import numpy as np
import pytest

import helixml as hx

IDS = hx.tensor([2, 0, 2])


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("segment_sum", "int32", 0),
        ("segment_prod", "int32", 1),
        ("segment_max", "int8", -128),
        ("segment_min", "uint8", 255),
        ("segment_max", "float32", -np.inf),
        ("segment_min", "bfloat16", np.inf),
    ],
)
def test_an_empty_segment_holds_what_changes_nothing(name, dtype, expected):
    x = hx.tensor([3, 5, 4]).astype(dtype)
    result = getattr(hx, name)(x, IDS, 4)
    assert result.tolist()[1::2] == [expected, expected]
    assert result.tolist()[0] == 5


def test_the_mean_of_an_empty_segment_is_nan_and_harms_no_gradient():
    x = hx.tensor([3.0, 5.0, 4.0], requires_grad=True)
    result = hx.segment_mean(x, IDS)
    assert result.tolist()[0::2] == [5.0, 3.5]
    assert np.isnan(result.numpy()[1])
    hx.nansum(result).backward()
    assert x.grad.tolist() == [0.5, 1.0, 0.5]


def test_ties_share_the_gradient():
    x = hx.tensor([4.0, 5.0, 4.0], requires_grad=True)
    hx.segment_max(x, IDS).max().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    x.grad = None
    hx.segment_min(x, IDS)[2].backward()
    assert x.grad.tolist() == [0.5, 0.0, 0.5]


def test_many_entries_against_loops():
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(1000, 3)), rng.integers(0, 7, 1000)
    for name, reduce in (("max", np.max), ("min", np.min), ("sum", np.sum), ("mean", np.mean)):
        result = getattr(hx, f"segment_{name}")(hx.tensor(x), hx.tensor(ids))
        expected = np.stack([reduce(x[ids == k], axis=0) for k in range(7)])
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12, atol=1e-12)
