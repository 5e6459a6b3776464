"""Elementwise functions in helixml."""

import helixml as hx
from bench.ours import job


@job
def exp(x):
    return hx.exp(x)


@job
def tanh(x):
    return hx.tanh(x)


@job
def silu(x):
    return hx.silu(x)


@job
def gelu(x):
    return hx.ops.gelu(x)


@job
def silu_gate(x, gate):
    return hx.ops.silu_gate(x, gate)


@job
def gelu_gate(x, gate):
    return hx.ops.gelu_gate(x, gate)
