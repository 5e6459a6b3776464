"""The Python array API standard 2024.12: every name is here, and takes the standard's calls.

A function here may take more than the standard's: operands by name, options by position, options of
its own with defaults. It may not take less.
"""

import inspect
import math
import re
import types

import numpy as np
import pytest

import helixml as hx
from helixml.errors import DTypeError, ShapeError, ValueRangeError

# As the standard's pages have them, annotations apart. Operators of one or two arrays stand apart.
OF_ONE = """
abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag isfinite
isinf isnan log log1p log2 log10 logical_not negative positive real reciprocal round sign signbit
sin sinh square sqrt tan tanh trunc matrix_transpose nonzero unique_all unique_counts unique_inverse
unique_values
"""
OF_TWO = """
add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide
equal floor_divide greater greater_equal hypot less less_equal logaddexp logical_and logical_or
logical_xor maximum minimum multiply nextafter not_equal pow remainder subtract matmul
"""
OTHERS = """
__array_namespace_info__()
all(x, /, *, axis=None, keepdims=False)
any(x, /, *, axis=None, keepdims=False)
arange(start, /, stop=None, step=1, *, dtype=None, device=None)
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
argsort(x, /, *, axis=-1, descending=False, stable=True)
asarray(obj, /, *, dtype=None, device=None, copy=None)
astype(x, dtype, /, *, copy=True, device=None)
broadcast_arrays(*arrays)
broadcast_to(x, /, shape)
can_cast(from_, to, /)
clip(x, /, min=None, max=None)
concat(arrays, /, *, axis=0)
count_nonzero(x, /, *, axis=None, keepdims=False)
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
empty(shape, *, dtype=None, device=None)
empty_like(x, /, *, dtype=None, device=None)
expand_dims(x, /, *, axis=0)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
finfo(type, /)
flip(x, /, *, axis=None)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
iinfo(type, /)
isdtype(dtype, kind)
isin(x1, x2, /, *, invert=False)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
max(x, /, *, axis=None, keepdims=False)
mean(x, /, *, axis=None, keepdims=False)
meshgrid(*arrays, indexing="xy")
min(x, /, *, axis=None, keepdims=False)
moveaxis(x, source, destination, /)
ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None)
permute_dims(x, /, axes)
prod(x, /, *, axis=None, dtype=None, keepdims=False)
repeat(x, repeats, /, *, axis=None)
reshape(x, /, shape, *, copy=None)
result_type(*arrays_and_dtypes)
roll(x, /, shift, *, axis=None)
searchsorted(x1, x2, /, *, side="left", sorter=None)
sort(x, /, *, axis=-1, descending=False, stable=True)
squeeze(x, /, axis)
stack(arrays, /, *, axis=0)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
tensordot(x1, x2, /, *, axes=2)
tile(x, repetitions, /)
tril(x, /, *, k=0)
triu(x, /, *, k=0)
unstack(x, /, *, axis=0)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
vecdot(x1, x2, /, *, axis=-1)
where(condition, x1, x2, /)
zeros(shape, *, dtype=None, device=None)
zeros_like(x, /, *, dtype=None, device=None)
"""
# The extension for linear algebra
LINALG = """
cholesky(x, /, *, upper=False)
cross(x1, x2, /, *, axis=-1)
det(x, /)
diagonal(x, /, *, offset=0)
eigh(x, /)
eigvalsh(x, /)
inv(x, /)
matmul(x1, x2, /)
matrix_norm(x, /, *, keepdims=False, ord="fro")
matrix_power(x, n, /)
matrix_rank(x, /, *, rtol=None)
matrix_transpose(x, /)
outer(x1, x2, /)
pinv(x, /, *, rtol=None)
qr(x, /, *, mode="reduced")
slogdet(x, /)
solve(x1, x2, /)
svd(x, /, *, full_matrices=True)
svdvals(x, /)
tensordot(x1, x2, /, *, axes=2)
trace(x, /, *, offset=0, dtype=None)
vecdot(x1, x2, /, *, axis=-1)
vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
"""
# and that for Fourier transforms
FFT = """
fft(x, /, *, n=None, axis=-1, norm="backward")
fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fftn(x, /, *, s=None, axes=None, norm="backward")
fftshift(x, /, *, axes=None)
hfft(x, /, *, n=None, axis=-1, norm="backward")
ifft(x, /, *, n=None, axis=-1, norm="backward")
ifftn(x, /, *, s=None, axes=None, norm="backward")
ifftshift(x, /, *, axes=None)
ihfft(x, /, *, n=None, axis=-1, norm="backward")
irfft(x, /, *, n=None, axis=-1, norm="backward")
irfftn(x, /, *, s=None, axes=None, norm="backward")
rfft(x, /, *, n=None, axis=-1, norm="backward")
rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
rfftn(x, /, *, s=None, axes=None, norm="backward")
"""
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
)
METHODS = """
abs add and array_namespace bool complex dlpack dlpack_device eq float floordiv ge getitem gt index
int invert le lshift lt matmul mod mul ne neg or pos pow rshift setitem sub truediv xor
radd rand rfloordiv rlshift rmatmul rmod rmul ror rpow rrshift rsub rtruediv rxor
"""


def standard():
    lines = [f"{name}(x, /)" for name in OF_ONE.split()]
    lines += [f"{name}(x1, x2, /)" for name in OF_TWO.split()]
    yield from signatures((*lines, *OTHERS.strip().splitlines()))


def signatures(lines):
    for line in lines:
        name = re.match(r"\w+", line)[0]
        made = {}
        exec(f"def {line}: ...", made)
        yield pytest.param(name, inspect.signature(made[name]), id=name)


def differences(ours, theirs):
    """List what calls of ``theirs`` the signature ``ours`` does not take."""
    found = []
    positional = [p for p in ours.parameters.values() if p.kind < p.VAR_POSITIONAL]
    required = {p.name for p in ours.parameters.values() if p.default is p.empty}
    for place, wanted in enumerate(theirs.parameters.values()):
        same = ours.parameters.get(wanted.name)
        if wanted.kind is wanted.VAR_POSITIONAL:
            if not any(p.kind is p.VAR_POSITIONAL for p in ours.parameters.values()):
                found.append(f"takes no *{wanted.name}")
            required -= {p.name for p in ours.parameters.values() if p.kind is p.VAR_POSITIONAL}
            continue
        if wanted.kind is not wanted.KEYWORD_ONLY:
            if place >= len(positional):
                found.append(f"takes no {place + 1} arguments by position")
                continue
            taken = positional[place]
            required.discard(taken.name)
            if wanted.default is not wanted.empty and taken.default != wanted.default:
                found.append(f"{wanted.name}={wanted.default!r} is {taken.default!r}")
        if wanted.kind is not wanted.POSITIONAL_ONLY:
            if same is None or same.kind not in (same.POSITIONAL_OR_KEYWORD, same.KEYWORD_ONLY):
                found.append(f"takes no {wanted.name}=")
                continue
            required.discard(wanted.name)
            if wanted.kind is not wanted.KEYWORD_ONLY and same is not taken:
                found.append(f"{wanted.name} is at another place")
            if wanted.default is not wanted.empty and same.default != wanted.default:
                found.append(f"{wanted.name}={wanted.default!r} is {same.default!r}")
    return found + [f"demands {name}" for name in sorted(required)]


@pytest.mark.parametrize(("name", "theirs"), list(standard()))
def test_a_function_of_the_standard_takes_its_calls(name, theirs):
    function = getattr(hx, name)
    assert name in hx.__all__
    assert differences(inspect.signature(function), theirs) == []


@pytest.mark.parametrize(("name", "theirs"), list(signatures(LINALG.strip().splitlines())))
def test_a_function_of_the_extension_for_linear_algebra_takes_its_calls(name, theirs):
    function = getattr(hx.linalg, name)
    assert name in hx.linalg.__all__
    assert differences(inspect.signature(function), theirs) == []


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("eigh", ("eigenvalues", "eigenvectors")),
        ("qr", ("Q", "R")),
        ("slogdet", ("sign", "logabsdet")),
        ("svd", ("U", "S", "Vh")),
    ],
)
def test_a_function_of_several_results_names_them(name, fields):
    found = getattr(hx.linalg, name)(hx.eye(2))
    assert found._fields == fields
    assert isinstance(found, tuple)


@pytest.mark.parametrize(("name", "theirs"), list(signatures(FFT.strip().splitlines())))
def test_a_function_of_the_extension_fft_takes_its_calls(name, theirs):
    assert name in hx.fft.__all__
    assert differences(inspect.signature(getattr(hx.fft, name)), theirs) == []


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        ("f(x)", ["takes no axis=", "takes no 2 arguments by position"]),
        ("f(y, shape, axis=None)", []),
        ("f(x, axis=None, shape=None)", ["shape is at another place"]),
        ("f(x, shape, more, *, axis=0)", ["axis=None is 0", "demands more"]),
        ("f(x, shape, *, axis=None, more=1)", []),
    ],
)
def test_another_signature_is_noticed(ours, says):
    made = {}
    exec(f"def g(x, /, shape, *, axis=None): ...\ndef {ours}: ...", made)
    found = differences(inspect.signature(made["f"]), inspect.signature(made["g"]))
    assert set(says) <= set(found)
    assert bool(says) == bool(found)


def test_constants_and_dtypes():
    assert (hx.e, hx.pi, hx.inf) == (math.e, math.pi, math.inf)
    assert math.isnan(hx.nan)
    assert hx.newaxis is None
    assert [np.dtype(getattr(hx, name)).name for name in DTYPES] == list(DTYPES)
    assert {"e", "pi", "inf", "nan", "newaxis", *DTYPES} <= set(hx.__all__)


@pytest.mark.parametrize("name", METHODS.split())
def test_a_tensor_has_the_methods_of_an_array(name):
    assert callable(getattr(hx.Tensor, f"__{name}__"))


def test_a_tensor_has_the_attributes_of_an_array():
    x = hx.zeros((2, 3))
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3), 2, 6, hx.float32)
    assert x.device == hx.config.get().device
    assert x.T.shape == x.mT.shape == (3, 2)
    assert x.to_device(x.device) is x


def test_a_tensor_names_its_namespace():
    x = hx.zeros(())
    assert x.__array_namespace__() is hx
    assert x.__array_namespace__(api_version="2024.12") is hx
    with pytest.raises(ValueRangeError, match=r"'1999\.01' is not one of 2021\.12"):
        x.__array_namespace__(api_version="1999.01")


def test_what_the_namespace_says_of_itself():
    info = hx.__array_namespace_info__()
    assert info.capabilities()["boolean indexing"] is True
    assert info.default_device() in info.devices()
    assert info.default_dtypes()["real floating"] == hx.float32
    assert list(info.dtypes(device="cpu")) == list(DTYPES)
    assert list(info.dtypes(kind="real floating")) == ["float32", "float64"]
    assert list(info.dtypes(kind=("bool", "unsigned integer"))) == [
        *("bool", "uint8", "uint16", "uint32", "uint64"),
    ]


# What dtypes hold


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_limits_of_floats_are_those_of_numpy(name):
    ours, theirs = hx.finfo(name), np.finfo(name)
    assert (ours.bits, ours.dtype) == (theirs.bits, np.dtype(name))
    for field in ("eps", "max", "min", "smallest_normal"):
        assert getattr(ours, field) == float(getattr(theirs, field))


def test_limits_of_further_dtypes():
    assert hx.finfo(hx.bfloat16).eps == 2.0**-7
    assert hx.finfo(hx.complex64) == hx.finfo(hx.float32)
    assert hx.finfo(hx.complex128) == hx.finfo(hx.zeros((), hx.float64))
    assert (hx.iinfo("uint8").max, hx.iinfo(hx.arange(3)).min) == (255, -(2**63))
    with pytest.raises(DTypeError, match="int32 is no float"):
        hx.finfo(hx.int32)
    with pytest.raises(DTypeError, match="bool is no integer"):
        hx.iinfo(hx.bool)


def test_kinds_of_dtypes():
    kinds = ["bool", "signed integer", "unsigned integer", "integral", "real floating"]
    kinds += ["complex floating", "numeric"]
    for name, expected in {
        "bool": "1000000",
        "int8": "0101001",
        "uint64": "0011001",
        "float32": "0000101",
        "complex64": "0000011",
    }.items():
        assert "".join(str(int(hx.isdtype(name, kind))) for kind in kinds) == expected
    assert hx.isdtype(hx.int8, hx.int8)
    assert hx.isdtype(hx.int8, ("bool", hx.int8))
    with pytest.raises(ValueRangeError, match="kind='float'"):
        hx.isdtype(hx.int8, "float")


def test_which_dtypes_cast():
    assert hx.can_cast(hx.int8, hx.int16)
    assert not hx.can_cast(hx.int16, hx.int8)
    assert not hx.can_cast(hx.uint64, hx.int64)
    assert hx.can_cast(hx.zeros((), hx.float32), hx.float64)


def test_the_dtype_of_tensors_dtypes_and_scalars_together():
    assert hx.result_type(hx.zeros(2), 1.0, hx.int64) == hx.float32
    assert hx.result_type(hx.arange(3), 1j) == hx.complex64
    assert hx.result_type(np.zeros(2), hx.float32, True) == hx.float64


# Plain functions: what no op's samples reach


def test_broadcast_arrays():
    x, y = hx.broadcast_arrays(hx.zeros((3, 1)), [1, 2])
    assert (x.shape, x.dtype) == ((3, 2), hx.float32)
    assert y.tolist() == [[1, 2]] * 3
    assert hx.broadcast_arrays() == []
    with pytest.raises(ShapeError, match=r"broadcast_arrays: .*do not broadcast"):
        hx.broadcast_arrays(hx.zeros(2), hx.zeros(3))


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_meshgrid_is_that_of_numpy(indexing, count):
    lines = [np.arange(float(n)) for n in (2, 3, 4)[:count]]
    ours = hx.meshgrid(*map(hx.asarray, lines), indexing=indexing)
    theirs = np.meshgrid(*lines, indexing=indexing)
    assert [x.tolist() for x in ours] == [x.tolist() for x in theirs]


def test_meshgrid_carries_gradients_and_refuses_other_shapes():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    hx.meshgrid(x, hx.arange(3))[0].sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    with pytest.raises(ShapeError, match=r"array 1 has shape \(\)"):
        hx.meshgrid(x, 1.0)
    with pytest.raises(ValueRangeError, match="indexing='yx'"):
        hx.meshgrid(x, indexing="yx")


@pytest.mark.usefixtures("on_the_cpu")
def test_arrays_go_and_come_by_dlpack():
    x = hx.tensor([1.0, 2.0])
    out = np.from_dlpack(x)
    assert np.shares_memory(out, x.numpy())
    assert not out.flags.writeable
    assert not np.shares_memory(np.from_dlpack(x, copy=True), x.numpy())
    array = np.arange(3.0)
    assert np.shares_memory(hx.from_dlpack(array).numpy(), array)
    assert not np.shares_memory(hx.from_dlpack(array, copy=True).numpy(), array)
    assert hx.from_dlpack(x) is x
    with pytest.raises(DTypeError, match="list has no __dlpack__"):
        hx.from_dlpack([1])


def test_a_consumer_that_knows_no_read_only_memory_gets_a_copy():
    x = hx.tensor([1.0, 2.0])
    capsule, place = x.__dlpack__(), x.__dlpack_device__()
    old = types.SimpleNamespace(__dlpack__=lambda **_: capsule, __dlpack_device__=lambda: place)
    out = np.from_dlpack(old)
    assert out.tolist() == [1.0, 2.0]
    assert not np.shares_memory(out, x.numpy())


@pytest.mark.usefixtures("on_the_cpu")
def test_asarray_copies_when_told_to_and_only_then():
    array = np.arange(3.0)
    x = hx.asarray(array, copy=False)
    assert np.shares_memory(x.numpy(), array)
    assert not np.shares_memory(hx.asarray(array, copy=True).numpy(), array)
    assert hx.asarray(x, copy=False) is x
    assert hx.asarray(x, copy=True) is not x
    for data, dtype in ((array, "float32"), ([1.0], None), (x, "float32")):
        with pytest.raises(ValueRangeError, match="needs a copy"):
            hx.asarray(data, dtype=dtype, copy=False)


def test_what_is_made_like_another():
    x = hx.zeros((2, 3), hx.float64, device="reference")
    for y in (hx.empty_like(x), hx.zeros_like(x), hx.ones_like(x), hx.full_like(x, 2)):
        assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)
    y = hx.empty_like(x, dtype=hx.int8, device="cpu")
    assert (y.dtype, y.device) == (hx.int8, "cpu")


def test_linspace_without_its_end():
    found = hx.linspace(0, 1, num=4, endpoint=False)
    assert found.tolist() == np.linspace(0, 1, 4, endpoint=False).tolist()


def test_astype_moves_too():
    x = hx.tensor([1.5], requires_grad=True)
    y = hx.astype(x, hx.float64, copy=False, device="reference")
    assert (y.dtype, y.device) == (hx.float64, "reference")
    y.sum().backward()
    assert x.grad.tolist() == [1.0]


def test_shifts_of_bits_as_operators():
    x = hx.tensor([1, 2])
    assert (x << 3).tolist() == [8, 16]
    assert (8 >> x).tolist() == [4, 2]
    assert (1 << x).tolist() == [2, 4]
    assert (x >> hx.tensor([0, 1])).tolist() == [1, 1]


# Complex numbers: a gradient is dL/dRe + i dL/dIm


def test_gradients_of_the_parts_of_complex_numbers():
    z = hx.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    (2 * hx.real(z) + 3 * hx.imag(z)).sum().backward()
    assert z.grad.tolist() == [2 + 3j, 2 + 3j]
    z.grad = None
    (2 * hx.real(hx.conj(z)) + 3 * hx.imag(hx.conj(z))).sum().backward()
    assert z.grad.tolist() == [2 - 3j, 2 - 3j]


def test_parts_of_complex_numbers():
    z = hx.tensor([1 + 2j], dtype="complex128")
    assert (hx.real(z).dtype, hx.imag(z).dtype) == (hx.float64, hx.float64)
    assert (hx.real(z).tolist(), hx.imag(z).tolist()) == ([1.0], [2.0])
    assert hx.conj(z).tolist() == [1 - 2j]
    assert hx.vecdot(z, z).item() == 5 + 0j
