// Products of a few vectors with a matrix as it is stored: of SCALAR, of bfloat16 or of int8.
//
// Nearly all the time goes to reading the matrix, once: a warp takes a row of it, 16 bytes a thread
// at a time where addresses allow it (PACKED), and multiplies it with all vectors.
//
// The launcher defines KIND, PACKED and VECTORS (the most that there are).
#ifndef HELIXML_STORED
#define HELIXML_STORED
#include "reduction.cuh"

#if KIND == 0
typedef SCALAR WEIGHT;
__device__ __forceinline__ ACCUM weight_value(WEIGHT w) { return (ACCUM)widened(w); }
#elif KIND == 1
typedef unsigned short WEIGHT;  // a bfloat16 is the upper half of a float
__device__ __forceinline__ ACCUM weight_value(WEIGHT w) { return __uint_as_float((unsigned)w << 16); }
#else
typedef signed char WEIGHT;
__device__ __forceinline__ ACCUM weight_value(WEIGHT w) { return (ACCUM)w; }
#endif

#define WEIGHTS (16 / (int)sizeof(WEIGHT))  // that 16 bytes hold

struct alignas(16) WeightPack { WEIGHT at[WEIGHTS]; };

// sums[i] = row of the matrix . vector i, for all lanes; vectors lie `stride` apart
__device__ __forceinline__ void row_products(
    const void* matrix, long long row, const SCALAR* x, int vectors, long long stride, int d,
    ACCUM* sums)
{
    const WEIGHT* weights = reinterpret_cast<const WEIGHT*>(matrix) + row * d;
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) sums[i] = 0;
    if (PACKED) {
#pragma unroll 2
        for (int c = lane * WEIGHTS; c < d; c += WARP * WEIGHTS) {
            WeightPack pack = *reinterpret_cast<const WeightPack*>(weights + c);
#pragma unroll
            for (int i = 0; i < VECTORS; i++) {
                if (i >= vectors) break;
#pragma unroll
                for (int part = 0; part < WEIGHTS / PACK; part++) {
                    ACCUM values[PACK];
                    load_pack(x + i * stride + c + part * PACK, values);
#pragma unroll
                    for (int j = 0; j < PACK; j++)
                        sums[i] += weight_value(pack.at[part * PACK + j]) * values[j];
                }
            }
        }
    } else {
        for (int c = lane; c < d; c += WARP) {
            ACCUM weight = weight_value(weights[c]);
#pragma unroll
            for (int i = 0; i < VECTORS; i++)
                if (i < vectors) sums[i] += weight * load(x + i * stride + c);
        }
    }
#pragma unroll
    for (int i = 0; i < VECTORS; i++) sums[i] = warp_sum(sums[i]);
}

#endif
