cimport cython

from helixml._core.tape cimport Node
from helixml._core.tensor cimport Tensor, dtype_of


cdef class Log:
    cdef public list frames
    cdef public Py_ssize_t live
    cdef public dict threads
    cdef public dict held

    cpdef thread(self)

    @cython.locals(tensor=Tensor, found=list)
    cpdef list sizes(self, values)

    @cython.locals(size=Py_ssize_t)
    cpdef hold(self, owner)


cdef class Gone:
    cdef Log log
    cdef object key
    cdef Py_ssize_t size


cpdef owner_of(array)


@cython.locals(node=Node)
cpdef note_call(Log log, op, call, tuple arguments, tuple inputs, attributes)


@cython.locals(node=Node)
cpdef note_pull(Log log, op, pull, Node node, cotangents, needs)


cpdef note_failure(Log log, kind, subject, thread, start, error)
