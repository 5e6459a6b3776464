"""A training step of Mamba: few launches a block, no wait for the device, no new memory.

The emulator's stand-in counts them: kernels of ours, those of CuPy's own functions and cuBLAS's.
"""

import shutil

import numpy as np
import pytest

import helixml as hx
from helixml import optim
from helixml.backends import registry
from helixml.backends.cuda.backend import CudaBackend
from helixml.device import Device
from helixml.testing import cuemu

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")
MOST = 30  # launches of a block, forward and backward and in the optimizer


class Training:
    """Steps of a language model with so many blocks."""

    def __init__(self, blocks):
        config = hx.models.MambaConfig(
            vocab_size=17, hidden_size=16, num_hidden_layers=blocks, state_size=4
        )
        self.model = hx.models.MambaLM(config, rng=hx.random.Rng(0)).to("cuda")
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.01)

    def step(self, number):
        host = np.random.default_rng(number).integers(0, 17, (2, 9))
        ids = hx.tensor(host, device="cuda")
        loss = hx.cross_entropy(self.model(ids[:, :-1]), ids[:, 1:])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


@pytest.fixture
def counts():
    """Serve the device "cuda" by a stand-in of its own; return what it counts."""
    cp = cuemu.cupy()
    backend = CudaBackend(cp, Device("cuda"))
    registry.register("cuda", lambda: backend)
    yield cp.cuemu
    registry.unregister("cuda")


def launches(counts, blocks):
    training = Training(blocks)
    for number in range(2):  # in the first, the optimizer makes its moments
        counts.reset()
        training.step(number)
    return counts.launches + counts.library_launches


def test_a_block_takes_few_launches(counts):
    one, two = launches(counts, 1), launches(counts, 2)
    block = two - one
    assert one <= two
    assert 20 < block.total() <= MOST, block


def test_nothing_waits_for_the_device_until_the_loss_is_read(counts):
    training = Training(2)
    training.step(0)
    counts.reset()
    loss = training.step(1)
    assert not counts.synchronizations
    assert counts.copies["to host"] == 0
    loss.item()
    assert counts.synchronizations.total() == 1


def test_clipping_reads_the_norm_and_waits_for_that_alone(counts):
    training = Training(1)
    training.step(0)
    counts.reset()
    optim.clip_grad_norm(training.model.parameters(), 1.0)
    assert counts.synchronizations.total() == 1


def test_steps_take_memory_that_the_pool_has(counts):
    training = Training(2)
    for number in range(4):
        training.step(number)
    counts.reset()
    for number in range(4, 10):
        training.step(number)
    assert counts.device_allocations == 0
