/* Tests of the selective scan, forward and backward: lengths around its chunks, channels around its
   vectors, groups, parts, states in slices or one by one, B and C that change or stay. */
#include "check.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    ptrdiff_t batch, length, channels, states, groups, parts;
    int softplus, fixed_B, fixed_C, has_D, has_bias, has_z, odd;
} shape;

/* (batch, group, step, column) with gaps between rows, of columns or of steps. */
typedef struct {
    array memory;
    ptrdiff_t batch, group, step, column; /* strides */
} block;

static block new_block(ptrdiff_t batch, ptrdiff_t groups, ptrdiff_t length, ptrdiff_t columns,
                       int is_random) {
    block x = {.step = columns + any_below(2) * 3, .column = 1};
    x.group = length * x.step + any_below(2) * 5;
    x.batch = groups * x.group;
    ptrdiff_t size = 0;
    if (batch && groups && length && columns)
        size = (batch - 1) * x.batch + (groups - 1) * x.group + (length - 1) * x.step + columns;
    x.memory = is_random ? random_array(size, -1, 1) : new_array(size);
    return x;
}

/* An input (batch, step, channel) of which either the channels or the steps are contiguous. */
static block new_input(ptrdiff_t batch, ptrdiff_t length, ptrdiff_t channels) {
    if (any_below(2) || channels < 2 || !batch || !length)
        return new_block(batch, 1, length, channels, 1);
    block x = {.step = 1, .column = length + any_below(2) * 3};
    x.batch = channels * x.column + any_below(2) * 5;
    ptrdiff_t size = (batch - 1) * x.batch + (channels - 1) * x.column + length;
    x.memory = random_array(size, -1, 1);
    return x;
}

static wide *at(block x, ptrdiff_t batch, ptrdiff_t group, ptrdiff_t step, ptrdiff_t column) {
    return &x.memory.exact[batch * x.batch + group * x.group + step * x.step + column * x.column];
}

static helix_rows rows_of(block x) {
    return (helix_rows){x.memory.data, x.batch, x.group, x.step, x.column};
}

static wide sigmoid(wide x) { return 1 / (1 + expl(-x)); }

/* The sum over the first axis, of size `parts`, of what the kernel wrote. */
static array total_of(array parts, ptrdiff_t count, array exact) {
    array total = {scratch((size_t)exact.size * sizeof(real)), exact.exact, exact.size};
    for (ptrdiff_t i = 0; i < exact.size; i++) {
        wide sum = 0;
        for (ptrdiff_t part = 0; part < count; part++)
            sum += parts.data[part * exact.size + i];
        total.data[i] = (real)sum;
    }
    return total;
}

typedef struct {
    array A, B, C, D, bias, states, dstate; /* B and C where they are fixed */
    block u, delta, z, y, b, c, g, du, ddelta, dz;
    array dA, dB, dC, dD, dbias; /* exact ones are summed over parts */
} operands;

/* One channel of one sequence, forward and backward by loops over time. */
static void scan_exactly(const shape *s, const operands *o, ptrdiff_t b, ptrdiff_t d) {
    ptrdiff_t L = s->length, N = s->states, group = d / (s->channels / s->groups);
    ptrdiff_t chunks = (L + HELIX_SCAN_STEPS - 1) / HELIX_SCAN_STEPS;
    wide *memory = malloc((size_t)((L + 1) * (N + 2)) * sizeof *memory);
    wide *h = memory, *delta = h + (L + 1) * N, *y = delta + L; /* h: (steps + 1, states) */
    for (ptrdiff_t n = 0; n < N; n++)
        h[n] = o->states.exact[((b * (chunks + 1)) * N + n) * s->channels + d];
    for (ptrdiff_t t = 0; t < L; t++) {
        wide x = *at(o->delta, b, 0, t, d) + (s->has_bias ? o->bias.exact[d] : 0);
        wide u = *at(o->u, b, 0, t, d);
        delta[t] = s->softplus ? (x > 0 ? x : 0) + log1pl(expl(-fabsl(x))) : x;
        y[t] = s->has_D ? o->D.exact[d] * u : 0;
        for (ptrdiff_t n = 0; n < N; n++) {
            wide B = s->fixed_B ? o->B.exact[n * s->channels + d] : *at(o->b, b, group, t, n);
            wide C = s->fixed_C ? o->C.exact[n * s->channels + d] : *at(o->c, b, group, t, n);
            wide decay = exp2l(delta[t] * o->A.exact[n * s->channels + d]);
            h[(t + 1) * N + n] = decay * h[t * N + n] + delta[t] * B * u;
            y[t] += C * h[(t + 1) * N + n];
        }
        wide z = s->has_z ? *at(o->z, b, 0, t, d) : 0;
        *at(o->y, b, 0, t, d) = s->has_z ? y[t] * z * sigmoid(z) : y[t];
    }
    for (ptrdiff_t chunk = 1; chunk <= chunks; chunk++)
        for (ptrdiff_t n = 0; n < N; n++) {
            ptrdiff_t t = chunk * HELIX_SCAN_STEPS < L ? chunk * HELIX_SCAN_STEPS : L;
            o->states.exact[((b * (chunks + 1) + chunk) * N + n) * s->channels + d] = h[t * N + n];
        }
    for (ptrdiff_t t = L - 1; t >= 0; t--) {
        wide u = *at(o->u, b, 0, t, d), g = *at(o->g, b, 0, t, d), du = 0, ddelta = 0;
        if (s->has_z) {
            wide z = *at(o->z, b, 0, t, d);
            *at(o->dz, b, 0, t, d) = g * y[t] * sigmoid(z) * (1 + z * sigmoid(-z));
            g *= z * sigmoid(z);
        }
        for (ptrdiff_t n = 0; n < N; n++) {
            ptrdiff_t fixed = (b * N + n) * s->channels + d;
            ptrdiff_t varying = ((b * s->groups + group) * L + t) * N + n;
            wide B = s->fixed_B ? o->B.exact[n * s->channels + d] : *at(o->b, b, group, t, n);
            wide C = s->fixed_C ? o->C.exact[n * s->channels + d] : *at(o->c, b, group, t, n);
            wide A = o->A.exact[n * s->channels + d] * logl(2), decay = expl(delta[t] * A);
            wide dh = o->dstate.exact[fixed] + g * C, before = h[t * N + n];
            o->dC.exact[s->fixed_C ? fixed : varying] += g * h[(t + 1) * N + n];
            o->dB.exact[s->fixed_B ? fixed : varying] += dh * delta[t] * u;
            o->dA.exact[fixed] += dh * before * decay * delta[t];
            ddelta += dh * (before * decay * A + B * u);
            du += dh * delta[t] * B;
            o->dstate.exact[fixed] = dh * decay;
        }
        if (s->softplus)
            ddelta *= sigmoid(*at(o->delta, b, 0, t, d) + (s->has_bias ? o->bias.exact[d] : 0));
        *at(o->du, b, 0, t, d) = du + (s->has_D ? o->D.exact[d] * g : 0);
        *at(o->ddelta, b, 0, t, d) = ddelta;
        o->dD.exact[b * s->channels + d] += g * u;
        o->dbias.exact[b * s->channels + d] += ddelta;
    }
    free(memory);
}

static operands make_operands(const shape *s) {
    ptrdiff_t b = s->batch, l = s->length, d = s->channels, n = s->states;
    ptrdiff_t chunks = (l + HELIX_SCAN_STEPS - 1) / HELIX_SCAN_STEPS;
    operands o = {
        .A = random_array(n * d, -3, -0.05L),
        .B = random_array(s->fixed_B ? n * d : 0, -1, 1),
        .C = random_array(s->fixed_C ? n * d : 0, -1, 1),
        .D = random_array(d, -1, 1), .bias = random_array(d, -1, 1),
        .states = new_array(b * (chunks + 1) * n * d),
        .u = new_input(b, l, d), .delta = new_input(b, l, d), .z = new_input(b, l, d),
        .g = new_input(b, l, d), .y = new_block(b, 1, l, d, 0),
        .b = new_block(s->fixed_B ? 0 : b, s->groups, l, n, 1),
        .c = new_block(s->fixed_C ? 0 : b, s->groups, l, n, 1),
        .du = new_block(b, 1, l, d, 0),
        .ddelta = new_block(b, 1, l, d, 0), .dz = new_block(b, 1, l, d, 0),
        .dA = zero_array(b * n * d), .dD = zero_array(b * d), .dbias = zero_array(b * d),
        .dB = zero_array(s->fixed_B ? b * n * d : b * s->groups * l * n),
        .dC = zero_array(s->fixed_C ? b * n * d : b * s->groups * l * n),
        .dstate = random_array(b * n * d, -1, 1),
    };
    if (!s->softplus) { /* delta' below 0 would let states grow */
        for (ptrdiff_t i = 0; i < o.delta.memory.size; i++)
            o.delta.memory.exact[i] = fabsl(o.delta.memory.exact[i]) + s->has_bias;
        round_array(o.delta.memory);
    }
    for (ptrdiff_t i = 0; i < b; i++)
        for (ptrdiff_t j = 0; j < n * d; j++)
            o.states.exact[i * (chunks + 1) * n * d + j] = any_between(-1, 1);
    if (s->odd) {
        *at(o.delta, 0, 0, l / 2, 0) = 1e6L; /* this step forgets everything before */
        *at(o.delta, b - 1, 0, l / 3, d - 1) = -1e6L;
        *at(o.u, 0, 0, l / 3, d / 2) = NAN;
        *at(o.u, b - 1, 0, 0, d / 3) = 1e-42L;
        round_array(o.delta.memory), round_array(o.u.memory);
    }
    round_array(o.states);
    return o;
}

static void test_shape(const helix_table *table, shape s) {
    begin_case("scan %td x %td x %td, %td states, %td groups, %td parts, softplus %d, fixed %d %d, "
               "D %d, bias %d, z %d, odd %d", s.batch, s.length, s.channels, s.states, s.groups,
               s.parts, s.softplus, s.fixed_B, s.fixed_C, s.has_D, s.has_bias, s.has_z, s.odd);
    operands o = make_operands(&s);
    array dB = s.fixed_B ? o.dB : zero_array(s.parts * o.dB.size);
    array dC = s.fixed_C ? o.dC : zero_array(s.parts * o.dC.size);
    helix_scan call = {
        .batch = s.batch, .length = s.length, .channels = s.channels, .states = s.states,
        .groups = s.groups, .parts = s.parts, .softplus = s.softplus, .fixed_B = s.fixed_B,
        .fixed_C = s.fixed_C, .u = rows_of(o.u), .delta = rows_of(o.delta), .y = rows_of(o.y),
        .B = rows_of(o.b), .C = rows_of(o.c), .A_log2 = o.A.data,
        .D = s.has_D ? o.D.data : NULL, .bias = s.has_bias ? o.bias.data : NULL,
        .chunk_states = o.states.data, .g = rows_of(o.g), .du = rows_of(o.du),
        .ddelta = rows_of(o.ddelta), .dA = o.dA.data, .dB = dB.data, .dC = dC.data,
        .dD = o.dD.data, .dbias = o.dbias.data, .dstate = o.dstate.data,
    };
    if (s.fixed_B)
        call.B = (helix_rows){o.B.data, 0, 0, s.channels, 1};
    if (s.fixed_C)
        call.C = (helix_rows){o.C.data, 0, 0, s.channels, 1};
    if (s.has_z)
        call.z = rows_of(o.z), call.dz = rows_of(o.dz);
    for (ptrdiff_t b = 0; b < s.batch; b++)
        for (ptrdiff_t d = 0; d < s.channels; d++)
            scan_exactly(&s, &o, b, d);
    ptrdiff_t items = s.batch * s.groups * s.parts;
    CHECK(run(table->scan_forward, &call, items) == 0, "%td items forward", items);
    CHECK(run(table->scan_backward, &call, items) == 0, "%td items backward", items);
    /* About 20 steps are remembered, by decays that are |delta A| EPS off. */
    wide units = 40;
    CHECK_ARRAY(o.y.memory, units, 1);
    CHECK_ARRAY(o.states, units, 1);
    if (!s.odd) {
        wide sums = units + (wide)(s.length * s.channels) / 8;
        CHECK_ARRAY(o.du.memory, units, 1);
        CHECK_ARRAY(o.ddelta.memory, units, 1);
        CHECK_ARRAY(o.dz.memory, units, 1);
        CHECK_ARRAY(o.dstate, units, 1);
        CHECK_ARRAY(o.dA, sums, 1);
        CHECK_ARRAY(o.dD, sums, 1);
        CHECK_ARRAY(o.dbias, sums, 1);
        CHECK_ARRAY(total_of(dB, s.fixed_B ? 1 : s.parts, o.dB), sums, 1);
        CHECK_ARRAY(total_of(dC, s.fixed_C ? 1 : s.parts, o.dC), sums, 1);
    }
    free_arrays();
}

void TEST(test_scan)(const helix_table *table);
void TEST(test_scan)(const helix_table *table) {
    /* batch, length, channels, states, groups, parts */
    static const ptrdiff_t sizes[][6] = {
        {1, 1, 1, 1, 1, 1}, {2, 5, 7, 3, 1, 1}, {1, 31, 4, 4, 1, 2}, {1, 32, 16, 8, 2, 1},
        {2, 33, 17, 5, 1, 3}, {1, 65, 34, 16, 2, 2}, {1, 3, 3, 2, 3, 4}, {3, 40, 12, 1, 4, 1},
        {1, 2, 66, 9, 1, 4}, {2, 0, 3, 2, 1, 1}, {0, 4, 3, 2, 1, 1}, {2, 4, 3, 0, 1, 1},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int options = (int)i % 7; options < 64; options += 7 * THINNING) {
            shape s = {sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], sizes[i][4], sizes[i][5],
                       options & 1, options >> 1 & 1, options >> 2 & 1, options >> 3 & 1,
                       options >> 4 & 1, options >> 5, 0};
            test_shape(table, s);
            s.odd = s.softplus;
            if (s.odd && s.batch && s.length && s.states)
                test_shape(table, s);
        }
}
