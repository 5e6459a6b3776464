"""The training loop of a byte-level language model, from a configuration to a run folder.

`Trainer` holds model, optimizer and data and does one step or one measurement at a time; it knows
no files. `train` and `resume` drive it: they write the run folder, save checkpoints, stop when
asked to, and give a `Result`. A run that was killed and resumed ends with the same weights, bit
for bit, as one that was left alone: a step depends on the checkpoint's content and the step's
number, and on nothing else.

Read next: run.py (the folder), checkpoint.py, config.py, and data/byte_dataset.py.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import helixml as hx
from helixml import optim
from helixml.data import ByteDataset, TrainingWindows
from helixml.errors import CheckpointError, ConfigError, DataError, DivergedError, HelixError
from helixml.nn import Module
from helixml.random import Rng
from helixml.training.byte_model import make_model
from helixml.training.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from helixml.training.config import TrainConfig
from helixml.training.interrupt import Interrupt
from helixml.training.long_sequences import loss_in_chunks
from helixml.training.run import Metrics, Run
from helixml.training.sampling import sample_bytes
from helixml.training.update import Update

__all__ = ["DivergedError", "Reporter", "Result", "Trainer", "resume", "train"]

TIMED_STEPS: Final = 20


class Reporter(Protocol):
    """What a run tells while it goes on; the command line draws its progress bar with it."""

    def begin(self, folder: Path, done: int, steps: int) -> None:
        """Training starts at step ``done`` of ``steps``."""

    def step(self, metrics: Metrics) -> None:
        """Take note of a step's figures."""

    def note(self, text: str) -> None:
        """Something happened that is worth a line."""


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes
    ----------
    folder : the run folder.
    step, steps : the last step done, and how many there are.
    held_out_bits_per_byte : at the end of the run; None if it was interrupted.
    sample : bytes drawn from the trained model.
    step_seconds, held_out_seconds, sample_seconds : time of the steps (of all parts of a resumed
        run), of the measurement at the end, and of the sample.
    interrupted : number of the signal that stopped the run, 0 if none did.
    """

    folder: Path
    step: int
    steps: int
    held_out_bits_per_byte: float | None = None
    sample: bytes = b""
    step_seconds: float = 0.0
    held_out_seconds: float = 0.0
    sample_seconds: float = 0.0
    interrupted: int = 0


class Trainer:
    """Model, optimizer and data of a run, and how far it has come.

    Parameters
    ----------
    config : the settings; ``run.bytes``, ``run.seconds`` and ``run.steps`` play no part here.
    dataset : the text.
    steps : how many steps there will be; the learning rate depends on it.
    """

    def __init__(self, config: TrainConfig, dataset: ByteDataset, steps: int) -> None:
        if config.data.chunk and config.optim.precision != "float32":
            raise ConfigError(
                f"train: data.chunk={config.data.chunk} needs optim.precision='float32', not "
                f"{config.optim.precision!r}. Hint: set one of them back."
            )
        self.config = config
        self.dataset = dataset
        self.steps = steps
        self.rng = Rng(config.run.seed)
        self.model = make_model(config, self.rng.fork("model"))
        self.windows = TrainingWindows(
            dataset,
            context=config.data.context,
            batch_size=config.data.batch_size,
            rng=self.rng.fork("data"),
        )
        self.optimizer = _optimizer(self.model, config)
        self.update = Update(
            self.model,
            self.optimizer,
            partial(_next_byte, chunk=config.data.chunk),
            clip_norm=config.optim.clip_norm or None,
            precision=config.optim.precision,
            recompute=config.run.activations == "recomputed",
            captured=True,
        )
        self.learning_rate = optim.WarmupCosine(
            config.optim.lr,
            min(config.optim.warmup_steps, steps // 10),
            steps,
            config.optim.final_ratio,
        )
        self.step = 0
        self.seconds = 0.0
        self.best = math.inf
        self.metrics: Metrics = {}  # of the last step

    def train_step(self) -> Metrics:
        """Train on the next batch.

        Raises
        ------
        DivergedError : loss or gradient is not finite; the weights are those before the step.
        """
        started = time.perf_counter()
        config = self.config
        lr = self.learning_rate(self.step)
        try:
            figures = self.update.step([self.windows.batch(self.step)], lr)
        except DivergedError as error:
            raise DivergedError(
                f"train: {error} at step {self.step + 1} (learning rate {lr:.2e}). "
                "Hint: lower optim.lr or optim.clip_norm; checkpoints are from before this step."
            ) from error
        self.step += 1
        self.seconds += time.perf_counter() - started
        self.metrics = {
            "step": self.step,
            "bytes": self.step * config.data.batch_size * config.data.context,
            "loss": figures.loss,
            "bits_per_byte": figures.loss / math.log(2),
            "lr": lr,
            "grad_norm": figures.grad_norm,
            "seconds": round(self.seconds, 6),
        }
        if self.update.scaler is not None:
            self.metrics |= {"scale": self.update.scaler.factor, "skipped": figures.skipped}
        return self.metrics

    def held_out_bits_per_byte(self, stop: Callable[[], bool] = lambda: False) -> float | None:
        """Measure the model on the whole held-out text; None if ``stop`` said so meanwhile."""
        data = self.config.data
        nats = 0.0
        windows = self.dataset.held_out(window=data.held_out_window, batch_size=data.held_out_batch)
        self.model.eval()
        with hx.no_grad():
            for inputs, targets in windows:
                if stop():
                    break
                loss = hx.cross_entropy(self.model(inputs), targets)
                nats += loss.item() * targets.size
        self.model.train()
        return None if stop() else nats / self.dataset.held_out_bytes / math.log(2)

    def sample(self, count: int) -> bytes:
        """Draw ``count`` bytes that follow a newline."""
        stream = sample_bytes(
            self.model,
            b"\n",
            temperature=self.config.run.sample_temperature,
            rng=self.rng.fork("sample"),
        )
        return bytes(itertools.islice(stream, count))

    def state(self) -> dict[str, Any]:  # Any: a tree as checkpoint.py describes
        """Return everything that the next steps depend on."""
        scaler = self.update.scaler
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": hx.random.default_rng().state,
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "metrics": self.metrics,
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go back to a state that `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.update.scaler is not None:
            self.update.scaler.load_state_dict(state["scaler"])
        hx.random.default_rng().load_state(state["rng"])
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.best = state["best"]
        self.metrics = state["metrics"]


def train(
    config: TrainConfig, *, out: Path | None = None, reporter: Reporter | None = None
) -> Result:
    """Train a byte-level language model and leave a run folder.

    Parameters
    ----------
    config : what to train; start from ``TrainConfig.from_preset("small")``.
    out : the run folder, new or empty; default: ``runs/<preset>-<date>-<number>``.
    reporter : is told of every step.

    Returns
    -------
    Result. Its ``interrupted`` is set if Ctrl-C or SIGTERM came; a checkpoint is then saved.

    Raises
    ------
    ConfigError : ``out`` is not empty, or the model's settings do not fit together.
    DataError : the text is missing, empty or shorter than the context.
    DivergedError : the loss is not finite; the last checkpoint remains.
    FileError : the disk is full or the folder cannot be written.

    Examples
    --------
    >>> config = TrainConfig.from_preset("tiny").updated({"run.steps": 100})
    >>> result = train(config, out=Path("my-run"))  # doctest: +SKIP
    """
    settings = config.run
    by_time = bool(settings.seconds and not settings.steps)
    steps = settings.bytes // (config.data.batch_size * config.data.context)
    steps = TIMED_STEPS if by_time else settings.steps or max(1, steps)
    dataset = open_dataset(config)
    trainer = Trainer(config, dataset, steps)
    run = Run.create(out, name=config.preset)  # only now: a bad text leaves no folder behind
    if by_time:
        # The timed steps are thrown away: their learning rates depend on the number sought here.
        trainer = Trainer(config, dataset, _steps_within(settings.seconds, trainer))
    run.write_config(config, trainer.model.config.to_dict(), dataset, trainer.steps)
    return _finish(trainer, run, reporter)


def resume(folder: Path, *, reporter: Reporter | None = None) -> Result:
    """Go on with the run in ``folder`` from its last checkpoint, with its own settings.

    Raises
    ------
    ConfigError : there is no run in ``folder``.
    CheckpointError : the checkpoint is damaged, of another model or of a newer version.
    DataError : the text is not the one that the run began with.
    """
    run = Run.open(folder)
    record = run.read_config()
    dataset = open_dataset(record.config)
    if dataset.sha256() != record.sha256:
        raise DataError(
            f"resume: the text ({dataset.name}) is not the one that the run began with. "
            "Hint: put the old text back, or train anew."
        )
    trainer = Trainer(record.config, dataset, record.steps)
    if has_checkpoint(run.checkpoint):
        state = load_checkpoint(run.checkpoint)
        try:
            trainer.load_state(state)
        except (HelixError, KeyError, TypeError) as error:
            what = str(error).partition(" Hint: ")[0]
            raise CheckpointError(
                f"resume: the checkpoint in {run.checkpoint} is of another model: {what} "
                "Hint: restore config.json and checkpoint/ from the same run."
            ) from error
    run.keep_metrics(before=trainer.step)
    return _finish(trainer, run, reporter)


def open_dataset(config: TrainConfig) -> ByteDataset:
    if config.data.text:
        return ByteDataset.from_files([Path(text) for text in config.data.text])
    return ByteDataset.plays()


def _next_byte(
    model: Callable[[hx.Tensor], hx.Tensor],
    batch: Any,  # Any: a pair
    chunk: int,
) -> hx.Tensor:
    inputs, targets = batch
    if 0 < chunk < inputs.shape[1]:
        return loss_in_chunks(model, inputs, targets, chunk=chunk)
    loss: hx.Tensor = hx.cross_entropy(model(inputs), targets)
    return loss


def _steps_within(seconds: float, trainer: Trainer) -> int:
    """Time the trainer's steps and tell how many fit into the rest of ``seconds``."""
    times: list[float] = []
    while len(times) < trainer.steps and sum(times) < seconds / 2:
        trainer.train_step()
        times.append(trainer.seconds - sum(times))
    return max(1, int((seconds - sum(times)) / statistics.median(times)))


def _optimizer(model: Module, config: TrainConfig) -> optim.AdamW:
    """Return AdamW that decays what its layers say should decay: matrices, mostly."""
    settings = config.optim
    return optim.AdamW(
        optim.decay_groups(model.parameters(), settings.weight_decay),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
    )


def _finish(trainer: Trainer, run: Run, reporter: Reporter | None) -> Result:
    """Train to the last step, measure, sample, and write what a run leaves behind."""
    reporter = reporter or _Silent()
    data = trainer.config.data
    reporter.begin(run.folder, trainer.step, trainer.steps)
    reporter.note(
        f"{sum(weight.size for weight in trainer.model.parameters()):,} parameters, "
        f"{trainer.steps:,} steps of {data.batch_size} x {data.context} bytes of "
        f"{trainer.dataset.name}, run folder {run.folder}"
    )
    with Interrupt() as interrupt:
        held_out_seconds = _loop(trainer, run, reporter, interrupt)
    if interrupt:
        return Result(
            run.folder,
            trainer.step,
            trainer.steps,
            step_seconds=trainer.seconds,
            interrupted=interrupt.signal,
        )
    started = time.perf_counter()
    sample = trainer.sample(trainer.config.run.sample_bytes)
    sample_seconds = time.perf_counter() - started
    if not run.plot():
        reporter.note("no loss.png: matplotlib is missing; pip install 'helixml[plot]' brings it")
    run.save_weights("model", trainer.model.state_dict())
    return Result(
        run.folder,
        trainer.step,
        trainer.steps,
        trainer.metrics["held_out_bits_per_byte"],
        sample,
        trainer.seconds,
        held_out_seconds,
        sample_seconds,
    )


def _loop(trainer: Trainer, run: Run, reporter: Reporter, interrupt: Interrupt) -> float:
    """Do the steps that are left; return the time of the last measurement.

    A checkpoint is saved between a step and the writing of its line, so a resumed run begins by
    measuring, if that is due, and by writing the line of the checkpoint's step.
    """
    settings = trainer.config.run
    saved = time.monotonic()
    held_out_seconds = 0.0
    while True:
        last = trainer.step == trainer.steps
        if trainer.step:
            if last or (settings.evaluate_every and trainer.step % settings.evaluate_every == 0):
                if last:
                    reporter.note(f"measuring on {trainer.dataset.held_out_bytes:,} held-out bytes")
                started = time.perf_counter()
                _measure(trainer, run, interrupt)
                held_out_seconds = time.perf_counter() - started
            if interrupt:
                save_checkpoint(run.checkpoint, trainer.state())
                return held_out_seconds
            run.append_metrics(trainer.metrics)
            reporter.step(trainer.metrics)
        if last:
            return held_out_seconds
        trainer.train_step()
        if trainer.step == trainer.steps or time.monotonic() - saved >= settings.checkpoint_seconds:
            save_checkpoint(run.checkpoint, trainer.state())
            saved = time.monotonic()


def _measure(trainer: Trainer, run: Run, interrupt: Interrupt) -> None:
    """Add the held-out figure to the step's metrics, and keep the weights if it is the best."""
    figure = trainer.held_out_bits_per_byte(stop=lambda: bool(interrupt))
    if figure is None:
        return
    trainer.metrics["held_out_bits_per_byte"] = figure
    if figure < trainer.best:
        trainer.best = figure
        run.save_weights("best", trainer.model.state_dict())


class _Silent:
    """A reporter that says nothing."""

    def begin(self, folder: Path, done: int, steps: int) -> None: ...
    def step(self, metrics: Metrics) -> None: ...
    def note(self, text: str) -> None: ...
