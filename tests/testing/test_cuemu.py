"""Kernels on the CPU give what loops give, in every order of threads; faults become errors."""

import math

import cuemu_checks as samples
import ml_dtypes
import numpy as np
import pytest

from helixml.errors import (
    ConfigError,
    DTypeError,
    MissingDependencyError,
    ShapeError,
    ValueRangeError,
)
from helixml.testing import cuemu
from helixml.testing.cuemu import compiler

pytestmark = pytest.mark.skipif(not cuemu.is_available(), reason="kernels are compiled by g++")

ORDERS = ("forward", "reverse", ("random", 1), ("random", 2))

KERNELS = """
#include <cuda_fp16.h>
#include "cuda_bf16.h"

struct Pair { float x; int n; };

extern "C" __global__ void places(int* y) {
    int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}
extern "C" __global__ void shuffles(const double* x, double* y, float* z, int* w) {
    int i = threadIdx.x;
    y[i] = __shfl_sync(0xffffffffu, x[i], 3);
    y[32 + i] = __shfl_up_sync(0xffffffffu, x[i], 2);
    y[64 + i] = __shfl_down_sync(0xffffffffu, x[i], 5);
    y[96 + i] = __shfl_xor_sync(0xffffffffu, x[i], 7);
    z[i] = __shfl_down_sync(0xffffffffu, (float)x[i], 3, 8);
    w[i] = __shfl_up_sync(0xffffffffu, (int)x[i], 3, 8);
}
extern "C" __global__ void votes(unsigned* y) {
    unsigned ballot = __ballot_sync(0xffffffffu, threadIdx.x % 3 == 0);
    int any = __any_sync(0xffffffffu, threadIdx.x == 7);
    int all = __all_sync(0xffffffffu, threadIdx.x < 31);
    int count = __syncthreads_count(threadIdx.x < 5);
    int sum = __reduce_add_sync(0xffffffffu, (int)threadIdx.x - 20);
    if (threadIdx.x == 0) { y[0] = ballot; y[1] = any; y[2] = all; y[3] = count; y[4] = sum; }
}
extern "C" __global__ void half_masks(int* y) {
    unsigned mask = threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u;
    int value = threadIdx.x;
    for (int offset = 8; offset > 0; offset /= 2) value += __shfl_xor_sync(mask, value, offset);
    y[threadIdx.x] = value;
}
extern "C" __global__ void atomics(
        float* f, double* d, int* i, unsigned* u, unsigned long long* l) {
    atomicAdd(f, 0.5f);
    atomicAdd(d, 0.25);
    atomicAdd(&i[0], -1);
    atomicMax(&i[1], (int)threadIdx.x);
    atomicMin(&i[2], -(int)threadIdx.x);
    atomicAdd(u, 2u);
    atomicAdd(l, 1ull << 33);
    unsigned old = u[1], seen;
    do { seen = old; old = atomicCAS(&u[1], seen, seen + 3); } while (old != seen);
}
extern "C" __global__ void mathematics(const float* x, float* y, int n) {
    float s, c;
    sincospif(x[0], &s, &c);
    y[0] = __expf(x[0]); y[1] = rsqrtf(x[0]); y[2] = s; y[3] = c; y[4] = erff(x[0]);
    y[5] = log1pf(x[0]); y[6] = exp2f(x[0]); y[7] = fmaf(x[0], x[0], 1.0f); y[8] = __ldg(x);
    y[9] = (float)rsqrt((double)x[0]); y[10] = fmaxf(x[0], 2.0f); y[11] = max(n, 9);
    y[12] = __fdividef(x[0], 3.0f); y[13] = tanhf(x[0]); y[14] = __uint_as_float(0x7f800000u);
}
extern "C" __global__ void bits(const unsigned* x, unsigned* y) {
    y[0] = __umulhi(x[0], x[1]); y[1] = __popc(x[0]); y[2] = __clz(x[1]); y[3] = __ffs(x[0]);
    y[4] = __brev(x[1]); y[5] = __funnelshift_l(x[0], x[1], 8);
    y[6] = (unsigned)__umul64hi(1ull << 63, x[1]);
}
extern "C" __global__ void narrow(
        const __half* h, const __nv_bfloat16* b, __half* p, __nv_bfloat16* q) {
    int i = threadIdx.x;
    p[i] = __float2half(__half2float(h[i]) / 3.0f);
    q[i] = __float2bfloat16(__bfloat162float(b[i]) / 3.0f);
    p[32 + i] = h[i] * h[i];
    q[32 + i] = __hfma(b[i], b[i], b[i]);
}
extern "C" __global__ void vectors(const float4* x, float2* y, double2 z) {
    float4 v = x[threadIdx.x];
    y[threadIdx.x] = make_float2(v.x + v.y, v.z * v.w + (float)z.y);
}
extern "C" __global__ void poison(float* y, int* z) {
    __shared__ float cells[4];
    __shared__ __align__(16) int numbers[2][2];
    y[0] = cells[3];
    z[0] = numbers[1][1];
}
extern "C" __global__ void dynamic(float* y) {
    extern __shared__ __align__(16) float cells[];
    cells[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = cells[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void partial_warp(int* y) { y[threadIdx.x] = __any_sync(0xffffffffu, 1); }
extern "C" __global__ void takes(const float* x, int n, double d, bool b, Pair p, void* v) {}
"""

FAULTS = """
extern "C" __global__ void branch(float* y) { if (threadIdx.x < 16) __syncthreads(); }
extern "C" __global__ void two_barriers(float* y) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}
extern "C" __global__ void early_return(float* y) {
    if (threadIdx.x == 3) return;
    __syncthreads();
}
extern "C" __global__ void not_named(float* y) { *y = __shfl_xor_sync(0xffffu, 1.0f, 1); }
extern "C" __global__ void missing_lane(float* y) {
    y[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.0f, 16);
}
extern "C" __global__ void outside_mask(float* y) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_down_sync(0xffffu, 1.0f, 8);
}
extern "C" __global__ void odd_lanes_wait(float* y) {
    if (threadIdx.x % 2) __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    else __syncthreads();
}
extern "C" __global__ void two_operations(float* y) {
    if (threadIdx.x % 2) __any_sync(0xffffffffu, 1);
    else __all_sync(0xffffffffu, 1);
}
extern "C" __global__ void much_static(float* y) { __shared__ float big[12289]; big[0] = y[0]; }
extern "C" __global__ void wants_dynamic(float* y) { extern __shared__ float s[]; s[0] = y[0]; }
extern "C" __global__ void null_pointer(float* y) { float* p = nullptr; y[0] = p[threadIdx.x]; }
extern "C" __global__ void by_zero(float* y) { int i = threadIdx.x; y[0] = 7 / i; }
extern "C" __global__ void big_stack(float* y) {
    volatile float a[50000];
    for (int i = 0; i < 50000; i++) a[i] = 1;
    y[0] = a[threadIdx.x];
}
extern "C" __global__ void endless(float* y) { volatile float* v = y; while (v[0] == 0.0f); }
extern "C" __global__ void endless_barriers(float* y) {
    volatile float* v = y;
    while (v[0] == 0.0f) __syncthreads();
}
"""


@pytest.fixture(scope="module")
def kernels():
    return cuemu.Module(KERNELS)


@pytest.fixture(scope="module")
def faults():
    return cuemu.Module(FAULTS)


@pytest.fixture(params=ORDERS, ids=str)
def order(request):
    with cuemu.order(request.param):
        yield request.param


@pytest.mark.parametrize("check", ["block_sum", "matmul", "scan", "neighbours"])
def test_samples_give_what_loops_give_in_every_order(check, order):
    getattr(samples, f"check_{check}")()


def test_a_template_is_compiled_for_each_name_expression(order):
    samples.check_scan(kind="float")


def test_every_thread_knows_its_place(kernels, order):
    y = np.full(2 * 3 * 2 * 4 * 3 * 5, -1, np.int32)
    kernels["places"]((2, 3, 2), (4, 3, 5), (y,))
    assert np.array_equal(y, [1000 * (i // 60) + i % 60 for i in range(y.size)])


def test_shuffles_read_the_lane_that_they_name(kernels, order):
    x = np.arange(32.0) ** 2
    y, z, w = np.zeros(128), np.zeros(32, np.float32), np.zeros(32, np.int32)
    kernels["shuffles"]((1,), (32,), (x, y, z, w))
    for i in range(32):
        assert y[i] == x[3]
        assert y[32 + i] == x[i - 2 if i >= 2 else i]
        assert y[64 + i] == x[i + 5 if i + 5 < 32 else i]
        assert y[96 + i] == x[i ^ 7]
        assert z[i] == x[i + 3 if i % 8 + 3 < 8 else i]
        assert w[i] == x[i - 3 if i % 8 >= 3 else i]


def test_votes_count_all_lanes(kernels, order):
    y = np.zeros(5, np.uint32)
    kernels["votes"]((1,), (32,), (y,))
    thirds = sum(1 << i for i in range(0, 32, 3))
    assert y.tolist() == [thirds, 1, 0, 5, (sum(range(32)) - 32 * 20) % 2**32]


def test_two_halves_of_a_warp_shuffle_apart(kernels, order):
    y = np.zeros(32, np.int32)
    kernels["half_masks"]((1,), (32,), (y,))
    assert y.tolist() == [sum(range(16))] * 16 + [sum(range(16, 32))] * 16


def test_atomics_lose_nothing(kernels, order):
    f, d = np.zeros(1, np.float32), np.zeros(1)
    i, u, n = np.zeros(3, np.int32), np.zeros(2, np.uint32), np.zeros(1, np.uint64)
    kernels["atomics"]((3,), (40,), (f, d, i, u, n))
    assert (f[0], d[0]) == (60, 30)
    assert i.tolist() == [-120, 39, -39]
    assert u.tolist() == [240, 360]
    assert n[0] == 120 << 33


def test_intrinsics_agree_with_pythons_mathematics(kernels):
    x, y = np.array([0.75], np.float32), np.zeros(15, np.float32)
    kernels["mathematics"]((1,), (1,), (x, y, np.int32(4)))
    r = math.sqrt(0.5)
    expected = [math.exp(0.75), 0.75**-0.5, r, -r, math.erf(0.75), math.log1p(0.75), 2**0.75]
    expected += [0.75**2 + 1, 0.75, 0.75**-0.5, 2, 9, 0.25, math.tanh(0.75), math.inf]
    np.testing.assert_allclose(y, expected, rtol=2e-7)


def test_bit_intrinsics_agree_with_pythons_integers(kernels):
    a, b = 0xDEADBEE0, 0x00C0FFEE
    y = np.zeros(7, np.uint32)
    kernels["bits"]((1,), (1,), (np.array([a, b], np.uint32), y))
    reverse = int(f"{b:032b}"[::-1], 2)
    shifted = ((b << 32 | a) << 8 >> 32) & 0xFFFFFFFF
    assert y.tolist() == [a * b >> 32, bin(a).count("1"), 8, 6, reverse, shifted, b >> 1]


def test_half_and_bfloat16_round_once_to_nearest(kernels):
    values = np.linspace(-3, 500, 32)
    h, b = values.astype(np.float16), values.astype(ml_dtypes.bfloat16)
    p, q = np.zeros(64, np.float16), np.zeros(64, ml_dtypes.bfloat16)
    kernels["narrow"]((1,), (32,), (h, b, p, q))
    wide, broad = h.astype(np.float32), b.astype(np.float32)
    with np.errstate(over="ignore"):
        assert np.array_equal(p[:32], (wide / np.float32(3)).astype(np.float16))
        assert np.array_equal(p[32:], (wide * wide).astype(np.float16))
    assert np.array_equal(q[:32], (broad / np.float32(3)).astype(ml_dtypes.bfloat16))
    exact = broad.astype(np.float64) ** 2 + broad
    assert np.array_equal(q[32:], exact.astype(np.float32).astype(ml_dtypes.bfloat16))


def test_vectors_and_structures_are_passed_as_they_lie_in_memory(kernels):
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    y = np.zeros(4, np.complex64)
    kernels["vectors"]((1,), (4,), (x, y, np.complex128(1 + 2j)))
    assert np.array_equal(y, (x[:, 0] + x[:, 1]) + 1j * (x[:, 2] * x[:, 3] + 2))


def test_shared_memory_starts_poisoned(kernels):
    y, z = np.zeros(1, np.float32), np.zeros(1, np.int32)
    kernels["poison"]((1,), (1,), (y, z))
    assert math.isnan(y[0])
    assert z[0] == -1


def test_dynamic_shared_memory_is_what_the_launch_asks_for(kernels, order):
    y = np.zeros(96, np.float32)
    kernels["dynamic"]((2,), (96,), (y,), shared_mem=96 * 4)
    assert np.array_equal(y, np.arange(96)[::-1])
    assert kernels["dynamic"].statistics.shared_bytes == 96 * 4


def test_a_partial_warp_may_vote(kernels):
    y = np.zeros(48, np.int32)
    kernels["partial_warp"]((1,), (48,), (y,))
    assert y.all()


def test_a_kernel_that_never_waits_costs_no_switches(kernels):
    kernels["places"]((1,), (64,), (np.zeros(64, np.int32),))
    assert kernels["places"].statistics.switches == 0


def test_counted_bytes_are_those_of_global_memory():
    m, k, n, tile = 11, 19, 13, 8
    a, b, c = (np.ones(shape, np.float32) for shape in ((m, k), (k, n), (m, n)))
    matmul = cuemu.Module(samples.MATMUL)["matmul"]
    with cuemu.counting():
        matmul((2, 2), (tile, tile), (a, b, c, *map(np.int32, (m, k, n))))
    # two columns of blocks read a, two rows of blocks read b
    assert matmul.statistics.bytes_read == 4 * (2 * m * k + 2 * k * n)
    assert matmul.statistics.bytes_written == 4 * m * n
    block_sum = cuemu.Module(samples.BLOCK_SUM)["block_sum"]
    x, y = np.ones(1000, np.float32), np.zeros(1, np.float32)
    with cuemu.counting():
        block_sum((3,), (96,), (x, y, np.int32(1000)))
    found = block_sum.statistics
    assert (found.bytes_read, found.bytes_written, found.atomics) == (4012, 12, 3)
    block_sum((3,), (96,), (x, y, np.int32(1000)))
    assert block_sum.statistics.bytes_read == 0


def test_a_null_pointer_is_an_unsigned_zero(kernels):
    with pytest.raises(cuemu.KernelFaultError, match=r"memory at .* was touched"):
        kernels["partial_warp"]((1,), (32,), (np.uint64(0),))


def test_options_define_names_and_empty_launches_count():
    module = cuemu.Module(
        'extern "C" __global__ void named(SCALAR* x) { x[0] = WIDTH; }',
        ("-DSCALAR=double", "--define-macro=WIDTH=7", "-std=c++17", "--use_fast_math"),
    )
    x, before = np.zeros(1), cuemu.launches["named"]
    module["named"]((1,), (1,), (x,))
    assert x[0] == 7
    assert cuemu.launches["named"] == before + 1


def test_a_module_is_compiled_once(monkeypatch):
    cuemu.Module(KERNELS)
    monkeypatch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
    cuemu.Module(KERNELS)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("branch", cuemu.DivergenceError, r"thread \(16, 0, 0\), the thread exits while 16 others"),
        ("two_barriers", cuemu.DivergenceError, r"line 7: divergent .* 32 threads wait at line 5"),
        ("early_return", cuemu.DivergenceError, r"thread \(3, 0, 0\), the thread exits while 3"),
        ("not_named", cuemu.WarpMaskError, r"line 13: lane 16 .* mask 0x0000ffff does not name it"),
        (
            "outside_mask",
            cuemu.WarpMaskError,
            r"line 18: the shuffle reads lane 16, which its mask",
        ),
        ("odd_lanes_wait", cuemu.DeadlockError, r"32 threads wait .* 32 wait at __syncthreads, l"),
        (
            "two_operations",
            cuemu.DivergenceError,
            r"line 2[56]: .* another warp operation, at line 2",
        ),
        ("much_static", cuemu.LaunchError, r"49156 bytes of static __shared__ .* has 49152"),
        ("wants_dynamic", cuemu.LaunchError, r"extern __shared__ in a launch with shared_mem=0"),
        ("null_pointer", cuemu.KernelFaultError, r"thread \(0, 0, 0\), memory at .* is no array's"),
        ("by_zero", cuemu.KernelFaultError, r"thread \(0, 0, 0\), an integer was divided by zero"),
        ("big_stack", cuemu.KernelFaultError, r"memory at .* was touched"),
    ],
)
def test_a_fault_of_threads_is_an_error_with_its_place_and_a_hint(faults, name, error, words):
    with pytest.raises(error, match=rf"{name}, grid .*block \(0, 0, 0\).*{words}.*Hint: "):
        faults[name]((1,), (64,), (np.zeros(64, np.float32),))


def test_a_shuffle_from_a_lane_that_does_not_exist_is_an_error(faults):
    with pytest.raises(cuemu.WarpMaskError, match="lane 16, which has exited or does not exist"):
        faults["missing_lane"]((1,), (48,), (np.zeros(48, np.float32),))


@pytest.mark.parametrize("name", ["endless", "endless_barriers"])
def test_a_kernel_that_does_not_end_is_stopped(faults, name):
    with cuemu.timeout(0.1), pytest.raises(cuemu.KernelTimeoutError, match="did not end in time"):
        faults[name]((1,), (64,), (np.zeros(64, np.float32),))


def test_after_a_fault_the_same_module_runs_on(faults, kernels):
    for _ in range(3):
        with pytest.raises(cuemu.DivergenceError):
            faults["branch"]((1,), (64,), (np.zeros(64, np.float32),))
        y = np.zeros(64, np.float32)
        with pytest.raises(cuemu.LaunchError):
            faults["wants_dynamic"]((1,), (64,), (y,))
        faults["wants_dynamic"]((1,), (64,), (y,), shared_mem=4)


X = np.zeros(8, np.float32)
PAIR = np.zeros((), [("x", np.float32), ("n", np.int32)])
GOOD = (X, np.int32(1), np.float64(2), np.bool_(True), PAIR, X)


def changed(position, value):
    return (*GOOD[:position], value, *GOOD[position + 1 :])


READ_ONLY = np.zeros(8, np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (GOOD[:5], ShapeError, r"5 arguments for 6 parameters.*Hint: it takes \(const float32\*"),
        (
            changed(0, X.astype(np.float64)),
            DTypeError,
            r"argument 0: an array of float64 for const f",
        ),
        (
            changed(0, np.zeros((4, 4), np.float32)[:, 1]),
            ShapeError,
            "argument 0: .* not C-contiguous",
        ),
        (
            changed(0, np.float32(1)),
            DTypeError,
            r"float32 for const float32\*. Hint: pass an array",
        ),
        (changed(1, 1), DTypeError, r"a Python int for int32. Hint: .* numpy.int32\(...\)"),
        (changed(1, np.int64(1)), DTypeError, "argument 1: a int64 for int32"),
        (changed(2, 2.0), DTypeError, r"a Python float for float64"),
        (changed(3, True), DTypeError, r"a Python bool for bool"),
        (changed(4, np.float32(1)), DTypeError, "a float32 for structure of 8 bytes"),
        (changed(5, READ_ONLY), ValueRangeError, r"a read-only array for anything\*"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kernels, arguments, error, words):
    kernels["takes"]((1,), (1,), GOOD)
    with pytest.raises(error, match=words):
        kernels["takes"]((1,), (1,), arguments)


def test_a_misaligned_view_is_refused_for_a_vector(kernels):
    x = np.zeros(20, np.float32)
    start = 1 if x.ctypes.data % 16 != 12 else 2
    with pytest.raises(ValueRangeError, match=r"is not aligned to 16 bytes. Hint: start the view"):
        kernels["vectors"](
            (1,), (1,), (x[start : start + 16], np.zeros(4, np.complex64), np.complex128(0))
        )


@pytest.mark.parametrize(
    ("grid", "block", "shared", "words"),
    [
        ((1,), (1025,), 0, r"a block of \(1025, 1, 1\) threads. Hint: at most 1024"),
        ((1,), (1, 1, 65), 0, r"and 64 along z"),
        ((1, 65536), (1,), 0, r"at most 65535 along y and z"),
        ((0,), (1,), 0, r"grid=\(0,\) is empty"),
        (1, (1,), 0, r"grid=1. Hint: a tuple"),
        (
            (1,),
            (1,),
            50000,
            r"shared_mem=50000 bytes, allowed are 49152. Hint: set the kernel's max_dyn",
        ),
    ],
)
def test_a_launch_beyond_a_device_is_refused(kernels, grid, block, shared, words):
    with pytest.raises(cuemu.LaunchError, match=words):
        kernels["dynamic"](grid, block, (X,), shared_mem=shared)


def test_more_shared_memory_must_be_asked_for(kernels):
    kernel = kernels["dynamic"].copy()
    kernel.allow_shared(100 << 10)
    kernel((1,), (8,), (X,), shared_mem=100 << 10)
    with pytest.raises(cuemu.LaunchError, match=r"_size_bytes=200000\. Hint: at most"):
        kernel.allow_shared(200000)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("__shared__ float a[4], b[4];", "line 2: __shared__ float a.4., b.4. is not accepted"),
        ("__shared__ float a = 1;", "line 2: __shared__ float a = 1 .*without a starting value"),
        ("extern __shared__ float a[4];", "line 2: extern __shared__ .*Hint: write NAME"),
        ("other<<<1, 1>>>();", "line 2: a launch from a kernel"),
        ('asm("nop;");', "line 2: inline assembly"),
        ("long long t = clock64();", "line 2: a clock"),
        ("float a = std::sqrt(2.0f);", "line 2: the standard library"),
        ("uint32_t a = 1;", "line 2: a type that NVRTC does not know .*write int, unsigned"),
        ("float a = INFINITY;", "line 2: a constant that NVRTC does not know"),
        ("float a = max(1, 2.0f);", "max has no overload for these two types"),
        ("float2 a; __shfl_sync(~0u, a, 1);", "shuffles take int, unsigned"),
        ("cooperative_groups::sync();", "line 2: a library"),
        ("float a = undeclared;", "g\\+\\+ refuses it:(.|\\n)*kernel.cu:2.*undeclared"),
        ("long long a; atomicAdd(&a, 1);", "atomicAdd has no overload for this type"),
    ],
)
def test_a_source_that_breaks_a_rule_is_refused_with_its_line(body, words):
    source = f'extern "C" __global__ void bad() {{\n{body}\n}}'
    with pytest.raises(cuemu.SourceError, match=words):
        cuemu.Module(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("#include <vector>\n", "line 1: the header vector is not"),
        ('#include "own.cuh"\n', "line 1: the header own.cuh is not .* in its place"),
        ('extern "C" {\n__global__ void a() {}\n}', "line 1: a block extern"),
        ("__global__ void mangled() {}", "it has no kernel. Hint: write extern"),
        ("__device__ __managed__ int x;", "line 1: __managed__ memory"),
    ],
)
def test_a_source_without_proper_kernels_is_refused(source, words):
    with pytest.raises(cuemu.SourceError, match=words):
        cuemu.Module(source)


def test_comments_are_not_looked_at():
    cuemu.Module(
        'extern "C" __global__ void good() { // __shared__ a, b; std::\n/* <<< asm\n */ }\n'
    )


def test_an_unknown_option_is_refused():
    with pytest.raises(ConfigError, match=r"unknown compiler option '-funroll'. Hint: -DNAME"):
        cuemu.Module(KERNELS, ("-funroll",))


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CUEMU_CXX", "no-such-compiler")
    with pytest.raises(
        MissingDependencyError, match=r"no no-such-compiler\. Hint: apt-get install"
    ):
        compiler.find_compiler()


def test_an_unknown_order_and_a_negative_time_are_refused():
    with pytest.raises(ValueRangeError, match=r"unknown order 'sideways'\. Hint: one of"):
        cuemu.order("sideways").__enter__()
    with pytest.raises(ValueRangeError, match=r"-1 s\. Hint: give a positive time"):
        cuemu.timeout(-1).__enter__()
