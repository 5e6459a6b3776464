"""Thin wrappers of the C kernels: arrays become pointers and strides, the GIL is released.

No shapes are checked and no layouts changed here: the Python files beside this one do both.
Each class holds the arguments of one call and references to its arrays, for as long as C may
use them; its methods share the items of the work among threads. Nobody else may change the
arrays meanwhile.
"""

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memset

cnp.import_array()

SCAN_STEPS = HELIX_SCAN_STEPS
CONV_STEPS = HELIX_CONV_STEPS
ATTENTION_ROWS = HELIX_ATTENTION_ROWS
SSD_STEPS = HELIX_SSD_STEPS
FFT_LEAST = HELIX_FFT_LEAST
FFT_ROOM = HELIX_FFT_ROOM
SCATTER_COLUMNS = HELIX_SCATTER_COLUMNS
SCAN_LINES = HELIX_SCAN_LINES
PHILOX_RUN = HELIX_PHILOX_RUN
UPDATE_RUN = HELIX_UPDATE_RUN
GEMM_ROWS = HELIX_GEMM_ROWS
GEMM_COLUMNS = HELIX_GEMM_COLUMNS
GEMM_STEPS = HELIX_GEMM_STEPS
GEMM_DEPTH = HELIX_GEMM_DEPTH
GEMM_FEW_COLUMNS = HELIX_GEMM_FEW_COLUMNS
STORED_ROWS = HELIX_STORED_ROWS


# Instruction sets

cdef const helix_table *_tables[2]
cdef object _in_use = None


def instruction_sets():
    """Return the names of the instruction sets that this CPU runs, best first."""
    cdef const char *const *names = helix_instruction_sets()
    found = []
    while names[0] != NULL:
        found.append((<bytes>names[0]).decode())
        names += 1
    return found


def use_instruction_set(name):
    """Take the kernels of one of `instruction_sets()` from now on."""
    global _in_use
    if name not in instruction_sets():
        raise ValueError(f"use_instruction_set: {name!r} is not one of {instruction_sets()}.")
    _tables[0] = helix_kernels(name.encode(), 0)
    _tables[1] = helix_kernels(name.encode(), 1)
    _in_use = name


def instruction_set():
    """Return the name of the instruction set in use."""
    return _in_use


use_instruction_set(instruction_sets()[0])


HAS_AMX = bool(helix_has_amx())


# Threads

def set_threads(int threads):
    """Let every call use so many threads, the calling one included."""
    helix_set_threads(threads)


def pool_size():
    """Return the number of the pool's threads that are running."""
    return helix_pool_size()


# Memory

SMALLEST_BLOCK = HELIX_SMALLEST_BLOCK


cdef class Block:
    """Memory from the cache of blocks, given back when the last array over it is gone."""

    cdef void *data

    def __dealloc__(self):
        if self.data != NULL:
            helix_give_block(self.data)


def empty(shape, cnp.dtype dtype):
    """Return an array of unset elements in C order; a large one lies in a `Block`.

    ``shape`` is a tuple of sizes, ``dtype`` a number's, without subarrays or fields.
    """
    cdef cnp.npy_intp sizes[64]
    cdef size_t count = dtype.itemsize
    cdef int rank = len(shape)
    cdef Block block
    cdef cnp.ndarray array
    cdef bint fits = True
    for axis in range(rank):
        sizes[axis] = shape[axis]
        fits = fits and (sizes[axis] == 0 or count <= <size_t>PY_SSIZE_T_MAX / sizes[axis])
        count *= <size_t>sizes[axis]
    if count < HELIX_SMALLEST_BLOCK and fits:
        return cnp.PyArray_EMPTY(rank, sizes, dtype.type_num, 0)
    block = Block.__new__(Block)
    if fits:
        block.data = helix_take_block(count)
    if block.data == NULL:
        raise MemoryError(f"no memory for an array of shape {shape}, {dtype}: {count} bytes.")
    array = cnp.PyArray_SimpleNewFromData(rank, sizes, dtype.type_num, block.data)
    cnp.set_array_base(array, block)
    return array


def memory():
    """Return what the cache of blocks holds and did, in bytes and blocks."""
    return helix_block_usage()


def empty_cache():
    """Return all memory that is not in use to the system."""
    helix_empty_cache()


def set_memory_budget(size_t size):
    """Keep at most so many bytes that are not in use."""
    helix_set_block_budget(size)


# Arrays

cdef void *_data(object array) except? NULL:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray?>array)


cdef helix_rows _rows(object array) except *:
    """Describe (l, d), (b, l, d) or (b, g, l, d), or nothing.

    The last axis is contiguous; for some kernels it may be the one before instead.
    """
    cdef helix_rows rows = helix_rows(NULL, 0, 0, 0, 1)
    if array is None:
        return rows
    strides = [stride // array.itemsize for stride in array.strides]
    rows.data = _data(array)
    rows.step_stride = strides[len(strides) - 2]
    if array.shape[array.ndim - 1] > 1:
        rows.channel_stride = strides[len(strides) - 1]
    if array.ndim > 2:
        rows.batch_stride = strides[0]
    if array.ndim > 3:
        rows.group_stride = strides[1]
    return rows


def dense(arrays):
    """Return the arrays as a list, with a copy of each that is not aligned and in C order."""
    cdef cnp.ndarray array
    found = []
    for array in arrays:
        if not cnp.PyArray_IS_C_CONTIGUOUS(array) or not cnp.PyArray_ISALIGNED(array):
            copy = empty((<object>array).shape, array.dtype)
            cnp.PyArray_CopyInto(copy, array)
            array = copy
        found.append(array)
    return found


cdef const helix_table *_table(object array) except NULL:
    return _tables[1 if array.itemsize == 8 else 0]


cdef const helix_table *table_of(int type_num) noexcept:
    """Return the kernels in use for NumPy's number of float32 or float64."""
    return _tables[1 if type_num == cnp.NPY_DOUBLE else 0]


cdef int check(int failure) except -1:
    if failure == HELIX_NO_MEMORY:
        raise MemoryError("kernel: no memory for its workspace.")
    if failure == HELIX_BAD_TARGET:
        raise IndexError("cross_entropy: a target is no class.")
    if failure == HELIX_BAD_INDEX:
        raise IndexError("take or scatter_add: an index is out of range.")
    return 0


cdef int share(helix_work work, const void *call, Py_ssize_t items, Py_ssize_t grain) except -1:
    cdef int failure
    with nogil:
        failure = helix_parallel_for(work, call, items, grain)
    return check(failure)


# Functions of map.c by name

cdef dict functions = {}


def _name_functions():
    cdef const char *const *names = helix_function_names()
    while names[len(functions)] != NULL:
        functions[(<bytes>names[len(functions)]).decode()] = len(functions)


_name_functions()


# Kernels: see the struct of the same name in kernels.h for what the arguments are.

cdef class Call:
    """The arguments of one call of a kernel, and references to the arrays that they point to.

    A subclass has the kernel's struct. ``work`` is what the kernel does, ``pull`` what is done
    for the gradients.
    """

    cdef const helix_table *table
    cdef const void *arguments
    cdef list arrays
    cdef helix_work work, pull

    cdef int hold(self, const void *arguments, object typed, list arrays) except -1:
        """Keep the arrays, and take the functions for the dtype of ``typed``."""
        self.arguments, self.table, self.arrays = arguments, _table(typed), arrays
        return 0

    def run(self, Py_ssize_t items, Py_ssize_t grain):
        """Do all items, in ranges of at most ``grain``."""
        share(self.work, self.arguments, items, grain)

    def backward(self, Py_ssize_t items, Py_ssize_t grain):
        """Do all items of the gradients, in ranges of at most ``grain``."""
        share(self.pull, self.arguments, items, grain)


cdef class Scan(Call):
    """One selective scan."""

    cdef helix_scan call

    def __init__(self, sizes, softplus, u, delta, z, y, A_log2, B, C, D, bias, chunk_states):
        cdef helix_scan *s = &self.call
        self.hold(s, u, [u, delta, z, y, A_log2, B, C, D, bias, chunk_states])
        self.work, self.pull = self.table.scan_forward, self.table.scan_backward
        s.batch, s.length, s.channels, s.states, s.groups, s.parts = sizes
        s.softplus, s.fixed_B, s.fixed_C = softplus, B.ndim == 2, C.ndim == 2
        s.u, s.delta, s.z, s.y = _rows(u), _rows(delta), _rows(z), _rows(y)
        s.B, s.C = _rows(B), _rows(C)
        s.A_log2, s.D, s.bias = _data(A_log2), _data(D), _data(bias)
        s.chunk_states = _data(chunk_states)

    def set_gradients(self, g, du, ddelta, dz, dA, dB, dC, dD, dbias, dstate):
        """Add what the backward pass reads (g, dstate) and writes."""
        cdef helix_scan *s = &self.call
        self.arrays += [g, du, ddelta, dz, dA, dB, dC, dD, dbias, dstate]
        s.g, s.du, s.ddelta, s.dz = _rows(g), _rows(du), _rows(ddelta), _rows(dz)
        s.dA, s.dB, s.dC = _data(dA), _data(dB), _data(dC)
        s.dD, s.dbias, s.dstate = _data(dD), _data(dbias), _data(dstate)


cdef class Conv(Call):
    """One causal convolution, of (b, l, d) or, along contiguous time, of (b, d, l)."""

    cdef helix_conv call

    def __init__(self, along_time, silu, x, weight, bias, past, y):
        cdef helix_conv *c = &self.call
        self.hold(c, x, [x, weight, bias, past, y])
        if along_time:
            self.work, self.pull = self.table.conv_time_forward, self.table.conv_time_backward
            c.batch, c.channels, c.length = x.shape
            c.taps = weight.shape[1]
        else:
            self.work, self.pull = self.table.conv_forward, self.table.conv_backward
            c.batch, c.length, c.channels = x.shape
            c.taps = weight.shape[0]
        c.silu = silu
        c.x, c.y, c.past = _rows(x), _rows(y), _rows(past)
        c.weight, c.bias = _data(weight), _data(bias)

    def set_gradients(self, g, dx, dweight, dbias, dpast):
        """Add what the backward pass reads (g) and writes."""
        cdef helix_conv *c = &self.call
        self.arrays += [g, dx, dweight, dbias, dpast]
        c.g, c.dx, c.dpast = _rows(g), _rows(dx), _rows(dpast)
        c.dweight, c.dbias = _data(dweight), _data(dbias)


cdef class Norm(Call):
    """One normalisation, by root mean square or, with an array of means, by mean and variance."""

    cdef helix_norm call

    def __init__(self, rows_in_item, eps, x, weight, mean, scale):
        cdef helix_norm *n = &self.call
        self.hold(n, x, [x, weight, mean, scale])
        self.work, self.pull = self.table.norm_forward, self.table.norm_backward
        n.rows, n.size = x.shape
        n.rows_in_item, n.eps, n.centred = rows_in_item, eps, mean is not None
        n.x, n.weight, n.mean, n.scale = _rows(x), _data(weight), _data(mean), _data(scale)

    def set_outputs(self, bias, residual, total, y):
        """Add what else the forward pass reads (bias, residual) and writes."""
        cdef helix_norm *n = &self.call
        self.arrays += [bias, residual, total, y]
        n.bias, n.residual, n.total, n.y = _data(bias), _rows(residual), _rows(total), _rows(y)

    def set_gradients(self, g, g_total, dx, dweight, dbias):
        """Add what the backward pass reads (g, g_total) and writes."""
        cdef helix_norm *n = &self.call
        self.arrays += [g, g_total, dx, dweight, dbias]
        n.g, n.g_total, n.dx = _rows(g), _rows(g_total), _rows(dx)
        n.dweight, n.dbias = _data(dweight), _data(dbias)


cdef class Softmax(Call):
    """One softmax, or its logarithm."""

    cdef helix_softmax call

    def __init__(self, logarithm, x, y, g, dx):
        cdef helix_softmax *s = &self.call
        self.hold(s, y, [x, y, g, dx])
        self.work, self.pull = self.table.softmax_forward, self.table.softmax_backward
        s.rows, s.size = y.shape
        s.logarithm = logarithm
        s.x, s.y, s.g, s.dx = _rows(x), _rows(y), _rows(g), _rows(dx)


cdef class Attention(Call):
    """One attention, of arrays (b, heads, rows, width)."""

    cdef helix_attention call

    def __init__(self, first_key, last_key, scale, q, k, v, y, log_sums):
        cdef helix_attention *a = &self.call
        self.hold(a, q, [q, k, v, y, log_sums])
        self.work = self.table.attention_forward
        a.batch, a.heads, a.queries, a.width = q.shape
        a.kv_heads, a.keys, a.value_width = v.shape[1:]
        a.first_key, a.last_key, a.scale = first_key, last_key, scale
        a.q, a.k, a.v, a.y = _rows(q), _rows(k), _rows(v), _rows(y)
        a.log_sums = _data(log_sums)

    def set_gradients(self, g, dq, dk, dv, means):
        """Add what the backward pass reads (g) and writes."""
        cdef helix_attention *a = &self.call
        self.arrays += [g, dq, dk, dv, means]
        a.g, a.dq, a.dk, a.dv, a.means = _rows(g), _rows(dq), _rows(dk), _rows(dv), _data(means)

    def pull_queries(self, Py_ssize_t items, Py_ssize_t grain):
        """Do all items of the gradient of q, in ranges of at most ``grain``."""
        share(self.table.attention_queries, &self.call, items, grain)

    def pull_keys(self, Py_ssize_t items, Py_ssize_t grain):
        """Do all items of the gradients of k and v, after `pull_queries`."""
        share(self.table.attention_keys, &self.call, items, grain)


cdef class Dual(Call):
    """One state-space duality, of arrays (b, heads | groups, l, width)."""

    cdef helix_ssd call

    def __init__(self, chunk, x, dt, A, B, C, D, y, chunk_states):
        cdef helix_ssd *s = &self.call
        self.hold(s, x, [x, dt, A, B, C, D, y, chunk_states])
        self.work, self.pull = self.table.ssd_forward, self.table.ssd_backward
        s.batch, s.heads, s.length, s.width = x.shape
        s.groups, s.states, s.chunk = B.shape[1], B.shape[3], chunk
        s.x, s.y, s.B, s.C = _rows(x), _rows(y), _rows(B), _rows(C)
        s.dt, s.A, s.D = _data(dt), _data(A), _data(D)
        s.chunk_states = _data(chunk_states)

    def set_gradients(self, g, dx, ddt, dA, dB, dC, dD, dstate):
        """Add what the backward pass reads (g, dstate) and writes."""
        cdef helix_ssd *s = &self.call
        self.arrays += [g, dx, ddt, dA, dB, dC, dD, dstate]
        s.g, s.dx, s.dB, s.dC = _rows(g), _rows(dx), _rows(dB), _rows(dC)
        s.ddt, s.dA, s.dD, s.dstate = _data(ddt), _data(dA), _data(dD), _data(dstate)


cdef class FFTConv(Call):
    """One long convolution, of (b, d, l) with (d, m)."""

    cdef helix_fft_conv call

    def __init__(self, size, rows_in_item, constants, u, k, bias, gate, y):
        cdef helix_fft_conv *c = &self.call
        self.hold(c, u, [constants, u, k, bias, gate, y])
        self.work, self.pull = self.table.fft_conv_forward, self.table.fft_conv_backward
        c.batch, c.channels, c.length = u.shape
        c.taps, c.size, c.rows_in_item = k.shape[1], size, rows_in_item
        c.table = _data(constants)
        c.u, c.k, c.gate, c.y = _rows(u), _rows(k), _rows(gate), _rows(y)
        c.bias = _data(bias)

    def set_gradients(self, g, du, dgate, dk):
        """Add what the backward pass reads (g) and writes."""
        cdef helix_fft_conv *c = &self.call
        self.arrays += [g, du, dgate, dk]
        c.g, c.du, c.dgate, c.dk = _rows(g), _rows(du), _rows(dgate), _data(dk)


def fill_fft_constants(size, constants):
    """Write the constants of transforms of so many numbers, for the instruction set in use."""
    cdef helix_fft_conv call
    memset(&call, 0, sizeof(call))
    call.size, call.table = size, _data(constants)
    share(_table(constants).fft_conv_table, &call, 1, 1)


cdef class Loss(Call):
    """One cross entropy."""

    cdef helix_loss call

    def __init__(self, ignore_index, smoothing, logits, target, losses, top, sums):
        cdef helix_loss *c = &self.call
        self.hold(c, logits, [logits, target, losses, top, sums])
        self.work, self.pull = self.table.loss_forward, self.table.loss_backward
        c.rows, c.classes = logits.shape
        c.ignores = ignore_index is not None
        c.ignore_index = ignore_index or 0
        c.smoothing = smoothing
        c.logits, c.target = _rows(logits), <const int64_t *>_data(target)
        c.losses, c.top, c.sum = _data(losses), _data(top), _data(sums)

    def set_gradients(self, g, dlogits):
        """Add what the backward pass reads (g) and writes."""
        self.arrays += [g, dlogits]
        self.call.g, self.call.dlogits = _data(g), _rows(dlogits)


cdef class Map(Call):
    """One function of single elements, of rows; ``out_y`` is a gate's second gradient."""

    cdef helix_map call
    cdef readonly Py_ssize_t items, size

    def __init__(self, name, x, y, g, out, out_y):
        cdef helix_map *m = &self.call
        self.hold(m, out, [x, y, g, out, out_y])
        self.work = self.table.map
        m.rows, m.size = out.shape
        m.function = functions[name]
        m.x, m.y, m.g, m.out, m.out_y = _rows(x), _rows(y), _rows(g), _rows(out), _rows(out_y)
        self.size = out.size
        self.items = m.rows * ((m.size + HELIX_MAP_RUN - 1) // HELIX_MAP_RUN)


cdef class Copy(Call):
    """A copy of rows."""

    cdef helix_copy call
    cdef readonly Py_ssize_t items

    def __init__(self, x, to):
        cdef helix_copy *c = &self.call
        self.hold(c, x, [x, to])
        self.work = self.table.copy
        c.rows, c.size = x.shape
        c.from_, c.to = _rows(x), _rows(to)
        self.items = c.rows * ((c.size + HELIX_COPY_RUN - 1) // HELIX_COPY_RUN)


cdef class Sum(Call):
    """A sum of rows, in parts."""

    cdef helix_sum call

    def __init__(self, rows_in_item, x, parts):
        cdef helix_sum *s = &self.call
        self.hold(s, x, [x, parts])
        self.work = self.table.sum
        s.rows, s.size = x.shape
        s.rows_in_item, s.x, s.parts = rows_in_item, _rows(x), _data(parts)


cdef class Gather(Call):
    """Rows taken from a table or, as for the gradient of that, added to it."""

    cdef helix_gather call

    def __init__(self, indices, table, rows, rows_in_item):
        cdef helix_gather *g = &self.call
        self.hold(g, table, [indices, table, rows])
        self.work, self.pull = self.table.gather, self.table.scatter
        g.count, g.width = rows.shape
        g.size, g.rows_in_item = table.shape[0], rows_in_item
        g.indices = <const int64_t *>_data(indices)
        g.table, g.rows = _rows(table), _rows(rows)


cdef class LinearScan(Call):
    """One linear recurrence, of (batch, l, d) or, with time contiguous, of (d, l).

    Complex numbers come as pairs of reals: 2 d of them are contiguous, or 2 l.
    """

    cdef helix_linear_scan call

    def __init__(self, is_complex, a, b, h, initial, reverse):
        cdef helix_linear_scan *s = &self.call
        self.hold(s, h, [a, b, h, initial])
        cdef const helix_table *table = self.table
        if h.ndim == 3:
            self.work = table.complex_scan_channels if is_complex else table.linear_scan_channels
            s.batch, s.length, s.channels = h.shape
        else:
            self.work = table.complex_scan_lines if is_complex else table.linear_scan_lines
            s.channels, s.length = h.shape
            s.batch, s.a_time = 1, a.shape[1] == h.shape[1]
        s.reverse = reverse
        s.a, s.b, s.h = _rows(a), _rows(b), _rows(h)
        s.initial = _data(initial)

    def set_channels(self, Py_ssize_t channels_in_item):
        """Say how many channels an item has; where time is contiguous, it does not ask."""
        self.call.channels_in_item = channels_in_item


cdef class Philox(Call):
    """Random words from a counter on, of which only the lower 64 bits may move."""

    cdef helix_philox call

    def __init__(self, key, counter, blocks):
        cdef helix_philox *p = &self.call
        p.blocks = blocks
        p.key[0], p.key[1] = key
        p.low = counter & 0xFFFFFFFFFFFFFFFF
        p.high[0], p.high[1] = counter >> 64 & 0xFFFFFFFF, counter >> 96 & 0xFFFFFFFF

    def set_words(self, words):
        """Have the words written, (blocks, 4) of uint32."""
        self.arguments, self.arrays, self.work = &self.call, [words], _tables[0].philox
        self.call.words = <uint32_t *>_data(words)

    def set_drop(self, x, y, threshold, scale):
        """Have x multiplied or dropped into y, both contiguous."""
        cdef helix_philox *p = &self.call
        self.hold(p, x, [x, y])
        self.work = self.table.drop
        p.size, p.threshold, p.scale = x.size, threshold, scale
        p.x, p.y = _data(x), _data(y)


cdef class Update(Call):
    """One step of an optimizer for many arrays, all of one dtype, aligned and in C order.

    What a kernel does not read may be None.
    """

    cdef helix_update call
    cdef helix_leaf *leaves
    cdef readonly Py_ssize_t items, size

    def __init__(self, params, grads, ms, vs):
        cdef helix_leaf *leaf
        cdef cnp.ndarray first
        sized = grads if params is None else params
        cdef Py_ssize_t i, count = len(sized)
        self.hold(&self.call, sized[0], [params, grads, ms, vs])
        self.leaves = <helix_leaf *>PyMem_Malloc(count * sizeof(helix_leaf))
        if self.leaves == NULL:
            raise MemoryError(f"no memory for a list of {count} arrays.")
        for i in range(count):
            leaf = &self.leaves[i]
            first = sized[i]
            self.size += cnp.PyArray_SIZE(first)
            leaf.end = self.size
            leaf.param = NULL if params is None else _data(params[i])
            leaf.grad = NULL if grads is None else _data(grads[i])
            leaf.m = NULL if ms is None else _data(ms[i])
            leaf.v = NULL if vs is None else _data(vs[i])
        self.items = (self.size + HELIX_UPDATE_RUN - 1) // HELIX_UPDATE_RUN
        self.call.count, self.call.leaves = count, self.leaves

    def __dealloc__(self):
        PyMem_Free(self.leaves)

    def set_adamw(self, lr, beta1, beta2, eps, weight_decay, step):
        """Have the arrays stepped by AdamW."""
        cdef helix_update *u = &self.call
        self.work = self.table.adamw
        u.lr, u.beta1, u.beta2, u.eps, u.weight_decay = lr, beta1, beta2, eps, weight_decay
        u.correction1, u.correction2 = 1 / (1 - beta1**step), 1 / (1 - beta2**step)

    def set_sgd(self, lr, momentum, nesterov, weight_decay):
        """Have the arrays stepped by stochastic gradient descent."""
        cdef helix_update *u = &self.call
        self.work = self.table.sgd
        u.lr, u.momentum, u.nesterov, u.weight_decay = lr, momentum, nesterov, weight_decay

    def set_factor(self, factor):
        """Have the parameters multiplied."""
        self.work = self.table.scale
        self.call.factor = factor

    def set_squares(self, squares):
        """Have the sum of each item's squares added to an entry of ``squares``, of float64."""
        self.work = self.table.squares
        self.arrays.append(squares)
        self.call.squares = <double *>_data(squares)


cdef class Gemm(Call):
    """One product of matrices, c = a b: `pack` all of b, then `run`."""

    cdef helix_gemm call
    cdef helix_work packing

    def __init__(self, a, b, packed, c, add=False, row_items=1, column_items=1):
        cdef helix_gemm *g = &self.call
        self.hold(g, c, [a, b, packed, c])
        self.work, self.packing = self.table.gemm, self.table.gemm_pack
        g.rows, g.columns, g.steps = c.shape[0], c.shape[1], b.shape[0]
        g.add = add
        g.a, g.b, g.packed, g.c = _data(a), _data(b), _data(packed), _data(c)
        g.a_row, g.a_step = (stride // a.itemsize for stride in a.strides)
        g.b_step, g.b_column = (stride // b.itemsize for stride in b.strides)
        g.c_row = c.strides[0] // c.itemsize
        g.row_items, g.column_items = row_items, column_items

    def use_tiles(self, bint split):
        """Have AMX do it, in products of bfloat16, of lower parts too if ``split``."""
        self.work, self.packing = helix_gemm_amx, helix_gemm_amx_pack
        self.call.split = split

    def finish(self, activation, bias, before):
        """Have the complete sums turned into activation(c + bias); see `helix_gemm`."""
        cdef helix_gemm *g = &self.call
        self.arrays += [bias, before]
        g.finish = True
        g.activation = {
            None: HELIX_IDENTITY, "gelu": HELIX_GELU, "relu": HELIX_RELU, "silu": HELIX_SILU,
        }[activation]
        g.bias, g.before = _data(bias), _data(before)

    def pack(self, Py_ssize_t items, Py_ssize_t grain):
        """Do all items of packing b, in ranges of at most ``grain``."""
        share(self.packing, &self.call, items, grain)

    def multiply_few_rows(self, Py_ssize_t items, Py_ssize_t grain):
        """Do all items of c, which has few rows, b unpacked, in ranges of at most ``grain``."""
        share(self.table.gemm_few_rows, &self.call, items, grain)

    def multiply_stack(self, a_offsets, b_offsets, Py_ssize_t items, Py_ssize_t grain):
        """Do all items of a stack of products, of which this is the first.

        The offsets, of int64, say in bytes how far from the first a and b the others are; the
        products lie one after the other.
        """
        cdef helix_gemm_stack stack
        stack.each = self.call
        stack.a_offsets = <Py_ssize_t *>_data(a_offsets)
        stack.b_offsets = <Py_ssize_t *>_data(b_offsets)
        stack.c_bytes = self.arrays[3].nbytes
        share(self.table.gemm_stack, &stack, items, grain)


cdef helix_matrix _matrix(object weight, object scale, object bias) except *:
    """Describe a matrix in C order of the call's floats, of bfloat16 or of int8."""
    cdef helix_matrix m
    m.rows, m.columns = weight.shape
    m.storage = {1: HELIX_INT8, 2: HELIX_BFLOAT16}.get(weight.itemsize, HELIX_REAL)
    m.data, m.scale, m.bias = _data(weight), _data(scale), _data(bias)
    return m


cdef Py_ssize_t _runs(Py_ssize_t rows) noexcept:
    """Return how many items so many rows of a stored matrix make."""
    return (rows + HELIX_STORED_ROWS - 1) // HELIX_STORED_ROWS


cdef class StoredLinear(Call):
    """Products of one stored matrix with a few vectors."""

    cdef helix_stored_linear call

    def __init__(self, x, weight, scale, bias, y):
        cdef helix_stored_linear *s = &self.call
        self.hold(s, x, [x, weight, scale, bias, y])
        self.work = self.table.stored_linear
        s.matrix, s.count = _matrix(weight, scale, bias), x.shape[0]
        s.x, s.y = _data(x), _data(y)


cdef class MambaStep(Call):
    """One step of a Mamba mixer; all arrays are in C order."""

    cdef helix_mamba_step call

    def __init__(
        self, x, past, state, in_proj, conv_weight, x_proj, dt_proj, A_log, D, out_proj,
        in_bias, conv_bias, dt_bias, out_bias, in_scale, x_scale, dt_scale, out_scale,
    ):
        cdef helix_mamba_step *s = &self.call
        self.hold(s, x, [
            x, past, state, in_proj, conv_weight, x_proj, dt_proj, A_log, D, out_proj,
            in_bias, conv_bias, dt_bias, out_bias, in_scale, x_scale, dt_scale, out_scale,
        ])
        s.batch, s.channels, s.states = state.shape
        s.taps, s.rank = conv_weight.shape[1], dt_proj.shape[1]
        s.in_proj = _matrix(in_proj, in_scale, in_bias)
        s.x_proj = _matrix(x_proj, x_scale, None)
        s.dt_proj = _matrix(dt_proj, dt_scale, dt_bias)
        s.out_proj = _matrix(out_proj, out_scale, out_bias)
        s.x, s.past, s.state = _data(x), _data(past), _data(state)
        s.conv_weight, s.conv_bias = _data(conv_weight), _data(conv_bias)
        s.A_log, s.D = _data(A_log), _data(D)

    def run_parts(self, inner, selected, mixed, y, next_past, next_state, bint shared):
        """Do all four parts, whose items threads share if that is so."""
        cdef helix_mamba_step *s = &self.call
        cdef const helix_table *table = self.table
        cdef Py_ssize_t channels = _runs(s.channels), grain = 1 if shared else PY_SSIZE_T_MAX
        self.arrays += [inner, selected, mixed, y, next_past, next_state]
        s.inner, s.selected, s.mixed = _data(inner), _data(selected), _data(mixed)
        s.y, s.next_past, s.next_state = _data(y), _data(next_past), _data(next_state)
        share(table.mamba_step_enter, s, channels, grain)
        share(table.mamba_step_select, s, _runs(s.x_proj.rows), grain)
        share(table.mamba_step_scan, s, channels, grain)
        share(table.mamba_step_leave, s, _runs(s.out_proj.rows), grain)
