"""A scan and attention side by side, against loops over time and the definition's gradient.

Goals of values are loops in NumPy's float64, those of gradients the definition's on the CPU, whose
own are held to finite differences by the harness of ops.
"""

import numpy as np
import pytest

import helixml as hx
from helixml.backends.cuda.kernels import scan_attention

from .conftest import close, random, wide

ATTRIBUTES = {"heads": 4, "key_heads": 2, "window": 9, "eps": 1e-3}


def arrays(b, l, d, e, n, d_out, dtype, heads=4, key_heads=2, D=True, delta_bias=True, **_):
    rows = 3 * e + 2 * n + 2 * key_heads * (e // heads)
    return [
        random((b, l, d), dtype, 1),
        random((d,), dtype, 2, 0.5, 1.5),
        random((rows, d), dtype, 3, -0.5, 0.5),
        random((e, n), dtype, 4, -1.5, -0.2),
        random((d_out, e), dtype, 5, -0.5, 0.5),
        random((e,), dtype, 6) if D else None,
        random((e,), dtype, 7, -1.0, 0.5) if delta_bias else None,
    ]


def goals(hosts, g, attributes):
    """Return y and the gradients of what is there, in float64."""
    hosts = wide(*hosts)
    y = hx.scan_attention.oracle(*hosts, **attributes)
    tensors = [None if x is None else hx.tensor(x, requires_grad=True) for x in hosts]
    (hx.scan_attention(*tensors, **attributes) * hx.tensor(g.astype(np.float64))).sum().backward()
    return [y, *(t.grad.numpy() for t in tensors if t is not None)]


def check(cp, hosts, recorded=True, **attributes):
    """Compare the output and the gradients with the goals; return what was found."""
    b, l, _ = hosts[0].shape
    dtype, d_out = hosts[0].dtype, hosts[4].shape[0]
    g = random((b, l, d_out), dtype, 20)
    both = scan_attention.ScanAttention(cp)
    inputs = [None if x is None else cp.asarray(x) for x in hosts]
    assert scan_attention.takes_both(inputs, attributes)
    (y,), residuals = both.forward(*inputs, **attributes, recorded=recorded)
    assert bool(residuals) == recorded
    needs = [x is not None for x in hosts]
    found = both.backward((cp.asarray(g),), needs, inputs, residuals, **attributes)
    found = [y, *(x for x in found if x is not None)]
    for x, goal in zip(found, goals(hosts, g, attributes), strict=True):
        # Parts are rounded to the dtype on their way, a few times each.
        rounding = {"bfloat16": 16 * 2.0**-8, "float16": 16 * 2.0**-11}.get(dtype.name)
        if rounding is None:
            close(x, goal, 256 * l)
        else:
            size = max(1, abs(goal).max())
            np.testing.assert_allclose(x.get().astype("f8"), goal, rtol=0, atol=rounding * size)
    return found


def test_outputs_and_gradients_in_any_order_of_threads(cp, dtype, order):
    check(cp, arrays(2, 21, 5, 8, 3, 6, dtype), **ATTRIBUTES)


@pytest.mark.parametrize("options", [{"heads": 1}, {"heads": 3}, {"heads": 6, "key_heads": 2}])
def test_numbers_of_heads(cp, options):
    keys = {"key_heads": options["heads"], **options}
    check(cp, arrays(1, 12, 4, 6, 2, 3, "float64", **keys), **options)


@pytest.mark.parametrize("left_out", ["D", "delta_bias"])
def test_what_may_be_left_out(cp, left_out):
    check(cp, arrays(1, 9, 3, 4, 2, 3, "float64", **{left_out: False}), **ATTRIBUTES)


def test_what_was_not_kept_is_computed_again(cp):
    hosts = arrays(1, 9, 3, 4, 2, 3, "float32")
    kept = check(cp, hosts, **ATTRIBUTES)
    for x, again in zip(kept, check(cp, hosts, recorded=False, **ATTRIBUTES), strict=True):
        np.testing.assert_array_equal(x.get(), again.get())


def test_an_op_on_the_device_has_the_gradients_of_the_cpu(device):
    hosts = arrays(1, 9, 3, 4, 2, 3, "float64")
    results = []
    for name in ("cpu", device):
        tensors = [hx.tensor(x, device=name, requires_grad=True) for x in hosts]
        y = hx.scan_attention(*tensors, **ATTRIBUTES)
        (y * y).sum().backward()
        results.append([y, *(t.grad for t in tensors)])
    for goal, found in zip(*results, strict=True):
        np.testing.assert_allclose(found.numpy(), goal.numpy(), rtol=1e-10, atol=1e-12)


def test_fewer_passes_than_the_definition_takes(cp, backend, device):
    if not hasattr(cp, "cuemu"):
        pytest.skip("a GPU counts no launches")
    tensors = [hx.tensor(x, device=device) for x in arrays(1, 9, 3, 4, 2, 3, "float32")]
    counts = []
    for taken in ((), ("scan_attention",)):
        with backend.kernels.without(*taken):
            cp.cuemu.reset()
            hx.scan_attention(*tensors, **ATTRIBUTES)
            counts.append(sum(cp.cuemu.launches.values()))
    assert counts[0] < counts[1]


def test_calls_that_are_left_to_the_definition():
    def given(l=9, n=2):
        hosts = arrays(1, l, 3, 4, n, 3, "float32")
        return [np.zeros((1, l, 3), "float32"), None, None, *hosts[3:]]

    assert scan_attention.takes_both(given(), {"heads": 2})
    assert not scan_attention.takes_both(given(l=3), {"heads": 2})  # attention has few queries
    assert not scan_attention.takes_both(given(n=257), {"heads": 2})
