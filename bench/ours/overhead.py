"""Small recorded ops in helixml."""

import numpy as np

import helixml as hx
from bench.overhead import CALLS, STEPS_BEFORE


def _job(function):
    def begin(*arrays):
        tensors = [hx.tensor(array, requires_grad=True) for array in arrays]

        def run():
            for _ in range(CALLS - 1):
                function(*tensors)
            return [function(*tensors)]

        return run, None

    return begin


indices = hx.tensor(np.arange(4))
chosen = hx.tensor(np.arange(64).reshape(8, 8) % 3 == 0)

add = _job(lambda x, y: x + y)
mul = _job(lambda x, y: x * y)
div = _job(lambda x, y: x / y)
matmul = _job(lambda x, y: x @ y)
maximum = _job(hx.maximum)
concat = _job(lambda x, y: hx.concat([x, y]))
stack = _job(lambda x, y: hx.stack([x, y]))
where = _job(lambda x, y: hx.where(chosen, x, y))
exp = _job(hx.exp)
tanh = _job(hx.tanh)
sqrt = _job(hx.sqrt)
softmax = _job(hx.softmax)
sum = _job(lambda x: x.sum())
mean = _job(lambda x: x.mean())
cast = _job(lambda x: x.astype(hx.float64))
reshape = _job(lambda x: x.reshape(4, 16))
permute_dims = _job(lambda x: hx.permute_dims(x, (1, 0)))
getitem = _job(lambda x: x[2:5])
take = _job(lambda x: hx.take(x, indices, axis=0))
broadcast_to = _job(lambda x: hx.broadcast_to(x, (4, 8, 8)))


def mlp(x, w1, b1, w2, b2):
    step, x, target = _mlp(x, w1, b1, w2, b2)
    return lambda: [step(x, target)], None


def mlp_captured(x, w1, b1, w2, b2):
    step, x, target = _mlp(x, w1, b1, w2, b2)
    step = hx.capture(step, strict=True)
    for _ in range(STEPS_BEFORE):
        step(x, target)
    return lambda: [step(x, target)], None


def _mlp(x, w1, b1, w2, b2):
    parameters = [hx.nn.Parameter(array / 8) for array in (w1, b1, w2, b2)]
    w1, b1, w2, b2 = parameters
    x, target = hx.tensor(x), hx.tensor(np.arange(len(x)) % 10)
    optimizer = hx.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)

    def step(x, target):
        hidden = hx.ops.linear(x, w1, b1, activation="relu")
        loss = hx.cross_entropy(hx.ops.linear(hidden, w2, b2), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, x, target
