"""Programs: what is read from sources, and how arguments are held against them."""

import numpy as np
import pytest

from helixml import dtypes
from helixml.backends.cuda import kernels
from helixml.backends.cuda.launch import Program, options, parameters, read, stride_blocks
from helixml.errors import BackendError


def test_parameters_are_read_from_the_source():
    source = """
    // extern "C" __global__ void ghost(int x)
    extern "C" __global__ void __launch_bounds__(256) fill(
        const SCALAR* __restrict__ x, ACCUM *y, unsigned long long n, /* none */ bool on, void* z)
    """
    found = parameters(source)["fill"]
    assert [p.name for p in found] == ["x", "y", "n", "on", "z"]
    assert [p.type for p in found] == ["SCALAR", "ACCUM", "unsigned long long", "bool", "void"]
    assert [p.is_array for p in found] == [True, True, False, False, True]
    half = [p.of(dtypes.float16).dtype for p in found]
    assert half == [dtypes.float16, dtypes.float32, dtypes.uint64, dtypes.bool_, None]


@pytest.mark.parametrize("text", ["short x", "int** x", "Pack* x", "void x"])
def test_a_parameter_of_a_type_that_is_not_served(text):
    with pytest.raises(BackendError, match=r"not served. Hint: .*SCALAR"):
        parameters(f'extern "C" __global__ void fill({text})')


def test_included_files_stand_in_their_place_once():
    text = read("norm.cu")
    assert text.count("#ifndef HELIXML_PRELUDE") == 1
    assert '#include "' not in text
    assert text.index("HELIXML_PRELUDE") < text.index("block_joined") < text.index("rms_norm(")


def test_the_compiler_is_told_the_dtype_and_the_constants():
    assert options(dtypes.bfloat16, {"N": 4}) == ("-std=c++17", "-DSCALAR_BFLOAT16", "-DN=4")


def launch(cp, *arguments, name="silu", block=32, grid=1, file="map.cu"):
    Program(cp, file).launch(name, arguments, dtype=dtypes.float32, grid=grid, block=block)


def zeros(cp, *shape, dtype=np.float32):
    return cp.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cp: launch(cp, name="shout"), r"map.cu: no kernel 'shout'; it has .*silu"),
        (lambda cp: launch(cp, zeros(cp, 2)), r"silu: 1 arguments for 3 parameters: x, y, size"),
        (lambda cp: launch(cp, zeros(cp, 2), np.zeros(2), 2), r"y must be an array of the device"),
        (
            lambda cp: launch(cp, zeros(cp, 2), zeros(cp, 2, dtype=np.float64), 2),
            r"y must hold float32, not float64",
        ),
        (lambda cp: launch(cp, zeros(cp, 2, 2).T, zeros(cp, 4), 4), r"x is not contiguous. Hint"),
        (lambda cp: launch(cp, zeros(cp, 2), zeros(cp, 2), zeros(cp, 2)), r"size is a number"),
        (
            lambda cp: launch(cp, zeros(cp, 2), zeros(cp, 2), 2, block=33),
            r"33 threads. Hint: whole",
        ),
        (lambda cp: launch(cp, zeros(cp, 2), zeros(cp, 2), 2, block=0), r"block of 0 threads"),
    ],
)
def test_what_does_not_fit_is_refused(cp, call, message):
    with pytest.raises(BackendError, match=message):
        call(cp)


def test_a_grid_without_blocks_runs_nothing(cp):
    y = cp.full((2,), 7, np.float32)
    launch(cp, zeros(cp, 2), y, 2, grid=0)
    assert y.get().tolist() == [7, 7]


def test_blocks_are_no_more_than_the_device_can_use(cp):
    assert stride_blocks(cp, 0, 256) == 0
    assert stride_blocks(cp, 257, 256) == 2
    assert stride_blocks(cp, 10**9, 256) == stride_blocks(cp, 10**8, 256)


def test_every_kernel_of_the_table_is_declared_for_all_floats(backend):
    assert {"rms_norm", "softmax_vjp", "cross_entropy", "adamw_many_"} <= {*backend.kernels}
    own = ["rms_norm", "layer_norm_vjp", "log_softmax", "cross_entropy_vjp", "gelu_gate", "sgd_"]
    assert all(backend.kernels[name].dtypes == kernels.FLOATS for name in own)


@pytest.mark.parametrize("is_hip", [True, False])
def test_much_shared_memory_is_asked_for_but_not_of_hip(cp, monkeypatch, is_hip):
    asked, given = [], []

    class Function:
        @property
        def max_dynamic_shared_size_bytes(self):
            return 0

        @max_dynamic_shared_size_bytes.setter
        def max_dynamic_shared_size_bytes(self, nbytes):
            asked.append(nbytes)

        def __call__(self, grid, block, arguments, shared_mem):
            given.append(shared_mem)

    monkeypatch.setattr(cp.cuda.runtime, "is_hip", is_hip)
    program = Program(cp, "map.cu")
    monkeypatch.setattr(program, "_prepared", lambda *key: (Function(), ()))
    program.launch("silu", [], dtype=dtypes.float32, grid=1, block=32, shared=64 << 10)
    assert given == [64 << 10]
    assert asked == ([] if is_hip else [64 << 10])
