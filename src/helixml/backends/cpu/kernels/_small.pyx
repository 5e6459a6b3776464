"""What NumPy's functions do, for arrays so small that its detours cost more than the work.

`broadcast_to` hands on what it cannot take; the others return None where they leave a call to
NumPy. Everything is done on the calling thread. Where kernels are not wanted all calls are left.

Below are fused ops for such arrays, by the same kernels as for others: what their wrappers in
Python do for any layout and any number of threads would take most of the time. These return None
where they leave a call to them.
"""

cimport cython
cimport numpy as cnp
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import numpy as np

from helixml import config

from helixml.backends.cpu.kernels._kernels cimport (
    HELIX_IDENTITY,
    HELIX_RELU,
    check,
    helix_gemm,
    helix_gemm_stack,
    helix_loss,
    helix_rows,
    helix_softmax,
    table_of,
)

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(
        type subtype, cnp.dtype descr, int nd, const cnp.npy_intp *dims,
        const cnp.npy_intp *strides, void *data, int flags, object obj,
    )

cdef enum:
    MOST_AXES = 8
    MOST_SUMMED = 128     # elements: more are added up in an order that keeps their digits
    MOST_JOINED = 1 << 14  # bytes
    MOST_MULTIPLIED = 1 << 18  # multiplications of a product: as in `matmul`
    FEW = 1 << 15          # elements of rows that one thread takes

ctypedef fused number:
    float
    double


cdef inline bint _are_wanted() except -1:
    """Say whether the settings want kernels; they are asked only if they ever did not."""
    return not config.kernels_vary or config.get().kernels


def broadcast_to(x, tuple shape, /):
    """Return a read-only view of ``x`` in a larger shape."""
    cdef cnp.npy_intp sizes[MOST_AXES]
    cdef cnp.npy_intp strides[MOST_AXES]
    cdef cnp.ndarray array, view
    cdef cnp.dtype dtype
    cdef int rank = len(shape), axis, lead
    if not cnp.PyArray_CheckExact(x) or rank > MOST_AXES or not _are_wanted():
        return np.broadcast_to(x, shape)
    array = x
    lead = rank - cnp.PyArray_NDIM(array)
    for axis in range(rank):
        sizes[axis] = shape[axis]
        strides[axis] = 0
        if axis >= lead and cnp.PyArray_DIM(array, axis - lead) != 1:
            if cnp.PyArray_DIM(array, axis - lead) != sizes[axis]:
                lead = -1
                break
            strides[axis] = cnp.PyArray_STRIDE(array, axis - lead)
    if lead < 0:
        return np.broadcast_to(x, shape)  # raises
    dtype = array.dtype
    Py_INCREF(dtype)  # the call takes one
    view = PyArray_NewFromDescr(
        cnp.ndarray, dtype, rank, sizes, strides, cnp.PyArray_DATA(array), 0, None
    )
    cnp.set_array_base(view, array)
    return view


cdef void _add(
    const number *x, number *out, Py_ssize_t outer, Py_ssize_t count, Py_ssize_t inner
) noexcept nogil:
    """Write the sums of (outer, count, inner) over its middle axis; those of rows in four parts."""
    cdef Py_ssize_t i, j, k
    cdef number parts[4]
    for i in range(outer):
        if inner == 1:
            parts[0] = parts[1] = parts[2] = parts[3] = 0
            for j in range(count):
                parts[j & 3] += x[i * count + j]
            out[i] = (parts[0] + parts[1]) + (parts[2] + parts[3])
            continue
        for k in range(inner):
            out[i * inner + k] = 0
        for j in range(i * count, (i + 1) * count):
            for k in range(inner):
                out[i * inner + k] += x[j * inner + k]


@cython.cdivision(True)
def total(x, tuple axis, bint keepdims):
    """Return the sum over neighbouring axes, counted from 0, of float32 or float64 in C order."""
    cdef cnp.npy_intp sizes[MOST_AXES]
    cdef cnp.ndarray array, out
    cdef Py_ssize_t outer = 1, count = 1, inner = 1, size
    cdef int rank, first, last, i, kept = 0, kind
    if not cnp.PyArray_CheckExact(x) or not axis:
        return None
    array = x
    rank, kind = cnp.PyArray_NDIM(array), cnp.PyArray_TYPE(array)
    if (
        cnp.PyArray_SIZE(array) > MOST_SUMMED
        or rank > MOST_AXES
        or (kind != cnp.NPY_FLOAT and kind != cnp.NPY_DOUBLE)
        or not cnp.PyArray_ISCARRAY_RO(array)
        or not _are_wanted()
    ):
        return None
    first, last = axis[0], axis[len(axis) - 1]
    if last - first + 1 != len(axis):
        return None
    for i in range(rank):
        size = cnp.PyArray_DIM(array, i)
        if i < first:
            outer *= size
        elif i > last:
            inner *= size
        else:
            count *= size
            if not keepdims:
                continue
            size = 1
        sizes[kept] = size
        kept += 1
    out = cnp.PyArray_EMPTY(kept, sizes, kind, 0)
    if kind == cnp.NPY_FLOAT:
        _add(<const float *>cnp.PyArray_DATA(array), <float *>cnp.PyArray_DATA(out),
             outer, count, inner)
    else:
        _add(<const double *>cnp.PyArray_DATA(array), <double *>cnp.PyArray_DATA(out),
             outer, count, inner)
    return out


def join(arrays, int axis, bint new_axis):
    """Return arrays of one dtype, in C order, behind each other; along a new axis if it is so."""
    cdef cnp.npy_intp sizes[MOST_AXES]
    cdef cnp.ndarray first, array, out
    cdef Py_ssize_t before = 1, after, bytes_before = 0, part, row, joined = 0
    cdef int rank, kind, i
    cdef char *target
    if not arrays or not cnp.PyArray_CheckExact(arrays[0]) or not _are_wanted():
        return None
    first = arrays[0]
    rank, kind = cnp.PyArray_NDIM(first), cnp.PyArray_TYPE(first)
    if rank >= MOST_AXES or not cnp.PyTypeNum_ISNUMBER(kind):
        return None
    for item in arrays:
        if not cnp.PyArray_CheckExact(item):
            return None
        array = item
        if (
            cnp.PyArray_NDIM(array) != rank
            or cnp.PyArray_TYPE(array) != kind
            or not cnp.PyArray_ISCARRAY_RO(array)
        ):
            return None
        for i in range(rank):
            if cnp.PyArray_DIM(array, i) != cnp.PyArray_DIM(first, i) and (new_axis or i != axis):
                return None
        bytes_before += cnp.PyArray_NBYTES(array)
        joined += 1 if new_axis else cnp.PyArray_DIM(array, axis)
    if bytes_before > MOST_JOINED:
        return None
    for i in range(rank + new_axis):
        if i < axis:
            sizes[i] = cnp.PyArray_DIM(first, i)
            before *= sizes[i]
        elif i == axis:
            sizes[i] = joined
        else:
            sizes[i] = cnp.PyArray_DIM(first, i - new_axis)
    out = cnp.PyArray_EMPTY(rank + new_axis, sizes, kind, 0)
    if before == 0:
        return out
    target = cnp.PyArray_BYTES(out)
    after = bytes_before // before
    for array in arrays:
        part = cnp.PyArray_NBYTES(array) // before
        for row in range(before):
            memcpy(target + row * after, cnp.PyArray_BYTES(array) + row * part, part)
        target += part
    return out


# Fused ops

cdef inline bint _is_plain(object x) noexcept:
    """Say whether x is an array of float32 or float64, aligned, in C order."""
    return (
        cnp.PyArray_CheckExact(x)
        and (cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT or cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE)
        and cnp.PyArray_ISCARRAY_RO(x)
    )


cdef cnp.ndarray _like(cnp.ndarray x):
    return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)


cdef helix_rows _rows(cnp.ndarray x, Py_ssize_t size) noexcept:
    return helix_rows(cnp.PyArray_DATA(x), 0, 0, size, 1)


def softmax(x, bint logarithm):
    """Return the softmax over the last axis, or its logarithm."""
    cdef helix_softmax s
    cdef cnp.ndarray array, y
    cdef Py_ssize_t size
    if not _is_plain(x) or cnp.PyArray_SIZE(x) >= FEW:
        return None
    array = x
    y = _like(array)
    size = cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1)
    memset(&s, 0, sizeof(s))
    s.rows, s.size, s.logarithm = cnp.PyArray_SIZE(array) // size, size, logarithm
    s.x, s.y = _rows(array, size), _rows(y, size)
    check(table_of(cnp.PyArray_TYPE(array)).softmax_forward(&s, 0, s.rows))
    return y


cdef int _multiply(
    int kind, void *a, Py_ssize_t a_row, Py_ssize_t a_step,
    void *b, Py_ssize_t b_step, Py_ssize_t b_column, void *c,
    Py_ssize_t rows, Py_ssize_t steps, Py_ssize_t columns, int activation, void *bias,
) except -1:
    """Write activation(a b + bias) to c in C order; strides are in elements."""
    cdef helix_gemm_stack stack
    cdef helix_gemm *g = &stack.each
    cdef Py_ssize_t offset = 0
    memset(&stack, 0, sizeof(stack))
    stack.a_offsets = stack.b_offsets = &offset
    g.rows, g.columns, g.steps = rows, columns, steps
    g.a, g.a_row, g.a_step = a, a_row, a_step
    g.b, g.b_step, g.b_column = b, b_step, b_column
    g.c, g.c_row = c, columns
    g.row_items = g.column_items = 1
    if bias != NULL or activation != HELIX_IDENTITY:
        g.finish, g.activation, g.bias = True, activation, bias
    return check(table_of(kind).gemm_stack(&stack, 0, 1))


cdef bint _are_few(x, weight) noexcept:
    """Say whether x @ weight.T is a small product, of plain arrays of one dtype."""
    cdef Py_ssize_t size
    if not (_is_plain(x) and _is_plain(weight)) or cnp.PyArray_NDIM(x) < 2:
        return False
    size = cnp.PyArray_SIZE(x)
    return (
        cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(weight)
        and 0 < size * cnp.PyArray_DIM(weight, 0) < MOST_MULTIPLIED
    )


def linear(x, weight, bias, bint relu):
    """Return x @ weight.T + bias, of which relu."""
    cdef cnp.npy_intp sizes[MOST_AXES]
    cdef cnp.ndarray y
    cdef Py_ssize_t rows, steps, columns
    cdef int rank, kind, i
    if not _are_few(x, weight) or not (bias is None or _is_plain(bias)):
        return None
    rank, kind = cnp.PyArray_NDIM(x), cnp.PyArray_TYPE(x)
    if rank > MOST_AXES:
        return None
    columns, steps = cnp.PyArray_DIM(weight, 0), cnp.PyArray_DIM(weight, 1)
    rows = cnp.PyArray_SIZE(x) // steps
    for i in range(rank - 1):
        sizes[i] = cnp.PyArray_DIM(x, i)
    sizes[rank - 1] = columns
    y = cnp.PyArray_EMPTY(rank, sizes, kind, 0)
    _multiply(
        kind, cnp.PyArray_DATA(x), steps, 1, cnp.PyArray_DATA(weight), 1, steps,
        cnp.PyArray_DATA(y), rows, steps, columns, HELIX_RELU if relu else HELIX_IDENTITY,
        NULL if bias is None else cnp.PyArray_DATA(bias),
    )
    return y


cdef void _mask(const number *g, const number *y, number *out, Py_ssize_t size) noexcept nogil:
    """Write g where y is not 0 or less."""
    cdef Py_ssize_t i
    for i in range(size):
        out[i] = 0 if y[i] <= 0 else g[i]


def linear_vjp(g, x, weight, y, needs):
    """Return the gradients of x, weight and bias; ``y`` is None, or the output of a relu."""
    cdef cnp.npy_intp sizes[1]
    cdef cnp.ndarray masked, dx = None, dweight = None, dbias = None
    cdef Py_ssize_t rows, steps, columns
    cdef int kind
    if not _are_few(x, weight) or not _is_plain(g) or not (y is None or _is_plain(y)):
        return None
    kind = cnp.PyArray_TYPE(x)
    if cnp.PyArray_TYPE(g) != kind:
        return None
    columns, steps = cnp.PyArray_DIM(weight, 0), cnp.PyArray_DIM(weight, 1)
    rows = cnp.PyArray_SIZE(x) // steps
    if y is not None:
        masked = _like(g)
        if kind == cnp.NPY_FLOAT:
            _mask[float](
                <const float *>cnp.PyArray_DATA(g), <const float *>cnp.PyArray_DATA(y),
                <float *>cnp.PyArray_DATA(masked), rows * columns,
            )
        else:
            _mask[double](
                <const double *>cnp.PyArray_DATA(g), <const double *>cnp.PyArray_DATA(y),
                <double *>cnp.PyArray_DATA(masked), rows * columns,
            )
        g = masked
    if needs[0]:
        dx = _like(x)
        _multiply(
            kind, cnp.PyArray_DATA(g), columns, 1, cnp.PyArray_DATA(weight), steps, 1,
            cnp.PyArray_DATA(dx), rows, columns, steps, HELIX_IDENTITY, NULL,
        )
    if needs[1]:
        dweight = _like(weight)
        _multiply(
            kind, cnp.PyArray_DATA(g), 1, columns, cnp.PyArray_DATA(x), steps, 1,
            cnp.PyArray_DATA(dweight), columns, rows, steps, HELIX_IDENTITY, NULL,
        )
    if needs[2]:
        sizes[0] = columns
        dbias = cnp.PyArray_EMPTY(1, sizes, kind, 0)
        if kind == cnp.NPY_FLOAT:
            _add[float](
                <const float *>cnp.PyArray_DATA(g), <float *>cnp.PyArray_DATA(dbias),
                1, rows, columns,
            )
        else:
            _add[double](
                <const double *>cnp.PyArray_DATA(g), <double *>cnp.PyArray_DATA(dbias),
                1, rows, columns,
            )
    return dx, dweight, dbias


cdef bint _has_few_targets(logits, target) noexcept:
    return (
        _is_plain(logits)
        and cnp.PyArray_CheckExact(target)
        and cnp.PyArray_TYPE(target) == cnp.NPY_INT64
        and cnp.PyArray_ISCARRAY_RO(target)
        and 0 < cnp.PyArray_SIZE(logits) < FEW
    )


cdef double _total(const void *x, int kind, Py_ssize_t count) noexcept:
    cdef double sum = 0
    cdef Py_ssize_t i
    for i in range(count):
        sum += (<const float *>x)[i] if kind == cnp.NPY_FLOAT else (<const double *>x)[i]
    return sum


cdef object _number(double value, int kind):
    """Return a 0-d array."""
    cdef cnp.ndarray array = cnp.PyArray_EMPTY(0, NULL, kind, 0)
    if kind == cnp.NPY_FLOAT:
        (<float *>cnp.PyArray_DATA(array))[0] = <float>value
    else:
        (<double *>cnp.PyArray_DATA(array))[0] = value
    return array


cdef helix_loss _loss(
    cnp.ndarray logits, cnp.ndarray target, double smoothing, cnp.ndarray top, cnp.ndarray sums
) noexcept:
    cdef helix_loss c
    memset(&c, 0, sizeof(c))
    c.classes = cnp.PyArray_DIM(logits, cnp.PyArray_NDIM(logits) - 1)
    c.rows = cnp.PyArray_SIZE(target)
    c.smoothing = smoothing
    c.logits = _rows(logits, c.classes)
    c.target = <const int64_t *>cnp.PyArray_DATA(target)
    c.top, c.sum = cnp.PyArray_DATA(top), cnp.PyArray_DATA(sums)
    return c


def cross_entropy(logits, target, double smoothing, bint mean):
    """Return the sum or mean over all targets, and each row's top and sum of exponentials."""
    cdef cnp.npy_intp sizes[1]
    cdef cnp.ndarray top, sums, losses
    cdef helix_loss c
    cdef int kind
    cdef double total
    if not _has_few_targets(logits, target):
        return None
    kind, sizes[0] = cnp.PyArray_TYPE(logits), cnp.PyArray_SIZE(target)
    top, sums, losses = [cnp.PyArray_EMPTY(1, sizes, kind, 0) for _ in range(3)]
    c = _loss(logits, target, smoothing, top, sums)
    c.losses = cnp.PyArray_DATA(losses)
    check(table_of(kind).loss_forward(&c, 0, c.rows))
    total = _total(c.losses, kind, c.rows)
    return _number(total / c.rows if mean else total, kind), top, sums


def cross_entropy_vjp(g, logits, target, double smoothing, bint mean, top, sums):
    """Return the gradient of the logits, ``g`` being that of the sum or mean."""
    cdef cnp.ndarray each, dlogits
    cdef helix_loss c
    cdef int kind
    cdef double share
    cdef Py_ssize_t i
    if not _has_few_targets(logits, target) or not _is_plain(g) or cnp.PyArray_NDIM(g):
        return None
    kind = cnp.PyArray_TYPE(logits)
    each, dlogits = _like(top), _like(logits)
    c = _loss(logits, target, smoothing, top, sums)
    share = _total(cnp.PyArray_DATA(g), cnp.PyArray_TYPE(g), 1)
    if mean:
        share /= c.rows
    for i in range(c.rows):
        if kind == cnp.NPY_FLOAT:
            (<float *>cnp.PyArray_DATA(each))[i] = <float>share
        else:
            (<double *>cnp.PyArray_DATA(each))[i] = share
    c.g, c.dlogits = cnp.PyArray_DATA(each), _rows(dlogits, c.classes)
    check(table_of(kind).loss_backward(&c, 0, c.rows))
    return dlogits
