"""Training: of any module, and of the language model from a configuration to a run folder.

    history = fit(model, (x, y), epochs=10, validation=(x2, y2), folder="my-training")

    config = TrainConfig.from_preset("tiny").updated({"run.steps": 100})
    result = train(config)
    print(result.held_out_bits_per_byte, result.folder)

`fitting` holds the general loop, `update` one step of it, `batches` cuts data, `objective` makes
losses of batches, `callbacks` listen, `checkpoint_store` keeps states. For the language model
`config` holds the settings, `trainer` the loop, `run` the folder, `long_sequences` the loss of
texts that do not fit at once, `sampling` draws text. Both use `checkpoint` for what a resume needs
and `interrupt`, which turns Ctrl-C into a saved checkpoint.
"""

from helixml.training import metrics
from helixml.training.batches import Batches
from helixml.training.callbacks import Callback, LiveCurve, TensorBoard
from helixml.training.checkpoint_store import CheckpointStore
from helixml.training.config import PRESETS, TrainConfig
from helixml.training.curve import plot_png, text_curve
from helixml.training.data_parallel import fit_in_parallel
from helixml.training.early_stopping import EarlyStopping
from helixml.training.fitting import Fit, fit
from helixml.training.history import History
from helixml.training.long_sequences import loss_in_chunks
from helixml.training.rate_finder import LearningRateSearch, find_learning_rate
from helixml.training.recomputation import recomputed
from helixml.training.sampling import sample_bytes
from helixml.training.trainer import (
    DivergedError,
    Reporter,
    Result,
    Trainer,
    resume,
    train,
)
from helixml.training.update import Update

__all__ = [
    "PRESETS",
    "Batches",
    "Callback",
    "CheckpointStore",
    "DivergedError",
    "EarlyStopping",
    "Fit",
    "History",
    "LearningRateSearch",
    "LiveCurve",
    "Reporter",
    "Result",
    "TensorBoard",
    "TrainConfig",
    "Trainer",
    "Update",
    "find_learning_rate",
    "fit",
    "fit_in_parallel",
    "loss_in_chunks",
    "metrics",
    "plot_png",
    "recomputed",
    "resume",
    "sample_bytes",
    "text_curve",
    "train",
]
