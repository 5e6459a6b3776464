"""MambaLM: what it accepts, how it starts, and that it learns."""

import math

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ConfigError, DTypeError, IndexingError, ShapeError
from helixml.models import MambaConfig, MambaLM

TINY = MambaConfig(hidden_size=16, num_hidden_layers=1)
VERSE = b"To be, or not to be, that is the question:\nWhether 'tis nobler i"


@pytest.fixture
def model():
    return MambaLM(TINY, rng=hx.random.Rng(0))


def test_it_learns_a_verse_by_heart(model):
    ids = hx.tensor([list(VERSE)])
    optimizer = hx.optim.AdamW(model.parameters(), lr=2e-2, betas=(0.9, 0.99))
    for _ in range(75):
        loss = hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        hx.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05  # nats
    assert bytes(model.generate(ids[:, :1], 63, temperature=0.0)[0].tolist()) == VERSE


def test_a_new_model_knows_nothing():
    model = MambaLM(MambaConfig(hidden_size=64, num_hidden_layers=2), rng=hx.random.Rng(1))
    ids = hx.random.Rng(2).integers(0, 256, (4, 65))
    loss = hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:]).item()
    assert abs(loss - math.log(256)) < 0.05


def test_the_same_seed_makes_the_same_model(model):
    again = MambaLM(TINY, rng=hx.random.Rng(0))
    other = MambaLM(TINY, rng=hx.random.Rng(1))
    for name, weight in model.state_dict().items():
        assert weight.tolist() == again.state_dict()[name].tolist()
    assert model(hx.tensor([[1]])).tolist() != other(hx.tensor([[1]])).tolist()


def test_starting_values_are_those_of_the_paper(model):
    mixer = model.backbone.layers[0].mixer
    steps = np.log1p(np.exp(mixer.dt_proj.bias.numpy().astype(np.float64)))  # softplus
    assert steps.min() >= 1e-3 * (1 - 1e-4)
    assert steps.max() <= 1e-1 * (1 + 1e-4)
    assert np.allclose(-np.exp(mixer.A_log.numpy()), -np.arange(1, 17), rtol=1e-6)
    assert (mixer.D.numpy() == 1).all()
    assert {name for name, p in model.named_parameters() if not p.decay} == {
        "backbone.layers.0.norm.weight",
        "backbone.layers.0.mixer.conv1d.bias",
        "backbone.layers.0.mixer.dt_proj.bias",
        "backbone.layers.0.mixer.A_log",
        "backbone.layers.0.mixer.D",
        "backbone.norm_f.weight",
    }


def test_one_token_and_no_tokens(model):
    assert model(hx.zeros((2, 1), dtype="int64")).shape == (2, 1, 256)
    assert model(hx.zeros((2, 0), dtype="int64")).shape == (2, 0, 256)
    logits, state = model.chunk(hx.zeros((2, 0), dtype="int64"), model.init_state(2))
    assert logits.shape == (2, 0, 256)
    assert [part.shape for part in state[0]] == [part.shape for part in model.init_state(2)[0]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64"])
def test_ids_of_every_integer_dtype(model, dtype):
    assert model(hx.tensor([[1, 2]], dtype=dtype)).tolist() == model(hx.tensor([[1, 2]])).tolist()


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (hx.tensor([[0.5]]), DTypeError, r"MambaLM: ids must be a Tensor of integers, not float32"),
        (hx.tensor([[True]]), DTypeError, r"not bool"),
        (hx.tensor([1, 2]), ShapeError, r"MambaLM: ids are \(2,\), they must be \(b, l\)"),
        (hx.tensor([[256]]), IndexingError, r"256"),
        (hx.tensor([[3, -1]]), IndexingError, r"-1"),
        (np.array([[1]]), DTypeError, r"not ndarray"),
    ],
)
def test_ids_that_are_none(model, ids, error, message):
    for call in (model, model.hidden_states, lambda ids: model.chunk(ids, model.init_state(1))):
        with pytest.raises(error, match=message):
            call(ids)


@pytest.mark.parametrize(
    ("ids_t", "error", "message"),
    [
        (hx.tensor([[1]]), ShapeError, r"MambaLM: ids are \(1, 1\), they must be \(b\)"),
        ([1], DTypeError, r"must be a Tensor of integers, not list"),
        (hx.tensor([1.0]), DTypeError, r"not float32"),
    ],
)
def test_a_step_of_something_else(model, ids_t, error, message):
    with pytest.raises(error, match=message):
        model.step(ids_t, model.init_state(1))


@pytest.mark.parametrize(
    "state",
    [None, [], [None], [None, None], "zero", [(hx.zeros((1, 32, 3)),)]],
    ids=["none", "empty", "no layer", "two layers", "text", "half"],
)
def test_a_state_that_is_none(model, state):
    with pytest.raises(ShapeError, match=r"state.*Hint: .*init_state"):
        model.chunk(hx.tensor([[1]]), state)


def test_a_state_of_another_batch(model):
    with pytest.raises(ShapeError, match=r"state is \(3, 32, 3\), it must be \(1, 32, 3\)"):
        model.chunk(hx.tensor([[1]]), model.init_state(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 0}, r"MambaConfig: vocab_size=0"),
        ({"hidden_size": -4}, r"hidden_size=-4"),
        ({"state_size": 2.0}, r"state_size=2\.0"),
        ({"expand": "2"}, r"expand='2'"),
        ({"use_bias": 1}, r"use_bias=1"),
        ({"initializer_range": float("nan")}, r"initializer_range=nan"),
    ],
)
def test_sizes_that_no_model_has(settings, message):
    with pytest.raises(ConfigError, match=message):
        MambaConfig(**settings)


def test_config_round_trip():
    config = MambaConfig(hidden_size=24, time_step_rank=3, use_bias=True)
    assert MambaConfig.from_dict(config.to_dict()) == config


def test_repr_shows_the_tree_with_counts(model):
    lines = repr(model).splitlines()
    total = sum(p.size for p in model.parameters())
    assert lines[0].endswith(f"  {total:,} parameters")
    assert "      weight: (256, 16) float32" in lines
    assert any("conv1d: CausalConv1d" in line for line in lines)


@pytest.mark.parametrize("stored", [None, "bfloat16", "int8"])
def test_greedy_text_by_steps_is_that_of_the_whole_text(stored):
    config = hx.models.MambaConfig(hidden_size=24, num_hidden_layers=2, initializer_range=1.0)
    model = hx.models.MambaLM(config, rng=hx.random.Rng(5))
    if stored:
        model.quantize(stored)
    ids = hx.tensor([[1, 2, 3], [200, 7, 9]])
    text = model.generate(ids, 12, temperature=0)
    with hx.no_grad():
        likeliest = hx.argmax(model(text[:, :-1]), axis=-1)
    np.testing.assert_array_equal(text[:, 3:].numpy(), likeliest[:, 2:].numpy())
