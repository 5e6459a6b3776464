"""helixml: a tensor engine in NumPy and Cython, with its own reverse-mode autograd.

Array functions stand here, in the spelling of the Python array API standard. Its extensions
`helixml.linalg` and `helixml.fft`, and `helixml.special`, `helixml.nn`, `helixml.optim`,
`helixml.models`, `helixml.training`, `helixml.data` and `helixml.profiler` are loaded when first
used.
"""

from helixml import config

if config.get().pure:
    from helixml import _pure

    _pure.install()

from importlib import import_module as _import_module
from math import e, inf, nan, pi
from typing import TYPE_CHECKING
from typing import Any as _Any

from helixml import autograd, device, dtypes, errors, ops, random, shapes
from helixml._arrival import follow as _follow
from helixml._core.interop import set_print_options
from helixml._core.modes import enable_grad, is_recording, no_grad
from helixml._core.tensor import Tensor
from helixml.autograd import grad, value_and_grad
from helixml.backends import cpu
from helixml.backends.cpu.threads import get_num_threads, set_num_threads
from helixml.device import Device
from helixml.dtypes import (
    bfloat16,
    bool_,
    complex64,
    complex128,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote,
    result_type,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from helixml.dtypes import bool_ as bool
from helixml.ops import *  # noqa: F403
from helixml.ops.further import FURTHER as _FURTHER

if TYPE_CHECKING:
    from helixml import (
        data,
        debug,
        fft,
        hardware,
        io,
        linalg,
        models,
        nn,
        optim,
        profiler,
        quantization,
        special,
        synthetic,
        testing,
        training,
    )
    from helixml.autograd import explain_memory
    from helixml.autograd.capture import capture
    from helixml.hardware import devices
    from helixml.io import load, save
    from helixml.training import fit

__all__ = [  # noqa: PLE0604  the ops' names come from their own lists
    *ops.__all__,
    *_FURTHER,
    "Device",
    "Tensor",
    "autograd",
    "bfloat16",
    "bool",
    "bool_",
    "capture",
    "complex128",
    "complex64",
    "config",
    "cpu",
    "data",
    "debug",
    "device",
    "devices",
    "dtypes",
    "e",
    "enable_grad",
    "errors",
    "fft",
    "fit",
    "explain_memory",
    "float16",
    "float32",
    "float64",
    "get_default_dtype",
    "float8_e4m3fn",
    "float8_e5m2",
    "get_num_threads",
    "grad",
    "hardware",
    "inf",
    "int16",
    "int32",
    "int64",
    "int8",
    "io",
    "is_recording",
    "linalg",
    "load",
    "models",
    "nan",
    "newaxis",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "pi",
    "profiler",
    "promote",
    "quantization",
    "random",
    "result_type",
    "save",
    "set_default_dtype",
    "set_num_threads",
    "set_print_options",
    "shapes",
    "special",
    "synthetic",
    "testing",
    "training",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "value_and_grad",
]
__version__ = "0.1.0"
_LAZY = (
    *("backends", "cli", "data", "debug", "fft", "io", "linalg", "models", "nn", "optim"),
    *("hardware", "profiler", "quantization", "sklearn", "special", "synthetic", "testing"),
    "training",
)
_ELSEWHERE = {
    "capture": "autograd.capture",
    "devices": "hardware",
    "explain_memory": "autograd",
    "fit": "training",
    "load": "io",
    "save": "io",
}
newaxis = None  # x[:, newaxis]


def __getattr__(name: str) -> _Any:  # a submodule, loaded on first use (PEP 562)
    if name in _LAZY:
        return _import_module(f"helixml.{name}")
    if name in _FURTHER:
        return getattr(ops, name)
    if name in _ELSEWHERE:
        return getattr(_import_module(f"helixml.{_ELSEWHERE[name]}"), name)
    raise AttributeError(f"module 'helixml' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_FURTHER, *_ELSEWHERE})


_follow("einops", "helixml.einops")  # where the two meet, einops knows Tensors
