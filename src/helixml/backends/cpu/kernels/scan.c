/* Selective scan, forward and backward.

     delta' = softplus(delta + bias)      (or delta + bias)
     h_t    = exp(delta'_t A) h_{t-1} + delta'_t B_t u_t
     y_t    = (sum_n C_t h_t + D u_t) silu(z_t)

   A vector holds WIDTH neighbouring channels, so that B_t and C_t are scalars and y needs no
   sum across lanes. Time goes in chunks of HELIX_SCAN_STEPS. Within a chunk a block of WIDTH
   channels is prepared (softplus, gate), then its states are scanned in slices of SLICE, whose
   h and A stay in registers. The forward pass keeps h at the chunk borders only; the backward
   pass walks the chunks from the last to the first and recomputes h inside each, a slice at a
   time, so that h and the decays exp(delta' A) stay in the first-level cache. */
#include "rows.h"


enum {
    STEPS = HELIX_SCAN_STEPS,
    SLICE = 4,
    BLOCKS = 16,
    SQUARES = 64 / VECTOR_BYTES > 0 ? 64 / VECTOR_BYTES : 1 /* in a line of the cache */
};

/* One chunk of WIDTH channels. */
typedef struct {
    vec delta[STEPS]; /* delta' */
    vec drive[STEPS]; /* delta' u */
    vec y[STEPS];     /* before the gate */
    vec gate[STEPS];  /* silu(z) */
    vec u[STEPS];
    int normal; /* every decay is a normal number: the short exp2 will do */
    /* backward only */
    vec g[STEPS];          /* cotangent of y before the gate */
    vec gate_slope[STEPS]; /* cotangent of the gate times silu'(z), without the factor y */
    vec delta_slope[STEPS];
    vec ddelta[STEPS], ddrive[STEPS];
} block;

/* What the backward pass needs of one slice of states. */
typedef struct {
    vec decay[STEPS][SLICE];
    vec h[STEPS + 1][SLICE]; /* before the first step, after each */
} record;

/* B or C of one slice: scalars that change with t, or one vector per state. */
typedef struct {
    const real *steps;
    ptrdiff_t step_stride;
    int fixed;
    vec channels[SLICE];
} coefficient;

/* An item of work: one batch, one range of channels inside one group. */
typedef struct {
    ptrdiff_t batch, group, part, begin, end;
} item;

static item item_at(const helix_scan *s, ptrdiff_t index) {
    item it;
    ptrdiff_t size = s->channels / s->groups;
    ptrdiff_t vectors = (size + WIDTH - 1) / WIDTH;
    it.part = index % s->parts;
    it.group = index / s->parts % s->groups;
    it.batch = index / s->parts / s->groups;
    it.begin = it.group * size + smaller(size, vectors * it.part / s->parts * WIDTH);
    it.end = it.group * size + smaller(size, vectors * (it.part + 1) / s->parts * WIDTH);
    return it;
}

INLINE real *place(helix_rows rows, const item *it, ptrdiff_t step, ptrdiff_t channel) {
    return row_at(rows, it->batch, 0, step) + channel;
}

/* Describe B or C of the slice that begins at `state`. */
INLINE void set_coefficient(coefficient *c, helix_rows rows, int fixed, const item *it,
                            ptrdiff_t start, ptrdiff_t state, int states, ptrdiff_t channel,
                            ptrdiff_t count) {
    const real *data = rows.data;
    c->fixed = fixed;
    c->step_stride = rows.step_stride;
    c->steps = row_at(rows, it->batch, it->group, start) + state;
    if (fixed)
        for (int j = 0; j < states; j++)
            c->channels[j] = load_first(data + (state + j) * rows.step_stride + channel, count);
}

/* `may_be_fixed` is a constant: without it the slice has no branch inside. */
INLINE vec value_at(const coefficient *c, int t, int j, int may_be_fixed) {
    if (may_be_fixed && c->fixed)
        return c->channels[j];
    return splat(c->steps[t * c->step_stride + j]);
}

/* Read a block's channels through a chunk. Rows lie far apart, so that no hardware prefetcher
   foresees the next block: it is fetched here. */
INLINE void read_block(vec to[STEPS], helix_rows rows, const item *it, ptrdiff_t start, int steps,
                       ptrdiff_t channel, ptrdiff_t count) {
    for (int t = 0; t < steps; t++) {
        const real *from = place(rows, it, start + t, channel);
        prefetch_far((const char *)from + 64);
        to[t] = load_first(from, count);
    }
}

/* The same if it is time that is contiguous: squares of channels and steps are transposed. A line
   of the cache is used up while it is there: with a power of two between the rows, all of a
   square's lines compete for one place. */
INLINE void read_transposed(vec to[STEPS], helix_rows rows, const item *it, ptrdiff_t start,
                            int steps, ptrdiff_t channel, ptrdiff_t count) {
    const real *from = row_at(rows, it->batch, 0, start) + channel * rows.channel_stride;
    for (int line = 0; line < steps; line += SQUARES * WIDTH) {
        vec squares[SQUARES][WIDTH];
#pragma GCC unroll 16
        for (int i = 0; i < WIDTH; i++) {
            const real *row = from + i * rows.channel_stride + line;
            prefetch_far(row + WIDTH * rows.channel_stride);
            for (int j = 0; j < SQUARES; j++)
                squares[j][i] = i < count && line + j * WIDTH < steps
                                    ? load_first(row + j * WIDTH, steps - line - j * WIDTH)
                                    : splat(0);
        }
        for (int j = 0; j < SQUARES; j++) {
            transpose(squares[j]);
            vec *out = to + line + j * WIDTH; /* a multiple of WIDTH, as STEPS is */
            for (int i = 0; i < WIDTH && line + j * WIDTH < steps; i++)
                out[i] = squares[j][i];
        }
    }
}

static void read_steps(vec to[STEPS], helix_rows rows, const item *it, ptrdiff_t start, int steps,
                       ptrdiff_t channel, ptrdiff_t count) {
    if (rows.channel_stride == 1)
        read_block(to, rows, it, start, steps, channel, count);
    else
        read_transposed(to, rows, it, start, steps, channel, count);
}

/* The longest delta' for which each decay of a block's states is a normal number. */
INLINE vec longest_step(const helix_scan *s, ptrdiff_t channel, ptrdiff_t count) {
    const real *A = (const real *)s->A_log2 + channel;
    vec rate = splat(0);
    ivec finite = rate == rate;
    for (ptrdiff_t n = 0; n < s->states; n++) {
        vec size = absolute(load_first(A + n * s->channels, count));
        finite &= size <= LARGEST;
        rate = maximum(size, rate);
    }
    return choose(finite, at_most(EXP2_NORMAL / rate, LARGEST), splat(-1));
}

/* Read a chunk of u, delta, z of one block; with `backward`, of the cotangent too. Short loops
   follow each other: in a long one few of its steps would be under way at a time. */
INLINE void prepare(block *k, const helix_scan *s, const item *it, ptrdiff_t start, int steps,
                    ptrdiff_t channel, ptrdiff_t count, int backward) {
    vec D = s->D ? load_first((const real *)s->D + channel, count) : splat(0);
    vec bias = s->bias ? load_first((const real *)s->bias + channel, count) : splat(0);
    vec longest = longest_step(s, channel, count);
    ivec normal = longest == longest;
    read_steps(k->u, s->u, it, start, steps, channel, count);
    read_steps(k->delta, s->delta, it, start, steps, channel, count);
    if (s->z.data)
        read_steps(k->gate, s->z, it, start, steps, channel, count);
    if (backward)
        read_steps(k->g, s->g, it, start, steps, channel, count);
    for (int t = 0; t < steps && s->softplus; t++) {
        vec slope;
        k->delta[t] = softplus(k->delta[t] + bias, &slope);
        if (backward)
            k->delta_slope[t] = slope;
    }
    for (int t = 0; t < steps && s->z.data; t++) {
        vec slope;
        k->gate[t] = silu(k->gate[t], &slope);
        if (backward) {
            k->gate_slope[t] = k->g[t] * slope;
            k->g[t] *= k->gate[t];
        }
    }
    for (int t = 0; t < steps; t++) {
        if (!s->softplus)
            k->delta[t] += bias;
        normal &= absolute(k->delta[t]) <= longest;
        k->drive[t] = k->delta[t] * k->u[t];
        k->y[t] = D * k->u[t];
        if (backward)
            k->ddelta[t] = k->ddrive[t] = splat(0);
    }
    k->normal = all_lanes(normal);
}

/* Scan `states` states (a constant) through the chunk; h goes from its start to its end. */
INLINE void scan_states(block *k, vec *h, const vec *A, const coefficient *B,
                        const coefficient *C, int steps, int states, int normal,
                        int may_be_fixed, record *keep) {
    for (int t = 0; t < steps; t++) {
        vec delta = k->delta[t], drive = k->drive[t], y = k->y[t];
#pragma GCC unroll 4
        for (int j = 0; j < states; j++) {
            vec decay = normal ? exp2_of_product(delta, A[j]) : exp2_vec(delta * A[j]);
            h[j] = decay * h[j] + drive * value_at(B, t, j, may_be_fixed);
            if (keep) {
                keep->decay[t][j] = decay;
                keep->h[t + 1][j] = h[j];
            }
            y += h[j] * value_at(C, t, j, may_be_fixed);
        }
        k->y[t] = y;
    }
}

/* The same with `states` and `normal` made constants, for the usual case of whole slices. */
INLINE void scan_slice(block *k, vec *h, const vec *A, const coefficient *B,
                       const coefficient *C, int steps, int states, record *keep) {
    if (states == SLICE && k->normal)
        scan_states(k, h, A, B, C, steps, SLICE, 1, 0, keep);
    else if (states == SLICE)
        scan_states(k, h, A, B, C, steps, SLICE, 0, 0, keep);
    else
        scan_states(k, h, A, B, C, steps, 1, 0, 1, keep);
}

/* Slices of SLICE states where B and C are scalars, of one state otherwise. */
INLINE int states_in_slice(const helix_scan *s, ptrdiff_t state) {
    return !s->fixed_B && !s->fixed_C && s->states - state >= SLICE ? SLICE : 1;
}

INLINE real *state_at(const helix_scan *s, const item *it, ptrdiff_t chunk) {
    ptrdiff_t chunks = (s->length + STEPS - 1) / STEPS;
    return (real *)s->chunk_states +
           (it->batch * (chunks + 1) + chunk) * s->states * s->channels;
}

static void forward_slice(block *k, const helix_scan *s, const item *it, ptrdiff_t chunk,
                          int steps, ptrdiff_t channel, ptrdiff_t count, ptrdiff_t n,
                          int states) {
    ptrdiff_t d = s->channels, start = chunk * STEPS, first = n * d + channel;
    coefficient B, C;
    set_coefficient(&B, s->B, s->fixed_B, it, start, n, states, channel, count);
    set_coefficient(&C, s->C, s->fixed_C, it, start, n, states, channel, count);
    vec A[SLICE], h[SLICE];
    for (int j = 0; j < states; j++) {
        A[j] = load_first((const real *)s->A_log2 + first + j * d, count);
        h[j] = load_first(state_at(s, it, chunk) + first + j * d, count);
    }
    scan_slice(k, h, A, &B, &C, steps, states, NULL);
    for (int j = 0; j < states; j++)
        store_first(state_at(s, it, chunk + 1) + first + j * d, h[j], count);
}

/* Has the cache fetch the lines that a block's results will go to: they lie far apart. */
INLINE void prefetch_results(helix_rows rows, const item *it, ptrdiff_t start, int steps,
                             ptrdiff_t channel) {
    for (int t = 0; t < steps && rows.data; t++)
        __builtin_prefetch(place(rows, it, start + t, channel), 1, 2);
}

static void forward_item(const helix_scan *s, const item *it) {
    block k;
    for (ptrdiff_t start = 0, chunk = 0; start < s->length; start += STEPS, chunk++) {
        int steps = (int)smaller(STEPS, s->length - start);
        for (ptrdiff_t channel = it->begin; channel < it->end; channel += WIDTH) {
            ptrdiff_t count = it->end - channel;
            prefetch_results(s->y, it, start, steps, channel);
            prepare(&k, s, it, start, steps, channel, count, 0);
            for (ptrdiff_t n = 0, states; n < s->states; n += states) {
                states = states_in_slice(s, n);
                forward_slice(&k, s, it, chunk, steps, channel, count, n, (int)states);
            }
            for (int t = 0; t < steps; t++) {
                vec y = s->z.data ? k.y[t] * k.gate[t] : k.y[t];
                store_first(place(s->y, it, start + t, channel), y, count);
            }
        }
    }
}

int EXPORT(scan_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_scan *s = call;
    for (ptrdiff_t i = first; i < last; i++) {
        item it = item_at(s, i);
        forward_item(s, &it);
    }
    return 0;
}

/* Gradients of one slice of states, from the chunk's end to its start. */
typedef struct {
    vec g[SLICE];             /* cotangent of h */
    vec dA[SLICE];            /* of this chunk */
    vec dB[SLICE], dC[SLICE]; /* of this chunk, where B, C are fixed */
    vec *dB_steps, *dC_steps; /* elsewhere (t, state), summed over blocks, lanes apart */
} gradients;

/* Walk `states` states (a constant) of the chunk back. */

INLINE void unscan_states(block *k, gradients *d, const vec *A, const coefficient *B,
                          const coefficient *C, int steps, int states, int may_be_fixed,
                          const record *kept) {
    for (int t = steps - 1; t >= 0; t--) {
        vec delta = k->delta[t], drive = k->drive[t], g_y = k->g[t];
        vec ddelta = k->ddelta[t], ddrive = k->ddrive[t];
#pragma GCC unroll 4
        for (int j = 0; j < states; j++) {
            vec g = d->g[j] + g_y * value_at(C, t, j, may_be_fixed);
            if (may_be_fixed && C->fixed)
                d->dC[j] += g_y * kept->h[t + 1][j];
            else
                d->dC_steps[t * states + j] += g_y * kept->h[t + 1][j];
            if (may_be_fixed && B->fixed)
                d->dB[j] += g * drive;
            else
                d->dB_steps[t * states + j] += g * drive;
            ddrive += g * value_at(B, t, j, may_be_fixed);
            g *= kept->decay[t][j];
            vec rate = g * kept->h[t][j]; /* cotangent of delta' A */
            d->dA[j] += rate * delta;
            ddelta += rate * A[j];
            d->g[j] = g;
        }
        k->ddelta[t] = ddelta;
        k->ddrive[t] = ddrive;
    }
}

/* Write the gradients of u, delta, z of a block, add those of D and the bias. */
INLINE void finish(block *k, const helix_scan *s, const item *it, ptrdiff_t start, int steps,
                   ptrdiff_t channel, ptrdiff_t count) {
    vec D = s->D ? load_first((const real *)s->D + channel, count) : splat(0);
    vec dD = splat(0), dbias = splat(0);
    for (int t = 0; t < steps; t++) {
        vec u = k->u[t];
        vec ddelta = k->ddrive[t] * u + k->ddelta[t] * (real)LN2;
        if (s->softplus)
            ddelta *= k->delta_slope[t];
        vec du = k->ddrive[t] * k->delta[t] + D * k->g[t];
        store_first(place(s->du, it, start + t, channel), du, count);
        store_first(place(s->ddelta, it, start + t, channel), ddelta, count);
        if (s->z.data)
            store_first(place(s->dz, it, start + t, channel), k->gate_slope[t] * k->y[t], count);
        dD += k->g[t] * u;
        dbias += ddelta;
    }
    add_first((real *)s->dD + it->batch * s->channels + channel, dD, count);
    add_first((real *)s->dbias + it->batch * s->channels + channel, dbias, count);
}

/* Recompute one slice of a block's states through the chunk, then walk it back. */
static void backward_slice(block *k, const helix_scan *s, const item *it, ptrdiff_t chunk,
                           int steps, ptrdiff_t channel, ptrdiff_t n, int states, vec *dB_steps,
                           vec *dC_steps) {
    ptrdiff_t d = s->channels, start = chunk * STEPS, count = it->end - channel;
    ptrdiff_t first = (it->batch * s->states + n) * d + channel; /* in a (b, n, d) array */
    coefficient B, C;
    set_coefficient(&B, s->B, s->fixed_B, it, start, n, states, channel, count);
    set_coefficient(&C, s->C, s->fixed_C, it, start, n, states, channel, count);
    vec A[SLICE], h[SLICE];
    record kept;
    gradients grad = {.dB_steps = dB_steps, .dC_steps = dC_steps};
    for (int j = 0; j < states; j++) {
        A[j] = load_first((const real *)s->A_log2 + (n + j) * d + channel, count);
        h[j] = load_first(state_at(s, it, chunk) + (n + j) * d + channel, count);
        kept.h[0][j] = h[j];
        grad.g[j] = load_first((real *)s->dstate + first + j * d, count);
    }
    scan_slice(k, h, A, &B, &C, steps, states, &kept);
    if (states == SLICE)
        unscan_states(k, &grad, A, &B, &C, steps, SLICE, 0, &kept);
    else
        unscan_states(k, &grad, A, &B, &C, steps, 1, 1, &kept);
    for (int j = 0; j < states; j++) {
        add_first((real *)s->dA + first + j * d, grad.dA[j], count);
        store_first((real *)s->dstate + first + j * d, grad.g[j], count);
        if (s->fixed_B)
            add_first((real *)s->dB + first + j * d, grad.dB[j], count);
        if (s->fixed_C)
            add_first((real *)s->dC + first + j * d, grad.dC[j], count);
    }
}

/* Add the lanes of dB or dC of a slice through a chunk to its rows of (parts, b, g, l, n). */
static void add_steps(real *to, const vec *from, const helix_scan *s, const item *it,
                      ptrdiff_t start, int steps, ptrdiff_t n, int states) {
    ptrdiff_t sequence = (it->part * s->batch + it->batch) * s->groups + it->group;
    to += (sequence * s->length + start) * s->states + n;
    for (int t = 0; t < steps; t++)
        for (int j = 0; j < states; j++)
            to[t * s->states + j] += sum_lanes(from[t * states + j]);
}

/* Walk one slice of several blocks' states back: what they add to dB and dC stays in the cache. */
static void backward_slices(block *blocks, const helix_scan *s, const item *it, ptrdiff_t chunk,
                            int steps, ptrdiff_t channel, ptrdiff_t end, ptrdiff_t n, int states) {
    vec dB[STEPS * SLICE], dC[STEPS * SLICE];
    memset(dB, 0, sizeof(vec) * steps * states);
    memset(dC, 0, sizeof(vec) * steps * states);
    for (block *k = blocks; channel < end; channel += WIDTH, k++)
        backward_slice(k, s, it, chunk, steps, channel, n, states, dB, dC);
    if (!s->fixed_B)
        add_steps(s->dB, dB, s, it, chunk * STEPS, steps, n, states);
    if (!s->fixed_C)
        add_steps(s->dC, dC, s, it, chunk * STEPS, steps, n, states);
}

static void backward_item(const helix_scan *s, const item *it, block *blocks) {
    for (ptrdiff_t chunk = (s->length + STEPS - 1) / STEPS - 1; chunk >= 0; chunk--) {
        ptrdiff_t start = chunk * STEPS;
        int steps = (int)smaller(STEPS, s->length - start);
        for (ptrdiff_t begin = it->begin, end; begin < it->end; begin = end) {
            end = smaller(begin + BLOCKS * WIDTH, it->end);
            for (ptrdiff_t i = 0, channel = begin; channel < end; i++, channel += WIDTH)
                prepare(blocks + i, s, it, start, steps, channel, it->end - channel, 1);
            for (ptrdiff_t n = 0, states; n < s->states; n += states) {
                states = states_in_slice(s, n);
                backward_slices(blocks, s, it, chunk, steps, begin, end, n, (int)states);
            }
            for (ptrdiff_t i = 0, channel = begin; channel < end; i++, channel += WIDTH) {
                prefetch_results(s->du, it, start, steps, channel + WIDTH);
                prefetch_results(s->ddelta, it, start, steps, channel + WIDTH);
                prefetch_results(s->dz, it, start, steps, channel + WIDTH);
                finish(blocks + i, s, it, start, steps, channel, it->end - channel);
            }
        }
    }
}

int EXPORT(scan_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_scan *s = call;
    block *blocks = helix_workspace(BLOCKS * sizeof(block));
    if (!blocks)
        return HELIX_NO_MEMORY;
    for (ptrdiff_t i = first; i < last; i++) {
        item it = item_at(s, i);
        backward_item(s, &it, blocks);
    }
    return 0;
}
