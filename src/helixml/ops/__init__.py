"""The ops: every function of tensors, each an `Op` with its rule, samples and documentation.

One file a family; `elementwise` is the place to start. Importing this package fills the table
through which tensors reach their operators. What few programs use is loaded on first use: `further`
says which file defines it.
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from helixml import dtypes
from helixml._core import interop
from helixml._core.tensor import OPS
from helixml.ops.activation import (
    gelu,
    gelu_gate,
    relu,
    silu,
    silu_gate,
    softplus,
)
from helixml.ops.arrangement import (
    broadcast_arrays,
    meshgrid,
    moveaxis,
    repeat,
    tile,
    unstack,
)
from helixml.ops.categorical import cross_entropy, log_softmax, softmax
from helixml.ops.compose import (
    clip,
    one_hot,
)
from helixml.ops.creation import (
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
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
    ceil,
    divide,
    exp,
    expm1,
    floor,
    floor_divide,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    pow,
    remainder,
    round,
    sigmoid,
    sign,
    sqrt,
    square,
    subtract,
    trunc,
    where,
)
from helixml.ops.further import FURTHER
from helixml.ops.fused import causal_conv1d, layer_norm, rms_norm, selective_scan
from helixml.ops.indexing import (
    argsort,
    getitem,
    part,
    take,
    take_along_axis,
)
from helixml.ops.inspection import (
    __array_namespace_info__,
    can_cast,
    finfo,
    iinfo,
    isdtype,
    namespace,
)
from helixml.ops.linalg import (
    linear,
    matmul,
    tensordot,
    vecdot,
)
from helixml.ops.logarithms import (
    exp2,
    log2,
    log10,
    logaddexp,
)
from helixml.ops.logic import (
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from helixml.ops.movement import (
    astype,
    broadcast_to,
    cast,
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
from helixml.ops.numbers import (
    conj,
    copysign,
    imag,
    nextafter,
    positive,
    real,
    reciprocal,
    signbit,
)
from helixml.ops.reduction import (
    all,
    any,
    argmax,
    argmin,
    count_nonzero,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from helixml.ops.running import (
    cumulative_prod,
    cumulative_sum,
    diff,
)
from helixml.ops.scan import (
    linear_scan,
)
from helixml.ops.sets import (
    unique,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
)
from helixml.ops.sorting import (
    isin,
    nonzero,
    searchsorted,
    sort,
)
from helixml.ops.special import (
    erf,
    erfc,
    erfinv,
)
from helixml.ops.trigonometric import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    deg2rad,
    hypot,
    rad2deg,
    sin,
    sinc,
    sinh,
    tan,
    tanh,
)
from helixml.ops.update import (
    adamw_,
    adamw_many_,
    lion_many_,
    norm_many,
    scale_many_,
    sgd_,
    sgd_many_,
)
from helixml.ops.updates_at import (
    At,
    setitem,
)
from helixml.random import dropout


def __getattr__(name: str) -> _Any:  # PEP 562
    if name in FURTHER:
        return getattr(_import_module(f"helixml.ops.{FURTHER[name]}"), name)
    raise AttributeError(f"module 'helixml.ops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *FURTHER})


def load_all() -> None:
    """Load every op, for what must see them all, as tests of each."""
    from pkgutil import iter_modules

    for file in iter_modules(__path__):
        _import_module(f"helixml.ops.{file.name}")


_SCALARS = (bool, int, float, complex)


def _convert(op, value, like):
    """Return a scalar, list or NumPy array as a tensor where ``like`` lives."""
    device = None if like is None else like.device
    if isinstance(value, _SCALARS) and like is not None:
        kind = next(kind for kind in _SCALARS if isinstance(value, kind))  # np.float64 is a float
        return full((), value, dtypes.result_type(like.dtype, kind), device)
    return asarray(value, device=device)


def _array_function(function, types, args, kwargs):
    """Compute a NumPy function of tensors; what knows how is loaded when first needed."""
    from helixml.ops.numpy_protocol import array_function

    return array_function(function, types, args, kwargs)


def _dlpack(tensor, stream, max_version, dl_device, copy):
    """Return a DLPack capsule; what knows how is loaded when first needed."""
    from helixml._core.dlpack import export

    return export(tensor, stream, max_version, dl_device, copy)


def _array_ufunc(ufunc, method, inputs, options):
    """Compute a NumPy ufunc of tensors."""
    from helixml.ops.numpy_protocol import array_ufunc

    return array_ufunc(ufunc, method, inputs, options)


for _name, _function in {
    "abs": abs,
    "add": add,
    "any": any,
    "array_function": _array_function,
    "array_ufunc": _array_ufunc,
    "astype": cast,
    "at": At,
    "bitwise_and": bitwise_and,
    "bitwise_invert": bitwise_invert,
    "bitwise_left_shift": bitwise_left_shift,
    "bitwise_or": bitwise_or,
    "bitwise_right_shift": bitwise_right_shift,
    "bitwise_xor": bitwise_xor,
    "conj": conj,
    "convert": _convert,
    "device_mismatch": interop.device_mismatch,
    "divide": divide,
    "dlpack": _dlpack,
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
    "namespace": namespace,
    "negative": negative,
    "not_equal": not_equal,
    "part": part,
    "permute_dims": permute_dims,
    "pow": pow,
    "real": real,
    "reduce": interop.reduce,
    "remainder": remainder,
    "represent": interop.represent,
    "reshape": reshape,
    "setitem": setitem,
    "subtract": subtract,
    "sum": sum,
    "sum_to": sum_to,
    "tensor": tensor,
    "to_array": interop.to_array,
    "to_device": to_device,
}.items():
    setattr(OPS, _name, _function)

__all__ = [
    "__array_namespace_info__",
    "abs",
    "acos",
    "acosh",
    "adamw_",
    "adamw_many_",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asarray",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "broadcast_arrays",
    "broadcast_to",
    "can_cast",
    "causal_conv1d",
    "ceil",
    "clip",
    "concat",
    "conj",
    "copy",
    "copysign",
    "cos",
    "cosh",
    "count_nonzero",
    "cross_entropy",
    "cumulative_prod",
    "cumulative_sum",
    "deg2rad",
    "diff",
    "divide",
    "dropout",
    "empty",
    "empty_like",
    "equal",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "eye",
    "finfo",
    "flip",
    "floor",
    "floor_divide",
    "from_dlpack",
    "full",
    "full_like",
    "gelu",
    "gelu_gate",
    "greater",
    "greater_equal",
    "hypot",
    "iinfo",
    "imag",
    "isdtype",
    "isfinite",
    "isin",
    "isinf",
    "isnan",
    "layer_norm",
    "less",
    "less_equal",
    "linear",
    "linear_scan",
    "linspace",
    "lion_many_",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "mean",
    "meshgrid",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "negative",
    "nextafter",
    "nonzero",
    "norm_many",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "permute_dims",
    "positive",
    "pow",
    "prod",
    "rad2deg",
    "real",
    "reciprocal",
    "relu",
    "remainder",
    "repeat",
    "reshape",
    "rms_norm",
    "roll",
    "round",
    "scale_many_",
    "searchsorted",
    "selective_scan",
    "sgd_",
    "sgd_many_",
    "sigmoid",
    "sign",
    "signbit",
    "silu",
    "silu_gate",
    "sin",
    "sinc",
    "sinh",
    "softmax",
    "softplus",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "sum_to",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tensor",
    "tensordot",
    "tile",
    "tril",
    "triu",
    "trunc",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "unstack",
    "var",
    "vecdot",
    "where",
    "zeros",
    "zeros_like",
]
