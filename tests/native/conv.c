/* Tests of the causal convolution, along rows of channels and along rows of time: lengths around
   its pieces of time, any number of taps, rows with gaps between them, with and without what came
   before. */
#include "check.h"

#include <math.h>

typedef struct {
    ptrdiff_t batch, length, channels, taps;
    int silu, has_bias, has_past, odd, along_time;
} shape;

/* Rows of channels, or of time, with a gap after each row, and after each sequence. */
typedef struct {
    array memory;
    ptrdiff_t batch, step, channel; /* strides */
    int along_time;
} sequences;

static sequences new_sequences(shape z, ptrdiff_t length, int random) {
    ptrdiff_t row = z.along_time ? length : z.channels, rows = z.along_time ? z.channels : length;
    ptrdiff_t stride = row + any_below(2) * 3;
    sequences s = {.batch = rows * stride + any_below(2) * 7, .along_time = z.along_time};
    s.step = z.along_time ? 1 : stride;
    s.channel = z.along_time ? stride : 1;
    ptrdiff_t size = 0;
    if (z.batch && rows > 0 && row > 0)
        size = (z.batch - 1) * s.batch + (rows - 1) * stride + row;
    s.memory = random ? random_array(size, -1, 1) : new_array(size);
    return s;
}

static wide *at(sequences s, ptrdiff_t batch, ptrdiff_t step, ptrdiff_t channel) {
    return &s.memory.exact[batch * s.batch + step * s.step + channel * s.channel];
}

static helix_rows rows_of(sequences s) {
    return (helix_rows){s.memory.data, s.batch, 0, s.along_time ? s.channel : s.step};
}

static wide sigmoid(wide x) { return 1 / (1 + expl(-x)); }

static void test_shape(const helix_table *table, shape z) {
    begin_case("conv %td x %td x %td, %td taps, silu %d, bias %d, past %d, odd %d, along time %d",
               z.batch, z.length, z.channels, z.taps, z.silu, z.has_bias, z.has_past, z.odd,
               z.along_time);
    ptrdiff_t pieces = (z.length + HELIX_CONV_STEPS - 1) / HELIX_CONV_STEPS;
    ptrdiff_t k = z.taps, d = z.channels;
    ptrdiff_t items = z.batch * (z.along_time ? d : pieces);
    ptrdiff_t parts = z.batch * (z.along_time ? 1 : pieces); /* of the sums */
    sequences x = new_sequences(z, z.length, 1), g = new_sequences(z, z.length, 1);
    sequences y = new_sequences(z, z.length, 0), dx = new_sequences(z, z.length, 0);
    sequences past = new_sequences(z, k - 1, 1), dpast = new_sequences(z, k - 1, 0);
    array weight = random_array(k * d, -1, 1), bias = random_array(d, -1, 1);
    if (z.odd) {
        *at(x, 0, z.length / 2, 0) = NAN;
        *at(x, 0, z.length / 3, d - 1) = INFINITY;
        *at(x, z.batch - 1, 0, d / 2) = 1e-42L;
        round_array(x.memory);
    }
    array dweight = zero_array(parts * k * d), dbias = zero_array(parts * d);
    ptrdiff_t tap_stride = z.along_time ? 1 : d, channel_stride = z.along_time ? k : 1;
    helix_conv c = {
        .batch = z.batch, .length = z.length, .channels = d, .taps = k, .silu = z.silu,
        .x = rows_of(x), .y = rows_of(y), .weight = weight.data,
        .bias = z.has_bias ? bias.data : NULL, .g = rows_of(g), .dx = rows_of(dx),
        .dweight = dweight.data, .dbias = dbias.data,
    };
    if (z.has_past && z.length && k > 1)
        c.past = rows_of(past), c.dpast = rows_of(dpast);
    for (ptrdiff_t b = 0; b < z.batch; b++)
        for (ptrdiff_t i = 0; i < d; i++) {
            for (ptrdiff_t t = 0; t < z.length; t++)
                *at(dx, b, t, i) = 0;
            for (ptrdiff_t t = 0; t < k - 1 && c.past.data; t++)
                *at(dpast, b, t, i) = 0;
            for (ptrdiff_t t = 0; t < z.length; t++) {
                wide p = z.has_bias ? bias.exact[i] : 0;
                for (ptrdiff_t j = 0; j < k; j++) {
                    ptrdiff_t s = t - k + 1 + j;
                    if (s >= 0 || c.past.data)
                        p += weight.exact[j * tap_stride + i * channel_stride] *
                             *(s >= 0 ? at(x, b, s, i) : at(past, b, s + k - 1, i));
                }
                *at(y, b, t, i) = z.silu ? p * sigmoid(p) : p;
                wide dp = *at(g, b, t, i);
                if (z.silu)
                    dp *= sigmoid(p) * (1 + p * sigmoid(-p));
                ptrdiff_t part = z.along_time ? b : b * pieces + t / HELIX_CONV_STEPS;
                dbias.exact[part * d + i] += dp;
                for (ptrdiff_t j = 0; j < k; j++) {
                    ptrdiff_t s = t - k + 1 + j;
                    ptrdiff_t of_tap = j * tap_stride + i * channel_stride;
                    wide input = 0, w = weight.exact[of_tap];
                    if (s >= 0)
                        input = *at(x, b, s, i), *at(dx, b, s, i) += w * dp;
                    else if (c.past.data)
                        input = *at(past, b, s + k - 1, i), *at(dpast, b, s + k - 1, i) += w * dp;
                    if (s >= 0 || c.past.data)
                        dweight.exact[part * k * d + of_tap] += dp * input;
                }
            }
        }
    helix_work forward = z.along_time ? table->conv_time_forward : table->conv_forward;
    helix_work backward = z.along_time ? table->conv_time_backward : table->conv_backward;
    CHECK(run(forward, &c, items) == 0, "%td items forward", items);
    CHECK(run(backward, &c, items) == 0, "%td items backward", items);
    wide units = 8 + (wide)k; /* k products below 1, then silu */
    CHECK_ARRAY(y.memory, units, 1);
    if (!z.odd) { /* silu has no slope at inf */
        CHECK_ARRAY(dx.memory, units, 1);
        CHECK_ARRAY(dpast.memory, units, 1);
        wide added = (wide)(z.along_time ? z.length : HELIX_CONV_STEPS) / 8;
        CHECK_ARRAY(dweight, units + added, 1);
        CHECK_ARRAY(dbias, units + added, 1);
    }
    free_arrays();
}

void TEST(test_conv)(const helix_table *table);
void TEST(test_conv)(const helix_table *table) {
    static const ptrdiff_t sizes[][4] = {
        {1, 1, 1, 1}, {1, 1, 5, 4}, {2, 2, 3, 4}, {2, 5, 17, 3}, {1, 7, 16, 2}, {3, 3, 33, 6},
        {1, 127, 5, 4}, {1, 128, 4, 4}, {2, 129, 7, 4}, {1, 131, 3, 5}, {1, 257, 19, 4},
        {1, 130, 2, 140}, {2, 40, 1, 9}, {0, 5, 3, 4}, {2, 0, 3, 4}, {2, 5, 0, 4},
        {1, 1024, 2, 3}, {1, 1027, 1, 4}, {1, 2050, 1, 5}, {1, 2000, 1, 1100},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int has_many_taps = sizes[i][3] > 100; /* the exact loops take long */
        int step = has_many_taps ? 7 : THINNING;
        for (int options = (int)i % step; options < 16; options += step) {
            shape z = {sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3],
                       options & 1, options >> 1 & 1, options >> 2 & 1, 0, options >> 3};
            test_shape(table, z);
            z.odd = 1;
            if (z.batch && z.length && z.channels && options / THINNING % 3 == 0 && !has_many_taps)
                test_shape(table, z);
        }
    }
}
