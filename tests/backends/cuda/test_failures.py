"""A GPU that is missing, full or lost is one clear error; a broken CuPy breaks nothing else."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import helixml as hx
from helixml.backends import cuda, registry
from helixml.backends.cuda.backend import CudaBackend
from helixml.backends.cuda.failures import explain
from helixml.device import Device
from helixml.errors import BackendError, DeviceError, DeviceMemoryError, MissingDependencyError

ANEW = r"Hint: pip uninstall cupy .*then pip install 'helixml\[cuda13\]'"


@pytest.fixture
def emulator(cp, request):
    """Only where failures can be injected."""
    if not hasattr(cp, "cuemu"):
        pytest.skip("a GPU does not fail on demand")
    return cp


@pytest.fixture
def served(emulator):
    """Return what serves the device "cuda", made when the failures are in place."""

    def serve():
        backend = CudaBackend(emulator, Device("cuda"))
        registry.register("cuda", lambda: backend)
        return backend

    yield serve
    registry.unregister("cuda")


# CuPy that is there and does not work


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('libcudart.so.13: wrong ELF class')", "RuntimeError: libcudart.so.13"),
        ("raise OSError('cannot read')", "does not load: OSError: cannot read"),
        ("import numpy; numpy.no_such_name", "does not load: AttributeError"),
        ("import no_such_module", "does not load: ModuleNotFoundError"),
        (
            "try:\n    raise ImportError('libamdhip64.so.7: cannot open')\n"
            "except ImportError as error:\n    raise ImportError('a page') from error",
            "does not load: ImportError: libamdhip64.so.7: cannot open",
        ),
        ("", r"in parts only: it has no is_available"),
    ],
)
def test_a_cupy_that_is_there_in_parts_says_how_to_install_it_anew(
    tmp_path, monkeypatch, text, message
):
    folder = tmp_path / "cupy"
    folder.mkdir()
    folder.joinpath("__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(MissingDependencyError, match=f"'cuda:0': .*{message}.*{ANEW}"):
        cuda.create(Device("cuda:0"))
    monkeypatch.delitem(sys.modules, "cupy", raising=False)


@pytest.mark.parametrize(
    ("is_hip", "driver", "message"),
    [
        (False, 0, "no NVIDIA driver"),
        (False, 12020, "driver serves CUDA 12.2"),
        (False, 13020, "no GPU that it can use"),
        (True, 0, "CuPy 14.2.0 is the one for AMD's GPUs, and finds none"),
    ],
)
def test_a_cupy_that_loads_and_finds_no_gpu_says_why(monkeypatch, is_hip, driver, message):
    found = ModuleType("cupy")
    found.__version__ = "14.2.0"
    found.is_available = lambda: False
    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 13020, is_hip=is_hip
    )
    found.cuda = SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", found)
    with pytest.raises(DeviceError, match=rf"device 'cuda': .*{message}.* Hint: "):
        hx.ones((2,), device="cuda")
    assert message in registry.available()["cuda"]
    assert "cuda" not in [device.name for device in hx.devices()]


def test_a_driver_that_does_not_answer_is_a_device_error(monkeypatch):
    def fails():
        raise RuntimeError("cudaErrorSystemDriverMismatch: system has unsupported display driver")

    found = ModuleType("cupy")
    found.is_available = fails
    monkeypatch.setitem(sys.modules, "cupy", found)
    message = r"device 'cuda': CUDA does not start: RuntimeError: cudaErrorSystem.*Hint: nvidia-smi"
    with pytest.raises(DeviceError, match=message):
        hx.ones((2,), device="cuda")


CODE = """
import helixml as hx
print((hx.ones((2,)) * 2).tolist(), [d.name for d in hx.devices()][:1])
for call in (lambda: hx.ones((2,), device="cuda"), lambda: hx.ones((2,)).to("cuda:1")):
    try:
        call()
    except hx.errors.HelixError as error:
        print(type(error).__name__, str(error).partition(".")[0])
"""


@pytest.mark.parametrize(
    "text", ["raise RuntimeError('no libraries')", "", "import no_such_module"]
)
def test_with_a_broken_cupy_the_rest_of_the_library_works(tmp_path, text):
    tmp_path.joinpath("cupy.py").write_text(text)
    paths = [tmp_path, Path(hx.__file__).parents[1], os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(str(p) for p in paths if p)
    environment = {**os.environ, "PYTHONPATH": path, "HELIXML_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *errors = done.stdout.splitlines()
    assert first == "[2.0, 2.0] ['cpu']"
    assert len(errors) == 2
    assert all(line.startswith("MissingDependencyError device 'cuda") for line in errors)


# Memory


def full_by(cp, nbytes):
    """Leave ``nbytes`` on the device."""
    pool = cp.get_default_memory_pool()
    pool.set_limit(size=pool.used_bytes() + nbytes)


MEMORY = (
    r"device 'cuda': not enough memory: Out of memory allocating [48],\d{3},\d{3} bytes .*; "
    r"arrays hold [\d,]+ bytes there\. Hint: a smaller batch, hx.autograd.checkpoint"
)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: hx.broadcast_to(x, (1024, 1024)) + 1.0,
        lambda x: hx.zeros((1024, 1024), device="cuda"),
        lambda x: hx.full((1024, 1024), 2.0, device="cuda"),
        lambda x: hx.arange(1024 * 1024, dtype="float32", device="cuda"),
        lambda x: hx.eye(1024, device="cuda"),
        lambda x: hx.tensor(np.zeros((1024, 1024), np.float32), device="cuda"),
        lambda x: hx.zeros((1024, 1024), device="cpu").to("cuda"),
        lambda x: hx.reshape(x, (1024, 1)) @ hx.reshape(x, (1, 1024)),
    ],
    ids=["add", "zeros", "full", "arange", "eye", "tensor", "to", "matmul"],
)
def test_memory_that_runs_out_names_the_bytes_and_the_way_out(served, emulator, call):
    served()
    x = hx.ones((1024,), device="cuda")
    full_by(emulator, 2**21)
    with pytest.raises(DeviceMemoryError, match=MEMORY):
        call(x)
    emulator.get_default_memory_pool().set_limit(size=0)
    assert call(x).size == 1024 * 1024  # and when there is room again, it works


@pytest.mark.parametrize("kernels", [True, False])
def test_memory_that_runs_out_in_the_backward_pass_is_the_same_error(served, emulator, kernels):
    served()
    x = hx.tensor(np.ones((64, 64), np.float32), device="cuda", requires_grad=True)
    with hx.config.using(kernels=kernels):
        y = hx.softmax(x, axis=-1)
        g = hx.ones((64, 64), device="cuda")
        full_by(emulator, 2**13)
        with pytest.raises(DeviceMemoryError, match="allocating 16,384 bytes") as caught:
            y.backward(g)
    assert isinstance(caught.value, MemoryError)


def test_memory_of_the_host_is_the_same_class():
    with pytest.raises(DeviceMemoryError, match=r"add: not enough memory for .*Hint: smaller"):
        hx.broadcast_to(hx.ones((1,), device="cpu"), (2**46,)) + 1.0


# A lost GPU


LOST = r"device 'cuda': the GPU stopped: cudaErrorIllegalAddress: .*Hint: start the process anew"


def illegal_address(cp):
    def fails(*arguments, **options):
        raise cp.cuda.runtime.CUDARuntimeError(
            "cudaErrorIllegalAddress: an illegal memory access was encountered"
        )

    return fails


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (lambda cp: cp, "exp", lambda x, b: hx.exp(x)),
        (lambda cp: cp, "matmul", lambda x, b: x @ x),
        (lambda cp: cp.ndarray, "get", lambda x, b: x.numpy()),
        (lambda cp: cp.ndarray, "get", lambda x, b: x.sum().item()),
        (lambda cp: cp.cuda.Device, "synchronize", lambda x, b: b.synchronize()),
        (lambda cp: cp, "asarray", lambda x, b: hx.tensor(np.ones(3), device="cuda")),
        (lambda cp: cp, "RawModule", lambda x, b: hx.softmax(x, axis=-1)),
    ],
    ids=["exp", "matmul", "numpy", "item", "synchronize", "tensor", "softmax"],
)
def test_a_lost_gpu_says_that_the_process_must_start_anew(
    served, emulator, monkeypatch, owner, name, call
):
    served()
    x = hx.ones((4, 4), device="cuda")
    monkeypatch.setattr(owner(emulator), name, illegal_address(emulator))
    backend = served()
    x = hx.Tensor(x._array, backend)
    with pytest.raises(DeviceError, match=LOST) as caught:
        call(x, backend)
    assert not isinstance(caught.value, DeviceMemoryError)


@pytest.mark.parametrize(
    "text",
    [
        *("cudaErrorLaunchFailure: unspecified launch failure", "cudaErrorAssert: device-side"),
        *("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access", "cudaErrorECCUncorrectable"),
        *("cudaErrorMisalignedAddress: misaligned address", "CUDA_ERROR_LAUNCH_FAILED: x"),
        *("hipErrorIllegalAddress: an illegal memory access", "hipErrorECCNotCorrectable: x"),
        *("cudaErrorHardwareStackError", "cudaErrorIllegalInstruction", "cudaErrorInvalidPc"),
    ],
)
def test_errors_that_cuda_repeats_for_ever_are_told(text, cp):
    found = explain(RuntimeError(text), Device("cuda:1"), cp)
    assert type(found) is DeviceError
    assert f"device 'cuda:1': the GPU stopped: {text}" in str(found)


@pytest.mark.parametrize(
    "text",
    [
        *("cudaErrorMemoryAllocation: out of memory", "CUDA_ERROR_OUT_OF_MEMORY"),
        "hipErrorOutOfMemory: out of memory",
        *("CUBLAS_STATUS_ALLOC_FAILED", "CUSOLVER_STATUS_ALLOC_FAILED", "CUFFT_ALLOC_FAILED"),
        *("CUSPARSE_STATUS_ALLOC_FAILED", "CURAND_STATUS_ALLOCATION_FAILED"),
    ],
)
def test_errors_of_memory_are_told_by_cuda_s_names_too(text, cp):
    found = explain(RuntimeError(text), Device("cuda"), cp)
    assert type(found) is DeviceMemoryError
    assert f"device 'cuda': not enough memory: {text}; arrays hold" in str(found)


@pytest.mark.parametrize(
    "text", ["CUBLAS_STATUS_EXECUTION_FAILED", "CUFFT_INTERNAL_ERROR", "CUFFT_INVALID_SIZE"]
)
def test_errors_of_libraries_with_other_causes_are_none_of_memory(text, cp):
    assert explain(RuntimeError(text), Device("cuda"), cp) is None


def test_other_errors_stay_what_they_are(served, emulator, monkeypatch):
    def fails(x):
        raise ValueError("no such thing")

    monkeypatch.setattr(emulator, "exp", fails)
    served()
    with pytest.raises(BackendError, match=r"exp: failed for .*no such thing"):
        hx.exp(hx.ones((2,), device="cuda"))
    with pytest.raises(IndexError):
        hx.take(hx.ones((2,), device="cuda"), hx.tensor([2], device="cuda"))
    assert explain(ValueError("cudaErrorInvalidValue"), Device("cuda"), emulator) is None


# Two devices


def test_operands_on_the_host_and_on_the_gpu_name_both(device):
    x, y = hx.ones((2,), device="cpu"), hx.ones((2,), device=device)
    for call in (lambda: x + y, lambda: hx.matmul(y, x), lambda: hx.concat([x, y])):
        with pytest.raises(DeviceError, match=r"operands live on (cpu .*cuda|cuda .*cpu)"):
            call()
    layer = hx.nn.Linear(2, 3, rng=hx.random.Rng(0))
    with pytest.raises(DeviceError, match=r"operands live on"):
        layer(hx.ones((4, 2), device=device))
