"""LanguageModel: what is left to each model is asked for by name."""

import pytest

import helixml as hx
from helixml.errors import ConfigError, ShapeError
from helixml.models import LanguageModel, MambaConfig, MambaLM

IDS = hx.tensor([[1, 2]])


class Unfinished(LanguageModel):
    """A model that names no parts and gives none of the three methods."""


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model(IDS),
        lambda model: model.hidden_states(IDS),
        lambda model: model.logits(hx.zeros((2,))),
        lambda model: model.generate(IDS, 1),
    ],
)
def test_a_model_without_its_own_methods(call):
    with pytest.raises(
        ConfigError, match=r"Unfinished: this model has no _parts\(\).*needs run\(\)"
    ):
        call(Unfinished())


def test_a_state_of_another_number_of_layers():
    model = MambaLM(MambaConfig(hidden_size=4, num_hidden_layers=2), rng=hx.random.Rng(0))
    with pytest.raises(ShapeError, match=r"MambaLM: the state is 1 parts.*2 parts.*Hint"):
        model.chunk(IDS, model.init_state(1)[:1])


def test_an_empty_prompt_has_no_logits_after_it():
    model = MambaLM(MambaConfig(hidden_size=4, num_hidden_layers=1), rng=hx.random.Rng(0))
    with pytest.raises(ShapeError, match=r"prefill: the prompt is empty: \(1, 0\). Hint"):
        model.prefill(IDS[:, :0], model.init_state(1))


@pytest.mark.parametrize("name", ["Mamba", "Gpt2", "Llama", "Jamba", "RecurrentGemma"])
def test_a_layer_whose_state_is_none_is_not_read_from_nothing(name):
    keys = ("n_embd", "n_layer") if name == "Gpt2" else ("hidden_size", "num_hidden_layers")
    config = getattr(hx.models, f"{name}Config")(**dict(zip(keys, (16, 2), strict=True)))
    model = getattr(hx.models, f"{name}LM")(config, rng=hx.random.Rng(0))
    state = model.init_state(1)
    with pytest.raises(ShapeError, match=rf"{name}LM: the state of layer 0 is None.*Hint"):
        model.chunk(IDS, [None, state[1]])
