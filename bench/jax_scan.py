"""The selective scan: how fast beside `jax.lax.scan`, compiled by JAX?"""

from bench.selective_scan import cases

__all__ = ["PEER", "cases"]

PEER = "JAX"
