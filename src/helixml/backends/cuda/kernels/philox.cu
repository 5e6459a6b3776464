// Philox4x32-10 (Salmon et al. 2011, section 3.3), and dropping by its words.
//
// Block i of four words is that of counter + i, a number of 128 bits of which c0 are the lowest.
#include "prelude.cuh"

__device__ __forceinline__ uint4 words_of(
    unsigned long long number, unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned k0,
    unsigned k1)
{
    unsigned long long before = ((unsigned long long)c1 << 32) | c0;
    unsigned long long low = before + number;
    unsigned long long high = (((unsigned long long)c3 << 32) | c2) + (low < before ? 1 : 0);
    unsigned x0 = (unsigned)low;
    unsigned x1 = (unsigned)(low >> 32);
    unsigned x2 = (unsigned)high;
    unsigned x3 = (unsigned)(high >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned long long p0 = (unsigned long long)x0 * 0xD2511F53u;
        unsigned long long p1 = (unsigned long long)x2 * 0xCD9E8D57u;
        x0 = (unsigned)(p1 >> 32) ^ x1 ^ k0;
        x2 = (unsigned)(p0 >> 32) ^ x3 ^ k1;
        x1 = (unsigned)p1;
        x3 = (unsigned)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(x0, x1, x2, x3);
}

extern "C" __global__ void philox(
    unsigned* words, long long blocks, unsigned c0, unsigned c1, unsigned c2, unsigned c3,
    unsigned k0, unsigned k1)
{
    for (long long i = position(); i < blocks; i += positions())
        reinterpret_cast<uint4*>(words)[i] = words_of(i, c0, c1, c2, c3, k0, k1);
}

// A thread takes as many entries as make whole packs and use whole blocks of words
#define PORTION (PACK < 4 ? 4 : PACK)

extern "C" __global__ void drop(
    const SCALAR* x, SCALAR* y, long long size, unsigned c0, unsigned c1, unsigned c2, unsigned c3,
    unsigned k0, unsigned k1, unsigned threshold, ACCUM scale)
{
    bool aligned = ((unsigned long long)x | (unsigned long long)y) % 16 == 0;
    for (long long i = position() * PORTION; i < size; i += positions() * PORTION) {
        unsigned words[PORTION];
        ACCUM values[PORTION];
#pragma unroll
        for (int j = 0; j < PORTION; j += 4) {
            uint4 block = words_of((i + j) / 4, c0, c1, c2, c3, k0, k1);
            words[j] = block.x;
            words[j + 1] = block.y;
            words[j + 2] = block.z;
            words[j + 3] = block.w;
        }
        if (aligned && i + PORTION <= size) {
#pragma unroll
            for (int j = 0; j < PORTION; j += PACK) load_pack(x + i + j, values + j);
#pragma unroll
            for (int j = 0; j < PORTION; j++)
                values[j] = words[j] < threshold ? 0 : values[j] * scale;
#pragma unroll
            for (int j = 0; j < PORTION; j += PACK) store_pack(y + i + j, values + j);
        } else {
            for (int j = 0; j < PORTION && i + j < size; j++)
                store(y + i + j, words[j] < threshold ? (ACCUM)0 : load(x + i + j) * scale);
        }
    }
}
