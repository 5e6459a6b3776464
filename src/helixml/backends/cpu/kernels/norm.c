/* Normalisation of rows by their root mean square or, if `centred`, by mean and variance, with an
   optional residual added first.

     s = x + residual,   m = mean(s) if centred, else 0
     r = 1 / sqrt(mean((s - m)^2) + eps),   n = (s - m) r,   y = n weight + bias

   With q = g weight: ds = r (q - n mean(q n) - (mean(q) if centred)) + (the cotangent of s itself),
   which is the gradient of x and of the residual; dweight = sum over rows of g n, dbias = of g.

   A row is read from memory once; later passes over it find it in the cache. Sums along a row are
   kept in SUMS vectors, so that an addition need not wait for the one before. */
#include "rows.h"

enum { SUMS = 4 };

static real total(const vec sums[SUMS]) {
    vec x = sums[0];
    for (int i = 1; i < SUMS; i++)
        x += sums[i];
    return sum_lanes(x);
}

/* s of a row, written to `total` if it is not x itself. */
static const real *summed_row(const helix_norm *n, ptrdiff_t row) {
    const real *x = row_at(n->x, 0, 0, row);
    if (!n->residual.data)
        return x;
    const real *residual = row_at(n->residual, 0, 0, row);
    real *s = row_at(n->total, 0, 0, row);
    for (ptrdiff_t i = 0; i < n->size; i += WIDTH) {
        ptrdiff_t count = n->size - i;
        store_first(s + i, load_first(x + i, count) + load_first(residual + i, count), count);
    }
    return s;
}

/* Adds s, or the square of s - mean, of `vectors` vectors with at most `count` elements. */
INLINE void add_up(const real *s, int vectors, ptrdiff_t count, int squares, real mean,
                   vec sums[SUMS]) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++, count -= WIDTH) {
        vec x = load_padded(s + j * WIDTH, count, mean) - mean;
        sums[j] += squares ? x * x : x;
    }
}

INLINE double row_mean(const real *s, ptrdiff_t size, int squares, real mean) {
    vec sums[SUMS] = {{0}};
    ptrdiff_t i = 0;
    for (; i + SUMS * WIDTH <= size; i += SUMS * WIDTH)
        add_up(s + i, SUMS, SUMS * WIDTH, squares, mean, sums);
    for (; i < size; i += WIDTH)
        add_up(s + i, 1, size - i, squares, mean, sums);
    return total(sums) / (double)size;
}

static void forward_row(const helix_norm *n, ptrdiff_t row) {
    const real *s = summed_row(n, row), *weight = n->weight, *bias = n->bias;
    real mean = 0;
    if (n->centred)
        ((real *)n->mean)[row] = mean = (real)row_mean(s, n->size, 0, 0);
    real scale = (real)(1 / __builtin_sqrt(row_mean(s, n->size, 1, mean) + n->eps));
    ((real *)n->scale)[row] = scale;
    real *y = row_at(n->y, 0, 0, row);
    const real *next = row_at(n->x, 0, 0, smaller(row + 1, n->rows - 1));
    for (ptrdiff_t i = 0; i < n->size; i += WIDTH) {
        ptrdiff_t count = n->size - i;
        prefetch(next + i);
        vec x = (load_first(s + i, count) - mean) * scale * load_first(weight + i, count);
        store_first(y + i, bias ? x + load_first(bias + i, count) : x, count);
    }
}

int EXPORT(norm_forward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_norm *n = call;
    ptrdiff_t end = smaller(last * n->rows_in_item, n->rows);
    for (ptrdiff_t row = first * n->rows_in_item; row < end; row++)
        forward_row(n, row);
    return 0;
}

/* What the backward pass reads of a row, and where it adds. */
typedef struct {
    const real *s, *g, *weight;
    real mean, scale;
    real *dweight, *dbias;
} pulled_row;

INLINE vec normal_at(const pulled_row *r, ptrdiff_t i, ptrdiff_t count) {
    return (load_padded(r->s + i, count, r->mean) - r->mean) * r->scale;
}

/* Adds what `vectors` vectors from i on give to the gradients of weight and bias, and to the sums
   of q n and of q. */
INLINE void pull_sums(const pulled_row *r, ptrdiff_t i, int vectors, ptrdiff_t count,
                      vec products[SUMS], vec sums[SUMS]) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++, i += WIDTH, count -= WIDTH) {
        vec g = load_first(r->g + i, count), normal = normal_at(r, i, count);
        vec q = g * load_first(r->weight + i, count);
        products[j] += q * normal;
        sums[j] += q;
        add_first(r->dweight + i, g * normal, count);
        if (r->dbias)
            add_first(r->dbias + i, g, count);
    }
}

static void backward_row(const helix_norm *n, ptrdiff_t row, pulled_row r) {
    ptrdiff_t size = n->size, i = 0;
    vec products[SUMS] = {{0}}, sums[SUMS] = {{0}};
    for (; i + SUMS * WIDTH <= size; i += SUMS * WIDTH)
        pull_sums(&r, i, SUMS, SUMS * WIDTH, products, sums);
    for (; i < size; i += WIDTH)
        pull_sums(&r, i, 1, size - i, products, sums);
    real slope = (real)(total(products) / (double)size);
    real shift = n->centred ? (real)(total(sums) / (double)size) : 0;
    const real *g_total = n->g_total.data ? row_at(n->g_total, 0, 0, row) : NULL;
    real *dx = row_at(n->dx, 0, 0, row);
    ptrdiff_t after = smaller(row + 1, n->rows - 1);
    const real *next = row_at(n->x, 0, 0, after), *next_g = row_at(n->g, 0, 0, after);
    for (i = 0; i < size; i += WIDTH) {
        ptrdiff_t count = size - i;
        vec q = load_first(r.g + i, count) * load_first(r.weight + i, count);
        prefetch(next + i);
        prefetch(next_g + i);
        vec ds = (q - shift - normal_at(&r, i, count) * slope) * r.scale;
        store_first(dx + i, g_total ? ds + load_first(g_total + i, count) : ds, count);
    }
}

int EXPORT(norm_backward)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_norm *n = call;
    for (ptrdiff_t item = first; item < last; item++) {
        real *dweight = (real *)n->dweight + item * n->size;
        real *dbias = n->dbias ? (real *)n->dbias + item * n->size : NULL;
        ptrdiff_t end = smaller((item + 1) * n->rows_in_item, n->rows);
        for (ptrdiff_t row = item * n->rows_in_item; row < end; row++) {
            pulled_row r = {row_at(n->x, 0, 0, row), row_at(n->g, 0, 0, row), n->weight, 0,
                            ((const real *)n->scale)[row], dweight, dbias};
            if (n->centred)
                r.mean = ((const real *)n->mean)[row];
            backward_row(n, row, r);
        }
    }
    return 0;
}
