/* Products of a stored matrix with few vectors. The matrix is read once, as it lies, so the speed
   is that of the memory. */
#ifndef HELIX_DOTS_H
#define HELIX_DOTS_H

#include "rows.h"

enum { ROWS_AT_ONCE = 4, MOST_VECTORS = 4 };

/* WIDTH entries of a matrix as real: of a bfloat16, the upper half of a float; of an int8. Older
   compilers make conversions of vectors slow, so instructions are named. */
#if defined(__AVX512F__) && !HELIX_DOUBLE
INLINE vec load_bfloat16(const uint16_t *from) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return (vec)_mm512_slli_epi32(wide, 16);
}
INLINE vec load_int8(const int8_t *from) {
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
}
#elif defined(__AVX512F__)
INLINE vec load_bfloat16(const uint16_t *from) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return (vec)_mm512_cvtps_pd((__m256)_mm256_slli_epi32(wide, 16));
}
INLINE vec load_int8(const int8_t *from) {
    return (vec)_mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}
#elif defined(__AVX2__) && !HELIX_DOUBLE
INLINE vec load_bfloat16(const uint16_t *from) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return (vec)_mm256_slli_epi32(wide, 16);
}
INLINE vec load_int8(const int8_t *from) {
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}
#elif defined(__AVX2__)
INLINE vec load_bfloat16(const uint16_t *from) {
    __m128i wide = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)from));
    return (vec)_mm256_cvtps_pd((__m128)_mm_slli_epi32(wide, 16));
}
INLINE vec load_int8(const int8_t *from) {
    return (vec)_mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_loadu_si32(from)));
}
#else
typedef uint32_t narrow_words __attribute__((vector_size(WIDTH * 4)));
typedef float narrow_floats __attribute__((vector_size(WIDTH * 4)));
typedef uint16_t narrow_halves __attribute__((vector_size(WIDTH * 2)));
typedef int8_t narrow_bytes __attribute__((vector_size(WIDTH)));
INLINE vec load_bfloat16(const uint16_t *from) {
    narrow_halves x;
    memcpy(&x, from, sizeof x);
    narrow_words wide = __builtin_convertvector(x, narrow_words) << 16;
    return __builtin_convertvector((narrow_floats)wide, vec);
}
INLINE vec load_int8(const int8_t *from) {
    narrow_bytes x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, vec);
}
#endif

INLINE const char *stored_at(const void *data, int storage, ptrdiff_t index) {
    size_t bytes = storage == HELIX_BFLOAT16 ? 2 : storage == HELIX_INT8 ? 1 : sizeof(real);
    return (const char *)data + index * (ptrdiff_t)bytes;
}

INLINE vec load_stored(const void *data, int storage, ptrdiff_t index) {
    if (storage == HELIX_BFLOAT16)
        return load_bfloat16((const uint16_t *)data + index);
    if (storage == HELIX_INT8)
        return load_int8((const int8_t *)data + index);
    return load((const real *)data + index);
}

INLINE real stored_entry(const void *data, int storage, ptrdiff_t index) {
    if (storage == HELIX_BFLOAT16) {
        uint32_t word = (uint32_t)((const uint16_t *)data)[index] << 16;
        float x;
        memcpy(&x, &word, sizeof x);
        return x;
    }
    return storage == HELIX_INT8 ? ((const int8_t *)data)[index] : ((const real *)data)[index];
}

/* Products of `rows` rows with `vectors` vectors x, which lie x_row apart, to y, likewise. */
INLINE void multiply_rows(const helix_matrix *m, int storage, ptrdiff_t row, int rows,
                          const real *x, ptrdiff_t x_row, int vectors, real *y, ptrdiff_t y_row) {
    ptrdiff_t size = m->columns, start[ROWS_AT_ONCE], p = 0;
    vec sums[ROWS_AT_ONCE][MOST_VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        start[i] = (row + i) * size;
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sums[i][j] = splat(0);
    }
    for (; p + WIDTH <= size; p += WIDTH) {
        vec inputs[MOST_VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            inputs[j] = load(x + j * x_row + p);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            vec w = load_stored(m->data, storage, start[i] + p);
            prefetch_far(stored_at(m->data, storage, start[i] + ROWS_AT_ONCE * size + p));
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sums[i][j] += w * inputs[j];
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            real sum = sum_lanes(sums[i][j]);
            for (ptrdiff_t q = p; q < size; q++)
                sum += stored_entry(m->data, storage, start[i] + q) * x[j * x_row + q];
            if (m->scale)
                sum *= ((const real *)m->scale)[row + i];
            if (m->bias)
                sum += ((const real *)m->bias)[row + i];
            y[j * y_row + row + i] = sum;
        }
}

INLINE void multiply_vectors(const helix_matrix *m, int storage, ptrdiff_t row, ptrdiff_t end,
                             const real *x, ptrdiff_t x_row, int vectors, real *y,
                             ptrdiff_t y_row) {
    for (; row + ROWS_AT_ONCE <= end; row += ROWS_AT_ONCE)
        multiply_rows(m, storage, row, ROWS_AT_ONCE, x, x_row, vectors, y, y_row);
    for (; row < end; row++)
        multiply_rows(m, storage, row, 1, x, x_row, vectors, y, y_row);
}

INLINE void multiply_stored(const helix_matrix *m, int storage, ptrdiff_t row, ptrdiff_t end,
                            const real *x, ptrdiff_t x_row, ptrdiff_t count, real *y,
                            ptrdiff_t y_row) {
    enum { RUN = 4 * ROWS_AT_ONCE }; /* rows that stay in a cache for all vectors */
    for (ptrdiff_t first = row; first < end; first += RUN) {
        ptrdiff_t last = smaller(first + RUN, end), j = 0;
        for (; j + MOST_VECTORS <= count; j += MOST_VECTORS)
            multiply_vectors(m, storage, first, last, x + j * x_row, x_row, MOST_VECTORS,
                             y + j * y_row, y_row);
        for (; j < count; j++)
            multiply_vectors(m, storage, first, last, x + j * x_row, x_row, 1, y + j * y_row,
                             y_row);
    }
}

/* y[j, i] = scale[i] (matrix[i] . x[j]) + bias[i] for the rows i from `row` to `end` and all j. */
static void multiply_matrix(const helix_matrix *m, ptrdiff_t row, ptrdiff_t end, const real *x,
                            ptrdiff_t x_row, ptrdiff_t count, real *y, ptrdiff_t y_row) {
    switch (m->storage) {
    case HELIX_BFLOAT16:
        multiply_stored(m, HELIX_BFLOAT16, row, end, x, x_row, count, y, y_row);
        break;
    case HELIX_INT8:
        multiply_stored(m, HELIX_INT8, row, end, x, x_row, count, y, y_row);
        break;
    default:
        multiply_stored(m, HELIX_REAL, row, end, x, x_row, count, y, y_row);
    }
}

#endif
