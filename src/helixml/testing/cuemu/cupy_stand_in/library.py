"""How many kernels a call of CuPy launches: of its own, of cuBLAS, copies and fills.

What gives a view launches none, and most functions launch one. Known better are products of
matrices, for which CuPy copies operands that cuBLAS cannot walk, and lists of addresses where
stacks broadcast; and concatenation, a copy an array. Others that take several, as sorts and large
sums do, count as one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

__all__ = ["launched"]


def launched(name: str, operands: tuple[Any, ...], results: list[np.ndarray]) -> Counter[str]:
    """Return the launches of a call, by name.

    Parameters
    ----------
    name : of the function.
    operands : NumPy's arrays and whatever else it was given.
    results : the new arrays that it returned; a view is not new.

    Examples
    --------
    >>> x, w = np.ones((4, 3, 2)), np.ones((5, 2))
    >>> sorted(launched("matmul", (x, w.T), [x @ w.T]).items())
    [('addresses', 3), ('copy', 1), ('matmul', 1)]
    """
    if not any(result.size for result in results):
        return Counter()
    if name in ("matmul", "dot"):
        return _product(*operands[:2])
    if name in ("concatenate", "concat", "stack"):
        return Counter({name: len(operands[0])})
    return Counter({name: 1})


def _product(x: np.ndarray, y: np.ndarray) -> Counter[str]:
    counts = Counter({"matmul": 1})
    axes = max(x.ndim, y.ndim)
    if axes <= 2:  # cuBLAS takes either order of rows and columns
        copied = [not (a.flags.c_contiguous or a.flags.f_contiguous) for a in (x, y)]
    else:
        copied = [not a.flags.c_contiguous for a in (x, y)]
        stacks = [(1,) * (axes - a.ndim) + a.shape[:-2] for a in (x, y)]
        if stacks[0] != stacks[1]:
            counts["addresses"] = 3 * (axes - 2)
    counts["copy"] = sum(copied)
    return +counts
