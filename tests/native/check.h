/* What the native tests share: checks, arrays with nothing readable beyond them, chance.

   An `array` is a kernel's operand twice over: `data`, of the kernel's dtype, in memory that ends
   (or begins) at a page which may not be touched, and `exact`, in long double, on which the plain
   loops of a test work. A new array is UNTOUCHED: where `exact` still is in the end, `data` must
   still hold the ones it was filled with, for the kernel had no business there.

   Everything here belongs to the calling thread, so that several may test at once. */
#ifndef CHECK_H
#define CHECK_H

#include "kernels.h"

#include <stddef.h>
#include <stdint.h>

#ifndef THINNING
#define THINNING 1 /* one of so many cases is tested: more where the machine is emulated */
#endif

#if HELIX_DOUBLE
typedef double real;
#define EPS 0x1p-52L
#define TEST(name) name##_double
#else
typedef float real;
#define EPS 0x1p-23L
#define TEST(name) name##_float
#endif
typedef long double wide;

/* CHECK(condition, "values: %d", ...): on failure prints file, line, the condition, the values and
   the current case; the program ends with 1 then, at once after many failures. */
#define CHECK(condition, ...)                                                               \
    do {                                                                                    \
        if (!(condition))                                                                   \
            check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                      \
    } while (0)

void check_failed(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Names what is tested from now on, as printf does. */
void begin_case(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Has a crash, such as a touch of a guarded page, say in which case it happened. */
void report_crashes(void);

/* 1 if any check failed so far, on any thread, else 0: what main returns. */
int exit_code(void);

/* Chance: the same numbers after the same seed. */
void set_seed(uint64_t seed);
uint64_t any_bits(void);
ptrdiff_t any_below(ptrdiff_t end);
wide any_between(wide low, wide high);

/* Memory whose end (or, if `at_start`, begin) lies at a page that may not be touched, filled with
   ones. free_guarded checks that nothing was written to the rest of its pages, and frees all. */
extern _Thread_local int at_start;
void *guarded(size_t bytes);
void free_guarded(void);

/* Plain memory that free_arrays frees, with the guarded. */
void *scratch(size_t bytes);
void free_arrays(void);

/* Does the items on a fresh thread, which has no workspace yet, so that the kernel's is no larger
   than it asked for; the items one by one if `threads` is more than 1. */
extern _Thread_local int threads;
int run(helix_work work, const void *call, ptrdiff_t items);

/* The results of all arrays that were checked, mixed into one number. */
extern _Thread_local uint64_t digest;
void digest_bytes(const void *bytes, size_t count);

#define UNTOUCHED (-0x1.8badp1020L)

#define array TEST(array)
#define new_array TEST(new_array)
#define random_array TEST(random_array)
#define zero_array TEST(zero_array)
#define round_array TEST(round_array)
#define check_array TEST(check_array)

typedef struct {
    real *data;
    wide *exact;
    ptrdiff_t size;
} array;

/* Untouched; of numbers between low and high, rounded to the dtype; of zeros. Their memory is
   guarded, and freed by free_arrays. */
array new_array(ptrdiff_t size);
array random_array(ptrdiff_t size, wide low, wide high);
array zero_array(ptrdiff_t size);

/* Rounds `exact`, which a test has set, to the dtype, and puts it into `data`. */
void round_array(array x);

/* Compares all of data with exact: equal infinities, nan for nan, and elsewhere errors of at most
   `units` EPS times `size`, the size of the terms that were added up, or the largest finite |exact|
   if that is more; or that many steps between denormal numbers. */
#define CHECK_ARRAY(x, units, size) check_array(__FILE__, __LINE__, #x, x, units, size, 0)

/* The same, but each element is measured by its own size, or by `size` if that is more. */
#define CHECK_ELEMENTS(x, units, size) check_array(__FILE__, __LINE__, #x, x, units, size, 1)

void check_array(const char *file, int line, const char *name, array x, wide units, wide size,
                 int each_alone);

#endif
