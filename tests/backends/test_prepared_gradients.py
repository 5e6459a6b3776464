"""Cross entropy computes its gradient ahead; nobody may notice but by the time."""

import gc

import numpy as np
import pytest

import helixml as hx
from helixml.backends import registry
from helixml.backends.cpu import kernels

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("on_the_cpu", "with_kernels")
TABLE = registry.get("cpu").kernels
ROWS, CLASSES = 300, 257  # more than the path of small arrays takes


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def gradient(x, t, g=None, **options):
    loss = hx.cross_entropy(x, t, **options)
    loss.backward(g)
    found, x.grad = x.grad, None
    return found.numpy()


def recomputed(x, t, g=None, **options):
    """Return the gradient by the backward kernel, from a forward one that prepared nothing."""
    kernel, vjp = TABLE["cross_entropy"].function, TABLE["cross_entropy_vjp"].function
    inputs = [x.numpy(), t.numpy()]
    (loss,), residuals = kernel(*inputs, **options)
    g = np.ones((), loss.dtype) if g is None else g.numpy()
    return vjp((g,), (True, False), inputs, residuals, **options)[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [{}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"ignore_index": 3}, {"ignore_index": -1}],
    ids=str,
)
def test_bits_are_those_of_the_backward_kernel(rng, options, dtype):
    x = hx.tensor(5 * rng.standard_normal((ROWS, CLASSES)).astype(dtype), requires_grad=True)
    t = rng.integers(0, CLASSES, ROWS)
    t[:50] = options.get("ignore_index", 0)
    t = hx.tensor(t)
    assert np.array_equal(gradient(x, t, **options), recomputed(x, t, **options))


def test_it_is_prepared_only_where_it_is_wanted(rng):
    asked = []
    kernel = TABLE["cross_entropy"].function

    def noting(*args, recorded=False, **options):
        asked.append(recorded)
        return kernel(*args, recorded=recorded, **options)

    x = hx.tensor(rng.standard_normal((ROWS, CLASSES)), requires_grad=True)
    t = hx.tensor(rng.integers(0, CLASSES, ROWS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TABLE, "find", lambda name, *_: noting if name == "cross_entropy" else None)
        hx.cross_entropy(x, t)
        hx.cross_entropy(x.detach(), t)
        with hx.no_grad():
            hx.cross_entropy(x, t)
        hx.autograd.checkpoint(hx.cross_entropy, x, t)  # which would keep it against its purpose
    assert asked == [True, False, False, False]


def test_a_second_walk_finds_its_own_gradient(rng):
    x = hx.tensor(rng.standard_normal((ROWS, CLASSES)), requires_grad=True)
    t = hx.tensor(rng.integers(0, CLASSES, ROWS))
    loss = hx.cross_entropy(x, t)
    loss.backward(retain_graph=True)
    first = x.grad.numpy().copy()
    with hx.no_grad():
        x.grad[0] = 7.0  # its array was the prepared one
    x.grad = None
    loss.backward()
    assert np.array_equal(x.grad.numpy(), first)


@pytest.mark.parametrize("factor", [0.25, -3.0, 0.0, np.inf])
def test_a_scaled_loss_scales_it(rng, factor):
    x = hx.tensor(rng.standard_normal((ROWS, CLASSES)), requires_grad=True)
    t = hx.tensor(rng.integers(0, CLASSES, ROWS))
    g = hx.tensor(factor, dtype="float64")
    with np.errstate(all="raise"):
        found = gradient(x, t, g)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, factor * gradient(x, t), rtol=1e-15)


def test_second_derivatives_are_those_of_the_definition(rng):
    x = hx.tensor(rng.standard_normal((ROWS, CLASSES)), requires_grad=True)
    t = hx.tensor(rng.integers(0, CLASSES, ROWS))
    v = hx.tensor(rng.standard_normal((ROWS, CLASSES)))
    found = hx.autograd.hvp(lambda x: hx.cross_entropy(x, t), x, v)
    with hx.config.using(kernels=False):
        wanted = hx.autograd.hvp(lambda x: hx.cross_entropy(x, t), x, v)
    np.testing.assert_allclose(found[-1], wanted[-1], rtol=0, atol=1e-16)


def test_what_the_graph_keeps_names_it(rng):
    x = hx.tensor(rng.standard_normal((ROWS, CLASSES)), requires_grad=True)
    loss = hx.cross_entropy(x, hx.tensor(rng.integers(0, CLASSES, ROWS)))
    kept = [value for value in hx.explain_memory(loss).entries if value.shape == x.shape]
    assert sorted(value.name for value in kept) == ["logits", "residual 2"]
    loss.backward()
    gc.collect()
    assert x.grad.shape == x.shape
