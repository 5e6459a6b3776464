"""Tensors, gradients and optimizers on the device, against the CPU."""

import shutil

import numpy as np
import pytest

import helixml as hx
from helixml import nn, optim
from helixml.backends import registry
from helixml.backends.cuda.backend import CudaBackend
from helixml.device import Device
from helixml.errors import DTypeError, ValueRangeError
from helixml.testing import cuemu


def network(device):
    """Return an embedding, a normalised hidden layer and a head, with the same numbers anywhere."""
    rng = hx.random.Rng(3)
    model = nn.Sequential(
        nn.Embedding(11, 8, rng=rng),
        nn.RMSNorm(8),
        nn.Linear(8, 16, rng=rng),
        nn.GELU(),
        nn.LayerNorm(16),
        nn.Linear(16, 11, rng=rng),
    )
    return model.to(device)


def losses(device, make, steps=5):
    model = network(device)
    optimizer = make(model.parameters())
    host = np.random.default_rng(0)
    found = []
    for _ in range(steps):
        ids = hx.tensor(host.integers(0, 11, (4, 6)), device=device)
        loss = hx.ops.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 0.5)
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: optim.AdamW(parameters, lr=0.01),
        lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    ],
    ids=["adamw", "sgd"],
)
def test_a_model_learns_as_it_does_on_the_cpu(device, make):
    np.testing.assert_allclose(losses(device, make), losses("cpu", make), rtol=2e-5)


def test_a_captured_step_has_the_bits_of_the_step_itself(device):
    def make():
        model = nn.Sequential(
            nn.CausalConv1d(6, 4, rng=hx.random.Rng(1)), nn.Linear(6, 6, rng=hx.random.Rng(2))
        ).to(device)
        optimizer = optim.AdamW(model.parameters(), lr=0.01)

        def step(x):
            loss = hx.mean((model(x) - x) ** 2)
            loss.backward()
            optim.clip_grad_norm(model.parameters(), 0.01)
            optimizer.step()
            optimizer.zero_grad()
            return loss

        return step, model

    (own, model), (step, other) = make(), make()
    captured = hx.capture(own, strict=True)
    host = np.random.default_rng(0)
    for _ in range(6):
        x = hx.tensor(host.standard_normal((2, 9, 6)).astype(np.float32), device=device)
        captured(x)
        step(x)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert p.numpy().tobytes() == q.numpy().tobytes()
    assert captured.replays == 3


def test_tensors_go_there_and_back(device):
    x = hx.tensor([[1.0, 2.0], [3.0, 4.0]], device="cpu", requires_grad=True)
    y = x.to(device)
    assert y.device == device
    (y @ y).sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [[7.0, 11.0], [9.0, 13.0]]


def test_arrays_of_cupy_become_tensors(device, cp):
    x = cp.asarray(np.arange(3, dtype=np.float32))
    shared, own = hx.asarray(x, device=device), hx.tensor(x, device=device, requires_grad=True)
    x[...] = x + 1
    assert shared.tolist() == [1.0, 2.0, 3.0]
    assert own.tolist() == [0.0, 1.0, 2.0]
    assert hx.asarray(x, dtype="float64", device=device).dtype == hx.float64
    copied = hx.asarray(x, device=device, copy=True)
    x[...] = x * 0
    assert copied.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueRangeError, match="needs a copy"):
        hx.asarray(x, dtype="float64", device=device, copy=False)
    with pytest.raises(DTypeError, match="imaginary"):
        hx.tensor(cp.asarray(np.ones(2, np.complex64)), dtype="float32", device=device)


def test_a_training_step_waits_for_the_device_only_where_its_loss_is_read(device, backend, cp):
    if not hasattr(cp, "cuemu"):
        pytest.skip("a GPU counts no waits")
    model = network(device)
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    ids = hx.tensor(np.arange(24).reshape(4, 6) % 11, device=device)
    before = dict(cp.cuemu.synchronizations)
    loss = hx.ops.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
    loss.backward()
    optimizer.step()
    assert dict(cp.cuemu.synchronizations) == before
    assert backend.capabilities()["range_checks_that_waited"] == 0
    loss.item()
    assert sum(cp.cuemu.synchronizations.values()) == sum(before.values()) + 1


def test_copies_to_the_device_wait_for_nothing(device, cp):
    if not hasattr(cp, "cuemu"):
        pytest.skip("a GPU counts no waits")
    host = np.arange(6.0)
    x = hx.tensor(host)
    before = dict(cp.cuemu.synchronizations)
    moved, made = x.to(device), hx.tensor(host, device=device)
    host[:] = -1  # what is on its way has been copied
    assert dict(cp.cuemu.synchronizations) == before
    assert (moved + made).tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def test_dropout_drops_what_it_drops_on_the_cpu(device):
    x = hx.ones((5, 9))
    goal = hx.random.dropout(x, 0.4, rng=hx.random.Rng(1))
    found = hx.random.dropout(x.to(device), 0.4, rng=hx.random.Rng(1))
    assert found.tolist() == goal.tolist()


@pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")
@pytest.mark.parametrize("seed", [0, 1])
def test_no_result_is_read_before_it_is_computed(seed):
    cp = cuemu.cupy(lazy=True, seed=seed)  # what waits too little reads nan
    registry.register("cuda", lambda: CudaBackend(cp, Device("cuda")))
    try:
        with cp.cuda.Stream(non_blocking=True):
            found = losses("cuda", lambda parameters: optim.AdamW(parameters, lr=0.01), steps=2)
    finally:
        registry.unregister("cuda")
    goal = losses("cpu", lambda parameters: optim.AdamW(parameters, lr=0.01), steps=2)
    np.testing.assert_allclose(found, goal, rtol=2e-5)
