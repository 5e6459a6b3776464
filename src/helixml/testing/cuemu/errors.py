"""What can be wrong with a kernel: its source, its launch, or what its threads did.

The scheduler (runtime.cc) gives a number and the place; here it becomes an exception with a hint.
"""

from helixml.errors import BackendError

__all__ = [
    "DeadlockError",
    "DivergenceError",
    "KernelError",
    "KernelFaultError",
    "KernelTimeoutError",
    "LaunchError",
    "SourceError",
    "WarpMaskError",
    "kernel_error",
]


class KernelError(BackendError):
    """A kernel cannot be compiled or launched, or its threads did what a device forbids."""


class SourceError(KernelError, ValueError):
    """The source of a kernel does not compile, or breaks one of the house rules."""


class LaunchError(KernelError, ValueError):
    """Grid, block or shared memory are beyond what a device has."""


class DivergenceError(KernelError):
    """Threads reach different barriers, or some exit before one."""


class DeadlockError(KernelError):
    """Threads wait for others that never come."""


class WarpMaskError(KernelError):
    """A warp operation's mask does not name its caller, or a shuffle reads outside of it."""


class KernelTimeoutError(KernelError, TimeoutError):
    """A kernel did not end in time."""


class KernelFaultError(KernelError):
    """A kernel touched memory that is no array's, or divided an integer by zero."""


# By the numbers in runtime.cc: the class, and the way out.
_KINDS: tuple[tuple[type[KernelError], str], ...] = (
    (KernelError, ""),
    (
        DivergenceError,
        "every thread of a block must come to each barrier: do not return or branch before it",
    ),
    (DeadlockError, "every lane of the mask must call the same operation"),
    (WarpMaskError, "launch whole warps, and name in the mask every lane that takes part"),
    (LaunchError, "use smaller tiles, or dynamic shared memory with shared_mem="),
    (
        KernelTimeoutError,
        "an endless loop, or a wait for another thread or block: threads are never interrupted "
        "here. cuemu.timeout(seconds) allows more",
    ),
    (KernelFaultError, "`python -m helixml.testing.cuemu check` names the line"),
)


def kernel_error(number: int, launch: str, message: str) -> KernelError:
    """Make the exception for an error of the scheduler's."""
    kind, hint = _KINDS[number]
    return kind(f"{launch}: {message}. Hint: {hint}.")
