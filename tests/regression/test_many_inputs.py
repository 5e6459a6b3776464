"""An op of more inputs than a machine word has bits has the right gradients."""

import numpy as np

import helixml as hx


def test_more_inputs_than_bits():
    leaves = [hx.tensor([float(i)], requires_grad=i % 3 != 0) for i in range(100)]
    joined = hx.concat(leaves)
    (joined * hx.arange(100, dtype="float32")).sum().backward()
    for i, leaf in enumerate(leaves):
        if i % 3:
            np.testing.assert_array_equal(leaf.grad.numpy(), [float(i)])
        else:
            assert leaf.grad is None
