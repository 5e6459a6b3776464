// Functions of single numbers, their gradients, and products with them (gates).
//
// A function f has a value and a slope; of_one computes f(x), pull g f'(x), gated x f(gate) and
// gated_pull the gradients g f(gate) and g x f'(gate).
#include "prelude.cuh"

#define SQRT_HALF ((ACCUM)0.70710678118654752440)
#define BELL_TOP ((ACCUM)0.39894228040143267794)  // of the normal density, 1 / sqrt(2 pi)

__device__ __forceinline__ ACCUM logistic(ACCUM x)
{
    return quotient((ACCUM)1, 1 + exponential(-x));
}

struct Logistic {
    static __device__ __forceinline__ ACCUM value(ACCUM x) { return logistic(x); }
};

struct Erf {
    static __device__ __forceinline__ ACCUM value(ACCUM x) { return erf(x); }
};

struct Silu {
    static __device__ __forceinline__ ACCUM value(ACCUM x) { return x * logistic(x); }
    static __device__ __forceinline__ ACCUM slope(ACCUM x)
    {
        ACCUM s = logistic(x);
        return s * (1 + x * (1 - s));
    }
};

struct Gelu {
    static __device__ __forceinline__ ACCUM share(ACCUM x)
    {
        return (ACCUM)0.5 * (1 + erf(x * SQRT_HALF));
    }
    static __device__ __forceinline__ ACCUM value(ACCUM x) { return x * share(x); }
    static __device__ __forceinline__ ACCUM slope(ACCUM x)
    {
        return share(x) + x * BELL_TOP * exponential((ACCUM)-0.5 * x * x);
    }
};

struct Softplus {
    static __device__ __forceinline__ ACCUM value(ACCUM x)
    {
        return (x < 0 ? 0 : x) + log1p(exponential(x < 0 ? x : -x));
    }
    static __device__ __forceinline__ ACCUM slope(ACCUM x) { return logistic(x); }
};

// How many entries at the front can be walked in packs
__device__ __forceinline__ long long packed(
    long long size, const void* a, const void* b, const void* c, const void* d, const void* e)
{
    unsigned long long all = (unsigned long long)a | (unsigned long long)b | (unsigned long long)c
        | (unsigned long long)d | (unsigned long long)e;
    return all % 16 ? 0 : size - size % PACK;
}

template <class F>
__device__ __forceinline__ void of_one(const SCALAR* x, SCALAR* y, long long size)
{
    long long front = packed(size, x, y, 0, 0, 0);
    for (long long i = position() * PACK; i < front; i += positions() * PACK) {
        ACCUM values[PACK];
        load_pack(x + i, values);
#pragma unroll
        for (int j = 0; j < PACK; j++) values[j] = F::value(values[j]);
        store_pack(y + i, values);
    }
    for (long long i = front + position(); i < size; i += positions())
        store(y + i, F::value(load(x + i)));
}

template <class F>
__device__ __forceinline__ void pull(const SCALAR* x, const SCALAR* g, SCALAR* dx, long long size)
{
    long long front = packed(size, x, g, dx, 0, 0);
    for (long long i = position() * PACK; i < front; i += positions() * PACK) {
        ACCUM values[PACK];
        ACCUM pulls[PACK];
        load_pack(x + i, values);
        load_pack(g + i, pulls);
#pragma unroll
        for (int j = 0; j < PACK; j++) pulls[j] *= F::slope(values[j]);
        store_pack(dx + i, pulls);
    }
    for (long long i = front + position(); i < size; i += positions())
        store(dx + i, load(g + i) * F::slope(load(x + i)));
}

template <class F>
__device__ __forceinline__ void gated(
    const SCALAR* x, const SCALAR* gate, SCALAR* y, long long size)
{
    long long front = packed(size, x, gate, y, 0, 0);
    for (long long i = position() * PACK; i < front; i += positions() * PACK) {
        ACCUM values[PACK];
        ACCUM gates[PACK];
        load_pack(x + i, values);
        load_pack(gate + i, gates);
#pragma unroll
        for (int j = 0; j < PACK; j++) values[j] *= F::value(gates[j]);
        store_pack(y + i, values);
    }
    for (long long i = front + position(); i < size; i += positions())
        store(y + i, load(x + i) * F::value(load(gate + i)));
}

template <class F>
__device__ __forceinline__ void gated_pull(
    const SCALAR* x, const SCALAR* gate, const SCALAR* g, SCALAR* dx, SCALAR* dgate, long long size)
{
    long long front = packed(size, x, gate, g, dx, dgate);
    for (long long i = position() * PACK; i < front; i += positions() * PACK) {
        ACCUM values[PACK];
        ACCUM gates[PACK];
        ACCUM pulls[PACK];
        load_pack(x + i, values);
        load_pack(gate + i, gates);
        load_pack(g + i, pulls);
#pragma unroll
        for (int j = 0; j < PACK; j++) {
            values[j] *= pulls[j] * F::slope(gates[j]);
            pulls[j] *= F::value(gates[j]);
        }
        store_pack(dx + i, pulls);
        store_pack(dgate + i, values);
    }
    for (long long i = front + position(); i < size; i += positions()) {
        ACCUM at = load(gate + i);
        ACCUM weight = load(g + i);
        store(dgate + i, load(x + i) * weight * F::slope(at));
        store(dx + i, weight * F::value(at));
    }
}

extern "C" __global__ void sigmoid(const SCALAR* x, SCALAR* y, long long size)
{
    of_one<Logistic>(x, y, size);
}

extern "C" __global__ void error_function(const SCALAR* x, SCALAR* y, long long size)
{
    of_one<Erf>(x, y, size);
}

extern "C" __global__ void silu(const SCALAR* x, SCALAR* y, long long size)
{
    of_one<Silu>(x, y, size);
}

extern "C" __global__ void gelu(const SCALAR* x, SCALAR* y, long long size)
{
    of_one<Gelu>(x, y, size);
}

extern "C" __global__ void softplus(const SCALAR* x, SCALAR* y, long long size)
{
    of_one<Softplus>(x, y, size);
}

extern "C" __global__ void silu_vjp(const SCALAR* x, const SCALAR* g, SCALAR* dx, long long size)
{
    pull<Silu>(x, g, dx, size);
}

extern "C" __global__ void gelu_vjp(const SCALAR* x, const SCALAR* g, SCALAR* dx, long long size)
{
    pull<Gelu>(x, g, dx, size);
}

extern "C" __global__ void softplus_vjp(
    const SCALAR* x, const SCALAR* g, SCALAR* dx, long long size)
{
    pull<Softplus>(x, g, dx, size);
}

extern "C" __global__ void silu_gate(const SCALAR* x, const SCALAR* gate, SCALAR* y, long long size)
{
    gated<Silu>(x, gate, y, size);
}

extern "C" __global__ void gelu_gate(const SCALAR* x, const SCALAR* gate, SCALAR* y, long long size)
{
    gated<Gelu>(x, gate, y, size);
}

extern "C" __global__ void silu_gate_vjp(
    const SCALAR* x, const SCALAR* gate, const SCALAR* g, SCALAR* dx, SCALAR* dgate, long long size)
{
    gated_pull<Silu>(x, gate, g, dx, dgate, size);
}

extern "C" __global__ void gelu_gate_vjp(
    const SCALAR* x, const SCALAR* gate, const SCALAR* g, SCALAR* dx, SCALAR* dgate, long long size)
{
    gated_pull<Gelu>(x, gate, g, dx, dgate, size);
}
