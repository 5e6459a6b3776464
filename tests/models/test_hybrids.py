"""JambaLM and RecurrentGemmaLM against transformers' numbers, and their configurations.

``oracles/make_hybrids.py`` says what is in ``jamba.npz`` and ``recurrent_gemma.npz``.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ConfigError, ShapeError
from helixml.io import load_arrays
from helixml.models import (
    JambaConfig,
    JambaLM,
    RecurrentGemmaConfig,
    RecurrentGemmaLM,
    from_pretrained,
)

ORACLES = Path(__file__).parents[1] / "oracles"
KINDS = {
    "jamba": (JambaConfig, JambaLM),
    "recurrent_gemma": (RecurrentGemmaConfig, RecurrentGemmaLM),
}
SIZES = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def oracle(kind):
    with np.load(ORACLES / f"{kind}.npz") as file:
        return dict(file)


@pytest.fixture
def model(kind, oracle):
    """Give the oracle's model, in float32 as it was made."""
    config, make = KINDS[kind]
    model = make(config.from_dict(json.loads(str(oracle["config"]))))
    weights = {k.removeprefix("weight/"): v for k, v in oracle.items() if k.startswith("weight/")}
    model.load_state_dict(weights)
    return model.eval()


def error(found, wanted):
    """Largest error over largest value."""
    found, wanted = np.asarray(found.detach(), np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    return np.abs(found - wanted).max() / np.abs(wanted).max()


def gradient_of(name, oracle):
    """Return the oracle's gradient of a weight, which may be one expert's."""
    layer, expert, rest = name.partition(".experts.")
    if not expert:
        return oracle[f"grad/{name}"]
    number, matrix, _ = rest.split(".")
    if matrix == "down_proj":
        return oracle[f"grad/{layer}.experts.down_proj"][int(number)]
    both = np.split(oracle[f"grad/{layer}.experts.gate_up_proj"][int(number)], 2)
    return both[matrix == "up_proj"]


def test_it_is_transformers(model, oracle):
    ids = hx.tensor(oracle["ids"])
    assert error(model(ids), oracle["logits"]) < 1e-5
    streams = model.hidden_states(ids)  # hidden_0 is the embedding, hidden_3 is normalised
    for number, found in ((1, streams[0]), (2, streams[1]), (3, streams[-1])):
        assert error(found, oracle[f"hidden_{number}"]) < 1e-5


def test_gradients_are_those_of_transformers(model, oracle):
    ids = hx.tensor(oracle["ids"])
    loss = hx.cross_entropy(model(ids)[:, :-1], ids[:, 1:])
    assert error(loss, oracle["loss"]) < 1e-5
    names = [name for name, _ in model.named_parameters()]
    gradients = hx.autograd.gradients([loss], list(model.parameters()))
    largest = max(np.abs(value).max() for key, value in oracle.items() if key.startswith("grad/"))
    for name, gradient in zip(names, gradients, strict=True):
        wanted = gradient_of(name, oracle)
        assert gradient.shape == wanted.shape
        # Where terms cancel their rounding stays: measured by the largest of all gradients.
        scale = max(np.abs(wanted).max(), 5e-2 * largest)
        # Both compute in float32, and sums in another order are 1.2e-5 off: 1e-5 for each side.
        assert np.abs(gradient.numpy() - wanted).max() < 2e-5 * scale, name


def test_what_is_saved_is_what_is_loaded(model, oracle, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = from_pretrained(tmp_path)
    assert type(loaded) is type(model) and loaded.config == model.config
    ids = hx.tensor(oracle["ids"])
    assert loaded(ids).tolist() == model(ids).tolist()
    saved = load_arrays(tmp_path / "model.safetensors")[0].keys()
    assert saved == {k.removeprefix("weight/") for k in oracle if k.startswith("weight/")}


def test_greedy_text_is_the_likeliest(model):
    found = model.generate(hx.tensor([[1, 2, 3]]), 8, temperature=0.0)
    logits = model(found)  # the whole text at once, no state
    assert found[:, 3:].tolist() == hx.argmax(logits[:, 2:-1], axis=-1).tolist()


def test_layers_of_jamba_by_period_and_offset():
    config = JambaConfig(
        **SIZES | {"num_hidden_layers": 6},
        **{"intermediate_size": 5, "attn_layer_period": 3, "attn_layer_offset": 2},
        **{"expert_layer_period": 2, "expert_layer_offset": 0, "num_experts": 3},
    )
    layers = JambaLM(config, rng=hx.random.Rng(0)).model.layers
    assert [layer.self_attn is not None for layer in layers] == [False, False, True] * 2
    assert [hasattr(layer.feed_forward, "experts") for layer in layers] == [True, False] * 3


def test_layers_of_recurrent_gemma_begin_anew():
    config = RecurrentGemmaConfig(
        **SIZES, intermediate_size=6, block_types=["attention", "recurrent"]
    )
    layers = RecurrentGemmaLM(config, rng=hx.random.Rng(0)).model.layers
    assert [hasattr(layer.temporal_block, "q_proj") for layer in layers] == [True, False, True]


def test_logits_of_recurrent_gemma_are_capped():
    config = RecurrentGemmaConfig(**SIZES, logits_soft_cap=0.5, w_init_variance_scale=40.0)
    logits = RecurrentGemmaLM(config, rng=hx.random.Rng(0))(hx.tensor([[1, 2, 3]]))
    assert 0.4 < abs(logits).max().item() <= 0.5


def test_a_state_without_its_count():
    layer = hx.nn.RGLRU(4, unscaled_start=True, rng=hx.random.Rng(0))
    with pytest.raises(ShapeError, match=r"RGLRU: the state is Tensor, it must have 2 parts"):
        layer.chunk(hx.ones((1, 2, 4)), hx.zeros((1, 4)))
    with pytest.raises(ShapeError, match=r"initial state is \(3,\), it must be \(1,\)"):
        layer.chunk(hx.ones((1, 2, 4)), (hx.zeros((1, 4)), hx.zeros((3,), "int64")))


def test_config_round_trip(kind):
    config = KINDS[kind][0](**SIZES)
    again = KINDS[kind][0].from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict()


def test_a_rank_that_is_left_to_the_model():
    record = JambaConfig(**SIZES).to_dict() | {"mamba_dt_rank": "auto"}
    assert JambaConfig.from_dict(record).to_dict()["mamba_dt_rank"] == 1


def test_positions_in_folders_of_before():
    record = RecurrentGemmaConfig(**SIZES).to_dict()
    del record["rope_parameters"]
    config = RecurrentGemmaConfig.from_dict(record | {"rope_theta": 500.0})
    assert (config.rope_theta, config.partial_rotary_factor) == (500.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, r"JambaConfig: hidden_act='gelu' is not offered"),
        ({"attn_layer_offset": 8}, r"attn_layer_offset=8, it must be below attn_layer_period=8"),
        ({"expert_layer_offset": 2}, r"expert_layer_offset=2, it must be below"),
        ({"num_experts_per_tok": 5}, r"num_experts_per_tok=5 of num_experts=4"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads=3 does not divide 2 heads"),
        ({"num_key_value_heads": 0}, r"num_key_value_heads=0, it must be an integer >= 1 or null"),
        (
            {"num_attention_heads": 3, "num_key_value_heads": 3},
            r"attention_heads=3 does not divide",
        ),
        ({"attention_dropout": 1.0}, r"attention_dropout=1\.0, it must be in \[0, 1\)"),
    ],
)
def test_values_that_no_jamba_has(changes, message):
    with pytest.raises(ConfigError, match=message):
        JambaConfig.from_dict(JambaConfig(**SIZES).to_dict() | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_activation": "silu"}, r"hidden_activation='silu' is not offered"),
        ({"block_types": ["mamba"]}, r"block_types=\('mamba',\), they must be of \['attention'"),
        ({"block_types": []}, r"block_types=\(\), they must be"),
        ({"block_types": 3}, r"block_types=3, they must be"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads=3 does not divide 2 heads"),
        ({"lru_width": 2.0}, r"lru_width=2\.0, it must be an integer >= 1 or null"),
        ({"lru_width": 5}, r"num_attention_heads=2 does not divide lru_width=5"),
        ({"intermediate_size": 1}, r"intermediate_size=1, half of it is used"),
        ({"rope_parameters": {"rope_type": "yarn"}}, r"is not offered\. Hint: rope_type 'default'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.3}}, r"0\.3 turns 1 features of 4"),
        ({"attention_dropout": 1.0}, r"attention_dropout=1\.0, it must be in \[0, 1\)"),
    ],
)
def test_values_that_no_recurrent_gemma_has(changes, message):
    with pytest.raises(ConfigError, match=message):
        RecurrentGemmaConfig.from_dict(RecurrentGemmaConfig(**SIZES).to_dict() | changes)
