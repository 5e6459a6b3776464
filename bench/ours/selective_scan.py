"""The selective scan in helixml."""

import helixml as hx
from bench.ours import job


@job
def selective_scan(u, delta, A, B, C, D):
    return hx.selective_scan(u, delta, A, B, C, D)
