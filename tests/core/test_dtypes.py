"""How dtypes combine: one table written by hand, weak Python scalars, names."""

import ml_dtypes
import numpy as np
import pytest

import helixml as hx
from helixml import dtypes
from helixml.errors import DTypeError

NAMES = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "bf", "f4", "f8", "c8", "cc"]
DTYPE = {
    "b1": "bool", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64", "u1": "uint8",
    "u2": "uint16", "u4": "uint32", "u8": "uint64", "f2": "float16", "bf": "bfloat16",
    "f4": "float32", "f8": "float64", "c8": "complex64", "cc": "complex128",
}  # fmt: skip
# Row and column combine to the entry; -- is an error. Written by hand from the rules of the array
# API standard, with: integers and a float give that float, float16 and bfloat16 give float32.
TABLE = """
    b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 bf f4 f8 c8 cc
b1  b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 bf f4 f8 c8 cc
i1  i1 i1 i2 i4 i8 i2 i4 i8 -- f2 bf f4 f8 c8 cc
i2  i2 i2 i2 i4 i8 i2 i4 i8 -- f2 bf f4 f8 c8 cc
i4  i4 i4 i4 i4 i8 i4 i4 i8 -- f2 bf f4 f8 c8 cc
i8  i8 i8 i8 i8 i8 i8 i8 i8 -- f2 bf f4 f8 c8 cc
u1  u1 i2 i2 i4 i8 u1 u2 u4 u8 f2 bf f4 f8 c8 cc
u2  u2 i4 i4 i4 i8 u2 u2 u4 u8 f2 bf f4 f8 c8 cc
u4  u4 i8 i8 i8 i8 u4 u4 u4 u8 f2 bf f4 f8 c8 cc
u8  u8 -- -- -- -- u8 u8 u8 u8 f2 bf f4 f8 c8 cc
f2  f2 f2 f2 f2 f2 f2 f2 f2 f2 f2 f4 f4 f8 c8 cc
bf  bf bf bf bf bf bf bf bf bf f4 bf f4 f8 c8 cc
f4  f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f8 c8 cc
f8  f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 cc cc
c8  c8 c8 c8 c8 c8 c8 c8 c8 c8 c8 c8 c8 cc c8 cc
cc  cc cc cc cc cc cc cc cc cc cc cc cc cc cc cc
"""
ENTRIES = [
    (row.split()[0], column, entry)
    for row in TABLE.strip().splitlines()[1:]
    for column, entry in zip(NAMES, row.split()[1:], strict=True)
]
# What each array dtype gives with a Python bool, int, float, complex.
WEAK = {
    "b1": "b1 i8 f4 c8", "i1": "i1 i1 f4 c8", "i8": "i8 i8 f4 c8", "u1": "u1 u1 f4 c8",
    "f2": "f2 f2 f2 c8", "bf": "bf bf bf c8", "f4": "f4 f4 f4 c8", "f8": "f8 f8 f8 cc",
    "c8": "c8 c8 c8 c8", "cc": "cc cc cc cc",
}  # fmt: skip


def test_the_table_has_every_dtype():
    assert {DTYPE[name] for name in NAMES} == {dtype.name for dtype in dtypes.ALL}
    assert len(ENTRIES) == 15**2


def test_promotion_follows_the_table():
    wrong = []
    for a, b, entry in ENTRIES:
        try:
            found = hx.promote(dtypes.parse(DTYPE[a]), dtypes.parse(DTYPE[b])).name
        except DTypeError:
            found = None
        if found != DTYPE.get(entry):
            wrong.append((a, b, found, entry))
    assert wrong == []


def test_addition_follows_the_table():
    wrong = []
    for a, b, entry in ENTRIES:
        if entry == "--":
            continue
        x, y = hx.ones((2,), dtype=DTYPE[a]), hx.ones((2,), dtype=DTYPE[b])
        if (x + y).dtype.name != DTYPE[entry]:
            wrong.append((a, b, (x + y).dtype.name, entry))
    assert wrong == []


def test_uint64_with_a_signed_integer_has_no_common_type():
    x, y = hx.ones((2,), dtype="uint64"), hx.ones((2,), dtype="int8")
    with pytest.raises(DTypeError, match=r"uint64 and int8 have no common integer type.*astype"):
        x + y


@pytest.mark.parametrize("name", WEAK)
def test_python_scalars_are_weak(name):
    x = hx.ones((2,), dtype=DTYPE[name])
    for scalar, entry in zip((True, 1, 1.0, 1j), WEAK[name].split(), strict=True):
        assert (x * scalar).dtype.name == DTYPE[entry]
        assert (scalar * x).dtype.name == DTYPE[entry]


def test_a_scalar_that_does_not_fit_raises():
    x = hx.ones((2,), dtype="uint8")
    with pytest.raises(DTypeError, match=r"add: the scalar 300 does not fit uint8.*astype"):
        x + 300
    with pytest.raises(DTypeError, match=r"the scalar -1 does not fit uint8"):
        x + -1
    assert (x + 255).dtype == np.uint8


def test_scalar_overflow_of_a_float_is_infinite():
    assert (hx.ones((1,), dtype="float16") * 1e6).tolist() == [float("inf")]


def test_integer_and_float_tensors_give_the_floats_dtype():
    x, y = hx.tensor([1, 2]), hx.tensor([0.5, 0.5])
    assert (x + y).dtype == np.float32
    assert (y + x).tolist() == [1.5, 2.5]


def test_numpy_scalars():
    x = hx.ones((2,))
    # np.float64 is a Python float, which is weak; the other NumPy scalars have their dtype.
    assert (x * np.float64(2)).dtype == np.float32
    assert (np.float64(2) * x).dtype == np.float32
    assert (x * np.float16(2)).dtype == np.float32
    assert (hx.ones((2,), dtype="float16") * np.float32(2)).dtype == np.float32
    assert (hx.ones((2,), dtype="int8") * np.int64(2)).dtype == np.int64


def test_division_gives_floats():
    x = hx.tensor([1, 2])
    assert (x / 2).dtype == np.float32
    assert (x / 2).tolist() == [0.5, 1.0]
    assert (x // 2).dtype == np.int64


def test_python_numbers_become_default_dtypes():
    assert hx.tensor(1).dtype == np.int64
    assert hx.tensor(1.0).dtype == np.float32
    assert hx.tensor(True).dtype == np.bool_
    assert hx.tensor(1j).dtype == np.complex64
    assert hx.tensor([1, 2.5]).dtype == np.float32
    assert hx.tensor(np.zeros(2)).dtype == np.float64


@pytest.mark.parametrize("name", DTYPE.values())
def test_every_dtype_has_a_name_and_a_constant(name):
    dtype = hx.dtypes.parse(name)
    assert dtype.name == name
    assert getattr(hx, "bool_" if name == "bool" else name) == dtype
    assert hx.zeros((1,), dtype=name).dtype == dtype
    assert hx.zeros((1,), dtype=dtype).dtype == dtype


def test_spellings_of_dtypes():
    assert dtypes.parse(float) == np.float32
    assert dtypes.parse(int) == np.int64
    assert dtypes.parse(bool) == np.bool_
    assert dtypes.parse(np.float64) == np.float64
    assert dtypes.parse(">f4") == np.float32
    assert dtypes.parse(ml_dtypes.bfloat16) == hx.bfloat16


@pytest.mark.parametrize("bad", ["float31", "object", np.dtype("U3"), 7, None, "datetime64[s]"])
def test_other_dtypes_are_refused(bad):
    with pytest.raises(DTypeError, match=r"is not a dtype of helixml.*float32"):
        dtypes.parse(bad)


def test_sums_of_small_integers_are_64_bits_wide():
    assert hx.full((300,), 1, dtype="uint8").sum().item() == 300
    assert hx.full((300,), 1, dtype="uint8").sum().dtype == np.uint64
    assert hx.full((300,), 1, dtype="int8").sum().dtype == np.int64
    assert hx.full((300,), True).sum().item() == 300


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sums_of_halves_accumulate_in_float32(name):
    # one by one in 16 bits, adding 1 stops at 2048 (float16) and at 256 (bfloat16)
    ones = hx.ones((4096,), dtype=name)
    assert ones.sum().item() == 4096.0
    assert (ones @ ones).item() == 4096.0
    assert hx.cumulative_sum(ones)[-1].item() == 4096.0


def test_gradients_of_mixed_dtypes_are_cast_back():
    x = hx.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    y = hx.tensor([3.0, 4.0], dtype="bfloat16", requires_grad=True)
    (x * y).sum().backward()
    assert (x.grad.dtype.name, y.grad.dtype.name) == ("float64", "bfloat16")
    assert x.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("name", ["float32", "float64", "int64"])
@pytest.mark.parametrize("scalar", [2, -3, 0.5, -0.0, float("inf"), float("nan")])
def test_a_scalar_computes_and_differentiates_as_a_tensor_of_its_value(name, scalar):
    values = hx.tensor([1, 2, -5], dtype=name)
    dtype = "float32" if isinstance(scalar, float) and name == "int64" else name
    for op in (hx.add, hx.subtract, hx.multiply, hx.divide, hx.maximum, hx.less):
        for leads in (False, True):
            found = []
            for other in (scalar, hx.tensor(scalar, dtype=dtype)):
                x = values.astype(name)
                x.requires_grad = name != "int64"
                y = op(other, x) if leads else op(x, other)
                if y.requires_grad:
                    y.sum().backward()
                found.append((y.dtype, y.numpy().tobytes(), str(x.grad)))
            assert found[0] == found[1], (op, leads)
