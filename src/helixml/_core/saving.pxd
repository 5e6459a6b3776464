cimport cython

from helixml._core cimport tape
from helixml._core.tape cimport Node
from helixml._core.tensor cimport Tensor, dtype_of, new_tensor


cdef class Plan:
    cdef public object op
    cdef public list attributes
    cdef public bint wants_needs
    cdef public list steps
    cdef public bint empty

    cpdef tuple save(self, inputs, tuple outputs)


cpdef tuple parents_of(tuple inputs)


@cython.locals(value=Tensor, i=Py_ssize_t, slots=list)
cpdef list slots_of(tuple inputs)


@cython.locals(value=Tensor)
cpdef object source_of(given)
