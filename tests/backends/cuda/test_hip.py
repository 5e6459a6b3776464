"""What hip.cuh puts in the place of CUDA's names computes the same, on the emulator.

The emulator is given AMD's names in CUDA's terms. Whether AMD's compiler takes the kernels is asked
in test_kernels.py; that lanes of a wavefront take turns together nobody can ask without a GPU.
"""

import shutil
from unittest.mock import patch

import numpy as np
import pytest

from helixml import dtypes
from helixml.backends.cuda import launch
from helixml.testing import cuemu

from .kernel_cases import SOURCES, bits

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulator compiles by g++")
NAMES = """#define __HIP__ 1
__device__ void lanes_meet() { __syncwarp(); }
#define __builtin_amdgcn_wave_barrier() lanes_meet()
#define __builtin_amdgcn_fence(order, scope)
#define __shfl_xor(value, distance, width) __shfl_xor_sync(0xffffffffu, value, distance)
#define __shfl_up(value, distance, width) __shfl_up_sync(0xffffffffu, value, distance)
"""
read = launch.read


@pytest.mark.parametrize(
    "file", [pytest.param(f, marks=() if f == "softmax" else pytest.mark.slow) for f in SOURCES]
)
def test_kernels_have_the_same_bits_in_hip(file):
    expected = bits(file)
    with patch.object(launch, "read", lambda file: NAMES + read(file)):
        assert bits(file) == expected


@pytest.mark.parametrize("dtype", [dtypes.float16, dtypes.bfloat16], ids=str)
def test_sixteen_bits_are_rounded_as_elsewhere(dtype):
    source = (
        read("prelude.cuh")
        + """
    extern "C" __global__ void rounded(const float* x, SCALAR* y, float* z)
    {
        store(y + position(), x[position()]);
        z[position()] = load(y + position());
    }"""
    )
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, 1 << 14, dtype=np.uint32)
    edges = [0, 1, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FFFFFFF, 0x33000000, 0x33000001]
    words[: len(edges)] = edges
    words[100:1000] &= 0xFFFF8000  # many that are halfway between two
    words[1000:2000] &= 0xFFFFF000
    words[2000:4000] = (words[2000:4000] & 0x87FFFFFF) | 0x38000000  # of float16's range
    words[3000:4000] &= 0xFFFFF000
    x = words.view(np.float32)
    y, z = np.empty(x.shape, dtype), np.empty(x.shape, np.float32)
    kernel = cuemu.Module(NAMES + source, launch.options(dtype))["rounded"]
    kernel((len(x) // 128,), (128,), (x, y, z))
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(dtype)
    is_nan = np.isnan(x)
    assert np.array_equal(np.isnan(z), is_nan)
    assert y[~is_nan].tobytes() == expected[~is_nan].tobytes()
    assert np.array_equal(z[~is_nan], expected[~is_nan].astype(np.float32))
