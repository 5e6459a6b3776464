"""The ops: every function of tensors, each an `Op` with its rule, samples and documentation.

One file a family; `elementwise` is the place to start. Importing this package fills the table
through which tensors reach their operators.
"""

from helixml._core import interop
from helixml._core.op import REGISTRY
from helixml._core.tensor import OPS, Tensor
from helixml.ops.compose import clip, log_softmax, one_hot, relu, silu, softplus
from helixml.ops.creation import (
    arange,
    asarray,
    empty,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from helixml.ops.elementwise import (
    abs,
    add,
    bitwise_and,
    bitwise_invert,
    bitwise_or,
    bitwise_xor,
    ceil,
    cos,
    divide,
    equal,
    exp,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    pow,
    remainder,
    round,
    sigmoid,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from helixml.ops.fused import causal_conv1d, cross_entropy, rms_norm, selective_scan, softmax
from helixml.ops.indexing import At, argsort, getitem, setitem, take, take_along_axis
from helixml.ops.linalg import matmul
from helixml.ops.movement import (
    astype,
    broadcast_to,
    concat,
    copy,
    expand_dims,
    flip,
    matrix_transpose,
    permute_dims,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    sum_to,
    to_device,
    tril,
    triu,
)
from helixml.ops.reduction import (
    all,
    any,
    argmax,
    argmin,
    cumulative_sum,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from helixml.ops.scan import linear_scan
from helixml.ops.update import adamw_, sgd_
from helixml.random import dropout


def _convert(op, value, like):
    """Return a scalar, list or NumPy array as a tensor where ``like`` lives."""
    device = None if like is None else like.device
    if isinstance(value, (bool, int, float, complex)) and like is not None:
        from helixml import dtypes  # noqa: PLC0415

        return full((), value, dtypes.result_type(like.dtype, type(value)), device)
    return asarray(value, device=device)


for _name, _function in {
    "abs": abs,
    "add": add,
    "array_ufunc": interop.array_ufunc,
    "astype": astype,
    "at": At,
    "bitwise_and": bitwise_and,
    "bitwise_invert": bitwise_invert,
    "bitwise_or": bitwise_or,
    "bitwise_xor": bitwise_xor,
    "convert": _convert,
    "device_mismatch": interop.device_mismatch,
    "divide": divide,
    "equal": equal,
    "floor_divide": floor_divide,
    "getitem": getitem,
    "greater": greater,
    "greater_equal": greater_equal,
    "less": less,
    "less_equal": less_equal,
    "matmul": matmul,
    "matrix_transpose": matrix_transpose,
    "max": max,
    "mean": mean,
    "min": min,
    "multiply": multiply,
    "negative": negative,
    "not_equal": not_equal,
    "permute_dims": permute_dims,
    "pow": pow,
    "reduce": interop.reduce,
    "remainder": remainder,
    "represent": interop.represent,
    "reshape": reshape,
    "setitem": setitem,
    "subtract": subtract,
    "sum": sum,
    "sum_to": sum_to,
    "to_array": interop.to_array,
    "to_device": to_device,
}.items():
    setattr(OPS, _name, _function)

__all__ = [name for name in dir() if not name.startswith("_") and name not in ("interop", "OPS")]
