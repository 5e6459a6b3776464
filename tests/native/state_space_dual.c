/* Tests of state-space duality: chunks of products against the recurrence, step by step. */
#include "check.h"

#include <math.h>
#include <string.h>

typedef struct {
    ptrdiff_t batch, length, heads, groups, width, states, chunk;
} sizes;

/* (b, heads, l, width) whose heads are neighbours; returns how far it reaches. */
static ptrdiff_t lay(helix_rows *rows, const sizes *s, ptrdiff_t heads, ptrdiff_t width) {
    ptrdiff_t row = width + any_below(2) * 3;
    rows->channel_stride = 1;
    rows->group_stride = row;
    rows->step_stride = heads * row;
    rows->batch_stride = s->length * heads * row;
    return (s->batch * s->length * heads - 1) * row + width;
}

static wide *at(array x, helix_rows rows, ptrdiff_t b, ptrdiff_t h, ptrdiff_t t) {
    return x.exact + b * rows.batch_stride + h * rows.group_stride + t * rows.step_stride;
}

static void test_sizes(const helix_table *table, sizes s, int has_D, wide longest_step) {
    begin_case("ssd of %td x %td, %td heads (%td) of %td, %td states, chunks of %td, D %d",
               s.batch, s.length, s.heads, s.groups, s.width, s.states, s.chunk, has_D);
    ptrdiff_t p = s.width, n = s.states, items = s.batch * s.heads, each = n * p;
    ptrdiff_t chunks = (s.length + s.chunk - 1) / s.chunk;
    helix_ssd d = {
        .batch = s.batch, .length = s.length, .heads = s.heads, .groups = s.groups, .width = p,
        .states = n, .chunk = s.chunk,
    };
    array x = random_array(lay(&d.x, &s, s.heads, p), -1, 1);
    array y = new_array(lay(&d.y, &s, s.heads, p)), dx = new_array(lay(&d.dx, &s, s.heads, p));
    array g = random_array(lay(&d.g, &s, s.heads, p), -1, 1);
    array B = random_array(lay(&d.B, &s, s.groups, n), -1, 1);
    array C = random_array(lay(&d.C, &s, s.groups, n), -1, 1);
    array dB = new_array(lay(&d.dB, &s, s.heads, n)), dC = new_array(lay(&d.dC, &s, s.heads, n));
    array dt = random_array(items * s.length, 0, longest_step);
    array ddt = new_array(items * s.length);
    array A = random_array(s.heads, -2, -0.1L), D = random_array(s.heads, -1, 1);
    array dA = zero_array(items), dD = has_D ? zero_array(items) : new_array(items);
    array states = random_array(items * (chunks + 1) * each, -1, 1);
    array dstate = random_array(items * each, -1, 1);
    d.x.data = x.data, d.y.data = y.data, d.g.data = g.data, d.dx.data = dx.data;
    d.B.data = B.data, d.C.data = C.data, d.dB.data = dB.data, d.dC.data = dC.data;
    d.dt = dt.data, d.A = A.data, d.D = has_D ? D.data : NULL, d.chunk_states = states.data;
    d.ddt = ddt.data, d.dA = dA.data, d.dD = dD.data, d.dstate = dstate.data;
    wide *H = scratch((s.length + 1) * each * sizeof(wide)), size = 1;
    for (ptrdiff_t item = 0; item < items; item++) {
        ptrdiff_t b = item / s.heads, h = item % s.heads, group = h / (s.heads / s.groups);
        wide rate = A.exact[h], skip = has_D ? D.exact[h] : 0;
        const wide *steps = dt.exact + item * s.length;
        wide *kept = states.exact + item * (chunks + 1) * each;
        memcpy(H, kept, each * sizeof(wide));
        for (ptrdiff_t t = 0; t < s.length; t++) {
            const wide *x_t = at(x, d.x, b, h, t), *B_t = at(B, d.B, b, group, t);
            const wide *C_t = at(C, d.C, b, group, t);
            wide *y_t = at(y, d.y, b, h, t), *before = H + t * each, *after = before + each;
            for (ptrdiff_t f = 0; f < p; f++) {
                y_t[f] = skip * x_t[f];
                for (ptrdiff_t i = 0; i < n; i++) {
                    wide drive = steps[t] * B_t[i] * x_t[f];
                    wide value = expl(steps[t] * rate) * before[i * p + f] + drive;
                    after[i * p + f] = value;
                    size = fmaxl(size, fabsl(value));
                    y_t[f] += C_t[i] * value;
                }
            }
            if ((t + 1) % s.chunk == 0 || t + 1 == s.length)
                memcpy(kept + (t / s.chunk + 1) * each, after, each * sizeof(wide));
        }
        wide *G = dstate.exact + item * each;
        for (ptrdiff_t t = s.length - 1; t >= 0; t--) {
            const wide *x_t = at(x, d.x, b, h, t), *B_t = at(B, d.B, b, group, t);
            const wide *C_t = at(C, d.C, b, group, t), *g_t = at(g, d.g, b, h, t);
            wide *dx_t = at(dx, d.dx, b, h, t), *dB_t = at(dB, d.dB, b, h, t);
            wide *dC_t = at(dC, d.dC, b, h, t), slope = 0, drive = 0;
            for (ptrdiff_t i = 0; i < n; i++)
                dB_t[i] = dC_t[i] = 0;
            for (ptrdiff_t f = 0; f < p; f++) {
                dx_t[f] = skip * g_t[f];
                for (ptrdiff_t i = 0; i < n; i++) {
                    wide *entry = G + i * p + f;
                    *entry += C_t[i] * g_t[f];
                    dC_t[i] += H[(t + 1) * each + i * p + f] * g_t[f];
                    dx_t[f] += steps[t] * B_t[i] * *entry;
                    dB_t[i] += steps[t] * x_t[f] * *entry;
                    drive += B_t[i] * x_t[f] * *entry;
                    *entry *= expl(steps[t] * rate);
                    slope += H[t * each + i * p + f] * *entry;
                }
                if (has_D)
                    dD.exact[item] += x_t[f] * g_t[f];
            }
            ddt.exact[item * s.length + t] = drive + rate * slope;
            dA.exact[item] += steps[t] * slope;
        }
    }
    CHECK(run(table->ssd_forward, &d, items) == 0, "%td items", items);
    CHECK_ARRAY(y, 64, n * size);
    CHECK_ARRAY(states, 64, size);
    CHECK(run(table->ssd_backward, &d, items) == 0, "%td items", items);
    CHECK_ARRAY(dx, 64, n * size);
    CHECK_ARRAY(dB, 64, p * size);
    CHECK_ARRAY(dC, 64, p * size);
    CHECK_ARRAY(ddt, 64, n * p * size);
    CHECK_ARRAY(dA, 64, n * p * size);
    CHECK_ARRAY(dD, 64, p * size);
    CHECK_ARRAY(dstate, 64, size);
    free_arrays();
}

void TEST(test_state_space_dual)(const helix_table *table);
void TEST(test_state_space_dual)(const helix_table *table) {
    static const sizes cases[] = {
        {1, 1, 1, 1, 1, 1, 1},    {2, 5, 4, 2, 3, 2, 2},     {1, 13, 2, 1, 7, 5, 13},
        {1, 64, 1, 1, 32, 17, 64}, {1, 130, 2, 2, 9, 33, 44}, {2, 65, 1, 1, 16, 12, 33},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int options = 0; options < 4; options++)
            test_sizes(table, cases[i], options & 1, options >> 1 ? 20 : 0.5L);
}
