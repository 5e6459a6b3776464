"""Data types: their names, kinds and how they combine.

A dtype *is* a ``numpy.dtype``; bfloat16 comes from ml-dtypes. Two arrays of one kind promote as in
the Python array API standard; an integer or boolean array with a float array takes the float's
dtype (``int32 + float32`` is ``float32``, where NumPy says ``float64``); Python scalars are weak
and never widen an array within its kind.

Knows nothing of arrays, tensors or devices. Read `result_type` first.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from helixml.errors import DTypeError

DType: TypeAlias = np.dtype[Any]
# Whatever a user may write where a dtype is meant: np.float32, "float32", np.dtype("f4").
DTypeLike: TypeAlias = Any

float16: DType = np.dtype("float16")
bfloat16: DType = np.dtype(ml_dtypes.bfloat16)
float8_e4m3fn: DType = np.dtype(ml_dtypes.float8_e4m3fn)
float8_e5m2: DType = np.dtype(ml_dtypes.float8_e5m2)
float32: DType = np.dtype("float32")
float64: DType = np.dtype("float64")
int8: DType = np.dtype("int8")
int16: DType = np.dtype("int16")
int32: DType = np.dtype("int32")
int64: DType = np.dtype("int64")
uint8: DType = np.dtype("uint8")
uint16: DType = np.dtype("uint16")
uint32: DType = np.dtype("uint32")
uint64: DType = np.dtype("uint64")
complex64: DType = np.dtype("complex64")
complex128: DType = np.dtype("complex128")
bool_: DType = np.dtype("bool")

FLOATS = (float16, bfloat16, float32, float64)
SIGNED = (int8, int16, int32, int64)
UNSIGNED = (uint8, uint16, uint32, uint64)
COMPLEX = (complex64, complex128)
ALL = (bool_, *SIGNED, *UNSIGNED, *FLOATS, *COMPLEX)
HALVES = (float16, bfloat16)
STORED = (float8_e4m3fn, float8_e5m2)  # values are kept in them and cast, nothing is computed
DIFFERENTIABLE = frozenset({*FLOATS, *COMPLEX})  # dtypes whose values can carry a gradient

_NAMES: dict[str, DType] = {dtype.name: dtype for dtype in (*ALL, *STORED)}
# "b" boolean, "u" and "i" integers, "f" floats, "c" complex, "s" stored only; ml-dtypes calls its
# own kind "V".
_KINDS: dict[DType, str] = {dtype: "f" if dtype in FLOATS else dtype.kind for dtype in ALL}
_KINDS.update(dict.fromkeys(STORED, "s"))
_RANK = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
_PYTHON_RANK: dict[type, int] = {bool: 0, int: 1, float: 2, complex: 3}

default_float = float32
default_complex = complex64
default_int = int64


def set_default_dtype(dtype: DTypeLike) -> None:
    """Set the dtype of what is made of Python floats, or without naming a dtype.

    It holds for the whole process, also in ``dtype=float`` and where integers become floats; the
    default complex dtype becomes complex128 with float64, and complex64 with all others.

    Parameters
    ----------
    dtype : float16, bfloat16, float32 or float64.

    Raises
    ------
    DTypeError : it is no float.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.set_default_dtype("float64")
    >>> hx.tensor([1.0]).dtype, hx.tensor([1j]).dtype
    (dtype('float64'), dtype('complex128'))
    >>> hx.set_default_dtype("float32")
    """
    global default_float, default_complex
    found = parse(dtype)
    if found not in FLOATS:
        raise DTypeError(f"set_default_dtype: {found} is no float. Hint: float32 or float64.")
    default_float = found
    default_complex = complex128 if found == float64 else complex64


def get_default_dtype() -> DType:
    """Return the dtype of what is made of Python floats, or without naming a dtype."""
    return default_float


def parse(dtype: DTypeLike) -> DType:
    """Return the dtype that ``dtype`` names; a `DTypeError` lists the names if there is none.

    >>> parse("bfloat16")
    dtype(bfloat16)
    """
    if isinstance(dtype, np.dtype) and dtype in _KINDS:
        return dtype
    if dtype is bool:
        return bool_
    if dtype is int:
        return default_int
    if dtype is float:
        return default_float
    if dtype is complex:
        return default_complex
    if isinstance(dtype, str) and dtype in _NAMES:
        return _NAMES[dtype]
    try:
        found = None if dtype is None else np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError):
        found = None
    if found is None or found not in _KINDS:
        raise DTypeError(
            f"dtype: {dtype!r} is not a dtype of helixml. Hint: it has {', '.join(_NAMES)}."
        )
    return found


def kind(dtype: DType) -> str:
    """Return ``b`` boolean, ``u``/``i`` integer, ``f`` float, ``c`` complex, ``s`` 8-bit float."""
    return _KINDS[dtype]


def is_floating(dtype: DType) -> bool:
    """Say whether ``dtype`` is a real floating-point type."""
    return _KINDS[dtype] == "f"


def is_differentiable(dtype: DType) -> bool:
    """Say whether values of ``dtype`` can carry a gradient (floats and complex)."""
    return dtype in DIFFERENTIABLE


def check_cast(op: str, source: DType, target: DType) -> None:
    """Raise unless a cast from ``source`` to ``target`` keeps imaginary parts."""
    if _KINDS[source] == "c" and _KINDS[target] in "uif":
        raise DTypeError(
            f"{op}: {source} to {target} would drop the imaginary part. "
            "Hint: real(x), imag(x) or abs(x)."
        )


def check_floating(op: str, name: str, dtype: DType) -> None:
    """Raise unless the argument ``name`` of ``op`` has a real floating-point type."""
    if _KINDS[dtype] != "f":
        hint = "real(x), imag(x) or abs(x)" if _KINDS[dtype] == "c" else "astype('float32')"
        raise DTypeError(f"{op}: {name} must be a float, not {dtype}. Hint: {hint}.")


def as_integer(op: str, name: str, value: Any) -> int:
    """Return the argument ``name`` of ``op`` as an integer."""
    try:
        return int(value.__index__())
    except (AttributeError, TypeError):
        raise DTypeError(f"{op}: {name} must be an integer, not {value!r:.80}.") from None


def as_flag(op: str, name: str, value: Any) -> bool:
    """Return the argument ``name`` of ``op`` as a truth value."""
    try:
        return bool(value)
    except ValueError as error:  # an array has many
        raise DTypeError(f"{op}: {name} must be True or False: {error}") from None


def as_number(op: str, name: str, value: Any) -> Any:
    """Return the argument ``name`` of ``op``, which must be a real number."""
    if not isinstance(value, Real):
        raise DTypeError(f"{op}: {name} must be a number, not {value!r:.80}.")
    return value


def accumulation(dtype: DType) -> DType:
    """Return the dtype in which sums over ``dtype`` are formed: float32 for the 16-bit floats."""
    return float32 if dtype in HALVES else dtype


def summed(dtype: DType) -> DType:
    """Return the dtype of a sum: booleans and integers add up in 64 bits, floats keep theirs."""
    k = _KINDS[dtype]
    if k in "bi":
        return int64
    return uint64 if k == "u" else dtype


def real_of(dtype: DType) -> DType:
    """Return the dtype of the parts of complex numbers; ``dtype`` itself if it is real."""
    if _KINDS[dtype] != "c":
        return dtype
    return float32 if dtype == complex64 else float64


def as_float(dtype: DType) -> DType:
    """Return ``dtype`` if it is float or complex, else the default float."""
    if _KINDS[dtype] == "s":
        raise not_computed("promotion", dtype)
    return dtype if _KINDS[dtype] in "fc" else default_float


def not_computed(op: str, dtype: DType) -> DTypeError:
    """Return the error for arithmetic in a dtype that values are only stored in."""
    return DTypeError(
        f"{op}: nothing is computed in {dtype}, values are only stored in it. "
        "Hint: cast up first, with astype('float32')."
    )


def _promote(a: DType, b: DType) -> DType:
    if _KINDS[a] == "s" or _KINDS[b] == "s":
        raise not_computed("promotion", a if _KINDS[a] == "s" else b)
    if a == b:
        return a
    ka, kb = _KINDS[a], _KINDS[b]
    if _RANK[ka] < _RANK[kb]:
        a, b, ka, kb = b, a, kb, ka
    if _RANK[ka] != _RANK[kb]:  # the higher kind wins, but complex must hold a float64
        return complex128 if (ka == "c" and b == float64) else a
    if ka == "f":
        if a in HALVES and b in HALVES:
            return float32  # float16 and bfloat16 hold different ranges: neither contains the other
        return a if a.itemsize >= b.itemsize else b
    if ka == kb:
        return a if a.itemsize >= b.itemsize else b
    unsigned, signed = (a, b) if ka == "u" else (b, a)
    if signed.itemsize > unsigned.itemsize:
        return signed
    if unsigned.itemsize == 8:
        raise DTypeError(
            f"promotion: {a} and {b} have no common integer type. "
            "Hint: cast one of them with astype()."
        )
    return {1: int16, 2: int32, 4: int64}[unsigned.itemsize]


_TABLE: dict[tuple[DType, DType], DType] = {}


def promote(a: DTypeLike, b: DTypeLike) -> DType:
    """Return the dtype that arrays of ``a`` and ``b`` combine to.

    >>> promote(int32, float16), promote(uint8, int8)
    (dtype('float16'), dtype('int16'))
    """
    a, b = parse(a), parse(b)
    found = _TABLE.get((a, b))
    if found is None:
        found = _TABLE[(a, b)] = _promote(a, b)
    return found


def result_type(*operands: DTypeLike) -> DType:
    """Return the dtype in which ``operands`` combine; Python types are weak.

    Parameters
    ----------
    operands : dtypes or arrays and Tensors; for Python scalars these themselves or their types,
        ``bool``, ``int``, ``float`` and ``complex``.

    Returns
    -------
    The promoted dtype.

    Raises
    ------
    DTypeError : uint64 meets a signed integer, an operand is no known dtype, or an 8-bit float.

    Examples
    --------
    >>> result_type(int32, float), result_type(float16, float), result_type(uint8, int)
    (dtype('float32'), dtype('float16'), dtype('uint8'))
    """
    strong: DType | None = None
    weak = -1
    for operand in operands:
        if isinstance(operand, np.dtype):
            strong = operand if strong is None else promote(strong, operand)
        elif isinstance(operand, type) and operand in _PYTHON_RANK:
            weak = max(weak, _PYTHON_RANK[operand])
        elif type(operand) in _PYTHON_RANK:
            weak = max(weak, _PYTHON_RANK[type(operand)])
        else:
            operand = getattr(operand, "dtype", operand)  # noqa: PLW2901  an array
            strong = parse(operand) if strong is None else promote(strong, operand)
    if strong is None:
        return (bool_, default_int, default_float, default_complex)[weak]
    if _KINDS[strong] == "s":
        raise not_computed("promotion", strong)
    if weak <= _RANK[_KINDS[strong]]:
        return strong
    if weak == 1:
        return default_int
    if weak == 2:
        return default_float
    if _KINDS[strong] != "f":
        return default_complex
    return complex128 if strong == float64 else complex64
