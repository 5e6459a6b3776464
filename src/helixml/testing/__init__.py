"""Testing: the op harness, and gradient checks for your own functions.

`harness` turns what every op says of itself into checks; `check_gradients` compares the derivatives
of any function of tensors with difference quotients; `assert_close` compares results; the package
`cuemu` runs CUDA kernels without a GPU. Loaded when first used.
"""

from helixml.testing.closeness import assert_close
from helixml.testing.gradcheck import check_gradients

__all__ = ["assert_close", "check_gradients"]
