"""Compiled CPU kernels: C with explicit vectors, one build per instruction set.

`KERNELS` lists what there is, as the fields of `dispatch.Kernel`; the functions take and return raw
NumPy arrays. Where the extension was not built, or HELIXML_PURE is set, the list is empty and
the package works without it. `scan.c` is the place to start reading; `simd.h` has the vectors
it is written in, `table.c` chooses the instruction set, `_kernels.pyx` wraps the C functions for
Python, and a Python file for each op brings the caller's arrays into the kernel's layout.
`FUNCTIONS` are compiled versions of the backend's own functions, for arrays of float32 and
float64 (of words, for `philox`); each returns None where it leaves a call to NumPy. `matmul` is in
neither: the backend's `matmul` calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helixml import config
from helixml.backends.cpu import threads

KERNELS: list[tuple[Any, ...]] = []
FUNCTIONS: dict[str, Callable[..., Any]] = {}

try:
    if config.get().pure:
        raise ImportError("HELIXML_PURE is set: no extension is loaded.")
    import helixml.backends.cpu.kernels._kernels as _extension
except ImportError:
    _extension = None
else:
    from helixml.backends.cpu.kernels.activation import activation, gate, product
    from helixml.backends.cpu.kernels.attention import attention, attention_vjp, takes_heads
    from helixml.backends.cpu.kernels.causal_conv1d import causal_conv1d, causal_conv1d_vjp
    from helixml.backends.cpu.kernels.copying import concat, copy, place
    from helixml.backends.cpu.kernels.cross_entropy import cross_entropy, cross_entropy_vjp
    from helixml.backends.cpu.kernels.fft_conv import fft_conv, fft_conv_vjp, takes_length
    from helixml.backends.cpu.kernels.gather import scatter_add, take
    from helixml.backends.cpu.kernels.linear import linear, linear_vjp
    from helixml.backends.cpu.kernels.linear_scan import linear_scan
    from helixml.backends.cpu.kernels.mamba_step import mamba_step, takes_few_sequences
    from helixml.backends.cpu.kernels.norm import (
        layer_norm,
        layer_norm_vjp,
        rms_norm,
        rms_norm_vjp,
    )
    from helixml.backends.cpu.kernels.philox import drop, philox
    from helixml.backends.cpu.kernels.selective_scan import selective_scan, selective_scan_vjp
    from helixml.backends.cpu.kernels.softmax import (
        log_softmax,
        log_softmax_vjp,
        softmax,
        softmax_vjp,
        takes_axis,
    )
    from helixml.backends.cpu.kernels.state_space_dual import ssd, ssd_vjp, takes_steps
    from helixml.backends.cpu.kernels.stored_linear import stored_linear, takes_few
    from helixml.backends.cpu.kernels.summing import sum
    from helixml.backends.cpu.kernels.update import (
        adamw_,
        adamw_many_,
        norm_many,
        scale_many_,
        sgd_,
        sgd_many_,
    )

    threads.apply()
    if _extension.HAS_AMX:
        config.precisions.add("high")
    _FLOATS = ("float32", "float64")
    KERNELS += [
        ("selective_scan", selective_scan, _FLOATS),
        ("selective_scan_vjp", selective_scan_vjp, _FLOATS),
        ("causal_conv1d", causal_conv1d, _FLOATS),
        ("causal_conv1d_vjp", causal_conv1d_vjp, _FLOATS),
        ("rms_norm", rms_norm, _FLOATS),
        ("rms_norm_vjp", rms_norm_vjp, _FLOATS),
        ("layer_norm", layer_norm, _FLOATS),
        ("layer_norm_vjp", layer_norm_vjp, _FLOATS),
        ("softmax", softmax, _FLOATS, takes_axis),
        ("softmax_vjp", softmax_vjp, _FLOATS, takes_axis),
        ("log_softmax", log_softmax, _FLOATS, takes_axis),
        ("log_softmax_vjp", log_softmax_vjp, _FLOATS, takes_axis),
        ("attention", attention, _FLOATS, takes_heads),
        ("attention_vjp", attention_vjp, _FLOATS, takes_heads),
        ("ssd", ssd, _FLOATS, takes_steps),
        ("ssd_vjp", ssd_vjp, _FLOATS, takes_steps),
        ("cross_entropy", cross_entropy, _FLOATS, None, True),
        ("fft_conv", fft_conv, _FLOATS, takes_length),
        ("fft_conv_vjp", fft_conv_vjp, _FLOATS, takes_length),
        ("cross_entropy_vjp", cross_entropy_vjp, _FLOATS),
        ("linear", linear, _FLOATS),
        ("linear_vjp", linear_vjp, _FLOATS),
        ("stored_linear", stored_linear, _FLOATS, takes_few),
        ("mamba_step", mamba_step, _FLOATS, takes_few_sequences),
        ("adamw_", adamw_, _FLOATS),
        ("adamw_many_", adamw_many_, _FLOATS),
        ("sgd_", sgd_, _FLOATS),
        ("sgd_many_", sgd_many_, _FLOATS),
        ("norm_many", norm_many, _FLOATS),
        ("scale_many_", scale_many_, _FLOATS),
    ]
    for _name in ("silu", "gelu", "softplus"):
        _forward, _backward = activation(_name)
        KERNELS += [(_name, _forward, _FLOATS), (f"{_name}_vjp", _backward, _FLOATS)]
    for _name in ("silu_gate", "gelu_gate"):
        _forward, _backward = gate(_name)
        KERNELS += [(_name, _forward, _FLOATS), (f"{_name}_vjp", _backward, _FLOATS)]
    KERNELS += [(_name, product(_name), _FLOATS) for _name in ("chain", "quotient")]
    FUNCTIONS |= {
        "copy": copy,
        "concat": concat,
        "place": place,
        "sum": sum,
        "take": take,
        "scatter_add": scatter_add,
        "linear_scan": linear_scan,
        "philox": philox,
        "drop": drop,
    }


def available() -> str | None:
    """Return the instruction set in use (avx512, avx2, generic), None without kernels."""
    return None if _extension is None else str(_extension.instruction_set())
