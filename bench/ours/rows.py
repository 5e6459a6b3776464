"""Ops over rows in helixml."""

import helixml as hx
from bench.ours import job


@job
def rms_norm(x, weight):
    return hx.rms_norm(x, weight, eps=1e-6)


@job
def layer_norm(x, weight, bias):
    return hx.ops.layer_norm(x, weight, bias, eps=1e-5)


@job
def softmax(x):
    return hx.softmax(x)


@job
def add_rms_norm(x, residual, weight):
    return hx.rms_norm(x, weight, eps=1e-6, residual=residual)[0]


@job
def cross_entropy(logits, target):
    return hx.cross_entropy(logits, target)
