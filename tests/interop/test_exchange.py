"""Tensors handed to other libraries and taken from them: memory shared, gradients never lost."""

import array
import copy
import pickle

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ConfigError, DeviceError, DTypeError, GraphError, ValueRangeError

pytestmark = pytest.mark.usefixtures("plain_settings")


def address(x):
    return np.asarray(x).__array_interface__["data"][0]


# DLPack


class Foreign:
    """An array of a library that speaks DLPack as of some version."""

    def __init__(self, values, versioned=True, device=(1, 0)):
        self.values = values
        self.versioned = versioned
        self.device = device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **asked):
        if not self.versioned and asked:
            raise TypeError("__dlpack__() got an unexpected keyword argument")
        return self.values.__dlpack__(**asked)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64", "bool", "complex128"])
def test_numpy_takes_the_memory_read_only(dtype):
    x = hx.ones((2, 3), dtype=dtype)
    taken = np.from_dlpack(x)
    assert taken.dtype == dtype
    assert address(taken) == address(x)
    assert not taken.flags.writeable


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int64"])
def test_dlpack_there_and_back(dtype, versioned):
    x = hx.tensor([[1.0, -2.0], [3.0, 4.0]], dtype=dtype)
    y = hx.from_dlpack(Foreign(x, versioned))
    assert y.dtype == x.dtype
    assert y.tolist() == x.tolist()
    assert (address(y) == address(x)) is versioned
    strided = hx.from_dlpack(Foreign(x.T, versioned))
    assert strided.tolist() == x.T.tolist()


def test_a_copy_on_request():
    x = hx.tensor([1.0, 2.0])
    taken = np.from_dlpack(x, copy=True)
    # NumPy 2.1 takes everything read-only.
    assert taken.flags.writeable == np.from_dlpack(np.ones(2), copy=True).flags.writeable
    assert address(taken) != address(x)
    assert address(np.from_dlpack(x, copy=False)) == address(x)
    assert address(np.from_dlpack(x, device="cpu")) == address(x)


def test_what_dlpack_cannot_do_is_a_buffer_error():
    x = hx.tensor([1.0, 2.0])
    with pytest.raises(BufferError, match=r"only a copy can be given.*max_version=\(1, 0\)"):
        x.__dlpack__(copy=False)
    with pytest.raises(BufferError, match=r"from host memory \(1, 0\), not from \(2, 0\)"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError, match=r"stream=7"):
        x.__dlpack__(stream=7)
    with pytest.raises(DeviceError, match=r"Foreign lives on DLPack device \(2, 0\)"):
        hx.from_dlpack(Foreign(x, device=(2, 0)))


def test_a_tensor_that_came_by_dlpack_never_writes_to_its_giver():
    values = np.array([1.0, 2.0])
    x = hx.from_dlpack(values)
    assert address(x) == address(values)
    x[0] = 9.0
    assert values[0] == 1.0


# Leaving the graph


def test_strict_asarray_refuses_what_requires_a_gradient():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    assert np.asarray(x).tolist() == [1.0, 2.0]
    with hx.debug.strict_asarray():
        for leave in (np.asarray, np.array, np.from_dlpack):
            with pytest.raises(GraphError, match=r"\(2,\).*t\.detach\(\) or t\.numpy\(\)"):
                leave(x * 2)
        assert np.asarray(x.detach()).tolist() == [1.0, 2.0]
        assert (x * 2).numpy().tolist() == [2.0, 4.0]
        assert np.sum(x * 2).item() == 6.0
        assert np.asarray(hx.tensor([1, 2])).tolist() == [1, 2]
    assert np.asarray(x * 2).tolist() == [2.0, 4.0]


# Other containers


def test_containers_keep_their_width():
    assert hx.asarray(array.array("d", [1.0])).dtype == hx.float64
    assert hx.asarray(memoryview(np.ones(2))).dtype == hx.float64
    values = array.array("f", [1.0, 2.0])
    assert address(hx.asarray(values)) == values.buffer_info()[0]
    assert hx.asarray([1.0]).dtype == hx.float32


def test_masks_are_not_forgotten():
    half = np.ma.masked_array([1.0, 2.0], [True, False])
    with pytest.raises(DTypeError, match=r"asarray: 1 values are masked.*filled"):
        hx.asarray(half)
    with pytest.raises(DTypeError, match=r"1 values are masked"):
        hx.tensor([1.0, 2.0]) * half
    assert hx.asarray(np.ma.masked_array([1.0, 2.0])).tolist() == [1.0, 2.0]


def test_columns_of_pandas_share_memory():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.arange(4.0), "b": np.arange(4)})
    x = hx.asarray(frame["a"])
    assert x.dtype == hx.float64
    assert address(x) == address(frame["a"])
    assert address(hx.asarray(frame["b"])) == address(frame["b"])
    assert hx.asarray(frame).tolist() == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    with pytest.raises(DTypeError, match="cannot make a tensor of Series"):
        hx.asarray(pandas.Series(["a", "b"]))
    assert pandas.Series(hx.tensor([1.0, 2.0]).numpy()).tolist() == [1.0, 2.0]


def test_columns_of_polars_share_memory():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": np.arange(4.0), "b": np.arange(4)})
    for name, dtype in (("a", hx.float64), ("b", hx.int64)):
        x = hx.asarray(frame[name])
        assert x.dtype == dtype
        assert address(x) == address(frame[name].to_numpy(allow_copy=False))


def test_columns_of_pyarrow_share_memory():
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": np.arange(4.0), "b": np.arange(4)})
    for name, dtype in (("a", hx.float64), ("b", hx.int64)):
        column = table[name].chunk(0)
        x = hx.asarray(column)
        assert x.dtype == dtype
        assert address(x) == column.buffers()[1].address
    assert hx.asarray(table["a"]).dtype == hx.float64


def test_scipy_minimizes_a_function_with_its_gradient():
    from scipy.optimize import minimize

    def rosenbrock(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    start = np.array([1.3, 0.7, 0.8, 1.9])
    for method in ("BFGS", "L-BFGS-B", "Newton-CG"):
        found = minimize(hx.value_and_grad(rosenbrock), start, jac=True, method=method)
        assert found.success, found.message
        np.testing.assert_allclose(found.x, 1.0, atol=1e-4)
    found = minimize(
        hx.value_and_grad(rosenbrock),
        start,
        jac=True,
        hess=hx.autograd.hessian(rosenbrock),
        method="trust-ncg",
    )
    np.testing.assert_allclose(found.x, 1.0, atol=1e-4)


def test_arrays_get_gradients_that_are_arrays():
    both = hx.value_and_grad(lambda p, y: (p["x"] * y).sum(), argnums=(0, 1))
    x, y = np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0])
    value, (p, slope) = both({"x": x}, y)
    assert type(value) is float
    assert type(p["x"]) is np.ndarray
    assert p["x"].dtype == np.float32
    assert p["x"].flags.writeable
    assert slope.tolist() == [1.0, 2.0]
    value, (p, slope) = both({"x": hx.tensor(x)}, y)
    assert isinstance(value, hx.Tensor)
    assert isinstance(p["x"], hx.Tensor)
    assert type(slope) is np.ndarray


def test_an_outer_derivative_through_arrays_is_not_lost():
    w = hx.tensor(2.0, dtype="float64", requires_grad=True)
    value, gradient = hx.value_and_grad(lambda x: (w * x * x).sum())(np.array([3.0]))
    gradient.sum().backward()
    assert w.grad.item() == 6.0
    assert value.requires_grad


# Copies


def test_pickles_of_all_protocols_and_out_of_band():
    x = hx.tensor([[1.0, 2.0]], requires_grad=True)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        y = pickle.loads(pickle.dumps(x * 2, protocol))
        assert y.tolist() == [[2.0, 4.0]]
        assert y.is_leaf
    buffers = []
    small = pickle.dumps(hx.zeros((1000,)), 5, buffer_callback=buffers.append)
    assert len(small) < 400
    assert len(buffers) == 1
    assert pickle.loads(small, buffers=buffers).shape == (1000,)


def test_a_deep_copy_of_a_module_trains_apart():
    layer = hx.nn.Linear(2, 1, rng=hx.random.Rng(0))
    other = copy.deepcopy(layer)
    with hx.no_grad():
        other.weight.assign_(0.0)
    assert layer.weight.tolist() != [[0.0, 0.0]]
    assert other.weight.requires_grad


# Looks, defaults and annotations


def test_membership_and_divmod():
    x = hx.tensor([[1, 2], [3, 4]])
    assert 3 in x
    assert 5 not in x
    assert [list(map(int, part)) for part in divmod(hx.tensor([7, 9]), 4)] == [[1, 2], [3, 1]]
    assert [part.item() for part in divmod(7, hx.tensor(2))] == [3, 1]


def test_print_options():
    x = hx.tensor([1.23456, 1e-6])
    try:
        hx.set_print_options(precision=2, suppress=True)
        assert repr(x) == "tensor([1.23, 0.  ])"
        hx.set_print_options(threshold=3, edgeitems=1)
        assert repr(hx.arange(9)) == "tensor([0, ..., 8], shape=(9,))"
        hx.set_print_options(linewidth=20)
        assert "\n" in repr(hx.arange(9))
        with pytest.raises(DTypeError, match=r"precision must be an integer, not 1\.5"):
            hx.set_print_options(precision=1.5)
        with pytest.raises(ValueRangeError, match=r"edgeitems=0, must be at least 1"):
            hx.set_print_options(edgeitems=0)
    finally:
        hx.set_print_options()
    assert repr(hx.tensor([1.5])) == "tensor([1.5])"


def test_the_default_dtype():
    try:
        hx.set_default_dtype("float64")
        assert hx.get_default_dtype() == hx.float64
        assert hx.tensor([1.0]).dtype == hx.float64
        assert hx.tensor([1j]).dtype == hx.complex128
        assert hx.zeros((2,)).dtype == hx.float64
        assert hx.tensor([1, 2]).mean().dtype == hx.float64
        assert (hx.tensor([1, 2]) / 2).dtype == hx.float64
        assert hx.random.Rng(0).normal((2,)).dtype == hx.float64
        assert hx.nn.Linear(2, 2).weight.dtype == hx.float64
        assert repr(hx.tensor([1.5])) == "tensor([1.5])"
        assert (hx.tensor([1.0], dtype="float32") * 2.0).dtype == hx.float32
    finally:
        hx.set_default_dtype("float32")
    with pytest.raises(DTypeError, match="int64 is no float"):
        hx.set_default_dtype("int64")


def test_strictness_is_a_setting_like_others():
    from helixml import config

    with (
        pytest.raises(ConfigError, match="did you mean 'strict_asarray'"),
        config.using(strict_as_array=True),
    ):
        pass


def test_shapes_in_annotations():
    jaxtyping = pytest.importorskip("jaxtyping")
    two = jaxtyping.Float[hx.Tensor, "b l"]
    assert isinstance(hx.zeros((2, 3)), two)
    assert isinstance(hx.zeros((2, 3), dtype="bfloat16"), two)
    assert not isinstance(hx.zeros((2, 3, 4)), two)
    assert not isinstance(hx.zeros((2, 3), dtype="int32"), two)
    assert isinstance(hx.zeros((2,), dtype="int32"), jaxtyping.Int32[hx.Tensor, "2"])


def test_matplotlib_draws_tensors():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    x = hx.linspace(0.0, 1.0, 20)
    w = hx.tensor(2.0, requires_grad=True)
    figure, axes = pyplot.subplots()
    try:
        (line,) = axes.plot(x, w * x)
        assert np.allclose(line.get_ydata(), 2 * np.linspace(0, 1, 20))
        axes.plot(w * x)
        axes.scatter(x, x * w)
        axes.fill_between(x, 0 * x, w * x)
        axes.errorbar(x, w * x, yerr=x)
        axes.bar(hx.arange(20), x)
        axes.hist(w * x)
        axes.imshow(hx.ones((3, 4)))
        axes.contourf(hx.ones((3, 4)) * hx.arange(4))
        axes.axhline(x[3])
        axes.set_xlim(x[0], x[-1])
        figure.canvas.draw()
    finally:
        pyplot.close(figure)
