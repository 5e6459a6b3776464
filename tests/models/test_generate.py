"""Drawing tokens: the distribution, the options, and generation in constant memory."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import chi2

import helixml as hx
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.models import MambaConfig, MambaLM, draw

LOGITS = np.array([0.3, -1.2, 2.0, 0.0, 1.1, -0.4, -6.0, 0.9])


@pytest.fixture(scope="module")
def model():
    config = MambaConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, tie_word_embeddings=False
    )
    return MambaLM(config, rng=hx.random.Rng(0)).eval()


def prompt(*ids):
    return hx.tensor([list(ids)])


def draws(count, seed=0, **options):
    rows = hx.tensor(np.broadcast_to(LOGITS.astype(np.float32), (count, len(LOGITS))))
    return draw(rows, rng=hx.random.Rng(seed), **options).numpy()


def assert_drawn_from(found, probabilities):
    """Pearson's test at a level of 1e-4; classes of probability 0 must not come up."""
    counts = np.bincount(found, minlength=len(probabilities))
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = probabilities[possible] * len(found)
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    assert statistic < chi2.ppf(1 - 1e-4, possible.sum() - 1)


def softmax(logits):
    e = np.exp(logits - logits.max())
    return e / e.sum()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_draws_follow_softmax(temperature):
    assert_drawn_from(draws(40_000, temperature=temperature), softmax(LOGITS / temperature))


def test_top_k_draws_follow_softmax_of_the_k_likeliest():
    kept = np.full(8, -np.inf)
    for likely in np.argsort(LOGITS)[-3:]:
        kept[likely] = LOGITS[likely]
    assert_drawn_from(draws(40_000, top_k=3), softmax(kept))


def test_top_k_of_all_classes_changes_nothing_about_the_distribution():
    assert_drawn_from(draws(40_000, top_k=100), softmax(LOGITS))


def test_top_k_keeps_k_classes_where_logits_are_equal():
    found = draw(hx.zeros((2_000, 8)), top_k=2, rng=hx.random.Rng(0)).numpy()
    assert set(found) == {0, 1}


@pytest.mark.parametrize("temperature", [1e-3, 1e-12, 1e-40, 1e-300])
def test_a_low_temperature_takes_the_likeliest(temperature):
    assert set(draws(500, temperature=temperature)) == {2}


def test_a_temperature_without_bound_forgets_the_logits():
    assert_drawn_from(draws(40_000, temperature=float("inf")), np.full(8, 1 / 8))


def test_temperature_zero_and_top_k_one_take_the_likeliest():
    assert set(draws(10, temperature=0.0)) == {2}
    assert set(draws(500, top_k=1)) == {2}


def test_draw_gives_one_class_a_row():
    drawn = draw(hx.zeros((5, 3)), rng=hx.random.Rng(0))
    assert drawn.shape == (5,)
    assert drawn.dtype == hx.int64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, r"draw: temperature=-0\.1 is negative"),
        ({"temperature": float("nan")}, r"temperature=nan"),
        ({"top_k": 0}, r"draw: top_k=0 must be at least 1"),
    ],
)
def test_options_without_meaning(model, options, message):
    with pytest.raises(ValueRangeError, match=message):
        draw(hx.zeros((1, 3)), **options)
    with pytest.raises(ValueRangeError, match=message):
        model.generate(prompt(1), 1, **options)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (2, 0)])
def test_logits_that_are_no_rows(shape):
    with pytest.raises(ShapeError, match=r"draw: logits are \(.*\(b, v\)"):
        draw(hx.zeros(shape))


def test_shapes_and_the_prompt_stays(model):
    ids = hx.tensor([[1, 2, 3], [4, 5, 6]], dtype="int32")
    for count in (0, 1, 5):
        found = model.generate(ids, count, rng=hx.random.Rng(0))
        assert found.shape == (2, 3 + count)
        assert found.dtype == hx.int64
        assert found[:, :3].tolist() == ids.tolist()
        assert not found.requires_grad


def test_the_same_seed_gives_the_same_text(model):
    def text(seed):
        return model.generate(prompt(7, 8), 30, rng=hx.random.Rng(seed)).tolist()

    assert text(3) == text(3)
    assert text(3) != text(4)


def test_without_a_stream_the_default_one_is_used(model):
    hx.random.seed(5)
    first = model.generate(prompt(1), 20).tolist()
    assert model.generate(prompt(1), 20).tolist() != first
    hx.random.seed(5)
    assert model.generate(prompt(1), 20).tolist() == first


def test_greedy_text_is_that_of_reading_everything_again(model):
    found = model.generate(prompt(3, 1, 4), 12, temperature=0.0)
    ids = prompt(3, 1, 4)
    with hx.no_grad():
        for _ in range(12):
            following = hx.argmax(model(ids)[:, -1], axis=-1)
            ids = hx.concat([ids, hx.expand_dims(following, 1)], axis=1)
    assert found.tolist() == ids.tolist()


def test_top_k_of_one_is_greedy(model):
    greedy = model.generate(prompt(9), 25, temperature=0.0)
    assert model.generate(prompt(9), 25, top_k=1, rng=hx.random.Rng(1)).tolist() == greedy.tolist()


def test_rows_do_not_see_each_other(model):
    both = model.generate(hx.tensor([[1, 2], [3, 4]]), 10, temperature=0.0)
    alone = model.generate(prompt(3, 4), 10, temperature=0.0)
    assert both[1].tolist() == alone[0].tolist()


@pytest.mark.parametrize(
    ("ids", "count", "error", "message"),
    [
        (hx.zeros((1, 0), dtype="int64"), 3, ShapeError, r"prompt is empty.*Hint"),
        (hx.zeros((0, 2), dtype="int64"), 3, ShapeError, r"\(0, 2\)"),
        (hx.zeros((3,), dtype="int64"), 3, ShapeError, r"ids are \(3,\), they must be \(b, l\)"),
        (hx.zeros((1, 3)), 3, DTypeError, r"integers, not float32"),
        ([[1, 2]], 3, DTypeError, r"must be a Tensor of integers, not list"),
        (hx.zeros((1, 3), dtype="int64"), -1, ValueRangeError, r"max_new_tokens=-1"),
    ],
)
def test_prompts_that_cannot_be_continued(model, ids, count, error, message):
    with pytest.raises(error, match=message):
        model.generate(ids, count)


def test_the_state_does_not_grow(model):
    def sizes(state):
        return [part.shape for layer in state for part in layer]

    state = model.init_state(1)
    before = sizes(state)
    with hx.no_grad():
        for token in range(20):
            _, state = model.step(hx.tensor([token]), state)
    assert sizes(state) == before == [(1, 32, 3), (1, 32, 16)] * 2
    assert all(part.is_leaf for layer in state for part in layer)


def test_generation_holds_nothing_but_the_tokens(model):
    def peak(count):
        tracemalloc.start()
        model.generate(prompt(1), count, temperature=0.0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(5)  # what is imported or cached once
    state = sum(part.nbytes for layer in model.init_state(1) for part in layer)
    growth = (peak(60) - peak(20)) / 40  # bytes for each further token
    assert growth < state / 3, growth
