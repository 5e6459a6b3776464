"""Training: from a configuration to a run folder with a trained model.

    config = TrainConfig.from_preset("tiny").updated({"run.steps": 100})
    result = train(config)
    print(result.held_out_bits_per_byte, result.folder)

`config` holds the settings, `trainer` the loop, `run` the folder, `checkpoint` what a resume
needs, `sampling` draws text from a model, `interrupt` turns Ctrl-C into a saved checkpoint.
"""

from helixml.training.config import PRESETS, TrainConfig
from helixml.training.sampling import sample_bytes
from helixml.training.trainer import (
    DivergedError,
    Reporter,
    Result,
    Trainer,
    resume,
    train,
)

__all__ = [
    "PRESETS",
    "DivergedError",
    "Reporter",
    "Result",
    "TrainConfig",
    "Trainer",
    "resume",
    "sample_bytes",
    "train",
]
