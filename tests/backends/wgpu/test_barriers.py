"""Without any one of its barriers a kernel gives something else, where a device shows it.

Mesa's software device runs eight invocations of a workgroup side by side and the others after them,
up to the next barrier; so what a barrier keeps apart is seen to be wrong without it.
"""

import numpy as np
import pytest

from helixml.backends.wgpu import launch

BARRIER = "workgroupBarrier();"


def numbers(host, *shape):
    return host.normal(size=shape).astype(np.float32)


# For each file a function of the backend that runs it, over more than one round of its loops.
RUNS = {
    "reduce.wgsl": lambda b, h: b.sum(b.asarray(numbers(h, 5, 3000)), axis=(1,), keepdims=False),
    "argreduce.wgsl": lambda b, h: b.argmax(b.asarray(numbers(h, 9, 3000)), axis=1, keepdims=False),
    "scan.wgsl": lambda b, h: b.cumulative_sum(b.asarray(numbers(h, 5, 1000)), axis=1),
    "matmul.wgsl": lambda b, h: b.matmul(
        b.asarray(numbers(h, 70, 90)), b.asarray(numbers(h, 90, 70))
    ),
    "fft.wgsl": lambda b, h: b.fft(b.asarray(numbers(h, 3, 256)), n=256, axis=1, norm="backward"),
}
# Barriers without which nothing is wrong on that device, and why.
_EARLIER = "it keeps apart a read from a write of earlier invocations, which the device runs first"
SPARED = {
    ("scan.wgsl", 0): _EARLIER,
    ("scan.wgsl", 2): _EARLIER,
    ("scan.wgsl", 3): "the last invocation alone writes what all have read, and it comes last",
}
PLACES = [(file, n) for file in RUNS for n in range(launch.raw(file).count(BARRIER))]


def cut(parts, number):
    """Return the parts of a text up to one of its barriers, and those behind it."""
    return parts[: number + 1], parts[number + 1 :]


@pytest.mark.parametrize(("file", "number"), PLACES)
def test_a_barrier_is_needed(backend, runtime, monkeypatch, file, number):
    if runtime.adapter.info["adapter_type"] != "CPU":
        pytest.skip("on a GPU a race may go well")

    def found():
        return backend.to_numpy(RUNS[file](backend, np.random.default_rng(3)))

    goal = found()
    before, after = (BARRIER.join(part) for part in cut(launch.raw(file).split(BARRIER), number))
    text = before + after
    real = launch.raw
    with monkeypatch.context() as patch:
        patch.setattr(launch, "raw", lambda name: text if name == file else real(name))
        patch.setattr(runtime, "programs", {})
        without = found()
    assert (without.tobytes() == goal.tobytes()) == ((file, number) in SPARED)
