"""Kernels once took integer and boolean operands for floats and wrote past their arrays."""

from __future__ import annotations

import numpy as np
import pytest

import helixml as hx


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64"])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_adamw_never_hands_an_integer_operand_to_the_kernel(
    place: int, dtype: str, request: pytest.FixtureRequest
) -> None:
    if (place, dtype) == (1, "bool"):  # the gradient, which is squared
        request.getfixturevalue("booleans_are_numbers")
    operands = [hx.ones((64,)) for _ in range(4)]
    operands[place] = hx.ones((64,), dtype=dtype)
    arrays = [t._array for t in operands]
    kernels = operands[0]._backend.kernels
    assert kernels.find("adamw_", arrays, {}) is None
    hx.ops.adamw_(*operands, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, step=1)
    assert np.isfinite(operands[0].numpy()).all()


def test_rms_norm_refuses_an_integer_weight() -> None:
    with pytest.raises(hx.errors.DTypeError, match="weight must be a float, not int64"):
        hx.rms_norm(hx.ones((3, 8)), hx.arange(8))
