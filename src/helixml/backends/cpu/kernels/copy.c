/* Copies of rows, as fast as memory is. */
#include "rows.h"

int EXPORT(copy)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_copy *c = call;
    ptrdiff_t pieces = (c->size - 1) / HELIX_COPY_RUN + 1;
    for (ptrdiff_t i = first; i < last; i++) {
        ptrdiff_t row = i / pieces, start = i % pieces * HELIX_COPY_RUN;
        memcpy(row_at(c->to, 0, 0, row) + start, row_at(c->from, 0, 0, row) + start,
               smaller(c->size - start, HELIX_COPY_RUN) * sizeof(real));
    }
    return 0;
}
