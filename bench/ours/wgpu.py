"""On the device of WebGPU, waited for."""

import numpy as np

import helixml as hx
from helixml import optim
from helixml.backends import registry

DEVICE = "wgpu"


def waited(function, *arrays):
    """Make a side's function of one of tensors on the device."""
    tensors = [hx.tensor(array, device=DEVICE) for array in arrays]
    synchronize = registry.get(DEVICE).synchronize

    def run():
        with hx.no_grad():
            result = function(*tensors)
        synchronize()
        return [result]

    return run, None


def matmul(x, w):
    return waited(lambda x, w: x @ w, x, w)


def selective_scan(*arrays):
    return waited(hx.selective_scan, *arrays)


def training_step(ids, device=DEVICE):
    config = hx.models.MambaConfig(hidden_size=32, num_hidden_layers=2)
    model = hx.models.MambaLM(config, rng=hx.random.Rng(0)).to(device)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    ids = hx.tensor(ids, device=device)

    def run():
        loss = hx.ops.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [np.float32(loss.item())]

    return run, None
