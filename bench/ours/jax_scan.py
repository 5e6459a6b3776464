"""The selective scan in helixml."""

from bench.ours.selective_scan import selective_scan

__all__ = ["selective_scan"]
