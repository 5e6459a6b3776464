"""What comparing every op with NumPy's and PyTorch's answers found."""

import numpy as np
import pytest

import helixml as hx
from helixml.errors import DeviceMemoryError, DTypeError, ShapeError

Z = np.array([1 + 2j, -3 + 1j, -900 + 800j, 900 + 1j])


def test_variance_of_complex_numbers_is_real():
    for x in (Z[:2], Z):
        assert hx.var(hx.tensor(x)).dtype == hx.float64
        assert np.isclose(hx.var(hx.tensor(x)).item(), np.var(x))
        assert np.isclose(hx.std(hx.tensor(x)).item(), np.std(x))


def test_sigmoid_of_complex_numbers_keeps_the_imaginary_part():
    expected = [*(1 / (1 + np.exp(-Z[:2]))), 0, 1]  # e^900 is more than a float holds
    assert np.allclose(hx.sigmoid(hx.tensor(Z)).numpy(), expected, rtol=1e-12)


def test_logsumexp_of_complex_numbers_is_the_principal_logarithm():
    x = np.array([8 + 4j, 1 - 3j])
    assert np.isclose(hx.logsumexp(hx.tensor(x)).item(), np.log(np.exp(x).sum()))


def test_softmax_of_nothing_is_nothing():
    for function in (hx.softmax, hx.log_softmax):
        x = hx.zeros((5, 0, 0), dtype="float64")
        x.requires_grad = True
        y = function(x, axis=-1)
        assert y.shape == (5, 0, 0)
        y.sum().backward()
        assert x.grad.shape == (5, 0, 0)


def test_differences_taken_no_times_join_nothing():
    a, b = np.arange(3.0), np.ones(2)
    expected = np.diff(a, n=0, prepend=b, append=b)
    assert (hx.diff(hx.tensor(a), b, b, n=0).numpy() == expected).all()


def test_sum_to_of_a_scalar():
    assert hx.sum_to(hx.tensor(2.0), ()).item() == 2.0


def test_imaginary_parts_are_not_dropped_unasked():
    x = hx.zeros((3,))
    z = hx.tensor(1j)
    for call in (
        lambda: x.__setitem__(0, z),
        lambda: x.at[0].set(1j),
        lambda: x.at[0].add(z),
        lambda: x.assign_(z),
        lambda: hx.full((2,), 1j, dtype="float32"),
        lambda: hx.tensor([1j], dtype="float32"),
        lambda: hx.asarray(np.array([1j]), dtype="int32"),
    ):
        with pytest.raises(DTypeError, match=r"drop the imaginary part.*Hint: real"):
            call()
    assert (x.numpy() == 0).all()
    assert hx.real(z).dtype == hx.float32


@pytest.mark.parametrize(
    ("call", "error", "pattern"),
    [
        (lambda: hx.zeros((2,)).numpy(copy=np.ones(2)), DTypeError, "^numpy: copy must be True"),
        (lambda: hx.asarray([1.0], copy=np.ones(2)), DTypeError, "^asarray: copy must be True"),
        (
            lambda: hx.linspace(0, 1, 3, endpoint=np.ones(2)),
            DTypeError,
            "^linspace: endpoint must be True",
        ),
        (lambda: hx.zeros(b"ab"), DTypeError, "^zeros: a shape is a tuple of integers"),
        (lambda: hx.zeros({3, 2}), DTypeError, "^zeros: a shape is a tuple of integers"),
        (  # a device that has memory of its own says that there is not enough
            lambda: hx.ones((2**20, 2**30)),
            (ShapeError, DeviceMemoryError),
            "^ones: shape .* is too large|^device '(?!cpu').*': not enough memory",
        ),
        (lambda: hx.arange(10**30, dtype="float32"), ShapeError, "^arange: .* is too long"),
        (lambda: hx.linspace(0, 1, 10**30), ShapeError, "^linspace: .* are too many"),
        (lambda: hx.eye(10**30), ShapeError, "^eye: shape .* is too large"),
        (
            lambda: hx.zeros((2,), dtype="bfloat16").assign_(10**30),
            DTypeError,
            "does not fit bfloat16",
        ),
        (
            lambda: hx.astype(hx.zeros((2,)), "int64", device=np.ones(2)),
            hx.errors.DeviceError,
            "is not a device name",
        ),
    ],
)
def test_odd_arguments_get_our_own_errors(call, error, pattern):
    with pytest.raises(error, match=pattern):
        call()


@pytest.mark.parametrize("function", [hx.expm1, hx.elu], ids=["expm1", "elu"])
def test_the_slope_far_below_zero_keeps_its_digits(function):
    x = hx.tensor(-9.0, requires_grad=True)
    function(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp(-9.0), rtol=1e-6)
