/* Attention with online softmax, forward and backward.

     s_ij = scale q_i . k_j               of the keys that query i sees
     L_i  = log sum_j exp(s_ij)
     y_i  = sum_j P_ij v_j,  P_ij = exp(s_ij - L_i)

   with the largest score and the sum so far carried along (Milakov & Gimelshein 2018, "Online
   normalizer calculation for softmax"), so that no matrix of scores is ever whole; the backward
   pass computes them again (Dao 2023, "FlashAttention-2", section 3.1).

   Scores are products of panels of tiles.h: COLUMNS queries stand side by side in a panel, keys
   below each other. So a vector holds scores of neighbouring queries, nothing is summed across
   lanes, and the weights are themselves the panel that the product with the values needs. For the
   gradients of keys and values, keys stand side by side and queries below each other; scores are
   computed twice, and no two items write to one place. */
#include "tiles.h"

/* Rows that are side by side in an item's panels, and rows below each other at a time. */
enum { SIDE = HELIX_ATTENTION_ROWS, RUN = 96 };

_Static_assert(SIDE % COLUMNS == 0, "items must be whole panels");
_Static_assert(RUN % ROWS == 0 && ROWS % 2 == 0, "runs must be whole panels of pairs");

/* Some of the rows of one head. */
typedef struct {
    ptrdiff_t batch, head, first, end;
} part;

static part part_at(ptrdiff_t index, ptrdiff_t heads, ptrdiff_t rows) {
    ptrdiff_t parts = (rows + SIDE - 1) / SIDE, first = index % parts * SIDE;
    part it = {index / parts / heads, index / parts % heads, first, smaller(first + SIDE, rows)};
    return it;
}

typedef struct {
    ptrdiff_t begin, end;
} range;

INLINE range seen_keys(const helix_attention *a, ptrdiff_t query, ptrdiff_t end) {
    ptrdiff_t begin = query + a->first_key;
    return (range){begin > 0 ? begin : 0, smaller(end + a->last_key, a->keys)};
}

INLINE range seeing_queries(const helix_attention *a, ptrdiff_t key, ptrdiff_t end) {
    ptrdiff_t begin = key - a->last_key;
    return (range){begin > 0 ? begin : 0, smaller(end - a->first_key, a->queries)};
}

/* That part of a range which lies in begin .. end - 1, counted from begin; it starts with a panel
   of ROWS. */
INLINE range within(range all, ptrdiff_t begin, ptrdiff_t end) {
    ptrdiff_t first = all.begin > begin ? all.begin - begin : 0;
    return (range){first / ROWS * ROWS, smaller(all.end, end) - begin};
}

/* Whether lane + distance lies in low .. high. */
INLINE ivec lanes_within(ptrdiff_t distance, ptrdiff_t low, ptrdiff_t high) {
    ivec lanes;
    for (int i = 0; i < WIDTH; i++)
        lanes[i] = i;
    lanes += (integer)distance;
    return (lanes >= (integer)low) & (lanes <= (integer)high);
}

/* Panels, one after the other: rows below each other, or (transposed) their columns. */
INLINE void pack_rows(real *to, helix_rows from, ptrdiff_t batch, ptrdiff_t head, ptrdiff_t first,
                      ptrdiff_t rows, ptrdiff_t width) {
    panel it = {row_at(from, batch, head, first), from.step_stride, 1};
    pack_panels(to, ROWS, width, it, rows, width);
}

INLINE void pack_columns(real *to, helix_rows from, ptrdiff_t batch, ptrdiff_t head,
                         ptrdiff_t first, ptrdiff_t rows, ptrdiff_t width) {
    panel it = {row_at(from, batch, head, first), 1, from.step_stride};
    pack_panels(to, ROWS, rows, it, width, rows);
}

/* Rows side by side, times a factor. */
INLINE void pack_side(real *to, helix_rows from, const part *it, ptrdiff_t width, double factor) {
    ptrdiff_t rows = it->end - it->first;
    panel rest = {row_at(from, it->batch, it->head, it->first), from.step_stride, 1};
    pack_panels(to, COLUMNS, width, rest, rows, width);
    if (factor != 1)
        for (ptrdiff_t i = 0; i < round_up(rows, COLUMNS) * width; i += WIDTH)
            store(to + i, load(to + i) * (real)factor);
}

/* The reverse of `pack_side`, from sums in panels of `depth` steps. */
INLINE void unpack_side(const real *from, ptrdiff_t depth, helix_rows to, const part *it,
                        ptrdiff_t width, double factor) {
    for (ptrdiff_t i = it->first; i < it->end; i++) {
        ptrdiff_t place = i - it->first;
        const real *sums = from + place / COLUMNS * COLUMNS * depth + place % COLUMNS;
        real *row = row_at(to, it->batch, it->head, i);
        for (ptrdiff_t f = 0; f < width; f++)
            row[f] = sums[f * COLUMNS] * (real)factor;
    }
}

/* The product of panels of rows with one panel; `depth` steps lie between the panels of rows. */
static void multiply_rows(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t steps, const real *panels,
                          const real *side, real *to, int add) {
    for (ptrdiff_t i = 0; i < rows; i += ROWS)
        multiply(steps, panels + i * depth, side, 2, to + i * COLUMNS, COLUMNS, add);
}

/* The next piece of a workspace, for so many entries. */
static real *cut(real **workspace, ptrdiff_t size) {
    real *found = *workspace;
    *workspace += round_up(size, WIDTH) + WIDTH; /* `pack` may write so much more */
    return found;
}

/* Entries that the largest of the three functions below cuts off. */
static ptrdiff_t workspace_size(const helix_attention *a) {
    ptrdiff_t width = round_up(a->width, ROWS) + round_up(a->value_width, ROWS);
    ptrdiff_t panels = 2 * RUN * width + 2 * SIDE * width + 2 * RUN * COLUMNS + 2 * SIDE;
    return panels + 16 * 2 * WIDTH;
}

/* Does some of the items: parts of so many rows, of so many heads. */
static int do_parts(const helix_attention *a, ptrdiff_t heads, ptrdiff_t rows,
                    void (*work)(const helix_attention *, const part *, real *), ptrdiff_t first,
                    ptrdiff_t last) {
    real *workspace = helix_workspace(workspace_size(a) * sizeof(real));
    if (!workspace)
        return HELIX_NO_MEMORY;
    for (ptrdiff_t index = first; index < last; index++) {
        part it = part_at(index, heads, rows);
        work(a, &it, workspace);
    }
    return 0;
}

/* Forward */

/* Scores become exp(score - top), which `total` sums, and top the largest score so far. */
INLINE void weigh(real *scores, ptrdiff_t rows, vec top[2], vec total[2]) {
    vec left = top[0], right = top[1];
    for (ptrdiff_t r = 0; r < rows; r++) {
        left = maximum(load(scores + r * COLUMNS), left);
        right = maximum(load(scores + r * COLUMNS + WIDTH), right);
    }
    top[0] = left, top[1] = right;
    ptrdiff_t r = 0;
    for (; r + 2 <= rows; r += 2) {
        real *pair = scores + r * COLUMNS;
        vec e[EXP_GROUP];
        for (int j = 0; j < EXP_GROUP; j++)
            e[j] = load(pair + j * WIDTH) - top[j % 2];
        exp_group(e);
        for (int j = 0; j < EXP_GROUP; j++)
            store(pair + j * WIDTH, e[j]);
        total[0] += e[0] + e[2];
        total[1] += e[1] + e[3];
    }
    for (; r < rows; r++)
        for (int j = 0; j < 2; j++) {
            vec e = exp_negative(load(scores + r * COLUMNS + j * WIDTH) - top[j]);
            store(scores + r * COLUMNS + j * WIDTH, e);
            total[j] += e;
        }
}

/* Scores of keys, below each other, that a query does not see become -inf. */
INLINE void hide_keys(const helix_attention *a, real *scores, ptrdiff_t query, ptrdiff_t key,
                      ptrdiff_t keys) {
    if (key - (query + COLUMNS - 1) >= a->first_key && key + keys - 1 - query <= a->last_key)
        return;
    for (ptrdiff_t r = 0; r < keys; r++)
        for (int j = 0; j < 2; j++) {
            real *at = scores + r * COLUMNS + j * WIDTH;
            ivec seen = lanes_within(query + j * WIDTH - (key + r), -a->last_key, -a->first_key);
            store(at, choose(seen, load(at), splat(-(real)__builtin_inf())));
        }
}

static void attend(const helix_attention *a, const part *it, real *workspace) {
    ptrdiff_t width = a->width, value_width = a->value_width, depth = round_up(value_width, ROWS);
    ptrdiff_t group = it->head / (a->heads / a->kv_heads);
    real *q = cut(&workspace, SIDE * width), *sums = cut(&workspace, SIDE * depth);
    real *k = cut(&workspace, RUN * width), *v = cut(&workspace, RUN * depth);
    real *scores = cut(&workspace, RUN * COLUMNS);
    real *tops = cut(&workspace, SIDE), *totals = cut(&workspace, SIDE);
    pack_side(q, a->q, it, width, a->scale);
    memset(sums, 0, SIDE * depth * sizeof(real));
    for (ptrdiff_t i = 0; i < SIDE; i++)
        tops[i] = -LARGEST, totals[i] = 0;

    range all = seen_keys(a, it->first, it->end);
    for (ptrdiff_t key = all.begin; key < all.end; key += RUN) {
        ptrdiff_t keys = smaller(RUN, all.end - key);
        pack_rows(k, a->k, it->batch, group, key, keys, width);
        pack_columns(v, a->v, it->batch, group, key, keys, value_width);
        for (ptrdiff_t query = it->first; query < it->end; query += COLUMNS) {
            ptrdiff_t side = query - it->first;
            range own = seen_keys(a, query, smaller(query + COLUMNS, it->end));
            range seen = within(own, key, key + keys);
            ptrdiff_t count = seen.end - seen.begin;
            if (count <= 0)
                continue;
            multiply_rows(count, width, width, k + seen.begin * width, q + side * width, scores, 0);
            hide_keys(a, scores, query, key + seen.begin, count);
            vec top[2] = {load(tops + side), load(tops + side + WIDTH)}, before[2] = {top[0], top[1]};
            vec total[2] = {splat(0), splat(0)};
            weigh(scores, count, top, total);
            real *panel_sums = sums + side * depth;
            for (int j = 0; j < 2; j++) {
                vec shrink = exp_negative(before[j] - top[j]);
                real *sum = totals + side + j * WIDTH;
                store(sum, load(sum) * shrink + total[j]);
                store(tops + side + j * WIDTH, top[j]);
                if (!all_lanes(before[j] == top[j]))
                    for (ptrdiff_t f = 0; f < value_width; f++) {
                        real *at = panel_sums + f * COLUMNS + j * WIDTH;
                        store(at, load(at) * shrink);
                    }
            }
            multiply_rows(value_width, keys, count, v + seen.begin * ROWS, scores, panel_sums, 1);
        }
    }

    real *log_sums = (real *)a->log_sums + (it->batch * a->heads + it->head) * a->queries;
    for (ptrdiff_t i = 0; i < SIDE; i += WIDTH) {
        vec total = load(totals + i);
        store_first(log_sums + it->first + i, load(tops + i) + log_vec(total),
                    smaller(it->end - it->first - i, WIDTH));
        store(totals + i, (real)1 / total);
    }
    for (ptrdiff_t f = 0; f < SIDE / COLUMNS * depth; f++)
        for (int j = 0; j < 2; j++) {
            real *at = sums + f * COLUMNS + j * WIDTH;
            store(at, load(at) * load(totals + f / depth * COLUMNS + j * WIDTH));
        }
    unpack_side(sums, depth, a->y, it, value_width, 1);
    for (ptrdiff_t i = it->first; i < it->end; i++) {
        range seen = seen_keys(a, i, i + 1);
        if (seen.begin >= seen.end)
            memset(row_at(a->y, it->batch, it->head, i), 0, value_width * sizeof(real));
    }
}

/* Items are (batch, head, run of HELIX_ATTENTION_ROWS queries). */
int EXPORT(attention_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_attention *a = call;
    return do_parts(a, a->heads, a->queries, attend, first, last);
}

/* Backward: with p_ij = g_i . v_j, the score s_ij gets P_ij (p_ij - D_i), D_i = g_i . y_i. */

/* Scores become weights, and p what the scores get. `shift` and `mean` hold L and D of each row if
   `by_row`, else of each lane. Where seen is not all, lane + distance - row must be in low .. high. */
INLINE void weigh_again(real *scores, real *p, ptrdiff_t rows, const real *shift, const real *mean,
                        int by_row, int all_seen, ptrdiff_t distance, ptrdiff_t low,
                        ptrdiff_t high) {
    for (ptrdiff_t r = 0; r < rows; r += 2) { /* panels have pairs of rows */
        real *pair = scores + r * COLUMNS, *slopes = p + r * COLUMNS;
        vec e[EXP_GROUP];
        for (int j = 0; j < EXP_GROUP; j++)
            e[j] = load(pair + j * WIDTH) -
                   (by_row ? splat(shift[r + j / 2]) : load(shift + j % 2 * WIDTH));
        exp_group(e);
        for (int j = 0; j < EXP_GROUP; j++) {
            vec D = by_row ? splat(mean[r + j / 2]) : load(mean + j % 2 * WIDTH);
            vec s = e[j] * (load(slopes + j * WIDTH) - D);
            if (!all_seen) {
                ivec seen = lanes_within(distance + j % 2 * WIDTH - (r + j / 2), low, high);
                e[j] = choose(seen, e[j], splat(0));
                s = choose(seen, s, splat(0));
            }
            store(pair + j * WIDTH, e[j]);
            store(slopes + j * WIDTH, s);
        }
    }
}

static void pull_queries(const helix_attention *a, const part *it, real *workspace) {
    ptrdiff_t width = a->width, value_width = a->value_width, depth = round_up(width, ROWS);
    ptrdiff_t group = it->head / (a->heads / a->kv_heads);
    real *q = cut(&workspace, SIDE * width), *g = cut(&workspace, SIDE * value_width);
    real *sums = cut(&workspace, SIDE * depth), *columns = cut(&workspace, RUN * depth);
    real *k = cut(&workspace, RUN * width), *v = cut(&workspace, RUN * value_width);
    real *scores = cut(&workspace, RUN * COLUMNS), *p = cut(&workspace, RUN * COLUMNS);
    real *shifts = cut(&workspace, SIDE), *means = cut(&workspace, SIDE);
    pack_side(q, a->q, it, width, a->scale);
    pack_side(g, a->g, it, value_width, 1);
    memset(sums, 0, SIDE * depth * sizeof(real));
    memset(shifts, 0, SIDE * sizeof(real));
    memset(means, 0, SIDE * sizeof(real));
    ptrdiff_t place = (it->batch * a->heads + it->head) * a->queries + it->first;
    memcpy(shifts, (real *)a->log_sums + place, (it->end - it->first) * sizeof(real));
    for (ptrdiff_t i = 0; i < it->end - it->first; i++) {
        const real *y = row_at(a->y, it->batch, it->head, it->first + i);
        const real *g_row = row_at(a->g, it->batch, it->head, it->first + i);
        vec dot = splat(0);
        for (ptrdiff_t f = 0; f < value_width; f += WIDTH)
            dot += load_first(y + f, value_width - f) * load_first(g_row + f, value_width - f);
        means[i] = sum_lanes(dot);
    }
    memcpy((real *)a->means + place, means, (it->end - it->first) * sizeof(real));

    range all = seen_keys(a, it->first, it->end);
    for (ptrdiff_t key = all.begin; key < all.end; key += RUN) {
        ptrdiff_t keys = smaller(RUN, all.end - key);
        pack_rows(k, a->k, it->batch, group, key, keys, width);
        pack_rows(v, a->v, it->batch, group, key, keys, value_width);
        pack_columns(columns, a->k, it->batch, group, key, keys, width);
        for (ptrdiff_t query = it->first; query < it->end; query += COLUMNS) {
            ptrdiff_t side = query - it->first;
            range own = seen_keys(a, query, smaller(query + COLUMNS, it->end));
            range seen = within(own, key, key + keys);
            ptrdiff_t count = seen.end - seen.begin, top = key + seen.begin;
            if (count <= 0)
                continue;
            multiply_rows(count, width, width, k + seen.begin * width, q + side * width, scores, 0);
            multiply_rows(count, value_width, value_width, v + seen.begin * value_width,
                          g + side * value_width, p, 0);
            int all_seen = top - (query + COLUMNS - 1) >= a->first_key &&
                           top + count - 1 - query <= a->last_key;
            weigh_again(scores, p, count, shifts + side, means + side, 0, all_seen, query - top,
                        -a->last_key, -a->first_key);
            multiply_rows(width, keys, count, columns + seen.begin * ROWS, p, sums + side * depth,
                          1);
        }
    }
    unpack_side(sums, depth, a->dq, it, width, a->scale);
}

/* Items are (batch, head, run of HELIX_ATTENTION_ROWS queries). */
int EXPORT(attention_queries)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_attention *a = call;
    return do_parts(a, a->heads, a->queries, pull_queries, first, last);
}

static void pull_keys(const helix_attention *a, const part *it, real *workspace) {
    ptrdiff_t width = a->width, value_width = a->value_width, group = a->heads / a->kv_heads;
    ptrdiff_t depth = round_up(width, ROWS), value_depth = round_up(value_width, ROWS);
    real *k = cut(&workspace, SIDE * width), *v = cut(&workspace, SIDE * value_width);
    real *dk = cut(&workspace, SIDE * depth), *dv = cut(&workspace, SIDE * value_depth);
    real *q = cut(&workspace, RUN * width), *q_columns = cut(&workspace, RUN * depth);
    real *g = cut(&workspace, RUN * value_width), *g_columns = cut(&workspace, RUN * value_depth);
    real *scores = cut(&workspace, RUN * COLUMNS), *p = cut(&workspace, RUN * COLUMNS);
    real *shifts = cut(&workspace, RUN), *means = cut(&workspace, RUN);
    pack_side(k, a->k, it, width, a->scale);
    pack_side(v, a->v, it, value_width, 1);
    memset(dk, 0, SIDE * depth * sizeof(real));
    memset(dv, 0, SIDE * value_depth * sizeof(real));
    memset(shifts, 0, RUN * sizeof(real));
    memset(means, 0, RUN * sizeof(real));

    range all = seeing_queries(a, it->first, it->end);
    for (ptrdiff_t head = it->head * group; head < (it->head + 1) * group; head++)
        for (ptrdiff_t query = all.begin; query < all.end; query += RUN) {
            ptrdiff_t queries = smaller(RUN, all.end - query);
            ptrdiff_t place = (it->batch * a->heads + head) * a->queries + query;
            memcpy(shifts, (real *)a->log_sums + place, queries * sizeof(real));
            memcpy(means, (real *)a->means + place, queries * sizeof(real));
            pack_rows(q, a->q, it->batch, head, query, queries, width);
            pack_rows(g, a->g, it->batch, head, query, queries, value_width);
            pack_columns(q_columns, a->q, it->batch, head, query, queries, width);
            pack_columns(g_columns, a->g, it->batch, head, query, queries, value_width);
            for (ptrdiff_t key = it->first; key < it->end; key += COLUMNS) {
                ptrdiff_t side = key - it->first;
                range own = seeing_queries(a, key, smaller(key + COLUMNS, it->end));
                range seeing = within(own, query, query + queries);
                ptrdiff_t begin = seeing.begin, count = seeing.end - begin, top = query + begin;
                if (count <= 0)
                    continue;
                multiply_rows(count, width, width, q + begin * width, k + side * width, scores, 0);
                multiply_rows(count, value_width, value_width, g + begin * value_width,
                              v + side * value_width, p, 0);
                int all_seen = key - (top + count - 1) >= a->first_key &&
                               key + COLUMNS - 1 - top <= a->last_key;
                weigh_again(scores, p, count, shifts + begin, means + begin, 1, all_seen,
                            key - top, a->first_key, a->last_key);
                multiply_rows(value_width, queries, count, g_columns + begin * ROWS, scores,
                              dv + side * value_depth, 1);
                multiply_rows(width, queries, count, q_columns + begin * ROWS, p,
                              dk + side * depth, 1);
            }
        }
    unpack_side(dk, depth, a->dk, it, width, a->scale);
    unpack_side(dv, value_depth, a->dv, it, value_width, 1);
}

/* Items are (batch, head of keys, run of HELIX_ATTENTION_ROWS keys); after attention_queries. */
int EXPORT(attention_keys)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_attention *a = call;
    return do_parts(a, a->kv_heads, a->keys, pull_keys, first, last);
}
