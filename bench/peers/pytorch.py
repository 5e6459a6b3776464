"""What all peers in PyTorch share: two threads, and the shape of a measurement."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.turns import DEVICE, cotangent

torch.set_num_threads(2)
torch.set_num_interop_threads(1)
if os.environ.get(DEVICE, "").partition(":")[0] in ("cuda", "xpu", "mps"):
    torch.set_default_device(os.environ[DEVICE])


def job(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    """Make a side's function of one of tensors: recorded, and differentiated if ``backward``."""

    def begin(*arrays: np.ndarray, backward: bool, **options: Any) -> Any:
        tensors = [torch.tensor(array) for array in arrays]
        leaves = [tensor.requires_grad_() for tensor in tensors if tensor.is_floating_point()]
        y = function(*tensors, **options)
        g = torch.tensor(cotangent(tuple(y.shape), arrays[0].dtype))

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
