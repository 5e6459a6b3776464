"""Small recorded ops in PyTorch."""

import numpy as np
import torch
from torch.nn import functional

import bench.peers.pytorch  # noqa: F401  sets the threads
from bench.overhead import CALLS, STEPS_BEFORE


def _job(function):
    def begin(*arrays):
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]

        def run():
            for _ in range(CALLS - 1):
                function(*tensors)
            return [function(*tensors)]

        return run, None

    return begin


indices = torch.arange(4)
chosen = torch.tensor(np.arange(64).reshape(8, 8) % 3 == 0)

add = _job(lambda x, y: x + y)
mul = _job(lambda x, y: x * y)
div = _job(lambda x, y: x / y)
matmul = _job(lambda x, y: x @ y)
maximum = _job(torch.maximum)
concat = _job(lambda x, y: torch.cat([x, y]))
stack = _job(lambda x, y: torch.stack([x, y]))
where = _job(lambda x, y: torch.where(chosen, x, y))
exp = _job(torch.exp)
tanh = _job(torch.tanh)
sqrt = _job(torch.sqrt)
softmax = _job(lambda x: torch.softmax(x, -1))
sum = _job(lambda x: x.sum())
mean = _job(lambda x: x.mean())
cast = _job(lambda x: x.to(torch.float64))
reshape = _job(lambda x: x.reshape(4, 16))
permute_dims = _job(lambda x: torch.permute(x, (1, 0)))
getitem = _job(lambda x: x[2:5])
take = _job(lambda x: torch.index_select(x, 0, indices))
broadcast_to = _job(lambda x: torch.broadcast_to(x, (4, 8, 8)))


def mlp(x, w1, b1, w2, b2):
    parameters = [torch.tensor(array / 8, requires_grad=True) for array in (w1, b1, w2, b2)]
    w1, b1, w2, b2 = parameters
    x, target = torch.tensor(x), torch.tensor(np.arange(len(x)) % 10)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, fused=True)

    def run():
        hidden = functional.linear(x, w1, b1).relu()
        loss = functional.cross_entropy(functional.linear(hidden, w2, b2), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return [loss]

    return run, None


def mlp_captured(x, w1, b1, w2, b2):
    run, reset = mlp(x, w1, b1, w2, b2)
    for _ in range(STEPS_BEFORE):
        run()
    return run, reset
