"""Minimal: make tensors, compute with them, look at the results.

Run it with ``python examples/minimal.py``. Every value that it prints is checked as well.
"""

import math

import helixml as hx


def show(what, result, expected):
    """Print a result and check it."""
    print(f"{what}: {[round(value, 4) for value in result.tolist()]}")
    assert result.shape == (len(expected),)
    assert all(
        math.isclose(a, b, rel_tol=1e-6) for a, b in zip(result.tolist(), expected, strict=True)
    )


# Tensors are made from numbers, lists or NumPy arrays. Python floats become float32.
x = hx.tensor([1.0, -2.0, 3.0])
y = hx.tensor([10.0, 20.0, 30.0])
show("x", x, [1, -2, 3])
show("y", y, [10, 20, 30])
show("zeros", hx.zeros(3), [0, 0, 0])
show("ones", hx.ones(3), [1, 1, 1])
show("arange", hx.arange(0, 6, 2), [0, 2, 4])

# Arithmetic works element by element; a plain number combines with every element.
show("x + y", x + y, [11, 18, 33])
show("x * y", x * y, [10, -40, 90])
show("x * 2 + 1", x * 2 + 1, [3, -3, 7])
show("square(x)", hx.square(x), [1, 4, 9])

# Two functions of neural networks: ReLU keeps what is positive, SiLU lets it through smoothly.
show("relu(x)", hx.relu(x), [1, 0, 3])
show("silu(x)", hx.silu(x), [v / (1 + math.exp(-v)) for v in (1, -2, 3)])

# What a tensor is.
print(f"shape, dtype, device: {x.shape}, {x.dtype}, {x.device}")
assert (x.shape, str(x.dtype), x.device) == ((3,), "float32", "cpu")
