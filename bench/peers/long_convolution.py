"""The long convolution in PyTorch: transforms of twice the length, and their product."""

import torch

from bench.peers.pytorch import job


@job
def fft_conv(u, k):
    l = u.shape[-1]
    spectra = torch.fft.rfft(u, n=2 * l) * torch.fft.rfft(k, n=2 * l)
    return torch.fft.irfft(spectra, n=2 * l)[..., :l]
