"""AMD's compiler says what kernels cost, and what it refuses; needs HIPRTC, a library of ROCm."""

import ctypes.util

import pytest

from helixml.backends.cuda.launch import options, read
from helixml.dtypes import float32
from helixml.errors import MissingDependencyError, ValueRangeError
from helixml.testing import cuemu
from helixml.testing.cuemu import hiprtc
from required import need

SHARED = """extern "C" __global__ void first(float* x) {
    __shared__ float near[300];
    near[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = near[299 - threadIdx.x];
}
extern "C" __global__ void local(const int* x, float* y) {
    float a[32];
    for (int i = 0; i < 32; i++) a[i] = y[i];
    for (int i = 0; i < x[0]; i++) a[x[i]] += 1.0f;
    for (int i = 0; i < 32; i++) y[i] = a[i];
}"""


@pytest.fixture
def installed():
    """Do without the test where there is no HIPRTC."""
    need("hiprtc", hiprtc.find_hiprtc)


needs_hiprtc = pytest.mark.usefixtures("installed")


@needs_hiprtc
@pytest.mark.parametrize(
    ("architecture", "lanes"), [("gfx906", 64), ("gfx90a", 64), ("gfx1030", 32)]
)
def test_a_kernels_cost_is_read_from_the_code(architecture, lanes):
    first, local = hiprtc.compile_source(SHARED, architecture=architecture)
    assert (first.name, first.stack_bytes, first.shared_bytes) == ("first", 0, 300 * 4)
    assert (local.name, local.spilled_registers, local.shared_bytes) == ("local", 0, 0)
    assert local.stack_bytes >= 32 * 4
    assert first.lanes == local.lanes == lanes
    assert 0 < first.vector_registers <= 16
    assert 0 < first.scalar_registers <= 106


def test_numbers_of_all_sizes_are_read():
    def kernel(name, stack, shared):
        keys = {
            "group_segment_fixed_size": shared,
            "private_segment_fixed_size": stack,
            "sgpr_count": b"\x1b",
            "symbol": bytes([0xA0 + len(name) + 3]) + name + b".kd",
            "vgpr_count": b"\xcc\x80",
            "vgpr_spill_count": b"\x00",
            "wavefront_size": b"@",
        }
        return b"".join(b"." + key.encode() + value for key, value in keys.items())

    first = kernel(b"a", b"\x00", b"\xcd\x04\x02")
    second = kernel(b"b2", b"\xcc\xf0", b"\xce\x00\x01\x00\n")
    assert hiprtc._costs(first + second) == (
        hiprtc.KernelCost("a", 128, 27, 0, 0, 1026, 64),
        hiprtc.KernelCost("b2", 128, 27, 0, 240, 65546, 64),
    )


@needs_hiprtc
def test_a_refused_source_is_an_error_with_the_compilers_words():
    with pytest.raises(cuemu.SourceError, match=r"HIPRTC refuses it for gfx906:\n.*identifier 'y'"):
        hiprtc.compile_source("__global__ void k(float* x) { x[0] = y; }", architecture="gfx906")


def test_an_architecture_that_nobody_has_tried_is_refused():
    with pytest.raises(ValueRangeError, match=r"architecture 'gfx9999'. Hint: gfx906, gfx90a"):
        hiprtc.compile_source("", architecture="gfx9999")


def test_without_hiprtc_what_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"Hint: apt-get install libamdhip64-5"):
        hiprtc.find_hiprtc.__wrapped__()


@needs_hiprtc
def test_floats_stay_floats():
    # Of a name that has no version for floats, AMD's compiler takes the one for doubles.
    words = [*options(float32, {}), "-Werror=double-promotion"]
    assert hiprtc.compile_source(read("exponential_sum.cu"), words)
