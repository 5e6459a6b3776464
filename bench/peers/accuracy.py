"""What is asked for its accuracy, in PyTorch."""

import torch
from torch.nn import functional

from bench.peers.elementwise import exp, gelu, gelu_gate, silu, silu_gate, tanh
from bench.peers.matmul import matmul
from bench.peers.pytorch import job
from bench.peers.rows import cross_entropy, layer_norm, rms_norm, softmax
from bench.peers.selective_scan import selective_scan

__all__ = [
    "cross_entropy",
    "exp",
    "gelu",
    "gelu_gate",
    "layer_norm",
    "matmul",
    "rms_norm",
    "selective_scan",
    "silu",
    "silu_gate",
    "softmax",
    "tanh",
]

expm1 = job(torch.expm1)
log = job(torch.log)
log1p = job(torch.log1p)
sqrt = job(torch.sqrt)
erf = job(torch.erf)
sigmoid = job(torch.sigmoid)


@job
def softplus(x):
    return functional.softplus(x, threshold=1000)  # the exact formula for all x


@job
def linear(x, weight, bias):
    return functional.gelu(functional.linear(x, weight, bias))


@job
def sum_rows(x):
    return x.sum(-1)


@job
def sum_columns(x):
    return x.sum(0)


@job
def log_softmax(x):
    return functional.log_softmax(x, dim=-1)


@job
def causal_conv1d(x, weight, bias):
    channels, taps = weight.shape
    y = functional.conv1d(x, weight[:, None], bias, padding=taps - 1, groups=channels)
    return functional.silu(y[..., : x.shape[-1]])


@job
def linear_scan(a, b):
    steps = [torch.zeros_like(b[..., 0])]
    for decay, new in zip(a.unbind(-1), b.unbind(-1), strict=True):
        steps.append(decay * steps[-1] + new)
    return torch.stack(steps[1:], dim=-1)


@job
def take(x, indices):
    return functional.embedding(indices, x)


@job
def cumulative_sum(x):
    return x.cumsum(-1)


def adamw(parameter, grad, **_):
    return _steps(torch.optim.AdamW, parameter, grad, weight_decay=0.1)


def sgd(parameter, grad, **_):
    return _steps(torch.optim.SGD, parameter, grad, momentum=0.9, weight_decay=0.1)


def _steps(optimizer, value, grad, **options):
    parameter = torch.nn.Parameter(torch.tensor(value))
    parameter.grad = torch.tensor(grad)
    steps = optimizer([parameter], lr=0.3, fused=True, **options)

    def run():
        for _ in range(3):
            steps.step()
        return [parameter]

    return run, None
