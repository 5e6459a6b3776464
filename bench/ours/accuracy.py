"""What is asked for its accuracy, in helixml."""

import helixml as hx
from bench.ours import job
from bench.ours.elementwise import exp, gelu, gelu_gate, silu, silu_gate, tanh
from bench.ours.matmul import matmul
from bench.ours.rows import cross_entropy, layer_norm, rms_norm, softmax
from bench.ours.selective_scan import selective_scan

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

expm1 = job(hx.expm1)
log = job(hx.log)
log1p = job(hx.log1p)
sqrt = job(hx.sqrt)
erf = job(hx.erf)
sigmoid = job(hx.sigmoid)
softplus = job(hx.softplus)
log_softmax = job(hx.log_softmax)
linear_scan = job(hx.linear_scan)
take = job(hx.take)


@job
def linear(x, weight, bias):
    return hx.linear(x, weight, bias, activation="gelu")


@job
def sum_rows(x):
    return hx.sum(x, axis=-1)


@job
def sum_columns(x):
    return hx.sum(x, axis=0)


@job
def causal_conv1d(x, weight, bias):
    return hx.causal_conv1d(x, weight, bias, activation="silu")


@job
def cumulative_sum(x):
    return hx.cumulative_sum(x, axis=-1)


def adamw(parameter, grad, **_):
    return _steps(hx.optim.AdamW, parameter, grad, weight_decay=0.1)


def sgd(parameter, grad, **_):
    return _steps(hx.optim.SGD, parameter, grad, momentum=0.9, weight_decay=0.1)


def _steps(optimizer, value, grad, **options):
    parameter = hx.nn.Parameter(value)
    parameter.grad = hx.tensor(grad)
    steps = optimizer([parameter], lr=0.3, **options)

    def run():
        for _ in range(3):
            steps.step()
        return [parameter]

    return run, None
