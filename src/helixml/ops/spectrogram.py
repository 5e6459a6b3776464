"""Transforms of windows that move along a signal, and back: `stft` and `istft`.

Read `fourier` first. Public under `helixml.fft`.
"""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.samples import Failure, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.creation import asarray, zeros
from helixml.ops.elementwise import square
from helixml.ops.fourier import irfft, rfft
from helixml.ops.indexing import take, take_adjoint
from helixml.ops.movement import broadcast_to, cast, concat, matrix_transpose


def _settings(op, n_fft, hop, window, like):
    """Return (n_fft, hop, window), checked, with their defaults."""
    n_fft = dtypes.as_integer(op, "n_fft", n_fft)
    hop = max(n_fft // 4, 1) if hop is None else dtypes.as_integer(op, "hop", hop)
    if n_fft < 1 or not 1 <= hop <= n_fft:
        raise ValueRangeError(f"{op}: n_fft={n_fft}, hop={hop}. Hint: 1 <= hop <= n_fft.")
    if window is None:  # Hann's, of period n_fft, so that shifted ones add up to a constant
        turns = 2 * np.pi * np.arange(n_fft) / n_fft
        narrow = np.float64 if like.dtype in (dtypes.float64, dtypes.complex128) else np.float32
        window = asarray((0.5 - 0.5 * np.cos(turns)).astype(narrow), device=like.device)
    if window.shape != (n_fft,):
        raise ShapeError(f"{op}: window is {window.shape}, n_fft is {n_fft}. Hint: ({n_fft},).")
    if dtypes.kind(window.dtype) == "c":
        raise DTypeError(f"{op}: window must be real, not {window.dtype}.")
    return n_fft, hop, cast(window, dtypes.promote(window.dtype, dtypes.float32))


def _positions(frames, n_fft, hop, like):
    """Return which sample stands where in each frame, (frames, n_fft)."""
    return asarray(hop * np.arange(frames)[:, None] + np.arange(n_fft), device=like.device)


def _padded(x, before, after):
    """Return ``x`` with zeros before and behind it."""
    edges = [zeros((*x.shape[:-1], n), x.dtype, x.device) for n in (before, after)]
    return concat([edges[0], x, edges[1]], axis=-1) if before or after else x


def _float_of(x, window):
    """Return the float dtype in which oracles answer."""
    wide = {np.dtype(np.float64), np.dtype(np.complex128)}
    exact = x.dtype in wide or (window is not None and window.dtype in wide)
    return np.float64 if exact else np.float32


def _stft_oracle(x, n_fft, hop=None, window=None, center=True):
    hop = hop or max(n_fft // 4, 1)
    weights = np.sin(np.pi * np.arange(n_fft) / n_fft) ** 2 if window is None else window
    before = n_fft // 2 if center else 0
    signal = np.zeros((*x.shape[:-1], x.shape[-1] + 2 * before + n_fft))
    signal[..., before : before + x.shape[-1]] = x
    columns, start = [], 0
    while start == 0 or start - hop + n_fft < x.shape[-1] + 2 * before:
        frame = signal[..., start : start + n_fft] * weights
        columns.append(np.fft.fft(frame, axis=-1)[..., : n_fft // 2 + 1])
        start += hop
    kind = np.result_type(_float_of(x, window), np.complex64)
    return np.stack(columns, axis=-1).astype(kind)


def _istft_oracle(y, n_fft, hop=None, window=None, center=True, length=None):
    """Find the signal whose frames are nearest to those of y, by least squares."""
    hop = hop or max(n_fft // 4, 1)
    weights = np.sin(np.pi * np.arange(n_fft) / n_fft) ** 2 if window is None else window
    frames = y.shape[-1]
    rows = np.zeros((frames, n_fft, (frames - 1) * hop + n_fft))
    for t, j in np.ndindex(frames, n_fft):
        rows[t, j, t * hop + j] = weights[j]
    rows = rows.reshape(frames * n_fft, -1)
    wanted = np.fft.irfft(np.swapaxes(y.astype(complex), -1, -2), n_fft)
    signal = wanted.reshape(*y.shape[:-2], frames * n_fft) @ np.linalg.pinv(rows).T
    signal = signal[..., n_fft // 2 :] if center else signal
    length = signal.shape[-1] - (n_fft // 2 if center else 0) if length is None else length
    return signal[..., :length].astype(_float_of(y, window))


@composite(real_only="transform real(x) and imag(x)", oracle=_stft_oracle)
def stft(
    x: Tensor,
    n_fft: int,
    hop: int | None = None,
    window: Tensor | None = None,
    *,
    center: bool = True,
) -> Tensor:
    """Transform moving windows, y_kt = sum_j w_j x_(t hop + j) e^(-2 pi i j k / n_fft).

    Parameters
    ----------
    x : Tensor, (..., l), real numbers.
    n_fft : int, the length of the windows and of the transforms.
    hop : int, samples from one window to the next, at most n_fft; a quarter of it if left out.
    window : Tensor, (n_fft,), w; if left out Hann's, w_j = sin^2(pi j / n_fft).
    center : put n_fft // 2 zeros before and behind ``x``, so that window t has its middle at sample
        t hop. In any case zeros behind fill the last window.

    Returns
    -------
    Tensor, (..., n_fft // 2 + 1, frames), complex.

    Raises
    ------
    ValueRangeError : n_fft < 1, or a hop outside [1, n_fft]. ShapeError : another window.
    DTypeError : ``x`` or the window is complex.

    References
    ----------
    Allen & Rabiner 1977, "A unified approach to short-time Fourier analysis and synthesis".

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.stft(hx.ones((2, 100)), 16).shape
    (2, 9, 26)
    """
    n_fft, hop, window = _settings("stft", n_fft, hop, window, x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ShapeError(f"stft: x is {x.shape}, it must be (..., l) with samples.")
    side = n_fft // 2 if center else 0
    length = x.shape[-1] + 2 * side
    frames = 1 + max(0, -(-(length - n_fft) // hop))
    x = _padded(x, side, side + (frames - 1) * hop + n_fft - length)
    windows = take(x, _positions(frames, n_fft, hop, x), axis=-1)  # (..., frames, n_fft)
    return matrix_transpose(rfft(windows * window))


@composite(oracle=_istft_oracle)
def istft(
    y: Tensor,
    n_fft: int,
    hop: int | None = None,
    window: Tensor | None = None,
    *,
    center: bool = True,
    length: int | None = None,
) -> Tensor:
    """Make a signal of transforms of windows: the inverse of `stft` with the same settings.

    Each window is transformed back and weighted by itself; they are added where they overlap and
    divided by the sum of squared weights there. For what comes from `stft` that is exact, otherwise
    it is the signal whose `stft` is nearest to ``y``.

    Parameters
    ----------
    y : Tensor, (..., n_fft // 2 + 1, frames), complex.
    n_fft, hop, window, center : as they were for `stft`.
    length : int, how many samples are wanted; all that the windows cover if left out.

    Returns
    -------
    Tensor, (..., length), float32 or float64.

    Raises
    ------
    ShapeError : ``y`` has other frequencies, or the windows do not reach as far as ``length``.
    ValueRangeError : no window has weight at some sample; it is lost.

    References
    ----------
    Griffin & Lim 1984, "Signal estimation from modified short-time Fourier transform", eq. 6.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.arange(5) * 1.0
    >>> hx.round(hx.fft.istft(hx.fft.stft(x, 4), 4, length=5))
    tensor([0., 1., 2., 3., 4.])
    """
    n_fft, hop, window = _settings("istft", n_fft, hop, window, y)
    if y.ndim < 2 or y.shape[-2] != n_fft // 2 + 1 or y.shape[-1] == 0:
        raise ShapeError(
            f"istft: y is {y.shape}, it must be (..., {n_fft // 2 + 1}, frames) for n_fft={n_fft}."
        )
    frames = y.shape[-1]
    covered = (frames - 1) * hop + n_fft
    side = n_fft // 2 if center else 0
    if length is None:
        length = covered - 2 * side
    if not 0 <= dtypes.as_integer("istft", "length", length) <= covered - side:
        raise ShapeError(
            f"istft: length={length}, {frames} windows cover {covered - side} samples."
        )
    positions = _positions(frames, n_fft, hop, y)
    windows = irfft(matrix_transpose(y), n_fft) * window  # (..., frames, n_fft)
    total = take_adjoint(windows, positions, axis=y.ndim - 2, size=covered)
    squares = broadcast_to(square(window), (frames, n_fft))
    weight = take_adjoint(squares, positions, axis=0, size=covered)[side : side + length]
    found = weight.detach().numpy()
    lost = np.flatnonzero(found <= 1e-10 * found.max(initial=0))
    if lost.size:
        raise ValueRangeError(
            f"istft: no window has weight at sample {lost[0]}, which is lost. "
            "Hint: center=True, a smaller hop, or a window without zeros."
        )
    return total[..., side : side + length] / weight


for _op in (stft, istft):
    _op.options["exact_dtype"] = False


@stft.samples
def _():
    yield sample((2, 11), n_fft=4)
    yield sample((9,), n_fft=5, hop=2, window=floats(5, low=0.5), center=False)
    yield sample((1, 2, 3), n_fft=8, hop=8)
    yield sample((1,), n_fft=1, hop=1, window=floats(1, low=0.5))
    yield sample((0, 6), n_fft=4)


@istft.samples
def _():
    yield sample((2, 3, 4), n_fft=4)
    yield sample((2, 3, 4), n_fft=4, hop=2, length=5)
    yield sample((3, 4), n_fft=5, hop=2, window=floats(5, low=0.5), center=False, kinds="buif")
    yield sample((0, 3, 2), n_fft=4, length=3)


@stft.errors
def _():
    x = zeros((8,))
    yield Failure(lambda: stft(x, 0), ValueRangeError, r"n_fft=0, hop=1. Hint: 1 <= hop <= n_fft")
    yield Failure(lambda: stft(x, 4, hop=5), ValueRangeError, r"n_fft=4, hop=5")
    yield Failure(lambda: stft(x, 4, window=x), ShapeError, r"window is \(8,\), n_fft is 4")
    z = zeros((4,), "complex64")
    yield Failure(lambda: stft(x, 4, window=z), DTypeError, r"takes real numbers, not complex64")
    yield Failure(lambda: stft(zeros((3, 0)), 4), ShapeError, r"x is \(3, 0\)")
    yield Failure(lambda: stft(z, 4), DTypeError, r"takes real numbers, not complex64")


@istft.errors
def _():
    y = zeros((3, 5))
    yield Failure(lambda: istft(y, 8), ShapeError, r"y is \(3, 5\), it must be \(..., 5, frames\)")
    z = zeros((4,), "complex64")
    yield Failure(lambda: istft(y, 4, window=z), DTypeError, r"window must be real, not complex64")
    yield Failure(lambda: istft(y, 4, length=9), ShapeError, r"length=9, 5 windows cover 6 samples")
    yield Failure(
        lambda: istft(y, 4, center=False), ValueRangeError, r"no window has weight at .* 0"
    )
