from helixml._core.op cimport Op
from helixml._core.tensor cimport Tensor, new_tensor
