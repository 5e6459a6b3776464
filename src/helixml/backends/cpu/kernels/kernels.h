/* What the compiled kernels take, and the table through which they are called.

   Sizes and strides count elements, not bytes. A `helix_rows` is an array whose rows of
   channels are contiguous: element (batch, group, step, channel) lies at
   data[batch * batch_stride + group * group_stride + step * step_stride + channel].
   Work comes in items that touch disjoint outputs; a call does items first .. last - 1. The
   number of items depends on shapes only, so results do not depend on how threads share them.
   Where several items contribute to one sum, each writes its own part, and the caller adds
   the parts in order. Kernels return 0, or a helix_failure. */
#ifndef HELIX_KERNELS_H
#define HELIX_KERNELS_H

#include "pool.h"

#include <stddef.h>
#include <stdint.h>

enum helix_failure { HELIX_NO_MEMORY = 1, HELIX_BAD_TARGET = 2, HELIX_BAD_INDEX = 3 };

typedef struct {
    void *data; /* NULL where an optional array is absent */
    ptrdiff_t batch_stride, group_stride, step_stride;
    ptrdiff_t channel_stride; /* 1; of the scan's inputs, any if step_stride is 1 */
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

    /* backward only */
    helix_rows g;               /* cotangent of y */
    helix_rows du, ddelta, dz;  /* (b, l, d) */
    void *dA, *dD, *dbias;      /* (b, n, d), (b, d), (b, d): zeros on entry */
    void *dB, *dC;              /* (parts, b, g, l, n); or, where fixed, (b, n, d): zeros on entry */
    void *dstate;               /* (b, n, d): in the last state's cotangent, out the first's */
} helix_scan;

/* Causal depthwise convolution. If channels are contiguous, items are (batch, piece of
   HELIX_CONV_STEPS steps). If time is, every `helix_rows` has rows of time, with step_stride
   between channels, and items are (batch, channel). */
enum { HELIX_CONV_STEPS = 128 };

typedef struct {
    ptrdiff_t batch, length, channels, taps;
    int silu;
    helix_rows x, y;
    helix_rows past;            /* (b, k - 1, d): what came before x */
    const void *weight, *bias;  /* (k, d), or (d, k) if time is contiguous; (d,) or NULL */

    /* backward only */
    helix_rows g, dx, dpast;
    void *dweight, *dbias;      /* (items, k, d), (items, d): zeros on entry; or (b, d, k), (b, d) */
} helix_conv;

/* Normalisation of rows by root mean square or, if centred, by mean and variance; items are runs of
   rows_in_item rows. */
typedef struct {
    ptrdiff_t rows, size, rows_in_item;
    int centred;
    double eps;
    helix_rows x, residual, y;
    helix_rows total;           /* x + residual, written where there is a residual */
    const void *weight, *bias;  /* (size,); bias or NULL */
    void *mean, *scale;         /* (rows,): mean, if centred; 1 / sqrt(variance + eps) */

    /* backward only; x is what was normalised */
    helix_rows g, g_total, dx;  /* g_total may be absent */
    void *dweight, *dbias;      /* (items, size): zeros on entry; dbias or NULL */
} helix_norm;

/* Softmax of rows, or its logarithm; items are rows. */
typedef struct {
    ptrdiff_t rows, size;
    int logarithm;
    helix_rows x, y;

    /* backward only; no x */
    helix_rows g, dx;
} helix_softmax;

/* Attention; items are (batch, head, run of HELIX_ATTENTION_ROWS rows), rows of keys for their
   gradients, else of queries. Heads of queries share heads of keys in groups, in order. */
enum { HELIX_ATTENTION_ROWS = 192 };

typedef struct {
    ptrdiff_t batch, heads, kv_heads, queries, keys;
    ptrdiff_t width, value_width;  /* of queries and keys; of values */
    ptrdiff_t first_key, last_key; /* query i sees keys i + first_key .. i + last_key */
    double scale;
    helix_rows q, k, v, y;         /* (b, heads, rows, width) */
    void *log_sums;                /* (b, h, l): log of the sum of exp(score); also for backward */

    /* backward only */
    helix_rows g, dq, dk, dv;
    void *means;                   /* (b, h, l): g . y; written with dq, read with dk and dv */
} helix_attention;

/* State-space duality; items are (batch, head). Heads share B and C in groups, in order. */
enum { HELIX_SSD_STEPS = 64 };

typedef struct {
    ptrdiff_t batch, length, heads, groups;
    ptrdiff_t width, states;    /* of x and y; of B and C */
    ptrdiff_t chunk;            /* steps, at most HELIX_SSD_STEPS */
    helix_rows x, y;            /* (b, h, l, p) */
    helix_rows B, C;            /* (b, g, l, n) */
    const void *dt, *A, *D;     /* (b, h, l), (h,), (h,) or NULL */
    void *chunk_states;         /* (b, h, chunks + 1, n, p): the first is given, the others written */

    /* backward only */
    helix_rows g, dx;           /* (b, h, l, p); g is the cotangent of y */
    helix_rows dB, dC;          /* (b, h, l, n): of each head */
    void *ddt, *dA, *dD;        /* (b, h, l), (b, h), (b, h) */
    void *dstate;               /* (b, h, n, p): in the last state's cotangent, out the first's */
} helix_ssd;

/* Long convolution y = (k * u + bias u) gate by transforms of `size` complex numbers, a power of 2,
   at least the length. The helix_rows are rows of time, with step_stride between channels. Items
   are (channel, run of rows_in_item sequences); the table is made in one. */
enum { HELIX_FFT_LEAST = 64, HELIX_FFT_ROOM = 256 };

typedef struct {
    ptrdiff_t batch, channels, length, taps, size, rows_in_item;
    void *table;                /* (2 max(size, HELIX_FFT_ROOM) + 4,): the transform's constants */
    helix_rows u, gate, y;      /* (b, d, l) */
    helix_rows k;               /* (d, m) */
    const void *bias;           /* (d,) or NULL */

    /* backward only */
    helix_rows g, du, dgate;    /* dgate may be absent */
    void *dk;                   /* (parts, d, m) or NULL; at lag 0 that of the bias, too */
} helix_fft_conv;

/* Cross entropy of rows of logits; items are rows. */
typedef struct {
    ptrdiff_t rows, classes;
    helix_rows logits;
    const int64_t *target;      /* (rows,) */
    int ignores;
    int64_t ignore_index;
    double smoothing;
    void *losses;               /* (rows,): 0 where ignored */
    void *top, *sum;            /* (rows,): the largest logit, the sum of exp(logit - top); where
                                   ignored, not written and 1 */

    /* backward; forward only if the gradient is to be computed ahead, else NULL */
    const void *g;              /* (rows,): cotangent of each row's loss */
    helix_rows dlogits;
} helix_loss;

/* A function of single elements of rows; items are runs of HELIX_MAP_RUN elements, row by row. */
enum { HELIX_MAP_RUN = 1 << 13 };

typedef struct {
    ptrdiff_t rows, size;
    int function;               /* a helix_function */
    helix_rows x, y;            /* operands; y only where there are two */
    int single_x, single_y;     /* one element stands for all of its row */
    helix_rows out;

    /* gradients of gates only */
    helix_rows g, out_y;        /* cotangent; gradient of y, while out is that of x */
} helix_map;

/* Functions of x; of x and y; NAME_pull is the derivative at x times y; NAME_gate is x NAME(y);
   NAME_gate_pull gives the gradients of that. */
#define HELIX_EACH_FUNCTION(FUNCTION)                                                       \
    FUNCTION(exp) FUNCTION(expm1) FUNCTION(log) FUNCTION(log1p) FUNCTION(tanh)              \
    FUNCTION(sigmoid) FUNCTION(erf) FUNCTION(sqrt) FUNCTION(square) FUNCTION(negative)      \
    FUNCTION(absolute) FUNCTION(add) FUNCTION(subtract) FUNCTION(multiply) FUNCTION(divide) \
    FUNCTION(maximum) FUNCTION(minimum) FUNCTION(chain) FUNCTION(quotient)                  \
    FUNCTION(silu) FUNCTION(silu_pull) FUNCTION(silu_gate) FUNCTION(silu_gate_pull)         \
    FUNCTION(gelu) FUNCTION(gelu_pull) FUNCTION(gelu_gate) FUNCTION(gelu_gate_pull)         \
    FUNCTION(softplus) FUNCTION(softplus_pull)

#define HELIX_FUNCTION(name) HELIX_MAP_##name,
enum helix_function { HELIX_EACH_FUNCTION(HELIX_FUNCTION) };

/* A copy of rows; items are (row, run of HELIX_COPY_RUN elements). */
enum { HELIX_COPY_RUN = 1 << 14 };

typedef struct {
    ptrdiff_t rows, size;
    helix_rows from, to;
} helix_copy;

/* Sums of rows; items are runs of rows_in_item rows. */
typedef struct {
    ptrdiff_t rows, size, rows_in_item;
    helix_rows x;
    void *parts;                /* (items, size): zeros on entry */
} helix_sum;

/* Rows of a table at indices. Taking them, items are runs of rows_in_item indices; adding them,
   items are runs of HELIX_SCATTER_COLUMNS columns. */
enum { HELIX_SCATTER_COLUMNS = 32 };

typedef struct {
    ptrdiff_t count, width, size; /* indices, columns, rows of the table */
    ptrdiff_t rows_in_item;
    const int64_t *indices;     /* (count,), in [-size, size) */
    helix_rows table, rows;     /* (size, width); (count, width) */
} helix_gather;

/* Linear recurrence. If channels are contiguous, items are (batch, run of channels_in_item
   channels). If time is, there is no batch, the strides are between sequences, and items are runs
   of HELIX_SCAN_LINES sequences. Of complex numbers, each is two neighbouring reals, which all
   strides count, and so does the size of what is contiguous, channels or length. */
enum { HELIX_SCAN_LINES = 4 };

typedef struct {
    ptrdiff_t batch, length, channels; /* or 1, length, sequences */
    ptrdiff_t channels_in_item;
    int reverse;
    helix_rows a, b, h;         /* (batch, l, d); or (d, l) */
    ptrdiff_t a_time;           /* if time is contiguous: 1, or 0 for a constant a */
    const void *initial;        /* (batch, d), or NULL */
} helix_linear_scan;

/* Random words, or dropout by them; items are runs of HELIX_PHILOX_RUN blocks of four words. */
enum { HELIX_PHILOX_RUN = 1 << 12 };

typedef struct {
    ptrdiff_t blocks;
    uint32_t key[2];
    uint64_t low;               /* of the counter; low + blocks has 64 bits */
    uint32_t high[2];
    uint32_t *words;            /* (blocks, 4) */

    /* dropout only */
    ptrdiff_t size;             /* at most 4 blocks */
    const void *x;
    void *y;                    /* x times scale, or 0 where the word is below the threshold */
    uint32_t threshold;
    double scale;
} helix_philox;

/* One step of an optimizer on many contiguous arrays, or the sum of their squares, or their product
   with a factor; items are runs of HELIX_UPDATE_RUN elements of all arrays laid end to end. */
enum { HELIX_UPDATE_RUN = 1 << 14 };

typedef struct {
    ptrdiff_t end;              /* elements of this array and of all before it */
    void *param;
    const void *grad;
    void *m, *v;                /* AdamW's moments; SGD's velocity, or NULL, and nothing */
} helix_leaf;

typedef struct {
    ptrdiff_t count;
    const helix_leaf *leaves;
    double lr, weight_decay;
    double beta1, beta2, eps;   /* AdamW */
    double correction1, correction2; /* 1 / (1 - beta**step) */
    double momentum;            /* SGD */
    int nesterov;
    double factor;              /* scaling of param */
    double *squares;            /* (items,): sums of the squares of grad; zeros on entry */
} helix_update;

/* Matrix product c = a b. First b is packed; items are runs of HELIX_GEMM_STEPS steps. Then c
   is computed; items are blocks, in row_items rows and column_items columns, made of whole units
   of HELIX_GEMM_ROWS x HELIX_GEMM_COLUMNS. Few rows are multiplied without packing; items are runs
   of HELIX_GEMM_FEW_COLUMNS columns, and if b_column is not 1, a_step and b_step are. */
enum {
    HELIX_GEMM_ROWS = 12,
    HELIX_GEMM_COLUMNS = 32,
    HELIX_GEMM_STEPS = 64,
    HELIX_GEMM_DEPTH = 256, /* steps after which sums are added to c */
    HELIX_GEMM_FEW_COLUMNS = 256,
};

typedef struct {
    ptrdiff_t rows, columns, steps;
    const void *a, *b;
    ptrdiff_t a_row, a_step, b_step, b_column; /* strides */
    void *packed;               /* (steps, columns in whole units) */
    void *c;
    ptrdiff_t c_row;            /* the columns of c are contiguous */
    int add;                    /* c += a b */
    ptrdiff_t row_items, column_items;
    int split;                  /* by AMX: multiply lower parts too */

    /* Once the sums are complete, if `finish`: c = activation(c + bias). */
    int finish, activation;
    const void *bias;           /* (columns,) or NULL */
    void *before;               /* laid out as c, or NULL: what the activation is given */
} helix_gemm;

/* The same two parts by the tiles of AMX, of float32, with steps packed in whole units of 32; and
   whether this processor and system have them. */
int helix_gemm_amx_pack(const void *call, ptrdiff_t first, ptrdiff_t last);
int helix_gemm_amx(const void *call, ptrdiff_t first, ptrdiff_t last);
int helix_has_amx(void);

enum helix_activation { HELIX_IDENTITY, HELIX_SILU, HELIX_RELU, HELIX_GELU };

/* Products of matrices alike in sizes and strides; items are products. Offsets in bytes. */
typedef struct {
    helix_gemm each;            /* the first; nothing packed, column_items 1 */
    const ptrdiff_t *a_offsets, *b_offsets;
    ptrdiff_t c_bytes;          /* from one c to the next */
} helix_gemm_stack;

/* A matrix in C order as it is stored: entry (i, j) stands for scale[i] data[i, j]. */
enum helix_storage { HELIX_REAL, HELIX_BFLOAT16, HELIX_INT8 };

typedef struct {
    ptrdiff_t rows, columns;
    int storage;                /* a helix_storage */
    const void *data;
    const void *scale, *bias;   /* (rows,) or NULL; the bias is added to products */
} helix_matrix;

/* Products of a stored matrix with few vectors; items are runs of HELIX_STORED_ROWS of its rows. */
enum { HELIX_STORED_ROWS = 16 };

typedef struct {
    helix_matrix matrix;
    ptrdiff_t count;
    const void *x;              /* (count, columns) */
    void *y;                    /* (count, rows) */
} helix_stored_linear;

/* One step of Mamba's mixer for a few sequences, in four parts, each done before the next; items
   are runs of HELIX_STORED_ROWS channels (enter, scan), rows of x_proj (select) or of out_proj
   (leave). */
typedef struct {
    ptrdiff_t batch, channels, states, taps, rank;
    helix_matrix in_proj, x_proj, dt_proj, out_proj;
    const void *x;                      /* (b, columns of in_proj) */
    const void *past, *state;           /* (b, d, taps - 1), (b, d, n) */
    const void *conv_weight, *conv_bias; /* (d, taps); (d,) or NULL */
    const void *A_log, *D;              /* (d, n), (d,) */
    void *inner;                        /* (b, 2 d): u, and silu(z) */
    void *selected;                     /* (b, rank + 2 n): of dt, B, C */
    void *mixed;                        /* (b, d): steps, then what out_proj reads */
    void *y, *next_past, *next_state;
} helix_mamba_step;

/* The kernels, each given a pointer to the struct of its family: KERNEL(name, variant). */
#define HELIX_EACH_KERNEL(KERNEL, variant)                                                  \
    KERNEL(scan_forward, variant)                                                           \
    KERNEL(scan_backward, variant)                                                          \
    KERNEL(conv_forward, variant)                                                           \
    KERNEL(conv_backward, variant)                                                          \
    KERNEL(conv_time_forward, variant)                                                      \
    KERNEL(conv_time_backward, variant)                                                     \
    KERNEL(norm_forward, variant)                                                           \
    KERNEL(norm_backward, variant)                                                          \
    KERNEL(softmax_forward, variant)                                                        \
    KERNEL(softmax_backward, variant)                                                       \
    KERNEL(attention_forward, variant)                                                      \
    KERNEL(attention_queries, variant)                                                      \
    KERNEL(attention_keys, variant)                                                         \
    KERNEL(ssd_forward, variant)                                                            \
    KERNEL(ssd_backward, variant)                                                           \
    KERNEL(fft_conv_table, variant)                                                         \
    KERNEL(fft_conv_forward, variant)                                                       \
    KERNEL(fft_conv_backward, variant)                                                      \
    KERNEL(map, variant)                                                                    \
    KERNEL(loss_forward, variant)                                                           \
    KERNEL(loss_backward, variant)                                                          \
    KERNEL(copy, variant)                                                                   \
    KERNEL(sum, variant)                                                                    \
    KERNEL(gather, variant)                                                                 \
    KERNEL(scatter, variant)                                                                \
    KERNEL(linear_scan_channels, variant)                                                   \
    KERNEL(linear_scan_lines, variant)                                                      \
    KERNEL(complex_scan_channels, variant)                                                  \
    KERNEL(complex_scan_lines, variant)                                                     \
    KERNEL(philox, variant)                                                                 \
    KERNEL(drop, variant)                                                                   \
    KERNEL(adamw, variant)                                                                  \
    KERNEL(sgd, variant)                                                                    \
    KERNEL(scale, variant)                                                                  \
    KERNEL(squares, variant)                                                                \
    KERNEL(gemm_pack, variant)                                                              \
    KERNEL(gemm, variant)                                                                   \
    KERNEL(gemm_stack, variant)                                                             \
    KERNEL(gemm_few_rows, variant)                                                          \
    KERNEL(stored_linear, variant)                                                          \
    KERNEL(mamba_step_enter, variant)                                                       \
    KERNEL(mamba_step_select, variant)                                                      \
    KERNEL(mamba_step_scan, variant)                                                        \
    KERNEL(mamba_step_leave, variant)

#define HELIX_MEMBER(name, variant) helix_work name;

/* One table per instruction set and dtype. */
typedef struct {
    HELIX_EACH_KERNEL(HELIX_MEMBER, )
} helix_table;

/* Names of the instruction sets compiled in and runnable here, best first, NULL at the end. */
const char *const *helix_instruction_sets(void);

/* The names of all helix_functions in order, NULL at the end. */
const char *const *helix_function_names(void);

/* The kernels of one of these, for float (0) or double (1). */
const helix_table *helix_kernels(const char *instruction_set, int is_double);

#endif
