/* Causal convolution with long filters by a fast Fourier transform, forward and backward.

   A sequence of n real numbers is a polynomial f; its transform is f at the n roots of x**n = i.
   Where f and k have real coefficients, f k mod (x**n - i) = a + i b with a the coefficients below
   n of f k and b the others: a line of n complex numbers, without any padding, is all that a causal
   convolution needs, and its real part is the result. (That is the right-angle convolution of
   Crandall & Fagin 1994, "Discrete weighted transforms and large-integer arithmetic".) On the unit
   circle conj(k(x)) = k(1/x), and x**-j = -i x**(n - j): the real part of g conj(k) is the
   correlation of g with k at lags 0 .. n - 1, as gradients are.

   The transform divides f by ever smaller polynomials (Fiduccia 1972): what is known mod
   x**(2 m) - c**2 becomes what it is mod x**m - c and mod x**m + c, lo + c hi and lo - c hi.
   Each such node has one constant c; the whole of a level lies in place, node by node, and the
   roots come out in an order of their own. Nothing puts them in another: products do not ask
   for it, and the way back undoes the divisions one by one. With c = cos (1 + i tan) a division
   takes six multiplications with additions for one complex vector (Linzer & Feig 1993). Two
   levels are done in one pass. Nodes beyond the cache are done to the end one by one, forward,
   products and back.

   The bias of the input is added to the first tap, whose gradient is therefore that of the bias. */
#include "rows.h"

#include <math.h>

/* A node of so many numbers is worked level by level, a larger one child by child. */
enum { NODE_IN_CACHE = 8192 / (2 * (int)sizeof(real)), SQUARE = WIDTH * WIDTH };

_Static_assert((int)HELIX_FFT_ROOM >= (int)SQUARE, "the table of the shortest line must fit");
_Static_assert((int)NODE_IN_CACHE / 4 >= (int)SQUARE, "the smallest child must hold a square");

/* WIDTH complex numbers, real parts before imaginary ones. */
typedef struct {
    vec re, im;
} point;

enum { POINT = 2 * WIDTH };

INLINE point load_point(const real *at) { return (point){load(at), load(at + WIDTH)}; }

INLINE void store_point(real *at, point x) {
    store(at, x.re);
    store(at + WIDTH, x.im);
}

/* Constants */

/* cos (1 + i tan); cos is never 0 here. */
typedef struct {
    real cos, tan;
} turn;

/* What divides a node twice: by first, by second and i second; and the product of the two. */
typedef struct {
    turn first, second, both;
} node;

/* The table of a line of `size` numbers: constants of each square of nodes of WIDTH numbers, then
   the root's, then nodes of all levels that are divided twice at once. */
typedef struct {
    ptrdiff_t size;
    int root_levels, last_level; /* levels that the root's pass does; where nodes have WIDTH */
    real *squares;
    turn *root;                  /* of levels 0 and 1 */
    node *nodes;                 /* from level 1 if the root does 3 levels, else from 2 */
} plan;

static plan plan_of(const helix_fft_conv *c) {
    plan p = {.size = c->size > SQUARE ? c->size : SQUARE, .squares = c->table};
    while (WIDTH << p.last_level < p.size)
        p.last_level++;
    p.root_levels = p.last_level % 2 ? 3 : 2;
    p.root = (turn *)(p.squares + p.size);
    p.nodes = (node *)(p.root + 2);
    return p;
}

INLINE node *nodes_at(const plan *p, int level) {
    int first = p->root_levels == 3 ? 1 : 2;
    return p->nodes + (((ptrdiff_t)1 << level) - (1 << first)) / 3;
}

/* Returns c of a node, in turns: its share of the circle, mod x**m - exp(2 pi i share), halved. The
   root has 1/4, the children of a node have half its share, and 1/2 more. */
static double share_of(int level, ptrdiff_t index) {
    double share = ldexp(0.25, -level), part = 0.5;
    for (int bit = level - 1; bit >= 0; bit--, part /= 2)
        share += index >> (level - 1 - bit) & 1 ? part : 0;
    return share / 2;
}

static turn turn_of(double share) {
    /* Rounded least within an eighth of the circle around 0 or a quarter. */
    double quarters = nearbyint(4 * share), angle = 6.283185307179586477 * (share - quarters / 4);
    int odd = (int)quarters & 1, sign = (int)quarters & 2 ? -1 : 1;
    double c = odd ? -sin(angle) : cos(angle), s = odd ? cos(angle) : sin(angle);
    return (turn){(real)(sign * c), (real)(s / c)};
}

static node node_of(int level, ptrdiff_t index) {
    double first = share_of(level, index), second = first / 2;
    return (node){turn_of(first), turn_of(second), turn_of(first + second)};
}

/* Where in a square's constants those are of the index-th of so many nodes that each of its own has
   become: of each second node; the other's c is i times that. */
INLINE ptrdiff_t turn_in_square(int nodes, int index) { return (nodes + index) / 2 * POINT; }

int EXPORT(fft_conv_table)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    if (first == last)
        return 0;
    plan p = plan_of(call);
    for (int i = 0; i < 2; i++)
        p.root[i] = turn_of(share_of(i, 0));
    for (int level = p.root_levels == 3 ? 1 : 2; level < p.last_level; level += 2)
        for (ptrdiff_t i = 0; i < (ptrdiff_t)1 << level; i++)
            nodes_at(&p, level)[i] = node_of(level, i);
    for (ptrdiff_t i = 0; i < p.size / WIDTH; i++)
        for (int depth = 0; 1 << depth < WIDTH; depth++)
            for (int j = 0; j < 1 << depth; j += 2) {
                turn t = turn_of(share_of(p.last_level + depth, (i << depth) + j));
                real *at = p.squares + i / WIDTH * SQUARE + turn_in_square(1 << depth, j);
                at[i % WIDTH] = t.cos, at[i % WIDTH + WIDTH] = t.tan;
            }
    return 0;
}

/* Divisions of one node, and their reverses */

/* lo + c hi, lo - c hi. */
INLINE void divide(point *lo, point *hi, vec cos, vec tan) {
    vec re = hi->re - tan * hi->im, im = hi->im + tan * hi->re;
    hi->re = lo->re - cos * re, hi->im = lo->im - cos * im;
    lo->re = lo->re + cos * re, lo->im = lo->im + cos * im;
}

/* The same with i c. */
INLINE void divide_turned(point *lo, point *hi, vec cos, vec tan) {
    vec re = hi->re - tan * hi->im, im = hi->im + tan * hi->re;
    hi->re = lo->re + cos * im, hi->im = lo->im - cos * re;
    lo->re = lo->re - cos * im, lo->im = lo->im + cos * re;
}

INLINE point sum_of(point x, point y) { return (point){x.re + y.re, x.im + y.im}; }
INLINE point difference(point x, point y) { return (point){x.re - y.re, x.im - y.im}; }

/* x times conj(c). */
INLINE point turned_back(point x, vec cos, vec tan) {
    return (point){cos * (x.re + tan * x.im), cos * (x.im - tan * x.re)};
}

/* Twice what `divide` was given. */
INLINE void join(point *lo, point *hi, vec cos, vec tan) {
    point x = difference(*lo, *hi);
    *lo = sum_of(*lo, *hi);
    *hi = turned_back(x, cos, tan);
}

INLINE void join_turned(point *lo, point *hi, vec cos, vec tan) {
    point x = difference(*lo, *hi);
    *lo = sum_of(*lo, *hi);
    *hi = turned_back((point){x.im, -x.re}, cos, tan);
}

/* The quarters of a node become its grandchildren. */
INLINE void divide_twice(point x[4], const node *c) {
    vec cos = splat(c->first.cos), tan = splat(c->first.tan);
    divide(&x[0], &x[2], cos, tan);
    divide(&x[1], &x[3], cos, tan);
    cos = splat(c->second.cos), tan = splat(c->second.tan);
    divide(&x[0], &x[1], cos, tan);
    divide_turned(&x[2], &x[3], cos, tan);
}

/* Four times what `divide_twice` was given. */
INLINE void join_twice(point x[4], const node *c) {
    point left = sum_of(x[0], x[1]), right = sum_of(x[2], x[3]);
    point a = difference(x[0], x[1]), b = difference(x[2], x[3]);
    x[0] = sum_of(left, right);
    x[1] = turned_back((point){a.re + b.im, a.im - b.re}, splat(c->second.cos),
                       splat(c->second.tan));
    x[2] = turned_back(difference(left, right), splat(c->first.cos), splat(c->first.tan));
    x[3] = turned_back((point){a.re - b.im, a.im + b.re}, splat(c->both.cos), splat(c->both.tan));
}

/* Passes over neighbouring nodes of `size` numbers */

static void divide_nodes(real *line, ptrdiff_t size, ptrdiff_t count, const node *c) {
    ptrdiff_t quarter = size / 2; /* in reals */
    for (ptrdiff_t i = 0; i < count; i++, line += 4 * quarter)
        for (ptrdiff_t j = 0; j < quarter; j += POINT) {
            point x[4];
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++)
                x[q] = load_point(line + q * quarter + j);
            divide_twice(x, c + i);
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++)
                store_point(line + q * quarter + j, x[q]);
        }
}

static void join_nodes(real *line, ptrdiff_t size, ptrdiff_t count, const node *c) {
    ptrdiff_t quarter = size / 2;
    for (ptrdiff_t i = 0; i < count; i++, line += 4 * quarter)
        for (ptrdiff_t j = 0; j < quarter; j += POINT) {
            point x[4];
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++)
                x[q] = load_point(line + q * quarter + j);
            join_twice(x, c + i);
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++)
                store_point(line + q * quarter + j, x[q]);
        }
}

/* WIDTH nodes of WIDTH numbers: once transposed, a lane holds a node, and its last divisions are
   those of vectors. */

INLINE void load_square(point x[WIDTH], const real *at) {
    vec re[WIDTH], im[WIDTH];
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++)
        re[i] = load(at + i * POINT), im[i] = load(at + i * POINT + WIDTH);
    transpose(re);
    transpose(im);
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++)
        x[i] = (point){re[i], im[i]};
}

static void divide_square(real *line, const real *constants) {
    point x[WIDTH];
    load_square(x, line);
#pragma GCC unroll 4
    for (int size = WIDTH; size > 1; size /= 2) {
#pragma GCC unroll 8
        for (int j = 0; j < WIDTH / 2; j++) {
            int i = j / (size / 2);
            const real *c = constants + turn_in_square(WIDTH / size, i);
            point *lo = &x[i * size + j % (size / 2)], *hi = lo + size / 2;
            if (i % 2)
                divide_turned(lo, hi, load(c), load(c + WIDTH));
            else
                divide(lo, hi, load(c), load(c + WIDTH));
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++)
        store_point(line + i * POINT, x[i]);
}

static void join_square(real *line, const real *constants) {
    point x[WIDTH];
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++)
        x[i] = load_point(line + i * POINT);
#pragma GCC unroll 4
    for (int size = 2; size <= WIDTH; size *= 2) {
#pragma GCC unroll 8
        for (int j = 0; j < WIDTH / 2; j++) {
            int i = j / (size / 2);
            const real *c = constants + turn_in_square(WIDTH / size, i);
            point *lo = &x[i * size + j % (size / 2)], *hi = lo + size / 2;
            if (i % 2)
                join_turned(lo, hi, load(c), load(c + WIDTH));
            else
                join(lo, hi, load(c), load(c + WIDTH));
        }
    }
    vec re[WIDTH], im[WIDTH];
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++)
        re[i] = x[i].re, im[i] = x[i].im;
    transpose(re);
    transpose(im);
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; i++)
        store_point(line + i * POINT, (point){re[i], im[i]});
}

/* Products of as many numbers as a square has */

/* x k. */
INLINE void multiply_square(real *x, const real *k) {
    for (int i = 0; i < 2 * SQUARE; i += POINT) {
        point a = load_point(x + i), b = load_point(k + i);
        store_point(x + i, (point){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re});
    }
}

/* x conj(k). */
INLINE void correlate_square(real *x, const real *k) {
    for (int i = 0; i < 2 * SQUARE; i += POINT) {
        point a = load_point(x + i), b = load_point(k + i);
        store_point(x + i, (point){a.re * b.re + a.im * b.im, a.im * b.re - a.re * b.im});
    }
}

/* sum + g conj(x). */
INLINE void add_correlation(real *sum, const real *g, const real *x) {
    for (int i = 0; i < 2 * SQUARE; i += POINT) {
        point a = load_point(g + i), b = load_point(x + i), s = load_point(sum + i);
        s.re += a.re * b.re + a.im * b.im;
        s.im += a.im * b.re - a.re * b.im;
        store_point(sum + i, s);
    }
}

/* Whole lines */

/* What is done with lines of one size, absent ones NULL: x and g are transformed; sum += g conj(x),
   g = g conj(k), and x = x k if `joins_x`; then g is transformed back, and x and sum if they are
   to be joined. */
typedef struct {
    real *x, *g, *sum;
    const real *k;
    int joins_x, joins_sum;
} task;

INLINE void pass_down(const task *t, ptrdiff_t at, ptrdiff_t size, ptrdiff_t count, const node *c) {
    if (t->x)
        divide_nodes(t->x + at, size, count, c);
    if (t->g)
        divide_nodes(t->g + at, size, count, c);
}

INLINE void pass_up(const task *t, ptrdiff_t at, ptrdiff_t size, ptrdiff_t count, const node *c) {
    if (t->g)
        join_nodes(t->g + at, size, count, c);
    if (t->joins_x)
        join_nodes(t->x + at, size, count, c);
    if (t->joins_sum)
        join_nodes(t->sum + at, size, count, c);
}

INLINE void do_square(const task *t, ptrdiff_t at, const real *constants) {
    if (t->x)
        divide_square(t->x + at, constants);
    if (t->g)
        divide_square(t->g + at, constants);
    if (t->sum && t->g)
        add_correlation(t->sum + at, t->g + at, t->x + at);
    if (t->g) {
        correlate_square(t->g + at, t->k + at);
        join_square(t->g + at, constants);
    }
    if (t->joins_x) {
        multiply_square(t->x + at, t->k + at);
        join_square(t->x + at, constants);
    }
    if (t->joins_sum)
        join_square(t->sum + at, constants);
}

/* Does `count` nodes of a level, all together in the cache; they hold whole squares. */
static void do_nodes(const plan *p, const task *t, int level, ptrdiff_t first, ptrdiff_t count) {
    ptrdiff_t begin = 2 * (p->size >> level) * first, end = begin + 2 * (p->size >> level) * count;
    int below = level;
    for (; below < p->last_level; below += 2)
        pass_down(t, begin, p->size >> below, count << (below - level),
                  nodes_at(p, below) + (first << (below - level)));
    for (ptrdiff_t at = begin; at < end; at += 2 * SQUARE)
        do_square(t, at, p->squares + at / 2);
    for (below -= 2; below >= level; below -= 2)
        pass_up(t, begin, p->size >> below, count << (below - level),
                nodes_at(p, below) + (first << (below - level)));
}

static void do_node(const plan *p, const task *t, int level, ptrdiff_t index) {
    ptrdiff_t size = p->size >> level;
    if (size <= NODE_IN_CACHE) {
        do_nodes(p, t, level, index, 1);
        return;
    }
    const node *c = nodes_at(p, level) + index;
    pass_down(t, 2 * size * index, size, 1, c);
    for (int i = 0; i < 4; i++)
        do_node(p, t, level + 2, 4 * index + i);
    pass_up(t, 2 * size * index, size, 1, c);
}

/* Does all nodes below the root. */
static void do_line(const plan *p, const task *t) {
    ptrdiff_t count = (ptrdiff_t)1 << p->root_levels;
    if (p->size <= NODE_IN_CACHE)
        do_nodes(p, t, p->root_levels, 0, count);
    else
        for (ptrdiff_t i = 0; i < count; i++)
            do_node(p, t, p->root_levels, i);
}

/* The root, of real numbers: its halves are divided further at once. */
INLINE void divide_root(const plan *p, int levels, const real *from, real *line, vec *check) {
    int half = levels == 3 ? 4 : 2;
    ptrdiff_t piece = p->size / (2 * half);
    vec cos = splat(p->root[0].cos), sin = splat(p->root[0].cos * p->root[0].tan);
    for (ptrdiff_t j = 0; j < piece; j += WIDTH)
#pragma GCC unroll 2
        for (int side = 0; side < 2; side++) {
            point x[4];
#pragma GCC unroll 4
            for (int i = 0; i < half; i++) {
                vec lo = load(from + i * piece + j), hi = load(from + (i + half) * piece + j);
                *check += lo * (real)0 + hi * (real)0;
                x[i].re = side ? lo - cos * hi : lo + cos * hi;
                x[i].im = side ? -(sin * hi) : sin * hi;
            }
            if (levels == 3)
                divide_twice(x, nodes_at(p, 1) + side);
            else if (side)
                divide_turned(&x[0], &x[1], splat(p->root[1].cos), splat(p->root[1].tan));
            else
                divide(&x[0], &x[1], splat(p->root[1].cos), splat(p->root[1].tan));
#pragma GCC unroll 4
            for (int i = 0; i < half; i++)
                store_point(line + ((side * half + i) * piece + j) * 2, x[i]);
        }
}

/* Writes the real parts only. */
INLINE void join_root(const plan *p, int levels, const real *line, real *to, real scale) {
    int half = levels == 3 ? 4 : 2;
    ptrdiff_t piece = p->size / (2 * half);
    vec cos = splat(p->root[0].cos * scale), tan = splat(p->root[0].tan);
    for (ptrdiff_t j = 0; j < piece; j += WIDTH) {
        point x[8];
#pragma GCC unroll 8
        for (int i = 0; i < 2 * half; i++)
            x[i] = load_point(line + (i * piece + j) * 2);
        if (levels == 3) {
            join_twice(x, nodes_at(p, 1));
            join_twice(x + 4, nodes_at(p, 1) + 1);
        } else {
            join(&x[0], &x[1], splat(p->root[1].cos), splat(p->root[1].tan));
            join_turned(&x[2], &x[3], splat(p->root[1].cos), splat(p->root[1].tan));
        }
#pragma GCC unroll 4
        for (int i = 0; i < half; i++) {
            point d = difference(x[i], x[i + half]);
            store(to + i * piece + j, (x[i].re + x[i + half].re) * scale);
            store(to + (i + half) * piece + j, cos * (d.re + tan * d.im));
        }
    }
}

/* Begins the transform of a row times `gate`, padded with zeros; returns 0, or nan if a number is
   not finite. */
static real begin_line(const plan *p, const real *row, const real *gate, ptrdiff_t length,
                       real first, real *stage, real *line) {
    if (gate || length < p->size || first != 0) {
        if (gate)
            for (ptrdiff_t t = 0; t < length; t += WIDTH)
                store_first(stage + t, load_first(row + t, length - t) *
                                           load_first(gate + t, length - t), length - t);
        else
            memcpy(stage, row, length * sizeof(real));
        memset(stage + length, 0, (p->size - length) * sizeof(real));
        stage[0] += first;
        row = stage;
    }
    vec check = splat(0);
    if (p->root_levels == 3)
        divide_root(p, 3, row, line, &check);
    else
        divide_root(p, 2, row, line, &check);
    return sum_lanes(check);
}

/* Ends the transform back into a row, times `gate`. */
static void end_line(const plan *p, const real *line, const real *gate, ptrdiff_t length,
                     real check, real *stage, real *row) {
    real *to = length < p->size ? stage : row, scale = (real)1 / (real)p->size + check;
    if (p->root_levels == 3)
        join_root(p, 3, line, to, scale);
    else
        join_root(p, 2, line, to, scale);
    if (gate)
        for (ptrdiff_t t = 0; t < length; t += WIDTH)
            store_first(row + t, load_first(to + t, length - t) *
                                     load_first(gate + t, length - t), length - t);
    else if (to != row)
        memcpy(row, to, length * sizeof(real));
}

/* Rows of one channel. */
typedef struct {
    ptrdiff_t channel, first, end, index;
} item;

static item item_at(const helix_fft_conv *c, ptrdiff_t index) {
    ptrdiff_t parts = (c->batch + c->rows_in_item - 1) / c->rows_in_item;
    ptrdiff_t first = index % parts * c->rows_in_item;
    return (item){index / parts, first, smaller(first + c->rows_in_item, c->batch),
                  index % parts * c->channels + index / parts};
}

static const real *optional_row(helix_rows rows, ptrdiff_t batch, ptrdiff_t channel) {
    return rows.data ? row_at(rows, batch, 0, channel) : NULL;
}

/* Transforms the filter of a channel; returns 0 or nan. */
static real filter_line(const helix_fft_conv *c, const plan *p, ptrdiff_t channel, real *stage,
                        real *line) {
    real bias = c->bias ? ((const real *)c->bias)[channel] : 0;
    real check = begin_line(p, row_at(c->k, 0, 0, channel), NULL, c->taps, bias, stage, line);
    task t = {.x = line};
    do_line(p, &t);
    return check;
}

/* Items are (channel, run of rows_in_item rows). */
int EXPORT(fft_conv_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_fft_conv *c = call;
    plan p = plan_of(c);
    real *k = helix_workspace(5 * p.size * sizeof(real));
    if (!k)
        return HELIX_NO_MEMORY;
    real *x = k + 2 * p.size, *stage = x + 2 * p.size;
    for (ptrdiff_t index = first; index < last; index++) {
        item it = item_at(c, index);
        real k_check = filter_line(c, &p, it.channel, stage, k);
        for (ptrdiff_t b = it.first; b < it.end; b++) {
            const real *u = row_at(c->u, b, 0, it.channel);
            real check = k_check + begin_line(&p, u, NULL, c->length, 0, stage, x);
            task t = {.x = x, .k = k, .joins_x = 1};
            do_line(&p, &t);
            end_line(&p, x, optional_row(c->gate, b, it.channel), c->length, check, stage,
                     row_at(c->y, b, 0, it.channel));
        }
    }
    return 0;
}

/* Items are (channel, run of rows_in_item rows). */
int EXPORT(fft_conv_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_fft_conv *c = call;
    plan p = plan_of(c);
    real *k = helix_workspace(9 * p.size * sizeof(real));
    if (!k)
        return HELIX_NO_MEMORY;
    real *x = k + 2 * p.size, *g = x + 2 * p.size, *sum = g + 2 * p.size, *stage = sum + 2 * p.size;
    for (ptrdiff_t index = first; index < last; index++) {
        item it = item_at(c, index);
        real k_check = filter_line(c, &p, it.channel, stage, k), sum_check = 0;
        memset(sum, 0, c->dk ? 2 * p.size * sizeof(real) : 0);
        for (ptrdiff_t b = it.first; b < it.end; b++) {
            const real *gate = optional_row(c->gate, b, it.channel);
            const real *row = row_at(c->g, b, 0, it.channel);
            real g_check = begin_line(&p, row, gate, c->length, 0, stage, g), x_check = 0;
            task t = {.g = g, .k = k, .joins_x = c->dgate.data != NULL};
            if (c->dk || c->dgate.data) {
                const real *u = row_at(c->u, b, 0, it.channel);
                x_check = begin_line(&p, u, NULL, c->length, 0, stage, x);
                t.x = x;
            }
            if (c->dk)
                t.sum = sum;
            do_line(&p, &t);
            sum_check += g_check + x_check;
            end_line(&p, g, NULL, c->length, g_check + k_check, stage,
                     row_at(c->du, b, 0, it.channel));
            if (c->dgate.data)
                end_line(&p, x, row, c->length, x_check + k_check, stage,
                         row_at(c->dgate, b, 0, it.channel));
        }
        if (c->dk) {
            task t = {.sum = sum, .joins_sum = 1};
            do_line(&p, &t);
            end_line(&p, sum, NULL, c->taps, sum_check, stage, (real *)c->dk + it.index * c->taps);
        }
    }
    return 0;
}
