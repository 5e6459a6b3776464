cimport cython

from helixml._core.storage cimport Cell
from helixml._core.tape cimport Node


cdef class Ops:
    cdef public object abs, add, any, array_function, array_ufunc, astype, at, backward
    cdef public object bitwise_and, bitwise_invert, conj
    cdef public object bitwise_left_shift, bitwise_or, bitwise_right_shift, bitwise_xor, convert
    cdef public object device_mismatch, divide, dlpack, equal
    cdef public object floor_divide, getitem, greater, greater_equal, less, less_equal, matmul
    cdef public object matrix_transpose, max, mean, min, multiply, namespace, negative, not_equal
    cdef public object part, permute_dims, pow, pull_definition, real, reduce, remainder, represent
    cdef public object register_hook, reshape, retain_grad, setitem, subtract, sum, sum_to, tensor
    cdef public object to_array, to_device


cdef Ops _ops


cdef class Tensor:
    cdef public object _array
    cdef public object _backend
    cdef public Cell _cell
    cdef public object _dtype
    cdef public Node _node
    cdef public Py_ssize_t _slot
    cdef public bint _tracked
    cdef public object grad
    cdef object __weakref__

    cpdef Cell _share(self, Tensor other=*)


@cython.locals(tensor=Tensor)
cpdef Tensor new_tensor(object array, object backend)


cpdef object dtype_of(Tensor tensor)


@cython.locals(product=Py_ssize_t)
cdef bint has_sizes(object shape, Py_ssize_t count) except -1
