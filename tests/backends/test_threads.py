"""Threads: how many are used, and that work is right whoever calls, after a fork too.

What must hold in a process of its own is a script, run by the same Python; a script that hangs is
stopped. Nothing here compares times, but for one bound that only a standstill exceeds.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import helixml as hx
from helixml.backends.cpu import kernels, threads
from helixml.errors import ValueRangeError
from helixml.models import MambaConfig, MambaLM

SECONDS = 300  # more than anything here takes on a busy machine

needs_kernels = pytest.mark.skipif(kernels.available() is None, reason="the kernels are not built")
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not restrict CPUs"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# A product and an elementwise function of sizes that are shared among threads.
WORK = """
import os, sys
import numpy as np
import helixml as hx

def work():
    rng = np.random.default_rng(1)
    x, y = (hx.tensor(rng.standard_normal((300, 300)).astype("f4")) for _ in range(2))
    return (hx.exp(x @ y * 0.01) @ y).numpy().tobytes()

def pool_size():
    from helixml.backends.cpu.kernels import _kernels
    return _kernels.pool_size()
"""


def script(text, **environment):
    """Run a script after WORK, on the CPU; return what it prints, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", WORK + text],
        env={**os.environ, "HELIXML_DEVICE": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def train(seed, steps=5):
    """Train a small model; return the bits of its parameters and losses."""
    model = MambaLM(MambaConfig(hidden_size=32, num_hidden_layers=2), rng=hx.random.Rng(seed))
    optimizer = hx.optim.AdamW(model.parameters(), lr=1e-2)
    ids = hx.random.Rng(seed + 1).integers(0, 256, (4, 65))
    losses = []
    for _ in range(steps):
        loss = hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        hx.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, [p.numpy().tobytes() for p in model.parameters()]


# How many


def test_number_of_threads_has_limits(monkeypatch):
    threads.set_num_threads(None)
    monkeypatch.setattr(threads, "_machine_limit", lambda: 4)
    assert threads.get_num_threads() == 4
    threads.set_num_threads(3)
    assert threads.get_num_threads() == 3
    threads.set_num_threads(100)
    assert threads.get_num_threads() == 4
    threads.set_num_threads(None)
    with pytest.raises(ValueRangeError, match="at least 1, got 0"):
        threads.set_num_threads(0)


def test_cgroup_quotas_are_read(tmp_path):
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    for folder in ("a/b", "cpu/c"):
        (root / folder).mkdir(parents=True)
    (root / "a/cpu.max").write_text("150000 100000\n")
    (root / "a/b/cpu.max").write_text("max 100000\n")
    (root / "cpu/c/cpu.cfs_quota_us").write_text("-1\n")
    (root / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (root / "cpu/cpu.cfs_period_us").write_text("100000\n")
    membership.write_text("3:memory:/x\n2:cpu,cpuacct:/c\n0::/a/b\n")
    assert sorted(threads._cgroup_quotas(str(membership), str(root))) == [0.5, 1.5]
    assert list(threads._cgroup_quotas(str(tmp_path / "missing"), str(root))) == []


@pytest.mark.parametrize(("quotas", "wanted"), [([0.2], 1), ([1.0], 1), ([1.5, 3.0], 2), ([], 8)])
def test_a_quota_bounds_the_threads(monkeypatch, quotas, wanted):
    monkeypatch.setattr(threads, "_cgroup_quotas", lambda *folders: iter(quotas))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    assert threads._machine_limit.__wrapped__() == wanted


@needs_affinity
@needs_kernels
def test_on_one_cpu_no_thread_is_started():
    counts = script(
        "import json; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import helixml.backends.cpu.threads as threads; threads._machine_limit.cache_clear()\n"
        "hx.set_num_threads(None); work()\n"
        "print(json.dumps([hx.get_num_threads(), pool_size()]))"
    )
    assert counts == [1, 0]


def test_an_environment_variable_bounds_the_threads():
    text = "import json; print(json.dumps(hx.get_num_threads()))"
    assert script(text, HELIXML_NUM_THREADS="1") == 1


@needs_kernels
def test_one_thread_starts_none():
    text = "import json; hx.set_num_threads(1); work(); print(json.dumps(pool_size()))"
    assert script(text) == 0


# Who calls


@needs_kernels
def test_a_training_run_has_equal_bits_with_any_number_of_threads(three_threads):
    results = []
    for n in (1, 2, 3):
        threads.set_num_threads(n)
        results.append(train(0))
    assert results[0] == results[1] == results[2]


def test_threads_that_train_at_once_get_what_they_would_alone(three_threads):
    began = time.monotonic()
    alone = [train(seed) for seed in range(3)]
    took = time.monotonic() - began
    found = [None] * len(alone)

    def run(seed):
        found[seed] = train(seed)

    workers = [threading.Thread(target=run, args=(seed,), daemon=True) for seed in range(3)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(SECONDS)
    assert found == alone
    assert time.monotonic() - began < 20 * took + 10  # no timing: only a standstill takes as long


@pytest.mark.parametrize("reset", [2, 1, 3])
def test_the_number_of_threads_may_change_while_others_work(three_threads, reset):
    x = np.random.default_rng(0).standard_normal((200, 200))
    wanted = (hx.tensor(x) @ hx.tensor(x)).numpy()
    stop = threading.Event()

    def change():
        while not stop.is_set():
            threads.set_num_threads(reset)
            threads.set_num_threads(None)

    changer = threading.Thread(target=change, daemon=True)
    changer.start()
    try:
        for _ in range(50):
            assert np.array_equal((hx.tensor(x) @ hx.tensor(x)).numpy(), wanted)
    finally:
        stop.set()
        changer.join(SECONDS)


# Other processes

FORKED = """
import json
before = work()  # starts the pool
result, write = os.pipe()
child = os.fork()
if child == 0:
    found = work() == before
    inner = os.fork()
    if inner == 0:
        os._exit(0 if work() == before else 1)
    found = found and os.waitpid(inner, 0)[1] == 0
    os.write(write, b"equal" if found else b"other")
    os._exit(0)
status = os.waitpid(child, 0)[1]
print(json.dumps([status, os.read(result, 10).decode(), work() == before]))
"""

WORKERS = """
import json, multiprocessing
if __name__ == "__main__":
    before = work()
    with multiprocessing.get_context("fork").Pool(3) as pool:
        found = [each.get(100) for each in [pool.apply_async(work) for _ in range(6)]]
    print(json.dumps([one == before for one in found]))
"""

# What is sent to the workers is text: functions of a script are not importable there.
JOBLIB = """
import json, joblib
def task(text):
    names = {}
    exec(text, names)
    return names["work"](), names["hx"].get_num_threads()
before = work()
found = joblib.Parallel(n_jobs=2)(joblib.delayed(task)(%r) for _ in range(4))
print(json.dumps([one[0] == before for one in found]))
"""


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("count", ["1", "2", ""])
def test_forked_children_compute_as_their_parents(count):
    environment = {"HELIXML_NUM_THREADS": count} if count else {}
    assert script(FORKED, **environment) == [0, "equal", True]


@needs_fork
def test_workers_of_multiprocessing_compute_as_their_parent():
    assert script(WORKERS) == [True] * 6


@pytest.mark.slow
def test_workers_of_joblib_compute_as_their_parent():
    if importlib.util.find_spec("joblib") is None:
        pytest.skip("joblib is not installed (pip install joblib)")
    assert script(JOBLIB % WORK) == [True] * 4
