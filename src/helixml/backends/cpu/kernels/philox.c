/* Random words from counters: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy
   as 1, 2, 3", section 3.3), and dropout by them.

   Words are kept in lanes of 64 bits, of which the products take the lower half only: what is in
   the upper one does not matter. */
#include "rows.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

enum { LANES = VECTOR_BYTES / 8, GROUP = 2 * LANES, CHUNK = 256 };

typedef uint64_t words __attribute__((vector_size(VECTOR_BYTES)));

#define LOW UINT64_C(0xFFFFFFFF)

/* The lower halves of the lanes times a number. */
INLINE words product(words x, uint32_t factor) {
#if defined(__AVX512F__)
    return (words)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(factor));
#elif defined(__AVX2__)
    return (words)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(factor));
#elif defined(__SSE2__)
    return (words)_mm_mul_epu32((__m128i)x, _mm_set1_epi64x(factor));
#else
    return (x & LOW) * factor;
#endif
}

typedef struct {
    words x0, x1, x2, x3;
} lanes;

INLINE void mix(lanes *b, uint32_t key0, uint32_t key1) {
    words p0 = product(b->x0, UINT32_C(0xD2511F53)), p1 = product(b->x2, UINT32_C(0xCD9E8D57));
    b->x0 = (p1 >> 32) ^ b->x1 ^ (uint64_t)key0;
    b->x2 = (p0 >> 32) ^ b->x3 ^ (uint64_t)key1;
    b->x1 = p1;
    b->x3 = p0;
}

/* GROUP blocks of four words from a counter on; two vectors at once, for one waits for itself. */
INLINE void group(const helix_philox *p, uint64_t counter, uint32_t *to) {
    lanes b[2];
    for (int n = 0; n < 2; n++) {
        words count;
        for (int i = 0; i < LANES; i++)
            count[i] = counter + (uint64_t)(n * LANES + i);
        b[n] = (lanes){count, count >> 32, (words){0} + p->high[0], (words){0} + p->high[1]};
    }
    uint32_t key0 = p->key[0], key1 = p->key[1];
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        mix(&b[0], key0, key1);
        mix(&b[1], key0, key1);
        key0 += UINT32_C(0x9E3779B9);
        key1 += UINT32_C(0xBB67AE85);
    }
    for (int n = 0; n < 2; n++) {
        words first = (b[n].x0 & LOW) | b[n].x1 << 32, second = (b[n].x2 & LOW) | b[n].x3 << 32;
        for (int i = 0; i < LANES; i++, to += 4) {
            to[0] = (uint32_t)first[i];
            to[1] = (uint32_t)(first[i] >> 32);
            to[2] = (uint32_t)second[i];
            to[3] = (uint32_t)(second[i] >> 32);
        }
    }
}

static void write_words(const helix_philox *p, ptrdiff_t block, ptrdiff_t blocks, uint32_t *to) {
    uint32_t rest[4 * GROUP];
    uint64_t counter = p->low + (uint64_t)block;
    for (; blocks >= GROUP; blocks -= GROUP, counter += GROUP, to += 4 * GROUP)
        group(p, counter, to);
    if (blocks > 0) {
        group(p, counter, rest);
        memcpy(to, rest, blocks * 4 * sizeof *to);
    }
}

int EXPORT(philox)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_philox *p = call;
    ptrdiff_t start = first * HELIX_PHILOX_RUN, end = smaller(last * HELIX_PHILOX_RUN, p->blocks);
    write_words(p, start, end - start, p->words + 4 * start);
    return 0;
}

int EXPORT(drop)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_philox *p = call;
    const real *x = p->x;
    real *y = p->y, scale = (real)p->scale;
    uint32_t drawn[4 * CHUNK];
    ptrdiff_t end = smaller(last * HELIX_PHILOX_RUN, p->blocks);
    for (ptrdiff_t block = first * HELIX_PHILOX_RUN; block < end; block += CHUNK) {
        ptrdiff_t blocks = smaller(end - block, CHUNK), start = 4 * block;
        ptrdiff_t count = smaller(4 * blocks, p->size - start);
        write_words(p, block, blocks, drawn);
        for (ptrdiff_t i = 0; i < count; i++) {
            real scaled = x[start + i] * scale;
            y[start + i] = drawn[i] < p->threshold ? 0 : scaled;
        }
    }
    return 0;
}
