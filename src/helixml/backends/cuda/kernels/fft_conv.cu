// The long convolution and its gradient, through transforms in shared memory. For each channel:
//   p_t = sum_(s<=t) k_(t-s) u_s + bias u_t,  y_t = p_t gate_t
//
// Filters are real, so a block transforms two sequences of a batch as one of complex numbers, u + i
// u': the parts of its product with the filter's spectrum are the two convolutions. The same holds
// for correlations; for that of two such pairs the real part is the sum of both.
//
// Transforms are of N = 2^LOG numbers, in place. From time to frequencies, strides fall and the
// order of bits is reversed at the end; back, strides rise; in between the order does not matter.
// A thread takes 8 numbers through three stages at a time (Cooley & Tukey 1965). A number stands
// at its index and a sixteenth of it, so that strides of powers of 2 do not meet in one bank.
//
// The launcher defines LOG and THREADS.
#include "prelude.cuh"

#define N (1 << LOG)
#define PER_THREAD ((N + THREADS - 1) / THREADS)

struct alignas(2 * sizeof(ACCUM)) Complex { ACCUM re, im; };

__device__ __forceinline__ Complex plus(Complex x, Complex y) { return Complex{x.re + y.re, x.im + y.im}; }
__device__ __forceinline__ Complex minus(Complex x, Complex y) { return Complex{x.re - y.re, x.im - y.im}; }
__device__ __forceinline__ Complex times(Complex x, Complex y)
{
    return Complex{x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
__device__ __forceinline__ Complex conjugate(Complex x) { return Complex{x.re, -x.im}; }
__device__ __forceinline__ int placed(int i) { return i + i / 16; }

// STAGES stages of every run of 2^log numbers. roots: e^(-2 pi i j / N) for j below N / 2.
template <int STAGES, bool BACK>
__device__ __forceinline__ void pass(Complex* numbers, const Complex* roots, int log)
{
    const int count = 1 << STAGES, step = 1 << (log - STAGES);
    for (int i = threadIdx.x; i < N / count; i += THREADS) {
        int inner = i & (step - 1), first = ((i - inner) << STAGES) + inner;
        Complex x[count];
#pragma unroll
        for (int j = 0; j < count; j++) x[j] = numbers[placed(first + j * step)];
#pragma unroll
        for (int stage = 0; stage < STAGES; stage++) {
            const int half = BACK ? 1 << stage : count >> (stage + 1);
            int every = N >> (log - STAGES + 1 + (BACK ? stage : STAGES - 1 - stage));
#pragma unroll
            for (int j = 0; j < count; j++) {
                if (j & half) continue;
                Complex root = roots[(j % half * step + inner) * every];
                Complex a = x[j], b = x[j | half];
                if (BACK) b = times(b, conjugate(root));
                x[j] = plus(a, b);
                x[j | half] = minus(a, b);
                if (!BACK) x[j | half] = times(x[j | half], root);
            }
        }
#pragma unroll
        for (int j = 0; j < count; j++) numbers[placed(first + j * step)] = x[j];
    }
    __syncthreads();
}

__device__ __forceinline__ void transform(Complex* numbers, const Complex* roots)
{
    for (int log = LOG; log >= 3; log -= 3) pass<3, false>(numbers, roots, log);
    if (LOG % 3 == 2) pass<2, false>(numbers, roots, 2);
    if (LOG % 3 == 1) pass<1, false>(numbers, roots, 1);
}

// Back to time, N times too large
__device__ __forceinline__ void transform_back(Complex* numbers, const Complex* roots)
{
    if (LOG % 3 == 2) pass<2, true>(numbers, roots, 2);
    if (LOG % 3 == 1) pass<1, true>(numbers, roots, 1);
    for (int log = LOG % 3 + 3; log <= LOG; log += 3) pass<3, true>(numbers, roots, log);
}

// The two sequences of a block; the second may be missing
struct Pair {
    long long first, second;
    int channel;
    bool both;

    __device__ __forceinline__ Pair(int b, int d, int l)
    {
        channel = blockIdx.x % d;
        int batch = blockIdx.x / d * 2;
        first = ((long long)batch * d + channel) * l;
        second = first + (long long)d * l;
        both = batch + 1 < b;
    }
};

// x times factor (or 1), filled up with zeros; the barrier is behind it
__device__ __forceinline__ void read_pair(
    Complex* numbers, const SCALAR* x, const SCALAR* factor, const Pair& at, int l)
{
#pragma unroll 2
    for (int i = threadIdx.x; i < N; i += THREADS) {
        Complex value = {0, 0};
        if (i < l) {
            value.re = load(x + at.first + i) * (factor ? load(factor + at.first + i) : (ACCUM)1);
            if (at.both)
                value.im
                    = load(x + at.second + i) * (factor ? load(factor + at.second + i) : (ACCUM)1);
        }
        numbers[placed(i)] = value;
    }
    __syncthreads();
}

// No barrier is behind it: whatever is written next, a thread writes where it has read
__device__ __forceinline__ void write_pair(
    const Complex* numbers, SCALAR* x, const SCALAR* factor, const Pair& at, int l)
{
#pragma unroll 2
    for (int i = threadIdx.x; i < l; i += THREADS) {
        Complex value = numbers[placed(i)];
        store(x + at.first + i, value.re * (factor ? load(factor + at.first + i) : (ACCUM)1));
        if (at.both)
            store(x + at.second + i, value.im * (factor ? load(factor + at.second + i) : (ACCUM)1));
    }
}

// The spectrum at place i of the filter and, as a filter of one tap, of the bias; scaled by 1 / N
struct Filter {
    const Complex* spectrum;
    ACCUM bias;

    __device__ __forceinline__ Complex at(int i) const
    {
        Complex value = spectrum[i];
        return Complex{value.re + bias, value.im};
    }
};

// spectra: of filters (rows, m), each divided by N
extern "C" __global__ void __launch_bounds__(THREADS, 1) spectrum(
    const SCALAR* __restrict__ k, const ACCUM* __restrict__ roots, ACCUM* __restrict__ spectra,
    int m)
{
    extern __shared__ Complex shared[];
    k += (long long)blockIdx.x * m;
    for (int i = threadIdx.x; i < N; i += THREADS)
        shared[placed(i)] = Complex{i < m ? load(k + i) / N : (ACCUM)0, 0};
    __syncthreads();
    transform(shared, reinterpret_cast<const Complex*>(roots));
    Complex* to = reinterpret_cast<Complex*>(spectra) + (long long)blockIdx.x * N;
    for (int i = threadIdx.x; i < N; i += THREADS) to[i] = shared[placed(i)];
}

// rows: how many filters there are, d or 1
extern "C" __global__ void __launch_bounds__(THREADS, 1) conv(
    const SCALAR* __restrict__ u, const ACCUM* __restrict__ spectra,
    const SCALAR* __restrict__ bias, const SCALAR* __restrict__ gate,
    const ACCUM* __restrict__ roots, SCALAR* __restrict__ y, int b, int d, int l, int rows)
{
    extern __shared__ Complex shared[];
    const Complex* turns = reinterpret_cast<const Complex*>(roots);
    const Pair at(b, d, l);
    const Filter filter = {
        reinterpret_cast<const Complex*>(spectra) + (rows > 1 ? (long long)at.channel * N : 0),
        bias ? load(bias + at.channel) / N : (ACCUM)0};
    read_pair(shared, u, 0, at, l);
    transform(shared, turns);
#pragma unroll 2
    for (int i = threadIdx.x; i < N; i += THREADS)
        shared[placed(i)] = times(shared[placed(i)], filter.at(i));
    __syncthreads();
    transform_back(shared, turns);
    write_pair(shared, y, gate, at, l);
}

// With gp_t = g_t gate_t: gu_s = sum_t gp_t k_(t-s) + bias gp_s, gk_j = sum_t gp_t u_(t-j), and the
// gate's is g_t p_t. gk: (pairs, d, m); that of the bias is that of the first tap.
extern "C" __global__ void __launch_bounds__(THREADS, 1) conv_vjp(
    const SCALAR* __restrict__ g, const SCALAR* __restrict__ u, const ACCUM* __restrict__ spectra,
    const SCALAR* __restrict__ bias, const SCALAR* __restrict__ gate,
    const ACCUM* __restrict__ roots, SCALAR* __restrict__ gu, ACCUM* __restrict__ gk,
    SCALAR* __restrict__ ggate, int b, int d, int l, int m, int rows)
{
    extern __shared__ Complex shared[];
    const Complex* turns = reinterpret_cast<const Complex*>(roots);
    const Pair at(b, d, l);
    const Filter filter = {
        reinterpret_cast<const Complex*>(spectra) + (rows > 1 ? (long long)at.channel * N : 0),
        bias ? load(bias + at.channel) / N : (ACCUM)0};

    Complex inputs[PER_THREAD];  // the spectrum of u, then that of gk
    read_pair(shared, u, 0, at, l);
    transform(shared, turns);
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++) {
        int i = j * THREADS + threadIdx.x;
        if (i >= N) continue;
        inputs[j] = shared[placed(i)];
        if (ggate) shared[placed(i)] = times(inputs[j], filter.at(i));
    }
    __syncthreads();
    if (ggate) {
        transform_back(shared, turns);
        write_pair(shared, ggate, g, at, l);
    }

    read_pair(shared, g, gate, at, l);
    transform(shared, turns);
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++) {
        int i = j * THREADS + threadIdx.x;
        if (i >= N) continue;
        Complex pulled = shared[placed(i)];
        inputs[j] = times(pulled, conjugate(inputs[j]));
        shared[placed(i)] = times(pulled, conjugate(filter.at(i)));
    }
    __syncthreads();
    transform_back(shared, turns);
    write_pair(shared, gu, 0, at, l);

    if (!gk) return;
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++) {
        int i = j * THREADS + threadIdx.x;
        if (i < N) shared[placed(i)] = inputs[j];
    }
    __syncthreads();
    transform_back(shared, turns);
    gk += (long long)blockIdx.x * m;
    for (int i = threadIdx.x; i < m; i += THREADS) gk[i] = shared[placed(i)].re / N;
}
