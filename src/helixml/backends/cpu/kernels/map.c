/* Functions of single elements: of one operand, of two, and the gradients of gates.

   Each function is an expression of vectors; a macro puts it into a loop of its own, over one piece
   of a row. The gradient of a function of x is a function of x and g. An operand may be a single
   element that stands for a whole row. */
#include "rows.h"

typedef struct {
    const real *x, *y, *g;
    int single_x, single_y;
    real *out, *out_y;
    ptrdiff_t count;
} piece;

typedef void piece_function(piece p);

INLINE vec operand(const real *from, int single, ptrdiff_t i, ptrdiff_t count) {
    return single ? splat(*from) : load_first(from + i, count);
}

#define OF_ONE(name, value)                                                                 \
    static void name##_piece(piece p) {                                                     \
        for (ptrdiff_t i = 0; i < p.count; i += WIDTH) {                                    \
            vec x = load_first(p.x + i, p.count - i);                                       \
            store_first(p.out + i, value, p.count - i);                                     \
        }                                                                                   \
    }

#define OF_TWO(name, value)                                                                 \
    static void name##_piece(piece p) {                                                     \
        for (ptrdiff_t i = 0; i < p.count; i += WIDTH) {                                    \
            vec x = operand(p.x, p.single_x, i, p.count - i);                               \
            vec y = operand(p.y, p.single_y, i, p.count - i);                               \
            store_first(p.out + i, value, p.count - i);                                     \
        }                                                                                   \
    }

/* The gradient of f(x). */
#define PULL(f)                                                                             \
    INLINE vec f##_slope(vec x) {                                                           \
        vec slope;                                                                          \
        f(x, &slope);                                                                       \
        return slope;                                                                       \
    }                                                                                       \
    OF_TWO(f##_pull, y *f##_slope(x))

/* The gate x f(y), and its gradients. */
#define GATE(f)                                                                             \
    OF_TWO(f##_gate, x *f##_value(y))                                                       \
    static void f##_gate_pull_piece(piece p) {                                              \
        for (ptrdiff_t i = 0; i < p.count; i += WIDTH) {                                    \
            ptrdiff_t count = p.count - i;                                                  \
            vec slope, value = f(load_first(p.y + i, count), &slope);                       \
            vec x = load_first(p.x + i, count), g = load_first(p.g + i, count);             \
            store_first(p.out + i, g * value, count);                                       \
            store_first(p.out_y + i, g * x * slope, count);                                 \
        }                                                                                   \
    }

/* Values alone: what a slope needs is not computed. */
INLINE vec silu_value(vec x) { return x * sigmoid_vec(x); }
INLINE vec gelu_value(vec x) {
    vec slope;
    return gelu(x, &slope);
}
INLINE vec softplus_value(vec x) {
    vec slope;
    return softplus(x, &slope);
}

/* nan if either is nan. */
INLINE vec larger(vec x, vec y) { return choose((x >= y) | (x != x), x, y); }
INLINE vec lesser(vec x, vec y) { return choose((x <= y) | (x != x), x, y); }

/* The chain products x y and x / y: 0 where x is 0, even if y is not finite, or 0 or nan. */
INLINE vec chain_product(vec x, vec y) {
    return choose((x == splat(0)) & (y - y != splat(0)), splat(0), x * y);
}
INLINE vec chain_quotient(vec x, vec y) {
    return choose((x == splat(0)) & ((y == splat(0)) | (y != y)), splat(0), x / y);
}

OF_ONE(exp, exp_vec(x))
OF_ONE(expm1, expm1_vec(x))
OF_ONE(log, log_vec(x))
OF_ONE(log1p, log1p_vec(x))
OF_ONE(tanh, tanh_vec(x))
OF_ONE(sigmoid, sigmoid_vec(x))
OF_ONE(erf, erf_vec(x))
OF_ONE(sqrt, root(x))
OF_ONE(square, x * x)
OF_ONE(negative, -x)
OF_ONE(absolute, absolute(x))
OF_TWO(add, x + y)
OF_TWO(subtract, x - y)
OF_TWO(multiply, x *y)
OF_TWO(divide, x / y)
OF_TWO(maximum, larger(x, y))
OF_TWO(minimum, lesser(x, y))
OF_TWO(chain, chain_product(x, y))
OF_TWO(quotient, chain_quotient(x, y))
OF_ONE(silu, silu_value(x))
OF_ONE(gelu, gelu_value(x))
OF_ONE(softplus, softplus_value(x))
PULL(silu)
PULL(gelu)
PULL(softplus)
GATE(silu)
GATE(gelu)

#define ENTRY(name) [HELIX_MAP_##name] = name##_piece,
static piece_function *const functions[] = {HELIX_EACH_FUNCTION(ENTRY)};

static const real *part_of(helix_rows rows, int single, ptrdiff_t row, ptrdiff_t start) {
    return rows.data ? row_at(rows, 0, 0, row) + (single ? 0 : start) : NULL;
}

int EXPORT(map)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_map *m = call;
    ptrdiff_t pieces = (m->size + HELIX_MAP_RUN - 1) / HELIX_MAP_RUN;
    for (ptrdiff_t item = first; item < last; item++) {
        ptrdiff_t row = item / pieces, start = item % pieces * HELIX_MAP_RUN;
        functions[m->function]((piece){
            part_of(m->x, m->single_x, row, start),
            part_of(m->y, m->single_y, row, start),
            part_of(m->g, 0, row, start),
            m->single_x,
            m->single_y,
            (real *)part_of(m->out, 0, row, start),
            (real *)part_of(m->out_y, 0, row, start),
            smaller(HELIX_MAP_RUN, m->size - start),
        });
    }
    return 0;
}
