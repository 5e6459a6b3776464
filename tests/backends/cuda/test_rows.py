"""Kernels on rows: normalisation, softmax and cross entropy, each way of walking a row."""

import numpy as np
import pytest

from .conftest import close, random, wide

# Rows and columns: one entry; a warp with single entries and with packs; a block; more rows than
# teams; too long for registers.
SHAPES = [(2, 1), (3, 7), (2, 256), (2, 1028), (3, 1030), (70, 12), (2, 1, 16450)]
SHORT = [(3, 7), (2, 256), (70, 12)]


def parts(backend, name):
    """Return a kernel and its backward kernel."""
    return backend.kernels[name].function, backend.kernels[f"{name}_vjp"].function


def on_device(cp, *hosts):
    """Return arrays on the device."""
    return [None if x is None else cp.asarray(x) for x in hosts]


def rms(s, weight, eps):
    scale = 1 / np.sqrt((s**2).mean(-1, keepdims=True) + eps)
    return s * scale * weight, scale


def rms_pull(g, s, weight, eps):
    """Differentiate row by row: ds_i = sum_j v_j (scale [i = j] - scale^3 s_i s_j / d)."""
    ds, dweight = np.empty_like(s), np.zeros_like(weight)
    for at in np.ndindex(s.shape[:-1]):
        row, v = s[at], g[at] * weight
        scale = 1 / np.sqrt((row**2).mean() + eps)
        ds[at] = scale * v - scale**3 * row * (v @ row) / len(row)
        dweight += g[at] * row * scale
    return ds, dweight


def layer_pull(g, s, weight, eps):
    """Differentiate with the whole matrix of each row, for short rows."""
    ds, dweight = np.empty_like(s), np.zeros_like(weight)
    n = s.shape[-1]
    centre = np.eye(n) - 1 / n
    for at in np.ndindex(s.shape[:-1]):
        c = centre @ s[at]
        scale = 1 / np.sqrt((c @ c) / n + eps)
        jacobian = scale * centre - scale**3 * np.outer(c, centre @ c) / n
        ds[at] = jacobian.T @ (g[at] * weight)
        dweight += g[at] * c * scale
    return ds, dweight


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rms_norm_is_its_definition(cp, backend, dtype, shape):
    kernel, _ = parts(backend, "rms_norm")
    x, weight = random(shape, dtype), random(shape[-1:], dtype, 1)
    (y,), (scale,) = kernel(*on_device(cp, x, weight), None, eps=1e-5)
    goal, scales = rms(*wide(x, weight), 1e-5)
    close(y, goal, shape[-1])
    close(scale, scales.reshape(-1), shape[-1])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_of_rms_norm(cp, backend, dtype, shape):
    kernel, backward = parts(backend, "rms_norm")
    hosts = random(shape, dtype), random(shape[-1:], dtype, 1), random(shape, dtype, 2)
    x, weight, g = on_device(cp, *hosts)
    _, kept = kernel(x, weight, None, eps=1e-5)
    dx, dweight, none = backward((g,), (True, True, False), (x, weight, None), kept, eps=1e-5)
    ds, dw = rms_pull(*wide(hosts[2], hosts[0], hosts[1]), 1e-5)
    assert none is None
    close(dx, ds, shape[-1])
    close(dweight, dw, np.prod(shape[:-1]))


@pytest.mark.parametrize("shape", SHORT, ids=str)
def test_layer_norm_with_bias_and_residual(cp, backend, dtype, shape):
    kernel, backward = parts(backend, "layer_norm")
    x, residual, g, g_total = (random(shape, dtype, seed) for seed in range(4))
    weight, bias = random(shape[-1:], dtype, 5), random(shape[-1:], dtype, 6)
    inputs = on_device(cp, x, weight, bias, residual)
    (y, total), kept = kernel(*inputs, eps=1e-3)
    s, w, b = wide(x, weight, bias)
    s = s + wide(residual)[0]
    mean, var = s.mean(-1, keepdims=True), s.var(-1, keepdims=True)
    close(total, s)
    close(y, (s - mean) / np.sqrt(var + 1e-3) * w + b, shape[-1])

    gradients = backward(on_device(cp, g, g_total), (True,) * 4, inputs, kept, eps=1e-3)
    dx, dweight, dbias, dresidual = gradients
    host_total = total.get().astype(np.float64)  # what was rounded is what is differentiated
    ds, dw = layer_pull(*wide(g), host_total, w, 1e-3)
    close(dx, ds + wide(g_total)[0], shape[-1])
    close(dweight, dw, np.prod(shape))
    close(dbias, wide(g)[0].sum(0), np.prod(shape[:-1]))
    assert dresidual is dx


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_and_its_gradient(cp, backend, dtype, name, shape):
    kernel, backward = parts(backend, name)
    x, g = random(shape, dtype, low=-9, high=9), random(shape, dtype, 1)
    (y,), kept = kernel(*on_device(cp, x))
    (dx,) = backward(on_device(cp, g), (True,), (None,), kept)
    hx, hg = wide(x, g)
    log = hx - hx.max(-1, keepdims=True)
    log -= np.log(np.exp(log).sum(-1, keepdims=True))
    close(y, np.exp(log) if name == "softmax" else log, shape[-1])
    found = y.get().astype(np.float64)
    if name == "softmax":
        goal = found * (hg - (found * hg).sum(-1, keepdims=True))
    else:
        goal = hg - np.exp(found) * hg.sum(-1, keepdims=True)
    close(dx, goal, shape[-1])


def test_softmax_along_an_axis_that_is_not_the_last(cp, backend):
    kernel, backward = parts(backend, "softmax")
    x, g = random((3, 5, 4), np.float64), random((3, 5, 4), np.float64, 1)
    (y,), kept = kernel(cp.asarray(x), axis=1)
    (dx,) = backward((cp.asarray(g),), (True,), (None,), kept, axis=1)
    e = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    close(y, e, 5)
    close(dx, e * (g - (e * g).sum(1, keepdims=True)), 5)


def test_rows_of_infinities_are_no_numbers(cp, backend):
    kernel, _ = parts(backend, "softmax")
    x = np.array([[-np.inf, -np.inf], [0.0, -np.inf], [np.inf, 0.0]], np.float32)
    (y,), _ = kernel(cp.asarray(x))
    found = y.get()
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [1.0, 0.0]
    assert np.isnan(found[2, 0])


def entropy(logits, target, ignored, smoothing):
    """Return the loss of each row, and its gradient, class by class."""
    losses, slopes = np.zeros(len(target)), np.zeros(logits.shape)
    v = logits.shape[-1]
    for i, goal in enumerate(target):
        if goal == ignored:
            continue
        logp = logits[i] - logits[i].max()
        logp -= np.log(np.exp(logp).sum())
        q = np.full(v, smoothing / v)
        q[goal] += 1 - smoothing
        losses[i] = -(q @ logp)
        slopes[i] = np.exp(logp) - q
    return losses, slopes


@pytest.mark.parametrize("shape", [(5, 3), (4, 256), (6, 1030), (2, 16450)], ids=str)
@pytest.mark.parametrize(
    ("reduction", "ignored", "smoothing"),
    [("mean", None, 0.0), ("sum", 1, 0.1), ("none", None, 0.2), ("mean", -100, 0.0)],
)
def test_cross_entropy_and_its_gradient(cp, backend, dtype, shape, reduction, ignored, smoothing):
    kernel, backward = parts(backend, "cross_entropy")
    rows, classes = shape
    logits = random(shape, dtype, low=-4, high=4)
    target = np.random.default_rng(1).integers(0, classes, rows)
    target[0] = 1 if ignored is None else ignored
    options = {"reduction": reduction, "ignore_index": ignored, "label_smoothing": smoothing}
    losses, slopes = entropy(*wide(logits), target, ignored, smoothing)
    share = max(1, (target != ignored).sum()) if reduction == "mean" else 1
    g = random((rows,) if reduction == "none" else (), dtype, 2)
    hg = g.astype(np.float64)
    goal = slopes * (hg[:, None] if reduction == "none" else hg) / share
    for recorded in (False, True):
        inputs = on_device(cp, logits, target)
        (loss,), kept = kernel(*inputs, **options, recorded=recorded)
        close(loss, losses if reduction == "none" else losses.sum() / share, classes)
        for _ in range(2):  # what was prepared is gone the second time
            gradient, none = backward((cp.asarray(g),), (True, False), inputs, kept, **options)
            assert none is None
            close(gradient, goal, classes)


def test_rows_give_the_same_in_any_order_of_threads(cp, backend, order):
    x, weight, g = (
        random((9, 140), np.float32),
        random((140,), np.float32),
        random((9, 140), "f", 2),
    )
    kernel, backward = parts(backend, "layer_norm")
    inputs = on_device(cp, x, weight, weight, None)
    (y,), kept = kernel(*inputs)
    gradients = backward(on_device(cp, g), (True, True, True, False), inputs, kept)
    wanted = wide(x)[0]
    wanted = (wanted - wanted.mean(-1, keepdims=True)) / np.sqrt(
        wanted.var(-1, keepdims=True) + 1e-5
    )
    close(y, wanted * weight + weight, 140)
    ds, dw = layer_pull(*wide(g, x, weight), 1e-5)
    close(gradients[0], ds, 140)
    close(gradients[1], dw, 9)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_gives_the_same_in_any_order_of_threads(cp, backend, order, name):
    kernel, _ = parts(backend, name)
    x = random((3, 1028), np.float32, low=-9, high=9)
    (y,), _ = kernel(cp.asarray(x))
    log = wide(x)[0]
    log = log - np.log(np.exp(log).sum(-1, keepdims=True))
    close(y, np.exp(log) if name == "softmax" else log, 1028)


def test_cross_entropy_gives_the_same_in_any_order_of_threads(cp, backend, order):
    kernel, _ = parts(backend, "cross_entropy")
    logits, target = random((3, 1028), np.float32), np.array([5, 1, 1000])
    losses, _ = entropy(*wide(logits), target, 1, 0.1)
    (loss,), _ = kernel(cp.asarray(logits), cp.asarray(target), ignore_index=1, label_smoothing=0.1)
    close(loss, losses.sum() / 2, 1028)


def test_the_gradient_of_the_weight_has_the_same_bits_each_time(cp, backend):
    kernel, backward = parts(backend, "rms_norm")
    inputs = on_device(cp, random((300, 40), np.float32), random((40,), np.float32), None)
    g = cp.asarray(random((300, 40), np.float32, 2))
    _, kept = kernel(*inputs)
    found = {backward((g,), (True, True, False), inputs, kept)[1].get().tobytes() for _ in range(3)}
    assert len(found) == 1


def test_rows_that_do_not_begin_at_a_multiple_of_16_bytes(cp, backend):
    kernel, _ = parts(backend, "softmax")
    host = random((33,), np.float32)
    (y,), _ = kernel(cp.asarray(host)[1:].reshape(4, 8))
    rows = np.exp(host[1:].reshape(4, 8).astype(np.float64))
    close(y, rows / rows.sum(-1, keepdims=True), 8)
