"""PyTorch and JAX as backends: places, what each does in its own way, and a model trained there."""

import os
import subprocess
import sys

import numpy as np
import pytest

import helixml as hx
from helixml import dtypes
from helixml.backends import registry
from helixml.device import Device
from helixml.errors import DeviceError, MissingDependencyError
from helixml.testing import contract
from required import require

LIBRARIES = ("torch", "jax")
WIDE = ("uint16", "uint32", "uint64")


def skip_without(library):
    try:
        registry.get(library)
    except MissingDependencyError as error:
        require(library, str(error))


@pytest.fixture(params=LIBRARIES)
def library(request):
    """Each library that is installed."""
    skip_without(request.param)
    return request.param


@pytest.fixture
def torch():
    skip_without("torch")
    return registry.get("torch")


@pytest.fixture
def jax():
    skip_without("jax")
    return registry.get("jax")


# The contract


@pytest.mark.parametrize("group", ["surface", "arrays", "repeats"])
def test_torch_keeps_the_quick_contract(torch, group):
    for check in contract.checks("torch", full=False):
        if check.group == group:
            check.run()


def test_jax_has_the_surface_of_the_contract(jax):
    for check in contract.checks("jax", full=False):
        if check.group == "surface":
            check.run()


# Places


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_package_names_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"helixml.backends.array_api_{name}", raising=False)
    with pytest.raises(
        MissingDependencyError, match=rf"'{name}:cpu'.*pip install 'helixml\[{name}"
    ):
        registry.make(Device(f"{name}:cpu"))


@pytest.mark.parametrize("place", ["cpu", "cpu:0"])
def test_arrays_live_at_the_place_that_is_named(library, place):
    x = hx.tensor([1.0, 2.0], device=f"{library}:{place}", requires_grad=True)
    (x * x).sum().backward()
    assert x.device == f"{library}:{place}"
    assert x.grad.tolist() == [2.0, 4.0]
    assert "cpu" in registry.get(x.device).capabilities()["place"].lower()


def test_a_place_has_a_kind_and_the_library_s_name():
    device = Device("torch:cuda:1")
    assert (device.kind, device.index, str(device)) == ("torch", "cuda:1", "torch:cuda:1")


@pytest.mark.parametrize("place", ["nowhere", "cpu:7", "nowhere:1"])
def test_a_place_that_the_library_does_not_have(library, place):
    message = rf"'{library}:{place}': .* has no such place here: .*Hint: it has .*{library}:cpu"
    with pytest.raises(DeviceError, match=message):
        hx.zeros((1,), device=f"{library}:{place}")


def test_a_place_without_values_is_none(torch):
    with pytest.raises(DeviceError, match="'torch:meta': PyTorch has no such place here"):
        registry.get("torch:meta")


@pytest.mark.parametrize("name", ["torch:cuda:", "torch:cuda:x", "torch:1:1:1", "torch::1"])
def test_a_text_that_is_no_place(name):
    with pytest.raises(DeviceError, match="is not a device name"):
        registry.get(name)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_what_is_done_elsewhere_is_right_on_the_cpu_too(torch, kind, monkeypatch):
    # not that it runs there, nor in what order a GPU adds
    monkeypatch.setattr(torch, "_kind", kind)
    for name in ("are taken and scattered by indices", "have windows, which can be added up"):
        contract.every_dtype(contract.ARRAY_CHECKS[name], torch)
    host = np.arange(6, dtype=np.uint64).reshape(2, 3) + 2**63
    found = torch.matmul(torch.asarray(host), torch.asarray(host.T))
    assert (torch.to_numpy(found) == host @ host.T).all()


# Dtypes


def test_every_dtype_is_held(library):
    backend = registry.get(library)
    assert backend.dtypes == dtypes.ALL
    for dtype in dtypes.ALL:
        x = hx.ones((2,), dtype=dtype, device=library)
        assert x.dtype == dtype
        assert x.numpy().dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_halves_are_formed_in_float32(library, dtype):
    # in bfloat16 a sum of ones stops at 256, in float16 at 2048
    ones = hx.ones((2, 4096), dtype=dtype, device=library)
    assert ones.sum(axis=1).tolist() == [4096.0, 4096.0]
    assert hx.cumulative_sum(ones, axis=1)[0, -1].item() == 4096.0
    assert (ones @ ones.mT)[0, 1].item() == 4096.0
    backend = registry.get(library)
    where = backend.zeros((4096,), dtype=dtypes.int64)
    found = backend.scatter_add(ones._array, where, axis=1, size=2)
    assert backend.to_numpy(found).tolist() == [[4096.0, 0.0], [4096.0, 0.0]]


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize(
    "name",
    [
        *("add", "subtract", "multiply", "floor_divide", "remainder", "pow"),
        *("bitwise_and", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"),
        *("less", "greater_equal", "maximum", "minimum", "logical_and"),
    ],
)
def test_wide_unsigned_integers_are_numpy_s(torch, name, dtype):
    rng = np.random.default_rng(3)
    bits = 8 * np.dtype(dtype).itemsize
    # of every length, so that quotients are large and small; the ends of the range too
    x, y = (
        (rng.integers(1, 2**bits, 500, np.uint64, False) >> rng.integers(0, bits, 500, np.uint64))
        for _ in range(2)
    )
    x[:3], y[:6] = 2**bits - 1, [1, 2, 2**bits - 1] * 2
    y = np.maximum(y, 1)
    if "shift" in name or name == "pow":
        y %= bits
    x, y = x.astype(dtype), y.astype(dtype)
    numpys = {"bitwise_left_shift": np.left_shift, "bitwise_right_shift": np.right_shift}
    numpys |= {"pow": np.power}
    goal = numpys.get(name, getattr(np, name, None))(x, y)
    found = torch.to_numpy(getattr(torch, name)(torch.asarray(x), torch.asarray(y)))
    np.testing.assert_array_equal(found, goal)
    assert found.dtype == goal.dtype


def test_a_shift_by_all_bits_leaves_nothing(torch):
    x = torch.asarray(np.full(3, 2**64 - 1, np.uint64))
    y = torch.asarray(np.array([0, 63, 64], np.uint64))
    assert torch.to_numpy(torch.bitwise_right_shift(x, y)).tolist() == [2**64 - 1, 1, 0]


@pytest.mark.parametrize("dtype", WIDE)
def test_wide_unsigned_integers_are_ordered_and_added_up(torch, dtype):
    top = np.iinfo(dtype).max
    host = np.array([[3, top, 0], [top - 1, 2, top // 2 + 1]], dtype)
    x = torch.asarray(host)
    numpy = torch.to_numpy
    assert numpy(torch.max(x, axis=(0, 1), keepdims=False)) == top
    assert numpy(torch.min(x, axis=(1,), keepdims=False)).tolist() == [0, 2]
    assert numpy(torch.argmax(x, axis=1, keepdims=False)).tolist() == [1, 0]
    assert numpy(torch.argsort(x, axis=1)).tolist() == [[2, 0, 1], [1, 2, 0]]
    line = torch.asarray(np.sort(host.reshape(-1)))
    assert numpy(torch.searchsorted(line, x, side="left")).tolist() == [[2, 5, 0], [4, 1, 3]]
    wide = host.astype(np.uint64)
    assert (numpy(torch.sum(x, axis=(0,), keepdims=False)) == wide.sum(0)).all()
    assert (numpy(torch.cumulative_sum(x, axis=1)) == wide.cumsum(1)).all()
    assert numpy(torch.sign(x)).tolist() == [[1, 1, 0], [1, 1, 1]]
    assert numpy(torch.abs(x)).tolist() == host.tolist()


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "uint64"])
def test_integers_over_zero_give_zero(library, dtype):
    backend = registry.get(library)
    x, y = backend.asarray(np.array([7, 9], dtype)), backend.asarray(np.array([0, 2], dtype))
    assert backend.to_numpy(backend.floor_divide(x, y)).tolist() == [0, 4]
    assert backend.to_numpy(backend.remainder(x, y)).tolist() == [0, 1]


def test_jax_computes_in_64_bits_and_its_settings_stay(jax):
    import jax as library
    import jax.numpy as jnp

    before = library.config.jax_enable_x64
    x = hx.tensor([1.0, 2.0**-40], dtype="float64", device="jax")
    assert (x.sum() - 1.0).item() == 2.0**-40
    assert hx.arange(3, device="jax").dtype == np.int64
    assert library.config.jax_enable_x64 == before
    assert jnp.ones(1).dtype == (np.float64 if before else np.float32)


LISTING = """
import os
import helixml as hx
assert "jax" in [d.name for d in hx.devices()]
print(*sorted(f"{n}={v}" for n, v in os.environ.items() if n.startswith("XLA")))
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "XLA_PYTHON_CLIENT_PREALLOCATE=false"),
        *(
            ({name: value}, f"{name}={value}")
            for name, value in {
                "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
                "XLA_CLIENT_MEM_FRACTION": ".5",
                "XLA_PYTHON_CLIENT_MEM_FRACTION": ".5",
                "XLA_PYTHON_CLIENT_ALLOCATOR": "platform",
            }.items()
        ),
    ],
)
def test_listing_devices_leaves_a_gpu_its_memory_unless_the_user_says_how_much(jax, given, found):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("XLA")}
    done = subprocess.run(
        [sys.executable, "-c", LISTING],
        env={**plain, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == found


def test_jax_is_told_of_memory_before_it_is_asked_for_devices(jax, monkeypatch):
    from helixml.backends import array_api_jax

    told, ask = [], array_api_jax.jax.devices

    def devices(*kinds):
        told.append(dict(os.environ))
        return ask(*kinds)

    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(array_api_jax.jax, "devices", devices)
    array_api_jax.create(Device("jax"))
    assert told[0] == {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


# Indices, scans, random numbers


def test_scattering_adds_in_one_order(library):
    rng = np.random.default_rng(1)
    host = rng.normal(size=(3, 2000)).astype(np.float32)
    at = rng.integers(-5, 5, 2000)
    backend = registry.get(library)
    x, where = backend.asarray(host), backend.asarray(at)
    runs = [
        backend.to_numpy(backend.scatter_add(x, where, axis=1, size=5)).tobytes() for _ in range(3)
    ]
    assert len(set(runs)) == 1
    goal = np.zeros((3, 5))
    for column, position in enumerate(at):
        goal[:, position] += host[:, column]
    found = np.frombuffer(runs[0], np.float32).reshape(3, 5)
    np.testing.assert_allclose(found, goal, atol=1e-3)


@pytest.mark.parametrize("index", [4, -5])
def test_an_index_beyond_the_end_is_refused(library, index):
    x = hx.arange(4, device=library)
    with pytest.raises(hx.errors.IndexingError):
        hx.take(x, hx.tensor([0, index], device=library))
    with pytest.raises(IndexError):
        backend = registry.get(library)
        backend.take(x._array, backend.asarray(np.array([0, index])), axis=0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_searching_among_infinities_and_nans_is_numpy_s(library, dtype):
    nan, inf = np.nan, np.inf
    line = np.array([-inf, -2, -1.5, -0.0, 0, 1.5, inf, nan, nan], dtype)
    values = np.array([nan, inf, 2, 1.5, 0.0, -0.0, -1.75, -2, -inf], dtype)
    backend = registry.get(library)
    for side in ("left", "right"):
        found = backend.searchsorted(backend.asarray(line), backend.asarray(values), side=side)
        assert backend.to_numpy(found).tolist() == np.searchsorted(line, values, side).tolist()


def test_no_lines_are_transformed_to_no_lines(library):
    x = hx.ones((0, 5), dtype="float64", device=library)
    assert hx.fft.rfft(x).shape == (0, 3)
    assert hx.fft.rfft(x).dtype == np.complex128
    assert hx.fft.irfft(hx.fft.rfft(x), n=5).dtype == np.float64
    assert hx.fft.fft(x, n=7).shape == hx.fft.ifft(x, n=7).shape == (0, 7)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_a_scan_is_the_loop_that_defines_it(library, start, reverse):
    rng = np.random.default_rng(2)
    a, b, h = rng.uniform(-1, 1, (3, 9)), rng.normal(size=(3, 9)), rng.normal(size=3)
    a[:, 0] = np.inf if not (start or reverse) else a[:, 0]  # without a start it is not read
    backend = registry.get(library)
    found = backend.linear_scan(
        backend.asarray(a),
        backend.asarray(b),
        backend.asarray(h) if start else None,
        reverse=reverse,
    )
    goal = np.zeros((3, 9))
    state = h if start else None
    for t in range(8, -1, -1) if reverse else range(9):
        state = b[:, t] if state is None else a[:, t] * state + b[:, t]
        goal[:, t] = state
    np.testing.assert_allclose(backend.to_numpy(found), goal, rtol=1e-12)


def test_random_numbers_have_the_bits_of_the_cpu(library):
    def draws(device):
        rng = hx.random.Rng(3)
        rng._counter = 2**64 - 2  # the lower half of the counter wraps around
        yield rng.uniform((7, 3), device=device)
        yield rng.uniform((5,), dtype="float64", device=device)
        yield rng.uniform((5,), dtype="bfloat16", device=device)
        yield rng.integers(-3, 2**31, (9,), device=device)
        yield rng.bernoulli(0.3, (9,), device=device)
        yield rng.permutation(9, device=device)
        yield hx.random.dropout(hx.ones((5, 3), device=device), 0.4, rng=rng)

    for here, there in zip(draws("cpu"), draws(library), strict=True):
        assert there.device == library
        assert here.numpy().tobytes() == there.numpy().tobytes()


def test_random_numbers_are_made_on_the_device(torch, monkeypatch):
    def refuse(x):
        raise AssertionError("went to the host")

    monkeypatch.setattr(torch, "to_numpy", refuse)
    rng = hx.random.Rng(1)
    rng.uniform((7,), dtype="float64", device="torch")
    rng.normal((7,), device="torch")
    rng.integers(0, 10, (7,), device="torch")
    hx.random.dropout(hx.ones((7,), device="torch"), 0.5, rng=rng)
