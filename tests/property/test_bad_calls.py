"""Random calls, most of them wrong, of every public function.

A call ends in an error of the library's own tree, or it was right: then the value is the oracle's.
It never ends in another error, never hangs, and never changes what it was given.
"""

import inspect
import re
import signal
from contextlib import contextmanager

import numpy as np
import pytest

import helixml as hx
from helixml._core.op import Op
from helixml.errors import HelixError

SECONDS = 5  # that a call may take
OBJECTS = (
    *("text", "", "ab", None, {}, object(), float, print, slice(None), Ellipsis, b"bytes"),
    *([], (), [[1], [1, 2]], [1, "a"], [None], {1, 2}, np.array(["a"]), np.array([None])),
    *(2.5, -0.0, float("nan"), float("inf"), 10**30, -(10**30), 1j, True, np.float64(1.5)),
    *(np.int8(3), np.datetime64("2020-01-01"), np.zeros((2, 0)), np.ones((3, 3)), range(3)),
)
SHAPES = ((), (1,), (3,), (4,), (0,), (2, 3), (3, 2), (3, 3), (1, 3), (3, 0), (2, 1, 3), (2, 3, 4))
DTYPES = (
    *("float32", "float32", "float64", "float64", "int64", "int32", "bool", "complex64"),
    *("complex128", "float16", "bfloat16", "uint8", "int8", "uint64"),
)
MODULES = ("ops", "linalg", "fft", "special", "random")
BINDING = re.compile(r"(takes|got|missing|expected) .*argument|takes no (keyword )?arguments")
# Without an axis these take the first or the last, as they document; NumPy's flatten.
NO_AXIS = {"ops.cumulative_sum", "ops.cumulative_prod", "ops.take"}
# Which neighbour there is depends on the dtype; which eigenvalue comes first, on rounding.
UNCOMPARED = {"ops.nextafter", "linalg.eigvals"}
FLAGS = ("invert", "keepdims", "descending", "stable")
SKIPPED = {"seed", "default_rng", "set_num_threads"}  # they change the state that others use


class Chooser:
    """Draws arguments that fit an annotation more often than not."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def one(self, items):
        return items[int(self.rng.integers(len(items)))]

    def chance(self, p):
        return self.rng.random() < p

    def array(self):
        shape = self.one(SHAPES)
        dtype = self.one(DTYPES)
        values = self.rng.normal(size=shape) * 2
        values = np.abs(values) if dtype.startswith("uint") else values
        if self.chance(0.1):
            values = np.round(values)
        return np.asarray(values).astype(hx.dtypes.parse(dtype), casting="unsafe")

    def tensor(self):
        if self.chance(0.1):
            return self.one(OBJECTS)
        if self.chance(0.1):
            return self.one((2, -1.5, 0, True, 1j))
        if self.chance(0.05):
            return self.array()  # an array is taken for a tensor
        x = hx.tensor(self.array(), device="reference" if self.chance(0.03) else None)
        if x.ndim > 1 and self.chance(0.2):
            x = x.mT
        if hx.dtypes.is_floating(x.dtype) and self.chance(0.3):
            x.requires_grad = True
        return x

    def indices(self):
        return hx.tensor(self.rng.integers(-4, 4, size=self.one(SHAPES)))

    def value(self, name, annotation):
        """Return an argument for a parameter."""
        if self.chance(0.12):
            return self.one(OBJECTS)
        if "Sequence[Tensor" in annotation or "Sequence[Array" in annotation:
            return [self.tensor() for _ in range(int(self.rng.integers(0, 4)))]
        if name in ("indices", "sorter", "target"):
            return self.indices() if self.chance(0.8) else self.tensor()
        if annotation.startswith(("Array", "Tensor")):
            return self.tensor()
        literals = re.findall(r"'([^']*)'", annotation)
        if "Literal" in annotation and literals:
            return self.one(literals)
        if "bool" in annotation:
            return self.chance(0.5)
        if "DType" in annotation:
            return self.one(DTYPES)
        if "Device" in annotation:
            return self.one(("cpu", "reference", "nowhere:0"))
        if name in ("axis", "axes", "source", "destination") or "Axis" in annotation:
            plain = [int(a) for a in self.rng.integers(-3, 3, size=self.one((1, 1, 2, 3)))]
            return self.one((plain[0], plain[0], tuple(plain), None))
        if name in ("shape", "sizes", "repetitions", "repeats", "size") or "tuple" in annotation:
            plain = tuple(int(n) for n in self.rng.integers(-1, 4, size=self.one((1, 2, 3))))
            return self.one((plain, plain, plain[0]))
        if "int" in annotation:
            return int(self.rng.integers(-3, 6))
        if "float" in annotation:
            return self.one((0.5, -1.0, 3, 0.0, 1e-5))
        return self.tensor() if self.chance(0.6) else self.one(OBJECTS)

    def arguments(self, function):
        """Return arguments of a call, in order and by name."""
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        args, kwargs = [], {}
        for p in parameters:
            if p.kind is p.VAR_POSITIONAL:
                args += [self.tensor() for _ in range(int(self.rng.integers(0, 4)))]
                continue
            wanted = p.default is p.empty or self.chance(0.3)
            if not wanted or self.chance(0.02):
                continue
            value = self.value(p.name, str(p.annotation).strip("'\""))
            if p.kind is p.KEYWORD_ONLY or p.default is not p.empty or kwargs:
                kwargs[p.name] = value
            else:
                args.append(value)
        if self.chance(0.02):
            kwargs[self.one(("dim", "axes", "keepdim"))] = 1
        if self.chance(0.02):
            args.append(self.tensor())
        return args, kwargs


def public_functions():
    """Return every public function and method by name."""
    found = {}
    for module in MODULES:
        space = getattr(hx, module, None)
        for name in getattr(space, "__all__", ()):
            function = getattr(space, name)
            if callable(function) and not inspect.isclass(function) and name not in SKIPPED:
                found[f"{module}.{name}"] = function
    for name in dir(hx.Tensor):
        method = getattr(hx.Tensor, name)
        if not name.startswith("_") and callable(method):
            found[f"Tensor.{name}"] = method
    operators = "add radd sub rsub mul truediv rtruediv matmul pow rpow mod and or xor invert neg"
    for name in operators.split():
        found[f"Tensor.__{name}__"] = getattr(hx.Tensor, f"__{name}__")
    return found


FUNCTIONS = public_functions()


@contextmanager
def limited(seconds):
    """End what takes longer."""

    def stop(*_):
        raise TimeoutError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def arrays_of(value):
    """Return ``value`` with arrays in place of tensors."""
    if isinstance(value, hx.Tensor):
        return value.detach().numpy().copy()
    if isinstance(value, (list, tuple)):
        return type(value)(arrays_of(item) for item in value)
    return value


def described(value):
    if isinstance(value, hx.Tensor):
        return f"{value.dtype}{value.shape}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(described, value)) + "]"
    return f"{value!r:.60}"


def verdict(name, function, args, kwargs):
    """Return what is wrong with how a call ends; None if nothing is."""
    before = arrays_of([*args, *kwargs.values()])
    try:
        with limited(SECONDS):
            result = function(*args, **kwargs)
    except HelixError as error:
        text = str(error)
        return None if ": " in text else f"an error that does not say where: {text}"
    except Exception as error:
        if (
            not isinstance(function, Op)
            and isinstance(error, TypeError)
            and BINDING.search(str(error))
        ):
            return None  # of plain functions and methods Python itself says how they are called
        return f"{type(error).__name__}: {error}"
    op = function if isinstance(function, Op) else None
    if name in NO_AXIS and kwargs.get("axis") is None:
        return None
    flags = [v for k, v in kwargs.items() if k in FLAGS or k.startswith("return_")]
    if name in UNCOMPARED or not all(isinstance(flag, bool) for flag in flags):
        return None  # objects have a truth, and oracles none
    if op is not None and op.oracle is not None and not getattr(op, "writes", ()):
        return differing(op, result, before, args, kwargs)
    return None


def differing(op, result, before, args, kwargs):
    """Return how a result differs from the oracle's; None if it does not, or has no say."""
    if not op.variadic:  # a list stands for an array
        try:
            before = [np.asarray(v) if isinstance(v, (list, tuple)) else v for v in before]
        except ValueError:
            return None  # a list of lists, not all of one length
    given = before[: len(args)]
    named = dict(zip(kwargs, before[len(args) :], strict=True))
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    found = [v.detach().numpy() if isinstance(v, hx.Tensor) else np.asarray(v) for v in found]
    problem = None
    if not found:
        return None  # split in no parts
    for read in (wide, signed):  # oracles negate, and do not expect a byte's wrapped negative
        try:
            with limited(SECONDS), np.errstate(all="ignore"):
                expected = op.oracle(*map(read, given), **{k: read(v) for k, v in named.items()})
        except Exception:
            return None  # a call that only the op takes
        expected = list(expected) if isinstance(expected, (tuple, list)) else [expected]
        coarse = max(map(eps_of, [*before, *found, *expected]), default=1e-9)
        problem = far_apart(list(map(np.asarray, expected)), found, coarse)
        if problem is None:
            return None
    return problem


def far_apart(expected, found, coarse):
    """Return how arrays differ; None if they are close."""
    if len(expected) != len(found):
        return f"{len(found)} results for {len(expected)}"
    for exact, value in zip(expected, found, strict=True):
        if exact.shape != value.shape:
            return f"shape {value.shape} for {exact.shape}"
        with np.errstate(all="ignore"):
            # What overflows the result's dtype is infinite there.
            y = wide(exact if exact.dtype.kind in "biu" else exact.astype(value.dtype))
            width = coarse * (1 + scale_of(y))
            near = np.isclose(wide(value), y, rtol=coarse, atol=width, equal_nan=True)
            if exact.dtype.itemsize < value.dtype.itemsize:
                near |= ~np.isfinite(exact)  # more than the 16 bits hold that NumPy makes of bytes
        if not near.all():
            return f"{value} for {exact}"
    return None


def wide(value):
    """Return the exact values as oracles take them."""
    if isinstance(value, list):
        return [wide(item) for item in value]
    floats = isinstance(value, np.ndarray) and value.dtype.kind in "fV"
    return value.astype(np.float64) if floats else value


def signed(value):
    """Return the same with unsigned integers as floats."""
    if isinstance(value, list):
        return [signed(item) for item in value]
    unsigned = isinstance(value, np.ndarray) and value.dtype.kind == "u"
    return value.astype(np.float64) if unsigned else wide(value)


def eps_of(value):
    """Return a generous rounding for an operand's or a result's dtype."""
    if isinstance(value, (list, tuple)):
        return max(map(eps_of, value), default=1e-9)
    table = {"bfloat16": 0.1, "float16": 0.02, "float32": 1e-4, "complex64": 1e-4}
    return table.get(str(getattr(value, "dtype", None)), 1e-9)


def scale_of(a):
    finite = np.abs(a[np.isfinite(a)]) if a.dtype.kind in "fc" else np.abs(a).astype(float)
    return float(finite.max(initial=0.0))


def wrong_calls(count, seed):
    """Make ``count`` calls and return what is wrong with them."""
    chooser = Chooser(seed)
    names = sorted(FUNCTIONS)
    found = []
    for number in range(count):
        name = names[number % len(names)]
        function = FUNCTIONS[name]
        args, kwargs = chooser.arguments(function)
        if name.startswith("Tensor."):
            args = [hx.tensor(chooser.array()), *args[1:]]
            kwargs.pop("self", None)
        problem = verdict(name, function, args, kwargs)
        if problem is not None:
            words = [*map(described, args), *(f"{k}={described(v)}" for k, v in kwargs.items())]
            found.append(f"{name}({', '.join(words)}): {problem}")
    return found


def test_a_thousand_calls():
    assert wrong_calls(1000, seed=1) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_calls(seed):
    assert wrong_calls(1000, seed=100 + seed) == []
