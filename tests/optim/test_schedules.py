"""WarmupCosine: its shape, its ends, and what makes no schedule."""

import dataclasses
import itertools
import math

import pytest

from helixml.errors import ValueRangeError
from helixml.optim import WarmupCosine


def test_rise_then_half_a_cosine():
    rate = WarmupCosine(2.0, 10, 110, 0.1)
    assert [rate(step) for step in range(10)] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    for step in range(10, 110):
        wave = (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        assert rate(step) == pytest.approx(2.0 * (0.1 + 0.9 * wave))
    assert rate(60) == pytest.approx(2.0 * 0.55)  # half way down


def test_rises_and_falls_without_jumps():
    rates = [WarmupCosine(1.0, 20, 200)(step) for step in range(200)]
    assert max(rates) == 1.0 == rates[19]
    assert all(a < b for a, b in itertools.pairwise(rates[:20]))
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) <= 0.05 + 1e-12


def test_beyond_the_end_the_rate_stays():
    rate = WarmupCosine(1.0, 0, 10, 0.25)
    assert rate(10) == rate(11) == rate(10**9) == pytest.approx(0.25)


def test_without_warmup_it_starts_at_the_top():
    assert WarmupCosine(3.0, 0, 10)(0) == 3.0


def test_a_final_ratio_of_one_is_constant_after_the_rise():
    rate = WarmupCosine(1.0, 2, 10, 1.0)
    assert [rate(step) for step in range(12)] == [0.5] + [1.0] * 11


def test_a_run_that_is_all_rise():
    rate = WarmupCosine(1.0, 4, 4)
    assert [rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert WarmupCosine(1.0, 1, 1)(0) == 1.0


def test_it_is_a_record():
    rate = WarmupCosine(lr=1.0, warmup_steps=2, total_steps=10)
    assert rate == WarmupCosine(1.0, 2, 10, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rate.lr = 2.0


@pytest.mark.parametrize(
    "settings",
    [
        (-1.0, 0, 10, 0.0),
        (math.nan, 0, 10, 0.0),
        (math.inf, 0, 10, 0.0),
        (1.0, -1, 10, 0.0),
        (1.0, 0, 0, 0.0),
        (1.0, 0, 10, -0.1),
        (1.0, 0, 10, 1.1),
        (1.0, 0, 10, math.nan),
    ],
)
def test_what_makes_no_schedule(settings):
    lr, warmup, total, ratio = settings
    wanted = (
        rf"WarmupCosine: lr={lr}, warmup_steps={warmup}, total_steps={total}, .*={ratio} make no"
    )
    with pytest.raises(ValueRangeError, match=wanted):
        WarmupCosine(*settings)


def test_a_step_before_the_first():
    with pytest.raises(ValueRangeError, match=r"WarmupCosine: step=-1"):
        WarmupCosine(1.0, 2, 10)(-1)
