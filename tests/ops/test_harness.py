"""The op harness over every op: the full matrix on the compiled CPU backend, a sample elsewhere.

With another default device or without compiled code (``HELIXML_DEVICE``, ``HELIXML_PURE``,
``HELIXML_KERNELS``) this file gives one sample per op and dtype for that configuration.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from helixml import config, dtypes
from helixml._core.op import REGISTRY, Primitive
from helixml.backends import registry
from helixml.testing import calls, harness

# Ops that cannot describe themselves to the harness, and where they are tested instead.
WITHOUT_ORACLE = {"drop": "tests/random/test_dropout.py, against Philox in plain integers"}
WITHOUT_SAMPLES = {"transfer": "tests/core/test_devices.py: it needs a second device"}

SETTINGS = config.get()
STANDARD = SETTINGS.device == "cpu" and SETTINGS.kernels and not SETTINGS.pure
OTHER_DEVICES = ("reference", "array_api_strict")


@pytest.mark.parametrize("check", list(harness.plan(SETTINGS.device, full=STANDARD)), ids=str)
def test_op(check):
    check.run()


def run_all(device, full):
    failures = harness.failures(device, full=full)
    assert not failures, "\n".join(failures)


def present(device):
    report = registry.available()[device]
    if report != "ok":
        pytest.skip(report)
    return device


@pytest.mark.skipif(not STANDARD, reason="this configuration is tested by test_op")
@pytest.mark.parametrize("device", OTHER_DEVICES)
def test_a_sample_of_every_op_on_another_device(device):
    run_all(present(device), full=False)


@pytest.mark.slow
@pytest.mark.skipif(not STANDARD, reason="once is enough")
@pytest.mark.parametrize("device", OTHER_DEVICES)
def test_every_op_on_another_device(device):
    run_all(present(device), full=True)


@pytest.mark.skipif(not STANDARD, reason="this configuration is tested by test_op")
def test_a_sample_of_every_op_without_kernels():
    with config.using(kernels=False):
        run_all("cpu", full=False)


@pytest.mark.slow
@pytest.mark.skipif(not STANDARD, reason="once is enough")
@pytest.mark.parametrize("device", ["cpu", *OTHER_DEVICES])
def test_every_op_without_kernels(device):
    with config.using(kernels=False):
        run_all(present(device), full=True)


def run_in_new_process(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


PURE = """
import sys
from helixml._core import op, tape, tensor
from helixml.testing import calls, harness
assert all(m.__file__.endswith(".py") for m in (op, tape, tensor)), tensor.__file__
sys.exit("\\n".join(harness.failures("cpu", full={full})) or 0)
"""


@pytest.mark.skipif(not STANDARD, reason="this configuration is tested by test_op")
def test_a_sample_of_every_op_uncompiled():
    run_in_new_process(PURE.format(full=False), HELIXML_PURE="1")


@pytest.mark.slow
@pytest.mark.skipif(not STANDARD, reason="once is enough")
def test_every_op_uncompiled():
    run_in_new_process(PURE.format(full=True), HELIXML_PURE="1")


def test_every_op_describes_itself():
    ops = REGISTRY.values()
    assert {op.name for op in ops if op.oracle is None} == {*WITHOUT_ORACLE, *WITHOUT_SAMPLES}
    assert {op.name for op in ops if op.make_samples is None} == set(WITHOUT_SAMPLES)


def test_every_op_that_checks_its_arguments_has_error_samples():
    silent = [
        op.name
        for op in REGISTRY.values()
        if op.make_errors is None
        and op.make_samples is not None
        and (getattr(op, "prepare_attributes", None) or getattr(op, "check_call", None))
    ]
    assert silent == []


def phased(function, k):
    """Return a decomposition whose vectors have other phases in each dtype; `k` are both."""

    def decompose(x, **options):
        results = [y.copy() for y in function(x, **options)]
        turn = {"complex64": 1j, "float32": -1}.get(x.dtype.name, 1)
        left, right = (results[i] for i in k)
        count = min(x.shape[-2:])
        left[..., :count] *= turn
        if right is not left:
            right[..., :count, :] *= np.conj(turn)
        return tuple(results)

    return decompose


@pytest.mark.skipif(not STANDARD, reason="it is the harness that is tested")
@pytest.mark.parametrize(("name", "vectors"), [("svd", (0, 2)), ("eigh", (1, 1))])
def test_gradients_are_compared_whatever_phases_vectors_have(monkeypatch, name, vectors):
    backend = registry.get("cpu")
    monkeypatch.setattr(backend, name, phased(getattr(backend, name), vectors))
    harness.Check(REGISTRY[name], "backward", harness.Setting()).run()


# What takes truth values, bits or positions alone says so where complex numbers are given.
WITHOUT_COMPLEX = {
    *("logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_and", "bitwise_or"),
    *("bitwise_xor", "bitwise_invert", "bitwise_left_shift", "bitwise_right_shift", "one_hot"),
    *("gcd", "lcm", "unravel_index", "ravel_multi_index"),
}


def test_every_op_is_tried_with_complex_numbers():
    untried = {op.name for op in REGISTRY.values() if op.make_samples and not takes_complex(op)}
    assert untried == WITHOUT_COMPLEX


COMPLEX_AND_NEEDED = (dtypes.complex128, dtypes.int64, dtypes.bool_)


def takes_complex(op):
    """Say whether a call of ``op`` in the harness has complex numbers, to compute or to refuse."""
    described = calls.calls(op, harness.Setting(dtypes=COMPLEX_AND_NEEDED))
    return any(a.dtype == dtypes.complex128 for _, call in described for a in call.arrays)


def test_every_op_is_documented():
    silent = [op.name for op in REGISTRY.values() if not (op.__doc__ or "").strip()]
    assert silent == []


def test_every_primitive_with_a_float_result_has_a_rule_for_each_float_input():
    assert [op.name for op in REGISTRY.values() if isinstance(op, Primitive) and lacks(op)] == []


def lacks(op):
    """Say whether a sample of ``op`` in float32 has a float input without a rule."""
    if op.make_samples is None:
        return False
    call = harness.call_of(op, 0, next(iter(op.make_samples())), dtypes.float32, "cpu")
    if not any(dtypes.is_floating(y.dtype) for y in call.run()):
        return False
    floats = [n for n, kind in zip(op.inputs, call.kinds, strict=False) if kind == "float"]
    return not set(floats) <= set(op.rules)
