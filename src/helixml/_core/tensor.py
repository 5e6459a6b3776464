"""Tensor: an array, and the place it has in the graph.

A tensor holds a raw array, the backend that understands it, and, if it was computed from tensors
that require gradients, the `tape.Node` that made it. Tensors are values: no two are observably
aliased, ``x += y`` makes a new tensor, ``x[i] = v`` gives this one object a new array and node.
Only `Tensor.assign_` (and the optimizers' in-place ops) write an array, and then a living tensor
that looks at the same array gets its own copy first.

Operators and methods are one-liners over ops, which arrive through `OPS`: this file knows their
names and nothing else of them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from helixml import dtypes
from helixml._core.modes import recording
from helixml._core.storage import Cell, writer_of
from helixml.device import Device
from helixml.errors import (
    DTypeError,
    GraphError,
    HelixError,
    InplaceError,
    NotDifferentiableError,
    ShapeError,
)


class Ops:
    """The ops that tensor methods call, filled in when `helixml.ops` is imported."""

    def __getattr__(self, name: str) -> Any:  # reached only by a name that was not filled in
        raise AttributeError(f"no op {name!r}: was helixml.ops imported?")


_ops = Ops()
OPS = _ops  # the same under a name that others import; `_ops` is a C variable when compiled


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    Make one with `helixml.tensor` (copies) or `helixml.asarray` (shares where it can).

    Attributes
    ----------
    shape, ndim, size, dtype, nbytes, device : as in the array API.
    requires_grad : whether gradients flow to it.
    grad : Tensor or None; on a leaf, the sum of the gradients of all backward passes so far.
    is_leaf : whether it was made by the user and not by a recorded op.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([[1.0, 2.0]], requires_grad=True)
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([[2., 4.]])
    """

    __slots__ = (
        "__weakref__",
        "_array",
        "_backend",
        "_cell",
        "_dtype",
        "_node",
        "_slot",
        "_tracked",
        "grad",
    )

    def __init__(self, array: Any, backend: Any) -> None:
        # Private: users call helixml.tensor; ops call new_tensor with arrays that they own.
        self._array = array
        self._backend = backend
        self._cell: Any = None  # see storage.py: None until somebody else looks at the array
        self._dtype: Any = None  # found out when it is asked for: see dtype_of
        self._node: Any = None
        self._slot = 0
        self._tracked = False  # a leaf that requires a gradient
        self.grad: Tensor | None = None

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes, a tuple of integers."""
        return tuple(self._array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._array.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        total = 1
        for n in self._array.shape:
            total *= n
        return total

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements, a ``numpy.dtype``."""
        return dtype_of(self)

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take: size times item size."""
        return self.size * self.dtype.itemsize

    @property
    def device(self) -> Device:
        """Where the array lives."""
        return self._backend.device

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made it."""
        return self._node is None

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to it. Can be set on leaves of a float dtype."""
        return self._tracked or self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        value = dtypes.as_flag("Tensor", "requires_grad", value)
        if self._node is not None and not value:
            raise GraphError(
                "requires_grad: a computed tensor cannot be switched off. Hint: use detach()."
            )
        if value and self.dtype not in dtypes.DIFFERENTIABLE:
            raise NotDifferentiableError(
                f"requires_grad: {self.dtype} has no gradient. Hint: cast with astype('float32')."
            )
        self._tracked = value and self._node is None

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix (exactly two axes)."""
        if self.ndim != 2:
            raise ShapeError(f"T: needs two axes, the shape is {self.shape}. Hint: .mT")
        return _ops.permute_dims(self, (1, 0))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return _ops.matrix_transpose(self)

    # Gradients

    def backward(
        self,
        gradient: Any = None,
        *,
        create_graph: bool = False,
        retain_graph: bool | None = None,
    ) -> None:
        """Add dself/dleaf to ``leaf.grad`` of every leaf that this tensor was computed from.

        Parameters
        ----------
        gradient : Tensor of this shape, the cotangent to start from (of a complex tensor
            dL/dRe + i dL/dIm); 1 for a real scalar if left out.
        create_graph : record the backward pass, so that gradients can be differentiated again.
        retain_graph : keep saved values for another pass; by default as ``create_graph``.

        Raises
        ------
        GraphError : nothing here requires a gradient, or there is no ``gradient`` and this tensor
            is no real scalar.
        GraphFreedError : the graph was walked before.
        InplaceError : a value that the pass reads was overwritten in place.
        """
        _ops.backward(self, gradient, create_graph, retain_graph)

    def register_hook(self, hook: Any) -> Any:
        """Call ``hook`` with this tensor's gradient in every pass; see `autograd.register_hook`."""
        return _ops.register_hook(self, hook)

    def retain_grad(self) -> None:
        """Keep the gradient of this computed tensor in ``grad``; see `autograd.retain_grad`."""
        _ops.retain_grad(self)

    def detach(self) -> Tensor:
        """Return the same values outside the graph."""
        out = Tensor(self._array, self._backend)
        self._share(out)
        return out

    # Sharing and writing

    def _share(self, other: Any = None) -> Cell:
        """Return the cell of this array, made now if need be; ``other`` looks at the array too."""
        cell = self._cell
        if cell is None:
            cell = self._cell = Cell()
        cell.add_viewer(self)
        if other is not None:
            other._cell = cell
            cell.add_viewer(other)
        return cell

    def _check_write(self, op: str) -> None:
        """Raise InplaceError for a computed tensor, and a leaf with a gradient while recording."""
        if self._node is not None:
            raise InplaceError(
                f"{op}: writes only to leaves, and this tensor (shape {self.shape}) was computed "
                f"by {self._node.op.name}. Hint: x = x.detach() first, or make a new value."
            )
        if self._tracked and recording.get():
            raise InplaceError(
                f"{op}: this leaf (shape {self.shape}) requires a gradient. "
                "Hint: write inside `with hx.no_grad():`."
            )

    def _begin_write(self, writer: str) -> Any:
        """Return this tensor's array, ready to be overwritten, and count the write.

        Comes after `_check_write`; ``writer`` is what `storage.writer_of` makes of the op.
        """
        cell = self._cell
        if cell is not None:
            backend = self._backend
            for viewer in cell.living():
                if viewer is not self and viewer._cell is cell:
                    viewer._array = backend.copy(viewer._array)
                    # Its own array now. Values saved through the old cell stay guarded by it.
                    viewer._cell = None
            if cell.borrowed:
                self._array = backend.copy(self._array)
                self._cell = cell = None
            else:
                cell.written(writer)
        self._array = self._backend.writable(self._array)  # a broadcast view is not
        return self._array

    def assign_(self, value: Any) -> Tensor:
        """Overwrite the elements in place.

        For leaves: parameters under `no_grad`, running statistics, buffers. Shape and dtype stay.

        Parameters
        ----------
        value : Tensor or array or scalar that broadcasts to this shape.

        Returns
        -------
        This tensor.

        Raises
        ------
        InplaceError : the tensor was computed by an op, or requires a gradient while recording.
        ShapeError : ``value`` does not broadcast to this shape.
        DTypeError : ``value`` is complex, and this tensor is not.
        """
        backend = self._backend
        value = as_tensor("assign_", value, self)
        if value._backend is not backend:
            raise device_mismatch("assign_", self, value)
        dtypes.check_cast("assign_", value.dtype, self.dtype)
        source = value._array
        if tuple(source.shape) != self.shape:
            try:
                source = backend.broadcast_to(source, self.shape)
            except Exception as error:
                raise ShapeError(
                    f"assign_: a value of shape {value.shape} does not fit {self.shape}."
                ) from error
        if value is not self and value._cell is not None and value._cell is self._cell:
            source = backend.copy(source)
        self._check_write("assign_")
        target = self._begin_write(writer_of("assign_"))
        self._array = backend.assign(target, source)
        return self

    def _become(self, other: Tensor) -> None:
        """Take the array, device and node of ``other``: this object under all its names."""
        self._array = other._array
        self._backend = other._backend
        self._dtype = other._dtype
        self._node = other._node
        self._slot = other._slot
        self._cell = other._cell
        if self._cell is not None:
            self._cell.add_viewer(self)

    # Leaving

    def numpy(self, copy: bool = False) -> np.ndarray[Any, Any]:
        """Return the values as a NumPy array.

        Without ``copy``, a tensor on the CPU gives a read-only view of its own memory. What wants
        a buffer takes that: ``memoryview(t.numpy())``.
        """
        copied = dtypes.as_flag("numpy", "copy", copy)
        if not copied:
            self._share()
        array = self._backend.to_numpy(self._array)
        if copied:
            return np.array(array)
        array = array.view()
        array.flags.writeable = False
        return array

    def item(self) -> Any:
        """Return the only element as a Python scalar."""
        if self.size != 1:
            raise ShapeError(f"item: needs exactly one element, the shape is {self.shape}.")
        return self._backend.to_numpy(self._array).item()

    def tolist(self) -> Any:
        """Return the values as nested lists of Python scalars."""
        return self._backend.to_numpy(self._array).tolist()

    def to(self, device: str | Device) -> Tensor:
        """Return the values on another device (this tensor itself if it lives there)."""
        return _ops.to_device(self, Device(device))

    def to_device(self, device: str | Device, *, stream: Any = None) -> Tensor:
        """Return what `to` does, under its name in the array API; there are no streams."""
        return self.to(device)

    def astype(self, dtype: Any) -> Tensor:
        """Return the values in another dtype."""
        return _ops.astype(self, dtype)

    # Methods that are ops

    def reshape(self, *shape: Any) -> Tensor:
        """Return the values in another shape; see `helixml.reshape`."""
        if len(shape) == 1 and not hasattr(shape[0], "__index__"):
            shape = shape[0]
        count = self._array.size  # some arrays have a method of that name
        if has_sizes(shape, count if type(count) is int else self.size):
            # the op would find nothing else to do
            return _ops.reshape.run((self,), {"shape": shape}, True)
        return _ops.reshape(self, shape)

    def permute_dims(self, *axes: Any) -> Tensor:
        """Return the axes in another order; see `helixml.permute_dims`."""
        if len(axes) == 1 and not hasattr(axes[0], "__index__"):
            axes = axes[0]
        return _ops.permute_dims(self, axes)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the sum over ``axis``; see `helixml.sum`."""
        return _ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the mean over ``axis``; see `helixml.mean`."""
        return _ops.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the maximum over ``axis``; see `helixml.max`."""
        return _ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the minimum over ``axis``; see `helixml.min`."""
        return _ops.min(self, axis=axis, keepdims=keepdims)

    # Operators

    def __add__(self, other: Any) -> Tensor:
        return _ops.add.run_pair((self, other))

    def __radd__(self, other: Any) -> Tensor:
        return _ops.add.run_pair((other, self))

    def __sub__(self, other: Any) -> Tensor:
        return _ops.subtract.run_pair((self, other))

    def __rsub__(self, other: Any) -> Tensor:
        return _ops.subtract.run_pair((other, self))

    def __mul__(self, other: Any) -> Tensor:
        return _ops.multiply.run_pair((self, other))

    def __rmul__(self, other: Any) -> Tensor:
        return _ops.multiply.run_pair((other, self))

    def __truediv__(self, other: Any) -> Tensor:
        return _ops.divide.run_pair((self, other))

    def __rtruediv__(self, other: Any) -> Tensor:
        return _ops.divide.run_pair((other, self))

    def __floordiv__(self, other: Any) -> Tensor:
        return _ops.floor_divide.run_pair((self, other))

    def __rfloordiv__(self, other: Any) -> Tensor:
        return _ops.floor_divide.run_pair((other, self))

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __mod__(self, other: Any) -> Tensor:
        return _ops.remainder.run_pair((self, other))

    def __rmod__(self, other: Any) -> Tensor:
        return _ops.remainder.run_pair((other, self))

    def __pow__(self, other: Any) -> Tensor:
        return _ops.pow.run_pair((self, other))

    def __rpow__(self, other: Any) -> Tensor:
        return _ops.pow.run_pair((other, self))

    def __matmul__(self, other: Any) -> Tensor:
        return _ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _ops.matmul(other, self)

    def __neg__(self) -> Tensor:
        return _ops.negative(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return _ops.abs(self)

    def __invert__(self) -> Tensor:
        return _ops.bitwise_invert(self)

    def __and__(self, other: Any) -> Tensor:
        return _ops.bitwise_and.run_pair((self, other))

    def __rand__(self, other: Any) -> Tensor:
        return _ops.bitwise_and.run_pair((other, self))

    def __or__(self, other: Any) -> Tensor:
        return _ops.bitwise_or.run_pair((self, other))

    def __ror__(self, other: Any) -> Tensor:
        return _ops.bitwise_or.run_pair((other, self))

    def __xor__(self, other: Any) -> Tensor:
        return _ops.bitwise_xor.run_pair((self, other))

    def __rxor__(self, other: Any) -> Tensor:
        return _ops.bitwise_xor.run_pair((other, self))

    def __lshift__(self, other: Any) -> Tensor:
        return _ops.bitwise_left_shift.run_pair((self, other))

    def __rlshift__(self, other: Any) -> Tensor:
        return _ops.bitwise_left_shift.run_pair((other, self))

    def __rshift__(self, other: Any) -> Tensor:
        return _ops.bitwise_right_shift.run_pair((self, other))

    def __rrshift__(self, other: Any) -> Tensor:
        return _ops.bitwise_right_shift.run_pair((other, self))

    def __eq__(self, other: Any) -> Any:
        return _ops.equal.run_pair((self, other))

    def __ne__(self, other: Any) -> Any:
        return _ops.not_equal.run_pair((self, other))

    def __lt__(self, other: Any) -> Tensor:
        return _ops.less.run_pair((self, other))

    def __le__(self, other: Any) -> Tensor:
        return _ops.less_equal.run_pair((self, other))

    def __gt__(self, other: Any) -> Tensor:
        return _ops.greater.run_pair((self, other))

    def __ge__(self, other: Any) -> Tensor:
        return _ops.greater_equal.run_pair((self, other))

    def __hash__(self) -> int:
        return object.__hash__(self)

    # Indexing

    def __getitem__(self, index: Any) -> Tensor:
        kind = type(index)
        if kind is slice or kind is int:  # nothing to look for in it
            try:
                return _ops.part(self, (index,))
            except HelixError:
                pass  # and what follows says why
        return _ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._tracked and recording.get():
            raise InplaceError(
                f"setitem: this leaf (shape {self.shape}) requires a gradient, and x[i] = v would "
                "take its place. Hint: x = x.at[i].set(v), or assign_ inside `with hx.no_grad():`."
            )
        _ops.setitem(self, index, value)

    @property
    def at(self) -> Any:
        """Updates that return a new tensor: ``x.at[i].set(v)``, ``x.at[i].add(v)``."""
        return _ops.at(self)

    def __len__(self) -> int:
        shape = self._array.shape
        if len(shape) == 0:
            raise DTypeError("len: a scalar tensor has no length. Hint: its shape is ().")
        return shape[0]

    def __contains__(self, value: Any) -> bool:
        return bool(_ops.any(_ops.equal(self, value)))

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise DTypeError("iteration: a scalar tensor has no axis to go along.")
        return iter([self[i] for i in range(len(self))])

    # Python scalars

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"bool: the truth of {self.size} elements (shape {self.shape}) is ambiguous. "
                "Hint: hx.any(x) or hx.all(x)."
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self.ndim != 0 or dtypes.kind(self.dtype) not in "ui":
            raise DTypeError(
                f"index: only a scalar of an integer dtype can index, not shape {self.shape}, "
                f"{self.dtype}."
            )
        return self.item()

    # Looks and protocols

    def __repr__(self) -> str:
        return _ops.represent(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return _ops.to_array(self, dtype, copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return _ops.array_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _ops.array_function(function, types, args, kwargs)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return _ops.namespace(api_version)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        return _ops.dlpack(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # values of other devices go through host memory

    def __reduce__(self) -> Any:
        return _ops.reduce(self)

    def __deepcopy__(self, memo: Any) -> Any:
        rebuild, args = self.__reduce__()[:2]
        return rebuild(*args)


def new_tensor(array: Any, backend: Any) -> Tensor:
    """Make a tensor of an array that nobody else looks at: ``Tensor(...)`` with less ceremony."""
    tensor = Tensor.__new__(Tensor)
    tensor._array = array
    tensor._backend = backend
    tensor._cell = None
    tensor._dtype = None
    tensor._node = None
    tensor._slot = 0
    tensor._tracked = False
    tensor.grad = None
    return tensor


def living_tensors() -> list[Tensor]:
    """Return the tensors that the garbage collector knows.

    Its list of everything holds tuples too that another thread is still making, and Python cannot
    finish one that somebody else refers to ("SystemError: bad argument to internal function").
    Compiled code holds the list and lets go of it before any other thread runs. In Python threads
    may switch on the way, so there only what refers to the class is asked for: its instances.
    """
    if not __file__.endswith((".py", ".pyc")):
        return [t for t in gc.get_objects() if isinstance(t, Tensor)]
    classes: list[Any] = [Tensor]
    for kind in classes:
        classes += type.__subclasses__(kind)
    return [t for t in gc.get_referrers(*classes) if issubclass(type(t), Tensor)]


def dtype_of(tensor: Tensor) -> np.dtype[Any]:
    """Return the dtype, remembered: to ask an array takes as long as much of an op."""
    dtype = tensor._dtype
    if dtype is None:
        array = tensor._array
        dtype = array.dtype if type(array) is ndarray else tensor._backend.dtype_of(array)
        tensor._dtype = dtype
    return dtype


def as_tensor(op: str, value: Any, like: Tensor | None = None) -> Tensor:
    """Return ``value`` as a tensor on the device of ``like``; scalars take its dtype's kind."""
    if isinstance(value, Tensor):
        return value
    return _ops.convert(op, value, like)


def has_sizes(shape: Any, count: int) -> bool:
    """Say whether a tuple is the plain shape of so many elements, none of them -1."""
    if type(shape) is not tuple:
        return False
    product = 1
    for size in shape:
        if type(size) is not int or size <= 0 or size > count:
            return False
        product *= size
        if product > count:
            return False
    return product == count


def device_mismatch(op: str, x: Tensor, y: Tensor) -> Exception:
    """Return the error for operands on different devices."""
    return _ops.device_mismatch(op, x, y)
