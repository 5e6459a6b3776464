/* Tests of the linear recurrence, along contiguous channels and along contiguous time. */
#include "check.h"

#include <math.h>

typedef struct {
    array memory;
    ptrdiff_t outer, inner; /* strides of (batch, step) or (-, sequence) */
} block;

static block new_block(ptrdiff_t batch, ptrdiff_t rows, ptrdiff_t size, int is_random) {
    block x;
    x.inner = size + any_below(2) * 3;
    x.outer = rows * x.inner + any_below(2) * 5;
    ptrdiff_t count = (batch - 1) * x.outer + (rows - 1) * x.inner + size;
    x.memory = is_random ? random_array(count, -1, 1) : new_array(count);
    return x;
}

static helix_rows rows_of(block x) { return (helix_rows){x.memory.data, x.outer, 0, x.inner}; }

static void test_channels(const helix_table *table, ptrdiff_t batch, ptrdiff_t length,
                          ptrdiff_t channels, ptrdiff_t in_item, int reverse, int has_initial,
                          int odd) {
    begin_case("linear scan of %td x %td x %td along channels, reverse %d, initial %d, odd %d",
               batch, length, channels, reverse, has_initial, odd);
    block a = new_block(batch, length, channels, 1), b = new_block(batch, length, channels, 1);
    block h = new_block(batch, length, channels, 0);
    array initial = random_array(batch * channels, -1, 1);
    if (odd) {
        a.memory.exact[0] = NAN;
        b.memory.exact[b.memory.size - 1] = INFINITY;
        b.memory.exact[b.memory.size / 2] = 1e-42L;
        round_array(a.memory), round_array(b.memory);
    }
    for (ptrdiff_t i = 0; i < batch; i++)
        for (ptrdiff_t d = 0; d < channels; d++) {
            wide state = initial.exact[i * channels + d];
            for (ptrdiff_t step = 0; step < length; step++) {
                ptrdiff_t t = reverse ? length - 1 - step : step;
                wide decay = a.memory.exact[i * a.outer + t * a.inner + d];
                wide drive = b.memory.exact[i * b.outer + t * b.inner + d];
                state = step || has_initial ? decay * state + drive : drive;
                h.memory.exact[i * h.outer + t * h.inner + d] = state;
            }
        }
    helix_linear_scan s = {
        .batch = batch, .length = length, .channels = channels, .channels_in_item = in_item,
        .reverse = reverse, .a = rows_of(a), .b = rows_of(b), .h = rows_of(h), .a_time = 1,
        .initial = has_initial ? initial.data : NULL,
    };
    ptrdiff_t items = batch * ((channels + in_item - 1) / in_item);
    CHECK(run(table->linear_scan_channels, &s, items) == 0, "%td items", items);
    CHECK_ARRAY(h.memory, 8, 1);
    free_arrays();
}

static void test_lines(const helix_table *table, ptrdiff_t length, ptrdiff_t sequences, int reverse,
                       int has_initial, int is_constant) {
    begin_case("linear scan of %td sequences of %td along time, reverse %d, initial %d, constant %d",
               sequences, length, reverse, has_initial, is_constant);
    block a = new_block(1, sequences, is_constant ? 1 : length, 1);
    block b = new_block(1, sequences, length, 1), h = new_block(1, sequences, length, 0);
    array initial = random_array(sequences, -1, 1);
    for (ptrdiff_t d = 0; d < sequences; d++) {
        wide state = initial.exact[d];
        for (ptrdiff_t step = 0; step < length; step++) {
            ptrdiff_t t = reverse ? length - 1 - step : step;
            wide decay = a.memory.exact[d * a.inner + (is_constant ? 0 : t)];
            wide drive = b.memory.exact[d * b.inner + t];
            state = step || has_initial ? decay * state + drive : drive;
            h.memory.exact[d * h.inner + t] = state;
        }
    }
    helix_linear_scan s = {
        .batch = 1, .length = length, .channels = sequences, .reverse = reverse,
        .a = rows_of(a), .b = rows_of(b), .h = rows_of(h), .a_time = !is_constant,
        .initial = has_initial ? initial.data : NULL,
    };
    ptrdiff_t items = (sequences + HELIX_SCAN_LINES - 1) / HELIX_SCAN_LINES;
    CHECK(run(table->linear_scan_lines, &s, items) == 0, "%td items", items);
    CHECK_ARRAY(h.memory, is_constant ? 100 : 8, 1); /* a decay near 1 keeps all errors */
    free_arrays();
}

/* Of complex numbers, along channels or along time, or (channels) of a constant a. */
static void test_complex(const helix_table *table, ptrdiff_t batch, ptrdiff_t length,
                         ptrdiff_t channels, int along_time, int reverse, int has_initial,
                         int is_constant) {
    begin_case("complex scan of %td x %td x %td, along time %d, reverse %d, initial %d, constant %d",
               batch, length, channels, along_time, reverse, has_initial, is_constant);
    ptrdiff_t rows = along_time ? channels : length, size = 2 * (along_time ? length : channels);
    block a = new_block(batch, is_constant && !along_time ? 1 : rows,
                        is_constant && along_time ? 2 : size, 1);
    block b = new_block(batch, rows, size, 1), h = new_block(batch, rows, size, 0);
    array initial = random_array(2 * batch * channels, -1, 1);
    for (ptrdiff_t i = 0; i < a.memory.size; i++)
        a.memory.exact[i] *= 0.7L;
    round_array(a.memory);
    if (is_constant && !along_time)
        a.inner = 0;
    for (ptrdiff_t i = 0; i < batch; i++)
        for (ptrdiff_t d = 0; d < channels; d++) {
            const wide *start = initial.exact + 2 * (i * channels + d);
            wide re = start[0], im = start[1];
            for (ptrdiff_t step = 0; step < length; step++) {
                ptrdiff_t t = reverse ? length - 1 - step : step;
                ptrdiff_t row = along_time ? d : t, place = 2 * (along_time ? t : d);
                ptrdiff_t a_place = along_time && is_constant ? 0 : place;
                const wide *decay = a.memory.exact + i * a.outer + row * a.inner + a_place;
                const wide *drive = b.memory.exact + i * b.outer + row * b.inner + place;
                wide kept = step || has_initial;
                wide next = kept * (decay[0] * re - decay[1] * im) + drive[0];
                im = kept * (decay[0] * im + decay[1] * re) + drive[1];
                re = next;
                wide *to = h.memory.exact + i * h.outer + row * h.inner + place;
                to[0] = re, to[1] = im;
            }
        }
    helix_linear_scan s = {
        .batch = batch, .length = along_time ? size : length,
        .channels = along_time ? channels : size, .channels_in_item = 10, .reverse = reverse,
        .a = rows_of(a), .b = rows_of(b), .h = rows_of(h), .a_time = !is_constant,
        .initial = has_initial ? initial.data : NULL,
    };
    ptrdiff_t items = along_time ? (channels + HELIX_SCAN_LINES - 1) / HELIX_SCAN_LINES
                                 : batch * ((size + 9) / 10);
    CHECK(run(along_time ? table->complex_scan_lines : table->complex_scan_channels, &s, items) == 0,
          "%td items", items);
    CHECK_ARRAY(h.memory, is_constant ? 200 : 16, 1);
    free_arrays();
}

void TEST(test_linear_scan)(const helix_table *table);
void TEST(test_linear_scan)(const helix_table *table) {
    static const ptrdiff_t sizes[][4] = {{1, 1, 1, 1}, {2, 5, 3, 2}, {3, 7, 16, 64}, {1, 33, 17, 5},
                                         {2, 40, 67, 64}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int options = 0; options < 8; options++)
            test_channels(table, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], options & 1,
                          options >> 1 & 1, options >> 2);
    static const ptrdiff_t lengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 33, 100};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (int options = 0; options < 8; options++)
            test_lines(table, lengths[i], 1 + (ptrdiff_t)i, options & 1, options >> 1 & 1,
                       options >> 2);
    static const ptrdiff_t complex_sizes[][3] = {{1, 1, 1}, {2, 3, 1}, {1, 8, 5}, {2, 9, 16},
                                                 {1, 33, 11}, {1, 70, 3}};
    for (size_t i = 0; i < sizeof complex_sizes / sizeof *complex_sizes; i++)
        for (int options = 0; options < 16; options++) {
            const ptrdiff_t *size = complex_sizes[i];
            test_complex(table, options & 1 ? 1 : size[0], size[1], size[2], options & 1,
                         options >> 1 & 1, options >> 2 & 1, options >> 3);
        }
}
