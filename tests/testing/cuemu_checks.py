"""Kernels and their checks: results against loops, at sizes that divide nothing.

What is named ``check_...`` is without faults; what is named ``fault_...`` has one, which only a
sanitizer is sure to see.
"""

import numpy as np

from helixml.testing import cuemu

BLOCK_SUM = """
extern "C" __global__ void block_sum(const float* x, float* y, int n) {
    __shared__ float part[32];
    float sum = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        sum += x[i];
    for (int offset = 16; offset > 0; offset /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, offset);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) part[warp] = sum;
    __syncthreads();
    if (warp == 0) {
        sum = lane < (int)blockDim.x / 32 ? part[lane] : 0.0f;
        for (int offset = 16; offset > 0; offset /= 2)
            sum += __shfl_down_sync(0xffffffffu, sum, offset);
        if (lane == 0) atomicAdd(y, sum);
    }
}
"""

MATMUL = """
#define TILE 8
extern "C" __global__ void matmul(const float* a, const float* b, float* c, int m, int k, int n) {
    __shared__ float left[TILE][TILE];
    __shared__ float right[TILE][TILE + 1];
    int row = blockIdx.y * TILE + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
    float sum = 0.0f;
    for (int start = 0; start < k; start += TILE) {
        int across = start + threadIdx.x, down = start + threadIdx.y;
        left[threadIdx.y][threadIdx.x] = row < m && across < k ? a[row * k + across] : 0.0f;
        right[threadIdx.y][threadIdx.x] = column < n && down < k ? b[down * n + column] : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; i++) sum += left[threadIdx.y][i] * right[i][threadIdx.x];
        __syncthreads();
    }
    if (row < m && column < n) c[row * n + column] = sum;
}
"""

SCAN = """
template <typename T, int WIDTH>
__global__ void scan(const T* x, T* y, int n) {
    extern __shared__ double memory[];
    T* cells = reinterpret_cast<T*>(memory);
    T carried = 0;
    for (int start = 0; start < n; start += WIDTH) {
        int i = start + threadIdx.x;
        cells[threadIdx.x] = i < n ? x[i] : T(0);
        __syncthreads();
        for (int offset = 1; offset < WIDTH; offset *= 2) {
            T other = (int)threadIdx.x >= offset ? cells[threadIdx.x - offset] : T(0);
            __syncthreads();
            cells[threadIdx.x] += other;
            __syncthreads();
        }
        if (i < n) y[i] = carried + cells[threadIdx.x];
        carried += cells[WIDTH - 1];
        __syncthreads();
    }
}
"""

NEIGHBOURS = """
extern "C" __global__ void neighbours(float* y) {
    __shared__ float cells[64];
    cells[threadIdx.x] = threadIdx.x;
    __syncwarp();
    y[threadIdx.x] = cells[threadIdx.x ^ 1];
}
"""


def check_block_sum(source=BLOCK_SUM):
    x = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    y = np.zeros(1, np.float32)
    cuemu.Module(source)["block_sum"]((3,), (96,), (x, y, np.int32(x.size)))
    assert abs(float(y[0]) - float(np.sum(x, dtype=np.float64))) < 1e-3


def check_matmul(source=MATMUL):
    m, k, n = 11, 19, 13
    rng = np.random.default_rng(2)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
    c = np.full((m, n), np.nan, np.float32)
    sizes = map(np.int32, (m, k, n))
    cuemu.Module(source)["matmul"]((2, 2), (8, 8), (a, b, c, *sizes))
    expected = [
        [sum(float(a[i, t]) * float(b[t, j]) for t in range(k)) for j in range(n)] for i in range(m)
    ]
    assert np.allclose(c, expected, rtol=1e-5, atol=1e-5)


def check_scan(source=SCAN, kind="double"):
    dtype = {"float": np.float32, "double": np.float64}[kind]
    x = np.random.default_rng(3).integers(-9, 9, 150).astype(dtype)
    y = np.full_like(x, np.nan)
    kernel = cuemu.Module(source, name_expressions=(f"scan<{kind}, 64>",))[f"scan<{kind}, 64>"]
    kernel((1,), (64,), (x, y, np.int32(x.size)), shared_mem=64 * 8)
    total, expected = 0, []
    for value in x:
        total += value
        expected.append(total)
    assert np.array_equal(y, expected)


def check_neighbours(source=NEIGHBOURS):
    y = np.full(64, np.nan, np.float32)
    cuemu.Module(source)["neighbours"]((1,), (64,), (y,))
    assert np.array_equal(y, [i + 1 if i % 2 == 0 else i - 1 for i in range(64)])


RACES = """
extern "C" __global__ void add_without_atomic(float* y) {
    if (threadIdx.x == 0) y[0] += 1.0f;
}

extern "C" __global__ void add_between_barriers(float* y) {
    __syncthreads();
    if (threadIdx.x == 0) y[0] += 1.0f;
    __syncthreads();
    __syncthreads();
}
"""

OUTSIDE = """
extern "C" __global__ void read_outside(const float* x, float* y, int n) {
    int i = threadIdx.x;
    if (i <= n) y[i] = x[i];
}

extern "C" __global__ void write_outside_shared(float* y) {
    __shared__ float cells[32];
    cells[threadIdx.x + 1] = 1.0f;
    __syncthreads();
    y[threadIdx.x] = cells[threadIdx.x];
}

extern "C" __global__ void load_misaligned(const float* x, float* y) {
    const float4* four = reinterpret_cast<const float4*>(x + 1);
    y[threadIdx.x] = four[threadIdx.x].x;
}
"""


def fault_no_barrier():
    check_block_sum(BLOCK_SUM.replace("    __syncthreads();\n", ""))


def fault_no_last_barrier():
    last = MATMUL.rindex("        __syncthreads();\n")
    check_matmul(MATMUL[:last] + MATMUL[last:].replace("        __syncthreads();\n", ""))


def fault_no_warp_barrier():
    check_neighbours(NEIGHBOURS.replace("    __syncwarp();\n", ""))


def fault_blocks_without_atomic():
    y = np.zeros(1, np.float32)
    cuemu.Module(RACES)["add_without_atomic"]((3,), (32,), (y,))
    assert y[0] == 3


def fault_blocks_between_barriers():
    y = np.zeros(1, np.float32)
    cuemu.Module(RACES)["add_between_barriers"]((3,), (64,), (y,))
    assert y[0] == 3


def fault_read_outside():
    x, y = np.ones(300, np.float32), np.empty(301, np.float32)
    cuemu.Module(OUTSIDE)["read_outside"]((1,), (512,), (x, y, np.int32(300)))


def fault_write_outside_shared():
    y = np.empty(32, np.float32)
    cuemu.Module(OUTSIDE)["write_outside_shared"]((1,), (32,), (y,))


def fault_load_misaligned():
    x, y = np.ones(64, np.float32), np.empty(8, np.float32)
    cuemu.Module(OUTSIDE)["load_misaligned"]((1,), (8,), (x, y))
