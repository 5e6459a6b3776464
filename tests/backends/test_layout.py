"""What the kernels are given: memory that is aligned, with a contiguous last axis."""

from __future__ import annotations

import numpy as np
import pytest

from helixml.backends.cpu import kernels

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels import layout

K = {name: function for name, function, *_ in kernels.KERNELS}


def shifted(x):
    """Return the array in memory that begins at an odd address, contiguous as before."""
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    memory[...] = x
    assert memory.flags.c_contiguous
    assert not memory.flags.aligned
    return memory


@pytest.mark.parametrize("bring", [layout.rows, layout.table, layout.contiguous])
def test_memory_that_is_not_aligned_is_copied(bring):
    x = np.arange(12.0).reshape(3, 4)
    brought = bring(shifted(x))
    assert brought.flags.aligned
    assert np.array_equal(brought, x)


def test_rows_that_are_good_are_not_copied():
    x = np.zeros((3, 8))
    assert layout.rows(x[:, 2:5]).base is x
    assert layout.contiguous(x) is x
    for view in (x[:, ::2], x[::-1].T, x[:, ::-1]):
        copied = layout.rows(view)
        assert copied.strides[-1] == copied.itemsize
        assert np.array_equal(copied, view)
        assert layout.contiguous(view).flags.c_contiguous


@pytest.mark.parametrize("name", ["selective_scan", "causal_conv1d", "cross_entropy", "rms_norm"])
def test_operands_that_are_not_aligned_change_nothing(name):
    rng = np.random.default_rng(3)

    def f(*shape):
        return rng.standard_normal(shape)

    inputs, attributes = {
        "selective_scan": (
            (f(2, 3, 5), f(2, 3, 5), -np.exp(f(3, 2)), f(2, 2, 5), f(3, 2), f(3), f(2, 3, 5),
             f(3), f(2, 3, 2)), {"delta_softplus": True},
        ),
        "causal_conv1d": ((f(2, 3, 5), f(3, 4), f(3), f(2, 3, 3)), {"activation": "silu"}),
        "cross_entropy": ((f(4, 7), rng.integers(0, 7, 4)), {}),
        "rms_norm": ((f(4, 7), f(7), f(4, 7)), {"eps": 1e-6}),
    }[name]  # fmt: skip
    results = []
    for given in (inputs, tuple(map(shifted, inputs))):
        outputs, residuals = K[name](*given, **attributes)
        needs = [x.dtype.kind == "f" for x in given]
        g = tuple(np.ones_like(y) for y in outputs)
        gradients = K[name + "_vjp"](g, needs, given, residuals, **attributes)
        results.append([x for x in (*outputs, *gradients) if x is not None])
    for found, wanted in zip(*results, strict=True):
        assert np.array_equal(found, wanted)
