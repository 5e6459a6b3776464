/* In place of the kernels of an instruction set that does not run here: never called. */
#include "kernels.h"

#include <stdlib.h>

#define JOIN3(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN3(a, b, c)
#if HELIX_DOUBLE
#define EXPORT(name) JOIN(helix_##name, HELIX_ISA, double)
#else
#define EXPORT(name) JOIN(helix_##name, HELIX_ISA, float)
#endif

#define ABSENT(name, variant)                                                               \
    int EXPORT(name)(const void *call, ptrdiff_t first, ptrdiff_t last);                    \
    int EXPORT(name)(const void *call, ptrdiff_t first, ptrdiff_t last) {                   \
        (void)call, (void)first, (void)last;                                                \
        abort();                                                                            \
    }
HELIX_EACH_KERNEL(ABSENT, )

void EXPORT(test_simd)(void);
void EXPORT(test_simd)(void) { abort(); }
