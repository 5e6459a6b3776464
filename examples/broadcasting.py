"""Broadcasting: how tensors of different shapes combine, and what that means for gradients.

Shapes are compared from the last axis; sizes must be equal, or one of them 1 or missing.
Run it with ``python examples/broadcasting.py``. Every value that it prints is checked with NumPy.
"""

import numpy as np

import helixml as hx


def show(what, result, expected):
    """Print shape and values of a result and check them against NumPy's."""
    print(f"{what}: shape {result.shape}, values {result.tolist()}")
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


rows = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], dtype=np.float32)
bias = np.array([10.0, 20.0, 30.0], dtype=np.float32)
column = np.array([[100.0], [200.0]], dtype=np.float32)
x, b, c = hx.tensor(rows), hx.tensor(bias), hx.tensor(column)

# A bias (3,) meets every row of (2, 3); a column (2, 1) meets every column; both make (2, 3).
show("rows + bias", x + b, rows + bias)
show("rows + column", x + c, rows + column)
show("column + bias", c + b, column + bias)

# Adding axes: (3,) becomes (3, 1), and the product with (3,) is the table of all products.
table = hx.expand_dims(b, 1) * b
show("all products", table, bias[:, None] * bias)
show("with None", b[:, None] * b, bias[:, None] * bias)

# Taking axes of size 1 away again: the mean of each row, kept as (2, 1) to subtract it, then (2,).
mean = hx.mean(x, axis=1, keepdims=True)
show("centred rows", x - mean, rows - rows.mean(axis=1, keepdims=True))
show("means", hx.squeeze(mean, axis=1), rows.mean(axis=1))

# Batches: leading axes of matrices broadcast too. (2, 1, 3) @ (3, 2) is two products.
batch = hx.reshape(x, (2, 1, 3))
weight = np.arange(6.0, dtype=np.float32).reshape(3, 2)
show("a batch of products", batch @ hx.tensor(weight), rows.reshape(2, 1, 3) @ weight)

# Gradients: what was repeated going forward is summed going back. The bias meets two rows.
b.requires_grad = True
(hx.tensor(rows) * b).sum().backward()
show("gradient of the bias", b.grad, rows.sum(axis=0))

# What does not fit is an error that says why.
try:
    x + hx.ones((2,))
except hx.errors.ShapeError as error:
    print(f"error: {error}")
    assert "axis -1 has sizes 2 and 3" in str(error)
