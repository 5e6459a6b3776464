"""Around Fourier transforms: which frequency stands where, shifts, and transforms to cosines.

Read `fourier` first. Public under `helixml.fft`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, sample
from helixml._core.tensor import Tensor
from helixml.dtypes import DTypeLike
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.arrangement import moveaxis
from helixml.ops.creation import DeviceLike, asarray, zeros
from helixml.ops.fourier import Norm, opposite, rfft
from helixml.ops.movement import cast, concat, reshape, roll, stack
from helixml.ops.numbers import positive, real
from helixml.shapes import Axis

# Which frequency stands where


def fftfreq(
    n: int, *, d: float = 1.0, dtype: DTypeLike = None, device: DeviceLike = None
) -> Tensor:
    """Return the frequencies of `fft`, 0, 1, ... and the negative ones, over n d.

    Parameters
    ----------
    n : int, the length of the transform.
    d : float, the distance of samples in units of time; frequencies are in cycles of that unit.
    dtype : a float dtype; float32 if left out.
    device : where the result lives.

    Returns
    -------
    Tensor, (n,).

    Raises
    ------
    ShapeError : n < 1. ValueRangeError : ``d`` is 0. DTypeError : ``dtype`` is no float.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.fftfreq(4)
    tensor([ 0.  ,  0.25, -0.5 , -0.25])
    """
    return _frequencies("fftfreq", n, d, dtype, device)


def rfftfreq(
    n: int, *, d: float = 1.0, dtype: DTypeLike = None, device: DeviceLike = None
) -> Tensor:
    """Return the frequencies of `rfft`, 0 to n / 2, over n d.

    Parameters
    ----------
    n : int, the length of the transform.
    d : float, the distance of samples in units of time; frequencies are in cycles of that unit.
    dtype : a float dtype; float32 if left out.
    device : where the result lives.

    Returns
    -------
    Tensor, (n // 2 + 1,).

    Raises
    ------
    ShapeError : n < 1. ValueRangeError : ``d`` is 0. DTypeError : ``dtype`` is no float.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.rfftfreq(4, d=0.5)
    tensor([0. , 0.5, 1. ])
    """
    return _frequencies("rfftfreq", n, d, dtype, device)


def _frequencies(name, n, d, dtype, device):
    n = dtypes.as_integer(name, "n", n)
    if n < 1:
        raise ShapeError(f"{name}: a transform of length n={n}. Hint: n must be at least 1.")
    if dtypes.as_number(name, "d", d) == 0:
        raise ValueRangeError(f"{name}: samples at a distance of d={d} have no frequencies.")
    kind = dtypes.default_float if dtype is None else dtypes.parse(dtype)
    if not dtypes.is_floating(kind):
        raise DTypeError(f"{name}: frequencies are floats, not {kind}.")
    try:
        found = getattr(np.fft, name)(n, d)
    except (MemoryError, OverflowError, ValueError) as error:
        raise ShapeError(f"{name}: n={n} is too large: {error}.") from error
    return asarray(found.astype(kind), device=device)


# Shifts


def _shifted(op, x, axes, sign):
    """Return ``x`` moved by half of the size of each of the axes."""
    axes = shapes.normalize_axes(op, axes, x.ndim)
    if not axes:
        return positive(x)
    return roll(x, tuple(sign * (x.shape[axis] // 2) for axis in axes), axis=axes)


def _fftshift_oracle(x, axes=None):
    return np.fft.fftshift(x, axes) if x.ndim else x


@composite(oracle=_fftshift_oracle)
def fftshift(x: Tensor, axes: Axis = None) -> Tensor:
    """Move frequency 0 from the front to the middle, n // 2.

    Parameters
    ----------
    x : Tensor, any shape and dtype.
    axes : int, several, or None for all.

    Returns
    -------
    Tensor, same shape and dtype.

    Raises
    ------
    ShapeError : there is no such axis.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.fftshift(hx.fft.fftfreq(5) * 5)
    tensor([-2., -1.,  0.,  1.,  2.])
    """
    return _shifted("fftshift", x, axes, 1)


def _ifftshift_oracle(x, axes=None):
    return np.fft.ifftshift(x, axes) if x.ndim else x


@composite(oracle=_ifftshift_oracle)
def ifftshift(x: Tensor, axes: Axis = None) -> Tensor:
    """Move frequency 0 from the middle, n // 2, back to the front: the inverse of `fftshift`.

    Parameters
    ----------
    x : Tensor, any shape and dtype.
    axes : int, several, or None for all.

    Returns
    -------
    Tensor, same shape and dtype.

    Raises
    ------
    ShapeError : there is no such axis.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.ifftshift(hx.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]))
    tensor([ 0.,  1.,  2., -2., -1.])
    """
    return _shifted("ifftshift", x, axes, -1)


for _op in (fftshift, ifftshift):

    @_op.samples
    def _():
        yield sample((3, 4))
        yield sample((5, 2), axes=0)
        yield sample((2, 3, 5), axes=(0, -1))
        yield sample((0, 3))
        yield sample(())

    @_op.errors
    def _(op=_op):
        x = zeros((2, 3))
        yield Failure(lambda: op(x, axes=2), ShapeError, r"shift: axis 2 is out of range")
        yield Failure(lambda: op(x, axes=(0, 0)), ShapeError, r"shift: axes \(0, 0\) repeat")


# Cosines


def _cosines_oracle(name):
    def oracle(x, type=2, axis=-1, norm="backward"):
        from scipy import fft

        exact = x.dtype == np.float64
        return getattr(fft, name)(x if exact else x.astype(np.float32), type, None, axis, norm)

    return oracle


def _cosines(op, x, type, axis, norm):
    """Return the transform of type 2 or 3, for "idct" of the other, with the scale of ``norm``.

    Both are sums of cosines of multiples of pi / 2n, and so the real part of a Fourier transform of
    length 4n, of numbers at odd positions for type 2, and read at odd positions for type 3.
    """
    type = dtypes.as_integer(op, "type", type)
    if type not in (2, 3):
        raise ValueRangeError(f"{op}: type={type!r:.80}. Hint: 2 or 3, the inverse of each other.")
    if op == "idct":
        type = 5 - type
    opposite(op, norm)
    axis = shapes.normalize_axis(op, axis, x.ndim)
    n = x.shape[axis]
    if n == 0:
        raise ShapeError(f"{op}: axis {axis} of {x.shape} is empty.")
    if dtypes.kind(x.dtype) != "f" or x.dtype in dtypes.HALVES:
        x = cast(x, dtypes.float32)
    x = moveaxis(x, axis, -1)
    edge = 0.5**0.5 if norm == "ortho" else 1.0  # makes the matrix orthogonal
    scale = {"backward": 2.0, "ortho": (2 / n) ** 0.5, "forward": 1 / n}[norm]
    if type == 2:
        apart = reshape(stack([x * 0, x], axis=-1), (*x.shape[:-1], 2 * n))
        y = real(rfft(apart, 4 * n))[..., :n] * scale
        if norm == "ortho":
            y = concat([y[..., :1] * edge, y[..., 1:]], axis=-1)
    else:
        first = x[..., :1] * (edge if norm == "ortho" else 0.5)
        x = concat([first, x[..., 1:]], axis=-1)
        y = real(rfft(x, 4 * n))[..., 1::2] * scale
    return moveaxis(y, -1, axis)


@composite(real_only="transform real(x) and imag(x)", oracle=_cosines_oracle("dct"))
def dct(x: Tensor, type: Literal[2, 3] = 2, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Transform to cosines, y_k = 2 sum_j x_j cos(pi k (2j + 1) / 2n).

    Parameters
    ----------
    x : Tensor, (..., n, ...), real numbers.
    type : 2, the above, or 3, y_j = x_0 + 2 sum_(k>0) x_k cos(pi k (2j + 1) / 2n).
    axis : int.
    norm : "backward" (no scale), "forward" (1 / 2n) or "ortho", an orthogonal matrix: that of type
        2 is scaled by 1 / sqrt(2n), and its y_0 by 1 / sqrt(2) more; that of type 3 is its
        transpose.

    Returns
    -------
    Tensor, same shape, float32 or float64.

    Raises
    ------
    ShapeError : the axis is empty, or there is none. DTypeError : ``x`` is complex, ``type`` no
    integer. ValueRangeError : another ``type`` or ``norm``.

    References
    ----------
    Ahmed, Natarajan & Rao 1974, "Discrete cosine transform".

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.dct(hx.ones((4,)))
    tensor([8., 0., 0., 0.])
    """
    return _cosines("dct", x, type, axis, norm)


@composite(real_only="transform real(x) and imag(x)", oracle=_cosines_oracle("idct"))
def idct(x: Tensor, type: Literal[2, 3] = 2, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Transform back from cosines: the inverse of `dct` with the same ``type`` and ``norm``.

    Parameters
    ----------
    x : Tensor, (..., n, ...), real numbers.
    type : that of the way there, 2 or 3.
    axis : int.
    norm : that of the way there, as for `dct`.

    Returns
    -------
    Tensor, same shape, float32 or float64.

    Raises
    ------
    ShapeError : the axis is empty, or there is none. DTypeError : ``x`` is complex, ``type`` no
    integer. ValueRangeError : another ``type`` or ``norm``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.idct(hx.tensor([8.0, 0.0, 0.0, 0.0]))
    tensor([1., 1., 1., 1.])
    """
    return _cosines("idct", x, type, axis, opposite("idct", norm))


for _op in (dct, idct):
    _op.options["exact_dtype"] = False

    @_op.samples
    def _():
        for norm in ("backward", "ortho", "forward"):
            for type in (2, 3):
                yield sample((2, 5), type=type, norm=norm)
        yield sample((4, 3), axis=0)
        yield sample((1,))
        yield sample((0, 3))

    @_op.errors
    def _(op=_op):
        x = zeros((2, 0))
        yield Failure(lambda: op(x), ShapeError, r"dct: axis 1 of \(2, 0\) is empty")
        yield Failure(lambda: op(x, type=1), ValueRangeError, r"dct: type=1")
        yield Failure(lambda: op(x, type=2.5), DTypeError, r"dct: type must be an integer, not 2.5")
        yield Failure(lambda: op(x, norm="no"), ValueRangeError, r"dct: norm='no'")
        z = zeros(2, "complex64")
        yield Failure(lambda: op(z), DTypeError, r"dct: takes real numbers, not complex64")
