"""CUDA without a GPU: kernels' source is compiled by g++ and run on the CPU, for tests.

>>> from helixml.testing import cuemu
>>> cp = cuemu.cupy()                                     # a stand-in for the module cupy
>>> module = cp.RawModule(code=SOURCE, options=("-DSCALAR=float",))         # doctest: +SKIP
>>> module.get_function("scan")((4,), (128,), (x, y, np.int32(n)), shared_mem=512)  # doctest: +SKIP

``cp = cuemu.cupy()`` gives a fresh stand-in: what a CUDA backend asks of CuPy, strict where CuPy is
strict; ``cp.cuemu`` counts its launches and synchronisations. ``with cuemu.order("reverse"):`` and
``with cuemu.order("random", 3):`` change the order in which threads and blocks take turns,
``with cuemu.timeout(5):`` how long a launch may take, ``with cuemu.counting():`` counts bytes of
global memory. `Module` runs kernels on NumPy arrays.

Found this way: wrong results in any order of threads, missing barriers (shared memory starts as
nan), barriers that some threads do not reach, wrong masks, deadlocks, too much shared memory,
arguments of the wrong dtype or layout. `cuemu.sanitizers` finds races and touches out of bounds,
`cuemu.nvrtc` asks NVIDIA's own compiler, `cuemu.hiprtc` AMD's.
Not found: everything about speed, the rounding of fast intrinsics, missing fences.

Needs Linux and g++, and nothing else (`is_available`). Read on in kernels.py, and
runtime/runtime.cc for the scheduler.
"""

from helixml.testing.cuemu.compiler import is_available
from helixml.testing.cuemu.cupy_stand_in import cupy
from helixml.testing.cuemu.errors import (
    DeadlockError,
    DivergenceError,
    KernelError,
    KernelFaultError,
    KernelTimeoutError,
    LaunchError,
    SourceError,
    WarpMaskError,
)
from helixml.testing.cuemu.execution import counting, order, timeout
from helixml.testing.cuemu.kernels import Module, launches

__all__ = [
    "DeadlockError",
    "DivergenceError",
    "KernelError",
    "KernelFaultError",
    "KernelTimeoutError",
    "LaunchError",
    "Module",
    "SourceError",
    "WarpMaskError",
    "counting",
    "cupy",
    "is_available",
    "launches",
    "order",
    "timeout",
]
