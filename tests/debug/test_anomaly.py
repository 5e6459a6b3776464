"""`hx.debug.anomaly`: the op at which the first value that is not finite is made."""

import inspect
import subprocess
import sys
import threading

import numpy as np
import pytest

import helixml as hx
from helixml import nn
from helixml._core.composed import Fused
from helixml._core.op import REGISTRY
from helixml.backends import registry
from helixml.errors import DataError, FileError, HelixError, NonFiniteError
from helixml.testing import harness

needs_kernels = pytest.mark.skipif(
    "rms_norm_vjp" not in registry.get("cpu").kernels, reason="the kernels are not built"
)
pytestmark = pytest.mark.usefixtures("plain_settings")


class Model(nn.Module):
    """A logarithm two modules down."""

    def __init__(self):
        self.layers = nn.ModuleList([nn.Sequential(hx.abs, Logarithm())])

    def forward(self, x):
        return self.layers[0](x)


class Logarithm(nn.Module):
    """A module that needs positive values."""

    def forward(self, x):
        return hx.log(x)


def found(folder, function):
    """Return the error of a call under `anomaly`."""
    with pytest.raises(NonFiniteError) as caught, hx.debug.anomaly(folder):
        function()
    return caught.value


def test_the_forward_op_its_line_and_its_module_are_named(tmp_path):
    model = Model()
    error = found(tmp_path, lambda: model(hx.tensor([[1.0, 0.0, 2.0]])) * 2)
    assert (error.op, error.phase) == ("log", "forward")
    assert error.module == "Model.layers.0.1 (Logarithm)"
    assert "its result is -inf at (0, 1), 1 of 3 entries, out of finite operands: x (1, 3)" in str(
        error
    )
    assert error.__notes__ == ["in Model.layers.0.1 (Logarithm), called with ((1, 3) float32)"]
    line = inspect.getsourcelines(Logarithm.forward)[1] + 1
    assert error.line == f"{__file__}:{line}"


def test_the_replayed_call_gives_the_same_values(tmp_path):
    error = found(tmp_path, lambda: hx.tensor([1.0, 0.0]) / hx.tensor([0.0, 0.0]))
    again = hx.debug.replay(error.replay)
    np.testing.assert_array_equal(again.numpy(), [np.inf, np.nan])


def test_the_backward_op_says_where_it_was_called(tmp_path):
    x = hx.tensor([4.0, 0.0], requires_grad=True)

    def program():
        y = hx.sqrt(x)
        y.sum().backward()

    error = found(tmp_path, program)
    line = inspect.getsourcelines(program)[1] + 1
    assert (error.op, error.phase, error.line) == ("sqrt", "backward", f"{__file__}:{line}")
    assert "the gradient of 'x' is inf at (1,)" in str(error)
    (gradient,) = hx.debug.replay(error.replay)
    np.testing.assert_array_equal(gradient.numpy(), [0.25, np.inf])


def test_the_backward_op_names_its_module(tmp_path):
    class Root(nn.Module):
        def forward(self, x):
            return hx.sqrt(x)

    x = hx.tensor([0.0], requires_grad=True)
    model = nn.Sequential(Root())
    assert found(tmp_path, lambda: model(x).sum().backward()).module == "Sequential.0 (Root)"


@needs_kernels
def test_gradients_of_kernels_are_replayed(tmp_path):
    x = hx.tensor(np.full((1, 3), 1e-30, np.float32), requires_grad=True)
    weight = hx.ones((3,))
    error = found(
        tmp_path,
        lambda: hx.rms_norm(x, weight, eps=1e-30).backward(hx.tensor([[3e38, 0.0, -3e38]])),
    )
    assert (error.op, error.phase) == ("rms_norm", "backward")
    with pytest.raises(NonFiniteError), hx.debug.anomaly(tmp_path):
        y = hx.rms_norm(x, weight, eps=1e-30)
        y.backward(hx.tensor([[3e38, 0.0, -3e38]]))
    gradients = hx.debug.replay(error.replay)
    assert not np.isfinite(gradients[0].numpy()).all()
    assert gradients[1] is None


def test_overflow_on_casting_down_is_found(tmp_path):
    error = found(tmp_path, lambda: hx.tensor([1e6, 1.0]).astype("float16"))
    assert error.op == "astype"
    assert hx.debug.replay(error.replay).dtype == hx.float16


def test_bfloat16_calls_are_replayed(tmp_path):
    x = hx.tensor([3e38, 2.0]).astype("bfloat16")
    error = found(tmp_path, lambda: x * x)
    again = hx.debug.replay(error.replay)
    assert again.dtype == hx.bfloat16
    np.testing.assert_array_equal(again.astype("float32").numpy(), [np.inf, 4.0])


def test_what_was_not_finite_before_is_passed_on():
    x = hx.tensor([np.inf, np.nan, 1.0], requires_grad=True)
    with hx.debug.anomaly():
        y = hx.exp(x) * 2 - hx.maximum(x, -np.inf)
        y.backward(hx.tensor([1.0, 1.0, 1.0]))


def test_where_takes_out_an_infinity_but_not_the_op_that_made_it(tmp_path):
    x = hx.tensor([0.0, 1.0])
    assert found(tmp_path, lambda: hx.where(x > 0, hx.log(x), 0)).op == "log"


def test_rules_may_make_infinities_on_the_way():
    x = hx.tensor([0.0, 4.0], requires_grad=True)
    with hx.debug.anomaly():
        hx.where(x > 0, hx.sqrt(x), 0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.0, 0.25])


def test_gradients_that_overflow_when_they_are_added_up(tmp_path):
    x = hx.tensor([1.0], requires_grad=True)
    error = found(tmp_path, lambda: (x * 3e38 + x * 3e38 * 1.0).backward(hx.tensor([1.0])))
    assert error.op == "add"


@needs_kernels
def test_in_place_ops_are_replayed_from_what_they_read(tmp_path):
    x, y = hx.tensor([1.0, 3e38]), hx.tensor([2.0])
    error = found(tmp_path, lambda: hx.ops.scale_many_([x, y], 10.0))
    assert (error.op, error.phase) == ("scale_many_", "forward")
    first, second = hx.debug.replay(error.replay)
    np.testing.assert_array_equal(first.numpy(), [10.0, np.inf])
    np.testing.assert_array_equal(second.numpy(), [20.0])


def test_custom_functions_are_watched_without_a_file(tmp_path):
    @hx.autograd.numpy_op
    def inverse(x):
        with np.errstate(all="ignore"):
            return 1 / x

    error = found(tmp_path, lambda: inverse(hx.tensor([0.0])))
    assert (error.op, error.replay) == ("inverse", None)
    assert "there is no file to replay it, as inverse is no op of the library" in str(error)


def test_other_threads_are_watched(tmp_path):
    errors = []

    def work():
        try:
            with np.errstate(all="ignore"):
                hx.log(hx.tensor([0.0]))
        except NonFiniteError as error:
            errors.append(error)

    with hx.debug.anomaly(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [error.op for error in errors] == ["log"]


def hooked():
    """Return all that stands in the place of a method."""
    names = ("run", "run_pair", "pull")
    found = [vars(op).get(name) for op in REGISTRY.values() for name in names]
    return [*found, Fused.__call__, Fused.pull, nn.Module.__call__]


def test_everything_is_as_before_after_the_block(tmp_path):
    before = hooked()
    with hx.profiler.profile(), hx.debug.anomaly(tmp_path), hx.profiler.profile() as inner:
        hx.log(hx.tensor([2.0]))
    assert [call.op for call in inner.calls] == ["log"]
    assert before == hooked()


def test_a_profile_inside_does_not_end_the_watch(tmp_path):
    with pytest.raises(NonFiniteError), hx.debug.anomaly(tmp_path):
        with hx.profiler.profile():
            hx.silu(hx.tensor([2.0]))
        hx.log(hx.tensor([0.0]))


def test_a_folder_that_cannot_be_written_hides_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    error = found(tmp_path / "file", lambda: hx.log(hx.tensor([0.0])))
    assert error.replay is None


def test_a_file_that_holds_no_call(tmp_path):
    with pytest.raises(FileError, match="cannot read"):
        hx.debug.replay(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(DataError, match="holds no call"):
        hx.debug.replay(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DataError, match="holds no call"):
        hx.debug.replay(tmp_path / "text.npz")


def test_no_op_makes_infinities_on_the_way_to_finite_results():
    alarms = []
    with np.errstate(all="ignore"):
        for op in list(REGISTRY.values()):
            if op.make_samples is None or getattr(op, "writes", ()):
                continue
            for number, sample in enumerate(op.make_samples()):
                call = harness.call_of(op, number, sample, hx.float32, "cpu")
                if call is None or not all(np.isfinite(a).all() for a in call.arrays):
                    continue
                if not all(np.isfinite(y.numpy()).all() for y in call.run()):
                    continue
                try:
                    with hx.debug.anomaly():
                        call.run()
                        if call.float_places and not sample.value_only:
                            harness.vjp_of(call, call.float_places, harness.cotangents_of(call))
                except NonFiniteError as error:
                    alarms.append(f"{op.name} {number}: {error}")
                except HelixError:
                    pass  # an op without a gradient
    assert alarms == []


LATE = """
import helixml as hx
from helixml._core.op import REGISTRY
from helixml.errors import NonFiniteError
assert "logit" not in REGISTRY
try:
    with hx.debug.anomaly({folder!r}):
        hx.logit(hx.tensor([0.0]))
except NonFiniteError as error:
    assert error.op == "logit"
else:
    raise AssertionError("nothing was found")
"""


def test_an_op_that_is_loaded_inside_is_watched(tmp_path):
    code = LATE.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
