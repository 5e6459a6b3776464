"""Functions of single elements of whole arrays, by map.c. What they cannot take they hand on."""

cimport numpy as cnp
from libc.string cimport memcmp, memset

from helixml import config

from helixml.backends.cpu.kernels._kernels cimport (
    HELIX_MAP_RUN,
    HELIX_SMALLEST_BLOCK,
    check,
    functions,
    helix_map,
    helix_table,
    share,
    table_of,
)

from helixml.backends.cpu.kernels._kernels import empty

cnp.import_array()

cdef enum:
    FEW = 1 << 15  # elements below which waking a thread costs more than it saves
    RANGES = 64    # handed to threads one by one: enough to even out their speeds
    SHORT = 16     # elements of a row below which rows one by one are no gain


cdef inline bint _is_plain(object x) noexcept:
    """Say whether x is an array of floats, aligned, in C order."""
    return (
        cnp.PyArray_CheckExact(x)
        and (cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT or cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE)
        and cnp.PyArray_ISCARRAY_RO(x)
    )


cdef cnp.ndarray _like(cnp.ndarray x):
    """Return a new array of the shape and dtype of x."""
    if cnp.PyArray_NBYTES(x) >= HELIX_SMALLEST_BLOCK:
        return empty((<object>x).shape, x.dtype)
    return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)


cdef int _do(helix_map *m, int type_num) except -1:
    cdef const helix_table *table = table_of(type_num)
    cdef Py_ssize_t items = m.rows * ((m.size + HELIX_MAP_RUN - 1) // HELIX_MAP_RUN)
    if m.rows * m.size < FEW:
        return check(table.map(m, 0, items))
    return share(table.map, m, items, (items + RANGES - 1) // RANGES)


cdef inline bint _are_wanted() except -1:
    """Say whether the settings want kernels; they are asked only if they ever did not."""
    return not config.kernels_vary or config.get().kernels


def of_one(name, otherwise, without=None):
    """Return the function of that name, of one array; ``otherwise(x)`` is called for other x.

    ``without(x)``, if given, is called instead where no kernels are wanted.
    """
    cdef int function = functions[name]
    if without is None:
        without = otherwise

    def call(x, /):
        cdef helix_map m
        if not _are_wanted():
            return without(x)
        if not _is_plain(x):
            return otherwise(x)
        cdef cnp.ndarray out = _like(x)
        memset(&m, 0, sizeof(m))
        m.function, m.rows, m.size = function, 1, cnp.PyArray_SIZE(x)
        m.x.data, m.out.data = cnp.PyArray_DATA(x), cnp.PyArray_DATA(out)
        _do(&m, cnp.PyArray_TYPE(x))
        return out

    return call


cdef bint _ends_with(cnp.ndarray x, cnp.ndarray y) noexcept:
    """Say whether the shape of x ends with that of y."""
    cdef int rank = cnp.PyArray_NDIM(y), extra = cnp.PyArray_NDIM(x) - rank
    if rank <= 0 or extra < 0:
        return rank == 0  # which has no sizes to compare
    return memcmp(
        cnp.PyArray_DIMS(x) + extra, cnp.PyArray_DIMS(y), rank * sizeof(cnp.npy_intp)
    ) == 0


def of_two(name, otherwise):
    """Return the function of that name, of two arrays; ``otherwise(x, y)`` is called for others.

    The shape of one must end with that of the other, which then stands for each of its rows.
    """
    cdef int function = functions[name]

    def call(x, y, /):
        cdef helix_map m
        cdef cnp.ndarray larger, out
        cdef Py_ssize_t x_size, y_size
        if not _are_wanted():
            return otherwise(x, y)
        if not (_is_plain(x) and _is_plain(y) and cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(y)):
            return otherwise(x, y)
        memset(&m, 0, sizeof(m))
        x_size, y_size = cnp.PyArray_SIZE(x), cnp.PyArray_SIZE(y)
        if _ends_with(x, y):
            m.size, m.rows = y_size, 1 if x_size == y_size else x_size // y_size
            m.x.step_stride, larger = y_size, x
        elif _ends_with(y, x):
            m.size, m.rows = x_size, 1 if x_size == y_size else y_size // x_size
            m.y.step_stride, larger = x_size, y
        else:
            return otherwise(x, y)
        if m.rows > 1 and m.size == 1:
            m.single_x, m.single_y = x_size == 1, y_size == 1
            m.rows, m.size = 1, m.rows
        elif m.rows > 1 and m.size < SHORT:
            return otherwise(x, y)
        out = _like(larger)
        m.function, m.out.step_stride = function, m.size
        m.x.data, m.y.data = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
        m.out.data = cnp.PyArray_DATA(out)
        _do(&m, cnp.PyArray_TYPE(x))
        return out

    return call
