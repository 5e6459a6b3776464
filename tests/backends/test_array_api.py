"""Namespaces of the array API standard as backends: what is refused, and where arrays go."""

import numpy as np
import pytest

import helixml as hx
from helixml import dtypes
from helixml.backends import array_api, registry
from helixml.backends.array_api import ArrayApiBackend
from helixml.device import Device
from helixml.errors import DTypeError, MissingDependencyError

xp = pytest.importorskip("array_api_strict")
STRICT = "array_api_strict"


def test_its_arrays_are_the_namespace_s_own():
    x = hx.ones((2, 3), device=STRICT)
    assert type(registry.get(STRICT).asarray([1.0])) is type(xp.ones(1))
    assert type(np.asarray(x)) is np.ndarray
    assert x.sum(axis=0).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("name", ["bool", "int8", "uint64", "float32", "float64", "complex64"])
def test_dtypes_are_numpy_s_outside_and_the_namespace_s_inside(name):
    x = hx.zeros((2,), dtype=name, device=STRICT)
    assert x.dtype == np.dtype(name)
    assert x._array.dtype == getattr(xp, name)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_halves_are_refused(name):
    message = rf"device '{STRICT}': has no {name}; it has bool, .*float32.*Hint: cast"
    with pytest.raises(DTypeError, match=message):
        hx.zeros((2,), dtype=name, device=STRICT)
    with pytest.raises(DTypeError, match=message):
        hx.ones((2,), dtype=name).to(STRICT)
    with pytest.raises(DTypeError, match=message):
        hx.ones((2,), device=STRICT).astype(name)


def test_arithmetic_of_booleans_is_refused():
    x = hx.tensor([True, False], device=STRICT)
    with pytest.raises(DTypeError, match=r"add: takes no booleans.*logical_or"):
        x + x
    assert x.sum().item() == 1
    assert (x | ~x).tolist() == [True, True]


def test_indexes_beyond_the_standard_are_spelled_out():
    x = hx.arange(12, device=STRICT).reshape(3, 4)
    host = x.numpy()
    for index in [1, -1, slice(0, 99), (slice(None, None, -1), slice(5, None)), (0, ..., None)]:
        np.testing.assert_array_equal(x[index].numpy(), host[index])
    with pytest.raises(hx.errors.IndexingError, match="out of bounds"):
        x[3]


def test_writing_leaves_the_old_array_alone():
    x = hx.zeros((3,), device=STRICT)
    old = x._array
    x.assign_(hx.ones((3,), dtype="float64", device=STRICT))
    assert x.tolist() == [1.0, 1.0, 1.0]
    assert x.dtype == np.float32
    assert not np.asarray(old).any()


def test_a_tensor_never_aliases_the_array_it_was_made_of():
    host = np.zeros(3)
    x = hx.asarray(host, device=STRICT)
    host[:] = 5.0
    assert x.tolist() == [0.0, 0.0, 0.0]


def test_random_numbers_have_the_bits_of_the_cpu():
    for draw in ("uniform", "bernoulli"):
        args = (0.3, (7,)) if draw == "bernoulli" else ((7,),)
        here, there = (getattr(hx.random.Rng(3), draw)(*args, device=d) for d in ("cpu", STRICT))
        assert here.numpy().tobytes() == there.numpy().tobytes()
    assert hx.random.Rng(3).permutation(9, device=STRICT).tolist() == (
        hx.random.Rng(3).permutation(9).tolist()
    )


def test_it_declares_no_kernels():
    assert len(registry.get(STRICT).kernels) == 0


def test_capabilities_name_the_package():
    assert registry.get(STRICT).capabilities()["namespace"].startswith("array_api_strict 2.")


def test_a_missing_package_says_how_to_get_it():
    with pytest.raises(MissingDependencyError, match=r"'no_such_namespace'.*pip install no-such-n"):
        array_api.create(Device("no_such_namespace"))


def test_a_namespace_that_lacks_functions_is_no_backend(toys):
    class Partial:
        """NumPy without its sine."""

        __name__ = "numpy"

        def __getattr__(self, name):
            if name == "sin":
                raise AttributeError(name)
            return getattr(np, name)

    registry.register("toy", lambda: ArrayApiBackend(Partial(), Device("toy")))
    with pytest.raises(hx.errors.BackendError, match="lacks sin"):
        registry.get("toy")


def test_a_function_of_a_subclass_comes_before_the_namespace_s(toys):
    class Louder(ArrayApiBackend):
        """NumPy with an exponential of its own."""

        def exp(self, x, /):
            """Return twice the exponential."""
            return 2 * np.exp(x)

    registry.register("toy", lambda: Louder(np, Device("toy")))
    assert hx.exp(hx.zeros((1,), device="toy")).tolist() == [2.0]
    assert hx.cos(hx.zeros((1,), device="toy")).tolist() == [1.0]


def test_arrays_are_made_at_the_place_that_is_given():
    places = []

    class Watched:
        """NumPy that notes for which device arrays are made."""

        __name__ = "numpy"

        def __getattr__(self, name):
            if name not in ("zeros", "ones", "full", "arange", "eye", "asarray"):
                return getattr(np, name)

            def make(*operands, device="left out", **options):
                places.append(device)
                return getattr(np, name)(*operands, **options)

            return make

    backend = ArrayApiBackend(Watched(), Device("toy:left"), "left")
    places.clear()
    backend.zeros((1,), dtype=dtypes.int64)
    backend.ones((1,), dtype=dtypes.int64)
    backend.full((1,), 3, dtype=dtypes.int64)
    backend.arange(0, 3, 1, dtype=dtypes.int64)
    backend.eye(2, 2, dtype=dtypes.int64)
    backend.asarray([1, 2])
    assert places == ["left"] * 6
    assert backend.capabilities()["place"] == "left"


def test_dtypes_that_the_namespace_lacks_are_left_out():
    class Narrow:
        """NumPy without some dtypes."""

        def __getattr__(self, name):
            if name in ("uint16", "uint32", "complex64", "complex128"):
                raise AttributeError(name)
            return getattr(np, name)

    backend = ArrayApiBackend(Narrow(), Device("toy"))
    assert dtypes.uint16 not in backend.dtypes
    assert dtypes.int64 in backend.dtypes
    with pytest.raises(DTypeError, match="has no uint16"):
        backend.zeros((1,), dtype=dtypes.uint16)
