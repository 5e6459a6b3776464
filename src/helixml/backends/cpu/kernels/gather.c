/* Rows of a table taken by index, and rows added at indices: an embedding and its gradient.

   Where an index comes often, the order in which its rows are added decides the last bits. So an
   item of the sum owns columns, not indices: it goes through all indices in order, and no two
   items touch the same element. */
#include "rows.h"

enum { AHEAD = 16, COLUMNS = HELIX_SCATTER_COLUMNS };

/* The row of the table that index i names; negative where there is none. */
INLINE ptrdiff_t target(const helix_gather *g, ptrdiff_t i) {
    int64_t index = g->indices[i];
    if (index < 0)
        index += g->size;
    return index < g->size ? (ptrdiff_t)index : -1;
}

static int gather_rows(const helix_gather *g, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t i = first; i < last; i++) {
        ptrdiff_t row = target(g, i);
        if (row < 0)
            return HELIX_BAD_INDEX;
        memcpy(row_at(g->rows, 0, 0, i), row_at(g->table, 0, 0, row), g->width * sizeof(real));
    }
    return 0;
}

int EXPORT(gather)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_gather *g = call;
    ptrdiff_t start = first * g->rows_in_item, end = smaller(last * g->rows_in_item, g->count);
    return gather_rows(g, start, end);
}

INLINE int scatter_columns(const helix_gather *g, ptrdiff_t first, ptrdiff_t columns) {
    for (ptrdiff_t i = 0; i < g->count; i++) {
        ptrdiff_t row = target(g, i);
        if (row < 0)
            return HELIX_BAD_INDEX;
        if (i + AHEAD < g->count) {
            const char *ahead = (const char *)(row_at(g->rows, 0, 0, i + AHEAD) + first);
            for (ptrdiff_t k = 0; k < columns * (ptrdiff_t)sizeof(real); k += 64)
                __builtin_prefetch(ahead + k);
        }
        real *to = row_at(g->table, 0, 0, row) + first;
        const real *from = row_at(g->rows, 0, 0, i) + first;
        for (ptrdiff_t k = 0; k < columns; k += WIDTH)
            add_first(to + k, load_first(from + k, columns - k), columns - k);
    }
    return 0;
}

int EXPORT(scatter)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_gather *g = call;
    int failure = 0;
    for (ptrdiff_t i = first; i < last && !failure; i++) {
        ptrdiff_t columns = smaller(g->width - i * COLUMNS, COLUMNS);
        if (columns == COLUMNS)
            failure = scatter_columns(g, i * COLUMNS, COLUMNS);
        else if (columns == 1)
            failure = scatter_columns(g, i * COLUMNS, 1);
        else
            failure = scatter_columns(g, i * COLUMNS, columns);
    }
    return failure;
}
