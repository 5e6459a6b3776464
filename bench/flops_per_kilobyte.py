"""What does a kilobyte of text cost a Mamba and a Transformer of equal size, in one long context?

FLOPs and bytes of memory traffic of the forward pass over a whole context, divided by its length in
KiB, as the profiler counts them; nothing is timed. Counts are polynomials of the length, of degree
2 at most: three short contexts determine them, a fourth must agree, and long ones are computed.
What attention counts for pairs of which a causal mask hides one is taken off: half of them, but for
the diagonal.
"""

from __future__ import annotations

from fractions import Fraction

import helixml as hx
from bench.turns import Figure

LENGTHS = (1 << 10, 1 << 12, 1 << 15, 1 << 16, 1 << 18)
COUNTED, CHECKED = (256, 512, 1024), 4096
SIZES = {"hidden_size": 192, "num_hidden_layers": 4, "intermediate_size": 512}


class Disagreement(Exception):
    """A count is no polynomial of the length."""


def run(*, quick: bool = False) -> list[Figure]:
    """Count; both models have 1.8 million parameters."""
    rng = hx.random.Rng(0)
    mamba = hx.models.MambaLM(hx.models.MambaConfig(), rng=rng)
    config = hx.models.ByteLMConfig(layer="attention", **SIZES)
    transformer = hx.models.ByteLM(config, rng=rng)
    ours, other = _polynomials(mamba), _polynomials(transformer)
    figures = []
    for name, unit, scale in (("FLOPs", "M", 1e6), ("traffic", "MiB", 2**20)):
        for length in LENGTHS:
            each = [_value(p[name], length) / (length / 1024) / scale for p in (ours, other)]
            what = f"{name} of a KiB in a context of {length >> 10:,} KiB"
            figures.append(Figure.of_rounds(what, "a Transformer", each[:1], each[1:], unit=unit))
    return figures


def _polynomials(model: hx.nn.Module) -> dict[str, list[Fraction]]:
    """Return the coefficients of FLOPs and of bytes, from the constant on."""
    _count(model, CHECKED)  # angles of positions are computed once
    found = [_count(model, length) for length in (*COUNTED, CHECKED)]
    polynomials = {}
    for name in found[0]:
        polynomial = _through([(n, count[name]) for n, count in zip(COUNTED, found, strict=False)])
        if _value(polynomial, CHECKED) != found[-1][name]:
            raise Disagreement(f"{name} at {CHECKED}: {found[-1][name]}, {polynomial} says else.")
        polynomials[name] = polynomial
    return polynomials


def _count(model: hx.nn.Module, length: int) -> dict[str, Fraction]:
    ids = hx.random.Rng(1).integers(0, 256, (1, length))
    with hx.no_grad(), hx.profiler.profile() as p:
        model(ids)
    hidden = sum(call.flops for call in p.calls if call.op == "attention")
    share = Fraction(length - 1, 2 * length)
    return {"FLOPs": p.flops - share * hidden, "traffic": Fraction(p.bytes)}


def _through(points: list[tuple[int, Fraction]]) -> list[Fraction]:
    """Return the coefficients of the polynomial of degree 2 through three points (Lagrange)."""
    total = [Fraction(0)] * 3
    for i, (x, y) in enumerate(points):
        a, b = (other for j, (other, _) in enumerate(points) if j != i)
        scale = Fraction(y) / ((x - a) * (x - b))
        for k, term in enumerate((a * b, -(a + b), 1)):
            total[k] += scale * term
    return total


def _value(polynomial: list[Fraction], x: int) -> float:
    return float(sum(c * x**k for k, c in enumerate(polynomial)))
