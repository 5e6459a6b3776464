/* Products of a stored matrix with a few vectors. */
#include "dots.h"

int EXPORT(stored_linear)(const void *call, ptrdiff_t first, ptrdiff_t last) {
    const helix_stored_linear *s = call;
    const helix_matrix *m = &s->matrix;
    multiply_matrix(m, first * HELIX_STORED_ROWS, smaller(last * HELIX_STORED_ROWS, m->rows), s->x,
                    m->columns, s->count, s->y, m->rows);
    return 0;
}
