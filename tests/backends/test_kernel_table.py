"""Which kernel takes a call, and what happens where none does."""

import os
import subprocess
import sys

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml.backends import registry
from helixml.backends.dispatch import Kernel, KernelTable
from helixml.errors import BackendError


class Counting:
    """A kernel that counts its calls and passes them on."""

    def __init__(self, function):
        self.function = function
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


@pytest.fixture(autouse=True)
def kernels_on():
    """Use kernels, whatever the environment says."""
    with config.using(kernels=True):
        yield


@pytest.fixture
def counted(monkeypatch):
    """Put counting kernels in the reference's table: name -> Counting."""
    table = registry.get("reference").kernels
    found = {name: Counting(table[name].function) for name in table}
    kernels = [Kernel(name, f, table[name].dtypes) for name, f in found.items()]
    monkeypatch.setattr(registry.get("reference"), "kernels", KernelTable(kernels))
    return found


def softmax(dtype="float32", device="reference"):
    x = hx.tensor(np.arange(4.0).reshape(2, 2), dtype=dtype, device=device, requires_grad=True)
    y = hx.softmax(x)
    y.backward(hx.asarray(np.eye(2), dtype=dtype, device=device))
    return y, x.grad


def test_a_declared_kernel_is_used_forward_and_backward(counted):
    softmax()
    assert counted["softmax"].calls == counted["softmax_vjp"].calls == 1


def test_second_derivatives_use_the_definition(counted):
    x = hx.tensor([0.1, 0.2], device="reference", requires_grad=True)
    first = hx.autograd.gradients((hx.softmax(x) ** 2).sum(), x, create_graph=True)
    assert counted["softmax_vjp"].calls == 0
    assert np.isfinite(hx.autograd.gradients((first * first).sum(), x).numpy()).all()


def test_an_undeclared_dtype_runs_the_definition(counted):
    x = hx.asarray(np.arange(4).reshape(2, 2), device="reference")
    y = hx.softmax(x)
    assert counted["softmax"].calls == 0
    assert y.dtype == "float32"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_computed_by_the_kernel_in_float32(counted, dtype):
    x = hx.asarray(np.arange(4.0).reshape(2, 2), dtype=dtype, device="reference")
    y = hx.softmax(x)
    assert counted["softmax"].calls == 1
    assert y.dtype == dtype


def test_a_mix_of_dtypes_runs_the_definition(counted):
    x = hx.tensor([[3.0, 4.0]], dtype="float32", device="reference", requires_grad=True)
    w = hx.tensor([1.0, 2.0], dtype="float64", device="reference", requires_grad=True)
    y = hx.rms_norm(x, w, eps=0.0)
    assert counted["rms_norm"].calls == 0
    assert y.dtype == "float64"
    np.testing.assert_allclose(y.numpy(), np.array([[3.0, 8.0]]) / np.sqrt(12.5), rtol=1e-6)
    y.sum().backward()
    assert counted["rms_norm_vjp"].calls == 0
    assert (x.grad.dtype, w.grad.dtype) == (np.float32, np.float64)


def test_without_takes_kernels_out_and_puts_them_back(counted):
    table = registry.get("reference").kernels
    with table.without("softmax", "softmax_vjp", "no_such_kernel"):
        assert "softmax" not in table
        plain = softmax()
    assert counted["softmax"].calls == counted["softmax_vjp"].calls == 0
    assert "softmax" in table
    for one, other in zip(plain, softmax(), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)


def test_without_puts_kernels_back_after_an_error(counted):
    table = registry.get("reference").kernels
    with pytest.raises(ZeroDivisionError), table.without("softmax"):
        1 / 0  # noqa: B018
    assert "softmax" in table


def test_a_backward_kernel_alone_missing_differentiates_the_definition(counted):
    with registry.get("reference").kernels.without("softmax_vjp"):
        _, plain = softmax()
    assert counted["softmax"].calls == 1
    np.testing.assert_allclose(plain.numpy(), softmax()[1].numpy(), rtol=1e-6)


def test_a_condition_can_refuse_a_call():
    seen = []

    def when(inputs, attributes):
        seen.append((inputs[0].shape, dict(attributes)))
        return inputs[0].size > 4

    table = KernelTable([Kernel("softmax", print, ("float32",), when)])
    small, large = np.ones(3, np.float32), np.ones(9, np.float32)
    assert table.find("softmax", [small], {"axis": 0}) is None
    assert table.find("softmax", [large], {"axis": 0}) is print
    assert seen == [((3,), {"axis": 0}), ((9,), {"axis": 0})]


def test_absent_inputs_and_operands_that_are_integers_do_not_matter():
    table = KernelTable([Kernel("cross_entropy", print, ("float32",))])
    x, ids = np.ones((2, 3), np.float32), np.ones(2, np.int64)
    assert table.find("cross_entropy", [x, ids, None], {}, integers={1}) is print
    assert table.find("cross_entropy", [ids, ids, None], {}, integers={1}) is None
    assert table.find("softmax", [x], {}) is None


def test_a_kernel_is_declared_once():
    with pytest.raises(BackendError, match="'softmax' is declared twice"):
        KernelTable([Kernel("softmax", print, ("float32",))] * 2)


def test_switching_kernels_off_in_a_block(counted):
    with config.using(kernels=False):
        off = softmax()
    assert counted["softmax"].calls == 0
    for one, other in zip(off, softmax(), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)


def test_the_environment_switches_kernels_off():
    script = (
        "import helixml as hx\n"
        "from helixml.backends import registry\n"
        "table = registry.get('reference').kernels\n"
        "print(len(table) > 0, table.find('softmax', [hx.ones((2,)).numpy()], {'axis': 0}))\n"
    )
    shown = {}
    for flag in ("0", "1"):
        environment = {**os.environ, "HELIXML_KERNELS": flag}
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        shown[flag] = done.stdout
    assert shown["0"] == "True None\n"
    assert "function softmax" in shown["1"]


def test_outputs_of_kernels_are_ordinary_tensors(counted):
    x = hx.tensor([[3.0, 4.0]], device="reference", requires_grad=True)
    w = hx.ones((2,), device="reference")
    y, total = hx.rms_norm(x, w, residual=hx.ones((1, 2), device="reference"))
    (y.sum() + total.sum() * 2.0).backward()
    assert counted["rms_norm"].calls == counted["rms_norm_vjp"].calls == 1
    assert x.grad.shape == x.shape


def test_in_place_kernels_leave_viewers_their_values(counted):
    p = hx.tensor([1.0, 2.0], device="reference")
    seen = p.detach()
    hx.ops.sgd_(
        p,
        hx.ones((2,), device="reference"),
        None,
        lr=0.5,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
    )
    assert counted["sgd_"].calls == 1
    assert p.tolist() == [0.5, 1.5]
    assert seen.tolist() == [1.0, 2.0]
