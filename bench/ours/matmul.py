"""Matrix products in helixml."""

from bench.ours import job


@job
def matmul(x, w):
    return x @ w.mT
