"""Fourier transforms of complex numbers, and what holds of transforms as such.

What real numbers give is checked by the harness, from the ops' samples.
"""

import numpy as np
import pytest

import helixml as hx
from helixml.autograd import gradients
from helixml.backends import registry
from helixml.errors import DTypeError, ShapeError, ValueRangeError

NORMS = ("backward", "ortho", "forward")
OF_COMPLEX = ("fft", "ifft", "irfft", "hfft")
OF_LINES = (*OF_COMPLEX, "rfft", "ihfft")
DEVICES = ("cpu", "reference", "array_api_strict")


@pytest.fixture(params=DEVICES)
def device(request):
    if registry.available()[request.param] != "ok":
        pytest.skip(registry.available()[request.param])
    return request.param


def numbers(*shape, real=False, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return x if real else x + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [None, 1, 2, 4, 5, 6, 9])
@pytest.mark.parametrize("name", OF_COMPLEX)
def test_lines_of_complex_numbers_are_those_of_numpy(name, n, norm, device):
    x = numbers(5, 3)
    for dtype, bound in (("complex128", 1e-14), ("complex64", 3e-6)):
        y = getattr(hx.fft, name)(hx.asarray(x.astype(dtype), device=device), n, 0, norm)
        goal = getattr(np.fft, name)(x.astype(dtype), n, 0, norm)
        assert y.dtype == goal.dtype
        np.testing.assert_allclose(y.numpy(), goal, rtol=0, atol=bound * np.abs(goal).max() * 4)


@pytest.mark.parametrize("name", ["fftn", "ifftn", "irfftn", "fft2", "ifft2", "irfft2"])
def test_several_axes_of_complex_numbers_are_those_of_numpy(name):
    x = numbers(3, 4, 5)
    for options in ({}, {"s": (4, 4), "axes": (2, 0)}, {"axes": (0, 1), "norm": "ortho"}):
        y = getattr(hx.fft, name)(hx.tensor(x), **options)
        np.testing.assert_allclose(y.numpy(), getattr(np.fft, name)(x, **options), atol=1e-13)


def inner(x, y):
    """The real inner product, of which gradients are made: dL = Re <g, dx>."""
    return float(np.sum(np.real(x) * np.real(y) + np.imag(x) * np.imag(y)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [None, 1, 2, 4, 5, 6, 9])
@pytest.mark.parametrize("name", OF_LINES)
def test_the_gradient_is_the_adjoint(name, n, norm):
    """For a linear map <g, F x> = <F* g, x>; also of the gradient itself, a map of g."""
    for m in (4, 5):
        x = numbers(m, 2, real=name not in OF_COMPLEX)
        point = hx.tensor(np.zeros_like(x), requires_grad=True)
        y = getattr(hx.fft, name)(point, n, 0, norm)
        cotangent = numbers(*y.shape, real=y.dtype == hx.float64, seed=4)
        g = hx.tensor(cotangent, requires_grad=True)
        (pulled,) = gradients([y], [point], cotangents=[g], create_graph=True)
        assert pulled.dtype == point.dtype
        image = getattr(hx.fft, name)(hx.tensor(x), n, 0, norm).numpy()
        assert inner(cotangent, image) == pytest.approx(inner(pulled.numpy(), x))

        (again,) = gradients([pulled], [g], cotangents=[hx.tensor(x)])
        np.testing.assert_allclose(again.numpy(), image, atol=1e-13)


def test_each_inverse_undoes_its_transform():
    x, z = numbers(4, 5, real=True), numbers(4, 5)
    for norm in NORMS:
        for there, back, values in (
            (hx.fft.fft, hx.fft.ifft, z),
            (hx.fft.fftn, hx.fft.ifftn, z),
            (hx.fft.fft2, hx.fft.ifft2, z),
            (hx.fft.dct, hx.fft.idct, x),
        ):
            y = back(there(hx.tensor(values), norm=norm), norm=norm)
            np.testing.assert_allclose(y.numpy(), values, atol=1e-14)
        y = hx.fft.irfft(hx.fft.rfft(hx.tensor(x), norm=norm), n=5, norm=norm)
        np.testing.assert_allclose(y.numpy(), x, atol=1e-14)
        y = hx.fft.hfft(hx.fft.ihfft(hx.tensor(x), norm=norm), n=5, norm=norm)
        np.testing.assert_allclose(y.numpy(), x, atol=1e-14)
        y = hx.fft.irfftn(hx.fft.rfftn(hx.tensor(x), norm=norm), s=(4, 5), norm=norm)
        np.testing.assert_allclose(y.numpy(), x, atol=1e-14)


@pytest.mark.parametrize("integer", [np.uint8, np.asarray, hx.tensor])
def test_the_type_of_a_cosine_transform_may_be_any_integer(integer):
    x = hx.tensor([1.0, 2.0, 4.0])
    for transform in (hx.fft.dct, hx.fft.idct):
        for number in (2, 3):
            found = transform(x, type=integer(number))
            assert np.array_equal(found.numpy(), transform(x, type=number).numpy())


@pytest.mark.parametrize("name", ["fftfreq", "rfftfreq"])
def test_frequencies_are_those_of_numpy(name, device):
    for n in (1, 2, 5, 8):
        found = getattr(hx.fft, name)(n, d=0.1, device=device)
        assert (found.dtype, found.device) == (hx.float32, device)
        np.testing.assert_allclose(found.numpy(), getattr(np.fft, name)(n, 0.1), rtol=1e-6)
    assert getattr(hx.fft, name)(3, dtype=hx.float64).dtype == hx.float64


def test_frequencies_of_nothing_are_refused():
    with pytest.raises(ShapeError, match=r"fftfreq: a transform of length n=0"):
        hx.fft.fftfreq(0)
    with pytest.raises(ShapeError, match=r"rfftfreq: n=1000+ is too large"):
        hx.fft.rfftfreq(10**30)
    assert hx.fft.fftfreq(True).tolist() == [0.0]
    with pytest.raises(ValueRangeError, match=r"rfftfreq: samples at a distance of d=0"):
        hx.fft.rfftfreq(4, d=0)
    with pytest.raises(DTypeError, match=r"fftfreq: frequencies are floats, not int32"):
        hx.fft.fftfreq(4, dtype="int32")
    with pytest.raises(DTypeError, match=r"n must be an integer"):
        hx.fft.fftfreq(1.5)


def test_half_precision_is_computed_in_single():
    x = np.linspace(0, 1, 1000).astype(np.float16)
    y = hx.fft.rfft(hx.tensor(x))
    assert y.dtype == hx.complex64
    goal = np.fft.rfft(x.astype(np.float64))
    np.testing.assert_allclose(y.numpy(), goal, atol=1e-6 * np.abs(goal).max())


# Windows


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("n_fft", "hop"), [(8, 2), (8, 8), (7, 3), (16, 5), (64, 16), (1, 1)])
def test_windows_give_the_signal_back(n_fft, hop, center):
    rng = np.random.default_rng(1)
    for length in (1, 5, 30, 64):
        x = rng.normal(size=(2, length))
        for window in (None, np.ones(n_fft), rng.uniform(0.5, 1, n_fft)):
            if window is None and (hop > n_fft // 2 or not center):
                continue  # Hann's window begins with 0
            y = hx.fft.stft(hx.tensor(x), n_fft, hop, window, center=center)
            back = hx.fft.istft(y, n_fft, hop, window, center=center, length=length)
            np.testing.assert_allclose(back.numpy(), x, atol=1e-12)


def test_a_spectrogram_can_be_learned_through():
    """The energy of all windows is that of the signal, weighted; so is its gradient."""
    x = hx.tensor(np.random.default_rng(2).normal(size=20), requires_grad=True)
    z = hx.fft.stft(x, 8, 2, np.ones(8))
    energy = (hx.square(hx.real(z)) + hx.square(hx.imag(z))).sum(axis=1)
    both_halves = 2 * energy.sum() - energy[0] - energy[4]
    (g,) = gradients([both_halves], [x])
    inside = slice(2, -2)  # four windows reach there
    np.testing.assert_allclose(g.numpy()[inside], 2 * 8 * 4 * x.numpy()[inside], rtol=1e-12)


# Long convolutions


def test_a_long_convolution_does_not_wrap_around():
    u, k = np.zeros((1, 1, 100)), np.zeros((1, 100))
    u[..., -1], k[..., -1] = 1, 1
    assert np.abs(hx.ops.fft_conv(hx.tensor(u), hx.tensor(k)).numpy()).max() < 1e-15


def test_a_long_convolution_is_causal():
    rng = np.random.default_rng(3)
    u = hx.tensor(rng.normal(size=(2, 3, 50)), requires_grad=True)
    y = hx.ops.fft_conv(u, hx.tensor(rng.normal(size=(3, 50))))
    (g,) = gradients([y[..., 20].sum()], [u])
    assert np.abs(g.numpy()[..., 21:]).max() < 1e-13
    assert np.abs(g.numpy()[..., :21]).min() > 1e-9


def test_a_fast_length_has_small_factors_and_is_the_least():
    from helixml.ops.long_convolution import fast_length

    smooth = sorted(2**a * 3**b * 5**c for a in range(12) for b in range(8) for c in range(6))
    for n in range(1, 2000):
        assert fast_length(n) == next(m for m in smooth if m >= n)
