"""The training step of `transformer`, for its memory."""

from bench.ours.transformer import training_step

__all__ = ["training_step"]
