"""Filters that are sums of complex exponentials: run with a constant state, and fitted to taps.

h_j = Re sum_n c_n exp(s_n j) is the impulse response of the diagonal recurrence
x_t = exp(s) x_(t-1) + u_t, y_t = Re sum_n c_n x_t[n]. H3 and distilled Hyena operators run on it.
"""

from __future__ import annotations

import helixml as hx
from helixml.errors import ShapeError, ValueRangeError
from helixml.nn.state_space import to_pairs

__all__ = ["fit_exponentials", "run_exponentials"]

MOST_COLUMNS = 512  # of a Hankel matrix: a singular value decomposition costs rows * columns^2
LEAST_POLE = 1e-12  # in absolute value: gone after a step, and with a logarithm
MOST_GROWTH = 1e6  # of an exponential, from the first tap to the last
LEAST_RANK = 1e-12  # share of the largest singular value below which one is rounding, in a Hankel
LEAST_WEIGHT = 1e-9  # matrix, and in the problem of the weights


def run_exponentials(
    exponents: hx.Tensor, weights: hx.Tensor, u: hx.Tensor, state: hx.Tensor | None
) -> tuple[hx.Tensor, hx.Tensor | None]:
    r"""Filter channels by sums of exponentials, from a state or from nothing.

    Parameters
    ----------
    exponents, weights : Tensor, (d, n), complex: s and c.
    u : Tensor, (b, d, l), float. 16-bit floats are computed, and given back, in float32.
    state : Tensor, (b, d, n, 2), float: real and imaginary parts of x before the first step; or
        None for zeros, and for no state in return.

    Returns
    -------
    y : Tensor, (b, d, l). state : Tensor, (b, d, n, 2), or None.

    Raises
    ------
    ShapeError : the state is of another shape.

    Notes
    -----
    Powers are taken of the exponents, not of one another: they are off by a share of \|s\| l eps.
    With a state they hold d n (l + 1) complex numbers, whatever the batch.
    """
    l = u.shape[2]
    wanted = (u.shape[0], *exponents.shape, 2)
    if state is not None and state.shape != wanted:
        raise ShapeError(
            f"exponential sums: the state is {state.shape}, it must be {wanted}. "
            "Hint: start with init_state(batch)."
        )
    taps = hx.exponential_sum(to_pairs(weights), to_pairs(exponents), length=l)
    y = hx.fft_conv(u, taps)
    if state is None:
        return y, None
    steps = hx.arange(l + 1, dtype=hx.real(exponents).dtype, device=u.device)
    powers = hx.exp(hx.expand_dims(exponents, 2) * steps)  # (d, n, l + 1)
    x = state[..., 0] + 1j * state[..., 1]  # (b, d, n)
    y = y + hx.real(hx.einsum("bdn,dnl->bdl", x * weights, powers[:, :, 1:]))
    arrived = hx.einsum("bdl,dnl->bdn", u, hx.flip(powers[:, :, :l], axis=2))
    x = x * powers[:, :, l] + arrived
    return y, hx.stack([hx.real(x), hx.imag(x)], axis=-1)


def fit_exponentials(taps: hx.Tensor, count: int) -> tuple[hx.Tensor, hx.Tensor]:
    """Fit a sum of ``count`` exponentials to each row of taps.

    Parameters
    ----------
    taps : Tensor, (d, l), float. count : int, n, at most l // 2.

    Returns
    -------
    exponents, weights : Tensor, (d, n), complex128: s and c.

    Raises
    ------
    ValueRangeError : a tap is not finite.

    Notes
    -----
    The Hankel matrix H_ij = h_(i+j) of a sum of n exponentials has rank n, and its columns are
    combinations of the sequences exp(s_n i): moved on by a row they are multiplied by a matrix
    whose eigenvalues are the exp(s_n). So are, nearly, the first n left singular vectors where H is
    of full rank. With the exponents known, the weights are a linear least-squares problem over all
    taps. Computed in float64, in O(d l 512^2) for longer filters.

    Some exponentials may grow, up to a millionfold from the first tap to the last: a filter that is
    cut off at its end is met far better with them, and past the last tap nothing was asked for.

    References
    ----------
    Kung 1978, "A new identification and model reduction algorithm via singular value
    decompositions"; Hua & Sarkar 1990, "Matrix pencil method for estimating parameters of
    exponentially damped/undamped sinusoids in noise", section II.
    """
    wild = int(hx.sum(~hx.isfinite(taps)).item())
    if wild:
        raise ValueRangeError(
            f"exponential sums: {wild} of {taps.size} taps are not finite, there is nothing to fit."
        )
    fits = [_fit(row, count) for row in hx.unstack(taps.detach().astype("float64"))]
    exponents, weights = zip(*fits, strict=True)
    return hx.stack(exponents), hx.stack(weights)


def _fit(taps: hx.Tensor, count: int) -> tuple[hx.Tensor, hx.Tensor]:
    """Return the exponents and weights of one filter, (n,) each."""
    l = taps.shape[0]
    columns = min(l // 2, max(MOST_COLUMNS, 2 * count))
    rows = hx.expand_dims(hx.arange(l - columns + 1, device=taps.device), 1)
    hankel = hx.take(taps, rows + hx.arange(columns, device=taps.device))
    left, sizes, _ = hx.linalg.svd(hankel, full_matrices=False)
    rank = hx.sum(sizes > LEAST_RANK * sizes[0]).item()
    used = max(1, min(count, rank))  # what is behind these is arbitrary, and spoils the fit
    basis = left[:, :used]
    poles = hx.linalg.eigvals(hx.linalg.lstsq(basis[:-1], basis[1:]).solution)
    size = hx.clip(hx.abs(poles), LEAST_POLE, MOST_GROWTH ** (1 / l))
    exponents = hx.log(size) + 1j * hx.atan2(hx.imag(poles), hx.real(poles))
    steps = hx.expand_dims(hx.arange(l, dtype="float64", device=taps.device), 1)
    largest = hx.maximum(size, 1.0) ** (l - 1)  # of each column below: they shall weigh the same
    powers = hx.exp(steps * exponents) / largest  # (l, n)
    fit = hx.linalg.lstsq(powers, taps.astype("complex128"), rtol=LEAST_WEIGHT)
    unused = (0, count - used)
    return hx.pad(exponents, [unused]), hx.pad(fit.solution / largest, [unused])
