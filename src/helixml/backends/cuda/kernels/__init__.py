"""CUDA kernels: each family in C++ (``.cu``) and, in Python, what lays arrays out and launches it.

`table` gives what a backend declares to the dispatcher. `prelude.cuh` has the types that every
kernel is written in, `hip.cuh` what AMD's compiler calls otherwise, `reduction.cuh` sums in a fixed
order, `helixml.backends.cuda.launch` reads, compiles and runs the files. `rms_norm` in norm.cu is
the place to start reading.

House rules for the source: kernels are ``extern "C" __global__ void``, launch bounds stand behind
``void``, one ``__shared__`` variable a statement, no headers but those here, no sum by atomics.
Each kernel is named in tests/backends/cuda/kernel_cases.py, from which its tests are made.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from helixml.backends.cuda.mirrors import Mirrors
from helixml.backends.dispatch import Kernel

__all__ = ["FLOATS", "functions", "table"]

FLOATS = ("float32", "float64", "float16", "bfloat16")  # computed in float32, float64 in itself

# Modules with a function `kernels(cp)`, which gives a list of `Kernel`.
_KERNELS = (
    *("norm", "softmax", "activation", "binary", "update"),
    *("selective_scan", "causal_conv1d", "attention", "fft_conv"),
    *("linear", "stored_linear", "mamba_step"),
    *("state_space_dual", "exponential_sum", "scan_attention"),
)
# Modules with a function `functions(cp)`, which gives functions of the backend itself.
_FUNCTIONS = ("activation", "binary", "summing", "gather", "philox", "linear_scan")


def table(cp: Any, mirrors: Mirrors) -> list[Kernel]:
    """Return all kernels, for CuPy's module or what stands in for it."""
    modules = [import_module(f"{__name__}.{name}") for name in _KERNELS]
    kernels = [kernel for module in modules for kernel in module.kernels(cp)]
    cross_entropy = import_module(f"{__name__}.cross_entropy")  # it checks indices
    return kernels + list(cross_entropy.kernels(cp, mirrors))


def functions(cp: Any) -> dict[str, Callable[..., Any]]:
    """Return functions by the protocol's names; each may give None, and leaves the call then."""
    modules = [import_module(f"{__name__}.{name}") for name in _FUNCTIONS]
    return {name: f for module in modules for name, f in module.functions(cp).items()}
