"""Runs end to end on a tiny model: what they leave, how they stop, how they go on."""

import errno
import hashlib
import json
import math
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import helixml as hx
from helixml import training
from helixml.errors import CheckpointError, ConfigError, DataError, FileError
from helixml.io import load_arrays, read_json, write_json
from helixml.training import TrainConfig, checkpoint, trainer

STEPS = 6


@pytest.fixture
def text(tmp_path):
    """Write a text of 3,000 bytes."""
    path = tmp_path / "text"
    path.write_bytes(b"To be, or not to be, that is the question.\n" * 70)
    return path


@pytest.fixture
def config(text):
    """Configure the smallest run."""
    return TrainConfig.from_preset("tiny").updated(
        {
            "model.hidden_size": 8,
            "model.num_hidden_layers": 1,
            "model.state_size": 2,
            "data.text": str(text),
            "data.context": 16,
            "data.batch_size": 2,
            "data.held_out_window": 64,
            "run.steps": STEPS,
            "run.checkpoint_seconds": 0.0,
            "run.sample_bytes": 5,
        }
    )


@pytest.fixture(autouse=True)
def no_plot(request, monkeypatch):
    """Draw no picture, which takes longer than the runs here, where it is not the question."""
    if "matplotlib" not in request.node.name:
        monkeypatch.setattr(trainer.Run, "plot", lambda run: True)


class Recorder:
    """A reporter that remembers, and may act at a step."""

    def __init__(self, at=None, action=None):
        self.steps, self.notes, self.at, self.action = [], [], at, action

    def begin(self, folder, done, steps):
        self.begun = (folder, done, steps)

    def step(self, metrics):
        self.steps.append(metrics["step"])
        if metrics["step"] == self.at:
            self.action()

    def note(self, text):
        self.notes.append(text)


def weights_of(folder):
    return hashlib.sha256(Path(folder, "model.safetensors").read_bytes()).hexdigest()


def safetensors_of(folder):
    return load_arrays(folder / "model.safetensors")[0]


def lines_of(folder):
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def interrupted(config, out, at, number=signal.SIGTERM):
    """Train until a signal comes after step ``at``."""
    recorder = Recorder(at, lambda: os.kill(os.getpid(), number))
    return training.train(config, out=out, reporter=recorder)


def test_a_run_leaves_what_the_contract_names(config, tmp_path):
    out, recorder = tmp_path / "run", Recorder()
    result = training.train(config, out=out, reporter=recorder)
    assert {path.name for path in out.iterdir()} - {"loss.png"} == {
        "best.safetensors",
        "checkpoint",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
    }
    assert (result.folder, result.step, result.steps, result.interrupted) == (out, STEPS, STEPS, 0)
    assert len(result.sample) == 5
    assert recorder.steps == list(range(1, STEPS + 1))

    record = read_json(out / "config.json")
    assert record.keys() >= {"model", "training", "data", "seed", "versions"}
    assert (
        record["data"]["sha256"]
        == hashlib.sha256(Path(config.data.text[0]).read_bytes()).hexdigest()
    )
    assert record["training"]["steps"] == STEPS
    assert record["model"]["model_type"] == "mamba"

    lines = lines_of(out)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    keys = {"step", "bytes", "loss", "bits_per_byte", "lr", "grad_norm", "seconds"}
    assert all(line.keys() >= keys for line in lines)
    assert [line["bytes"] for line in lines] == [32 * (i + 1) for i in range(STEPS)]
    assert lines[0]["bits_per_byte"] == pytest.approx(lines[0]["loss"] / math.log(2))
    assert lines[-1]["held_out_bits_per_byte"] == result.held_out_bits_per_byte
    assert all("held_out_bits_per_byte" not in line for line in lines[:-1])


def test_loss_png_is_drawn_where_matplotlib_is_there(config, tmp_path):
    pytest.importorskip("matplotlib")
    training.train(config, out=tmp_path / "run")
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(config, tmp_path, monkeypatch):
    find = trainer.Run.plot.__globals__["importlib"].util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    recorder = Recorder()
    training.train(config, out=tmp_path / "run", reporter=recorder)
    assert any("helixml[plot]" in note for note in recorder.notes)
    assert not (tmp_path / "run" / "loss.png").exists()


def test_the_held_out_figure_counts_every_byte_evenly(config):
    dataset = training.trainer.ByteDataset.from_files([Path(config.data.text[0])])
    model = training.Trainer(config, dataset, STEPS)
    nats = count = 0
    text = dataset.read(dataset.training_bytes, dataset.size).tolist()
    with hx.no_grad():
        for start in range(0, len(text), 64):
            window = text[start : start + 64]
            logits = model.model(hx.tensor([[10, *window[:-1]]])).numpy()[0].astype(np.float64)
            logits -= logits.max(-1, keepdims=True)
            chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            nats -= sum(math.log(row[byte]) for row, byte in zip(chances, window, strict=True))
            count += len(window)
    assert count == dataset.held_out_bytes == 301
    assert model.held_out_bits_per_byte() == pytest.approx(nats / count / math.log(2), rel=1e-5)


def test_training_lowers_the_loss(config, tmp_path):
    config = config.updated({"run.steps": 40, "optim.lr": 1e-2, "optim.warmup_steps": 2})
    training.train(config, out=tmp_path / "run")
    lines = lines_of(tmp_path / "run")
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_a_checkpoint_and_the_resumed_run_ends_with_the_same_bits(
    config, tmp_path, number
):
    whole = training.train(config, out=tmp_path / "whole")
    config = config.updated({"run.checkpoint_seconds": 1e9})
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = interrupted(config, tmp_path / "cut", at=3, number=number)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert (result.interrupted, result.step) == (number, 4)
    assert result.held_out_bits_per_byte is None
    assert not (tmp_path / "cut" / "model.safetensors").exists()

    recorder = Recorder()
    resumed = training.resume(tmp_path / "cut", reporter=recorder)
    assert recorder.begun == (tmp_path / "cut", 4, STEPS)
    assert weights_of(tmp_path / "cut") == weights_of(tmp_path / "whole")
    assert resumed.held_out_bits_per_byte == whole.held_out_bits_per_byte
    assert resumed.sample == whole.sample
    for cut, line in zip(lines_of(tmp_path / "cut"), lines_of(tmp_path / "whole"), strict=True):
        assert cut | {"seconds": 0} == line | {"seconds": 0}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_run_in_16_bits_goes_on_with_the_same_bits(config, tmp_path, precision):
    config = config.updated({"optim.precision": precision})
    training.train(config, out=tmp_path / "whole")
    interrupted(config, tmp_path / "cut", at=3)
    training.resume(tmp_path / "cut")
    assert weights_of(tmp_path / "cut") == weights_of(tmp_path / "whole")
    for folder in ("whole", "cut"):
        lines = lines_of(tmp_path / folder)
        scales = [65536.0] * STEPS if precision == "float16" else []
        assert [line["scale"] for line in lines if "scale" in line] == scales
        assert not any(line.get("skipped") for line in lines)
    saved = safetensors_of(tmp_path / "cut")
    assert {array.dtype.name for array in saved.values()} == {"float32"}


def test_checkpoints_on_the_way_change_no_number(config, tmp_path):
    training.train(config, out=tmp_path / "often")
    never = config.updated({"run.checkpoint_seconds": 1e9})
    training.train(never, out=tmp_path / "never")
    measured = config.updated({"run.evaluate_every": 2})
    training.train(measured, out=tmp_path / "measured")
    assert weights_of(tmp_path / "often") == weights_of(tmp_path / "never")
    assert weights_of(tmp_path / "often") == weights_of(tmp_path / "measured")
    assert ["held_out_bits_per_byte" in line for line in lines_of(tmp_path / "measured")] == [
        False,
        True,
    ] * 3


def test_a_run_without_a_checkpoint_begins_anew(config, tmp_path):
    training.train(config, out=tmp_path / "run")
    before = weights_of(tmp_path / "run")
    (tmp_path / "run" / "checkpoint" / checkpoint.FILE).unlink()
    training.resume(tmp_path / "run")
    assert weights_of(tmp_path / "run") == before
    assert len(lines_of(tmp_path / "run")) == STEPS


def test_resuming_a_finished_run_changes_nothing(config, tmp_path):
    first = training.train(config, out=tmp_path / "run")
    before = weights_of(tmp_path / "run"), lines_of(tmp_path / "run")
    again = training.resume(tmp_path / "run")
    assert (weights_of(tmp_path / "run"), lines_of(tmp_path / "run")) == before
    assert again.held_out_bits_per_byte == first.held_out_bits_per_byte


def test_a_torn_line_and_lines_beyond_the_checkpoint_are_dropped(config, tmp_path):
    interrupted(config, tmp_path / "run", at=3)
    path = tmp_path / "run" / "metrics.jsonl"
    with path.open("ab") as file:
        file.write(b'{"step": 4, "loss": 1.0}\n{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
    training.resume(tmp_path / "run")
    assert [line["step"] for line in lines_of(tmp_path / "run")] == list(range(1, STEPS + 1))
    assert all("lr" in line for line in lines_of(tmp_path / "run"))


def test_leftovers_of_a_killed_save_are_removed(config, tmp_path):
    interrupted(config, tmp_path / "run", at=3)
    for place in ("run", "run/checkpoint"):
        (tmp_path / place / ".state.safetensors.1.helixml-tmp").write_bytes(b"half")
    training.resume(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.helixml-tmp"))


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint(config, tmp_path, monkeypatch):
    whole = training.train(config, out=tmp_path / "whole")
    good = os.fsync
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        good(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        FileError, match=r"checkpoint/state\.safetensors, [\d,]+ bytes: No space left"
    ):
        training.train(config, out=tmp_path / "run")
    monkeypatch.setattr(os, "fsync", good)
    assert checkpoint.load_checkpoint(tmp_path / "run" / "checkpoint")["step"] >= 1
    resumed = training.resume(tmp_path / "run")
    assert weights_of(tmp_path / "run") == weights_of(whole.folder)
    assert resumed.sample == whole.sample


@pytest.mark.parametrize(("factor", "what"), [(math.nan, "loss is nan"), (0.0, "norm of the gr")])
def test_a_step_that_is_not_finite_stops_the_run_and_keeps_the_weights(
    config, tmp_path, monkeypatch, factor, what
):
    cross_entropy, clip = hx.cross_entropy, trainer.optim.clip_grad_norm
    calls = []

    @hx.autograd.uncaptured
    def factor_of_now():
        calls.append(1)
        return hx.tensor(factor if len(calls) == 4 else 1.0)

    def fourth_is_bad(logits, targets):
        return cross_entropy(logits, targets) * factor_of_now()

    def fourth_norm_is_bad(parameters, limit):
        return hx.tensor(math.inf) if len(calls) == 4 else clip(parameters, limit)

    monkeypatch.setattr(hx, "cross_entropy", fourth_is_bad)
    monkeypatch.setattr(trainer.optim, "clip_grad_norm", fourth_norm_is_bad)
    with pytest.raises(training.DivergedError, match=rf"the {what}.* at step 4 .*Hint: lower"):
        training.train(config, out=tmp_path / "run")
    assert [line["step"] for line in lines_of(tmp_path / "run")] == [1, 2, 3]
    state = checkpoint.load_checkpoint(tmp_path / "run" / "checkpoint")
    assert state["step"] == 3
    assert all(np.isfinite(array).all() for array in state["model"].values())


def test_seconds_become_a_number_of_steps_that_is_written_down(config, tmp_path):
    config = config.updated({"run.steps": 0, "run.seconds": 0.5})
    result = training.train(config, out=tmp_path / "run")
    assert read_json(tmp_path / "run" / "config.json")["training"]["steps"] == result.steps >= 1
    assert len(lines_of(tmp_path / "run")) == result.steps


def test_bytes_become_whole_steps(config, tmp_path):
    config = config.updated({"run.steps": 0, "run.bytes": 32 * 3 + 31})
    assert training.train(config, out=tmp_path / "run").steps == 3


def test_runs_are_numbered_by_default(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [training.train(config.updated({"run.steps": 1})).folder for _ in range(2)]
    assert [folder.parent.name for folder in folders] == ["runs", "runs"]
    assert [folder.name[:5] + folder.name[-4:] for folder in folders] == ["tiny--001", "tiny--002"]


def test_metrics_that_cannot_be_written_stop_the_run_with_the_way_on(config, tmp_path):
    recorder = Recorder(1, lambda: None)
    recorder.begin = lambda folder, done, steps: (folder / "metrics.jsonl").mkdir()
    with pytest.raises(FileError, match=r"metrics\.jsonl: .*Hint: .*helixml train --resume"):
        training.train(config, out=tmp_path / "run", reporter=recorder)


def test_a_folder_with_other_things_in_it_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match=r"is not empty\. Hint: choose another --out"):
        training.train(config, out=tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(config, text):
    with pytest.raises(FileError, match="mkdir: "):
        training.train(config, out=text / "run")


def test_a_text_too_short_leaves_no_folder_behind(config, tmp_path):
    with pytest.raises(DataError, match="needs 5001"):
        training.train(config.updated({"data.context": 5000}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resume_wants_a_run_and_its_own_text(config, text, tmp_path):
    with pytest.raises(ConfigError, match="there is no run in"):
        training.resume(tmp_path)
    interrupted(config, tmp_path / "run", at=2)
    text.write_bytes(text.read_bytes() + b"more")
    with pytest.raises(DataError, match="is not the one that the run began with"):
        training.resume(tmp_path / "run")


def test_a_checkpoint_of_another_model_is_refused(config, tmp_path):
    interrupted(config, tmp_path / "run", at=2)
    interrupted(config.updated({"model.hidden_size": 12}), tmp_path / "other", at=2)
    state = tmp_path / "other" / "checkpoint" / checkpoint.FILE
    (tmp_path / "run" / "checkpoint" / checkpoint.FILE).write_bytes(state.read_bytes())
    with pytest.raises(CheckpointError, match=r"is of another model: .*shape.*Hint: restore"):
        training.resume(tmp_path / "run")


def test_a_truncated_checkpoint_is_refused(config, tmp_path):
    interrupted(config, tmp_path / "run", at=2)
    state = tmp_path / "run" / "checkpoint" / checkpoint.FILE
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        training.resume(tmp_path / "run")


def test_a_configuration_of_a_newer_version_or_without_its_parts_is_refused(config, tmp_path):
    interrupted(config, tmp_path / "run", at=1)
    path = tmp_path / "run" / "config.json"
    record = read_json(path)
    write_json(path, record | {"format": 2})
    with pytest.raises(CheckpointError, match="Hint: upgrade helixml"):
        training.resume(tmp_path / "run")
    del record["training"]["optim"]
    record["model"].pop("hidden_size")
    write_json(path, record)
    with pytest.raises(CheckpointError, match="is not a run's configuration"):
        training.resume(tmp_path / "run")


def test_training_in_another_thread_needs_no_signals(config, tmp_path):
    done = []
    thread = threading.Thread(
        target=lambda: done.append(training.train(config, out=tmp_path / "run"))
    )
    thread.start()
    thread.join()
    assert done[0].step == STEPS


def test_the_seed_decides_everything(config, tmp_path):
    results = {}
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        results[name] = training.train(config.updated({"run.seed": seed}), out=tmp_path / name)
    assert weights_of(tmp_path / "a") == weights_of(tmp_path / "b") != weights_of(tmp_path / "c")
    assert results["a"].sample == results["b"].sample


def test_the_weights_are_plain_safetensors_for_other_readers(config, tmp_path):
    training.train(config, out=tmp_path / "run")
    arrays, metadata = load_arrays(tmp_path / "run" / "model.safetensors")
    assert metadata == {"format": "pt"}
    best, _ = load_arrays(tmp_path / "run" / "best.safetensors")
    assert all(np.array_equal(arrays[name], best[name]) for name in arrays)


def test_activations_computed_again_give_the_same_bits(config, tmp_path):
    flops = {}
    for activations in ("kept", "recomputed"):
        with hx.profiler.profile() as found:
            changed = config.updated({"run.activations": activations})
            training.train(changed, out=tmp_path / activations)
        flops[activations] = found.flops
    kept, recomputed = (
        (tmp_path / activations / "model.safetensors").read_bytes() for activations in flops
    )
    assert kept == recomputed
    assert flops["recomputed"] > 1.04 * flops["kept"]  # the held-out measurement is in both
