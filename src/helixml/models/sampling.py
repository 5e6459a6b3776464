"""Which token comes next: the distribution that logits and some rules give, and draws from it.

`Sampling` holds the rules, each of which narrows or bends the distribution. Knows nothing of
models; see `models.generation` for texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import helixml as hx
from helixml.errors import ShapeError, ValueRangeError

__all__ = ["Sampling", "draw", "draw_weighted"]


@dataclass(frozen=True)
class Sampling:
    """Rules that make a distribution of logits, applied in the order in which they stand here.

    Attributes
    ----------
    repetition_penalty : float above 0; the logits of classes seen before are divided by it where
        they are positive and multiplied by it where they are negative.
    temperature : float; divides the logits. 0 takes the most likely class.
    top_k : keep the k most likely classes only; of equal ones the first come first.
    top_p : float in (0, 1]; keep the most likely classes up to the one with which their
        probabilities sum to top_p or more. At least one is kept.
    min_p : float in [0, 1]; keep the classes at least min_p times as likely as the likeliest.

    Raises
    ------
    ValueRangeError : an option has no meaning. DTypeError : it is no number.

    References
    ----------
    Keskar et al. 2019, "CTRL", section 4.1 (repetition; negative logits are divided there too,
    which makes them likelier). Fan et al. 2018, "Hierarchical neural story generation", section 5
    (top k). Holtzman et al. 2020, "The curious case of neural text degeneration", eq. 2 (top p).
    Nguyen et al. 2024, "Turning up the heat: min-p sampling", section 3.

    Examples
    --------
    >>> import helixml as hx
    >>> logits = hx.log(hx.tensor([[0.3, 0.1, 0.6]], dtype="float64"))
    >>> hx.models.Sampling(top_p=0.8).probabilities(logits)
    tensor([[0.33333333, 0.        , 0.66666667]], dtype=float64)
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            if name not in ("top_p", "min_p") or getattr(self, name) is not None:
                hx.dtypes.as_number("draw", name, getattr(self, name))
        if self.top_k is not None:
            hx.dtypes.as_integer("draw", "top_k", self.top_k)
        if not self.temperature >= 0:
            raise ValueRangeError(f"draw: temperature={self.temperature} is negative.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueRangeError(f"draw: top_k={self.top_k} must be at least 1.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueRangeError(f"draw: top_p={self.top_p} must be above 0 and at most 1.")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueRangeError(f"draw: min_p={self.min_p} must be in [0, 1].")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ValueRangeError(
                f"draw: repetition_penalty={self.repetition_penalty} must be above 0 and finite."
            )

    def log_weights(self, logits: hx.Tensor, seen: hx.Tensor | None = None) -> hx.Tensor:
        """Return logits of the distribution, without a graph.

        Parameters
        ----------
        logits : Tensor, (b, v), float.
        seen : Tensor, (b, v), bool, which classes came before, or None: none did.

        Returns
        -------
        Tensor, (b, v), float64; the largest of a row is 0, -inf is a class that is not drawn.

        Raises
        ------
        ShapeError : logits are not (b, v) with at least one class, or seen has another shape.
        ValueRangeError : a row has nan or inf, or no class above -inf.
        """
        with hx.no_grad():
            x, top = self._penalised(logits, seen)
            if self.temperature == 0:
                likeliest = hx.one_hot(hx.argmax(x, axis=-1), x.shape[-1])
                greedy: hx.Tensor = hx.where(likeliest == 1, 0.0, -hx.inf).astype("float64")
                return greedy
            # From the top down: the likeliest stays 0 however low the temperature is.
            x = (x - top) / self.temperature
            if self.top_k is None and self.top_p is None and self.min_p is None:
                return x
            order = hx.argsort(x, axis=-1, descending=True, stable=True)
            rank = hx.argsort(order, axis=-1)  # the place of each class in that order
            if self.top_k is not None:
                x = hx.where(rank < self.top_k, x, -hx.inf)
            if self.top_p is not None:
                p = hx.softmax(hx.take_along_axis(x, order, axis=-1), axis=-1)
                before = hx.cumulative_sum(p, axis=-1) - p  # of the classes that are likelier
                kept = hx.take_along_axis(before < self.top_p, rank, axis=-1)
                x = hx.where(kept, x, -hx.inf)
            if self.min_p is not None:
                x = hx.where(hx.exp(x) >= self.min_p, x, -hx.inf)  # the likeliest has e^0
            return x

    def _penalised(self, logits: hx.Tensor, seen: hx.Tensor | None) -> tuple[hx.Tensor, hx.Tensor]:
        """Return the logits in float64 after the penalty, and the largest of each row, (b, 1)."""
        if logits.ndim != 2 or logits.shape[1] == 0:
            raise ShapeError(f"draw: logits are {logits.shape}, they must be (b, v), v at least 1.")
        if seen is not None and seen.shape != logits.shape:
            raise ShapeError(f"draw: seen is {seen.shape}, logits are {logits.shape}.")
        x: hx.Tensor = logits.astype("float64")
        if seen is not None and self.repetition_penalty != 1:
            penalty = self.repetition_penalty
            x = hx.where(seen, hx.where(x > 0, x / penalty, x * penalty), x)
        top: hx.Tensor = hx.max(x, axis=-1, keepdims=True)
        if not hx.all(hx.isfinite(top)):
            raise ValueRangeError("draw: logits have nan or inf, or a row of nothing but -inf.")
        return x, top

    def probabilities(self, logits: hx.Tensor, seen: hx.Tensor | None = None) -> hx.Tensor:
        """Return the distribution, (b, v), float64; see `log_weights`."""
        p: hx.Tensor = hx.softmax(self.log_weights(logits, seen), axis=-1)
        return p

    def draw(
        self,
        logits: hx.Tensor,
        rng: hx.random.Rng | None = None,
        seen: hx.Tensor | None = None,
    ) -> hx.Tensor:
        """Draw one class for each row, (b,), int64; see `log_weights`."""
        if self.temperature == 0:  # a distribution of one class
            with hx.no_grad():
                drawn: hx.Tensor = hx.argmax(self._penalised(logits, seen)[0], axis=-1)
            return drawn
        return draw_weighted(self.log_weights(logits, seen), rng)


def draw_weighted(log_weights: hx.Tensor, rng: hx.random.Rng | None) -> hx.Tensor:
    """Draw a class of each row with the distribution softmax(log_weights): (b, v) to (b,).

    References
    ----------
    Gumbel 1954: argmax(x - log(-log u)) has the distribution softmax(x).
    """
    u = (rng or hx.random.default_rng()).uniform(log_weights.shape, device=log_weights.device)
    noise = -hx.log(-hx.log(hx.maximum(u.astype("float64"), 1e-20)))
    drawn: hx.Tensor = hx.argmax(log_weights + noise, axis=-1)
    return drawn


def draw(
    logits: hx.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: hx.random.Rng | None = None,
    *,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seen: hx.Tensor | None = None,
) -> hx.Tensor:
    """Draw one class for each row of logits.

    Parameters
    ----------
    logits : Tensor, (b, v).
    temperature, top_k, top_p, min_p, repetition_penalty : see `models.Sampling`.
    rng : the stream to draw from.
    seen : Tensor, (b, v), bool, the classes that the penalty is for, or None: no class.

    Returns
    -------
    Tensor, (b,), int64.

    Raises
    ------
    ShapeError : logits are not (b, v) with at least one class, or seen has another shape.
    ValueRangeError : an option has no meaning.
    """
    rules = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    return rules.draw(logits, rng, seen)
