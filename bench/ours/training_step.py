"""Steps of the main job, as the trainer does them."""

import numpy as np

from helixml.training import TrainConfig, Trainer
from helixml.training.trainer import open_dataset


def training_step(size):
    config = TrainConfig.from_preset("small")
    assert (config.data.batch_size, config.data.context) == tuple(size)
    trainer = Trainer(config, open_dataset(config), steps=1_000_000)
    # Products with a weight: one forward, two backward. The convolution's taps are no matrix.
    weights = [
        parameter.size
        for name, parameter in trainer.model.named_parameters()
        if name.endswith("weight") and parameter.ndim == 2
    ]
    count = 3 * int(np.prod(size)) * sum(weights)

    def run():
        trainer.train_step()
        return [count]

    return run, None
