"""Without any one of its barriers a fused kernel gives something else, where a device shows it.

Mesa's software device runs eight invocations of a workgroup side by side and the others after them,
up to the next barrier; so what a barrier keeps apart is seen to be wrong without it.
"""

import pytest

from helixml.backends.wgpu import launch
from helixml.backends.wgpu.kernels.attention import Attention
from helixml.backends.wgpu.kernels.norm import Norm
from helixml.backends.wgpu.kernels.selective_scan import SelectiveScan
from helixml.backends.wgpu.kernels.softmax import Softmax

from .conftest import get, put, random

BARRIER = "workgroupBarrier();"


def rows(runtime):
    x, weight = put(runtime, random((3, 1000), 1), random((1000,), 2))
    return [*Softmax(runtime, "softmax").forward(x)[0], *Norm(runtime).layer_norm(x, weight)[0]]


def selective_scan(runtime):
    shapes = [(1, 20, 40), (1, 20, 40), (20, 6), (1, 6, 40), (1, 6, 40)]
    inputs = put(runtime, *(random(shape, i, -1, 1) for i, shape in enumerate(shapes)))
    inputs += [None] * 4
    scan = SelectiveScan(runtime, tiles=2)
    outputs, residuals = scan.forward(*inputs, recorded=True)
    needs = [x is not None for x in inputs]
    return [*outputs, *scan.backward(outputs, needs, inputs, residuals)[:5]]


def attention(runtime):
    q, k, v = put(runtime, *(random((1, 1, 40, 8), seed) for seed in range(3)))
    kernel = Attention(runtime)
    outputs, residuals = kernel.forward(q, k, v)
    return [*outputs, *kernel.backward(outputs, [True] * 3, [q, k, v], residuals)[:3]]


RUNS = {"rows.wgsl": rows, "selective_scan.wgsl": selective_scan, "attention.wgsl": attention}
# Barriers without which nothing is wrong on that device, and why.
SPARED = {
    ("attention.wgsl", 5): "it counts where no key is seen, and workgroup memory begins with zeros"
}
PLACES = [(file, n) for file in RUNS for n in range(launch.raw(file).count(BARRIER))]


@pytest.mark.parametrize(("file", "number"), PLACES)
def test_a_barrier_is_needed(device, monkeypatch, file, number):
    if device.adapter.info["adapter_type"] != "CPU":
        pytest.skip("on a GPU a race may go well")

    def found():
        return [get(device, x).tobytes() for x in RUNS[file](device)]

    goal = found()
    parts = launch.raw(file).split(BARRIER)
    text = BARRIER.join(parts[: number + 1]) + BARRIER.join(parts[number + 1 :])
    raw = launch.raw
    with monkeypatch.context() as patch:
        patch.setattr(launch, "raw", lambda name: text if name == file else raw(name))
        patch.setattr(device, "programs", {})
        without = found()
    assert (without == goal) == ((file, number) in SPARED)
