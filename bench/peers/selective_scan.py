"""The selective scan as a PyTorch loop.

The steps are taken apart with one ``unbind`` before the loop: its backward pass is linear in the
length, that of indexing in every step quadratic.
"""

import torch

from bench.peers.pytorch import job


@job
def selective_scan(u, delta, A, B, C, D):
    steps, step_inputs = delta.permute(2, 0, 1), (delta * u).permute(2, 0, 1)  # (l, b, d)
    decays = torch.exp(steps[..., None] * A).unbind(0)  # l times (b, d, n)
    inputs = (step_inputs[..., None] * B.permute(2, 0, 1)[:, :, None]).unbind(0)
    readers = C.permute(2, 0, 1)[..., None].unbind(0)  # l times (b, n, 1)
    state = torch.zeros_like(inputs[0])
    outputs = []
    for decay, new, reader in zip(decays, inputs, readers, strict=True):
        state = decay * state + new
        outputs.append((state @ reader)[..., 0])
    return torch.stack(outputs, dim=-1) + D[:, None] * u
