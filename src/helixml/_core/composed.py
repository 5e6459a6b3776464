"""Ops made of other ops: composites, and fused ops, for which a backend may have kernels.

A `Composite` is a plain function of other ops. The Python body of a `Fused` op *is its definition*;
kernels are only faster ways to compute it, and higher derivatives always use the body. Read `op`
before this.
"""

from __future__ import annotations

from helixml import dtypes
from helixml._core.diagnose import failure, warn_if_widened
from helixml._core.modes import recording
from helixml._core.op import Op
from helixml._core.saving import attach, fit, hooks, keep, keep_residual, residual_of, restore
from helixml._core.storage import writer_of
from helixml._core.tensor import OPS, Tensor, as_tensor, device_mismatch, new_tensor
from helixml.errors import HelixError

_FLOAT32 = dtypes.float32
is_recording = recording.get  # bound once: every op asks


class Composite(Op):
    """A function of other ops, with no rule of its own."""

    kind = "composite"

    def __init__(self, function, name, real_only):
        Op.__init__(self, function, name, 0, real_only)
        names = self.parameters[: self.positional]
        self.converts = tuple([n in self.inputs and not self.variadic for n in names])
        self.convertible = frozenset([] if self.variadic else self.inputs)

    def __call__(self, *args, **kwargs):
        converts = self.converts
        for i in range(min(len(args), len(converts))):
            if converts[i] and not isinstance(args[i], Tensor):
                args = self.converted(args)
                break
        for name, value in kwargs.items():
            if name in self.convertible and not isinstance(value, Tensor):
                args, kwargs = self.converted_by_name(args, kwargs)
                break
        if self.real_only is not None:
            self.check_real((*args, *kwargs.values()))
        try:
            return self.function(*args, **kwargs)
        except HelixError:
            raise
        except Exception as error:
            inputs, attributes = self.bind(args, kwargs)
            raise failure(self, error, inputs, attributes) from error

    def converted(self, args):
        """Return ``args`` with array-likes made tensors; None stays."""
        like = None
        for value in args:
            if isinstance(value, Tensor):
                like = value
                break
        result = list(args)
        for i in range(min(len(args), len(self.converts))):
            if self.converts[i]:
                result[i] = self.converted_one(self.parameters[i], args[i], like)
        return tuple(result)

    def converted_by_name(self, args, kwargs):
        """Return ``(args, kwargs)`` with array-likes among ``kwargs`` made tensors."""
        like = None
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                like = value
                break
        result = dict(kwargs)
        for name in self.convertible & set(kwargs):
            result[name] = self.converted_one(name, kwargs[name], like)
        return args, result

    def converted_one(self, name, value, like):
        """Return an input as a tensor; None stays if it is optional."""
        if value is not None:
            return as_tensor(self.name, value, like)
        if name not in self.optional:
            raise self.missing(name)
        return None


class Fused(Op):
    """An op whose body is its definition, and that a backend may compute by kernels.

    ``writes`` names the inputs that the op overwrites; such an op is for leaves and gives no
    gradient. An op may take sequences, all of one length, and no other inputs; they reach its
    kernel as such, and its gradient, if it has one, is that of the definition. The conventions of a
    kernel are in `helixml.backends.dispatch`.
    """

    kind = "fused"

    def __init__(self, function, name, writes, integers, real_only):
        Op.__init__(self, function, name, 0, real_only)
        self.integers = frozenset([self.inputs.index(n) for n in integers])
        self.writes = tuple(writes)
        self.immediate = self.leading and len(self.settled) == len(self.attributes)

    def check(self, function):
        """Decorate a check ``(inputs..., attributes...) -> None`` of shapes and values."""
        self.check_call = function
        return function

    def __call__(self, *args, **kwargs):
        return call_fused(self, args, kwargs)

    def written(self, tensors):
        """Return those of ``tensors`` that the op overwrites."""
        groups = self.grouped(tensors) if self.variadic else [[tensor] for tensor in tensors]
        found = []
        for name, group in zip(self.inputs, groups, strict=True):
            if name in self.writes:
                found += [tensor for tensor in group if tensor is not None]
        return found

    def define(self, tensors, attributes):
        """Run the definition; for 16-bit floats in float32, by the kernel if there is one."""
        half = None if self.writes else common_half(tensors)
        if half is not None:
            wide = [
                OPS.astype(t, _FLOAT32) if t is not None and t.dtype == half else t for t in tensors
            ]
            pairs = zip(self.inputs, self.grouped(wide), strict=True)
            result = self(**dict(pairs), **attributes)
            if isinstance(result, tuple):
                return tuple([narrowed(output, half) for output in result])
            return narrowed(result, half)
        warn_if_widened(tensors)
        if self.leading:
            return self.function(*tensors, **attributes)
        pairs = zip(self.inputs, self.grouped(tensors), strict=True)
        return self.function(**dict(pairs), **attributes)

    def pull(self, node, cotangents, needs):
        """Return gradients by the backward kernel, or by differentiating the definition."""
        return pull_fused(self, node, cotangents, needs)


# What `Fused` does when it is called and pulled. These are functions, because methods of a class in
# Python, which whoever watches the ops can replace, have no types when they are compiled.


def call_fused(op, args, kwargs):
    """Compute by a kernel and record one node for the whole op, or run the definition."""
    if op.immediate and len(args) == op.arity and not kwargs:
        inputs = args
        attributes = op.settled
    else:
        inputs, attributes = op.bind(args, kwargs)
    first = None
    for item in inputs:
        if isinstance(item, Tensor):
            first = item
            break
    tensors = []
    arrays = []
    differentiates = False
    for i in range(len(inputs)):
        item = inputs[i]
        if item is None:
            name = op.input_name(i, len(inputs))
            if name not in op.optional:
                raise op.missing(name)
            tensors.append(None)
            arrays.append(None)
            continue
        value = item if isinstance(item, Tensor) else as_tensor(op.name, item, first)
        if first is None:
            first = value
        elif value._backend is not first._backend:
            raise device_mismatch(op.name, first, value)
        if value._tracked or value._node is not None:
            differentiates = True
        tensors.append(value)
        arrays.append(value._array)
    try:
        if op.check_call is not None:
            op.check_call(*op.grouped(tensors), **attributes)
        if op.writes:
            return write_fused(op, first, tensors, arrays, attributes)
        kernel = None
        if first is not None:
            kernel = first._backend.kernels.find(op.name, arrays, attributes, op.integers)
        if kernel is None:
            if op.real_only is not None:
                op.check_real(tensors)
            return op.define(tensors, attributes)
        backend = first._backend
        recorded = differentiates and is_recording()
        # Saved values that are put away, as those of a checkpoint, would not be put in its place.
        if recorded and op.name in backend.kernels.preparing and hooks.get() is None:
            results, residuals = kernel(*op.grouped(arrays), **attributes, recorded=True)
        else:
            results, residuals = kernel(*op.grouped(arrays), **attributes)
        outputs = tuple([new_tensor(array, backend) for array in results])
        if recorded:
            kept = tuple([keep_residual(array, results, outputs) for array in residuals])
            saved = (tuple([None if t is None else keep(t) for t in tensors]), kept)
            attach(op, tuple(tensors), attributes, saved, outputs)
        return outputs[0] if len(outputs) == 1 else outputs
    except HelixError:
        raise
    except Exception as error:
        raise failure(op, error, tensors, attributes) from error


def write_fused(op, first, tensors, arrays, attributes):
    """Overwrite those inputs that the op writes, by a kernel or by the definition."""
    written = op.written(tensors)
    for tensor in written:  # all of them before the first is written
        tensor._check_write(op.name)
    kernel = None
    if first is not None:
        kernel = first._backend.kernels.find(op.name, arrays, attributes, op.integers)
    if kernel is None:
        if op.real_only is not None:
            op.check_real(tensors)
        return op.define(tensors, attributes)
    writer = writer_of(op.name)
    for tensor in written:
        tensor._begin_write(writer)
    # That may have given any of them an array of its own.
    arrays = [None if tensor is None else tensor._array for tensor in tensors]
    kernel(*op.grouped(arrays), **attributes)
    return None


def pull_fused(op, node, cotangents, needs):
    """Return gradients by the backward kernel, or by differentiating the definition."""
    saved, residuals = node.saved
    tensors = []
    for i in range(len(saved)):
        kept = saved[i]
        tensors.append(None if kept is None else restore(kept, node, op.input_name(i, len(saved))))
    if not is_recording():
        backend = node.backend
        arrays = [None if t is None else t._array for t in tensors]
        kernel = backend.kernels.find(op.name + "_vjp", arrays, node.attrs, op.integers)
        if kernel is not None:
            raw = tuple([None if c is None else c._array for c in cotangents])
            residuals = tuple([residual_of(r, op.name) for r in residuals])
            results = kernel(raw, needs, tuple(arrays), residuals, **node.attrs)
            made = {}  # one array may serve several inputs; then so does its tensor
            gradients = []
            for i in range(len(results)):
                gradient = None
                if needs[i]:
                    array = results[i]
                    gradient = made.get(id(array))
                    if gradient is None:
                        gradient = made[id(array)] = new_tensor(array, backend)
                    gradient = fit(gradient, node, i)
                gradients.append(gradient)
            return gradients
    return OPS.pull_definition(op, node, tensors, cotangents, needs)


def common_half(tensors):
    """Return the 16-bit float that all floats among ``tensors`` have, or None."""
    half = None
    for tensor in tensors:
        if tensor is not None and tensor.dtype in dtypes.DIFFERENTIABLE:
            if tensor.dtype not in dtypes.HALVES or (half is not None and tensor.dtype != half):
                return None
            half = tensor.dtype
    return half


def narrowed(output, half):
    """Return a result that was computed in float32 as ``half``; integers stay."""
    return OPS.astype(output, half) if output.dtype == _FLOAT32 else output


def composite(function=None, *, name=None, real_only=None, oracle=None, numpy=()):
    """Make a `Composite` of a function of tensors; ``real_only``, ``numpy`` as for `primitive`."""

    def define(f):
        op = Composite(f, name, real_only)
        op.oracle = oracle
        op.numpy = (numpy,) if isinstance(numpy, str) else numpy
        return op

    return define if function is None else define(function)


def fused(function=None, *, name=None, writes=(), integers=(), real_only=None, oracle=None):
    """Make a `Fused` op of its definition.

    Parameters
    ----------
    writes : names of the inputs that it overwrites.
    integers : names of the inputs that are, or may be, of other dtypes than the others (the op's
        check must see to it); all others have one float dtype when a kernel gets them.
    real_only : as for `primitive`. Kernels are for real numbers in any case.
    """

    def define(f):
        op = Fused(f, name, writes, integers, real_only)
        op.oracle = oracle
        return op

    return define if function is None else define(function)
