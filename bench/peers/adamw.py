"""AdamW in PyTorch, in its fused form."""

import torch

from bench.peers import pytorch  # noqa: F401  sets the threads


def adamw(values, gradients):
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in values]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1, fused=True)

    def run():
        optimizer.step()
        return parameters

    run()  # the first step makes the state
    return run, None
