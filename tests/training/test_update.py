"""One step: mixed precision, loss scaling, blocks that run again."""

import math

import numpy as np
import pytest

import helixml as hx
from helixml import nn, optim, training
from helixml.errors import ConfigError, DataError, DivergedError
from helixml.random import Rng
from helixml.training import Fit
from helixml.training.recomputation import blocks_of


class Seen(nn.Module):
    """A layer that remembers in which dtype it was computed."""

    def __init__(self):
        self.layer = nn.Linear(3, 2, rng=Rng(0))
        self.seen = []

    def forward(self, x):
        y = self.layer(x)
        self.seen.append((x.dtype.name, y.dtype.name))
        return y


DATA = (Rng(1).normal((16, 3)), Rng(2).normal((16, 2)))


@pytest.mark.parametrize(("precision", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_the_model_computes_in_16_bits_and_the_parameters_stay_float32(precision, bits):
    model, whole = Seen(), Seen()
    history = hx.fit(model, DATA, precision=precision, optimizer=optim.SGD, lr=0.1)
    exact = hx.fit(whole, DATA, optimizer=optim.SGD, lr=0.1)
    assert model.seen == [(precision, precision)]
    assert model.layer.weight.dtype == hx.float32
    # A value has an error of 2^-bits of its size; the mean of many squares not much more.
    assert history["loss"][0] == pytest.approx(exact["loss"][0], rel=8 * 2.0**-bits)
    moved = model.layer.weight.numpy() - Seen().layer.weight.numpy()
    expected = whole.layer.weight.numpy() - Seen().layer.weight.numpy()
    assert not np.array_equal(moved, expected)
    assert np.allclose(moved, expected, atol=8 * 2.0**-bits * np.abs(expected).max())


def test_steps_smaller_than_16_bits_hold_add_up_in_the_master_weights():
    model = nn.Linear(1, 1, bias=False)
    with hx.no_grad():
        model.weight.assign_(hx.ones((1, 1)))
    x = hx.ones((1, 1))
    hx.fit(
        model,
        [(x, x)],
        loss=lambda prediction, target: prediction.mean(),
        precision="bfloat16",
        optimizer=optim.SGD,
        lr=1e-4,
        epochs=100,
    )
    assert model.weight.item() == pytest.approx(0.99, abs=1e-5)  # bfloat16 has steps of 0.004 here


def test_small_gradients_survive_float16_by_loss_scaling():
    x = hx.full((1, 1), 1e-4)

    def loss(prediction, target):
        return prediction.mean() * 1e-5  # a gradient of 1e-9; float16 ends at 6e-8

    found = {}
    for factor in (1.0, 65536.0):
        scaler = optim.GradScaler(factor)
        model = nn.Linear(1, 1, bias=False, rng=Rng(0))
        fit = Fit(model, [(x, x)], loss=loss, precision="float16", scaler=scaler)
        found[factor] = fit.run()["grad_norm"][0]
    assert found[1.0] == 0.0
    assert found[65536.0] == pytest.approx(1e-9, rel=0.05)


def test_an_overflow_leaves_the_step_out_and_halves_the_scale():
    x = hx.full((1, 1), 100.0)
    model = nn.Linear(1, 1, bias=False, rng=Rng(0))
    start = model.weight.item()
    history = hx.fit(
        model,
        [(x, x)],
        loss=lambda prediction, target: prediction.mean(),
        precision="float16",
        optimizer=optim.SGD,
        lr=1e-6,
        epochs=9,
    )
    # 65536 itself is no float16; then 100 * scale must stay below 65504.
    assert history["skipped"] == [True] * 7 + [False] * 2
    assert history["scale"] == [65536 / 2**k for k in range(1, 8)] + [512.0] * 2
    assert model.weight.item() == pytest.approx(start - 2 * 1e-4, abs=1e-6)


def test_an_overflow_that_no_scale_helps_ends_the_training():
    x = hx.full((1, 1), 6e4)
    with pytest.raises(DivergedError, match=r"norm of the gradient is inf at step 3 "):
        hx.fit(
            nn.Linear(1, 1, bias=False, rng=Rng(0)),
            [(x, x)],
            loss=lambda prediction, target: prediction.mean() * 0.01 + prediction.mean() * 2,
            precision="float16",
            scaler=optim.GradScaler(4.0),
            epochs=9,
        )


class Blocks(nn.Module):
    """A stack of blocks with dropout, that counts its forward passes."""

    def __init__(self):
        rng = Rng(0)
        self.counts = [0]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(3, 3, rng=rng), hx.tanh, nn.Dropout(0.3), self.count)
            for _ in range(3)
        )
        self.last = nn.Linear(3, 2, rng=rng)

    def count(self, x):
        self.counts[0] += 1
        return x

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def test_blocks_that_run_again_give_the_same_bits_and_keep_less():
    found, counts, kept = [], [], []
    for recompute in (False, True):
        hx.random.seed(0)
        model = Blocks()
        fit = Fit(model, DATA, batch_size=8, epochs=2, recompute=recompute)
        fit.run()
        found.append(np.concatenate([p.numpy().ravel() for p in model.parameters()]))
        counts.append(model.counts[0])
        with fit.update.blocks():
            kept.append(hx.explain_memory(fit.update.loss(DATA)).total)
    assert np.array_equal(*found)
    assert counts == [12, 24]
    assert kept[1] < kept[0]
    assert [type(block) for block in blocks_of(model)] == [nn.Sequential] * 3


SIZES = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 3}
LANGUAGE_MODELS = {
    "mamba": lambda m, rng: m.MambaLM(m.MambaConfig(**SIZES), rng=rng),
    "mamba2": lambda m, rng: m.Mamba2LM(m.Mamba2Config(**SIZES, head_dim=8), rng=rng),
    "falcon_mamba": lambda m, rng: m.FalconMambaLM(m.FalconMambaConfig(**SIZES), rng=rng),
    "rwkv": lambda m, rng: m.RwkvLM(m.RwkvConfig(**SIZES), rng=rng),
    "llama": lambda m, rng: m.LlamaLM(
        m.LlamaConfig(**SIZES, intermediate_size=32, num_attention_heads=2), rng=rng
    ),
    "gpt2": lambda m, rng: m.Gpt2LM(
        m.Gpt2Config(vocab_size=32, n_embd=16, n_layer=3, n_head=2, n_positions=16), rng=rng
    ),
}


def next_token(model, batch):
    return hx.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize("precision", [None, "bfloat16"])
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_the_layers_of_language_models_run_again(name, precision):
    ids = Rng(1).integers(0, 32, (2, 17))
    batch = (ids[:, :-1], ids[:, 1:])
    found, kept = [], []
    for recompute in (False, True):
        model = LANGUAGE_MODELS[name](hx.models, Rng(0))
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        update = training.Update(
            model, optimizer, next_token, recompute=recompute, precision=precision
        )
        update.step([batch])
        found.append(np.concatenate([p.numpy().ravel() for p in model.parameters()]))
        with update.blocks():
            kept.append(hx.explain_memory(update.loss(batch)).total)
    assert np.array_equal(*found)
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.parametrize("precision", [None, "bfloat16", "float16"])
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_captured_steps_have_the_same_bits(name, precision):
    ids = [Rng(seed).integers(0, 32, (2, 17)) for seed in range(8)]
    found = []
    for captured in (False, True):
        model = LANGUAGE_MODELS[name](hx.models, Rng(0))
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        # Of float16 the factor rises to where gradients overflow, and falls again.
        scaler = optim.GradScaler(2.0**14, growth=2.0**10, interval=3)
        update = training.Update(
            *(model, optimizer, next_token),
            clip_norm=1.0,
            precision=precision,
            scaler=scaler if precision == "float16" else None,
            captured=captured,
        )
        figures = [update.step([(x[:, :-1], x[:, 1:])]) for x in ids]
        found.append((figures, np.concatenate([p.numpy().ravel() for p in model.parameters()])))
    assert update._differentiate.replays == 5
    assert any(step.skipped for step in figures) == (precision == "float16")
    np.testing.assert_array_equal(found[0][0], found[1][0])  # norms of what is skipped are nan
    assert np.array_equal(found[0][1], found[1][1])


def test_a_model_without_lists_cannot_run_blocks_again():
    with pytest.raises(ConfigError, match=r"Seen holds no ModuleList.*Hint: call hx\.autograd"):
        hx.fit(Seen(), DATA, recompute=True)


def test_a_batch_without_rows_is_refused():
    for batch in ((), (1.0,), {"x": hx.ones(())}):
        with pytest.raises(DataError, match=r"a batch is \w+ without rows"):
            training.update.rows_of(batch)
    assert training.update.rows_of({"x": [hx.ones((3, 1))]}) == 3


def test_the_loss_must_be_a_tensor_of_floats():
    with pytest.raises(hx.errors.DTypeError, match="the loss is float, it must be a Tensor"):
        hx.fit(Seen(), DATA, loss=lambda prediction, target: 1.0)
    with pytest.raises(hx.errors.DTypeError, match="the loss is int64, it must be"):
        hx.fit(Seen(), DATA, loss=lambda prediction, target: hx.tensor(1))


@pytest.mark.parametrize("seed", range(5))
def test_the_rate_finder_finds_the_slope_and_puts_everything_back(seed):
    hx.random.seed(seed)
    model = nn.Sequential(nn.Linear(3, 2, rng=Rng(0)), nn.Dropout(0.1))
    optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    before = [p.numpy().copy() for p in model.parameters()]
    random = hx.random.default_rng().state
    search = training.find_learning_rate(
        model, DATA, optimizer=optimizer, batch_size=16, low=1e-5, high=100.0, steps=80
    )
    assert all(
        np.array_equal(p.numpy(), old) for p, old in zip(model.parameters(), before, strict=True)
    )
    assert hx.random.default_rng().state == random
    assert (optimizer.lr, optimizer.steps) == (0.5, 0)
    assert all(not optimizer.state(p)["velocity"].numpy().any() for p in model.parameters())
    # Beyond 2 / (largest curvature) gradient descent diverges; the search must end below that.
    x = np.concatenate([DATA[0].numpy(), np.ones((16, 1))], 1)
    limit = 2 / np.linalg.eigvalsh(x.T @ x / 16).max()
    assert 1e-3 < search.suggestion < limit
    assert search.losses[-1] > 2 * search.losses[0] and len(search.rates) < 80
    assert np.allclose(np.diff(np.log(search.rates)), math.log(1e7) / 79)
    assert len(search.text(height=5).splitlines()) == 5
    with pytest.raises(ConfigError, match=r"low=1, high=1e-06"):
        training.find_learning_rate(model, DATA, low=1, high=1e-6)
    with pytest.raises(DivergedError, match=r"the loss does not fall from .*Hint: a lower low="):
        training.find_learning_rate(model, DATA, optimizer=optim.SGD, low=50, high=100)
    with pytest.raises(DivergedError, match=r"1 steps were finite\. Hint: a lower low="):
        training.find_learning_rate(model, DATA, optimizer=optim.SGD, low=1e37, high=1e38)


def test_an_optimizer_trains_some_of_the_model_and_nothing_else():
    model = nn.Sequential(nn.Linear(3, 3, rng=Rng(0)), nn.Linear(3, 2, rng=Rng(1)))
    first, last = model
    before = first.weight.numpy().copy()
    history = hx.fit(model, DATA, optimizer=optim.SGD(last.parameters(), lr=0.1), epochs=3)
    assert np.array_equal(first.weight.numpy(), before) and first.weight.grad is None
    assert history["grad_norm"][2] < history["grad_norm"][0]
    with pytest.raises(ConfigError, match=r"2 of the optimizer's 2 parameters are not the model's"):
        hx.fit(first, DATA, optimizer=optim.SGD(last.parameters(), lr=0.1))


def test_a_mamba_language_model_accumulates_to_the_gradient_of_the_whole_batch():
    ids = Rng(1).integers(0, 32, (8, 17))
    inputs, targets = ids[:, :-1].numpy(), ids[:, 1:].numpy()
    found = []
    for size, accumulate in ((8, 1), (2, 4), (3, 3)):
        model = LANGUAGE_MODELS["mamba"](hx.models, Rng(0))
        fit = Fit(
            model,
            (inputs, targets),
            batch_size=size,
            accumulate=accumulate,
            shuffle=False,
            epochs=3,
            optimizer=optim.SGD,
            lr=0.5,
            clip_norm=1.0,
        )
        fit.run()
        assert fit.step == 3
        found.append(np.concatenate([p.numpy().ravel() for p in model.parameters()]))
    assert np.abs(found[1] - found[0]).max() < 1e-6
    assert np.abs(found[2] - found[0]).max() < 1e-6
