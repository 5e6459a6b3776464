"""Functions of single elements on views, each in the dtypes that it serves; see map.wgsl.

The tables give an expression of ``x``, ``y`` and ``z`` for each class of dtypes: f float32, c
complex64, i signed integers in one word, u unsigned ones and booleans, s int64, w uint64. Integers
narrower than a word are cut to their width after every operation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np

from helixml import dtypes
from helixml.backends.wgpu.arrays import DTYPES, WgpuArray, collapsed
from helixml.backends.wgpu.kernels.copies import RANK, wrapped
from helixml.backends.wgpu.launch import INCLUDE, Program, raw
from helixml.backends.wgpu.pool import Storage
from helixml.backends.wgpu.runtime import Runtime
from helixml.dtypes import DType
from helixml.errors import DTypeError
from helixml.shapes import Shape

__all__ = [
    "BINARY",
    "PREDICATES",
    "UNARY",
    "binary",
    "broadcast",
    "cast",
    "expression",
    "map_views",
    "unary",
]

_GROUP = 256
# How many iterations the loops of the slowest functions make: long division of floats whose
# exponents are far apart.
_TRIPS = 300

CLASSES: dict[DType, str] = {
    dtypes.bool_: "u",
    dtypes.int8: "i",
    dtypes.int16: "i",
    dtypes.int32: "i",
    dtypes.int64: "s",
    dtypes.uint8: "u",
    dtypes.uint16: "u",
    dtypes.uint32: "u",
    dtypes.uint64: "w",
    dtypes.float32: "f",
    dtypes.complex64: "c",
}
_WRAPS: dict[DType, str] = {
    dtypes.int8: "(({}) << 24u) >> 24u",
    dtypes.int16: "(({}) << 16u) >> 16u",
    dtypes.uint8: "({}) & 255u",
    dtypes.uint16: "({}) & 65535u",
}


def _truth(condition: str) -> str:
    return f"select(0u, 1u, {condition})"


def _floats(*names: str) -> dict[str, dict[str, str]]:
    return {name: {"f": f"{name}_(x)", "c": f"c_{name}(x)"} for name in names}


# Results are of the dtype of x, but those of `PREDICATES` are booleans, and `abs`, `real` and
# `imag` of complex numbers are real.
UNARY: dict[str, dict[str, str]] = {
    **_floats("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan"),
    **_floats("asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    "sigmoid": {"f": "sigmoid_(x)", "c": "c_sigmoid(x)"},
    "erf": {"f": "erf_(x)"},
    "abs": {
        **{"f": "absolute(x)", "c": "c_abs(x)", "i": "abs(x)", "u": "x"},
        **{"s": "wide_absolute(x)", "w": "x"},
    },
    "negative": {
        **{"f": "-x", "c": "-x", "i": "-x", "u": "0u - x"},
        **{"s": "wide_negative(x)", "w": "wide_negative(x)"},
    },
    "sign": {
        **{"f": "sign_(x)", "c": "c_sign(x)", "i": "sign(x)", "u": "min(x, 1u)"},
        "s": "select(Wide(select(1u, 0u, wide_is_zero(x)), 0u), "
        "Wide(0xffffffffu, 0xffffffffu), wide_is_negative(x))",
        "w": "Wide(select(1u, 0u, wide_is_zero(x)), 0u)",
    },
    "square": {
        **{"f": "x * x", "c": "c_multiply(x, x)", "i": "x * x", "u": "x * x"},
        **{"s": "wide_multiply(x, x)", "w": "wide_multiply(x, x)"},
    },
    **{
        name: {"f": f"{name}_(x)", **dict.fromkeys("iusw", "x")}
        for name in ("floor", "ceil", "trunc")
    },
    "round": {
        "f": "round_(x)",
        "c": "Complex(round_(x.x), round_(x.y))",
        **dict.fromkeys("iusw", "x"),
    },
    "signbit": {
        **{"f": _truth("is_negative(x)"), "i": _truth("x < 0"), "u": "0u"},
        **{"s": _truth("wide_is_negative(x)"), "w": "0u"},
    },
    "isfinite": {
        "f": _truth("is_finite(x)"),
        "c": _truth("is_finite(x.x) && is_finite(x.y)"),
        **dict.fromkeys("iusw", "1u"),
    },
    "isnan": {
        "f": _truth("is_nan(x)"),
        "c": _truth("is_nan(x.x) || is_nan(x.y)"),
        **dict.fromkeys("iusw", "0u"),
    },
    "isinf": {
        "f": _truth("is_inf(x)"),
        "c": _truth("is_inf(x.x) || is_inf(x.y)"),
        **dict.fromkeys("iusw", "0u"),
    },
    "logical_not": {
        **{"f": _truth("magnitude(x) == 0u"), "c": _truth("magnitude(x.x) + magnitude(x.y) == 0u")},
        **{"i": _truth("x == 0"), "u": _truth("x == 0u")},
        **dict.fromkeys("sw", _truth("wide_is_zero(x)")),
    },
    "bitwise_invert": dict.fromkeys("iusw", "~x"),
    "conj": {"c": "Complex(x.x, -x.y)", **dict.fromkeys("fiusw", "x")},
}

_WIDE_TRUTH = "(!wide_is_zero({}))"
_TRUTHS = {
    **{"f": "(magnitude({}) != 0u)", "c": "(magnitude({0}.x) + magnitude({0}.y) != 0u)"},
    **{"i": "({} != 0)", "u": "({} != 0u)", "s": _WIDE_TRUTH, "w": _WIDE_TRUTH},
}


def _logical(sign: str) -> dict[str, str]:
    return {k: _truth(f"{t.format('x')} {sign} {t.format('y')}") for k, t in _TRUTHS.items()}


def _compared(sign: str, wide: str) -> dict[str, str]:
    """Return a comparison; complex numbers compare by parts, a nan is neither less nor equal."""
    less = f"x.x {sign} y.x"
    if sign not in ("==", "!="):
        less = f"select({less}, x.y {sign} y.y, x.x == y.x)"
    elif sign == "==":
        less += " && x.y == y.y"
    else:
        less += " || x.y != y.y"
    unordered = "is_nan(x) || is_nan(y)"
    floats = f"!({unordered}) && x {sign} y" if sign != "!=" else f"{unordered} || x != y"
    return {
        "f": _truth(floats),
        "c": _truth(less),
        **dict.fromkeys("iu", _truth(f"x {sign} y")),
        **{k: _truth(wide.replace("less", f"wide_less_{k.replace('w', 'u')}")) for k in "sw"},
    }


BINARY: dict[str, dict[str, str]] = {
    "add": {**dict.fromkeys("fciu", "x + y"), **dict.fromkeys("sw", "wide_add(x, y)")},
    "subtract": {**dict.fromkeys("fciu", "x - y"), **dict.fromkeys("sw", "wide_subtract(x, y)")},
    "multiply": {
        "c": "c_multiply(x, y)",
        **dict.fromkeys("fiu", "x * y"),
        **dict.fromkeys("sw", "wide_multiply(x, y)"),
    },
    "divide": {"f": "divide_(x, y)", "c": "c_divide(x, y)"},
    "floor_divide": {
        "f": "floor_divide_(x, y)",
        "i": "integer_parts(x, y).x",
        "u": "select(x / max(y, 1u), 0u, y == 0u)",
        "s": "wide_parts_s(x, y).quotient",
        "w": "wide_parts_u(x, y).quotient",
    },
    "remainder": {
        "f": "remainder_(x, y)",
        "i": "integer_parts(x, y).y",
        "u": "select(x % max(y, 1u), 0u, y == 0u)",
        "s": "wide_parts_s(x, y).rest",
        "w": "wide_parts_u(x, y).rest",
    },
    "pow": {
        **{"f": "pow_(x, y)", "c": "c_pow(x, y)"},
        "i": "bitcast<i32>(wide_power(wide_from_i32(x), wide_from_i32(y)).x)",
        "u": "wide_power(wide_from_u32(x), wide_from_u32(y)).x",
        **dict.fromkeys("sw", "wide_power(x, y)"),
    },
    "atan2": {"f": "atan2_(x, y)"},
    "hypot": {"f": "hypot_(x, y)"},
    "logaddexp": {"f": "logaddexp_(x, y)"},
    "copysign": {"f": "with_sign(x, y)"},
    "nextafter": {"f": "nextafter_(x, y)"},
    "maximum": {
        **{"f": "larger(x, y)", "i": "max(x, y)", "u": "max(x, y)"},
        **{
            "s": "wide_select(x, y, wide_less_s(x, y))",
            "w": "wide_select(x, y, wide_less_u(x, y))",
        },
    },
    "minimum": {
        **{"f": "smaller(x, y)", "i": "min(x, y)", "u": "min(x, y)"},
        **{
            "s": "wide_select(y, x, wide_less_s(x, y))",
            "w": "wide_select(y, x, wide_less_u(x, y))",
        },
    },
    "equal": _compared("==", "wide_equal(x, y)"),
    "not_equal": _compared("!=", "!wide_equal(x, y)"),
    "less": _compared("<", "less(x, y)"),
    "less_equal": _compared("<=", "!less(y, x)"),
    "greater": _compared(">", "less(y, x)"),
    "greater_equal": _compared(">=", "!less(x, y)"),
    "logical_and": _logical("&&"),
    "logical_or": _logical("||"),
    "logical_xor": _logical("!="),
    "bitwise_and": dict.fromkeys("iusw", "x & y"),
    "bitwise_or": dict.fromkeys("iusw", "x | y"),
    "bitwise_xor": dict.fromkeys("iusw", "x ^ y"),
    "bitwise_left_shift": {
        "i": "select(x << min(bitcast<u32>(y), 31u), 0, bitcast<u32>(y) > 31u)",
        "u": "select(x << min(y, 31u), 0u, y > 31u)",
        **dict.fromkeys("sw", "wide_left(x, shift_of(y))"),
    },
    "bitwise_right_shift": {
        "i": "x >> min(bitcast<u32>(y), 31u)",
        "u": "select(x >> min(y, 31u), 0u, y > 31u)",
        "s": "wide_right_s(x, shift_of(y))",
        "w": "wide_right_u(x, shift_of(y))",
    },
}
# What arithmetic of booleans is, where NumPy has it.
_BOOLEAN = {
    **{"add": "x | y", "multiply": "x & y", "abs": "x"},
    "bitwise_invert": "x ^ 1u",
}
_NO_BOOLEANS = (
    "negative",
    "sign",
    "square",
    "subtract",
    "signbit",
    "floor_divide",
    "remainder",
    "pow",
)
PREDICATES = frozenset(
    {
        *("signbit", "isfinite", "isnan", "isinf", "logical_not", "equal", "not_equal", "less"),
        *("less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_xor"),
    }
)


def unary(runtime: Runtime, name: str, x: WgpuArray) -> WgpuArray:
    """Return a function of `UNARY`."""
    dtype = x.dtype
    if name in PREDICATES:
        dtype = dtypes.bool_
    elif name == "abs":
        dtype = dtypes.real_of(dtype)
    return map_views(runtime, expression(name, 1, x.dtype), [x], x.shape, dtype)


def binary(runtime: Runtime, name: str, x: WgpuArray, y: WgpuArray) -> WgpuArray:
    """Return a function of `BINARY`; operands broadcast."""
    dtype = dtypes.bool_ if name in PREDICATES else x.dtype
    shape = x.shape if x.shape == y.shape else broadcast(name, x.shape, y.shape)
    return map_views(runtime, expression(name, 2, x.dtype), [x, y], shape, dtype)


def cast(runtime: Runtime, x: WgpuArray, dtype: DType) -> WgpuArray:
    """Return ``x`` in another dtype."""
    return map_views(runtime, conversion(x.dtype, dtype), [x], x.shape, dtype)


@cache
def expression(name: str, arity: int, dtype: DType) -> str:
    """Return what computes a function in a dtype, or raise a DTypeError."""
    table = UNARY if arity == 1 else BINARY
    if dtype == dtypes.bool_:
        if name in _NO_BOOLEANS:
            raise DTypeError(
                f"{name}: takes no booleans on WebGPU. Hint: cast with astype('int8'), or use "
                "logical_and, logical_or."
            )
        if name in _BOOLEAN:
            return _BOOLEAN[name]
    found = table[name].get(CLASSES[dtype])
    if found is None:
        raise DTypeError(f"{name}: takes no {dtype} on WebGPU. Hint: cast with astype().")
    if name not in PREDICATES and dtype in _WRAPS:
        return _WRAPS[dtype].format(found)
    return found


@cache
def conversion(source: DType, target: DType) -> str:
    """Return what casts ``x``; floats are cut towards zero, integers to their low bits."""
    own, wanted = CLASSES[source], CLASSES[target]
    if target == dtypes.bool_:
        return "x" if source == dtypes.bool_ else _truth(_TRUTHS[own].format("x"))
    if wanted == own:
        return _WRAPS[target].format("x") if target in _WRAPS else "x"
    # By way of a type that both know: what is cast, first to that, then from it.
    if wanted in "fc":
        real = {
            "f": "x",
            "c": "x.x",
            **dict.fromkeys("iu", "f32(x)"),
            "s": "float_from_wide_s(x)",
            "w": "float_from_wide_u(x)",
        }[own]
        return real if wanted == "f" else f"Complex({real}, 0.0)"
    wide = {
        "f": "wide_from_float_u(x)" if wanted == "w" else "wide_from_float(x)",
        "c": "wide_from_float(x.x)",
        "i": "wide_from_i32(x)",
        "u": "wide_from_u32(x)",
        **dict.fromkeys("sw", "x"),
    }[own]
    if own == "f" and target == dtypes.int32:
        return "integer_from_float(x)"
    if wanted in "sw":
        return wide
    low = f"{wide}.x" if wanted == "u" else f"bitcast<i32>({wide}.x)"
    return _WRAPS[target].format(low) if target in _WRAPS else low


def broadcast(name: str, *shapes: Shape) -> Shape:
    """Return the shape to which all broadcast."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def map_views(
    runtime: Runtime,
    expression: str,
    operands: Sequence[WgpuArray],
    shape: Shape,
    dtype: DType,
    *,
    out: WgpuArray | None = None,
) -> WgpuArray:
    """Return ``expression`` of the elements of up to three operands, broadcast to ``shape``.

    Parameters
    ----------
    expression : WGSL, of ``x``, ``y`` and ``z``.
    out : a view of that shape and dtype to write to, in a buffer of its own; new if None.
    """
    made = runtime.empty(shape, dtype) if out is None else out
    if not made.size:
        return made
    head = _head(expression, tuple([x.dtype for x in operands]), dtype)
    given = [x.strides if x.shape == shape else stretched(x, shape) for x in operands]
    sizes, steps = collapsed(shape, *given, made.strides)
    starts = [x.offset for x in operands]
    buffers = [*[x.storage for x in operands], made.storage]
    _launch(Program.of(runtime, "map.wgsl"), head, buffers, sizes, steps, [*starts, made.offset])
    made.storage.version += 1
    return made


def _launch(
    program: Program,
    head: str,
    buffers: list[Storage],
    shape: tuple[int, ...],
    steps: Sequence[tuple[int, ...]],
    starts: list[int],
) -> None:
    """Launch on views of at most `RANK` axes; of more, on part after part."""
    if len(shape) > RANK:
        for i in range(shape[0]):
            moved = [start + i * own[0] for start, own in zip(starts, steps, strict=True)]
            _launch(program, head, buffers, shape[1:], [own[1:] for own in steps], moved)
        return
    missing = 4 - len(starts)
    size = prod(shape)
    *given, own = [wrapped(s) for s in steps]
    x, y, z = given + [[0]] * missing
    x_start, y_start, z_start = starts[:-1] + [0] * missing
    program.launch(
        "map",
        buffers,
        {
            "size": size,
            "rank": len(shape),
            "x_start": x_start,
            "y_start": y_start,
            "z_start": z_start,
            "start": starts[-1],
            "shape": shape,
            "x_steps": x,
            "y_steps": y,
            "z_steps": z,
            "steps": own,
        },
        groups=-(-size // _GROUP),
        trips=RANK + _TRIPS,
        head=head,
    )


def stretched(x: WgpuArray, shape: Shape) -> tuple[int, ...]:
    """Return the strides of ``x`` broadcast to ``shape``."""
    added = len(shape) - len(x.shape)
    return (0,) * added + tuple(
        0 if own == 1 and n != 1 else stride
        for own, n, stride in zip(x.shape, shape[added:], x.strides, strict=True)
    )


# Each with what it includes before it.
_LIBRARIES = ("floats.wgsl", "complex.wgsl", "wide.wgsl", "integers.wgsl")


@cache
def includes(text: str) -> str:
    """Return the lines that include the libraries of which a text of WGSL uses something.

    Drivers compile everything that is included, used or not.
    """
    words = set(_NAME.findall(text))
    return "".join(f'#include "{file}"\n' for file in _LIBRARIES if words & _declared(file))


@cache
def _declared(file: str) -> frozenset[str]:
    """Return what a library declares itself."""
    included = {name for f in INCLUDE.findall(raw(file)) for name in _declared(f)}
    return frozenset(_DECLARED.findall(raw(file))) - included


_NAME = re.compile(r"[A-Za-z_]\w*")
_DECLARED = re.compile(r"^(?:fn|alias|struct) (\w+)", re.MULTILINE)


@cache
def _head(expression: str, operands: tuple[DType, ...], dtype: DType) -> str:
    """Return what map.wgsl leaves to be said."""
    types = [DTYPES[d][1] for d in operands]
    letters = "xyz"[: len(types)]
    aliases = [f"alias {n} = {t};" for n, t in zip("XYZ", [*types, *["u32"] * 3], strict=False)]
    loads = [f"let {n} = {n}s[{at}];" for n, at in zip(letters, "abc", strict=False)]
    body = " ".join(loads)
    return "\n".join(
        [
            includes(expression),
            *aliases,
            f"alias R = {DTYPES[dtype][1]};",
            f"fn value(a: u32, b: u32, c: u32) -> R {{ {body} return {expression}; }}",
        ]
    )
