"""Losses of long texts read in pieces, against the whole at once in float64."""

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ConfigError, ShapeError, ValueRangeError
from helixml.training import TrainConfig, loss_in_chunks, train


def make_model(layer="mamba"):
    config = hx.models.ByteLMConfig(hidden_size=8, num_hidden_layers=2, layer=layer)
    model = hx.models.ByteLM(config, rng=hx.random.Rng(0))
    model.to(dtype="float64")
    return model


@pytest.fixture
def text():
    ids = hx.tensor(np.random.default_rng(0).integers(0, 256, (2, 76)))
    return ids[:, :-1], ids[:, 1:]


def gradients(model, loss):
    loss.backward()
    found = {name: p.grad.numpy() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = None
    return found


@pytest.mark.parametrize("layer", ["mamba", "gru", "attention"])
@pytest.mark.parametrize("chunk", [1, 16, 25, 75, 1000])
def test_loss_and_gradient_are_those_of_the_whole(text, layer, chunk):
    model = make_model(layer)
    whole = hx.cross_entropy(model(text[0]), text[1])
    loss = loss_in_chunks(model, *text, chunk=chunk)
    assert abs((loss - whole).item()) < 1e-12
    wanted = gradients(model, whole)
    found = gradients(model, loss)
    for name, exact in wanted.items():
        bound = 1e-11 * max(1e-3, abs(exact).max())
        np.testing.assert_allclose(found[name], exact, rtol=0, atol=bound, err_msg=name)


def test_no_more_is_kept_than_one_piece_and_states(text):
    model = make_model()
    ids = hx.tensor(np.random.default_rng(0).integers(0, 256, (1, 4097)))

    def peak(length, chunk):
        with hx.profiler.profile() as p:
            loss_in_chunks(model, ids[:, :length], ids[:, 1 : length + 1], chunk=chunk).backward()
        for parameter in model.parameters():
            parameter.grad = None
        return p.peak_memory

    short, long, whole = peak(1024, 256), peak(4096, 256), peak(4096, 4096)
    assert long < 1.3 * short
    assert long < 0.2 * whole


def test_bad_input_says_what_is_wrong(text):
    ids, targets = text
    model = make_model()
    with pytest.raises(ValueRangeError, match=r"loss_in_chunks: chunk=0, must be at least 1"):
        loss_in_chunks(model, ids, targets, chunk=0)
    with pytest.raises(ShapeError, match=r"ids are \(2, 75\), targets \(2, 74\)"):
        loss_in_chunks(model, ids, targets[:, 1:], chunk=4)
    with pytest.raises(ShapeError, match=r"ids are \(2, 0\)"):
        loss_in_chunks(model, ids[:, :0], targets[:, :0], chunk=4)
    with pytest.raises(ConfigError, match=r"Linear has no init_state\(\) and chunk\(\)"):
        loss_in_chunks(hx.nn.Linear(2, 2), ids, targets, chunk=4)


SMALL = {
    "model.hidden_size": 8,
    "model.num_hidden_layers": 1,
    "data.context": 64,
    "data.batch_size": 2,
    "run.steps": 3,
    "run.sample_bytes": 0,
}


def test_training_in_pieces_learns_the_same(tmp_path):
    def losses(name, **settings):
        config = TrainConfig.from_preset("tiny").updated(SMALL | settings)
        train(config, out=tmp_path / name)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [line.split('"loss": ')[1].split(",")[0] for line in lines if '"loss"' in line]

    whole, pieces = losses("whole"), losses("pieces", **{"data.chunk": 24})
    assert len(whole) == 3
    np.testing.assert_allclose([float(x) for x in pieces], [float(x) for x in whole], rtol=1e-5)


def test_pieces_in_16_bits_are_refused(tmp_path):
    settings = SMALL | {"data.chunk": 16, "optim.precision": "bfloat16"}
    config = TrainConfig.from_preset("tiny").updated(settings)
    with pytest.raises(ConfigError, match=r"data.chunk=16 needs optim.precision='float32', not"):
        train(config, out=tmp_path / "run")
