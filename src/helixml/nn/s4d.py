"""S4D: a diagonal state space for each channel, run as a convolution or as a recurrence."""

from __future__ import annotations

import math

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.nn import hippo
from helixml.nn.parameter import Parameter
from helixml.nn.state_space import (
    ChannelSystems,
    check_discretisation,
    check_sizes,
    complex_normal,
    diagonal,
    discretise,
    log_time_steps,
    to_complex,
    to_pairs,
    wide,
)

__all__ = ["S4D", "start"]


def start(init: str, d_state: int) -> hx.Tensor:
    """Return the starting diagonal of A, one of each conjugate pair.

    Parameters
    ----------
    init : "lin", A_n = -1/2 + i pi n; "inv", A_n = -1/2 + i N/pi (N/(2n + 1) - 1); "real",
        A_n = -(n + 1); "legs", the eigenvalues of HiPPO-LegS without its low-rank part.
    d_state : int, even, N; n runs to N/2 - 1.

    Returns
    -------
    Tensor, (N/2,), complex128.

    Raises
    ------
    ValueRangeError : the name is unknown.

    References
    ----------
    Gu et al. 2022, "On the parameterization and initialization of diagonal state space models",
    section 4: S4D-Lin, S4D-Inv, S4D-Real and S4D-LegS.
    """
    n = hx.arange(d_state // 2, dtype="float64")
    if init == "lin":
        return -0.5 + 1j * math.pi * n
    if init == "inv":
        return -0.5 + 1j * (d_state / math.pi * (d_state / (2 * n + 1) - 1))
    if init == "real":
        return -(n + 1) + 0j
    if init == "legs":
        return hippo.nplr("legs", d_state)[0]
    raise ValueRangeError(f"S4D: init={init!r} is unknown. Hint: 'lin', 'inv', 'real' or 'legs'.")


class S4D(ChannelSystems):
    """A diagonal state space for each channel: h' = A h + B x, y = 2 Re(C h) + D x.

    Parameters
    ----------
    features : int, d, channels.
    d_state : int, even, N; n = N/2 conjugate pairs of states for each channel.
    init : "lin", "inv", "real" or "legs", where A starts; see `start`.
    discretisation : "zoh" or "bilinear".
    dt_min, dt_max : range of the starting step sizes, in tokens.
    rng : the stream for starting values.

    Attributes
    ----------
    log_dt : Parameter, (d,), logarithms of step sizes.
    log_A_real, A_imag : Parameters, (d, n): A = -exp(log_A_real) + i A_imag, which never explodes.
    B, C : Parameters, (d, n, 2), real and imaginary parts; B starts at 1, or with "legs" at
        HiPPO's.
    D : Parameter, (d,).

    Notes
    -----
    Sequences may have any length. The kernel costs O(d n l) operations, and O(d n sqrt l) memory.

    References
    ----------
    Gu et al. 2022, "On the parameterization and initialization of diagonal state space models",
    sections 3 and 4. Names are those of the authors' standalone layer, which has no B.

    Examples
    --------
    >>> import helixml as hx
    >>> layer = hx.nn.S4D(3, d_state=8, rng=hx.random.Rng(0))
    >>> x = hx.random.Rng(1).normal((2, 5, 3))
    >>> y, state = layer.chunk(x[:, :4], layer.init_state(2))
    >>> y_t, state = layer.step(x[:, 4], state)
    >>> bool(abs(layer(x)[:, 4] - y_t).max() < 1e-5)
    True
    """

    def __init__(
        self,
        features: int,
        d_state: int = 64,
        *,
        init: str = "lin",
        discretisation: str = "zoh",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        rng: hx.random.Rng | None = None,
    ) -> None:
        check_sizes("S4D", features, d_state, dt_min, dt_max)
        check_discretisation("S4D", discretisation)
        A = start(init, d_state)
        B = hippo.nplr("legs", d_state)[2] if init == "legs" else hx.ones_like(A)
        rng = rng or hx.random.default_rng()
        self.log_dt = Parameter(log_time_steps(features, dt_min, dt_max, rng), decay=False)
        self.C = Parameter(complex_normal((features, d_state // 2), rng))
        self.D = Parameter(rng.normal((features,)), decay=False)
        self.log_A_real = self._in_each(hx.log(-hx.real(A)))
        self.A_imag = self._in_each(hx.imag(A))
        self.B = self._in_each(to_pairs(B))
        self.discretisation = discretisation

    def _continuous(self) -> tuple[hx.Tensor, hx.Tensor]:
        """Return A, (d, n), complex, and dt, (d, 1)."""
        A = diagonal(self.log_A_real, self.A_imag)
        return A, hx.expand_dims(hx.exp(wide(self.log_dt)), 1)

    def _discrete(self) -> tuple[hx.Tensor, hx.Tensor]:
        """Return A and B of the recurrence, (d, n), complex."""
        A, dt = self._continuous()
        return discretise(A, to_complex(self.B), dt, self.discretisation)

    def _powers(self, exponents: hx.Tensor) -> hx.Tensor:
        """Return A of the recurrence to these powers, (d, n, m)."""
        powers: hx.Tensor
        if self.discretisation == "zoh":
            A, dt = self._continuous()  # more exact than powers of a rounded exp(dt A)
            powers = hx.exp(hx.expand_dims(dt * A, -1) * exponents)
        else:
            powers = hx.expand_dims(self._discrete()[0], -1) ** exponents
        return powers

    def _tables(self, length: int) -> tuple[hx.Tensor, hx.Tensor]:
        """Return powers 0, ..., m - 1 and 0, m, 2 m, ...: products of both reach ``length``."""
        m = math.isqrt(max(length - 1, 0)) + 1
        return self._powers(self._steps(m)), self._powers(m * self._steps(-(-length // m)))

    def _sums(self, c: hx.Tensor, length: int) -> hx.Tensor:
        """Return 2 Re sum_n c_n A_n^t for each t < length: (..., d, n) to (..., d, length)."""
        if self.discretisation == "zoh":
            A, dt = self._continuous()
            y: hx.Tensor = hx.exponential_sum(to_pairs(2 * c), to_pairs(dt * A), length=length)
            return y
        fine, coarse = self._tables(length)
        left = (hx.expand_dims(c, -1) * coarse).mT  # (..., d, rows, n)
        y = 2 * (hx.real(left) @ hx.real(fine) - hx.imag(left) @ hx.imag(fine))
        return y.reshape(*c.shape[:-1], y.shape[-2] * y.shape[-1])[..., :length]

    def kernel(self, length: int) -> hx.Tensor:
        """Return K_t = 2 Re sum_n C_n B_n A_n^t of the discrete system, (d, length)."""
        return self._sums(to_complex(self.C) * self._discrete()[1], length)

    def free(self, h: hx.Tensor, length: int) -> hx.Tensor:
        """Return y_t = 2 Re sum_n C_n A_n^(t+1) h_n, (b, d, length)."""
        return self._sums(to_complex(self.C) * self._discrete()[0] * h, length)

    def absorb(self, u: hx.Tensor, h: hx.Tensor) -> hx.Tensor:
        """Return A^l h + sum_j A^j B u_(l-1-j), the state after u, (b, d, l)."""
        b, d, l = u.shape
        fine, coarse = self._tables(l)
        m, rows = fine.shape[2], coarse.shape[2]
        newest_first = hx.pad(hx.flip(u, axis=2), ((0, 0), (0, 0), (0, rows * m - l)))
        parts = newest_first.reshape(b, d, rows, m) @ fine.mT  # (b, d, rows, n)
        heard = hx.sum(parts * coarse.mT, axis=2) * self._discrete()[1]
        after: hx.Tensor = self._powers(self._steps(l + 1)[l:])[..., 0] * h + heard
        return after

    def advance(self, h: hx.Tensor, u_t: hx.Tensor) -> hx.Tensor:
        """Return A h + B u_t of the discrete system, (b, d, n)."""
        A, B = self._discrete()
        after: hx.Tensor = A * h + B * hx.expand_dims(u_t, -1)
        return after
