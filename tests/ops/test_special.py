"""Special functions: values that were computed elsewhere, and what has no derivative.

SciPy computes the values and is the oracle of the harness too, so the table below is what holds
it: from mpmath with 40 digits, rounded to 17.
"""

import numpy as np
import pytest

import helixml as hx
from helixml.autograd import gradients
from helixml.errors import NotDifferentiableError, ValueRangeError

TABLE = [
    ("erfc", (0.5,), 0.47950012218695346),
    ("erfc", (3.0,), 2.2090496998585441e-5),
    ("erfc", (10.0,), 2.0884875837625448e-45),
    ("erfc", (-2.0,), 1.9953222650189527),
    ("erfcx", (0.5,), 0.61569034419292587),
    ("erfcx", (30.0,), 0.018795888861416751),
    ("erfcx", (-2.0,), 108.94090438997797),
    ("erfinv", (0.25,), 0.2253120550121781),
    ("erfinv", (-0.75,), -0.81341984759761854),
    ("erfinv", (0.9375,), 1.3171503349861307),
    ("erfcinv", (0.25,), 0.81341984759761854),
    ("erfcinv", (9.094947017729282e-13,), 5.05125408524939),
    ("ndtr", (0.5,), 0.6914624612740131),
    ("ndtr", (-5.0,), 2.8665157187919391e-7),
    ("ndtri", (0.25,), -0.67448975019608174),
    ("ndtri", (9.094947017729282e-13,), -7.0477002566644087),
    ("log_ndtr", (0.5,), -0.36894641528865639),
    ("log_ndtr", (-40.0,), -804.60844201375379),
    ("log_ndtr", (6.0,), -9.8658764552437573e-10),
    ("gammaln", (0.5,), 0.57236494292470009),
    ("gammaln", (100.5,), 361.43554046777762),
    ("gammaln", (-2.5,), -0.056243716497674051),
    ("gammaln", (10000000000.0,), 220258509288.81058),
    ("gamma", (0.5,), 1.772453850905516),
    ("gamma", (10.25,), 639232.59877957679),
    ("gamma", (-2.5,), -0.94530872048294188),
    ("digamma", (0.5,), -1.9635100260214235),
    ("digamma", (100.5,), 4.6051743525818452),
    ("digamma", (-2.5,), 1.1031566406452432),
    ("polygamma", (1, 0.5), 4.9348022005446793),
    ("polygamma", (3, 2.25), 0.32454400918839602),
    ("polygamma", (20, 10.0), -0.0028271335649279825),
    ("multigammaln", (3.5, 3), 3.895898482154039),
    ("beta", (0.5, 2.25), 1.2485988353771999),
    ("beta", (30.0, 40.0), 1.0539424603796546e-21),
    ("betaln", (0.5, 2.25), 0.22202199090215955),
    ("betaln", (100.0, 3.0), -13.152116335553677),
    ("gammainc", (0.5, 0.25), 0.52049987781304654),
    ("gammainc", (2.5, 4.0), 0.84376437242227767),
    ("gammainc", (50.0, 45.0), 0.24680203440017027),
    ("gammaincc", (0.5, 0.25), 0.47950012218695346),
    ("gammaincc", (2.5, 40.0), 8.3918251148316101e-16),
    ("zeta", (1.5, 0.25), 10.213055360466601),
    ("zeta", (3.0, 1.0), 1.2020569031595943),
    ("zeta", (20.0, 2.5), 1.1008345466854143e-8),
    ("j0", (0.5,), 0.9384698072408129),
    ("j0", (20.25,), 0.14542139387367762),
    ("j1", (0.5,), 0.24226845767487389),
    ("j1", (20.25,), 0.1050149686495336),
    ("jv", (5, 3.5), 0.080441986647991782),
    ("jv", (2, 0.125), 0.0019505831099296929),
    ("i0", (0.5,), 1.0634833707413235),
    ("i0", (20.25,), 55579102.840938649),
    ("i1", (-0.5,), -0.25789430539089632),
    ("i1", (20.25,), 54188928.20424874),
    ("iv", (5, 3.5), 0.22398495470190782),
    ("i0e", (200.0,), 0.028227159949111916),
    ("i1e", (-200.0,), -0.028156503394832918),
    ("ive", (3, 50.0), 0.05164737175755633),
    ("entr", (0.25,), 0.34657359027997265),
    ("rel_entr", (0.25, 0.75), -0.27465307216702742),
    ("xlogy", (2.0, 0.25), -2.7725887222397812),
    ("xlog1py", (2.0, 9.313225746154785e-10), 1.8626451483635953e-9),
    ("logit", (0.25,), -1.0986122886681097),
    ("logit", (9.094947017729282e-13,), -27.725887222396903),
    ("expit", (-30.0,), 9.357622968839299e-14),
    ("log_sigmoid", (-40.0,), -40.0),
    ("log_sigmoid", (40.0,), -4.248354255291589e-18),
    ("sinc", (0.25,), 0.90031631615710607),
    ("sinc", (9.5367431640625e-07,), 0.99999999999850394),
    ("exp2", (0.25,), 1.1892071150027211),
]
SLOPES = [  # of gammainc(a, x) for a
    (0.5, 0.25, -0.79794731678322294),
    (2.5, 4.0, -0.14765686908718715),
    (50.0, 45.0, -0.045543292140123876),
    (0.001, 1.0, -0.219832728883122),
    (3.0, 60.0, -5.1959295826872728e-23),
    (1000.0, 1050.0, -0.0036718379194951802),
    (20000.0, 19900.0, -0.0022006348552485094),
    (7.0, 1e-05, -2.6842160168134862e-38),
]
WHOLE = {"polygamma": (0,), "jv": (0,), "iv": (0,), "ive": (0,), "multigammaln": (1,)}


def operands_of(name, point, dtype):
    """Return the numbers of a row as tensors, but those that must be plain integers."""
    whole = WHOLE.get(name, ())
    return [x if i in whole else hx.tensor(x, dtype=dtype) for i, x in enumerate(point)]


@pytest.mark.parametrize(("name", "point", "value"), TABLE)
def test_a_value_has_all_its_digits(name, point, value):
    found = getattr(hx.special, name)(*operands_of(name, point, "float64"))
    assert found.dtype == hx.float64
    assert found.item() == pytest.approx(value, rel=4e-14, abs=0)


@pytest.mark.parametrize(("name", "point", "value"), TABLE)
def test_a_value_in_single_precision_is_rounded_from_it(name, point, value):
    operands = operands_of(name, point, "float32")
    found = getattr(hx.special, name)(*operands)
    assert found.dtype == hx.float32
    held = [x.item() if isinstance(x, hx.Tensor) else x for x in operands]
    exact = getattr(hx.special, name)(*operands_of(name, held, "float64")).item()
    if abs(exact) > 1e-37:  # and no denormal number
        assert found.item() == pytest.approx(exact, rel=4e-7, abs=0)


def test_the_names_are_those_of_scipy():
    from scipy import special

    ours = {"lgamma", "log_sigmoid"}
    later = {"softplus"}  # SciPy 1.15
    assert not [n for n in hx.special.__all__ if not hasattr(special, n) and n not in ours | later]


def test_functions_by_two_names_are_one():
    assert hx.special.lgamma is hx.special.gammaln is hx.gammaln
    assert hx.special.psi is hx.special.digamma is hx.digamma
    assert hx.special.expit is hx.sigmoid
    assert hx.special.log_expit is hx.log_sigmoid


def test_what_has_no_derivative_says_so():
    x, q = hx.tensor([2.5], requires_grad=True), hx.tensor([1.5], requires_grad=True)
    y = hx.special.zeta(x, q)
    assert gradients([y], [q], retain_graph=True)[0].shape == (1,)
    with pytest.raises(NotDifferentiableError, match="zeta: has no derivative with respect to 'x'"):
        gradients([y], [x])
    a = hx.tensor([1e9], requires_grad=True)
    y = hx.special.gammainc(a, 1e9)
    with pytest.raises(NotDifferentiableError, match=r"'a' takes \d+ terms for each value"):
        gradients([y], [a])


@pytest.mark.parametrize(("a", "x", "slope"), SLOPES)
def test_the_slope_of_an_incomplete_gamma_function_in_its_order(a, x, slope):
    order = hx.tensor(a, dtype="float64", requires_grad=True)
    (g,) = gradients([hx.special.gammainc(order, x)], [order])
    assert g.item() == pytest.approx(slope, rel=1e-10, abs=1e-14)
    (g,) = gradients([hx.special.gammaincc(order, x)], [order])
    assert g.item() == pytest.approx(-slope, rel=1e-10, abs=1e-14)


def test_the_slope_in_the_order_at_the_edges():
    a = hx.tensor([1.0, 1.0, 1.0, -1.0, 1e9, 3.0], dtype="float64", requires_grad=True)
    x = hx.tensor([0.0, np.inf, np.nan, 1.0, 5.0, 1e9], dtype="float64")
    (g,) = gradients([hx.special.gammainc(a, x).sum()], [a])
    np.testing.assert_array_equal(g.numpy(), [0, 0, np.nan, np.nan, 0, 0])


def test_derivatives_lead_from_one_function_to_the_next():
    x = hx.tensor([0.7, 3.5], dtype="float64")
    first = hx.grad(lambda t: hx.gammaln(t).sum())
    second = hx.grad(lambda t: first(t).sum())
    third = hx.grad(lambda t: second(t).sum())
    np.testing.assert_allclose(first(x).numpy(), hx.digamma(x).numpy(), rtol=1e-15)
    np.testing.assert_allclose(second(x).numpy(), hx.special.polygamma(1, x).numpy(), rtol=1e-15)
    np.testing.assert_allclose(third(x).numpy(), hx.special.polygamma(2, x).numpy(), rtol=1e-15)


def test_bessel_functions_solve_their_equations():
    """x^2 y'' + x y' + (+-x^2 - v^2) y = 0."""
    x = hx.tensor([0.3, 1.7, 9.0], dtype="float64")
    for function, side in ((hx.special.jv, 1), (hx.special.iv, -1)):
        for v in (0, 1, 2, 4):
            slope = hx.grad(lambda t, v=v, f=function: f(v, t).sum())
            curve = hx.grad(lambda t, slope=slope: slope(t).sum())
            y = function(v, x)
            rest = x * x * curve(x) + x * slope(x) + (side * x * x - v * v) * y
            assert np.abs((rest / (x * x * y)).numpy()).max() < 1e-11


def test_an_entropy_is_infinitely_steep_at_0_unless_nobody_asks():
    p = hx.tensor([0.0, 0.5], requires_grad=True)
    hx.special.entr(p).sum().backward()
    np.testing.assert_allclose(p.grad.numpy(), [np.inf, np.log(2) - 1], rtol=1e-6)
    p.grad = None
    (hx.special.entr(p) * hx.tensor([0.0, 1.0])).sum().backward()
    np.testing.assert_allclose(p.grad.numpy(), [0, np.log(2) - 1], rtol=1e-6)


def test_orders_that_would_never_end_are_refused():
    x = hx.ones((2,))
    for call in (
        lambda: hx.special.polygamma(10**30, x),
        lambda: hx.special.multigammaln(x, 10**30),
        lambda: hx.special.jv(10**30, x),
    ):
        with pytest.raises(ValueRangeError, match="is outside"):
            call()
