"""Optimizers, learning-rate schedules and gradient clipping, on the public functions alone."""

from helixml.optim.clip import clip_grad_norm, clip_grad_value
from helixml.optim.methods import SGD, AdamW
from helixml.optim.optimizer import Optimizer
from helixml.optim.schedules import WarmupCosine

__all__ = ["SGD", "AdamW", "Optimizer", "WarmupCosine", "clip_grad_norm", "clip_grad_value"]
