"""The stand-in is as strict as CuPy about host and device, waits when told, and counts."""

import operator

import ml_dtypes
import numpy as np
import pytest

from helixml.errors import DTypeError, ShapeError
from helixml.testing import cuemu

needs_compiler = pytest.mark.skipif(not cuemu.is_available(), reason="kernels are compiled by g++")

KERNELS = """
extern "C" __global__ void add_one(float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += 1.0f;
}
template <int FACTOR> __global__ void times(float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= FACTOR;
}
extern "C" __global__ void reversed(const float* x, float* y) {
    extern __shared__ float cells[];
    cells[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = cells[blockDim.x - 1 - threadIdx.x];
}
"""


@pytest.fixture
def cp():
    return cuemu.cupy()


@pytest.fixture
def x(cp):
    return cp.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))


def module(cp):
    return cp.RawModule(
        code=KERNELS, options=("-std=c++17",), name_expressions=("times<2>", "times<5>")
    )


# Host and device


@pytest.mark.parametrize("operation", [operator.add, operator.mul, operator.lt, operator.matmul])
def test_an_array_of_the_host_does_not_mix_with_one_of_the_device(x, operation):
    host = np.ones((4, 4), np.float32)
    with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
        operation(x, host)
    with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
        operation(host, x)


@pytest.mark.parametrize(
    "use",
    [
        np.asarray,
        lambda x: np.add(x.get(), x),
        lambda x: np.zeros(4).__setitem__(slice(None), x[0]),
        lambda x: x.set(x),
        lambda x: x.__setitem__(0, np.ones(4)),
        lambda x: x[np.array([0, 1])],
        lambda x: np.concatenate([x, np.ones((3, 4))]),
        lambda x: cuemu.cupy().add(x, 1),
    ],
)
def test_nothing_goes_to_the_other_side_unasked(x, use):
    with pytest.raises(TypeError):
        use(x)


def test_functions_of_numpy_give_arrays_of_the_device(cp, x):
    for result in (np.exp(x), np.sum(x), np.concatenate([x, x]), np.float32(2) * x, 1 - x):
        assert type(result) is cp.ndarray


def test_reductions_give_arrays_without_axes(cp, x):
    for result in (x.sum(), cp.max(x), x.argmax(), cp.linalg.norm(x), x[1, 2], cp.dot(x[0], x[0])):
        assert isinstance(result, cp.ndarray)
        assert result.shape == ()
    assert x.argmax().dtype == np.int64


def test_what_is_not_listed_is_not_there(cp, x):
    with pytest.raises(AttributeError, match=r"'cupy' \(stand-in\) has no attribute 'vecdot'"):
        cp.vecdot(x, x)
    with pytest.raises(AttributeError, match=r"'cupy\.linalg'.* no attribute 'cond'"):
        cp.linalg.cond(x)
    with pytest.raises(TypeError, match=r"no ufunc.at\. Hint: cupyx.scatter_add"):
        np.add.at(x, 0, 1)
    with pytest.raises(TypeError):
        np.block([x, x])


# What CuPy computes otherwise than NumPy: seen on an H100 with CuPy 14.2


def test_a_zero_of_the_host_fills_with_zero_bytes(cp):
    minus = cp.asarray(np.array([-0.0], np.float32))
    assert np.signbit(minus.get()).all()
    assert np.signbit(cp.full((2,), minus[0], np.float32).get()).all()
    for made in (cp.full((2,), -0.0), cp.asarray(-0.0), cp.asarray(np.array(-0.0, np.float32))):
        assert not np.signbit(made.get()).any()
    matrix = cp.ones((2, 2), np.float32)
    matrix[0] = -0.0
    assert not np.signbit(matrix[0].get()).any()
    matrix[:, 0] = -0.0  # its entries lie apart: a kernel writes them
    assert np.signbit(matrix[:, 0].get()).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16], ids=str)
def test_floats_are_divided_with_a_remainder_by_the_quotient_rounded_down(cp, dtype):
    x, y = (cp.asarray(np.array(v, dtype)) for v in ([1, -1, 7, 1], [np.inf, np.inf, 2, 0]))
    np.testing.assert_array_equal((x // y).get().astype(float), [0, -0.0, 3, np.inf])
    np.testing.assert_array_equal((x % y).get().astype(float), [np.nan, np.nan, 1, np.nan])
    whole = cp.asarray(np.array([7, 7]))
    assert (whole // cp.asarray(np.array([2, 0]))).get().tolist() == [3, 0]


def test_what_is_next_to_an_infinity_is_nan_in_float16(cp):
    x, y = cp.asarray(np.array([1, np.inf], np.float16)), cp.asarray(np.zeros(2, np.float16))
    np.testing.assert_array_equal(cp.nextafter(x, y).get(), np.array([1 - 2.0**-11, np.nan]))


def test_integers_have_negative_powers(cp):
    x, y = cp.asarray(np.array([3, 1, -1, -1, 2])), cp.asarray(np.array([-1, -3, -3, -2, 3]))
    assert (x**y).get().tolist() == [0, 1, -1, 1, 8]


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2], ids=str)
def test_there_are_no_8_bit_floats(cp, x, dtype):
    for make in (
        lambda: x.astype(dtype),
        lambda: cp.zeros((2,), dtype),
        lambda: cp.asarray(np.zeros(2, dtype)),
    ):
        with pytest.raises(ValueError, match="Unsupported dtype float8"):
            make()


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("sum.*'where'", lambda m, x: m.sum(x, where=x > 1)),
        ("max.*'initial'", lambda m, x: m.max(x, initial=0.0)),
        ("var.*'correction'", lambda m, x: m.var(x, correction=1)),
        ("std.*'correction'", lambda m, x: x.std(correction=1)),
        ("sort.*'stable'", lambda m, x: m.sort(x, stable=True)),
        ("take.*'mode'", lambda m, x: m.take(x, m.asarray([1]), mode="clip")),
        ("linalg.svd.*'hermitian'", lambda m, x: m.linalg.svd(x, hermitian=True)),
        ("fft.rfft.*'out'", lambda m, x: m.fft.rfft(x, out=x)),
        ("add.*'where'", lambda m, x: np.add(x, 1, where=x > 1)),
        ("mean.*'where'", lambda m, x: np.mean(x, where=x > 1)),
    ],
)
def test_keywords_that_cupy_lacks_are_refused(cp, x, name, use):
    with pytest.raises(TypeError, match=rf"cupy.{name}"):
        use(cp, x)


# Values


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "use",
    [
        lambda m, x: m.exp(x) + x * 2,
        lambda m, x: x @ x.T,
        lambda m, x: m.einsum("ij,kj->ik", x, x),
        lambda m, x: m.take_along_axis(x, m.argsort(-x, axis=1), axis=1),
        lambda m, x: m.pad(m.flip(m.roll(x, 1, axis=0), axis=1), ((1, 0), (0, 2))),
        lambda m, x: m.where(x > 3, m.tril(x), 0).cumsum(axis=1),
        lambda m, x: m.searchsorted(x[0], x[:, 1] / 2),
        lambda m, x: x.reshape(4, 3).transpose(1, 0)[:, ::2].astype(np.float64).sum(axis=0),
        lambda m, x: m.broadcast_to(x[:, None], (3, 2, 4)).mean(axis=(0, 2), keepdims=True),
        lambda m, x: m.stack(m.split(x, 2, axis=1), axis=0).max(axis=0),
        lambda m, x: m.concatenate(list(m.divmod(x, 5)), axis=0),
        lambda m, x: m.fft.irfft(m.fft.rfft(x, axis=1), n=4, axis=1),
        lambda m, x: m.linalg.solve(x[:, :3] + 9 * m.eye(3, dtype=np.float32), x[:, 3]),
        lambda m, x: m.lib.stride_tricks.as_strided(x, (2, 3), (x.strides[0], x.strides[1])),
        lambda m, x: x.view(np.int32) + 1,
        lambda m, x: x.clip(min=2, max=7) + m.clip(x, 1, 3),
        lambda m, x: x[x > 4],
        lambda m, x: x[m.asarray([2, 0]), 1:],
        lambda m, x: m.linspace(0, 1, 5) + m.arange(5, dtype=np.float32),
    ],
)
def test_values_and_dtypes_are_numpys(use, lazy):
    cp = cuemu.cupy(lazy=lazy)
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected, found = use(np, host), use(cp, cp.asarray(host)).get()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("lazy", [False, True])
def test_writes_reach_the_array_through_its_views(lazy):
    cp = cuemu.cupy(lazy=lazy)
    x = cp.zeros((3, 4), np.float32)
    row = x[1]
    row += 2
    x[:, 1:2] = cp.arange(3, dtype=np.float32)[:, None]
    x[cp.asarray([0, 2]), cp.asarray([3, 3])] = 7
    cp.add(x[0], 1, out=x[0])
    cp.put_along_axis(x, cp.asarray([[0], [0], [0]]), -1, axis=1)
    cp.cupyx.scatter_add(x, (cp.asarray([2, 2]), 2), cp.asarray([1.0, 1.0], dtype=np.float32))
    assert x.get().tolist() == [[-1, 1, 1, 8], [-1, 1, 2, 2], [-1, 2, 2, 7]]


@pytest.mark.parametrize(
    ("kind", "result"),
    [(np.float32, np.complex64), (np.float64, np.complex128), (np.float16, np.complex64)],
)
def test_transforms_keep_single_precision(cp, kind, result):
    x = cp.ones((2, 8), kind)
    assert cp.fft.rfft(x).dtype == result
    assert cp.fft.ifft(cp.fft.fft(x)).dtype == result


def test_bfloat16_is_that_of_ml_dtypes(cp):
    x = cp.asarray([1, 2, 3], dtype=ml_dtypes.bfloat16)
    assert (x * x + 1).get().tolist() == [2, 5, 10]
    assert (x * x).dtype == ml_dtypes.bfloat16
    assert x.astype(np.float32).sum().item() == 6
    assert cp.isnan(cp.empty(3, ml_dtypes.bfloat16)).all()
    for product in (cp.outer(x, x)[:2] @ x, cp.einsum("i,i,j->j", x, x, x[:2])):
        assert product.dtype == ml_dtypes.bfloat16
        assert product.get().tolist() == [14, 28]
    assert x.clip(1, 2).dtype == cp.clip(x, 1, 2).dtype == ml_dtypes.bfloat16
    assert (x @ x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.complex64])
def test_empty_memory_is_poisoned(cp, kind):
    assert np.isnan(cp.empty((3, 2), kind).get()).all()
    assert np.isnan(cp.empty_like(cp.ones(3, kind)).get()).all()
    assert (cp.empty(3, np.int32).get() == -1).all()


def test_an_array_knows_its_address_and_memory(cp, x):
    assert x[1].data.ptr == x.data.ptr + 16
    assert x.T.base is x
    assert (x.T.flags.c_contiguous, x.nbytes, x.itemsize, len(x)) == (False, 48, 4, 3)


# Waiting


def test_each_wait_of_the_host_is_counted_by_its_cause(cp, x):
    x.get(), x.sum().item(), float(x[0, 0]), bool(x[0, 1] > 0), cp.asnumpy(x), x[x > 2]
    cp.nonzero(x), cp.cuda.Device().synchronize(), cp.cuda.Stream().synchronize()
    assert dict(cp.cuemu.synchronizations) == {
        **{"get": 2, "item": 1, "float": 1, "bool": 1, "nonzero": 1, "a boolean index": 1},
        **{"device.synchronize": 1, "stream.synchronize": 1},
    }
    assert cp.cuemu.copies == {"to device": 48, "to host": 96}
    cp.cuemu.reset()
    cp.exp(x)
    assert not cp.cuemu.synchronizations


def results(between, seeds=40):
    """Let stream b read what stream a writes, with something between, in many orders."""
    found = set()
    for seed in range(seeds):
        cp = cuemu.cupy(lazy=True, seed=seed)
        a, b = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
        x, y = cp.zeros(1, np.float32), cp.zeros(1, np.float32)
        cp.cuda.Device().synchronize()
        with a:
            x[...] = 5
        between(cp, a, b)
        with b:
            y[...] = x + 1
        b.synchronize()
        with b:
            found.add(y.item())
    return found


def test_lazy_streams_show_a_missing_wait():
    assert results(lambda cp, a, b: None) == {1, 6}


@pytest.mark.parametrize(
    "between",
    [
        lambda cp, a, b: b.wait_event(a.record()),
        lambda cp, a, b: a.synchronize(),
        lambda cp, a, b: a.record().synchronize(),
        lambda cp, a, b: cp.cuda.runtime.deviceSynchronize(),
    ],
)
def test_lazy_streams_are_right_with_a_wait(between):
    assert results(between) == {6}


def test_blocking_streams_wait_for_the_null_stream():
    for seed in range(20):
        cp = cuemu.cupy(lazy=True, seed=seed)
        x = cp.zeros(1, np.float32)
        with cp.cuda.Stream():
            y = x + 1
        x[...] = 5
        assert (y.get(), x.get()) == (1, 5)


def test_values_of_lazy_work_are_nan_until_somebody_waits():
    cp = cuemu.cupy(lazy=True)
    y = cp.ones(3) * 2
    assert np.isnan(y._raw).all()
    assert y.get().tolist() == [2, 2, 2]


# Kernels


@needs_compiler
@pytest.mark.parametrize("lazy", [False, True])
def test_kernels_run_in_their_stream_and_are_counted(lazy):
    cp = cuemu.cupy(lazy=lazy)
    x = cp.zeros(100, np.float32)
    kernels = module(cp)
    kernels.get_function("add_one")((2,), (64,), (x, np.int32(100)))
    kernels.get_function("times<2>")((2,), (64,), (x, np.int32(50)))
    kernels.get_function("times<5>")((2,), (64,), (x, np.int32(25)))
    assert x.get().tolist() == [10] * 25 + [2] * 25 + [1] * 50
    assert cp.cuemu.launches == {"add_one": 1, "times<2>": 1, "times<5>": 1}


@needs_compiler
def test_bytes_of_kernels_are_counted_by_name(cp):
    x, kernels = cp.zeros(100, np.float32), module(cp)
    with cuemu.counting():
        kernels.get_function("add_one")((2,), (64,), (x, np.int32(100)))
        kernels.get_function("add_one")((2,), (64,), (x, np.int32(10)))
    assert cp.cuemu.bytes_read == {"add_one": 440}
    assert cp.cuemu.bytes_written == {"add_one": 440}


@needs_compiler
def test_a_raw_kernel_is_a_module_of_one(cp, x):
    kernel = cp.RawKernel(KERNELS, "reversed", ("-std=c++17",))
    y = cp.empty(4, np.float32)
    kernel((1,), (4,), (x[0], y), shared_mem=16)
    assert y.get().tolist() == [3, 2, 1, 0]
    kernel.max_dynamic_shared_size_bytes = 64 << 10
    kernel((1,), (4,), (x[0], y), shared_mem=60 << 10)
    with pytest.raises(cuemu.LaunchError, match="max_dynamic_shared_size_bytes=200000"):
        kernel.max_dynamic_shared_size_bytes = 200000


@needs_compiler
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (lambda cp, x: (x, 12), DTypeError, "a Python int for int32"),
        (lambda cp, x: (x.T, np.int32(12)), ShapeError, "not C-contiguous: shape"),
        (lambda cp, x: (x.get(), np.int32(12)), TypeError, r"pass a numpy.ndarray of \(3, 4\)"),
        (lambda cp, x: (x.astype(np.float64), np.int32(1)), DTypeError, "float64 for float32"),
        (lambda cp, x: (None, np.int32(1)), DTypeError, "NoneType for float32"),
    ],
)
def test_a_kernels_arguments_are_arrays_of_the_device_and_numpy_scalars(
    cp, x, arguments, error, words
):
    kernel = module(cp).get_function("add_one")
    with pytest.raises(error, match=words):
        kernel((1,), (64,), arguments(cp, x))


@needs_compiler
@pytest.mark.parametrize(
    "make", [lambda cp: cp.zeros(4, np.float32), lambda cp: cp.empty((2, 4), np.float32)[1]]
)
def test_a_write_behind_an_array_is_an_error(cp, make):
    x = make(cp)
    with pytest.raises(
        cuemu.KernelFaultError, match="add_one, argument 0: bytes after the last of"
    ):
        x[...] = 0
        module(cp).get_function("add_one")((1,), (32,), (x, np.int32(5)))


@needs_compiler
def test_kernels_are_found_by_name_only(cp):
    with pytest.raises(RuntimeError, match=r"CUDA_ERROR_NOT_FOUND.*'times<3>'; there are"):
        module(cp).get_function("times<3>")
    with pytest.raises(TypeError, match=r"'options' has incorrect type \(expected tuple, got list"):
        cp.RawModule(code=KERNELS, options=["-std=c++17"])
    with pytest.raises(ValueError, match="take backend='nvrtc' and no switches"):
        cp.RawModule(code=KERNELS, backend="nvcc")
    with pytest.raises(TypeError, match="takes code=, not path="):
        cp.RawModule(path="kernels.cubin")


@needs_compiler
@pytest.mark.parametrize("lazy", [False, True])
def test_an_elementwise_kernel_broadcasts_and_writes_in_place(lazy):
    cp = cuemu.cupy(lazy=lazy)
    step = cp.ElementwiseKernel(
        "T g, float32 rate", "T p, T m", "m = 0.5f * m + g; p -= rate * m", "momentum_step"
    )
    g = cp.asarray(np.array([1, 2, 3], np.float32))
    p, m = cp.ones((2, 3), np.float32), cp.full((2, 3), 4, np.float32)
    step(g, 0.25, p, m)
    assert m.get().tolist() == [[3, 4, 5]] * 2
    assert p.get().tolist() == [[0.25, 0, -0.25]] * 2
    halves = cp.ElementwiseKernel("raw T x", "T y", "y = x[2 * i]", "every_other")
    assert halves(g.astype(np.int64), size=2).get().tolist() == [1, 3]
    assert cp.cuemu.launches == {"momentum_step": 1, "every_other": 1}


@needs_compiler
@pytest.mark.parametrize("lazy", [False, True])
def test_a_reduction_kernel_reduces_the_axes_it_is_given(lazy):
    cp = cuemu.cupy(lazy=lazy)
    norm = cp.ReductionKernel("T x, T w", "T y", "x * x * w", "a + b", "y = sqrt(a)", "0", "norm")
    host = np.arange(24.0).reshape(2, 3, 4)
    x, w = cp.asarray(host), cp.full((1, 4), 2.0)
    for axis in (None, 1, (0, 2), -1):
        expected = np.sqrt((host**2 * 2).sum(axis=axis))
        np.testing.assert_allclose(norm(x, w, axis=axis).get(), expected)
    assert norm(x, w, axis=1, keepdims=True).shape == (2, 1, 4)


def test_kernels_from_a_line_refuse_what_does_not_fit(cp, x):
    product = cp.ElementwiseKernel("T x, T y", "T z", "z = x * y", "product")
    with pytest.raises(TypeError, match="Wrong number of arguments for product: 1; it takes 2"):
        product(x)
    with pytest.raises(TypeError, match="y is T, float32; an array of float64 was given"):
        product(x, x.astype(np.float64))
    with pytest.raises(TypeError, match="Unsupported type"):
        product(x, x.get())
    with pytest.raises(ValueError, match="parameter 'T' is not of the form"):
        cp.ElementwiseKernel("T", "T z", "z = 1")


# Graphs, events, devices, memory


@needs_compiler
@pytest.mark.parametrize("lazy", [False, True])
def test_a_graph_repeats_what_was_captured(lazy):
    cp = cuemu.cupy(lazy=lazy)
    add_one = module(cp).get_function("add_one")
    stream, x = cp.cuda.Stream(non_blocking=True), cp.zeros(4, np.float32)
    cp.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        add_one((1,), (32,), (x, np.int32(4)))
        y = x * 10
        graph = stream.end_capture()
        assert x.get().tolist() == [0, 0, 0, 0]
        graph.launch(stream)
        graph.launch()
        assert x.get().tolist() == [2, 2, 2, 2]
        assert y.get().tolist() == [20, 20, 20, 20]


@pytest.mark.parametrize(
    "use",
    [
        lambda cp, x: x.get(),
        lambda cp, x: float(x[0, 0]),
        lambda cp, x: x[x > 1],
        lambda cp, x: cp.cuda.Device().synchronize(),
        lambda cp, x: cp.cuda.get_current_stream().synchronize(),
    ],
)
def test_the_host_must_not_wait_during_a_capture(cp, x, use):
    stream = cp.cuda.Stream()
    with stream:
        stream.begin_capture()
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="StreamCaptureUnsupported"):
            use(cp, x)
        stream.end_capture()


def test_captures_begin_and_end_in_turn(cp):
    error, stream = cp.cuda.runtime.CUDARuntimeError, cp.cuda.Stream()
    with pytest.raises(error, match="the null stream cannot capture"):
        cp.cuda.Stream.null.begin_capture()
    with pytest.raises(error, match="does not capture"):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(error, match="captures already"):
        stream.begin_capture()


def test_events_measure_time_and_order(cp):
    start, end = cp.cuda.Event(), cp.cuda.Event()
    start.record()
    end.record()
    end.synchronize()
    assert end.done
    assert cp.cuda.get_elapsed_time(start, end) >= 0


def test_there_is_one_device_with_properties(cp):
    assert cp.is_available()
    assert cp.cuda.runtime.getDeviceCount() == 1
    assert cp.cuda.runtime.getDeviceProperties(0)["warpSize"] == 32
    assert cp.cuda.Device(0).compute_capability == "80"
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="invalid device ordinal"):
        cp.cuda.Device(1)


def test_the_pool_counts_what_arrays_and_their_views_hold(cp):
    pool = cp.get_default_memory_pool()
    x = cp.zeros(1000, np.float32)
    assert pool.used_bytes() == 4096
    view = x[10:]
    del x
    assert pool.used_bytes() == 4096
    del view
    assert (pool.used_bytes(), pool.total_bytes(), pool.free_bytes()) == (0, 4096, 4096)
    pool.free_all_blocks()
    assert pool.total_bytes() == 0
    assert cp.cuda.runtime.memGetInfo() == (8 << 30, 8 << 30)


def test_the_pool_asks_the_device_only_for_what_it_has_not(cp):
    pool, counts = cp.get_default_memory_pool(), cp.cuemu
    x, y = cp.empty(1024, np.uint8), cp.empty(100, np.uint8)
    assert (counts.device_allocations, pool.total_bytes()) == (2, 1536)
    del x, y
    small = [cp.empty(size, np.uint8) for size in (500, 500, 10)]  # the best fit first, then a cut
    assert (counts.device_allocations, pool.free_bytes()) == (2, 0)
    del small[1:]
    whole = cp.empty(1024, np.uint8)  # two neighbours joined
    assert (counts.device_allocations, pool.n_free_blocks()) == (2, 0)
    del small, whole
    with cp.cuda.Stream():  # what was another stream's may still be in use there
        other = cp.empty(512, np.uint8)
    assert (counts.device_allocations, pool.used_bytes()) == (3, other.nbytes)


def test_a_piece_of_a_larger_block_is_not_given_back_to_the_device(cp):
    pool = cp.get_default_memory_pool()
    x = cp.empty(2048, np.uint8)
    del x
    x = cp.empty(512, np.uint8)
    pool.free_all_blocks()
    assert (pool.total_bytes(), pool.free_bytes()) == (2048, 1536)
    del x
    pool.free_all_blocks()
    assert (pool.total_bytes(), pool.n_free_blocks()) == (0, 0)


@pytest.mark.parametrize(
    ("call", "goal"),
    [
        (lambda cp, x: x.T[1:].reshape(3, 1, 4), {}),  # views
        (lambda cp, x: x.T.reshape(16), {"reshape": 1}),
        (lambda cp, x: cp.exp(x[:, 0]) + 1, {"exp": 1, "add": 1}),
        (lambda cp, x: cp.zeros(3)[:0] + 1, {"setitem": 1}),
        (lambda cp, x: x.__setitem__(0, x[1]), {"setitem": 1}),
        (lambda cp, x: cp.concatenate([x, x, x]), {"concatenate": 3}),
        (lambda cp, x: x.T @ x, {"matmul": 1}),
        (lambda cp, x: x[:, ::2] @ x[::2], {"matmul": 1, "copy": 2}),
        (lambda cp, x: x[:2, :, None] @ x[:2, None], {"matmul": 1}),
        (lambda cp, x: x.reshape(2, 2, 4) @ x, {"matmul": 1, "addresses": 3}),
    ],
)
def test_launches_of_the_library_are_counted(cp, call, goal):
    x = cp.asarray(np.ones((4, 4), np.float32))
    call(cp, x)
    assert cp.cuemu.library_launches == goal
    cp.cuemu.reset()
    assert not cp.cuemu.library_launches


def test_the_pools_limit_is_an_error(cp):
    pool = cp.get_default_memory_pool()
    pool.set_limit(size=10000)
    assert pool.get_limit() == 10000
    x = cp.zeros(2000, np.float32)
    with pytest.raises(
        cp.cuda.memory.OutOfMemoryError, match=r"allocated so far: 8,192 bytes, limit"
    ):
        x + 1


def test_pinned_memory_is_the_hosts(cp):
    pinned = cp.cupyx.empty_pinned((3,), np.float32)
    x = cp.arange(3, dtype=np.float32)
    assert x.get(out=pinned) is pinned
    assert pinned.tolist() == [0, 1, 2]
    x.set(pinned[::-1].copy())
    assert x.get().tolist() == [2, 1, 0]


def test_stand_ins_share_nothing(cp, x):
    other = cuemu.cupy()
    x.get()
    assert not other.cuemu.synchronizations
    assert other.get_default_memory_pool().used_bytes() == 0
    with pytest.raises(TypeError, match="an array of another stand-in"):
        other.exp(x)
