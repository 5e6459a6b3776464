/* Sums of rows, column by column, item by item: each item adds up a run of rows of its own. */
#include "rows.h"

/* Rows added to the sums at a time: the sums are read and written once for so many. */
enum { TOGETHER = 4 };

static void add_rows(const helix_sum *s, ptrdiff_t row, ptrdiff_t count, real *sums) {
    const real *x[TOGETHER];
    for (ptrdiff_t j = 0; j < TOGETHER; j++)
        x[j] = row_at(s->x, 0, 0, row + (j < count ? j : 0));
    for (ptrdiff_t i = 0; i < s->size; i += WIDTH) {
        ptrdiff_t left = s->size - i;
        if (count == TOGETHER) {
            vec first = load_first(x[0] + i, left) + load_first(x[1] + i, left);
            vec second = load_first(x[2] + i, left) + load_first(x[3] + i, left);
            add_first(sums + i, first + second, left);
        } else
            for (ptrdiff_t j = 0; j < count; j++)
                add_first(sums + i, load_first(x[j] + i, left), left);
    }
}

int EXPORT(sum)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_sum *s = call;
    for (ptrdiff_t item = first; item < last; item++) {
        ptrdiff_t end = smaller((item + 1) * s->rows_in_item, s->rows);
        for (ptrdiff_t row = item * s->rows_in_item; row < end; row += TOGETHER)
            add_rows(s, row, smaller(TOGETHER, end - row), (real *)s->parts + item * s->size);
    }
    return 0;
}
