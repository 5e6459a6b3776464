"""The selective scan reads arrays whose channels or whose time steps are contiguous: same bits."""

import numpy as np
import pytest

from helixml import config

if config.get().pure:
    pytest.skip("HELIXML_PURE is set: no kernels", allow_module_level=True)
_kernels = pytest.importorskip("helixml.backends.cpu.kernels._kernels", exc_type=ImportError)

from helixml.backends.cpu.kernels.selective_scan import (  # noqa: E402
    selective_scan,
    selective_scan_vjp,
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(2, 9, 37, 5), (1, 17, 64, 16), (3, 4, 33, 4), (2, 8, 1, 3)])
def test_both_layouts_give_the_same_bits(instruction_set, dtype, sizes):
    b, d, l, n = sizes
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    u, delta, z, g = (draw(b, d, l) for _ in range(4))
    fixed = (-np.exp(draw(d, n)), draw(b, n, l), draw(b, n, l), draw(d))
    bias, state = draw(d), draw(b, d, n)

    def everything(laid_out):
        inputs = (laid_out(u), laid_out(delta), *fixed, laid_out(z), bias, state)
        options = {"delta_softplus": True, "return_last_state": True}
        outputs, residuals = selective_scan(*inputs, **options)
        cotangents = (laid_out(g), state)
        needs = (True,) * len(inputs)
        return [*outputs, *selective_scan_vjp(cotangents, needs, inputs, residuals, **options)]

    by_time = everything(lambda x: x)
    by_channel = everything(lambda x: np.ascontiguousarray(x.mT).mT)
    for found, wanted in zip(by_time, by_channel, strict=True):
        np.testing.assert_array_equal(found, wanted)
