"""A scan and attention side by side on a GPU: their own kernels, and nothing between them.

Each part is projected into an array of its own, as the kernels read it, so that nothing is cut or
turned around. Attention adds what the scan gave to what it stores; its own result is kept only for
the gradient. There, the cotangents of all parts lie side by side for two products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.attention import Attention, takes_heads
from helixml.backends.cuda.kernels.norm import Norm
from helixml.backends.cuda.kernels.parts import Array
from helixml.backends.cuda.kernels.selective_scan import SelectiveScan, takes_states
from helixml.backends.cuda.products import Products
from helixml.backends.dispatch import Kernel

__all__ = ["ScanAttention", "kernels"]


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels."""
    both = ScanAttention(cp)
    return [
        Kernel("scan_attention", both.forward, FLOATS, takes_both, prepares=True),
        Kernel("scan_attention_vjp", both.backward, FLOATS, takes_both),
    ]


def takes_both(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are steps, and both kernels take them."""
    x, _, _, A, out_weight, *_ = inputs
    assert x is not None and A is not None and out_weight is not None
    heads = attributes["heads"]
    # What attention would get: arrays of its shapes, and without their entries
    b, l, d = x.shape
    q = _Shape((b, heads, l, A.shape[0] // heads), x.dtype)
    k = _Shape((b, attributes.get("key_heads") or heads, *q.shape[2:]), x.dtype)
    return (
        d > 0
        and out_weight.size > 0
        and takes_states([x, x, A], {})
        and takes_heads([q, k, k, None, None], {})
    )


class _Shape:
    """Shape and dtype of an array that is not there yet."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.size = shape[0] * shape[1] * shape[2] * shape[3]


class ScanAttention:
    """Both, and their gradient.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._matmul = Products(cp).matmul
        self._norm, self._scan, self._attention = Norm(cp), SelectiveScan(cp), Attention(cp)

    def forward(
        self,
        x: Array,
        norm_weight: Array,
        in_weight: Array,
        A: Array,
        out_weight: Array,
        D: Array | None = None,
        delta_bias: Array | None = None,
        *,
        heads: int,
        key_heads: int | None = None,
        window: int | None = None,
        eps: float = 1e-6,
        recorded: bool = False,
    ) -> tuple[tuple[Array], tuple[Array, ...]]:
        """Return y (b, l, d_out), as `helixml.scan_attention` explains it.

        Returns
        -------
        outputs : y.
        residuals : if the call is recorded, the scales of rows, the normalised input, the seven
            parts, the scan's states, attention's result and logarithms, and the sum of both.
        """
        (b, l, _), (e, n) = x.shape, A.shape
        (normal,), (scales,) = self._norm.rms_norm(x, norm_weight, eps=eps)
        parts = [
            self._matmul(normal.reshape(b * l, -1), weight.T).reshape(b, l, -1)
            for weight in _rows(in_weight, e, n, heads, key_heads)
        ]
        (scanned,), states = self._scan.forward(
            *_for_scan(parts, A, D, delta_bias), delta_softplus=True, recorded=recorded
        )
        width = e // heads
        q, k, v = (_by_heads(part, width) for part in parts[4:])
        added = _by_heads(scanned.transpose(0, 2, 1), width)
        seen, total, logarithms = self._attention.run(
            q, k, v, added, causal=True, window=window, alone=recorded
        )
        total = total.swapaxes(1, 2).reshape(b * l, e)
        y = self._matmul(total, out_weight.T).reshape(b, l, -1)
        if not recorded:
            return (y,), ()
        return (y,), (scales, normal, *parts, *states, seen, logarithms, total)

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        heads: int,
        key_heads: int | None = None,
        window: int | None = None,
        eps: float = 1e-6,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of the seven inputs, None where not needed."""
        cp = self._cp
        x, norm_weight, in_weight, A, out_weight, D, delta_bias = inputs
        (g,) = cotangents
        assert x is not None and A is not None and in_weight is not None and g is not None
        if not residuals:  # recorded where residuals are put away
            _, residuals = self.forward(
                x, norm_weight, in_weight, A, out_weight, D, delta_bias,
                heads=heads, key_heads=key_heads, window=window, eps=eps, recorded=True,
            )  # fmt: skip
        scales, normal, *rest = residuals
        parts, (states, seen, logarithms, total) = rest[:7], rest[7:]
        (b, l, d), (e, _) = x.shape, A.shape
        width, rows = e // heads, b * l
        g = g.reshape(rows, -1)
        dtotal = self._matmul(g, out_weight).reshape(b, l, e)
        scan_inputs = _for_scan(parts, A, D, delta_bias)
        du, ddelta, dA, dB, dC, dD, _, dbias, _ = self._scan.backward(
            (dtotal.transpose(0, 2, 1),),
            [each is not None for each in scan_inputs],
            scan_inputs,
            [states],
            delta_softplus=True,
        )
        pulled = self._attention.backward(
            (_by_heads(dtotal, width),),
            [True] * 3 + [False] * 2,
            [*(_by_heads(part, width) for part in parts[4:]), None, None],
            [seen, logarithms],
            causal=True,
            window=window,
        )
        of_scan: tuple[Array, ...] = (du, ddelta, dB, dC)
        of_attention: tuple[Array, ...] = pulled[:3]
        by_steps = [part.transpose(0, 2, 1) for part in of_scan]
        by_steps += [part.swapaxes(1, 2) for part in of_attention]
        gparts = cp.concatenate([part.reshape(rows, -1) for part in by_steps], axis=1)
        dnormal = self._matmul(gparts, in_weight).reshape(b, l, d)
        dx, dnorm_weight, _ = self._norm.rms_norm_vjp(
            (dnormal,), [needs[0], needs[1], False], [x, norm_weight, None], [scales]
        )
        gradients = (
            dx,
            dnorm_weight,
            self._matmul(gparts.T, normal.reshape(rows, d)) if needs[2] else None,
            dA,
            self._matmul(g.T, total) if needs[4] else None,
            dD,
            dbias,
        )
        return tuple(x if need else None for x, need in zip(gradients, needs, strict=True))


def _rows(weight: Array, e: int, n: int, heads: int, key_heads: int | None) -> list[Array]:
    """Return the rows of u, delta, B, C, q, k and v."""
    keys = (key_heads or heads) * (e // heads)
    found, end = [], 0
    for width in (e, e, n, n, e, keys, keys):
        found.append(weight[end : end + width])
        end += width
    return found


def _for_scan(
    parts: Sequence[Array], A: Array, D: Array | None, delta_bias: Array | None
) -> list[Array | None]:
    """Return the nine inputs of the scan."""
    u, delta, B, C = (part.transpose(0, 2, 1) for part in parts[:4])
    return [u, delta, A, B, C, D, None, delta_bias, None]


def _by_heads(x: Array, width: int) -> Array:
    """Return (b, h, l, width) of (b, l, h width)."""
    return x.reshape(*x.shape[:2], -1, width).swapaxes(1, 2)
