"""The device of WebGPU: how fast beside NumPy on the processor of the same machine?

Products are NumPy's own there; the scan and the step are those of helixml's ``reference`` backend,
which is plain NumPy. Times include waiting for the device, and no transfers but that of a loss. The
adapter is part of each line: a software device such as Mesa's llvmpipe is a CPU as well, and says
nothing about a GPU.
"""

from __future__ import annotations

import functools
import sys

import numpy as np

from bench.turns import Case, normal
from helixml.backends.wgpu import adapters
from helixml.errors import DeviceError

PEER = "NumPy"


@functools.cache
def adapter() -> str | None:
    """Name the adapter, and say so if it is a CPU; None where there is none."""
    try:
        import wgpu

        found = adapters(wgpu)
    except (ImportError, DeviceError):
        found = []
    if not found:
        return None
    info = found[0].info
    return info["device"] + (", a CPU" if info["adapter_type"] == "CPU" else "")


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; the quick ones are smaller. There are none without an adapter."""
    name = adapter()
    if name is None:
        print("wgpu: left out, there is no adapter. Hint: helixml[wgpu], a driver", file=sys.stderr)
        return []
    found = [
        Case(f"matmul {n}x{n}x{n} on {name}", "matmul", normal((n, n), (n, n)), tolerance=2e-5)
        for n in ((128,) if quick else (512, 1024))
    ]
    b, d, l, n = 2, 64, 64 if quick else 1024, 16

    def operands(rng: np.random.Generator) -> list[np.ndarray]:
        u, delta, rate, into, out, skip = (
            rng.standard_normal(shape, np.float32)
            for shape in ((b, d, l), (b, d, l), (d, n), (b, n, l), (b, n, l), (d,))
        )
        # Positive steps and negative rates, as in a trained layer: the states stay bounded.
        return [u, 0.05 * np.abs(delta), -np.abs(rate), into, out, skip]

    what = f"selective_scan {b}x{d}x{l}, {n} states, forward, on {name}"
    step = f"training step of MambaLM, 2 layers of 32, 2x64 bytes, on {name}"
    ids = (2, 65)
    return [
        *found,
        Case(what, "selective_scan", operands, tolerance=2e-5),
        Case(step, "training_step", lambda rng: [rng.integers(0, 256, ids)]),
    ]
