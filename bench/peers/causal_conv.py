"""The causal convolution in PyTorch: padded on both ends, the tail cut off."""

from torch.nn import functional

from bench.peers.pytorch import job


@job
def causal_conv(x, weight, bias, activation):
    channels, taps = weight.shape
    y = functional.conv1d(x, weight[:, None], bias, padding=taps - 1, groups=channels)
    y = y[..., : x.shape[-1]]
    return functional.silu(y) if activation else y
