"""How long is a step of the main job, in units of what the machine can do?"""

from __future__ import annotations

import statistics
import time

import numpy as np

import helixml as hx
from helixml.training import TrainConfig, Trainer
from helixml.training.trainer import open_dataset

# Multiply-adds of a byte of the 1.8 M parameter model, forward and backward: three products with
# each weight matrix, the tied output included.
_PRODUCTS = 3


def run(*, quick: bool = False) -> dict[str, float]:
    """Return seconds of a step and of the matrix products that it needs at the probe's rate."""
    config = TrainConfig.from_preset("small")
    trainer = Trainer(config, open_dataset(config), steps=1000)
    weights = sum(p.size for n, p in trainer.model.named_parameters() if n.endswith("weight"))
    flop = 2 * _PRODUCTS * weights * config.data.batch_size * config.data.context
    x = np.ones((4096, 256), np.float32)
    w = np.ones((256, 1024), np.float32)
    big = np.ones(1 << 22, np.float32)
    trainer.train_step()
    steps, rates, adds = [], [], []
    for _ in range(3 if quick else 15):
        start = time.perf_counter()
        trainer.train_step()
        steps.append(time.perf_counter() - start)
        start = time.perf_counter()
        x @ w
        rates.append(2 * 4096 * 256 * 1024 / (time.perf_counter() - start))
        start = time.perf_counter()
        big + big
        adds.append(time.perf_counter() - start)
    step, rate = statistics.median(steps), statistics.median(rates)
    count = 4_000_000 / (config.data.batch_size * config.data.context)
    return {
        "threads": hx.get_num_threads(),
        "seconds a step": step,
        "minutes of the whole job": step * count / 60,
        "sgemm probe, GFLOP/s": rate / 1e9,
        "a + b probe of 16 MiB, ms": statistics.median(adds) * 1e3,
        "step / its matrix products at the probe's rate": step / (flop / rate),
    }
