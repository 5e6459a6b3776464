"""NVIDIA's compiler takes the kernels for sequences, and keeps their numbers in registers."""

import numpy as np
import pytest

from helixml import dtypes
from helixml.backends.cuda.kernels import attention, selective_scan
from helixml.testing.cuemu import nvrtc

from .test_nvrtc import costs


def scans(dtype, states):
    """Return what the launcher defines for a scan of so many states, in either layout."""
    u, A = np.empty((2, 64, 64), dtype), np.empty((64, states), dtype)
    B = np.empty((2, states, 64), dtype)
    for x in (u, u.transpose(0, 2, 1)):
        yield selective_scan._Plan(x, A, B, B, True).constants


def programs(dtype):
    for states in (1, 4, 16, 64, 256):
        yield from (("selective_scan", constants) for constants in scans(dtype, states))
    for time in (0, 1):
        conv = {"TIME": time, "SILU": 1, "TAPS": 4, "THREADS": 128, "RUN": 4 if time else 32}
        yield "causal_conv1d", conv
        for number in (0, 1) if dtype in (np.float32, np.float64) else (0,):
            scan = {"REVERSE": 1, "COMPLEX": number, "FIXED": 0, "THREADS": 128, "ITEMS": 4}
            yield "linear_scan", {"TIME": time, **scan}
    for name in ("attention", "pull_queries", "pull_keys"):
        yield "attention", attention._constants(name, 64, 64, np.dtype(dtype))
    longest = 12 if dtype == np.float64 else 14
    for log in (12, longest):
        yield "fft_conv", {"LOG": log, "THREADS": 512 if log == 14 else 256}
    for kind in (0, 1, 2) if dtype in (np.float32, np.float64) else (0, 2):
        stored = {"KIND": kind, "PACKED": 1, "VECTORS": 4, "THREADS": 128}
        yield from ((file, stored) for file in ("stored_linear", "mamba_step"))
    yield "parts", {}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=str)
def test_kernels_compile_and_stay_in_registers(dtype, architecture):
    allowed = 32  # bytes: a few numbers that are read once a tile
    for file, constants in programs(dtype):
        for kernel in costs(file, dtype, constants, architecture):
            assert max(kernel.spill_store_bytes, kernel.spill_load_bytes) <= allowed, kernel
            assert kernel.stack_bytes <= allowed, kernel
