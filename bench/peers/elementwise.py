"""Elementwise functions in PyTorch."""

import torch
from torch.nn import functional

from bench.peers.pytorch import job


@job
def exp(x):
    return torch.exp(x)


@job
def tanh(x):
    return torch.tanh(x)


@job
def silu(x):
    return functional.silu(x)


@job
def gelu(x):
    return functional.gelu(x)


@job
def silu_gate(x, gate):
    return x * functional.silu(gate)


@job
def gelu_gate(x, gate):
    return x * functional.gelu(gate)
