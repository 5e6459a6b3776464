"""The compiled matrix product against products in float64, on every instruction set found here.

The bound on errors is that of a sum of k products in any order, k eps |a| |b|, halved: the kernel
and NumPy stay far below it.
"""

from __future__ import annotations

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml.backends import registry
from helixml.backends.cpu import kernels, threads

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels import linear
from helixml.backends.cpu.kernels import matmul as module

matmul = module.matmul
DTYPES = ("float32", "float64")
# (m, k, n): around the sizes of registers, panels, runs and items.
SIZES = [
    *((m, 7, n) for m in (1, 2, 5, 6, 7, 12, 13) for n in (1, 4, 8, 9, 16, 17, 31, 32, 33, 48)),
    *((13, k, 19) for k in (1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 513)),
    (95, 20, 127),
    (97, 70, 129),
    (100, 300, 65),
    (200, 33, 150),
    (30, 40, 1030),
    (1, 500, 100),
    (1, 3, 700),
    (100, 500, 1),
    (700, 5, 1),
]


pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.fixture(autouse=True)
def no_product_is_left_to_numpy(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 1)
    monkeypatch.setattr(module, "SMALL_WITH_VECTOR", 1)


@pytest.fixture
def three_threads(three_threads, monkeypatch):
    """Three threads for products of any size; little of B packed at a time."""
    monkeypatch.setattr(module, "SHARED_WORK", 0)
    monkeypatch.setattr(module, "SHARED_PACKING", 0)
    monkeypatch.setattr(module, "MOST_PACKED", 1 << 19)


def check(x, y):
    """Compare with the product in float64, and see that the operands are as before."""
    before = x.copy(), y.copy()
    found = matmul(x, y)
    wide = x.astype(np.float64), y.astype(np.float64)
    wanted = np.matmul(*wide)
    assert found.shape == wanted.shape
    assert found.dtype == x.dtype
    assert found.flags.c_contiguous
    bound = np.matmul(*map(np.abs, wide)) * (x.shape[-1] * np.finfo(x.dtype).eps / 2)
    assert (np.abs(found - wanted) <= bound).all()
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def layouts(x):
    """Yield x in memory of many kinds, and arrays of its shape with other values."""
    m, n = x.shape
    yield x
    yield x.T.copy().T
    yield np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3]
    yield np.pad(x, ((1, 2), (3, 1)))[1 : m + 1, 3 : n + 3]
    yield x[::-1, ::-1].copy()[::-1, ::-1]
    yield x.T[::-1].copy()[::-1].T
    yield np.broadcast_to(x[:1], x.shape)
    yield np.broadcast_to(x[:, :1], x.shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_many_sizes(dtype, rng):
    for m, k, n in SIZES:
        check(rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_any_strides(dtype, rng):
    vectors = [(1, 37, 90), (90, 37, 1), (1, 37, 1), (1, 1, 5)]
    for m, k, n in [(13, 17, 35), (40, 260, 21), (5, 300, 70), *vectors]:
        x = rng.standard_normal((m, k)).astype(dtype)
        y = rng.standard_normal((k, n)).astype(dtype)
        for a in layouts(x):
            for b in layouts(y):
                check(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 9])
def test_few_rows_are_finished_as_many_are(rows, dtype, rng):
    x, w = rng.standard_normal((9, 40)).astype(dtype), rng.standard_normal((300, 40)).astype(dtype)
    bias = rng.standard_normal(300).astype(dtype)
    (found,), (before,) = linear(x[:rows], w, bias, activation="silu")
    exact = x[:rows].astype(np.float64) @ w.T.astype(np.float64) + bias
    tolerance = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(before, exact, tolerance, tolerance)
    np.testing.assert_allclose(found, exact / (1 + np.exp(-exact)), tolerance, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stacks_and_vectors(dtype, rng):
    for left, right in [
        ((3, 5, 20), (20, 9)),
        ((3, 5, 20), (3, 20, 9)),
        ((5, 20), (3, 20, 9)),
        ((2, 1, 5, 20), (3, 20, 9)),
        ((17, 5, 20), (1, 20, 9)),
        ((4, 5, 6, 20), (4, 1, 20, 9)),
        ((20,), (20,)),
        ((20,), (20, 9)),
        ((5, 20), (20,)),
        ((3, 5, 20), (20,)),
        ((20,), (3, 20, 9)),
    ]:
        x, y = rng.standard_normal(left).astype(dtype), rng.standard_normal(right).astype(dtype)
        check(x, y)
        if x.ndim > 1 and y.ndim > 1:
            check(x.mT.copy().mT, y.mT.copy().mT)
    x = rng.standard_normal((4, 20, 5)).astype(dtype)
    check(x.transpose(2, 0, 1), rng.standard_normal((20, 9)).astype(dtype))
    check(np.broadcast_to(x[:1], x.shape), np.broadcast_to(x.mT[:1], (4, 5, 20)))


@pytest.mark.parametrize("shapes", [((0, 5), (5, 3)), ((2, 0), (0, 3)), ((2, 5), (5, 0))])
def test_no_rows_steps_or_columns(shapes):
    x, y = (np.ones(shape, np.float32) for shape in shapes)
    check(x, y)
    check(x[None].repeat(3, 0), y)
    check(x[None][:0], y)


@pytest.mark.parametrize(
    "size",
    [
        *((200, 600, 150), (40, 700, 300), (544, 300, 48), (16, 100, 400), (20, 900, 20)),
        *((1, 50, 900), (3, 70, 900), (7, 70, 600)),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_equal_bits(size, dtype, rng, three_threads):
    m, k, n = size
    x, y = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    stack = rng.standard_normal((20, k, 5)).astype(dtype)
    products = []
    for count in (1, 2, 3):
        threads.set_num_threads(count)
        products.append(
            [matmul(x, y), matmul(x.T.copy().T, y), matmul(x, y.T.copy().T), matmul(x, stack)]
        )
    for others in products[1:]:
        for first, other in zip(products[0], others, strict=True):
            np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_inf_spread_as_in_numpy(dtype, rng):
    for special in (np.nan, np.inf, -np.inf):
        for turned in (False, True):
            x = rng.standard_normal((31, 45)).astype(dtype)
            y = rng.standard_normal((45, 37)).astype(dtype)
            x[30, 44] = y[3, 36] = special
            x[:, 3] = 0  # zeros do not hide what they are multiplied with
            if turned:
                x, y = y.T, x.T
            with np.errstate(invalid="ignore"):
                wanted = np.matmul(x.astype(np.float64), y.astype(np.float64))
            found = matmul(x, y)
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(found[~finite], wanted[~finite].astype(dtype))
            np.testing.assert_allclose(found[finite], wanted[finite], atol=1e-4)


def test_nothing_outside_the_operands_is_used(rng):
    """All around the operands lies nan; what is around an operand in memory is not read."""
    for m, k, n in [(1, 1, 1), (5, 3, 7), (7, 17, 33), (13, 65, 17), (23, 257, 9)]:
        for turn_x in (False, True):
            for turn_y in (False, True):
                x, y = rng.standard_normal((m, k)), rng.standard_normal((k, n))
                around = [
                    np.pad(z.T if turn else z, 40, constant_values=np.nan).astype(np.float32)
                    for z, turn in ((x, turn_x), (y, turn_y))
                ]
                inner = [z[40:-40, 40:-40] for z in around]
                a = inner[0].T if turn_x else inner[0]
                b = inner[1].T if turn_y else inner[1]
                np.testing.assert_allclose(matmul(a, b), x @ y, rtol=1e-3, atol=1e-3)


def test_what_the_kernel_does_not_take_goes_to_numpy(rng):
    x, y = rng.standard_normal((30, 40)), rng.standard_normal((40, 50))
    single = x.astype(np.float32)
    np.testing.assert_array_equal(matmul(single, y), np.matmul(single, y))
    swapped = x.astype(">f8")
    np.testing.assert_array_equal(matmul(swapped, y), np.matmul(x, y))
    record = np.zeros((30, 40), dtype=[("value", "<f8"), ("tag", "i1")])
    record["value"] = x
    np.testing.assert_array_equal(matmul(record["value"], y), np.matmul(x, y))
    integers = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(matmul(integers, integers.T), integers @ integers.T)
    with pytest.raises(ValueError, match="mismatch"):
        matmul(x, x)


def test_the_backend_multiplies_with_the_kernel_where_kernels_are_wanted(monkeypatch):
    calls = []

    def spy(x, y):
        calls.append(x.dtype.name)
        return matmul(x, y)

    monkeypatch.setattr(registry.get("cpu"), "_product", spy)
    x = hx.ones((4, 50))
    half = hx.ones((4, 50), dtype="float16")
    with config.using(kernels=False):
        x @ x.mT
    assert calls == []
    with config.using(kernels=True):
        assert (x @ x.mT).numpy().tolist() == [[50.0] * 4] * 4
        assert (half @ half.mT).dtype == np.float16
    assert calls == ["float32", "float32"]


needs_amx = pytest.mark.skipif("high" not in config.precisions, reason="no AMX here")


@needs_amx
@pytest.mark.parametrize(("m", "k", "n"), [(9, 1, 1), (33, 65, 31), (200, 513, 150)])
def test_high_precision_errs_by_little(rng, m, k, n):
    x, y = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    with config.using(matmul_precision="high"):
        found = matmul(x, y)
    exact = x.astype(np.float64) @ y.astype(np.float64)
    terms = np.sqrt(np.square(x, dtype=np.float64) @ np.square(y, dtype=np.float64))
    assert np.abs(found - exact).max() > 0 or k == 1
    assert (np.abs(found - exact) <= 2.0**-14 * terms).all()


@needs_amx
def test_high_precision_gives_the_same_bits_on_any_number_of_threads(rng, three_threads):
    x, y = rng.standard_normal((300, 520), np.float32), rng.standard_normal((520, 260), np.float32)
    with config.using(matmul_precision="high"):
        shared = matmul(x, y)
        threads.set_num_threads(1)
        assert np.array_equal(shared, matmul(x, y))


@needs_amx
def test_products_of_bfloat16_are_exact_up_to_their_sum(rng):
    x, y = (hx.asarray(rng.standard_normal((70, 70))).astype(hx.bfloat16) for _ in range(2))
    exact = x.astype(hx.float64).numpy() @ y.astype(hx.float64).numpy()
    found = (x @ y).astype(hx.float64).numpy()
    assert (np.abs(found - exact) <= 2.0**-8 * np.abs(exact) + 1e-4).all()
