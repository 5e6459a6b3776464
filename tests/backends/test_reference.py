"""The reference kernels: values against the ops' oracles, gradients against difference quotients.

Neither side here is the code under test twice: oracles are other formulas in float64, and the
quotients are taken of the oracles.
"""

import numpy as np
import pytest

import helixml as hx
from helixml import dtypes, ops
from helixml._core.op import REGISTRY
from helixml.backends import reference, registry
from helixml.testing import harness
from helixml.testing.tolerance import assert_close, tolerance

ops.load_all()  # some of those with kernels are loaded on first use
KERNELS = registry.get("reference").kernels
FORWARD = sorted(  # those of sequences are tested by the harness
    name for name in KERNELS if not name.endswith(("_vjp", "_")) and not REGISTRY[name].variadic
)
STEP = 1e-5


def samples(name, dtype=dtypes.float64):
    """Give each sample of an op as (call, inputs and attributes as kernels take them)."""
    op = REGISTRY[name]
    for number, sample in enumerate(op.make_samples()):
        call = harness.call_of(op, number, sample, dtype, "reference")
        if call is not None:
            yield call, *op.bind(tuple(call.args), call.kwargs)


def test_every_fused_op_has_a_kernel_and_its_gradient():
    fused = [op for op in REGISTRY.values() if op.kind == "fused"]
    pulled = [op for op in fused if not op.writes and not op.variadic]
    assert set(KERNELS) == {op.name for op in fused} | {f"{op.name}_vjp" for op in pulled}


@pytest.mark.parametrize("name", FORWARD)
def test_a_kernel_gives_the_values_of_the_oracle(name):
    for call, inputs, attributes in samples(name):
        outputs, _ = KERNELS[name].function(*inputs, **attributes)
        for got, want in zip(outputs, call.exact(), strict=True):
            assert got.dtype == np.float64
            assert_close(got, want, tolerance(dtypes.float64, length=64))


@pytest.mark.parametrize("name", FORWARD)
def test_a_gradient_is_the_difference_quotient_of_the_oracle(name):
    rng = np.random.default_rng(0)
    for call, inputs, attributes in samples(name):
        outputs, residuals = KERNELS[name].function(*inputs, **attributes)
        cotangents = tuple(rng.normal(size=y.shape) for y in outputs)
        needs = tuple(x is not None and x.dtype == np.float64 for x in inputs)
        found = KERNELS[name + "_vjp"].function(cotangents, needs, inputs, residuals, **attributes)
        gradients = [g for g in found if g is not None]
        floats = [i for i, a in enumerate(call.arrays) if a.dtype == np.float64]
        if any(call.arrays[i].size == 0 for i in floats):
            continue
        # A call's arrays are the kernel's inputs, in the order of the arguments.
        named = {id(x): g for x, g in zip(inputs, found, strict=True) if g is not None}
        assert len(gradients) == len(floats)
        for i in floats:
            direction = rng.normal(size=call.arrays[i].shape)

            def value(step, i=i, direction=direction, call=call, cotangents=cotangents):
                moved = list(call.arrays)
                moved[i] = moved[i] + step * direction
                results = call.oracle(moved)
                return sum(np.sum(c * y) for c, y in zip(cotangents, results, strict=True))

            quotient = (value(STEP) - value(-STEP)) / (2 * STEP)
            claimed = np.sum(named[id(call.arrays[i])] * direction)
            # error of the central difference: truncation STEP^2 and rounding eps / STEP
            assert abs(claimed - quotient) <= 1e-7 * (1 + abs(quotient)), (call.kwargs, i)


@pytest.mark.parametrize("name", FORWARD)
def test_a_gradient_kernel_answers_only_what_is_asked(name):
    for _, inputs, attributes in samples(name):
        outputs, residuals = KERNELS[name].function(*inputs, **attributes)
        nothing = tuple(None for _ in outputs)
        function = KERNELS[name + "_vjp"].function
        none = function(nothing, (False,) * len(inputs), inputs, residuals, **attributes)
        assert none == (None,) * len(inputs)
        needs = tuple(x is not None and x.dtype == np.float64 for x in inputs)
        for x, g in zip(
            inputs, function(nothing, needs, inputs, residuals, **attributes), strict=True
        ):
            if g is not None:
                assert g.shape == x.shape
                assert not g.any()


@pytest.mark.parametrize("name", FORWARD)
def test_float32_differs_from_float64_by_one_rounding(name):
    for _, inputs, attributes in samples(name, dtypes.float32):
        exact = [
            x.astype(np.float64) if x is not None and x.dtype == np.float32 else x for x in inputs
        ]
        outputs, _ = KERNELS[name].function(*inputs, **attributes)
        wanted, _ = KERNELS[name].function(*exact, **attributes)
        for got, want in zip(outputs, wanted, strict=True):
            assert got.dtype == np.float32
            assert_close(got, want, float(np.finfo(np.float32).eps))


def test_adamw_follows_the_algorithm_for_three_steps():
    rng = np.random.default_rng(1)
    param, m, v = rng.normal(size=(2, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    goal, gradients = param.copy(), [rng.normal(size=(2, 3)) for _ in range(3)]
    settings = {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 1e-8, "weight_decay": 0.2}
    for step, grad in enumerate(gradients, 1):
        reference.adamw_(param, grad, m, v, **settings, step=step)
        # moments in closed form: weighted means of all gradients so far
        past = range(step)
        first = sum(0.2 * 0.8 ** (step - 1 - k) * gradients[k] for k in past) / (1 - 0.8**step)
        second = sum(0.1 * 0.9 ** (step - 1 - k) * gradients[k] ** 2 for k in past)
        goal = goal - 0.1 * 0.2 * goal
        goal = goal - 0.1 * first / (np.sqrt(second / (1 - 0.9**step)) + 1e-8)
        np.testing.assert_allclose(param, goal, rtol=1e-13)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_the_algorithm_for_three_steps(nesterov):
    rng = np.random.default_rng(2)
    param, velocity = rng.normal(size=(2, 3)), np.zeros((2, 3))
    goal, speed = param.copy(), np.zeros((2, 3))
    for _ in range(3):
        grad = rng.normal(size=(2, 3))
        full = grad + 0.1 * goal
        speed = 0.9 * speed + full
        goal = goal - 0.05 * (full + 0.9 * speed if nesterov else speed)
        reference.sgd_(
            param, grad, velocity, lr=0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.1
        )
        np.testing.assert_allclose(param, goal, rtol=1e-13)


def test_updates_write_through_views_of_any_stride():
    memory = np.ones((4, 6), np.float32)
    param = memory[::2, ::-3]
    reference.sgd_(
        param,
        np.ones((2, 2), np.float32),
        None,
        lr=0.5,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
    )
    assert (param == 0.5).all()
    assert memory.sum() == 24 - 4 * 0.5


def test_its_extended_functions_are_its_own():
    for name in (
        "drop",
        "linear_scan",
        "philox",
        "place",
        "scatter_add",
        "scatter_add_along_axis",
        "sigmoid",
        "take_along_axis",
    ):
        assert name in vars(reference.ReferenceBackend)


def test_it_never_uses_the_compiled_kernels():
    own = registry.get("reference").kernels
    assert {own[name].function.__module__ for name in own} == {
        "helixml.backends.reference",
        "helixml.backends.reference_attention",
        "helixml.backends.reference_decoding",
        "helixml.backends.reference_maps",
        "helixml.backends.reference_mixing",
        "helixml.backends.reference_state_space",
    }


def test_an_index_is_refused():
    with pytest.raises(hx.errors.DeviceError, match=r"there is one\. Hint: write 'reference'"):
        hx.zeros((1,), device="reference:1")
