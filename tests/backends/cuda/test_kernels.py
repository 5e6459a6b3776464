"""All that is asked of every kernel, from the table of kernel_cases.py."""

import shutil
from importlib.resources import files
from itertools import chain
from pathlib import Path

import pytest

from helixml import dtypes, ops
from helixml._core.composed import Fused
from helixml._core.op import REGISTRY
from helixml.backends.cuda import kernels
from helixml.backends.cuda.launch import options, read
from helixml.testing import cuemu
from helixml.testing.cuemu import hiprtc, mutation, nvrtc, sanitizers
from required import need

from .kernel_cases import SOURCES, bits, check, kernels_of

# Bytes of a thread. On architectures that have 128 or 256 registers, the convolution by Fourier
# transforms and the selective scan need more; nothing is tuned for AMD.
MOST_STACK_OF_AMD = 320
CASES = Path(__file__).with_name("kernel_cases.py")
needs_compiler = pytest.mark.skipif(
    not shutil.which("g++"), reason="the emulator compiles kernels by g++"
)
each_file = pytest.mark.parametrize("file", SOURCES)


def test_every_kernel_of_every_file_is_in_the_table():
    names = [path.name for path in files(kernels).iterdir()]
    assert sorted(SOURCES) == sorted(n.removesuffix(".cu") for n in names if n.endswith(".cu"))
    for file, source in SOURCES.items():
        named = set(chain.from_iterable(call.kernels.split() for call in source.cases))
        assert named == kernels_of(file), file


def test_every_fused_op_has_a_kernel(backend):
    ops.load_all()
    assert {op.name for op in REGISTRY.values() if isinstance(op, Fused)} <= set(backend.kernels)


@needs_compiler
@each_file
@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_kernels_are_right_in_any_order_of_threads(file, order):
    with cuemu.order(order, 3):
        check(file)


@needs_compiler
@each_file
def test_bits_do_not_depend_on_the_order_of_threads(file):
    found = []
    for order, seed in (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2)):
        with cuemu.order(order, seed):
            found.append(bits(file))
    assert found[1:] == found[:1] * 3


@pytest.mark.slow
@needs_compiler
@each_file
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_there_is_no_race_and_no_touch_outside(file, sanitizer):
    (outcome,) = sanitizers.check(CASES, names=[f"check_{file}"], sanitizers=[sanitizer])
    assert outcome.clean, outcome.summary or outcome.report


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("file", [f for f in SOURCES if mutation.barriers(read(f"{f}.cu"))])
def test_each_barrier_is_missed_unless_it_is_needless(file):
    source = mutation.digest(read(f"{file}.cu"))
    mutants = sanitizers.mutate(
        CASES, names=[f"check_{file}"], sanitizers=["thread"], sources=[source]
    )
    unmissed = {mutant.barrier.number for mutant in mutants if not mutant.red}
    assert unmissed == set(SOURCES[file].needless)


def cost(file, dtype, constants, architecture):
    """Return what NVIDIA's compiler makes of a file's kernels."""
    need("nvrtc", nvrtc.find_nvrtc)
    given = options(dtype, constants)
    return nvrtc.compile_source(read(f"{file}.cu"), given, architecture=architecture).kernels


@pytest.mark.slow
@each_file
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_nvidias_compiler_keeps_kernels_in_registers(file, architecture):
    source = SOURCES[file]
    for dtype in dtypes.FLOATS if architecture == "sm_80" else [dtypes.float32]:
        for constants in source.variants(dtype):
            for kernel in cost(file, dtype, constants, architecture):
                spilled = kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes
                assert max(spilled) <= source.spilled, (dtype, constants, kernel)
                assert kernel.registers <= source.registers, (dtype, constants, kernel)


@pytest.mark.parametrize("dtype", dtypes.FLOATS, ids=str)
def test_a_kernel_compiles_for_each_dtype(dtype):
    assert {k.name for k in cost("column_sums", dtype, {}, "sm_80")} == {"column_sums"}


@pytest.mark.slow
@each_file
@pytest.mark.parametrize("architecture", hiprtc.ARCHITECTURES)
def test_amds_compiler_takes_the_same_kernels(file, architecture):
    need("hiprtc", hiprtc.find_hiprtc)
    for dtype in dtypes.FLOATS if architecture == "gfx90a" else [dtypes.float32]:
        for constants in SOURCES[file].variants(dtype):
            found = hiprtc.compile_source(
                read(f"{file}.cu"), options(dtype, constants), architecture=architecture
            )
            assert {kernel.name for kernel in found} == kernels_of(file)
            for kernel in found:
                assert kernel.stack_bytes <= MOST_STACK_OF_AMD, (dtype, constants, kernel)
                assert kernel.shared_bytes <= 64 << 10, (dtype, constants, kernel)
