"""Model folders: what is written is what is read, and what does not fit is named."""

import json

import numpy as np
import pytest

import helixml as hx
from helixml.errors import CheckpointError, ConfigError, FileError
from helixml.io import load_arrays, save_arrays
from helixml.models import MambaConfig, MambaLM, from_pretrained

TINY = MambaConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, state_size=3)
IDS = [[1, 2, 3, 4]]


@pytest.fixture
def model():
    return MambaLM(TINY, rng=hx.random.Rng(0))


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder, **changes):
    file = folder / "config.json"
    record = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps(record))


def change_weights(folder, change):
    arrays, metadata = load_arrays(folder / "model.safetensors")
    change(arrays)
    save_arrays(folder / "model.safetensors", arrays, metadata)


def logits(model):
    return model(hx.tensor(IDS)).tolist()


def test_round_trip(model, folder):
    loaded = from_pretrained(folder)
    assert logits(loaded) == logits(model)
    assert not loaded.training
    assert loaded.config.time_step_rank == 1  # ceil(8 / 16), written out


def test_the_folder_is_made_with_its_parents(model, tmp_path):
    model.save_pretrained(tmp_path / "a" / "b")
    assert logits(from_pretrained(str(tmp_path / "a" / "b"))) == logits(model)


def test_the_folder_cannot_be_made(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"file.*Hint"):
        model.save_pretrained(tmp_path / "file" / "model")


def test_layout_is_that_of_hugging_face(folder):
    record = json.loads((folder / "config.json").read_text())
    assert record["model_type"] == "mamba"
    assert record["architectures"] == ["MambaForCausalLM"]
    assert record["intermediate_size"] == 16
    arrays, metadata = load_arrays(folder / "model.safetensors")
    assert metadata == {"format": "pt"}
    mixer = {"A_log", "D", "conv1d.bias", "conv1d.weight", "dt_proj.bias", "dt_proj.weight"}
    mixer |= {"in_proj.weight", "out_proj.weight", "x_proj.weight"}
    wanted = {"backbone.embeddings.weight", "backbone.norm_f.weight"}
    for number in range(2):
        wanted |= {f"backbone.layers.{number}.mixer.{name}" for name in mixer}
        wanted.add(f"backbone.layers.{number}.norm.weight")
    assert arrays.keys() == wanted
    assert arrays["backbone.layers.0.mixer.conv1d.weight"].shape == (16, 1, 4)


def test_untied_model(tmp_path):
    config = MambaConfig(
        vocab_size=5, hidden_size=4, num_hidden_layers=1, tie_word_embeddings=False
    )
    model = MambaLM(config, rng=hx.random.Rng(1))
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" in load_arrays(tmp_path / "model.safetensors")[0]
    assert logits(from_pretrained(tmp_path)) == logits(model)
    change_weights(tmp_path, lambda arrays: arrays.pop("lm_head.weight"))
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight"):
        from_pretrained(tmp_path)


def test_biases_of_the_projections(tmp_path):
    config = MambaConfig(
        vocab_size=5, hidden_size=4, num_hidden_layers=1, use_bias=True, use_conv_bias=False
    )
    model = MambaLM(config, rng=hx.random.Rng(1))
    model.save_pretrained(tmp_path)
    names = load_arrays(tmp_path / "model.safetensors")[0]
    assert "backbone.layers.0.mixer.in_proj.bias" in names
    assert "backbone.layers.0.mixer.conv1d.bias" not in names
    assert logits(from_pretrained(tmp_path)) == logits(model)


def test_tied_output_layer_in_the_file(model, folder):
    def tie(arrays):
        arrays["lm_head.weight"] = arrays["backbone.embeddings.weight"]

    change_weights(folder, tie)
    assert logits(from_pretrained(folder)) == logits(model)


def test_original_spelling_of_the_embedding(model, folder):
    def respell(arrays):
        arrays["backbone.embedding.weight"] = arrays.pop("backbone.embeddings.weight")

    change_weights(folder, respell)
    assert logits(from_pretrained(folder)) == logits(model)


def test_run_folder(model, folder):
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"format": 1, "model": record, "seed": 0}))
    assert logits(from_pretrained(folder)) == logits(model)


def test_half_precision_weights_become_float32(model, folder):
    def halve(arrays):
        for name in arrays:
            arrays[name] = arrays[name].astype(np.float16)

    change_weights(folder, halve)
    loaded = from_pretrained(folder)
    assert all(p.dtype == hx.float32 for p in loaded.parameters())
    assert np.allclose(loaded(hx.tensor(IDS)), model(hx.tensor(IDS)), atol=1e-2)


def test_keys_of_other_purposes_are_left_out(folder):
    change_config(folder, transformers_version="5", pad_token_id=0, time_step_rank="auto")
    assert from_pretrained(folder).config.hidden_size == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, r"type 'gpt2'.*Hint: there are mamba"),
        ({"model_type": None}, r"type None"),
        ({"model_type": ["mamba"]}, r"type \['mamba'\]"),
    ],
)
def test_another_model_type(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, r"hidden_act='gelu' is not offered"),
        ({"use_mambapy": True}, r"use_mambapy=True is not offered"),
        ({"intermediate_size": 17}, r"intermediate_size=17 is not"),
        ({"hidden_size": 0, "intermediate_size": 0}, r"hidden_size=0"),
        ({"hidden_size": "8"}, r"hidden_size='8'"),
        ({"num_hidden_layers": None}, r"num_hidden_layers=None"),
        ({"num_hidden_layers": 1.5}, r"num_hidden_layers=1\.5"),
        ({"vocab_size": True}, r"vocab_size=True"),
        ({"conv_kernel": 0}, r"conv_kernel=0"),
        ({"time_step_rank": -1}, r"time_step_rank=-1"),
        ({"layer_norm_epsilon": -1e-5}, r"layer_norm_epsilon=-1e-05"),
        ({"layer_norm_epsilon": "small"}, r"layer_norm_epsilon='small'"),
        ({"tie_word_embeddings": "yes"}, r"tie_word_embeddings='yes'"),
        ({"time_step_min": 0.0}, r"time_step_min=0\.0"),
        ({"time_step_min": 0.2}, r"time_step_min=0\.2.*time_step_max=0\.1"),
    ],
)
def test_values_that_no_model_has(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(ConfigError, match=message):
        from_pretrained(folder)


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere has no config\.json\. Hint"):
        from_pretrained(tmp_path / "nowhere")


def test_missing_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        from_pretrained(folder)


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        from_pretrained(folder)


@pytest.mark.parametrize("text", ["{", "\xff", "[1]", '"mamba"', ""])
def test_config_that_is_no_json_object(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        from_pretrained(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        from_pretrained(folder)


def test_everything_that_does_not_fit_is_listed(folder):
    def spoil(arrays):
        del arrays["backbone.norm_f.weight"], arrays["backbone.layers.0.mixer.D"]
        arrays["backbone.layers.7.mixer.D"] = np.ones(16, np.float32)
        arrays["backbone.layers.1.mixer.D"] = np.ones(17, np.float32)
        arrays["backbone.layers.1.norm.weight"] = np.ones((2, 4), np.float32)

    change_weights(folder, spoil)
    with pytest.raises(CheckpointError) as caught:
        from_pretrained(folder)
    message = str(caught.value)
    assert "missing: backbone.layers.0.mixer.D, backbone.norm_f.weight" in message
    assert "unexpected: backbone.layers.7.mixer.D" in message
    assert "backbone.layers.1.mixer.D: shape (17,), not (16,)" in message
    assert "backbone.layers.1.norm.weight: shape (2, 4), not (8,)" in message
    assert message.index("norm.weight: shape") < message.index("mixer.D: shape")  # as in the model


def test_weights_that_are_no_numbers(folder):
    def flags(arrays):
        arrays["backbone.norm_f.weight"] = np.ones(8, bool)

    change_weights(folder, flags)
    with pytest.raises(CheckpointError, match=r"backbone\.norm_f\.weight: bool, not float32"):
        from_pretrained(folder)
