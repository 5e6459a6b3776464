/* Vectors of `real` and the elementary functions on them.

   Every kernel source is compiled once per instruction set and once per dtype, with
     HELIX_ISA     name of the instruction set, a suffix of the exported symbols
     HELIX_DOUBLE  0: real is float, 1: real is double
   This header picks the vector width from what the compiler was told it may use. It knows
   nothing of any kernel. Loads and stores go through memcpy, so that no alignment is needed.
   Everything is static: objects for different instruction sets never share a function. */
#ifndef HELIX_SIMD_H
#define HELIX_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#if HELIX_DOUBLE
typedef double real;
typedef int64_t integer;
typedef uint64_t word;
#define HELIX_DTYPE double
#define MANTISSA_BITS 52
#define MAGIC 0x1.8p52 /* adding it rounds to an integer, kept in the low mantissa bits */
#define EXPONENT_BIAS 1023
#define EXP_LOW -746.0 /* exp below is 0 */
#define EXP2_LOW -1076.0
#define EXP2_HIGH 1025.0
#define EXP2_NORMAL 1020.0 /* |x| up to here: 2**x is a normal number */
#define LN2_HIGH 0x1.62e42feep-1 /* its low bits are 0: k * LN2_HIGH is exact */
#define LN2_LOW 0x1.a39ef35793c76p-33
#else
typedef float real;
typedef int32_t integer;
typedef uint32_t word;
#define HELIX_DTYPE float
#define MANTISSA_BITS 23
#define MAGIC 0x1.8p23f
#define EXPONENT_BIAS 127
#define EXP_LOW -105.0f
#define EXP2_LOW -151.0f
#define EXP2_HIGH 129.0f
#define EXP2_NORMAL 125.0f
#define LN2_HIGH 0x1.63p-1f
#define LN2_LOW -0x1.bd0106p-13f
#endif

#define LN2 0.693147180559945309417
#define LOG2_E 1.44269504088896340736

#define JOIN3(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN3(a, b, c)
#define EXPORT(name) JOIN(helix_##name, HELIX_ISA, HELIX_DTYPE)

#define WIDTH ((int)(VECTOR_BYTES / sizeof(real)))
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef integer ivec __attribute__((vector_size(VECTOR_BYTES))); /* of comparisons */
typedef word bits __attribute__((vector_size(VECTOR_BYTES)));

/* Memory */

INLINE vec splat(real x) { return x - (vec){0}; }

INLINE vec load(const real *from) {
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(real *to, vec x) { memcpy(to, &x, sizeof x); }

/* The first `count` lanes; the others are read as `fill` and never written. */
INLINE vec load_padded(const real *from, ptrdiff_t count, real fill) {
    if (count >= WIDTH)
        return load(from);
    real lanes[WIDTH];
    for (ptrdiff_t i = 0; i < WIDTH; i++)
        lanes[i] = i < count ? from[i] : fill;
    return load(lanes);
}

INLINE vec load_first(const real *from, ptrdiff_t count) { return load_padded(from, count, 0); }

INLINE void store_first(real *to, vec x, ptrdiff_t count) {
    if (count >= WIDTH) {
        store(to, x);
        return;
    }
    for (ptrdiff_t i = 0; i < count; i++)
        to[i] = x[i];
}

/* Selection and reduction */

INLINE vec choose(ivec mask, vec yes, vec no) {
    return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask));
}

/* A nan in x stays: comparisons with it are false. */
INLINE vec at_least(vec x, real low) { return choose(x < low, splat(low), x); }
INLINE vec at_most(vec x, real high) { return choose(x > high, splat(high), x); }
INLINE vec maximum(vec x, vec y) { return choose(x > y, x, y); }

INLINE vec absolute(vec x) { return (vec)((ivec)x & ~(ivec)splat(-(real)0)); }

INLINE real sum_lanes(vec x) {
    for (int half = WIDTH / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            x[i] += x[i + half];
    return x[0];
}

INLINE real largest_lane(vec x) {
    real largest = x[0];
    for (int i = 1; i < WIDTH; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

INLINE int all_lanes(ivec mask) {
    integer all = -1;
    for (int i = 0; i < WIDTH; i++)
        all &= mask[i];
    return all != 0;
}

/* Exponentials */

INLINE vec nearest_integer(vec x) { return (x + (real)MAGIC) - (real)MAGIC; }

/* p * 2**k in two factors, so that results may be denormal, 0 or inf. */
INLINE vec scale(vec p, vec k) {
    vec half = k * (real)0.5 + (real)MAGIC;
    vec rest = k - (half - (real)MAGIC) + (real)MAGIC;
    p *= (vec)(((bits)half + EXPONENT_BIAS) << MANTISSA_BITS);
    return p * (vec)(((bits)rest + EXPONENT_BIAS) << MANTISSA_BITS);
}

/* Coefficients of (exp(r) - 1 - r) / r**2, interpolated at the Chebyshev nodes of
   [-ln(2)/2, ln(2)/2]; relative error of exp: 1e-8 (float), 2e-17 (double). With
   `unit` = ln(2) the polynomial is that of 2**r. */
INLINE vec exp_polynomial(vec r, double unit) {
#if HELIX_DOUBLE
    static const double c[] = {
        0.5000000000000001,    0.16666666666666669,    0.04166666666662413,
        0.008333333333330062,  0.0013888888917213717,  0.00019841269863053618,
        2.4801521295954376e-05, 2.7557258469997064e-06, 2.7620088445409746e-07,
        2.510038549551032e-08,
    };
    double power = unit * unit * unit * unit * unit * unit * unit * unit * unit * unit * unit;
#else
    static const double c[] = {
        0.5, 0.16666576989698775, 0.041666554617204574, 0.008363179052722578,
        0.0013926183587713494,
    };
    double power = unit * unit * unit * unit * unit * unit;
#endif
    int last = sizeof c / sizeof *c - 1;
    vec p = splat((real)(c[last] * power));
#pragma GCC unroll 16
    for (int i = last - 1; i >= 0; i--) {
        power /= unit;
        p = p * r + (real)(c[i] * power);
    }
    p = p * r + (real)unit;
    return p * r + (real)1;
}

/* exp(x) for x <= 0. */
INLINE vec exp_negative(vec x) {
    x = at_least(x, EXP_LOW);
    vec k = nearest_integer(x * (real)LOG2_E);
    vec r = x - k * LN2_HIGH - k * LN2_LOW;
    return scale(exp_polynomial(r, 1.0), k);
}

INLINE vec exp2_vec(vec x) {
    x = at_most(at_least(x, EXP2_LOW), EXP2_HIGH);
    vec k = nearest_integer(x);
    return scale(exp_polynomial(x - k, LN2), k);
}

/* 2**(a b) where |a b| <= EXP2_NORMAL: no clamp, and the power goes straight into the
   exponent's bits. (The bits of MAGIC are shifted out.) */
INLINE vec exp2_of_product(vec a, vec b) {
    vec shifted = a * b + (real)MAGIC;
    vec k = shifted - (real)MAGIC;
    vec p = exp_polynomial(a * b - k, LN2);
    return (vec)((bits)p + ((bits)shifted << MANTISSA_BITS));
}

/* log(1 + x) for 0 <= x <= 1, as 2 atanh(s) with s = x / (2 + x) <= 1/3: no cancellation
   for small x. Coefficients of (atanh(s)/s - 1) / s**2 at Chebyshev nodes; relative error
   2e-8 (float), 5e-18 (double). */
INLINE vec log1p_unit(vec x) {
#if HELIX_DOUBLE
    static const double c[] = {
        0.3333333333333333,   0.20000000000007292, 0.1428571428355438,  0.11111111358713932,
        0.09090894718066429,  0.07692785032479312, 0.06657072104827468, 0.06000536404795356,
        0.04400369243072337,  0.08082022805971766,
    };
#else
    static const double c[] = {
        0.33333320168349617, 0.20003780322455603, 0.1411830990265524, 0.13425749011418575,
    };
#endif
    vec s = x / (x + (real)2);
    vec w = s * s;
    int last = sizeof c / sizeof *c - 1;
    vec p = splat((real)c[last]);
#pragma GCC unroll 16
    for (int i = last - 1; i >= 0; i--)
        p = p * w + (real)c[i];
    s += s;
    return s * (p * w) + s;
}

/* Activations: the value, and what its derivative needs. */

/* Returns sigmoid(x); *other gets 1 - sigmoid(x) without cancellation. */
INLINE vec sigmoid(vec x, vec *other) {
    vec e = exp_negative(-absolute(x));
    vec larger = (real)1 / (e + (real)1), smaller = e * larger;
    ivec positive = x >= (real)0;
    *other = choose(positive, smaller, larger);
    return choose(positive, larger, smaller);
}

/* Returns log(1 + exp(x)); *slope gets the derivative, sigmoid(x). */
INLINE vec softplus(vec x, vec *slope) {
    vec e = exp_negative(-absolute(x));
    vec larger = (real)1 / (e + (real)1);
    *slope = choose(x >= (real)0, larger, e * larger);
    return choose(x > (real)0, x, splat(0)) + log1p_unit(e);
}

/* Returns x sigmoid(x); *slope gets the derivative. */
INLINE vec silu(vec x, vec *slope) {
    vec other, s = sigmoid(x, &other);
    *slope = s * (x * other + (real)1);
    return x * s;
}

#endif
