"""helixml's side: public functions only, tape included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import helixml as hx
from bench.turns import cotangent


def job(function: Callable[..., hx.Tensor]) -> Callable[..., Any]:
    """Make a side's function of one of tensors: recorded, and differentiated if ``backward``."""

    def begin(*arrays: np.ndarray, backward: bool, **options: Any) -> Any:
        floats = [array.dtype.kind == "f" for array in arrays]
        tensors = [hx.tensor(a, requires_grad=f) for a, f in zip(arrays, floats, strict=True)]
        leaves = [tensor for tensor, f in zip(tensors, floats, strict=True) if f]
        y = function(*tensors, **options)
        g = hx.tensor(cotangent(y.shape, y.dtype))

        def forward() -> list[Any]:
            return [function(*tensors, **options)]

        def both() -> list[Any]:
            y = function(*tensors, **options)
            y.backward(g)
            return [y, *(leaf.grad for leaf in leaves)]

        def reset() -> None:
            for leaf in leaves:
                leaf.grad = None

        return (both, reset) if backward else (forward, None)

    return begin
