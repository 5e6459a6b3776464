"""The C side of the kernels, as kernels.h declares it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from *:
    Py_ssize_t PY_SSIZE_T_MAX


cdef extern from "pool.h" nogil:
    ctypedef int (*helix_work)(const void *, Py_ssize_t, Py_ssize_t)
    int helix_parallel_for(helix_work, const void *, Py_ssize_t, Py_ssize_t)
    void helix_set_threads(int)
    int helix_pool_size()


cdef extern from "blocks.h":
    int HELIX_SMALLEST_BLOCK

    ctypedef struct helix_block_statistics:
        size_t in_use, peak, cached, budget
        uint64_t taken, reused

    void *helix_take_block(size_t)
    void helix_give_block(void *)
    void helix_empty_cache()
    void helix_set_block_budget(size_t)
    helix_block_statistics helix_block_usage()


cdef extern from "kernels.h" nogil:
    int HELIX_NO_MEMORY
    int HELIX_IDENTITY, HELIX_SILU, HELIX_RELU, HELIX_GELU
    int HELIX_BAD_TARGET
    int HELIX_SCAN_STEPS
    int HELIX_CONV_STEPS
    int HELIX_ATTENTION_ROWS
    int HELIX_SSD_STEPS
    int HELIX_FFT_LEAST, HELIX_FFT_ROOM
    int HELIX_COPY_RUN
    int HELIX_BAD_INDEX, HELIX_SCATTER_COLUMNS
    int HELIX_SCAN_LINES
    int HELIX_PHILOX_RUN
    int HELIX_UPDATE_RUN
    int HELIX_MAP_RUN
    int HELIX_GEMM_ROWS
    int HELIX_GEMM_COLUMNS
    int HELIX_GEMM_STEPS
    int HELIX_GEMM_DEPTH
    int HELIX_GEMM_FEW_COLUMNS
    int HELIX_REAL, HELIX_BFLOAT16, HELIX_INT8
    int HELIX_STORED_ROWS

    ctypedef struct helix_rows:
        void *data
        Py_ssize_t batch_stride, group_stride, step_stride, channel_stride

    ctypedef struct helix_scan:
        Py_ssize_t batch, length, channels, states, groups, parts
        int softplus, fixed_B, fixed_C
        helix_rows u, delta, z, y, B, C
        const void *A_log2
        const void *D
        const void *bias
        void *chunk_states
        helix_rows g, du, ddelta, dz
        void *dA
        void *dD
        void *dbias
        void *dB
        void *dC
        void *dstate

    ctypedef struct helix_conv:
        Py_ssize_t batch, length, channels, taps
        int silu
        helix_rows x, y, past
        const void *weight
        const void *bias
        helix_rows g, dx, dpast
        void *dweight
        void *dbias

    ctypedef struct helix_norm:
        Py_ssize_t rows, size, rows_in_item
        int centred
        double eps
        helix_rows x, residual, y, total
        const void *weight
        const void *bias
        void *mean
        void *scale
        helix_rows g, g_total, dx
        void *dweight
        void *dbias

    ctypedef struct helix_softmax:
        Py_ssize_t rows, size
        int logarithm
        helix_rows x, y, g, dx

    ctypedef struct helix_attention:
        Py_ssize_t batch, heads, kv_heads, queries, keys, width, value_width
        Py_ssize_t first_key, last_key
        double scale
        helix_rows q, k, v, y
        void *log_sums
        helix_rows g, dq, dk, dv
        void *means

    ctypedef struct helix_ssd:
        Py_ssize_t batch, length, heads, groups, width, states, chunk
        helix_rows x, y, B, C
        const void *dt
        const void *A
        const void *D
        void *chunk_states
        helix_rows g, dx, dB, dC
        void *ddt
        void *dA
        void *dD
        void *dstate

    ctypedef struct helix_fft_conv:
        Py_ssize_t batch, channels, length, taps, size, rows_in_item
        void *table
        helix_rows u, gate, y, k
        const void *bias
        helix_rows g, du, dgate
        void *dk

    ctypedef struct helix_map:
        Py_ssize_t rows, size
        int function
        helix_rows x, y
        int single_x, single_y
        helix_rows out, g, out_y

    ctypedef struct helix_loss:
        Py_ssize_t rows, classes
        helix_rows logits
        const int64_t *target
        int ignores
        int64_t ignore_index
        double smoothing
        void *losses
        void *top
        void *sum
        const void *g
        helix_rows dlogits

    ctypedef struct helix_copy:
        Py_ssize_t rows, size
        helix_rows from_ "from"
        helix_rows to

    ctypedef struct helix_sum:
        Py_ssize_t rows, size, rows_in_item
        helix_rows x
        void *parts

    ctypedef struct helix_gather:
        Py_ssize_t count, width, size, rows_in_item
        const int64_t *indices
        helix_rows table, rows

    ctypedef struct helix_linear_scan:
        Py_ssize_t batch, length, channels, channels_in_item
        int reverse
        helix_rows a, b, h
        Py_ssize_t a_time
        const void *initial

    ctypedef struct helix_philox:
        Py_ssize_t blocks
        uint32_t key[2]
        uint64_t low
        uint32_t high[2]
        uint32_t *words
        Py_ssize_t size
        const void *x
        void *y
        uint32_t threshold
        double scale

    ctypedef struct helix_leaf:
        Py_ssize_t end
        void *param
        const void *grad
        void *m
        void *v

    ctypedef struct helix_update:
        Py_ssize_t count
        const helix_leaf *leaves
        double lr, weight_decay
        double beta1, beta2, eps, correction1, correction2
        double momentum
        int nesterov
        double factor
        double *squares

    ctypedef struct helix_gemm:
        Py_ssize_t rows, columns, steps
        const void *a
        const void *b
        Py_ssize_t a_row, a_step, b_step, b_column
        void *packed
        void *c
        Py_ssize_t c_row
        int add
        Py_ssize_t row_items, column_items
        int split
        int finish, activation
        const void *bias
        void *before

    int helix_gemm_amx_pack(const void *, Py_ssize_t, Py_ssize_t)
    int helix_gemm_amx(const void *, Py_ssize_t, Py_ssize_t)
    int helix_has_amx()

    ctypedef struct helix_gemm_stack:
        helix_gemm each
        const Py_ssize_t *a_offsets
        const Py_ssize_t *b_offsets
        Py_ssize_t c_bytes

    ctypedef struct helix_matrix:
        Py_ssize_t rows, columns
        int storage
        const void *data
        const void *scale
        const void *bias

    ctypedef struct helix_stored_linear:
        helix_matrix matrix
        Py_ssize_t count
        const void *x
        void *y

    ctypedef struct helix_mamba_step:
        Py_ssize_t batch, channels, states, taps, rank
        helix_matrix in_proj, x_proj, dt_proj, out_proj
        const void *x
        const void *past
        const void *state
        const void *conv_weight
        const void *conv_bias
        const void *A_log
        const void *D
        void *inner
        void *selected
        void *mixed
        void *y
        void *next_past
        void *next_state

    ctypedef struct helix_table:
        helix_work scan_forward, scan_backward
        helix_work conv_forward, conv_backward, conv_time_forward, conv_time_backward
        helix_work norm_forward, norm_backward
        helix_work softmax_forward, softmax_backward
        helix_work attention_forward, attention_queries, attention_keys
        helix_work ssd_forward, ssd_backward
        helix_work fft_conv_table, fft_conv_forward, fft_conv_backward
        helix_work map
        helix_work loss_forward, loss_backward
        helix_work copy, sum
        helix_work gather, scatter
        helix_work linear_scan_channels, linear_scan_lines
        helix_work complex_scan_channels, complex_scan_lines
        helix_work philox, drop
        helix_work adamw, sgd, scale, squares
        helix_work gemm_pack, gemm, gemm_stack, gemm_few_rows
        helix_work stored_linear
        helix_work mamba_step_enter, mamba_step_select, mamba_step_scan, mamba_step_leave

    const char *const *helix_instruction_sets()
    const char *const *helix_function_names()
    const helix_table *helix_kernels(const char *, int)


cdef dict functions

cdef const helix_table *table_of(int type_num) noexcept
cdef int check(int failure) except -1
cdef int share(helix_work work, const void *call, Py_ssize_t items, Py_ssize_t grain) except -1
