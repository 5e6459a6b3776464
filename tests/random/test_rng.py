"""Rng: distributions, state, forks, and what it refuses."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats

import helixml as hx
from helixml.errors import ConfigError, DTypeError, ShapeError, ValueRangeError

N = 100_000
# The streams are fixed, so these tests cannot fail by chance: the levels are bounds on how odd the
# one stream looks.
LEVEL = 1e-3


@pytest.fixture
def rng():
    return hx.random.Rng(2024)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_is_uniform(rng, dtype):
    x = rng.uniform((N,), dtype=dtype).numpy()
    assert x.dtype == dtype
    assert x.min() >= 0.0
    assert x.max() < 1.0
    assert stats.kstest(x, "uniform").pvalue > LEVEL
    assert abs(x.mean() - 0.5) < 4 / np.sqrt(12 * N)
    assert abs(x.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / N)


def test_uniform_over_an_interval(rng):
    x = rng.uniform((N,), -3.0, 5.0).numpy()
    assert stats.kstest(x, stats.uniform(-3, 8).cdf).pvalue > LEVEL


def test_uniform_lies_below_high_in_every_dtype(rng):
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = rng.uniform((N,), 0.0, 1.0, dtype=dtype)
        assert x.dtype.name == dtype
        assert float(x.numpy().astype(np.float64).max()) < 1.0, dtype


def test_uniform_float64_has_53_bits(rng):
    scaled = rng.uniform((1000,), dtype="float64").numpy() * 2.0**53
    assert (scaled == np.floor(scaled)).all()
    assert (scaled % 2 == 1).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_is_normal(rng, dtype):
    x = rng.normal((N,), dtype=dtype).numpy()
    assert x.dtype == dtype
    assert stats.kstest(x, "norm").pvalue > LEVEL
    assert abs(x.mean()) < 4 / np.sqrt(N)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / N)
    assert abs(stats.kurtosis(x)) < 4 * np.sqrt(24 / N)


def test_normal_with_mean_and_std(rng):
    x = rng.normal((N,), mean=3.0, std=0.5).numpy()
    assert stats.kstest(x, stats.norm(3, 0.5).cdf).pvalue > LEVEL


def test_neighbouring_draws_are_uncorrelated(rng):
    x = rng.normal((N,)).numpy()
    for lag in (1, 2, 4):
        assert abs(np.corrcoef(x[lag:], x[:-lag])[0, 1]) < 4 / np.sqrt(N)


def test_integers_are_even_and_cover_the_range(rng):
    x = rng.integers(-3, 4, (N,)).numpy()
    assert x.dtype == np.int64
    counts = np.bincount(x + 3)
    assert counts.size == 7
    assert stats.chisquare(counts).pvalue > LEVEL


def test_integers_of_wide_and_single_ranges(rng):
    assert set(rng.integers(5, 6, (100,)).tolist()) == {5}
    wide = rng.integers(0, 2**32, (N,)).numpy()
    assert stats.kstest(wide / 2.0**32, "uniform").pvalue > LEVEL
    offset = rng.integers(2**40, 2**40 + 10, (100,)).numpy()
    assert set(offset - 2**40) <= set(range(10))


def test_integers_without_a_shape_are_scalars(rng):
    assert rng.integers(0, 10).shape == ()


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_bernoulli_has_its_probability(rng, p):
    x = rng.bernoulli(p, (N,)).numpy()
    assert x.dtype == bool
    assert abs(x.mean() - p) <= 4 * np.sqrt(p * (1 - p) / N)


@pytest.mark.parametrize("n", [0, 1, 2, 17, 1000])
def test_permutation_is_one(rng, n):
    x = rng.permutation(n)
    assert x.dtype == np.int64
    assert sorted(x.tolist()) == list(range(n))


def test_permutations_are_even(rng):
    counts = np.zeros((4, 4))
    for _ in range(800):
        counts[np.arange(4), rng.permutation(4).numpy()] += 1
    assert stats.chisquare(counts.reshape(-1)).pvalue > LEVEL


def test_equal_seeds_give_equal_numbers_and_others_do_not():
    draw = lambda seed: hx.random.Rng(seed).uniform((8,)).tolist()  # noqa: E731
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_state_is_integers_and_restores_the_stream(rng):
    rng.normal((3,))
    state = rng.state
    assert all(type(value) is int for value in state.values())
    first = rng.uniform((5,)).tolist()
    other = hx.random.Rng(0)
    other.load_state(state)
    assert other.uniform((5,)).tolist() == first
    assert other.state == rng.state


def test_counter_passes_2_to_the_64(rng):
    state = {**rng.state, "counter": 2**64 - 1}
    rng.load_state(state)
    rng.bits((8,))
    assert rng.state["counter"] == 2**64 + 1
    rng.load_state({**state, "counter": 2**128 - 1})
    rng.bits((8,))
    assert rng.state["counter"] == 1


def test_a_draw_of_nothing_takes_nothing(rng):
    assert rng.uniform((0, 3)).shape == (0, 3)
    assert rng.normal((0,)).shape == (0,)
    assert rng.state["counter"] == 0


def test_bad_states_are_refused(rng):
    with pytest.raises(ConfigError, match=r"Rng: .* is not a state. Hint: it has key0, key1"):
        rng.load_state({"key0": 1})
    for bad in ({"key0": -1}, {"key1": 2**32}, {"counter": -1}, {"counter": 2**128}):
        with pytest.raises(ConfigError, match="Rng: "):
            rng.load_state({**rng.state, **bad})


def test_forks_depend_on_key_and_name_only(rng):
    early = rng.fork("layer").uniform((4,)).tolist()
    rng.normal((100,))
    assert rng.fork("layer").uniform((4,)).tolist() == early
    assert hx.random.Rng(2024).fork("layer").uniform((4,)).tolist() == early
    assert rng.fork("other").uniform((4,)).tolist() != early
    assert rng.fork("layer").fork("layer").uniform((4,)).tolist() != early


def test_forks_do_not_move_the_parent(rng):
    rng.fork("layer").normal((100,))
    assert rng.state["counter"] == 0


def test_forks_are_independent(rng):
    streams = [rng.fork(f"layer{i}").normal((2000,)).numpy() for i in range(6)]
    correlation = np.corrcoef(streams) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_an_rng_can_be_copied_and_pickled(rng):
    rng.normal((3,))
    for other in (copy.deepcopy(rng), pickle.loads(pickle.dumps(rng))):
        state = other.state
        assert state == rng.state
        other.uniform((3,))
        assert rng.state == state


def test_seed_restarts_the_default_stream():
    default = hx.random.default_rng()
    before = default.state
    try:
        hx.random.seed(5)
        first = default.uniform((3,)).tolist()
        hx.random.seed(5)
        assert hx.random.default_rng() is default
        assert default.uniform((3,)).tolist() == first
        assert hx.random.Rng(5).uniform((3,)).tolist() == first
    finally:
        default.load_state(before)


@pytest.mark.parametrize(
    ("call", "error", "pattern"),
    [
        (lambda r: hx.random.Rng(-1), ValueRangeError, r"Rng: seed -1 is not in \[0, 2\^64\)"),
        (lambda r: hx.random.Rng(2**64), ValueRangeError, "is not in"),
        (lambda r: hx.random.Rng(1.5), DTypeError, "the seed must be an integer, not 1.5"),
        (
            lambda r: r.uniform((2,), 1.0, 0.0),
            ValueRangeError,
            r"uniform: \[1.0, 0.0\) is no inter",
        ),
        (lambda r: r.uniform((2,), 0.0, np.inf), ValueRangeError, "is no interval"),
        (lambda r: r.uniform((2,), dtype="int32"), DTypeError, "uniform: gives floats, not int32"),
        (lambda r: r.uniform((-2,)), ShapeError, "uniform: sizes cannot be negative"),
        (lambda r: r.normal((2,), std=-1.0), ValueRangeError, "normal: std=-1.0 is negative"),
        (lambda r: r.normal((2,), std=np.nan), ValueRangeError, "normal: std=nan"),
        (lambda r: r.integers(3, 3, (2,)), ValueRangeError, r"integers: \[3, 3\) must hold 1 to"),
        (lambda r: r.integers(0, 2**33, (2,)), ValueRangeError, "must hold 1 to"),
        (lambda r: r.integers(0, 2.5, (2,)), DTypeError, "integers: "),
        (lambda r: r.bernoulli(1.5, (2,)), ValueRangeError, "bernoulli: p=1.5 is no probability"),
        (lambda r: r.permutation(-1), ShapeError, "permutation: "),
    ],
)
def test_bad_arguments_are_explained(rng, call, error, pattern):
    with pytest.raises(error, match=pattern):
        call(rng)
    assert rng.state["counter"] == 0
