"""Advanced: products of matrices, slices, joining, and a layer trained with two optimizers.

Run it with ``python examples/advanced.py``. Every value that it prints is checked as well.
"""

import helixml as hx


def show(what, result, expected):
    """Print a result and check it."""
    print(f"{what}: {result.tolist()}")
    assert result.tolist() == expected


# Products: two vectors give a number, a matrix and a vector a vector, two matrices a matrix.
v = hx.tensor([1.0, 2.0, 3.0])
m = hx.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
show("v @ v", v @ v, 14.0)
show("m @ v", m @ v, [7.0, 6.0])
show("m @ m.T", m @ m.T, [[5.0, 0.0], [0.0, 9.0]])

# Slices, as in NumPy: rows, columns, steps, backward, and by a condition.
x = hx.arange(12).reshape(3, 4)
show("x[1]", x[1], [4, 5, 6, 7])
show("x[:, 0]", x[:, 0], [0, 4, 8])
show("x[::2, 1:3]", x[::2, 1:3], [[1, 2], [9, 10]])
show("x[-1, ::-1]", x[-1, ::-1], [11, 10, 9, 8])
show("x[x > 8]", x[x > 8], [9, 10, 11])

# Joining along an axis that is there, or along a new one; and the signs of numbers.
a, b = hx.tensor([[1, 2]]), hx.tensor([[3, 4]])
show("concat", hx.concat([a, b], axis=1), [[1, 2, 3, 4]])
show("stack", hx.stack([a, b], axis=0), [[[1, 2]], [[3, 4]]])
show("sign", hx.sign(hx.tensor([-2.5, 0.0, 7.0])), [-1.0, 0.0, 1.0])


def train(make_optimizer, steps):
    """Train a layer on y = x W^T + b; return the layer, the first loss and the last."""
    rng = hx.random.Rng(0)
    inputs = rng.normal((64, 3))
    outputs = inputs @ hx.tensor(WEIGHT).T + hx.tensor(BIAS)
    layer = hx.nn.Linear(3, 2, rng=rng)
    optimizer = make_optimizer(layer.parameters())
    losses = []
    for _ in range(steps):
        loss = hx.mean(hx.square(layer(inputs) - outputs))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer, losses[0], losses[-1]


# A linear layer finds the matrix and the offset that made its data.
WEIGHT = [[1.0, -2.0, 0.5], [1.5, 3.0, -1.0]]
BIAS = [0.25, -0.75]
for name, make_optimizer in {
    "SGD": lambda parameters: hx.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "AdamW": lambda parameters: hx.optim.AdamW(parameters, lr=0.1, weight_decay=0.0),
}.items():
    layer, first, last = train(make_optimizer, steps=200)
    error = hx.max(hx.abs(layer.weight - hx.tensor(WEIGHT))).item()
    print(f"{name}, loss before and after: {first:.3f}, {last:.3f}")
    print(f"{name}, weight found: {[[round(w, 2) for w in row] for row in layer.weight.tolist()]}")
    print(f"{name}, bias found: {[round(w, 2) for w in layer.bias.tolist()]}")
    assert first > 1.0
    assert last < 1e-4
    assert error < 0.005
