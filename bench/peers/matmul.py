"""Matrix products in PyTorch."""

from bench.peers.pytorch import job


@job
def matmul(x, w):
    return x @ w.mT
