"""Products of matrices: what cuBLAS is told, with one for memory of the host, beside NumPy's."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helixml import dtypes
from helixml.backends.cuda.products import Products
from helixml.errors import BackendError
from helixml.testing import cuemu

from .conftest import close, wide

DTYPES = (dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    made = tmp_path_factory.mktemp("cublas") / "cublas.so"
    source = Path(__file__).with_name("cublas.cc")
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", made, source], check=True)
    return ctypes.CDLL(str(made))


@pytest.fixture(params=["theirs", "told"])
def products(request, library):
    """CuPy's products, and those of the library."""
    cp = cuemu.cupy()
    if request.param == "theirs":
        return cp, Products(cp)
    cp.cuda.device = SimpleNamespace(get_cublas_handle=lambda: 1)
    cp.cuda.alloc = lambda size: SimpleNamespace(ptr=1)
    return cp, Products(cp, library)


def drawn(cp, shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    host = rng.uniform(-1, 1, shape) + 1j * rng.uniform(-1, 1, shape)
    host = (host if dtype.kind == "c" else host.real).astype(dtype)
    return cp.asarray(host), host


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        *(((3, 4), (4, 5)), ((1, 4), (4, 5)), ((3, 4), (4, 1)), ((3, 1), (1, 5)), ((1, 1), (1, 1))),
        *(((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3))),
        *(((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((1, 3, 4), (2, 4, 5))),
        *(((2, 3, 4, 5), (2, 3, 5, 2)), ((2, 1, 4, 5), (3, 5, 2)), ((3, 4, 5), (2, 1, 5, 2))),
        *(((0, 4), (4, 5)), ((3, 0), (0, 5)), ((2, 3, 0), (2, 0, 5)), ((0, 3, 4), (0, 4, 5))),
    ],
)
def test_shapes(products, left, right, dtype):
    cp, both = products
    (x, a), (y, b) = drawn(cp, left, dtype), drawn(cp, right, dtype, 1)
    z = both.matmul(x, y)
    assert z.dtype == dtype
    close(z, np.matmul(*wide(a, b)), 4)


def views(x):
    """Yield matrices of other strides with the entries of a (6, 6) one."""
    yield "turned", x.T
    yield "every second row", x[::2]
    yield "every second column", x[:, ::2]
    yield "rows apart", x[:, :3]
    yield "columns apart", x.T[:, :3]
    yield "backwards", x[::-1]
    yield "columns backwards", x[:, ::-1]
    yield "a row", x[1:2]
    yield "a column", x[:, 1:2]
    yield "turned column", x[:, 1:2].T
    yield "a part of a row", x[2:3, 1:4]
    yield "one again and again", x[:1, :1]


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.complex64, dtypes.complex128], ids=str)
def test_strides(products, dtype):
    cp, both = products
    (x, a), (y, b) = drawn(cp, (6, 6), dtype), drawn(cp, (6, 6), dtype, 1)
    lefts, rights = zip(views(x), views(a), strict=True), list(zip(views(y), views(b), strict=True))
    tried = 0
    for (name, left), (_, host) in lefts:
        for (other, right), (_, goal) in rights:
            k = min(left.shape[1], right.shape[0])
            found = both.matmul(left[:, :k], right[:k]).get()
            np.testing.assert_allclose(
                found, host[:, :k] @ goal[:k], rtol=1e-5, atol=1e-5, err_msg=f"{name}, {other}"
            )
            tried += 1
    assert tried == 144


@pytest.mark.parametrize("turn", [(0, 1, 2, 3), (1, 0, 2, 3), (0, 2, 1, 3), (1, 2, 0, 3)])
@pytest.mark.parametrize("whole", [(True, True), (True, False), (False, True), (False, False)])
def test_strides_of_stacks(products, turn, whole):
    cp, both = products
    x, a = drawn(cp, (2, 3, 4, 5), dtypes.float32)
    x, a = x.transpose(turn), a.transpose(turn)
    stack = tuple(n if is_whole else 1 for n, is_whole in zip(x.shape[:2], whole, strict=True))
    y, b = drawn(cp, (*stack, 5, 4), dtypes.float32, 1)
    np.testing.assert_allclose(both.matmul(x, y).get(), a @ b, rtol=1e-5, atol=1e-5)
    rows = x.shape[-2]
    found = both.matmul(y[..., :rows], x).get()
    np.testing.assert_allclose(found, b[..., :rows] @ a, rtol=1e-5, atol=1e-5)


def test_entries_that_share_memory(products):
    cp, both = products
    x, a = drawn(cp, (2, 1, 1, 5), dtypes.float32)
    y, b = drawn(cp, (2, 3, 5, 4), dtypes.float32, 1)
    for shape in ((2, 3, 1, 5), (2, 1, 4, 5), (2, 3, 4, 5)):
        spread, goal = cp.broadcast_to(x, shape), np.broadcast_to(a, shape)
        np.testing.assert_allclose(both.matmul(spread, y).get(), goal @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (5, 3)), ((4,), (5,)), ((4,), (5, 3)), ((3, 4), (5,)), ((2, 3, 4), (2, 5, 3))],
)
def test_sizes_that_do_not_match_are_an_error(products, left, right):
    cp, both = products
    with pytest.raises(ValueError):
        both.matmul(cp.zeros(left, np.float32), cp.zeros(right, np.float32))


def test_integers_are_theirs(products):
    cp, both = products
    x = cp.asarray(np.arange(6).reshape(2, 3))
    assert both.matmul(x, x.T).get().tolist() == [[5, 14], [14, 50]]


def test_what_cublas_says_is_said(library):
    cp = cuemu.cupy()
    cp.cuda.device = SimpleNamespace(get_cublas_handle=lambda: 0)
    cp.cuda.alloc = lambda size: SimpleNamespace(ptr=1)
    x, _ = drawn(cp, (2, 2), dtypes.float32)
    with pytest.raises(BackendError, match="CUBLAS_STATUS_NOT_INITIALIZED"):
        Products(cp, library).matmul(x, x)
