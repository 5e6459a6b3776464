"""Creation: tensors from values, shapes and ranges, and from arrays of other libraries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.modes import is_recording
from helixml._core.storage import Cell
from helixml._core.tensor import Tensor, as_tensor
from helixml.backends import registry
from helixml.device import Device
from helixml.dtypes import DTypeLike
from helixml.errors import (
    DeviceError,
    DTypeError,
    GraphError,
    HelixError,
    ShapeError,
    ValueRangeError,
)

__all__ = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "tensor",
    "zeros",
    "zeros_like",
]

DeviceLike = str | Device | None
# What says that data has a dtype of its own: arrays, pyarrow's among them, array.array, memoryview.
_WIDTH = ("dtype", "__array__", "__array_interface__", "typecode", "format")


def _backend(device: DeviceLike) -> Any:
    return registry.default() if device is None else registry.get(Device(device))


def _numpy(op: str, data: Any, dtype: dtypes.DType | None) -> np.ndarray[Any, Any]:
    """Return ``data`` as a NumPy array in a dtype of ours; Python floats become float32."""
    try:
        array = np.asarray(data)
    except (ValueError, TypeError) as error:
        raise ShapeError(f"{op}: the nested lists do not form an array: {error}") from error
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        raise DTypeError(
            f"{op}: {np.ma.count_masked(data)} values are masked, which a tensor cannot say. "
            "Hint: data.filled(value), or data.compressed()."
        )
    if array.dtype == object or array.dtype.kind in "USMmO":
        raise DTypeError(
            f"{op}: cannot make a tensor of {type(data).__name__} {str(data)[:40]!r}. "
            "Hint: numbers, nested lists of numbers, or arrays."
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if dtype is None and not any(hasattr(data, name) for name in _WIDTH):
        # Python numbers carry no width: floats and complex take the default, like everywhere here.
        if array.dtype == np.float64:
            dtype = dtypes.default_float
        elif array.dtype == np.complex128:
            dtype = dtypes.default_complex
    target = dtypes.parse(array.dtype if dtype is None else dtype)
    dtypes.check_cast(op, dtypes.parse(array.dtype), target)
    return array if array.dtype == target else array.astype(target)


def _is_of_device(data: Any, backend: Any) -> bool:
    """Say whether ``data`` is an array of the device's own library, which is not NumPy."""
    return isinstance(data, backend.array_type) and not isinstance(data, np.ndarray)


def _cast(op: str, data: Any, dtype: dtypes.DType | None, backend: Any) -> Any:
    """Return an array of the device in a dtype."""
    found = backend.dtype_of(data)
    target = found if dtype is None else dtype
    dtypes.check_cast(op, dtypes.parse(found), target)
    return backend.astype(data, target)


def tensor(
    data: Any,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor with its own copy of ``data``.

    Parameters
    ----------
    data : numbers, nested lists of them, Tensor, or an array of NumPy or of the device's library.
        Arrays keep their dtype, Python floats become float32.
    dtype : what to cast to.
    device : where to put it; the configured default if left out.
    requires_grad : whether gradients flow to it.

    Returns
    -------
    Tensor, a leaf.

    Raises
    ------
    ShapeError : ragged lists. DTypeError : not numbers. NotDifferentiableError : integer gradients.
    GraphError : a list of tensors that require gradients.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.tensor([[1, 2], [3, 4]], dtype="float32")
    tensor([[1., 2.],
            [3., 4.]])
    """
    wanted = None if dtype is None else dtypes.parse(dtype)
    if isinstance(data, Tensor):
        device = data.device if device is None else device
        data = data.numpy()
    elif isinstance(data, (list, tuple)) and any(isinstance(item, Tensor) for item in data):
        if is_recording() and any(isinstance(t, Tensor) and t.requires_grad for t in data):
            raise GraphError(
                "tensor: a new leaf of tensors that require gradients would lose these. "
                "Hint: hx.stack([...]), or detach() each of them."
            )
        data = [item.numpy() if isinstance(item, Tensor) else item for item in data]
        wanted = wanted or dtypes.result_type(*(np.asarray(item).dtype for item in data))
    backend = _backend(device)
    if _is_of_device(data, backend):
        result = Tensor(backend.copy(_cast("tensor", data, wanted, backend)), backend)
    else:
        array = np.array(_numpy("tensor", data, wanted))
        result = Tensor(backend.asarray(array), backend)
    if dtypes.as_flag("tensor", "requires_grad", requires_grad):
        result.requires_grad = True
    return result


def asarray(
    data: Any, dtype: DTypeLike = None, device: DeviceLike = None, *, copy: bool | None = None
) -> Tensor:
    """Make a tensor that shares the memory of ``data`` where it can; a Tensor is returned as it is.

    The tensor never writes that memory: before its first write it takes a copy. If its owner writes
    it, the tensor sees that.

    Parameters
    ----------
    data : array of NumPy or of the device's library, Tensor, numbers or nested lists.
    dtype : what to cast to; a cast copies.
    device : where to put it.
    copy : True takes a copy in any case, False refuses to.

    Returns
    -------
    Tensor.

    Raises
    ------
    ValueRangeError : ``copy`` is False and the values cannot be shared.
    """
    wanted = None if dtype is None else dtypes.parse(dtype)
    copy = None if copy is None else dtypes.as_flag("asarray", "copy", copy)
    if isinstance(data, Tensor):
        result = data if device is None else data.to(device)
        if wanted is not None and result.dtype != wanted:
            result = result.astype(wanted)
        if copy is False and result is not data:
            raise ValueRangeError(f"asarray: {data.dtype} on {data.device} needs a copy.")
        from helixml.ops.numbers import positive

        return positive(result) if copy and result is data else result
    backend = _backend(device)
    if _is_of_device(data, backend):
        array = _cast("asarray", data, wanted, backend)
        if copy:
            return Tensor(backend.copy(array), backend)
        copied = array is not data
    else:
        array = _numpy("asarray", data, wanted)
        if copy:
            return Tensor(backend.asarray(np.array(array)), backend)
        copied = copy is False and not np.may_share_memory(array, np.asarray(data))
    if copy is False and copied and array.size:
        raise ValueRangeError(f"asarray: {type(data).__name__} data needs a copy.")
    result = Tensor(backend.asarray(array), backend)
    result._cell = Cell(borrowed=True)
    result._cell.add_viewer(result)
    return result


def from_dlpack(x: Any, device: DeviceLike = None, copy: bool | None = None) -> Tensor:
    """Make a tensor of an array of another library, sharing its memory where it can.

    Parameters
    ----------
    x : anything with ``__dlpack__``, in host memory.
    device : where to put it.
    copy : True takes a copy in any case, False refuses to.

    Returns
    -------
    Tensor.

    Raises
    ------
    DTypeError : ``x`` speaks no DLPack. DeviceError : it lives beyond host memory.
    ValueRangeError : ``copy`` is False and the values cannot be shared.

    Examples
    --------
    >>> import helixml as hx, numpy as np
    >>> hx.from_dlpack(np.arange(3))
    tensor([0, 1, 2])
    """
    if isinstance(x, Tensor):
        return asarray(x, device=device, copy=copy)
    if not hasattr(x, "__dlpack__"):
        raise DTypeError(f"from_dlpack: {type(x).__name__} has no __dlpack__. Hint: hx.asarray.")
    from helixml._core.dlpack import import_array

    try:
        array = import_array(x)
    except (BufferError, RuntimeError) as error:
        raise DeviceError(
            f"from_dlpack: {type(x).__name__} does not give its memory: {error}. "
            "Hint: move it to the CPU, in a dtype that NumPy has."
        ) from error
    return asarray(array, device=device, copy=copy)


def _filled(name: str, shape: Any, dtype: DTypeLike, device: DeviceLike, **extra: Any) -> Tensor:
    backend = _backend(device)
    kind = dtypes.default_float if dtype is None else dtypes.parse(dtype)
    make = getattr(backend, name)
    size = shapes.as_shape(name, shape)
    try:
        return Tensor(make(size, *extra.values(), dtype=kind), backend)
    except HelixError:
        raise
    except (OverflowError, TypeError) as error:  # the second comes from bfloat16
        values = ", ".join(map(str, extra.values()))
        raise DTypeError(f"{name}: {values} does not fit {kind}.") from error
    except (MemoryError, ValueError) as error:
        raise ShapeError(f"{name}: shape {size} is too large: {error}.") from error


def zeros(shape: Any, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Make a tensor of zeros.

    >>> import helixml as hx
    >>> hx.zeros((2, 2))
    tensor([[0., 0.],
            [0., 0.]])
    """
    return _filled("zeros", shape, dtype, device)


def ones(shape: Any, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Make a tensor of ones."""
    return _filled("ones", shape, dtype, device)


def empty(shape: Any, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Make a tensor whose values do not matter (they are zeros: the same bits every time)."""
    return _filled("zeros", shape, dtype, device)


def full(shape: Any, fill_value: Any, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Make a tensor that holds one value everywhere; its dtype follows the value if left out."""
    value = fill_value
    if not isinstance(value, (bool, int, float, complex)):
        scalar = _numpy("full", value, None)
        if scalar.size != 1:
            raise ShapeError(f"full: the value must be one number, its shape is {scalar.shape}.")
        value = scalar.item()
    kind = dtypes.result_type(type(value))
    dtype = kind if dtype is None else dtypes.parse(dtype)
    dtypes.check_cast("full", kind, dtype)
    return _filled("full", shape, dtype, device, value=value)


def zeros_like(x: Tensor, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Make zeros in the shape, dtype and place of ``x``."""
    x = as_tensor("zeros_like", x)
    return zeros(x.shape, *_like(x, dtype, device))


def ones_like(x: Tensor, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Make ones in the shape, dtype and place of ``x``."""
    x = as_tensor("ones_like", x)
    return ones(x.shape, *_like(x, dtype, device))


def empty_like(x: Tensor, dtype: DTypeLike = None, device: DeviceLike = None) -> Tensor:
    """Make what `empty` does in the shape, dtype and place of ``x``."""
    x = as_tensor("empty_like", x)
    return empty(x.shape, *_like(x, dtype, device))


def full_like(
    x: Tensor, fill_value: Any, dtype: DTypeLike = None, device: DeviceLike = None
) -> Tensor:
    """Make a tensor of one value in the shape, dtype and place of ``x``."""
    x = as_tensor("full_like", x)
    return full(x.shape, fill_value, *_like(x, dtype, device))


def _like(x: Tensor, dtype: DTypeLike, device: DeviceLike) -> tuple[DTypeLike, DeviceLike]:
    """Return dtype and device, those of ``x`` where they were left out."""
    return x.dtype if dtype is None else dtype, x.device if device is None else device


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
) -> Tensor:
    """Make evenly spaced values in [start, stop); with one argument, in [0, start).

    >>> import helixml as hx
    >>> hx.arange(3)
    tensor([0, 1, 2])
    """
    if stop is None:
        start, stop = 0, start
    for name, value in (("start", start), ("stop", stop), ("step", step)):
        dtypes.as_number("arange", name, value)
    if step == 0 or not all(math.isfinite(v) for v in (start, stop, step)):
        raise ValueRangeError(f"arange: start={start}, stop={stop}, step={step} give no range.")
    kind = (
        dtypes.result_type(type(start), type(stop), type(step))
        if dtype is None
        else dtypes.parse(dtype)
    )
    backend = _backend(device)
    try:
        return Tensor(backend.arange(start, stop, step, dtype=kind), backend)
    except HelixError:
        raise
    except (MemoryError, OverflowError, ValueError) as error:
        raise ShapeError(f"arange: {start} to {stop} by {step} is too long: {error}.") from error


def linspace(
    start: float,
    stop: float,
    num: int,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
    *,
    endpoint: bool = True,
) -> Tensor:
    """Make ``num`` evenly spaced values from ``start`` to ``stop``, which may be left out.

    >>> import helixml as hx
    >>> hx.linspace(0, 1, 4, endpoint=False)
    tensor([0.  , 0.25, 0.5 , 0.75])
    """
    dtypes.as_number("linspace", "start", start)
    dtypes.as_number("linspace", "stop", stop)
    num = dtypes.as_integer("linspace", "num", num)
    if num < 0:
        raise ValueRangeError(f"linspace: num={num} is negative.")
    kind = dtypes.default_float if dtype is None else dtypes.parse(dtype)
    backend = _backend(device)
    endpoint = dtypes.as_flag("linspace", "endpoint", endpoint)
    try:
        values = np.linspace(float(start), float(stop), num, endpoint=endpoint).astype(kind)
    except (MemoryError, OverflowError, ValueError) as error:
        raise ShapeError(f"linspace: {num} values are too many: {error}.") from error
    return Tensor(backend.asarray(values), backend)


def eye(
    rows: int,
    columns: int | None = None,
    k: int = 0,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
) -> Tensor:
    """Make a matrix with ones on diagonal ``k`` and zeros elsewhere."""
    shape = shapes.as_shape("eye", (rows, rows if columns is None else columns))
    kind = dtypes.default_float if dtype is None else dtypes.parse(dtype)
    backend = _backend(device)
    diagonal = dtypes.as_integer("eye", "k", k)
    try:
        return Tensor(backend.eye(*shape, k=diagonal, dtype=kind), backend)
    except HelixError:
        raise
    except (MemoryError, OverflowError, ValueError) as error:
        raise ShapeError(f"eye: shape {shape} or k={diagonal} is too large: {error}.") from error
