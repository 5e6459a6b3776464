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
#ifdef __AVX2__
#include <immintrin.h>
#endif

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
#define SMALLEST_NORMAL 0x1p-1022
#define LARGEST 0x1.fffffffffffffp1023
#define MAGIC 0x1.8p52 /* adding it rounds to an integer, kept in the low mantissa bits */
#define EXPONENT_BIAS 1023
#define EXP_NORMAL -707.0 /* exp down to here is a normal number */
#define EXP_LOW -746.0 /* exp below is 0 */
#define EXP_HIGH 710.0 /* exp above is inf */
#define EXPM1_LOW -40.0 /* exp below is nothing beside 1 */
#define TANH_FLAT 20.0 /* tanh above is 1 */
#define NORMAL_FLAT 38.7 /* Phi(-b) above is 0 */
#define EXP2_LOW -1076.0
#define EXP2_HIGH 1025.0
#define EXP2_NORMAL 1020.0 /* |x| up to here: 2**x is a normal number */
#define LN2_HIGH 0x1.62e42feep-1 /* its low bits are 0: k * LN2_HIGH is exact */
#define LN2_LOW 0x1.a39ef35793c76p-33
#define SMALL_POWER 0x1p-511 /* 2**-(EXPONENT_BIAS / 2) */
#else
typedef float real;
typedef int32_t integer;
typedef uint32_t word;
#define HELIX_DTYPE float
#define MANTISSA_BITS 23
#define SMALLEST_NORMAL 0x1p-126f
#define LARGEST 0x1.fffffep127f
#define MAGIC 0x1.8p23f
#define EXPONENT_BIAS 127
#define EXP_NORMAL -87.0f
#define EXP_LOW -105.0f
#define EXP_HIGH 89.0f
#define EXPM1_LOW -20.0f
#define TANH_FLAT 10.0f
#define NORMAL_FLAT 14.6f
#define EXP2_LOW -151.0f
#define EXP2_HIGH 129.0f
#define EXP2_NORMAL 125.0f
#define LN2_HIGH 0x1.63p-1f
#define LN2_LOW -0x1.bd0106p-13f
#define SMALL_POWER 0x1p-63f
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

/* x > y ? x : y, and x < y ? x : y, as one instruction has them: y if one of them is nan. */
#if defined(__AVX512F__) && HELIX_DOUBLE
INLINE vec maximum(vec x, vec y) { return (vec)_mm512_max_pd((__m512d)x, (__m512d)y); }
INLINE vec minimum(vec x, vec y) { return (vec)_mm512_min_pd((__m512d)x, (__m512d)y); }
#elif defined(__AVX512F__)
INLINE vec maximum(vec x, vec y) { return (vec)_mm512_max_ps((__m512)x, (__m512)y); }
INLINE vec minimum(vec x, vec y) { return (vec)_mm512_min_ps((__m512)x, (__m512)y); }
#elif defined(__AVX2__) && HELIX_DOUBLE
INLINE vec maximum(vec x, vec y) { return (vec)_mm256_max_pd((__m256d)x, (__m256d)y); }
INLINE vec minimum(vec x, vec y) { return (vec)_mm256_min_pd((__m256d)x, (__m256d)y); }
#elif defined(__AVX2__)
INLINE vec maximum(vec x, vec y) { return (vec)_mm256_max_ps((__m256)x, (__m256)y); }
INLINE vec minimum(vec x, vec y) { return (vec)_mm256_min_ps((__m256)x, (__m256)y); }
#else
INLINE vec maximum(vec x, vec y) { return choose(x > y, x, y); }
INLINE vec minimum(vec x, vec y) { return choose(x < y, x, y); }
#endif

/* A nan in x stays. */
INLINE vec at_least(vec x, real low) { return maximum(splat(low), x); }
INLINE vec at_most(vec x, real high) { return minimum(splat(high), x); }

INLINE vec absolute(vec x) { return (vec)((ivec)x & ~(ivec)splat(-(real)0)); }
INLINE vec with_sign(vec size, vec of) { return choose((ivec)splat(-(real)0), of, size); }

/* Rounded correctly, as the instruction does. */
INLINE vec root(vec x) {
    for (int i = 0; i < WIDTH; i++)
#if HELIX_DOUBLE
        x[i] = __builtin_sqrt(x[i]);
#else
        x[i] = __builtin_sqrtf(x[i]);
#endif
    return x;
}

INLINE real sum_lanes(vec x) {
    for (int half = WIDTH / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            x[i] += x[i + half];
    return x[0];
}

INLINE real largest_lane(vec x) {
    for (int half = WIDTH / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
    return x[0];
}

/* Of what comparisons return. */
INLINE int all_lanes(ivec mask) {
#if defined(__AVX512F__)
    return _mm512_cmpeq_epi32_mask((__m512i)mask, _mm512_set1_epi32(-1)) == 0xffff;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)mask) == -1;
#else
    integer all = -1;
    for (int i = 0; i < WIDTH; i++)
        all &= mask[i];
    return all != 0;
#endif
}

/* Transposition */

/* (x0, y0, x1, y1, ...): of the first halves of two vectors, and of the second halves. */
#if VECTOR_BYTES == 16 && HELIX_DOUBLE
#define FIRST_HALVES 0, 2
#define SECOND_HALVES 1, 3
#elif VECTOR_BYTES == 16 || (VECTOR_BYTES == 32 && HELIX_DOUBLE)
#define FIRST_HALVES 0, 4, 1, 5
#define SECOND_HALVES 2, 6, 3, 7
#elif VECTOR_BYTES == 32 || HELIX_DOUBLE
#define FIRST_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define SECOND_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FIRST_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SECOND_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (ivec){__VA_ARGS__})
#endif

/* Interleaving the halves of the rows of a square log2(WIDTH) times transposes it. */
INLINE void transpose(vec square[WIDTH]) {
#pragma GCC unroll 4
    for (int done = 1; done < WIDTH; done *= 2) {
        vec next[WIDTH];
#pragma GCC unroll 8
        for (int i = 0; i < WIDTH / 2; i++) {
            next[2 * i] = SHUFFLE(square[i], square[i + WIDTH / 2], FIRST_HALVES);
            next[2 * i + 1] = SHUFFLE(square[i], square[i + WIDTH / 2], SECOND_HALVES);
        }
        memcpy(square, next, sizeof next);
    }
}

/* Exponentials */

INLINE vec nearest_integer(vec x) { return (x + (real)MAGIC) - (real)MAGIC; }

/* 2**k, a normal number. */
INLINE vec power_of_two(vec k) {
    return (vec)(((bits)(k + (real)MAGIC) + EXPONENT_BIAS) << MANTISSA_BITS);
}

/* p * 2**k in two factors, so that results may be denormal, 0 or inf. */
INLINE vec scale(vec p, vec k) {
    vec half = k * (real)0.5 + (real)MAGIC;
    vec rest = k - (half - (real)MAGIC) + (real)MAGIC;
    p *= (vec)(((bits)half + EXPONENT_BIAS) << MANTISSA_BITS);
    return p * (vec)(((bits)rest + EXPONENT_BIAS) << MANTISSA_BITS);
}

/* (exp(r) - 1 - r) / r**2, with coefficients of least relative error of exp(r) on
   [-ln(2)/2, ln(2)/2]: 3e-9 (float), 4e-18 (double). With `unit` = ln(2) it is
   (2**r - 1 - unit r) / r**2. */
INLINE vec exp_curve(vec r, double unit) {
#if HELIX_DOUBLE
    static const double c[] = {
        0.5000000000000011,    0.1666666666666641,     0.04166666666652973,
        0.008333333333494975,  0.0013888888943758989,  0.00019841269505775608,
        2.4801492950521103e-05, 2.7557586804681e-06,   2.7630305966906967e-07,
        2.5000017982956504e-08,
    };
    double power = unit * unit * unit * unit * unit * unit * unit * unit * unit * unit * unit;
#else
    static const double c[] = {
        0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.00836874544620514,
        0.0013814542908221483,
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
    return p;
}

INLINE vec exp_polynomial(vec r, double unit) {
    return (exp_curve(r, unit) * r + (real)unit) * r + (real)1;
}

/* exp(x) as a polynomial times 2**k, of which k lies in the low bits of *shifted. */
INLINE vec exp_reduced(vec x, vec *shifted) {
    *shifted = x * (real)LOG2_E + (real)MAGIC;
    vec k = *shifted - (real)MAGIC;
    return exp_polynomial(x - k * LN2_HIGH - k * LN2_LOW, 1.0);
}

/* exp(x) for x <= 40: the power of two in two factors, of which the second never changes. */
INLINE vec exp_negative(vec x) {
    vec shifted, p = exp_reduced(at_least(x, EXP_LOW), &shifted);
    bits power = ((bits)shifted + (EXPONENT_BIAS + EXPONENT_BIAS / 2)) << MANTISSA_BITS;
    return p * (vec)power * SMALL_POWER;
}

/* exp(x) for EXP_NORMAL <= x <= 0: the power goes straight into the exponent's bits. */
INLINE vec exp_normal(vec x) {
    vec shifted, p = exp_reduced(x, &shifted);
    return (vec)((bits)p + ((bits)shifted << MANTISSA_BITS));
}

/* exp(x) of EXP_GROUP vectors x <= 0, most quickly where all results are normal numbers. */
enum { EXP_GROUP = 4 };

INLINE void exp_group(vec x[EXP_GROUP]) {
    ivec normal = x[0] >= EXP_NORMAL;
    for (int j = 1; j < EXP_GROUP; j++)
        normal &= x[j] >= EXP_NORMAL;
    if (all_lanes(normal)) {
#pragma GCC unroll 4
        for (int j = 0; j < EXP_GROUP; j++)
            x[j] = exp_normal(x[j]);
    } else {
        for (int j = 0; j < EXP_GROUP; j++)
            x[j] = exp_negative(x[j]);
    }
}

INLINE vec exp_vec(vec x) {
    x = at_most(at_least(x, EXP_LOW), EXP_HIGH);
    vec k = nearest_integer(x * (real)LOG2_E);
    vec r = x - k * LN2_HIGH - k * LN2_LOW;
    return scale(exp_polynomial(r, 1.0), k);
}

/* exp(x) - 1 = (2**k - 1) + 2**k (exp(r) - 1): the large terms first, and what rounding r lost
   with the small ones. Where 2**k would overflow before the result does, half of all is taken. */
INLINE vec expm1_vec(vec x) {
    vec y = at_most(at_least(x, EXPM1_LOW), EXP_HIGH);
    vec k = nearest_integer(y * (real)LOG2_E);
    vec high = y - k * LN2_HIGH, r = high - k * LN2_LOW;
    vec lost = (high - r) - k * LN2_LOW;
    vec halved = k - at_most(k, EXPONENT_BIAS); /* 1 or 0 */
    vec power = power_of_two(k - halved), unit = (real)1 - (real)0.5 * halved;
    vec large = power * r + (power - unit);
    vec small = exp_curve(r, 1.0) * (r * r) + lost;
    return with_sign((small * power + large) * (halved + (real)1), x);
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

/* Logarithms */

/* x - log(1 + x) for -0.3 <= x <= 1. With s = x / (2 + x), log(1 + x) = 2 atanh(s) = x - s (x - R)
   where R = 2 (atanh(s) - s) / s: no cancellation for small x. Coefficients of
   (atanh(s) / s - 1) / s**2, of which R / (2 s**2) is the value, at Chebyshev nodes of s <= 1/3;
   relative error of the logarithm 2e-8 (float), 5e-18 (double). */
INLINE vec log1p_excess(vec x) {
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
    return s * (x - (w + w) * p);
}

/* log(1 + x) for 0 <= x <= 1. */
INLINE vec log1p_unit(vec x) { return x - log1p_excess(x); }

/* log(1 + x) + k ln(2). */
INLINE vec log_sum(vec x, vec k) {
    return k * LN2_HIGH + (x - (log1p_excess(x) - k * LN2_LOW));
}

/* x = m 2**k with sqrt(1/2) <= m < sqrt(2), for positive normal x. */
INLINE vec split(vec x, vec *k) {
    const bits root = (bits)splat((real)0.707106781186547524401);
    bits shifted = (bits)x - root + (bits)splat(1);
    bits exponent = shifted >> MANTISSA_BITS;
    *k = (vec)(exponent + (bits)splat(MAGIC)) - (real)(MAGIC + EXPONENT_BIAS);
    return (vec)(shifted - (exponent << MANTISSA_BITS) + root);
}

/* What log gives outside of the positive finite numbers. */
INLINE vec log_edge(vec x) {
    vec invalid = choose(x == (real)0, splat(-(real)__builtin_inf()), splat((real)__builtin_nan("")));
    return choose(x > (real)0, x, invalid);
}

INLINE ivec has_log(vec x) { return (x > (real)0) & (x <= LARGEST); }

INLINE vec log_vec(vec x) {
    ivec denormal = x < SMALLEST_NORMAL;
    vec k, m = split(choose(denormal, x * (real)((word)1 << MANTISSA_BITS), x), &k);
    k -= choose(denormal, splat(MANTISSA_BITS), splat(0));
    return choose(has_log(x), log_sum(m - (real)1, k), log_edge(x));
}

/* log(y) with y = 1 + x, of which the rounding error is added to y / 2**k - 1. */
INLINE vec log1p_vec(vec x) {
    vec y = x + (real)1, lost = x - (y - (real)1);
    vec k, m = split(y, &k);
    /* Where k is large nothing is lost; the bound keeps 2**-k normal. */
    vec f = (m - (real)1) + lost * power_of_two(-at_most(k, EXPONENT_BIAS - 1));
    return with_sign(choose(has_log(y), log_sum(f, k), log_edge(y)), x);
}

/* Sigmoids */

INLINE vec sigmoid_vec(vec x) {
    vec e = exp_negative(-absolute(x));
    return choose(x >= (real)0, splat(1), e) / (e + (real)1);
}

/* Near 0, x + x**3 p(x**2) with coefficients of least relative error: 1e-8 (float), 7e-18 (double);
   elsewhere 1 - 2 / (exp(2 x) + 1). */
INLINE vec tanh_vec(vec x) {
#if HELIX_DOUBLE
    static const double c[] = {
        -0.3333333333333333,    0.13333333333332742,    -0.05396825396746473,
        0.021869488494964097,   -0.008863234425641936,  0.003592110721650878,
        -0.0014556644037474868, 0.0005889480067343724,  -0.00023466830210340685,
        8.516530408163407e-05,  -2.063723108187827e-05,
    };
#else
    static const double c[] = {
        -0.3333333134651184, 0.13333120942115784, -0.05391069874167442, 0.02131609059870243,
        -0.0066212862730026245,
    };
#endif
    const real border = (real)0.55;
    vec size = absolute(x), w = x * x;
    int last = sizeof c / sizeof *c - 1;
    vec p = splat((real)c[last]);
#pragma GCC unroll 16
    for (int i = last - 1; i >= 0; i--)
        p = p * w + (real)c[i];
    vec e = exp_negative(at_most(size, TANH_FLAT) * (real)2);
    vec far = (real)1 - (real)2 / (e + (real)1);
    return with_sign(choose(size < border, x + x * (w * p), far), x);
}

/* The normal distribution */

/* Returns Phi(-b) = erfc(b / sqrt(2)) / 2 for b >= 0; *bell gets exp(-b**2 / 2). The ratio of the
   two is r p(2 r - 1) with r = 1 / (1 + NORMAL_RATE b), as in Abramowitz & Stegun 1964, 7.1.26;
   coefficients of least relative error: 1.5e-8 (float), 8e-18 (double). */
INLINE vec normal_tail(vec b, vec *bell) {
#if HELIX_DOUBLE
    static const double c[] = {
        0.1560767835374693,      0.13444924271708472,     0.09920465529046296,
        0.061889480229789524,    0.031840465262724264,    0.012850561477241083,
        0.003595211173173751,    0.00038102311880652167,  -0.00019844565269402548,
        -9.778481605251027e-05,  -2.999313147729583e-06,  1.0925429261479447e-05,
        2.28173220818403e-06,    -1.142143250041215e-06,  -4.3941240399140185e-07,
        1.3597155289212063e-07,  7.243617373150195e-08,   -2.0431724514523694e-08,
        -1.0808099294137955e-08, 3.5582747871310113e-09,  1.1084670845784854e-09,
        -4.6531816638737095e-10,
    };
    const real rate = 0.203125;
#else
    static const double c[] = {
        0.16164268553256989,  0.1377684473991394,     0.09938523918390274,
        0.05970855802297592,  0.02892185002565384,    0.010543333366513252,
        0.0023686401546001434, -6.977586599532515e-05, -0.00026898429496213794,
    };
    const real rate = 0.2109375f;
#endif
    b = at_most(b, NORMAL_FLAT);
    /* -b**2 / 2 in two parts: the square of the first half of b's digits is exact. */
    const word dropped = ((word)1 << (MANTISSA_BITS / 2 + 1)) - 1;
    vec first = (vec)((bits)b & ~dropped);
    vec high = first * first * (real)-0.5, low = (b - first) * (b + first) * (real)-0.5;
    vec k = nearest_integer(b * b * (real)(-0.5 * LOG2_E));
    vec remainder = high - k * LN2_HIGH - k * LN2_LOW + low;
    *bell = scale(exp_polynomial(remainder, 1.0), k);
    vec r = (real)1 / (b * rate + (real)1);
    vec t = (real)1 - r * (b * (2 * rate)); /* 2 r - 1 would double what r lost */
    int last = sizeof c / sizeof *c - 1;
    vec p = splat((real)c[last]);
#pragma GCC unroll 32
    for (int i = last - 1; i >= 0; i--)
        p = p * t + (real)c[i];
    return p * r * *bell;
}

/* erf(x) for |x| < 1 as x + x p(x**2), with coefficients of least relative error: 1e-9 (float),
   7e-18 (double). */
INLINE vec erf_near(vec x) {
#if HELIX_DOUBLE
    static const double c[] = {
        0.12837916709551256,     -0.3761263890318355,   0.11283791670945252,
        -0.026866170643276035,   0.005223977607422274,  -0.0008548325989652603,
        0.00012055295319503151,  -1.4924744649649076e-05, 1.6447517565079197e-06,
        -1.6209175413818864e-07, 1.3722975465427826e-08, -7.80118954779898e-10,
    };
#else
    static const double c[] = {
        0.12837916612625122,   -0.3761262595653534,    0.11283600330352783,
        -0.026854444295167923, 0.005189535673707724,   -0.0008020842215046287,
        7.889122935011983e-05,
    };
#endif
    vec w = x * x;
    int last = sizeof c / sizeof *c - 1;
    vec p = splat((real)c[last]);
#pragma GCC unroll 16
    for (int i = last - 1; i >= 0; i--)
        p = p * w + (real)c[i];
    return x + x * p;
}

INLINE vec erf_vec(vec x) {
    vec size = absolute(x), bell;
    vec far = (real)1 - (real)2 * normal_tail(size * (real)1.41421356237309504880, &bell);
    return choose(size < (real)1, erf_near(x), with_sign(far, x));
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

/* Returns x Phi(x); *slope gets the derivative. Near 0 the error of the tail, up to 4 ulp, is the
   result's. In double (1 + erf(x / sqrt(2))) / 2 is taken there, to 2.6 ulp; in float that would
   cost a seventh of the time. */
INLINE vec gelu(vec x, vec *slope) {
    vec size = absolute(x), bell, tail = normal_tail(size, &bell);
    vec share = choose(x < (real)0, tail, (real)1 - tail);
    if (HELIX_DOUBLE) {
        vec near = erf_near(x * (real)0.707106781186547524401) * (real)0.5 + (real)0.5;
        share = choose(size < (real)1, near, share);
    }
    *slope = share + at_most(at_least(x, -NORMAL_FLAT), NORMAL_FLAT) * bell *
                         (real)0.398942280401432677940; /* 1 / sqrt(2 pi) */
    return x * share;
}

#endif
