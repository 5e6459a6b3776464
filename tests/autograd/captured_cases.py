"""A small classifier whose step is captured, and the same again, uncaptured."""

from __future__ import annotations

import numpy as np

import helixml as hx

HOST = np.random.default_rng(7)


def mlp(seed=0, *, optimizer=None, dropout=0.0, clip=None, norm=False, dtype="float32"):
    """Return (step, model, optimizer) of a small classifier; the step counts its runs."""
    rng = hx.random.Rng(seed)
    layers = [hx.nn.Linear(6, 8, rng=rng), hx.tanh, hx.nn.Linear(8, 5, rng=rng)]
    if norm:
        layers.insert(1, hx.nn.BatchNorm1d(8))
    model = hx.nn.Sequential(*layers).to(dtype=dtype)
    make = optimizer or (lambda p: hx.optim.AdamW(p, lr=0.01))
    optimizer = make(list(model.parameters()))
    noise = hx.random.Rng(seed + 1)

    def step(x, target):
        step.runs += 1
        logits = model(x)
        if dropout:
            logits = hx.random.dropout(logits, dropout, rng=noise)
        loss = hx.cross_entropy(logits, target)
        loss.backward()
        if clip is not None:
            hx.optim.clip_grad_norm(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    step.runs = 0
    step.noise = noise
    return step, model, optimizer


def batch(n=4, seed=None, dtype="float32"):
    rng = HOST if seed is None else np.random.default_rng(seed)
    x = rng.standard_normal((n, 6)).astype(dtype)
    return hx.tensor(x), hx.tensor(rng.integers(0, 5, n))


def equal(a, b):
    return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


def same_state(mine, theirs):
    own, other = mine[1].state_dict(), theirs[1].state_dict()
    assert own.keys() == other.keys()
    for name in own:
        assert equal(own[name], other[name]), name
    for p, q in zip(mine[1].parameters(), theirs[1].parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or equal(p.grad, q.grad)
    for p, q in zip(mine[2].parameters, theirs[2].parameters, strict=True):
        a, b = mine[2].state(p), theirs[2].state(q)
        assert all(equal(a[name], b[name]) for name in a)
    assert mine[2].steps == theirs[2].steps
    assert mine[2]._counts == theirs[2]._counts


def follow(captured, own, other, steps=20, before=None, batches=None):
    """Do steps with both and hold them to the same bits."""
    for i in range(steps):
        if before is not None:
            before(i, own)
            before(i, other)
        x, target = batch() if batches is None else batches(i)
        assert equal(captured(x, target), other[0](x, target).detach()), i
        same_state(own, other)


def twins(**options):
    own, other = mlp(**options), mlp(**options)
    return hx.capture(own[0], strict=True), own, other
