"""Thin wrappers of the C kernels: arrays become pointers and strides, the GIL is released.

No shapes are checked and no layouts changed here: the Python files beside this one do both.
Each wrapper holds references to its arrays for as long as C may use them.
"""

cimport numpy as cnp

cnp.import_array()


cdef extern from "kernels.h" nogil:
    ctypedef struct helix_rows:
        void *data
        Py_ssize_t batch_stride
        Py_ssize_t group_stride
        Py_ssize_t step_stride

    int HELIX_SCAN_STEPS

    ctypedef struct helix_scan:
        Py_ssize_t batch
        Py_ssize_t length
        Py_ssize_t channels
        Py_ssize_t states
        Py_ssize_t groups
        Py_ssize_t parts
        int softplus
        int fixed_B
        int fixed_C
        helix_rows u
        helix_rows delta
        helix_rows z
        helix_rows y
        helix_rows B
        helix_rows C
        const void *A_log2
        const void *D
        const void *bias
        void *chunk_states
        helix_rows g
        helix_rows du
        helix_rows ddelta
        helix_rows dz
        void *dA
        void *dD
        void *dbias
        void *dB
        void *dC
        void *dstate

    ctypedef struct helix_table:
        int (*scan_forward)(const helix_scan *, Py_ssize_t, Py_ssize_t) noexcept nogil
        int (*scan_backward)(const helix_scan *, Py_ssize_t, Py_ssize_t) noexcept nogil

    const char *const *helix_instruction_sets()
    const helix_table *helix_kernels(const char *, int)


SCAN_STEPS = HELIX_SCAN_STEPS

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


cdef void *_data(object array) except? NULL:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray?>array)


cdef Py_ssize_t _stride(object array, int axis) except? -1:
    return (<cnp.ndarray>array).strides[axis] // (<cnp.ndarray>array).itemsize


cdef helix_rows _rows(object array) except *:
    """Describe (b, l, d), (b, g, l, d) or (n, d), the last axis contiguous; or nothing."""
    cdef helix_rows rows = helix_rows(NULL, 0, 0, 0)
    if array is None:
        return rows
    rows.data = _data(array)
    rows.step_stride = _stride(array, array.ndim - 2)
    if array.ndim > 2:
        rows.batch_stride = _stride(array, 0)
    if array.ndim > 3:
        rows.group_stride = _stride(array, 1)
    return rows


cdef class Scan:
    """The arguments of one selective scan; see helix_scan in kernels.h."""

    cdef helix_scan arguments
    cdef const helix_table *table
    cdef object arrays

    def __init__(self, sizes, softplus, u, delta, z, y, A_log2, B, C, D, bias, chunk_states):
        cdef helix_scan *s = &self.arguments
        self.arrays = [u, delta, z, y, A_log2, B, C, D, bias, chunk_states]
        self.table = _tables[1 if u.dtype.itemsize == 8 else 0]
        s.batch, s.length, s.channels, s.states, s.groups, s.parts = sizes
        s.softplus = softplus
        s.fixed_B = B.ndim == 2
        s.fixed_C = C.ndim == 2
        s.u, s.delta, s.z, s.y = _rows(u), _rows(delta), _rows(z), _rows(y)
        s.B, s.C = _rows(B), _rows(C)
        s.A_log2, s.D, s.bias = _data(A_log2), _data(D), _data(bias)
        s.chunk_states = _data(chunk_states)

    def set_gradients(self, g, du, ddelta, dz, dA, dB, dC, dD, dbias, dstate):
        """Add what the backward pass reads (g, dstate) and writes."""
        cdef helix_scan *s = &self.arguments
        self.arrays += [g, du, ddelta, dz, dA, dB, dC, dD, dbias, dstate]
        s.g, s.du, s.ddelta, s.dz = _rows(g), _rows(du), _rows(ddelta), _rows(dz)
        s.dA, s.dB, s.dC = _data(dA), _data(dB), _data(dC)
        s.dD, s.dbias, s.dstate = _data(dD), _data(dbias), _data(dstate)

    def forward(self, Py_ssize_t first, Py_ssize_t last):
        """Do the items first .. last - 1."""
        with nogil:
            self.table.scan_forward(&self.arguments, first, last)

    def backward(self, Py_ssize_t first, Py_ssize_t last):
        """Do the items first .. last - 1."""
        cdef int failed
        with nogil:
            failed = self.table.scan_backward(&self.arguments, first, last)
        if failed:
            raise MemoryError("selective_scan_vjp: no memory for the kernel's workspace.")
