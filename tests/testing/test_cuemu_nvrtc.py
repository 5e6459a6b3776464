"""NVIDIA's compiler accepts the sample kernels, says what they cost, and what it refuses.

pip install nvidia-cuda-nvrtc nvidia-cuda-runtime
"""

import importlib.util

import cuemu_checks as samples
import pytest
import test_cuemu as kernels

from helixml.errors import MissingDependencyError
from helixml.testing import cuemu
from helixml.testing.cuemu import nvrtc
from helixml.testing.cuemu.__main__ import main
from required import need


@pytest.fixture
def installed():
    """Do without the test where there is no NVRTC."""
    need("nvrtc", nvrtc.find_nvrtc)


needs_nvrtc = pytest.mark.usefixtures("installed")


@needs_nvrtc
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize(
    ("source", "expressions", "shared"),
    [
        (samples.BLOCK_SUM, (), 32 * 4),
        (samples.MATMUL, (), (8 * 8 + 8 * 9) * 4),
        (samples.SCAN, ("scan<float, 64>",), 0),
        (samples.NEIGHBOURS, (), 64 * 4),
    ],
    ids=["block_sum", "matmul", "scan", "neighbours"],
)
def test_samples_stay_in_registers(source, expressions, shared, architecture):
    compiled = nvrtc.compile_source(
        source, ("-std=c++17",), architecture=architecture, name_expressions=expressions
    )
    (cost,) = compiled.kernels
    assert compiled.cubin[:4] == b"\x7fELF"
    assert 0 < cost.registers <= 64
    assert (cost.stack_bytes, cost.spill_store_bytes, cost.spill_load_bytes) == (0, 0, 0)
    assert cost.shared_bytes == shared


@needs_nvrtc
@pytest.mark.parametrize("source", [kernels.KERNELS, kernels.FAULTS], ids=["kernels", "faults"])
def test_what_the_emulator_runs_is_cuda(source):
    names = {cost.name for cost in nvrtc.compile_source(source, ("-std=c++17",)).kernels}
    assert names == set(cuemu.Module(source).kernels)


@needs_nvrtc
def test_an_array_that_is_indexed_unforeseeably_takes_stack():
    source = """extern "C" __global__ void local(const int* x, float* y) {
        float a[32];
        for (int i = 0; i < 32; i++) a[i] = y[i];
        for (int i = 0; i < x[0]; i++) a[x[i]] += 1.0f;
        for (int i = 0; i < 32; i++) y[i] = a[i];
    }"""
    assert nvrtc.compile_source(source).kernels[0].stack_bytes == 128


@needs_nvrtc
def test_the_command_prints_each_kernels_cost_on_each_architecture(tmp_path, capsys):
    path = tmp_path / "block_sum.cu"
    path.write_text(samples.BLOCK_SUM.replace("float", "SCALAR"))
    assert main(["nvrtc", str(path), "-DSCALAR=float"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(nvrtc.ARCHITECTURES)
    assert all("name='block_sum'" in line and "stack_bytes=0" in line for line in lines)


@needs_nvrtc
def test_a_refused_source_is_an_error_with_the_compilers_words():
    with pytest.raises(cuemu.SourceError, match=r'for sm_90:\n.*identifier "y" is undefined'):
        nvrtc.compile_source("__global__ void k(float* x) { x[0] = y; }", architecture="sm_90")


@needs_nvrtc
@pytest.mark.parametrize("name", ["uint32_t", "uint", "INFINITY", "M_PI", "FLT_MAX", "NAN"])
def test_names_that_the_emulator_refuses_are_unknown_to_nvrtc(name):
    source = f'extern "C" __global__ void k(float* x) {{ x[0] = sizeof({name}); }}'
    with pytest.raises(cuemu.SourceError, match=f'identifier "{name}" is undefined'):
        nvrtc.compile_source(source)
    with pytest.raises(cuemu.SourceError, match="that NVRTC does not know"):
        cuemu.Module(source)


def test_without_nvrtc_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"Hint: pip install nvidia-cuda-nvrtc"):
        nvrtc.find_nvrtc.__wrapped__()


REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for first
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 128 bytes smem, 372 bytes cmem[0]
ptxas info    : Compiling entry function 'second' for 'sm_80'
ptxas info    : Function properties for second
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, 360 bytes cmem[0]
"""


def test_the_compilers_report_is_read_for_each_kernel():
    assert nvrtc._costs(REPORT) == [
        nvrtc.KernelCost("first", 255, 16, 8, 4, 128, 372),
        nvrtc.KernelCost("second", 12, 0, 0, 0, 0, 360),
    ]
