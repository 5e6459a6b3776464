"""Simple: a model with two parameters, its loss, and the gradient that makes it better.

The model is ``relu(weight * x + bias)``. All numbers are small enough to follow with a pencil.
Run it with ``python examples/simple.py``. Every value that it prints is checked as well.
"""

import math

import helixml as hx


def show(what, result, expected):
    """Print a result and check it."""
    print(f"{what}: {round(result.item(), 4)}")
    assert math.isclose(result.item(), expected, rel_tol=1e-5, abs_tol=1e-6)


class Model(hx.nn.Module):
    """Parameters are attributes; `forward` says how they are used."""

    def __init__(self):
        self.weight = hx.nn.Parameter(2.0)
        self.bias = hx.nn.Parameter(-3.0)

    def forward(self, x):
        """Map each number of x."""
        return hx.relu(self.weight * x + self.bias)


x = hx.tensor([1.0, 2.0, 3.0])
target = hx.tensor([1.0, 1.0, 1.0])
model = Model()

# weight * x + bias is [-1, 1, 3], relu makes it [0, 1, 3], which misses the target by [-1, 0, 2].
prediction = model(x)
print(f"prediction: {prediction.tolist()}")
assert prediction.tolist() == [0.0, 1.0, 3.0]
loss = hx.square(prediction - target).sum()
show("loss", loss, 5.0)

# Backward: the loss changes by 2 * [-1, 0, 2] with the predictions. The first is behind relu's flat
# side and moves with nothing; the others move with the weight by x and with the bias by 1.
loss.backward()
show("gradient of the weight", model.weight.grad, 0 * 2 + 4 * 3)
show("gradient of the bias", model.bias.grad, 0 + 4)

# A step against the gradient makes the loss smaller. It is no part of the model: not recorded.
with hx.no_grad():
    model.weight.assign_(model.weight - 0.05 * model.weight.grad)
    model.bias.assign_(model.bias - 0.05 * model.bias.grad)
show("weight after a step", model.weight, 1.4)
show("bias after a step", model.bias, -3.2)
show("loss after a step", hx.square(model(x) - target).sum(), 2.0)

# The same without a model: hx.grad makes of a function the function that gives its gradient.
slope = hx.grad(hx.silu)
show("slope of silu at 0", slope(0.0), 0.5)
s = 1 / (1 + math.exp(-1.0))
show("slope of silu at 1", slope(1.0), s + s * (1 - s))
