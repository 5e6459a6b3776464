"""The checks themselves: they pass what is right and catch what is wrong."""

import numpy as np
import pytest

import helixml as hx
from helixml._core.op import REGISTRY, primitive
from helixml._core.samples import Failure, floats, sample
from helixml.backends import registry
from helixml.errors import ShapeError
from helixml.testing import check_gradients, harness
from helixml.testing.tolerance import assert_close, tolerance

Array = object  # an annotation that marks inputs of primitives


def test_right_gradients_pass():
    check_gradients(lambda x, y: hx.exp(x) * y, [0.1, 0.2], [1.0, -1.0], orders=3)
    check_gradients(lambda x: (x, x * x), hx.tensor([1.0, 2.0]), orders=2)


def test_a_detached_path_is_caught():
    with pytest.raises(AssertionError, match="gradient of input 0"):
        check_gradients(lambda x: x * x.detach(), [1.0, 2.0])


def test_a_gradient_cut_out_of_the_second_order_is_caught():
    @primitive(name="cut")
    def cut(B, x: "Array"):
        return B.multiply(x, B.multiply(x, x))

    try:
        cut.vjp("x")(lambda g, x: g * (3 * x * x).detach())
        check_gradients(cut, [1.0, 2.0])
        with pytest.raises(AssertionError, match="derivative of the gradient"):
            check_gradients(cut, [1.0, 2.0], orders=2)
    finally:
        del REGISTRY["cut"]


def test_a_missing_conjugate_is_caught():
    @hx.autograd.custom_vjp
    def squared(z):
        return z * z

    z = hx.tensor([1 + 2j, -0.5 + 1j])
    squared.vjp("z")(lambda g, z: g * hx.conj(2 * z))
    check_gradients(squared, z, orders=2)
    squared.vjp("z")(lambda g, z: g * 2 * z)
    with pytest.raises(AssertionError, match="gradient of input 0"):
        check_gradients(squared, z)


def test_the_gradient_of_a_real_operand_is_real():
    check_gradients(lambda x, z: x * z + hx.exp(z - x), [0.1, 0.2], [1 + 1j, 2 - 1j], orders=2)


@pytest.fixture
def broken():
    """Make an op that takes square roots, whatever its name and faults, and forget it later."""
    made = []

    def make(name="broken", rule=None, oracle=np.sqrt, forward=None, **options):
        def function(B, x: "Array"):
            return (forward or (lambda B, x: B.sqrt(x)))(B, x)

        op = primitive(
            function, name=name, oracle=oracle, dtype="float", holomorphic=True, **options
        )
        made.append(name)
        op.vjp("x")(rule or (lambda g, out: hx.ops.elementwise.chain(g, 0.5 / out)))
        op.samples(lambda: (sample(floats(3, 4, low=0.1, high=4.0)),))
        return op

    yield make
    for name in made:
        del REGISTRY[name]


def verdict(op, name):
    check = harness.Check(op, name, harness.Setting())
    try:
        check.run()
    except AssertionError as error:
        return str(error)
    return "ok"


@pytest.mark.parametrize(
    "name", [n for n in harness.CHECKS if n not in ("kernels", "errors", "frozen", "mixed")]
)
def test_a_right_op_passes(broken, name):
    assert verdict(broken(), name) == "ok"


def test_a_wrong_value_is_caught(broken):
    op = broken(forward=lambda B, x: B.add(B.sqrt(x), B.full((), 1e-4, dtype=B.dtype_of(x))))
    assert "error" in verdict(op, "values")


def test_a_wrong_dtype_is_caught(broken):
    op = broken(forward=lambda B, x: B.astype(B.sqrt(x), hx.float64))
    assert "expected float32" in verdict(op, "values")


def test_a_wrong_shape_is_caught(broken):
    op = broken(forward=lambda B, x: B.reshape(B.sqrt(x), (-1,)))
    assert "shape (12,), expected (3, 4)" in verdict(op, "values")


def test_a_written_input_is_caught(broken):
    op = broken(forward=lambda B, x: np.sqrt(x, out=x) if x.dtype.kind == "f" else B.sqrt(x))
    assert "was written" in verdict(op, "values")


def test_a_result_that_shares_memory_is_caught(broken):
    op = broken(forward=lambda B, x: x.reshape(x.shape), oracle=lambda x: x)
    assert "a write to an input changed a result" in verdict(op, "aliasing")


def test_a_wrong_rule_is_caught(broken):
    assert "gradient of input 0" in verdict(broken(rule=lambda g, out: g * 0.51 / out), "gradients")


def test_a_wrong_second_derivative_is_caught(broken):
    op = broken(rule=lambda g, out: g * (0.5 / out).detach())
    assert "derivative of the gradient" in verdict(op, "gradients")


def test_a_leaked_nan_is_caught(broken):
    assert "behind where" in verdict(broken(rule=lambda g, out: g * (0.5 / out)), "singular")


def test_a_gradient_of_the_wrong_dtype_is_refitted_by_the_engine(broken):
    op = broken(rule=lambda g, out: (g * (0.5 / out)).astype(hx.result_type(g, hx.float64)))
    assert verdict(op, "backward") == "ok"


def test_errors_are_checked_for_type_text_and_opening(broken):
    def fail(error):
        def call():
            raise error

        return call

    op = broken()
    op.errors(lambda: [Failure(fail(ShapeError("broken: no")), ShapeError, "yes")])
    assert "does not match" in verdict(op, "errors")
    op.errors(lambda: [Failure(fail(ShapeError("It went wrong")), ShapeError, "wrong")])
    assert "does not open with" in verdict(op, "errors")
    op.errors(lambda: [Failure(lambda: None, ShapeError, "wrong")])
    assert "no ShapeError" in verdict(op, "errors")
    op.errors(lambda: [Failure(fail(KeyError("x")), ShapeError, "wrong")])
    assert "KeyError" in verdict(op, "errors")


@pytest.mark.usefixtures("plain_settings")
def test_a_kernel_that_no_sample_reaches_is_caught():
    from helixml.backends.dispatch import Kernel

    table = registry.get("cpu").kernels
    never = Kernel("softmax", lambda *a, **k: None, ("float32",), lambda inputs, attributes: False)
    with table.without("softmax"):
        table._kernels["softmax"] = never
        try:
            text = verdict(REGISTRY["softmax"], "kernels")
        finally:
            del table._kernels["softmax"]
    assert "no sample is computed by the kernel softmax" in text


@pytest.mark.usefixtures("plain_settings")
def test_a_wrong_kernel_is_caught():
    from helixml.backends.dispatch import Kernel

    table = registry.get("cpu").kernels
    wrong = Kernel("softmax", lambda x, *, axis: ((x * 1.0,), ()), ("float32",))
    with table.without("softmax", "softmax_vjp"):
        table._kernels["softmax"] = wrong
        try:
            text = verdict(REGISTRY["softmax"], "kernels")
        finally:
            del table._kernels["softmax"]
    assert "result 0: error" in text


def test_tolerance_grows_with_rounding_length_and_condition():
    assert tolerance(hx.float16) > 1000 * tolerance(hx.float32) > 1e6 * tolerance(hx.float64)
    assert tolerance(hx.float32, length=100) > tolerance(hx.float32)
    assert tolerance(hx.float32, condition=9.0) > tolerance(hx.float32)
    assert tolerance(hx.int32) == 0


def test_errors_are_relative_to_the_largest_value():
    want = np.array([1e6, 1e-3])
    assert_close(want + [0.1, 0.1], want, 1e-6)
    with pytest.raises(AssertionError, match=r"1\.00e-06"):
        assert_close(want + 1.0, want, 1e-7)


@pytest.mark.parametrize(
    ("got", "want"),
    [([np.inf], [-np.inf]), ([1.0], [np.nan]), ([np.nan], [1.0]), ([1e-30], [0.0])],
)
def test_special_values_must_stand_in_their_places(got, want):
    with pytest.raises(AssertionError):
        assert_close(np.array(got), np.array(want), 1e-3)
