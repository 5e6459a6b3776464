"""A language model of bytes learns on the device as it does on the CPU."""

import numpy as np
import pytest

import helixml as hx
from helixml import optim

TEXT = np.frombuffer((hx.__doc__ or "").encode() * 40, np.uint8)


def losses(device, steps, layers=2):
    """Return the losses of a small Mamba, whose logits are dropped by random bits."""
    config = hx.models.MambaConfig(vocab_size=256, hidden_size=32, num_hidden_layers=layers)
    model = hx.models.MambaLM(config, rng=hx.random.Rng(3)).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    dropout = hx.nn.Dropout(0.1, rng=hx.random.Rng(5))
    host = np.random.default_rng(0)
    found = []
    for _ in range(steps):
        starts = host.integers(0, len(TEXT) - 65, 2)
        ids = hx.tensor(np.stack([TEXT[s : s + 65] for s in starts]), device=device)
        loss = hx.ops.cross_entropy(dropout(model(ids[:, :-1])), ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 0.5)
        optimizer.step()
        found.append(loss.item())
    return found


def test_two_steps_are_those_of_the_cpu(backend):
    np.testing.assert_allclose(losses("wgpu", 2, layers=1), losses("cpu", 2, layers=1), rtol=1e-5)


@pytest.mark.slow
def test_a_language_model_learns_as_on_the_cpu(backend):
    found = losses("wgpu", 20)
    np.testing.assert_allclose(found, losses("cpu", 20), rtol=1e-4)
    assert found[-1] < 0.9 * found[0]


@pytest.mark.slow
def test_a_replayed_step_waits_for_its_loss_alone(backend, runtime):
    config = hx.models.MambaConfig(vocab_size=256, hidden_size=16, num_hidden_layers=1)
    host = np.random.default_rng(0).integers(0, 256, (6, 2, 17))
    found = []
    for decorate in (lambda step: step, hx.capture):
        model = hx.models.MambaLM(config, rng=hx.random.Rng(3)).to("wgpu")
        optimizer = optim.AdamW(model.parameters(), lr=3e-3)

        def step(ids, model=model, optimizer=optimizer):
            loss = hx.ops.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run, reads = decorate(step), []
        for ids in host:
            before = runtime.reads
            found.append(run(hx.tensor(ids, device="wgpu")).item())
            reads.append(runtime.reads - before)
    assert found[:6] == found[6:]
    assert reads[-2:] == [1, 1]


def test_dropout_has_the_bits_of_the_cpu(backend):
    x = np.ones((37, 5), np.float32)
    found = []
    for device in ("wgpu", "cpu"):
        dropout = hx.nn.Dropout(0.3, rng=hx.random.Rng(5))
        found.append(dropout(hx.tensor(x, device=device)).numpy())
    assert found[0].tobytes() == found[1].tobytes()


def test_uniform_numbers_have_the_bits_of_the_cpu(backend):
    found = [hx.random.Rng(7).uniform((3, 5), device=d).numpy() for d in ("wgpu", "cpu")]
    assert found[0].tobytes() == found[1].tobytes()


def test_a_dtype_that_is_not_there_says_what_to_do(backend):
    with pytest.raises(hx.errors.DTypeError, match=r"has no float64; it has .*astype"):
        hx.ones((2,), dtype="float64", device="wgpu")
