"""Gradients of single samples: in one pass as one by one."""

import numpy as np
import pytest

import helixml as hx
from helixml.errors import IndexingError, ShapeError
from helixml.nn import (
    CausalConv1d,
    Embedding,
    Linear,
    MambaBlock,
    Module,
    RMSNorm,
    per_sample_gradients,
)
from helixml.nn import per_sample as module


class Network(Module):
    """Every layer that has a rule, one of them in two places, and one that is not used."""

    def __init__(self):
        rng = hx.random.Rng(0)
        self.embedding = Embedding(11, 6, rng=rng)
        self.conv = CausalConv1d(6, 3, activation="silu", rng=rng)
        self.norm = RMSNorm(6)
        self.inner = Linear(6, 6, rng=rng)
        self.head = Linear(6, 11, bias=False, rng=rng)
        self.head.weight = self.embedding.weight
        self.unused = Linear(2, 2, rng=rng)

    def forward(self, ids):
        x = self.embedding(ids)
        y, x = self.norm.add(self.conv(x), x)
        return self.head(self.inner(self.inner(self.norm(y))) + x)


def loss(model, ids, target):
    losses = hx.cross_entropy(model(ids), target, reduction="none")
    return hx.mean(losses, axis=1)


def batch(b=5, length=7):
    rng = np.random.default_rng(1)
    return hx.tensor(rng.integers(0, 11, (b, length))), hx.tensor(rng.integers(0, 11, (b, length)))


def one_by_one(model, *parts):
    names = dict(model.named_parameters())
    rows = []
    for i in range(len(parts[0])):
        total = loss(model, *[part[i : i + 1] for part in parts]).sum()
        rows.append(hx.autograd.gradients(total, list(names.values())))
    return {name: np.stack([row[k].numpy() for row in rows]) for k, name in enumerate(names)}


def test_one_pass_gives_what_passes_over_single_samples_give():
    model = Network().to(dtype="float64")
    found = per_sample_gradients(model, loss, *batch())
    wanted = one_by_one(model, *batch())
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient.numpy(), wanted[name], rtol=1e-12, atol=1e-14)
    assert not found["unused.weight"].numpy().any()
    assert all(p.grad is None for p in model.parameters())


def test_their_sum_is_the_gradient_of_the_sum():
    model = Network()
    found = per_sample_gradients(model, loss, *batch())
    loss(model, *batch()).sum().backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            np.testing.assert_allclose(found[name].numpy().sum(0), p.grad.numpy(), atol=1e-6)


def test_layers_without_a_rule_are_differentiated_sample_by_sample():
    class WithBlock(Network):
        def __init__(self):
            super().__init__()
            self.inner = MambaBlock(6, d_state=4, rng=hx.random.Rng(1))

    model = WithBlock()
    found = per_sample_gradients(model, loss, *batch(3))
    wanted = one_by_one(model, *batch(3))
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient.numpy(), wanted[name], rtol=1e-5, atol=1e-7)


def test_a_layer_that_changes_forward_has_no_rule(monkeypatch):
    class Doubled(Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = Doubled(3, 1, bias=False, rng=hx.random.Rng(0))
    assert Doubled not in module.RULES
    x = hx.tensor(np.eye(3, dtype=np.float32))
    found = per_sample_gradients(model, lambda m, x: m(x).sum(axis=1), x)
    assert found["weight"].tolist() == [[[2, 0, 0]], [[0, 2, 0]], [[0, 0, 2]]]


def test_arrays_and_no_grad_make_no_difference():
    model = Network()
    ids, target = batch(2)
    wanted = per_sample_gradients(model, loss, ids, target)
    with hx.no_grad():
        found = per_sample_gradients(model, loss, ids.numpy(), target.numpy())
    for name in wanted:
        np.testing.assert_array_equal(found[name].numpy(), wanted[name].numpy())


def test_mistakes_are_explained():
    model = Network()
    ids, target = batch(4)
    with pytest.raises(ShapeError, match=r"the batch has shapes \[\(4, 7\), \(3, 7\)\]"):
        per_sample_gradients(model, loss, ids, target[:3])
    with pytest.raises(ShapeError, match="at least one"):
        per_sample_gradients(model, loss, ids[:0], target[:0])
    with pytest.raises(ShapeError, match=r"of 4 samples have shape \(\).*not over the samples"):
        per_sample_gradients(model, lambda m, *b: loss(m, *b).mean(), ids, target)
    with pytest.raises(IndexingError, match=r"id \d+ is not in \[0, 11\)"):
        per_sample_gradients(model, loss, ids + 20, target)
