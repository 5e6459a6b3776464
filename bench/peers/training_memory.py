"""The training step of `transformer`, for its memory."""

from bench.peers.transformer import training_step

__all__ = ["training_step"]
