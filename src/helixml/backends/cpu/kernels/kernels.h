/* What the compiled kernels take, and the table through which they are called.

   Sizes and strides count elements, not bytes. A `helix_rows` is an array whose rows of
   channels are contiguous: element (batch, group, step, channel) lies at
   data[batch * batch_stride + group * group_stride + step * step_stride + channel].
   Kernels return 0, or 1 where memory for their workspace could not be had. Work comes in
   items that touch disjoint outputs; a call does items first .. last - 1. The number of items
   depends on shapes only, so results do not depend on how threads share them. */
#ifndef HELIX_KERNELS_H
#define HELIX_KERNELS_H

#include <stddef.h>

typedef struct {
    void *data; /* NULL where an optional array is absent */
    ptrdiff_t batch_stride, group_stride, step_stride;
} helix_rows;

/* Steps after which the scan keeps its state for the backward pass. */
enum { HELIX_SCAN_STEPS = 32 };

/* Selective scan; items are (batch, group, part of the group's channels). */
typedef struct {
    ptrdiff_t batch, length, channels, states, groups, parts;
    int softplus;         /* delta' = softplus(delta + bias), else delta + bias */
    int fixed_B, fixed_C; /* B, C are (n, d): one row of channels per state, no steps */
    helix_rows u, delta, z, y;
    helix_rows B, C;       /* rows of states, or (n, d) with step_stride between states */
    const void *A_log2;    /* (n, d), A / ln(2) */
    const void *D, *bias;  /* (d,) or NULL */
    void *chunk_states;    /* (b, chunks + 1, n, d): before each chunk, and the last */

    /* The rest is for the backward pass. Sums over items are left to the caller. */
    helix_rows g;               /* cotangent of y */
    helix_rows du, ddelta, dz;  /* (b, l, d) */
    void *dA, *dD, *dbias;      /* (b, n, d), (b, d), (b, d): zeros on entry */
    void *dB, *dC;              /* (parts, b, g, l, n); or, where fixed, (b, n, d) of zeros */
    void *dstate;               /* (b, n, d): in the last state's cotangent, out the first's */
} helix_scan;

/* One table per instruction set and dtype. */
typedef struct {
    int (*scan_forward)(const helix_scan *, ptrdiff_t first, ptrdiff_t last);
    int (*scan_backward)(const helix_scan *, ptrdiff_t first, ptrdiff_t last);
} helix_table;

/* Names of the instruction sets compiled in and runnable here, best first, NULL at the end. */
const char *const *helix_instruction_sets(void);

/* The kernels of one of these, for float (0) or double (1). */
const helix_table *helix_kernels(const char *instruction_set, int is_double);

#endif
