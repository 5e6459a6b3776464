"""`helixml train` and `generate` as a user meets them: streams, exit codes, messages."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import helixml as hx
from helixml.cli import main, progress
from helixml.hardware import probes
from helixml.training import checkpoint
from helixml.training.run import Run

SMALL = [
    "--set=model.hidden_size=8",
    "--set=model.num_hidden_layers=1",
    "--set=model.state_size=2",
    "--set=data.context=16",
    "--set=data.batch_size=2",
    "--set=run.sample_bytes=30",
]
"""Makes a run that takes a moment."""


@pytest.fixture
def text(tmp_path, monkeypatch):
    """Write a text of 3,000 bytes and work beside it."""
    monkeypatch.chdir(tmp_path)
    Path("text").write_bytes(b"To be, or not to be, that is the question.\n" * 70)
    return "text"


@pytest.fixture(autouse=True)
def no_plot(monkeypatch):
    """Draw no picture: it takes longer than the runs here."""
    monkeypatch.setattr(Run, "plot", lambda run: True)


def helixml(*words):
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="helixml")


@pytest.fixture
def start():
    """Start the command line in a process of its own; it ends with the test."""
    started = []

    def start(*words, **streams):
        command = [sys.executable, "-m", "helixml.cli", *map(str, words)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        started.append(subprocess.Popen(command, **streams))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(text):
    """Train a model and return its folder."""
    assert (
        helixml("train", "--text", text, *SMALL, "--steps=3", "--out=run", "--quiet").exit_code == 0
    )
    return "run"


def test_data_goes_to_stdout_and_the_rest_to_stderr(text):
    done = helixml("train", "--text", text, *SMALL, "--steps=3", "--out=run")
    assert done.exit_code == 0, done.output
    first, sample = done.stdout_bytes.split(b"\n", 1)
    assert re.fullmatch(rb"held-out: \d\.\d\d\d bits per byte", first)
    assert len(sample) == 31 and sample.endswith(b"\n")
    for words in ("3 steps of 2 x 16 bytes of text", "step 3/3", "bits/byte", "run folder: run"):
        assert words in done.stderr
    assert re.search(r"steps [\d.]+ s, held-out measurement [\d.]+ s, sample [\d.]+ s", done.stderr)


def test_layers_are_chosen_by_name(text):
    words = [word for word in SMALL if "state_size" not in word]
    done = helixml("train", "--text", text, *words, "--layer=gru", "--steps=2", "--out=run")
    assert done.exit_code == 0, done.output
    assert json.loads(Path("run/config.json").read_text())["model"]["layer"] == "gru"
    done = helixml("generate", "run", "--prompt=To", "--bytes=4")
    assert done.exit_code == 0 and len(done.stdout_bytes) == 4


def test_json_is_one_object_with_the_same_figures(text):
    done = helixml("train", "--text", text, *SMALL, "--steps=3", "--out=run", "--json", "--quiet")
    record = json.loads(done.stdout)
    assert done.stderr == ""
    assert record["run"] == "run" and record["steps"] == 3
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert record["held_out_bits_per_byte"] == last["held_out_bits_per_byte"]


def test_several_texts_are_one(text):
    Path("second").write_bytes(b"More of the same.\n" * 20)
    done = helixml("train", "--text", text, "--text", "second", *SMALL, "--steps=1", "--out=run")
    assert done.exit_code == 0
    assert json.loads(Path("run/config.json").read_text())["data"]["bytes"] == 43 * 70 + 18 * 20


def test_options_win_over_assignments_over_the_file_over_the_preset(text):
    Path("x.toml").write_text(
        'preset = "small"\n[optim]\nlr = 0.5\nbeta1 = 0.5\n[run]\nsteps = 9\nseed = 9\n'
    )
    done = helixml(
        *("train", "--config=x.toml", "--preset=tiny", "--text", text, *SMALL),
        *("--set=optim.lr=0.25", "--bytes=64", "--seed=4", "--out=run", "--quiet"),
        "--precision=bfloat16",
    )
    assert done.exit_code == 0, done.stderr
    record = json.loads(Path("run/config.json").read_text())
    training = record["training"]
    assert training["preset"] == "tiny"
    assert (training["optim"]["lr"], training["optim"]["beta1"]) == (0.25, 0.5)
    assert (training["steps"], record["seed"]) == (2, 4)
    assert training["optim"]["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--set", "optim.lrr=1"], 2, "hint: did you mean 'optim.lr'?"),
        (["--preset", "smalll"], 2, "hint: did you mean 'small'?"),
        (["--config", "missing.toml"], 2, "missing.toml cannot be read"),
        (["--text", "missing"], 2, "error: text: missing cannot be read"),
        (["--text", "."], 2, "is a folder"),
        (["--text", "text", "--set", "data.context=9999"], 2, "needs 10000"),
        (["--steps", "0"], 2, "0 is not in the range"),
        (["--steps", "1", "--seconds", "1"], 2, "exclude each other"),
        (["--seconds", "0"], 2, "not in the range"),
        (["--resume", "x", "--seed", "1"], 2, "takes no others"),
        (["--text", "text", "--out", "."], 2, "is not empty"),
        (["--text", "text", "--out", "text/run"], 1, "hint: choose a folder that you may write to"),
    ],
)
def test_a_mistake_has_its_exit_code_and_a_message_without_a_traceback(text, words, code, message):
    done = helixml("train", *SMALL, *words)
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_a_loss_that_is_not_finite_fails_the_run(text, monkeypatch):
    monkeypatch.setattr(hx, "cross_entropy", lambda logits, targets: (logits * math.nan).sum())
    done = helixml("train", "--text", text, *SMALL, "--out=run")
    assert done.exit_code == 1
    assert "error: train: the loss is nan at step 1" in done.stderr and "hint: lower" in done.stderr


def test_resume_of_nothing_is_a_usage_error(text):
    done = helixml("train", "--resume", "missing")
    assert (done.exit_code, "there is no run in missing" in done.stderr) == (2, True)


def test_debug_shows_the_traceback(text):
    done = helixml("train", "--set", "optim.lrr=1", "--debug")
    assert done.exit_code == 1
    assert type(done.exception).__name__ == "ConfigError"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_a_checkpoint_and_says_how_to_go_on(text, start, number, code):
    process = start("train", "--text", text, *SMALL, "--steps=100000", "--out=a run")
    wait_for(Path("a run/metrics.jsonl"), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert out == b""
    assert re.search(rb"go on with: \S*helixml train --resume 'a run'", err)
    step = checkpoint.load_checkpoint(Path("a run/checkpoint"))["step"]
    assert f"stopped after step {step} of 100000" in err.decode()


def wait_for(path, process):
    """Wait until ``path`` exists."""
    end = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)


def generated(*words):
    """Return what the command wrote, which must have gone well."""
    done = helixml("generate", *words)
    assert done.exit_code == 0, done.stderr
    return done.stdout_bytes


def test_generate_prints_exactly_the_bytes_asked_for(run):
    done = helixml("generate", run, "--prompt", "To be", "--bytes", 50)
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout_bytes) == 50
    assert done.stderr == "To be"


def test_generate_repeats_itself_for_a_seed_and_only_for_it(run):
    outs = [generated(run, "--bytes", 60, "--seed", seed) for seed in (1, 1, 2)]
    assert outs[0] == outs[1] != outs[2]


def test_generate_at_temperature_zero_asks_no_seed(run):
    words = (run, "--temperature", 0, "--prompt", "To", "--bytes", 60)
    assert generated(*words, "--seed", 1) == generated(*words, "--seed", 2)
    assert generated(*words) == generated(*words, "--temperature", 1, "--top-k", 1)


def test_generate_as_json(run):
    done = helixml("generate", run, "--prompt", "é", "--bytes", 10, "--json")
    assert json.loads(done.stdout).keys() == {"run", "prompt", "seed", "text"}


def test_generate_without_a_model_says_what_to_do(text):
    done = helixml("generate", "missing")
    assert done.exit_code in (1, 2) and "hint: " in done.stderr
    helixml("train", "--text", text, *SMALL, "--steps=1", "--out=run", "--quiet")
    Path("run/model.safetensors").unlink()
    done = helixml("generate", "run")
    assert done.exit_code == 1 and "helixml train --resume run" in done.stderr


def test_generate_streams_and_a_closed_pipe_is_no_error(run, start):
    process = start("generate", run, "--bytes", 10**9)
    assert len(process.stdout.read(20)) == 20, process.stderr.read()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait(timeout=30)


def test_on_a_terminal_there_is_a_bar(text, start):
    import pty

    leader, follower = pty.openpty()
    process = start("train", "--text", text, *SMALL, "--steps=20", stderr=follower)
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 4096):
            shown += piece
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(leader)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, shown
    assert out.startswith(b"held-out: ")
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert "━" in plain and "step 20/20" in plain and "bits/byte" in plain


def test_lines_come_every_few_seconds_and_at_the_end(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = progress.Lines()
    lines.begin(Path("run"), 0, 10)
    for step in range(1, 11):
        now[0] += 2.0
        seconds = 2.0 * step
        lines.step(
            {
                "step": step,
                "bytes": 100 * step,
                "loss": 1.0,
                "bits_per_byte": 1.443,
                "seconds": seconds,
                "lr": 0.1,
                "grad_norm": 1.0,
            }
        )
    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in shown] == ["3/10", "6/10", "9/10", "10/10"]
    assert shown[0] == "step 3/10  loss 1.000  1.443 bits/byte  50 bytes/s  0:14 left"


def test_info_tells_of_backends_and_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for probe, value in (("bandwidth", 2e10), ("latency", 1e-6), ("peak_rate", 1e11)):
        monkeypatch.setattr(probes, probe, lambda *_, value=value: value)
    done = helixml("info", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["threads"] >= 1
    assert record["backends"]["cpu"]["status"] == "ok"
    assert "instruction_set" in record["backends"]["cpu"]["capabilities"]
    assert "Hint: use 'cpu'" in record["backends"]["metal"]["status"]
    told = helixml("info").stdout
    assert "backend cpu: ok" in told
    assert "20 GB/s; float32 100 GFLOP/s; float64 100 GFLOP/s; a small op 1 us" in told


def test_a_command_that_is_not_there_is_a_usage_error():
    assert helixml("trainn").exit_code == 2
    assert helixml("train", "--nope").exit_code == 2
    assert "generate" in helixml("--help").stdout
