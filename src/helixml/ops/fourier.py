"""Discrete Fourier transforms along one axis or several: the array API's ``fft`` extension.

Four primitives: `fft` and `ifft`, each the other's adjoint up to scale, and `rfft` and `irfft`,
likewise but for the frequencies that stand for two. All else is composed of them. Scaling is by
``norm``, so the adjoint of one direction is the other with the opposite ``norm``. Public under
`helixml.fft`. Gradients of complex numbers are dL/dRe + i dL/dIm: that of y = F x is F^H g.

Shifts and frequencies are in `frequencies`, transforms of windows in `spectrogram`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.creation import asarray, zeros
from helixml.ops.elementwise import multiply
from helixml.ops.indexing import part, place
from helixml.ops.numbers import conj

Array = Any  # a raw array of the backend
Norm = Literal["backward", "ortho", "forward"]

_OPPOSITE = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def opposite(op, norm):
    """Return the ``norm`` with which the transform in the other direction has the same scale."""
    if not isinstance(norm, str) or norm not in _OPPOSITE:
        raise ValueRangeError(f"{op}: norm={norm!r:.80}. Hint: {', '.join(map(repr, _OPPOSITE))}.")
    return _OPPOSITE[norm]


def _resized(x, axis, n):
    """Return ``x`` cropped, or padded with zeros behind, to ``n`` entries along ``axis``."""
    size = x.shape[axis]
    if size == n:
        return x
    index = (*(slice(None),) * axis, slice(0, min(n, size)))
    if size > n:
        return part(x, index)
    return place(x, (*x.shape[:axis], n, *x.shape[axis + 1 :]), index)


# Along one axis


def _length(op, n, default):
    """Return the length of a transform."""
    n = default if n is None else dtypes.as_integer(op, "n", n)
    if n < 1:
        raise ShapeError(f"{op}: a transform of length n={n}. Hint: n must be at least 1.")
    return n


def _oracle(name):
    """Return NumPy's function of that name, but integers count as float32."""

    def oracle(x, n=None, axis=-1, norm="backward"):
        exact = x.dtype == np.float64 or x.dtype.kind == "c"
        if x.shape[axis] == 0:
            x = np.zeros((*x.shape[:-1], 1), x.dtype)
        return getattr(np.fft, name)(x if exact else x.astype(np.float32), n, axis, norm)

    return oracle


def _transform(name, documentation, size_of=lambda m: m, real_only=None):
    """Make the primitive of that name; ``size_of`` is its default n."""

    def forward(B, x: Array, n: int | None = None, axis: int = -1, norm: Norm = "backward"):
        if B.dtype_of(x) in dtypes.HALVES:
            x = B.astype(x, dtypes.float32)
        if x.shape[axis] == 0:  # of which NumPy's irfft reads the first number all the same
            shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
            x = B.zeros(shape, dtype=B.dtype_of(x))
        return getattr(B, name)(x, n=n, axis=axis, norm=norm)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = documentation
    op = primitive(forward, dtype="float", real_only=real_only, oracle=_oracle(name))
    op.options["exact_dtype"] = False

    @op.prepare
    def _(x, n, axis, norm):
        opposite(name, norm)
        axis = shapes.normalize_axis(name, axis, x.ndim)
        return {"n": _length(name, n, size_of(x.shape[axis])), "axis": axis, "norm": norm}

    @op.samples
    def _():
        for norm in ("backward", "ortho", "forward"):
            yield sample((3, 4), norm=norm)
        yield sample((3, 5))
        yield sample((5, 3), axis=0, n=4)
        yield sample((2, 3, 2), axis=-2, n=7)
        yield sample((2, 2), axis=0, n=2)
        yield sample((4,), n=1)
        yield sample((0, 3))
        yield sample((2, 0), n=4)

    @op.errors
    def _():
        x = zeros((2, 3))
        yield Failure(lambda: op(x, n=0), ShapeError, rf"{name}: a transform of length n=0")
        yield Failure(lambda: op(x, axis=2), ShapeError, rf"{name}: axis 2 is out of range")
        yield Failure(lambda: op(x, norm="full"), ValueRangeError, rf"{name}: norm='full'")
        yield Failure(lambda: op(zeros(())), ShapeError, r"a scalar has no axes")
        if real_only:
            z = zeros(2, "complex64")
            yield Failure(lambda: op(z), DTypeError, rf"{name}: takes real numbers, not complex64")

    return op


fft = _transform(
    "fft",
    r"""Transform to frequencies, y_k = sum_j x_j e^(-2 pi i j k / n).

    Parameters
    ----------
    x : Tensor, (..., m, ...), numbers, real or complex.
    n : int, the length of the transform: ``x`` is cropped to it, or padded with zeros behind; m if
        left out.
    axis : int.
    norm : "backward" (no scale), "ortho" (1 / sqrt(n)) or "forward" (1 / n).

    Returns
    -------
    Tensor, (..., n, ...), complex: of float64 complex128, of narrower numbers complex64. 16-bit
    floats are computed in float32.

    Raises
    ------
    ShapeError : n < 1, or there is no such axis. ValueRangeError : another ``norm``.

    Notes
    -----
    Gradient: the inverse transform of g, with the same scale; of real ``x`` its real part. Costs
    5 n log2(n) FLOPs for each line, by convention.

    References
    ----------
    Cooley & Tukey 1965, "An algorithm for the machine calculation of complex Fourier series".

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.fft(hx.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor([10.+0.j, -2.+2.j, -2.+0.j, -2.-2.j], dtype=complex64)
    """,
)
ifft = _transform(
    "ifft",
    r"""Transform back from frequencies, y_j = 1/n sum_k x_k e^(2 pi i j k / n).

    Parameters
    ----------
    x : Tensor, (..., m, ...), numbers, real or complex.
    n : int, the length of the transform: ``x`` is cropped to it, or padded with zeros behind; m if
        left out.
    axis : int.
    norm : that of the transform to frequencies, as in `fft`: "backward" scales here, by 1 / n.

    Returns
    -------
    Tensor, (..., n, ...), complex, as from `fft`.

    Raises
    ------
    ShapeError : n < 1, or there is no such axis. ValueRangeError : another ``norm``.

    Notes
    -----
    Gradient: the transform of g to frequencies, with the same scale.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.real(hx.fft.ifft(hx.fft.fft(hx.tensor([1.0, 2.0, 3.0, 4.0]))))
    tensor([1., 2., 3., 4.])
    """,
)
rfft = _transform(
    "rfft",
    r"""Transform real numbers to frequencies; only those up to n / 2, the others are conjugates.

    Parameters
    ----------
    x : Tensor, (..., m, ...), real numbers.
    n : int, the length of the transform: ``x`` is cropped to it, or padded with zeros behind; m if
        left out.
    axis : int.
    norm : "backward", "ortho" or "forward", as for `fft`.

    Returns
    -------
    Tensor, (..., n // 2 + 1, ...), complex, as from `fft`.

    Raises
    ------
    ShapeError : n < 1, or there is no such axis. DTypeError : ``x`` is complex.
    ValueRangeError : another ``norm``.

    Notes
    -----
    Gradient: `irfft` of g with the same scale, where g is halved at the frequencies that `irfft`
    counts twice: all but 0 and, for even n, n / 2. Costs 2.5 n log2(n) FLOPs for each line, by
    convention.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.rfft(hx.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor([10.+0.j, -2.+2.j, -2.+0.j], dtype=complex64)
    """,
    real_only="fft takes complex ones",
)
irfft = _transform(
    "irfft",
    r"""Transform back to real numbers, from the frequencies up to n / 2: the inverse of `rfft`.

    Parameters
    ----------
    x : Tensor, (..., m, ...), numbers; the frequencies that are not there are conjugates of these,
        and the imaginary parts at 0 and, for even n, n / 2 do not count.
    n : int, the length of the result: ``x`` is cropped to n // 2 + 1, or padded with zeros behind;
        2 (m - 1) if left out, which is never odd.
    axis : int.
    norm : "backward", "ortho" or "forward", as for `ifft`.

    Returns
    -------
    Tensor, (..., n, ...), float32 or float64. 16-bit floats are computed in float32.

    Raises
    ------
    ShapeError : n < 1, or there is no such axis. ValueRangeError : another ``norm``.

    Notes
    -----
    Gradient: `rfft` of g with the same scale, doubled but at frequencies 0 and, for even n, n / 2.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.irfft(hx.fft.rfft(hx.tensor([1.0, 2.0, 3.0])), n=3)
    tensor([1., 2., 3.])
    """,
    size_of=lambda m: 2 * (m - 1),
)


def _paired(x, n, axis, factor):
    """Return ``x`` times ``factor`` at the frequencies that stand for two: all but 0 and n / 2."""
    size = x.shape[axis]
    weights = np.ones((size, *(1,) * (x.ndim - axis - 1)), np.float32)  # 1, 2 and 1/2 are exact
    weights[1 : (n + 1) // 2] = factor
    return multiply(x, asarray(weights, device=x.device))


@fft.vjp("x")
def _(g, x_shape, n, axis, norm):
    return _resized(ifft(g, n, axis, _OPPOSITE[norm]), axis, x_shape[axis])


@ifft.vjp("x")
def _(g, x_shape, n, axis, norm):
    return _resized(fft(g, n, axis, _OPPOSITE[norm]), axis, x_shape[axis])


@rfft.vjp("x")
def _(g, x_shape, n, axis, norm):
    g = _paired(g, n, axis, 0.5)
    return _resized(irfft(g, n, axis, _OPPOSITE[norm]), axis, x_shape[axis])


@irfft.vjp("x")
def _(g, x_shape, n, axis, norm):
    g = _paired(rfft(g, n, axis, _OPPOSITE[norm]), n, axis, 2)
    return _resized(g, axis, x_shape[axis])


def flops_of_lines(n, count, real=False):
    """Return the FLOPs of ``count`` transforms of length ``n``: 5 n log2(n) each, half if real."""
    return int((2.5 if real else 5) * n * math.log2(max(n, 1))) * count


fft.flops(lambda out, axis: flops_of_lines(out.shape[axis], out.size // (out.shape[axis] or 1)))
ifft.costs["flops"] = fft.costs["flops"]


@rfft.flops
def _(x, out, n, axis):
    n = x.shape[axis] if n is None else n
    return flops_of_lines(n, out.size // (out.shape[axis] or 1), real=True)


@irfft.flops
def _(out, axis):
    return flops_of_lines(out.shape[axis], out.size // (out.shape[axis] or 1), real=True)


# Of numbers whose transform is real


@composite(oracle=_oracle("hfft"))
def hfft(x: Tensor, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Transform numbers with x_(-j) = conj(x_j), of which half are given, to real frequencies.

    Parameters
    ----------
    x : Tensor, (..., m, ...), numbers at positions 0 to n / 2.
    n : int, the length of the result; 2 (m - 1) if left out.
    axis : int.
    norm : "backward", "ortho" or "forward", as for `fft`.

    Returns
    -------
    Tensor, (..., n, ...), float32 or float64.

    Raises
    ------
    ShapeError : n < 1, or there is no such axis. ValueRangeError : another ``norm``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.hfft(hx.tensor([1.0, 2.0, 3.0]))
    tensor([ 8., -2.,  0., -2.])
    """
    return irfft(conj(x), n, axis, opposite("hfft", norm))


@composite(real_only="ifft takes complex ones", oracle=_oracle("ihfft"))
def ihfft(x: Tensor, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Tensor:
    """Transform back from real frequencies; positions up to n / 2: the inverse of `hfft`.

    Parameters
    ----------
    x : Tensor, (..., m, ...), real numbers.
    n : int, the length of the transform; m if left out.
    axis : int.
    norm : "backward", "ortho" or "forward", as for `ifft`.

    Returns
    -------
    Tensor, (..., n // 2 + 1, ...), complex.

    Raises
    ------
    ShapeError : n < 1, or there is no such axis. DTypeError : ``x`` is complex.
    ValueRangeError : another ``norm``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.real(hx.fft.ihfft(hx.tensor([8.0, -2.0, 0.0, -2.0])))
    tensor([1., 2., 3.])
    """
    return conj(rfft(x, n, axis, opposite("ihfft", norm)))


for _op in (hfft, ihfft):
    _op.options["exact_dtype"] = False
    _op.samples(fft.make_samples)


@hfft.errors
def _():
    yield Failure(lambda: hfft(zeros(1)), ShapeError, r"irfft: a transform of length n=0")
    yield Failure(lambda: hfft(zeros(2), norm=None), ValueRangeError, r"hfft: norm=None")


@ihfft.errors
def _():
    z = zeros(2, "complex64")
    yield Failure(lambda: ihfft(z), DTypeError, r"ihfft: takes real numbers, not complex64")
    yield Failure(lambda: ihfft(zeros(2), norm=1), ValueRangeError, r"ihfft: norm=1")


# Along several axes


def _sizes(op, x, s, axes):
    """Return pairs of an axis and a length or None, in the order of ``axes``."""
    if s is not None:
        s = (s,) if hasattr(s, "__index__") else tuple(s)
        s = [dtypes.as_integer(op, "s", n) for n in s]
    if axes is None:
        axes = range(x.ndim) if s is None else range(-len(s), 0)
    axes = (axes,) if hasattr(axes, "__index__") else tuple(axes)
    found = [shapes.normalize_axis(op, axis, x.ndim) for axis in axes]
    if len(set(found)) != len(found):
        raise ShapeError(f"{op}: axes {axes} repeat an axis.")
    if s is None:
        s = [None] * len(found)
    if len(s) != len(found):
        raise ShapeError(f"{op}: {len(s)} lengths s={tuple(s)} for {len(found)} axes {axes}.")
    if not found:
        raise ShapeError(f"{op}: there are no axes to transform. Hint: x has shape {x.shape}.")
    return [(a, x.shape[a] if n == -1 else n) for a, n in zip(found, s, strict=True)]


def _each(function, x, pairs, norm):
    """Transform one axis after the other."""
    for axis, n in pairs:
        x = function(x, n, axis, norm)
    return x


def _many_oracle(name, default=None):
    """Return NumPy's function of that name, of several axes; see `_oracle`."""

    def oracle(x, s=None, axes=default, norm="backward"):
        exact = x.dtype == np.float64 or x.dtype.kind == "c"
        if axes is None and s is not None:
            axes = tuple(range(-len(s), 0))
        return getattr(np.fft, name)(x if exact else x.astype(np.float32), s, axes, norm)

    return oracle


@composite(oracle=_many_oracle("fftn"))
def fftn(
    x: Tensor,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: Norm = "backward",
) -> Tensor:
    """Transform several axes to frequencies: `fft` along each.

    Parameters
    ----------
    x : Tensor with at least one axis, numbers.
    s : a length for each axis, as n of `fft`; -1 keeps that of ``x``.
    axes : the axes; if left out, all of them, or the last ones if ``s`` is given.
    norm : "backward", "ortho" or "forward".

    Returns
    -------
    Tensor, complex.

    Raises
    ------
    ShapeError : lengths and axes do not match. ValueRangeError : another ``norm``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.real(hx.fft.fftn(hx.ones((2, 2))))
    tensor([[4., 0.],
            [0., 0.]])
    """
    return _each(fft, x, _sizes("fftn", x, s, axes), norm)


@composite(oracle=_many_oracle("ifftn"))
def ifftn(
    x: Tensor,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: Norm = "backward",
) -> Tensor:
    """Transform several axes back from frequencies: `ifft` along each.

    Parameters
    ----------
    x, s, axes, norm : as for `fftn`.

    Returns
    -------
    Tensor, complex.

    Raises
    ------
    ShapeError : lengths and axes do not match. ValueRangeError : another ``norm``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.real(hx.fft.ifftn(hx.tensor([[4.0, 0.0], [0.0, 0.0]])))
    tensor([[1., 1.],
            [1., 1.]])
    """
    return _each(ifft, x, _sizes("ifftn", x, s, axes), norm)


@composite(real_only="fftn takes complex ones", oracle=_many_oracle("rfftn"))
def rfftn(
    x: Tensor,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: Norm = "backward",
) -> Tensor:
    """Transform several axes of real numbers: `rfft` along the last of them, `fft` along the rest.

    Parameters
    ----------
    x : Tensor with at least one axis, real numbers.
    s, axes, norm : as for `fftn`.

    Returns
    -------
    Tensor, complex; the last of the axes has n // 2 + 1 entries.

    Raises
    ------
    ShapeError : lengths and axes do not match. DTypeError : ``x`` is complex.
    ValueRangeError : another ``norm``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.real(hx.fft.rfftn(hx.ones((2, 4))))
    tensor([[8., 0., 0.],
            [0., 0., 0.]])
    """
    *others, (axis, n) = _sizes("rfftn", x, s, axes)
    return _each(fft, rfft(x, n, axis, norm), others, norm)


@composite(oracle=_many_oracle("irfftn"))
def irfftn(
    x: Tensor,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: Norm = "backward",
) -> Tensor:
    """Transform several axes back to real numbers: the inverse of `rfftn`.

    Parameters
    ----------
    x : Tensor with at least one axis, numbers.
    s : a length for each axis; without it the last has 2 (m - 1), as for `irfft`.
    axes, norm : as for `fftn`.

    Returns
    -------
    Tensor, float32 or float64.

    Raises
    ------
    ShapeError : lengths and axes do not match. ValueRangeError : another ``norm``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fft.irfftn(hx.fft.rfftn(hx.ones((1, 4))))
    tensor([[1., 1., 1., 1.]])
    """
    *others, (axis, n) = _sizes("irfftn", x, s, axes)
    return irfft(_each(ifft, x, others, norm), n, axis, norm)


def _of_planes(name, many):
    """Make the transform along two axes, the last ones if not told otherwise."""

    def function(
        x: Tensor,
        s: Sequence[int] | None = None,
        axes: Sequence[int] = (-2, -1),
        norm: Norm = "backward",
    ) -> Tensor:
        return many(x, s, axes, norm)

    function.__name__ = name
    function.__module__ = __name__
    function.__doc__ = f"""Transform planes: `{many.name}` along the last two axes, or others.

    Parameters
    ----------
    x : Tensor with these axes, numbers.
    s, axes, norm : as for `{many.name}`.

    Returns
    -------
    Tensor, as from `{many.name}`.

    Raises
    ------
    ShapeError : lengths and axes do not match. ValueRangeError : another ``norm``.
    """
    oracle = _many_oracle(name, (-2, -1))
    op = composite(function, real_only=many.real_only and "fft2 takes complex ones", oracle=oracle)

    @op.samples
    def _():
        yield sample((2, 3, 4))
        yield sample((3, 2, 4), s=(2, 5), axes=(0, 2), norm="ortho")

    @op.errors
    def _():
        yield Failure(lambda: op(zeros(3)), ShapeError, rf"{many.name}: axis -2 is out of range")

    return op


fft2 = _of_planes("fft2", fftn)
ifft2 = _of_planes("ifft2", ifftn)
rfft2 = _of_planes("rfft2", rfftn)
irfft2 = _of_planes("irfft2", irfftn)


def _several(op):
    """Give samples and error samples of a transform along several axes."""

    @op.samples
    def _():
        yield sample((3, 4))
        yield sample((2, 3, 4), axes=(2, 0), norm="ortho")
        yield sample((2, 3, 4), s=(4, 3), norm="forward")
        yield sample((2, 3, 4), s=(5, -1), axes=(0, -2))
        yield sample((5,), s=(4,), axes=(0,))

    @op.errors
    def _():
        x, name = zeros((2, 3)), op.name
        yield Failure(lambda: op(x, axes=(0, 0)), ShapeError, rf"{name}: axes .* repeat an axis")
        yield Failure(lambda: op(x, s=(2,), axes=(0, 1)), ShapeError, rf"{name}: 1 lengths")
        yield Failure(lambda: op(zeros(())), ShapeError, rf"{name}: there are no axes")
        yield Failure(lambda: op(x, norm="full"), ValueRangeError, r"norm='full'")


for _op in (fftn, ifftn, rfftn, irfftn):
    _several(_op)
for _op in (fftn, ifftn, rfftn, irfftn, fft2, ifft2, rfft2, irfft2):
    _op.options["exact_dtype"] = False
