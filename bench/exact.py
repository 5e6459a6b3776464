"""Elementwise functions and their derivatives in long double: what results are measured by.

Each function takes arrays of long double and returns a list: the value, then the derivative by each
operand. Where terms of the derivative cancel, so that near its zero no digit can be right, it is a
pair: the number, and the sum of the terms' sizes. Nothing here knows who is measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WIDE = np.longdouble
DIGITS_TO_SPARE = np.finfo(WIDE).nmant > np.finfo(np.float64).nmant + 8
PI = 4 * np.arctan(WIDE(1))
# erfc is summed up to here, and a continued fraction beyond; so many terms leave out 1e-20.
SERIES_END, TERMS = 1.0, 300

Exact = list[Any]  # of arrays, and of pairs of arrays


def exp(x: np.ndarray) -> Exact:
    y = np.exp(x)
    return [y, y]


def expm1(x: np.ndarray) -> Exact:
    return [np.expm1(x), np.exp(x)]


def log(x: np.ndarray) -> Exact:
    return [np.log(x), 1 / x]


def log1p(x: np.ndarray) -> Exact:
    return [np.log1p(x), 1 / (1 + x)]


def sqrt(x: np.ndarray) -> Exact:
    return [np.sqrt(x), 0.5 / np.sqrt(x)]


def tanh(x: np.ndarray) -> Exact:
    return [np.tanh(x), 1 / np.cosh(x) ** 2]


def sigmoid(x: np.ndarray) -> Exact:
    s = 1 / (1 + np.exp(-x))
    return [s, s / (1 + np.exp(x))]


def softplus(x: np.ndarray) -> Exact:
    return [np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 1 / (1 + np.exp(-x))]


def silu(x: np.ndarray) -> Exact:
    s, other = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))
    return [x * s, (s * (1 + x * other), s * (1 + np.abs(x) * other))]


def gelu(x: np.ndarray) -> Exact:
    share = _erfc(-x * np.sqrt(WIDE(0.5)), bell(x, 0.5)) / 2
    growth = x * bell(x, 0.5) / np.sqrt(2 * PI)
    return [x * share, (share + growth, share + np.abs(growth))]


def erf(x: np.ndarray) -> Exact:
    far = np.sign(x) * (1 - _erfc(np.abs(x), bell(x)))
    return [np.where(np.abs(x) < SERIES_END, _erf_near(x, bell(x)), far), 2 / np.sqrt(PI) * bell(x)]


def silu_gate(x: np.ndarray, gate: np.ndarray) -> Exact:
    return _gate(x, *silu(gate))


def gelu_gate(x: np.ndarray, gate: np.ndarray) -> Exact:
    return _gate(x, *gelu(gate))


def _gate(x: np.ndarray, value: np.ndarray, slope: tuple[np.ndarray, np.ndarray]) -> Exact:
    return [x * value, value, (x * slope[0], np.abs(x) * slope[1])]


def bell(x: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Return exp(-factor x**2). The square is taken in two parts, of which the larger is exact."""
    first = x.astype(np.float32).astype(WIDE)
    return np.exp(-factor * first * first) * np.exp(-factor * (x - first) * (x + first))


def _erfc(x: np.ndarray, bell: np.ndarray) -> np.ndarray:
    """Return bell / sqrt(pi) / (x + 1/2 / (x + 1 / (x + 3/2 / (x + ...)))), or 1 - erf(x)."""
    size = np.maximum(np.abs(x), SERIES_END)
    fraction = size
    for n in range(TERMS, 0, -1):
        fraction = size + WIDE(0.5) * n / fraction
    far = bell / np.sqrt(PI) / fraction
    return np.where(np.abs(x) < SERIES_END, 1 - _erf_near(x, bell), np.where(x > 0, far, 2 - far))


def _erf_near(x: np.ndarray, bell: np.ndarray) -> np.ndarray:
    """Return 2 bell / sqrt(pi) sum_n 2**n x**(2n+1) / (2n+1)!!, whose terms all have one sign."""
    x = np.clip(x, -SERIES_END, SERIES_END)
    term = total = x
    for n in range(1, 40):
        term = term * (2 * x * x) / (2 * n + 1)
        total = total + term
    return 2 / np.sqrt(PI) * bell * total
