"""Optimizers, schedules, clipping and compression of gradients, on the public functions alone."""

from helixml.optim.clip import clip_grad_norm, clip_grad_value
from helixml.optim.compression import Compressor, EightBit, Message, TopK
from helixml.optim.methods import SGD, AdamW
from helixml.optim.optimizer import Optimizer
from helixml.optim.schedules import WarmupCosine

__all__ = [
    "SGD",
    "AdamW",
    "Compressor",
    "EightBit",
    "Message",
    "Optimizer",
    "TopK",
    "WarmupCosine",
    "clip_grad_norm",
    "clip_grad_value",
]
