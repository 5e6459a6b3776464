"""Complex numbers: what the op harness does not reach, or what has a name.

A gradient is dL/dRe + i dL/dIm. Values at branch cuts are compared with `cmath`, which follows
C99 as the array API standard does: 0 and -0 on a cut are its two sides.
"""

import cmath
import math

import numpy as np
import pytest

import helixml as hx
from helixml._core.tape import collect
from helixml.backends import registry
from helixml.errors import DTypeError, GraphError, NotDifferentiableError

CUTS = {
    "sqrt": (-4.0, -0.25),
    "log": (-4.0, -0.25),
    "asin": (-2.0, 1.5),
    "acos": (-2.0, 1.5),
    "acosh": (-2.0, 0.5),
    "atanh": (-2.0, 1.5),
}
TURNED_CUTS = {"atan": (-2.0, 1.5), "asinh": (-2.0, 1.5)}  # along the imaginary axis


@pytest.mark.parametrize("name", [*CUTS, *TURNED_CUTS])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_both_sides_of_a_branch_cut(name, dtype):
    turned = name in TURNED_CUTS
    points = [
        complex(side, x) if turned else complex(x, side)
        for x in {**CUTS, **TURNED_CUTS}[name]
        for side in (0.0, -0.0)
    ]
    found = getattr(hx, name)(hx.tensor(np.array(points, dtype)))
    assert found.dtype == dtype
    wanted = [getattr(cmath, name)(z) for z in points]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["sqrt", "log"])
def test_gradients_on_a_branch_cut_are_those_of_its_side(name):
    above = hx.tensor(np.array([complex(-4.0, 0.0), complex(-4.0, 1e-9)]))
    g = hx.grad(lambda z: hx.imag(getattr(hx, name)(z)).sum())(above).numpy()
    assert abs(g[0] - g[1]) < 1e-8


# Zero


def test_the_gradient_of_the_absolute_value_is_0_at_0_to_second_order():
    z = hx.tensor([0j, 3 + 4j], dtype="complex128")
    g = hx.grad(lambda z: hx.abs(z).sum())
    assert np.allclose(g(z).numpy(), [0, 0.6 + 0.8j])
    second = hx.autograd.hvp(lambda z: hx.abs(z).sum(), z, [1 + 0j, 1 + 0j]).numpy()
    # Moving z by 1 turns it by Im(1 / y) / |z|.
    y = 0.6 + 0.8j
    assert np.allclose(second, [0, (1 - y * y.real) / 5])


def test_the_sign_of_complex_numbers_has_size_1_or_is_0():
    z = hx.tensor([3 + 4j, 0j, -2 + 0j])
    assert np.allclose(hx.sign(z).numpy(), [0.6 + 0.8j, 0, -1])
    g = hx.grad(lambda z: hx.real(hx.sign(z)).sum())(z).numpy()
    assert np.isfinite(g).all()
    assert g[1] == 0
    assert abs((g[0] * (3 - 4j)).real) < 1e-6  # along z nothing changes


@pytest.mark.parametrize("name", ["sqrt", "log", "reciprocal"])
def test_no_nan_comes_back_through_where(name):
    z = hx.tensor([0j, 1 + 1j], requires_grad=True)
    good = hx.tensor([False, True])
    y = hx.where(good, getattr(hx, name)(z), 0)
    hx.real(y).sum().backward()
    assert z.grad[0].item() == 0
    assert np.isfinite(z.grad.numpy()).all()


# Where real and complex numbers meet


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        ("float32", "complex64", "complex64"),
        ("float64", "complex64", "complex128"),
        ("float32", "complex128", "complex128"),
        ("int64", "complex64", "complex64"),
        ("float16", "complex64", "complex64"),
    ],
)
def test_promotion_and_the_dtypes_of_gradients(first, second, result):
    x = hx.tensor([2, 3], dtype=first)
    z = hx.tensor([1 + 2j, 3 - 1j], dtype=second)
    if first != "int64":
        x.requires_grad = True
    z.requires_grad = True
    y = x * z
    assert y.dtype == result
    hx.real(y * 1j).sum().backward()
    assert z.grad.dtype == second
    assert np.allclose(z.grad.numpy(), np.array([2, 3]) * -1j)
    if first != "int64":
        assert x.grad.dtype == first
        assert x.grad.tolist() == [-2.0, 1.0]  # real(i z)


def test_a_complex_factor_of_a_real_tensor():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    y = x * (3 + 4j)
    assert y.dtype == hx.complex64
    (hx.real(y) + 10 * hx.imag(y)).sum().backward()
    assert x.grad.tolist() == [43.0, 43.0]


def test_real_numbers_are_not_conjugated():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    g = hx.autograd.gradients((x * x).sum() + hx.vecdot(x, x), x, create_graph=True)
    assert "conj" not in {node.op.name for node in collect([g._node])}


# Losses


def test_a_complex_loss_has_no_gradient():
    z = hx.tensor(1 + 2j, requires_grad=True)
    with pytest.raises(GraphError, match=r"backward: a complex number.*Hint: real\(y\), imag"):
        (z * z).backward()
    with pytest.raises(GraphError, match=r"gradients: a complex number"):
        hx.autograd.gradients(z * z, z)
    with pytest.raises(GraphError, match=r"grad: the function returned a complex number.*real\(\)"):
        hx.grad(lambda z: z * z)(z)
    with pytest.raises(GraphError, match="complex number"):
        hx.value_and_grad(hx.exp)(z)
    with pytest.raises(NotDifferentiableError, match="jacobian: an output is complex64"):
        hx.autograd.jacobian(hx.exp)(z)
    (z * z).backward(1.0)
    assert z.grad.item() == 2 - 4j


def test_a_complex_gradient_of_a_real_output_is_refused():
    x = hx.tensor([1.0], requires_grad=True)
    with pytest.raises(DTypeError, match="backward: complex64 to float32 would drop"):
        (x * x).backward(hx.tensor([1j]))


def test_a_step_against_the_gradient_descends():
    goal = hx.tensor([1 + 2j, -1j])
    z = hx.tensor([0.3 + 0.1j, 1 + 0j])

    def loss(z):
        return hx.sum(hx.abs(hx.exp(z) - goal) ** 2)

    for _ in range(200):
        z = z - 0.05 * hx.grad(loss)(z)
    assert loss(z).item() < 1e-6


def test_a_complex_function_of_a_real_number():
    t = hx.tensor(0.7, dtype="float64")
    y, moved = hx.autograd.jvp(lambda t: hx.exp(1j * t), t, 1.0)
    assert abs(y.item() - cmath.exp(0.7j)) < 1e-15
    assert abs(moved.item() - 1j * cmath.exp(0.7j)) < 1e-15
    g = hx.grad(lambda t: hx.imag(hx.exp(1j * t)))(t)
    assert g.dtype == hx.float64
    assert abs(g.item() - math.cos(0.7)) < 1e-15


def test_dropout_keeps_or_drops_a_complex_number_whole():
    z = hx.ones((1000,), "complex64") * (1 + 2j)
    y = hx.dropout(z, 0.5, rng=hx.random.Rng(0))
    assert set(y.tolist()) == {0j, 2 + 4j}


def test_interpolation_between_complex_values():
    x, xp = hx.tensor([0.5, 1.5]), hx.tensor([0.0, 1.0, 2.0])
    fp = hx.tensor([0j, 2 + 4j, 4 + 0j])
    assert hx.interp(x, xp, fp).tolist() == [1 + 2j, 3 + 2j]
    g = hx.grad(lambda fp: hx.imag(hx.interp(x, xp, fp)).sum())(fp)
    assert g.tolist() == [0.5j, 1j, 0.5j]
    with pytest.raises(DTypeError, match="interp: x and xp must be real, not complex64"):
        hx.interp(fp, xp, fp)


def test_the_hessian_of_a_complex_quadratic():
    rng = np.random.default_rng(0)
    a, z, v = (rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((3, 3), (3,), (3,)))
    found = hx.autograd.hvp(lambda z: hx.real(hx.vecdot(z, hx.tensor(a) @ z)), hx.tensor(z), v)
    assert np.allclose(found.numpy(), (a + a.conj().T) @ v)


def test_implicit_and_fixed_points_of_complex_numbers():
    # x = a / 4 + x^2 / 4 has the derivative dx/da = (1 / 4) / (1 - x / 2).
    def solve(a):
        return hx.autograd.fixed_point(lambda x, a: (a + x * x) / 4, 0j, a)

    a = hx.tensor(0.3 + 0.4j, dtype="complex128")
    x = solve(a).item()
    g = hx.grad(lambda a: hx.real(solve(a)))(a).item()
    assert abs(g - (0.25 / (1 - x / 2)).conjugate()) < 1e-12
    with pytest.raises(DTypeError, match=r"root: the unknowns are complex64.*fixed_point"):
        hx.autograd.root(lambda x: x * x + 1, 1j)


def test_gradient_flow_measures_complex_numbers_whole():
    z = hx.tensor([3 + 4j], requires_grad=True)
    flow = hx.autograd.gradient_flow(hx.real(z * (3 + 4j)).sum(), {"z": z})
    assert flow.parameters[0].norm == 5


# The scan, whose kernels are for real numbers


@pytest.mark.parametrize("device", ["cpu", "reference", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_linear_scan_of_complex_numbers_on_every_device(device, dtype):
    report = registry.available()[device]
    if report != "ok":
        pytest.skip(report)
    rng = np.random.default_rng(1)
    a, b, h0 = (
        (rng.normal(size=s) + 1j * rng.normal(size=s)).astype(dtype) for s in ((2, 6), (2, 6), (2,))
    )
    tensors = [hx.tensor(x, device=device, requires_grad=True) for x in (a, b, h0)]
    y = hx.linear_scan(*tensors)
    h, states = h0.astype(complex), []
    for t in range(6):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y.numpy(), np.stack(states, -1), rtol=100 * eps, atol=10 * eps)
    hx.real(y[:, -1]).sum().backward()
    # The last state is a product of all a times h0, and more.
    np.testing.assert_allclose(tensors[2].grad.numpy(), a.prod(-1).conj(), rtol=100 * eps)


# What drops an imaginary part


def test_nothing_drops_an_imaginary_part():
    z = hx.tensor([1 + 2j])
    x = hx.tensor([1.0])
    for call in (
        lambda: hx.tensor([1j], dtype="float64"),
        lambda: hx.asarray(np.array([1j]), dtype="int64"),
        lambda: hx.full((2,), 1j, "float32"),
        lambda: hx.full_like(x, 1j),
        lambda: z.astype("float32"),
        lambda: x.assign_(z),
        lambda: x.at[0].set(1j),
        lambda: x.at[0].add(1j),
        lambda: x.__setitem__(0, 1j),
        lambda: hx.sum(z, dtype="float32"),
        lambda: hx.prod(z, dtype="int64"),
        lambda: hx.cumulative_sum(z, dtype="float64"),
        lambda: hx.cumulative_prod(z, dtype="float64"),
    ):
        with pytest.raises(DTypeError, match=r"would drop the imaginary part. Hint: real\(x\)"):
            call()
    assert z.astype("bool").tolist() == [True]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_what_has_no_order_says_what_to_do(dtype):
    z = hx.tensor([1 + 2j, 3j], dtype=dtype)
    x = hx.tensor([1.0, 2.0])
    for call in (
        lambda: z < z,
        lambda: x >= z,
        lambda: z > 1,
        lambda: x < 1j,
        lambda: hx.maximum(z, z),
        lambda: hx.minimum(z, 2.0),
        lambda: hx.max(z),
        lambda: hx.argmin(z),
        lambda: hx.clip(z, 0.0),
        lambda: hx.softmax(z),
        lambda: hx.relu(x=z),
    ):
        with pytest.raises(
            DTypeError, match=r"takes real numbers, not complex.*no order; take abs"
        ):
            call()
    with pytest.raises(DTypeError, match=r"rms_norm: x must be a float, not complex.*real\(x\)"):
        hx.rms_norm(z, hx.ones((2,)))


def test_the_sigmoid_of_complex_numbers_does_not_overflow():
    for device in ("cpu", "reference"):
        z = hx.tensor(np.array([-800 + 1j, 800 - 2j, 0j, 1 + math.pi * 0.5j]), device=device)
        found = hx.sigmoid(z).numpy()
        assert np.allclose(found, [0, 1, 0.5, 1 / (1 + cmath.exp(-1 - math.pi * 0.5j))])
