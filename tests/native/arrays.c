/* The arrays of check.h, compiled once per dtype. */
#include "check.h"

#include <math.h>
#include <string.h>

array new_array(ptrdiff_t size) {
    array x = {guarded((size_t)size * sizeof(real)), scratch((size_t)size * sizeof(wide)), size};
    for (ptrdiff_t i = 0; i < size; i++)
        x.exact[i] = UNTOUCHED;
    return x;
}

void round_array(array x) {
    for (ptrdiff_t i = 0; i < x.size; i++)
        if (x.exact[i] != UNTOUCHED)
            x.exact[i] = x.data[i] = (real)x.exact[i];
}

array random_array(ptrdiff_t size, wide low, wide high) {
    array x = new_array(size);
    for (ptrdiff_t i = 0; i < size; i++)
        x.exact[i] = any_between(low, high);
    round_array(x);
    return x;
}

array zero_array(ptrdiff_t size) {
    array x = new_array(size);
    for (ptrdiff_t i = 0; i < size; i++)
        x.exact[i] = 0;
    round_array(x);
    return x;
}

void check_array(const char *file, int line, const char *name, array x, wide units, wide size,
                 int each_alone) {
    real untouched;
    memset(&untouched, 0xFF, sizeof untouched);
    wide largest = size;
    for (ptrdiff_t i = 0; i < x.size; i++)
        if (x.exact[i] != UNTOUCHED && isfinite(x.exact[i]))
            largest = fmaxl(largest, fabsl(x.exact[i]));
    wide tiny = sizeof(real) == 4 ? 0x1p-149L : 0x1p-1074L;
    for (ptrdiff_t i = 0; i < x.size; i++) {
        wide wanted = x.exact[i], found = x.data[i];
        wide unit = fmaxl(EPS * (each_alone ? fmaxl(size, fabsl(wanted)) : largest), tiny);
        if (wanted == UNTOUCHED && memcmp(&x.data[i], &untouched, sizeof untouched) != 0)
            check_failed(file, line, "only what is its own is written", "%s[%td] is %Lg", name, i,
                         found);
        else if (wanted != UNTOUCHED && isfinite((real)wanted) &&
                 !(fabsl(found - wanted) <= units * unit))
            check_failed(file, line, "close to exact", "%s[%td of %td] is %.12Lg, not %.12Lg: "
                         "%.3Lg units off", name, i, x.size, found, wanted,
                         fabsl(found - wanted) / unit);
        else if (wanted != UNTOUCHED && !isfinite((real)wanted) &&
                 !(isnan(wanted) ? isnan(found) : found == (real)wanted))
            check_failed(file, line, "infinite or nan as exact", "%s[%td of %td] is %Lg, not %Lg",
                         name, i, x.size, found, wanted);
    }
    digest_bytes(x.data, (size_t)x.size * sizeof(real));
}
