cimport cython


cdef class Cell:
    cdef public Py_ssize_t version
    cdef public str writer
    cdef public bint borrowed
    cdef public dict viewers
    cdef public Py_ssize_t limit
    cdef object __weakref__
    cpdef add_viewer(self, tensor)
