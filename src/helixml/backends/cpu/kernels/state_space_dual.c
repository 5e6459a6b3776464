/* State-space duality (Dao & Gu 2024, "Transformers are SSMs", section 6), forward and backward.

   In a chunk with a_t = exp(dt_t A), X_j = dt_j x_j and H, (n, p), the state before it:

     W_ij = C_i . B_j  a_(j+1) ... a_i       for j <= i, else 0
     Y_i  = sum_j W_ij X_j + a_1 ... a_i  C_i H
     H'   = a_1 ... a_s H + sum_j a_(j+1) ... a_s  B_j X_j^T

   Decays are products that grow with i, not exponentials of differences of sums, which lose what is
   small behind what is large. Only the states at borders of chunks are kept; the backward pass
   computes weights again. Matrices lie row by row and padded with whole tiles; a product takes its
   left factor in panels of ROWS rows and its right one in panels of COLUMNS columns. */
#include "tiles.h"

enum { STEPS = HELIX_SSD_STEPS, ROOM = (STEPS + ROWS - 1) / ROWS * ROWS };

_Static_assert(STEPS % COLUMNS == 0, "chunks must be whole panels");

/* The next piece of a workspace, for so many entries. */
static real *cut(real **workspace, ptrdiff_t size) {
    real *found = *workspace;
    *workspace += round_up(size, WIDTH) + WIDTH; /* `pack` may write so much more */
    return found;
}

/* Products */

typedef enum { ALL, UP_TO_ROW, FROM_ROW } reach; /* of the sum, where the left factor is a triangle */

static void tile(ptrdiff_t steps, const real *a, const real *b, real *c, ptrdiff_t c_row, int add) {
    multiply(steps, a, b, 2, c, c_row, add);
}

/* c = a b, or c += a b; panels of both hold `steps` steps. */
static void product(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t steps, reach over, const real *a,
                    const real *b, real *c, ptrdiff_t c_row, int add) {
    for (ptrdiff_t j = 0; j < columns; j += COLUMNS)
        for (ptrdiff_t i = 0; i < rows; i += ROWS) {
            ptrdiff_t begin = over == FROM_ROW ? i : 0;
            ptrdiff_t end = over == UP_TO_ROW ? smaller(i + ROWS, steps) : steps;
            tile(end - begin, a + i * steps + begin * ROWS, b + j * steps + begin * COLUMNS,
                 c + i * c_row + j, c_row, add);
        }
}

/* The tiles on and below the diagonal of c = a b, (rows, rows). */
static void lower_product(ptrdiff_t rows, ptrdiff_t steps, const real *a, const real *b, real *c) {
    for (ptrdiff_t i = 0; i < rows; i += ROWS)
        for (ptrdiff_t j = 0; j < smaller(i + ROWS, rows); j += COLUMNS)
            tile(steps, a + i * steps, b + j * steps, c + i * STEPS + j, STEPS, 0);
}

/* Panels of a matrix, (rows, columns): as the left factor of a product, and, transposed, too; as
   the right factor, and, transposed, too. */
static void pack_left(real *to, const real *x, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t columns) {
    pack_panels(to, ROWS, columns, (panel){x, row, 1}, rows, columns);
}

static void pack_left_turned(real *to, const real *x, ptrdiff_t row, ptrdiff_t rows,
                             ptrdiff_t columns) {
    pack_panels(to, ROWS, rows, (panel){x, 1, row}, columns, rows);
}

static void pack_right(real *to, const real *x, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t columns) {
    pack_panels(to, COLUMNS, rows, (panel){x, 1, row}, columns, rows);
}

static void pack_right_turned(real *to, const real *x, ptrdiff_t row, ptrdiff_t rows,
                              ptrdiff_t columns) {
    pack_panels(to, COLUMNS, columns, (panel){x, row, 1}, rows, columns);
}

/* Rows */

static real dot(const real *x, const real *y, ptrdiff_t size) {
    vec sum = splat(0);
    for (ptrdiff_t i = 0; i < size; i += WIDTH)
        sum += load_first(x + i, size - i) * load_first(y + i, size - i);
    return sum_lanes(sum);
}

/* Each row times its factor; `width` in whole vectors. */
static void scale_rows(real *x, ptrdiff_t rows, ptrdiff_t width, const real *factors) {
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t f = 0; f < width; f += WIDTH)
            store(x + i * width + f, load(x + i * width + f) * factors[i]);
}

/* Rows into rows of `width`, in whole vectors, each times its factor; the rest is 0. */
static void copy_rows(real *to, ptrdiff_t width, const real *x, ptrdiff_t row, ptrdiff_t rows,
                      ptrdiff_t size, const real *factors) {
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t f = 0; f < width; f += WIDTH) {
            vec entries = load_first(x + i * row + f, size - f);
            store(to + i * width + f, factors ? entries * factors[i] : entries);
        }
}

/* One chunk of a head */

typedef struct {
    ptrdiff_t batch, head, group, first, steps;
    const real *dt;
    real decay[STEPS + WIDTH]; /* a_t */
    real since[STEPS], until[STEPS]; /* a_1 ... a_t, a_(t+1) ... a_s */
} chunk;

static chunk chunk_at(const helix_ssd *s, ptrdiff_t item, ptrdiff_t index) {
    chunk c = {.batch = item / s->heads, .head = item % s->heads, .first = index * s->chunk};
    c.group = c.head / (s->heads / s->groups);
    c.steps = smaller(s->chunk, s->length - c.first);
    c.dt = (const real *)s->dt + item * s->length + c.first;
    real A = ((const real *)s->A)[c.head];
    for (ptrdiff_t t = 0; t < c.steps; t += WIDTH)
        store(c.decay + t, exp_vec(load_first(c.dt + t, c.steps - t) * A));
    real product = 1;
    for (ptrdiff_t t = 0; t < c.steps; t++)
        c.since[t] = product *= c.decay[t];
    product = 1;
    for (ptrdiff_t t = c.steps - 1; t >= 0; t--) {
        c.until[t] = product;
        product *= c.decay[t];
    }
    return c;
}

static const real *row_of(helix_rows rows, const chunk *c, ptrdiff_t group) {
    return row_at(rows, c->batch, group, c->first);
}

/* W = S * decays, and (backward) dS = dW * decays, E = dW * W; scores S and dW are overwritten by W
   and dS. Numbers below the normal ones become 0: the next products would take long. */
INLINE void weigh(const chunk *c, real *scores, real *slopes, real *both) {
    real kept[STEPS] = {0};
    for (ptrdiff_t i = 0; i < c->steps; i++) {
        for (ptrdiff_t j = 0; j < i; j += WIDTH) {
            vec w = load(kept + j) * c->decay[i];
            store(kept + j, choose(w < SMALLEST_NORMAL, splat(0), w));
        }
        kept[i] = 1;
        for (ptrdiff_t j = 0; j < i / ROWS * ROWS + ROWS && j < STEPS; j += WIDTH) {
            real *at = scores + i * STEPS + j;
            vec w = load(at) * load(kept + j);
            store(at, w);
            if (slopes) {
                real *slope = slopes + i * STEPS + j;
                store(both + i * STEPS + j, load(slope) * w);
                store(slope, load(slope) * load(kept + j));
            }
        }
    }
}

static ptrdiff_t chunks_of(const helix_ssd *s) { return (s->length - 1) / s->chunk + 1; }

static real *state_at(const helix_ssd *s, ptrdiff_t item, ptrdiff_t index) {
    return (real *)s->chunk_states + (item * (chunks_of(s) + 1) + index) * s->states * s->width;
}

/* Entries that either function below cuts off. */
static ptrdiff_t workspace_size(const helix_ssd *s) {
    ptrdiff_t p = round_up(s->width, COLUMNS) + ROWS, n = round_up(s->states, COLUMNS) + ROWS;
    return 8 * ROOM * p + 8 * ROOM * n + 4 * n * p + 8 * ROOM * ROOM + 40 * 2 * WIDTH;
}

/* Forward */

static void run_chunks(const helix_ssd *s, ptrdiff_t item, real *workspace) {
    ptrdiff_t p = s->width, n = s->states, P = round_up(p, COLUMNS);
    real *state = cut(&workspace, round_up(n, ROWS) * P), *state_right = cut(&workspace, n * P);
    real *x = cut(&workspace, STEPS * P), *x_right = cut(&workspace, STEPS * P);
    real *y = cut(&workspace, ROOM * P), *C_left = cut(&workspace, ROOM * n);
    real *B_right = cut(&workspace, STEPS * n);
    real *B_left = cut(&workspace, round_up(n, ROWS) * STEPS);
    real *scores = cut(&workspace, ROOM * STEPS), *weights = cut(&workspace, ROOM * STEPS);
    copy_rows(state, P, state_at(s, item, 0), p, n, p, NULL);
    for (ptrdiff_t index = 0; index < chunks_of(s); index++) {
        chunk c = chunk_at(s, item, index);
        ptrdiff_t steps = c.steps, B_row = s->B.step_stride;
        const real *B = row_of(s->B, &c, c.group), *C = row_of(s->C, &c, c.group);
        const real *x_rows = row_of(s->x, &c, c.head);
        copy_rows(x, P, x_rows, s->x.step_stride, steps, p, c.dt);

        pack_left(C_left, C, s->C.step_stride, steps, n);
        pack_right(state_right, state, P, n, P);
        product(steps, P, n, ALL, C_left, state_right, y, P, 0);
        scale_rows(y, steps, P, c.since);

        pack_right_turned(B_right, B, B_row, steps, n);
        lower_product(steps, n, C_left, B_right, scores);
        weigh(&c, scores, NULL, NULL);
        pack_left(weights, scores, STEPS, steps, steps);
        pack_right(x_right, x, P, steps, P);
        product(steps, P, steps, UP_TO_ROW, weights, x_right, y, P, 1);

        real D = s->D ? ((const real *)s->D)[c.head] : 0;
        for (ptrdiff_t i = 0; i < steps; i++) {
            real *row = row_at(s->y, c.batch, c.head, c.first + i);
            const real *x_row = x_rows + i * s->x.step_stride;
            for (ptrdiff_t f = 0; f < p; f += WIDTH) {
                vec sum = load(y + i * P + f);
                if (s->D)
                    sum += load_first(x_row + f, p - f) * D;
                store_first(row + f, sum, p - f);
            }
        }

        scale_rows(x, steps, P, c.until);
        pack_right(x_right, x, P, steps, P);
        pack_left_turned(B_left, B, B_row, steps, n);
        for (ptrdiff_t i = 0; i < n * P; i += WIDTH)
            store(state + i, load(state + i) * c.since[steps - 1]);
        product(n, P, steps, ALL, B_left, x_right, state, P, 1);
        real *after = state_at(s, item, index + 1);
        for (ptrdiff_t i = 0; i < n; i++)
            memcpy(after + i * p, state + i * P, p * sizeof(real));
    }
}

int EXPORT(ssd_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_ssd *s = call;
    real *workspace = helix_workspace(workspace_size(s) * sizeof(real));
    if (!workspace)
        return HELIX_NO_MEMORY;
    for (ptrdiff_t item = first; item < last; item++)
        run_chunks(s, item, workspace);
    return 0;
}

/* Backward: with G the gradient of H', g that of Y and the others' marked by d,

     dX_j = sum_i W_ij g_i + a_(j+1) ... a_s  B_j G
     dC_i = sum_j dS_ij B_j + a_1 ... a_i  g_i H^T,   dS = g X^T * decays
     dB_j = sum_i dS_ij C_i + a_(j+1) ... a_s  X_j G^T
     dH   = a_1 ... a_s G + sum_i a_1 ... a_i  C_i g_i^T

   A rate log a_t gets what each term in which a_t is a factor, times its gradient, adds up to. */

/* d log a_t, of which E_ij = dW_ij W_ij belongs to j < t <= i, u_i = (C_i H) . g_i times its decay
   to t <= i, v_j = (B_j G) . X_j times its to j < t, and `all` to every t. */
static void pull_decays(const chunk *c, const real *both, const real *u, const real *v, real all,
                        real *rates) {
    real below[STEPS] = {0}, after = 0, before = 0;
    for (ptrdiff_t t = c->steps - 1; t >= 0; t--) {
        vec sum = splat(0);
        real rest = 0;
        ptrdiff_t j = 0;
        for (; j + WIDTH <= t; j += WIDTH) {
            vec column = load(below + j) + load(both + t * STEPS + j);
            store(below + j, column);
            sum += column;
        }
        for (; j < t; j++)
            rest += below[j] += both[t * STEPS + j];
        after += u[t];
        rates[t] = sum_lanes(sum) + rest + after + all;
    }
    for (ptrdiff_t t = 0; t < c->steps; t++) {
        rates[t] += before;
        before += v[t];
    }
}

static void pull_chunks(const helix_ssd *s, ptrdiff_t item, real *workspace) {
    ptrdiff_t p = s->width, n = s->states, P = round_up(p, COLUMNS), N = round_up(n, COLUMNS);
    real *gradient = cut(&workspace, round_up(n, ROWS) * P); /* G, (n, p) */
    real *side = cut(&workspace, n * P > p * N ? n * P : p * N);
    real *x = cut(&workspace, STEPS * P), *g = cut(&workspace, STEPS * P);
    real *dx = cut(&workspace, ROOM * P), *dB = cut(&workspace, ROOM * N);
    real *dC = cut(&workspace, ROOM * N);
    real *x_left = cut(&workspace, ROOM * p), *x_right = cut(&workspace, STEPS * p);
    real *g_left = cut(&workspace, ROOM * p), *g_right = cut(&workspace, STEPS * P);
    real *B_left = cut(&workspace, ROOM * n), *C_left = cut(&workspace, ROOM * n);
    real *right = cut(&workspace, STEPS * N), *left = cut(&workspace, round_up(n, ROWS) * STEPS);
    real *scores = cut(&workspace, ROOM * STEPS), *slopes = cut(&workspace, ROOM * STEPS);
    real *both = cut(&workspace, ROOM * STEPS), *turned = cut(&workspace, ROOM * STEPS);
    real *dstate = (real *)s->dstate + item * n * p;
    double dA = 0, dD = 0;
    copy_rows(gradient, P, dstate, p, n, p, NULL);
    for (ptrdiff_t index = chunks_of(s) - 1; index >= 0; index--) {
        chunk c = chunk_at(s, item, index);
        ptrdiff_t steps = c.steps, B_row = s->B.step_stride, C_row = s->C.step_stride;
        const real *B = row_of(s->B, &c, c.group), *C = row_of(s->C, &c, c.group);
        const real *state = state_at(s, item, index);
        const real *x_rows = row_of(s->x, &c, c.head), *g_rows = row_of(s->g, &c, c.head);
        real u[STEPS], v[STEPS], rates[STEPS];
        copy_rows(x, P, x_rows, s->x.step_stride, steps, p, c.dt);
        copy_rows(g, P, g_rows, s->g.step_stride, steps, p, NULL);
        pack_left(x_left, x, P, steps, p), pack_right_turned(x_right, x, P, steps, p);
        pack_left(g_left, g, P, steps, p), pack_right(g_right, g, P, steps, P);
        pack_left(B_left, B, B_row, steps, n), pack_left(C_left, C, C_row, steps, n);

        pack_right_turned(right, B, B_row, steps, n);
        lower_product(steps, n, C_left, right, scores);
        lower_product(steps, p, g_left, x_right, slopes);
        weigh(&c, scores, slopes, both);

        pack_right(side, gradient, P, n, P);
        product(steps, P, n, ALL, B_left, side, dx, P, 0);
        scale_rows(dx, steps, P, c.until);
        for (ptrdiff_t i = 0; i < steps; i++)
            v[i] = dot(dx + i * P, x + i * P, P);
        pack_left_turned(turned, scores, STEPS, steps, steps);
        product(steps, P, steps, FROM_ROW, turned, g_right, dx, P, 1);

        pack_right_turned(side, state, p, n, p);
        product(steps, N, p, ALL, g_left, side, dC, N, 0);
        scale_rows(dC, steps, N, c.since);
        for (ptrdiff_t i = 0; i < steps; i++)
            u[i] = dot(dC + i * N, C + i * C_row, n);
        pack_right(right, B, B_row, steps, n);
        pack_left(turned, slopes, STEPS, steps, steps);
        product(steps, N, steps, UP_TO_ROW, turned, right, dC, N, 1);

        pack_right_turned(side, gradient, P, n, p);
        product(steps, N, p, ALL, x_left, side, dB, N, 0);
        scale_rows(dB, steps, N, c.until);
        pack_right(right, C, C_row, steps, n);
        pack_left_turned(turned, slopes, STEPS, steps, steps);
        product(steps, N, steps, FROM_ROW, turned, right, dB, N, 1);

        real all = 0, whole = c.since[steps - 1];
        for (ptrdiff_t i = 0; i < n; i++)
            all += dot(gradient + i * P, state + i * p, p);
        pull_decays(&c, both, u, v, whole * all, rates);

        scale_rows(g, steps, P, c.since);
        pack_right(g_right, g, P, steps, P);
        pack_left_turned(left, C, C_row, steps, n);
        for (ptrdiff_t i = 0; i < n * P; i += WIDTH)
            store(gradient + i, load(gradient + i) * whole);
        product(n, P, steps, ALL, left, g_right, gradient, P, 1);

        real A = ((const real *)s->A)[c.head], D = s->D ? ((const real *)s->D)[c.head] : 0;
        real *ddt = (real *)s->ddt + item * s->length + c.first;
        for (ptrdiff_t i = 0; i < steps; i++) {
            const real *x_row = x_rows + i * s->x.step_stride;
            const real *g_row = g_rows + i * s->g.step_stride;
            real *dx_row = row_at(s->dx, c.batch, c.head, c.first + i);
            for (ptrdiff_t f = 0; f < p; f += WIDTH) {
                vec sum = load(dx + i * P + f) * c.dt[i];
                if (s->D)
                    sum += load_first(g_row + f, p - f) * D;
                store_first(dx_row + f, sum, p - f);
            }
            ddt[i] = dot(dx + i * P, x_row, p) + A * rates[i];
            dA += (double)c.dt[i] * rates[i];
            if (s->D)
                dD += dot(g_row, x_row, p);
            memcpy(row_at(s->dB, c.batch, c.head, c.first + i), dB + i * N, n * sizeof(real));
            memcpy(row_at(s->dC, c.batch, c.head, c.first + i), dC + i * N, n * sizeof(real));
        }
    }
    for (ptrdiff_t i = 0; i < n; i++)
        memcpy(dstate + i * p, gradient + i * P, p * sizeof(real));
    ((real *)s->dA)[item] = dA;
    if (s->D)
        ((real *)s->dD)[item] = dD;
}

int EXPORT(ssd_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_ssd *s = call;
    real *workspace = helix_workspace(workspace_size(s) * sizeof(real));
    if (!workspace)
        return HELIX_NO_MEMORY;
    for (ptrdiff_t item = first; item < last; item++)
        pull_chunks(s, item, workspace);
    return 0;
}
