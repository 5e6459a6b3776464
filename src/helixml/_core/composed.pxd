cimport cython

from helixml._core.op cimport Op
from helixml._core.saving cimport attach, fit, keep, keep_residual, residual_of, restore
from helixml._core.tape cimport Node
from helixml._core.tensor cimport Tensor, new_tensor


@cython.locals(first=Tensor, value=Tensor, i=Py_ssize_t, tensors=list, arrays=list,
               differentiates=bint, recorded=bint, inputs=tuple, attributes=dict, results=tuple)
cpdef call_fused(Op op, tuple args, dict kwargs)


cpdef write_fused(Op op, Tensor first, list tensors, list arrays, dict attributes)


@cython.locals(i=Py_ssize_t, saved=tuple, residuals=tuple, tensors=list, arrays=list,
               gradients=list, results=tuple)
cpdef pull_fused(Op op, Node node, cotangents, tuple needs)
