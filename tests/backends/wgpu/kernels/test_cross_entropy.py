"""Cross entropy against NumPy in float64."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.cross_entropy import CrossEntropy

from .conftest import close, get, put, random, strided, wide


def goals(logits, target, g, ignored, smoothing, reduction):
    """Return the loss and the gradient of the logits."""
    rows, columns = logits.shape
    losses, gradient = np.zeros(rows), np.zeros_like(logits)
    counted = sum(target != ignored) if reduction == "mean" else 1
    for row in range(rows):
        if target[row] == ignored:
            continue
        q = np.full(columns, smoothing / columns)
        q[target[row]] += 1 - smoothing
        p = np.exp(logits[row] - logits[row].max())
        p /= p.sum()
        losses[row] = -(q * np.log(p)).sum()
        gradient[row] = (p - q) * (g[row] if reduction == "none" else g) / max(counted, 1)
    return losses if reduction == "none" else losses.sum() / max(counted, 1), gradient


@pytest.mark.parametrize("shape", [(1, 2), (70, 11), (3, 1000)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_and_their_gradients(runtime, threads, shape, reduction, smoothing):
    logits = random(shape, 1, -9, 9)
    target = np.random.default_rng(2).integers(0, shape[1], shape[0])
    target[-1] = -100
    g = random(shape[:1] if reduction == "none" else (), 3)
    loss = CrossEntropy(runtime, threads)
    inputs = put(runtime, logits, target)
    how = {"ignore_index": -100, "label_smoothing": smoothing, "reduction": reduction}
    (y,), residuals = loss.forward(*inputs, **how)
    gradient, none = loss.backward(put(runtime, g), [True, False], inputs, residuals, **how)
    goal, slope = goals(*wide(logits), target, g, -100, smoothing, reduction)
    assert none is None
    close(runtime, y, goal, max(shape))
    close(runtime, gradient, slope, shape[1])


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_classes_of_any_integers_and_views(runtime, dtype):
    logits, g = random((6, 5), 1), random((), 3)
    target = (np.arange(6) % 5).astype(dtype)
    loss = CrossEntropy(runtime)
    inputs = [strided(runtime, logits), strided(runtime, target)]
    (y,), residuals = loss.forward(*inputs)
    gradient, _ = loss.backward(put(runtime, g), [True, False], inputs, residuals)
    goal, slope = goals(*wide(logits), target.astype(int), g, None, 0.0, "mean")
    close(runtime, y, goal)
    close(runtime, gradient, slope)


def test_nothing_that_counts_is_no_loss(runtime):
    logits, target = put(runtime, random((3, 4)), np.full(3, 7))
    (y,), _ = CrossEntropy(runtime).forward(logits, target, ignore_index=7)
    assert get(runtime, y) == 0


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_target_that_is_no_class(runtime, wrong):
    logits, target = put(runtime, random((3, 4)), np.array([0, wrong, 1]))
    with pytest.raises(IndexError, match=rf"target {wrong} is no class in \[0, 4\)"):
        CrossEntropy(runtime).forward(logits, target)
