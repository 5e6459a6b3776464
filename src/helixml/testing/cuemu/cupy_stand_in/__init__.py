"""`cupy()`: a stand-in for the slice of CuPy that a CUDA backend uses, over NumPy and the emulator.

Arrays wrap NumPy's and are none: whatever would mix host and device, or copy to the host unasked,
is a TypeError as with CuPy. A function is there only if it is listed (names.py); what is not raises
AttributeError. Stricter than CuPy: kernels take contiguous arrays, NumPy scalars and no empty
launches; index arrays and values set come from the device; ``where=`` and ``initial=`` are
refused; new memory is poisoned with nan.

Read on in module.py, then arrays.py, calculation.py, streams.py and kernels.py.
"""

from helixml.testing.cuemu.cupy_stand_in.module import StandIn

__all__ = ["cupy"]


def cupy(*, lazy: bool = False, seed: int = 0) -> StandIn:
    """Return a fresh stand-in for the module ``cupy``.

    Parameters
    ----------
    lazy : streams are queues, which run when somebody synchronises, in a random order that events
        and streams allow: what waits too little reads nan.
    seed : of that order.

    Examples
    --------
    >>> import numpy as np
    >>> cp = cupy()
    >>> x = cp.asarray(np.array([4.0, 9.0], np.float32))
    >>> (cp.sqrt(x) + 1).get()
    array([3., 4.], dtype=float32)
    >>> cp.cuemu.synchronizations
    Counter({'get': 1})
    """
    return StandIn(lazy=lazy, seed=seed)
