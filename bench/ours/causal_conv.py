"""The causal convolution in helixml."""

import helixml as hx
from bench.ours import job


@job
def causal_conv(x, weight, bias, activation):
    return hx.causal_conv1d(x, weight, bias, activation=activation)
