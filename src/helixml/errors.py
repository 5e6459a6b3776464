"""Every error and warning that helixml raises, as one tree.

A message reads *op: what is wrong, with the actual values. Hint: the way out.* Each class also
derives from the built-in exception that a NumPy user would expect (``ShapeError`` is a
``ValueError``), so ordinary ``except`` clauses keep working.

Nothing here knows of tensors, ops or devices.
"""

from numpy.linalg import LinAlgError

__all__ = [
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "ConvergenceError",
    "DTypeError",
    "DTypeWarning",
    "DataError",
    "DeviceError",
    "DeviceMemoryError",
    "DivergedError",
    "FileError",
    "GraphError",
    "GraphFreedError",
    "HelixError",
    "HelixWarning",
    "IndexingError",
    "InplaceError",
    "MissingDependencyError",
    "NonFiniteError",
    "NotDifferentiableError",
    "NotPositiveDefiniteError",
    "ShapeError",
    "SingularMatrixError",
    "ValueRangeError",
    "WorkerError",
]


class HelixError(Exception):
    """Base class of every error that helixml raises."""


class ShapeError(HelixError, ValueError):
    """Shapes or axes do not fit together."""


class DTypeError(HelixError, TypeError):
    """A dtype, or the type of an argument, is not accepted."""


class ValueRangeError(HelixError, ValueError):
    """An argument has the right type and a value outside its range."""


class SingularMatrixError(HelixError, LinAlgError):
    """A matrix has no inverse."""


class NotPositiveDefiniteError(HelixError, LinAlgError):
    """A matrix has no Cholesky factor."""


class IndexingError(HelixError, IndexError):
    """An index is out of bounds or of a kind that cannot index."""


class DeviceError(HelixError, RuntimeError):
    """Operands live on different devices, or a device is not available."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A device has not enough memory for a result."""


class BackendError(HelixError, RuntimeError):
    """A backend failed, or lacks something that it declared."""


class GraphError(HelixError, RuntimeError):
    """The autograd graph cannot do what was asked."""


class InplaceError(GraphError):
    """A value that the graph needs was overwritten, or must not be."""


class GraphFreedError(GraphError):
    """The graph was already walked backward and its saved values were dropped."""


class NotDifferentiableError(GraphError):
    """A gradient was asked of something that has none."""


class ConfigError(HelixError, ValueError):
    """A setting is unknown or has a value that makes no sense."""


class DataError(HelixError, ValueError):
    """A text or data set is missing, empty, too short or damaged."""


class DivergedError(HelixError, ArithmeticError):
    """A training's loss or gradient stopped being finite."""


class ConvergenceError(HelixError, ArithmeticError):
    """An iteration did not come to its end: no solution, a bad start, or too few steps."""


class NonFiniteError(HelixError, ArithmeticError):
    """An op made inf or nan out of finite operands; see `helixml.debug.anomaly`.

    Attributes
    ----------
    op : its name.
    phase : "forward" or "backward".
    line : ``file:line`` of the user's code that called the op, or "".
    module : path of the module that called it, or "".
    replay : path of a file for `helixml.debug.replay`, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        op: str = "",
        phase: str = "forward",
        line: str = "",
        module: str = "",
        replay: str | None = None,
    ) -> None:
        super().__init__(message)
        self.op = op
        self.phase = phase
        self.line = line
        self.module = module
        self.replay = replay


class CheckpointError(HelixError, RuntimeError):
    """A checkpoint or model folder is missing, damaged or of another model."""


class WorkerError(HelixError, RuntimeError):
    """A process that others wait for died or failed."""


class FileError(HelixError, OSError):
    """A file or folder cannot be read or written: a full disk, a missing or unwritable folder."""


class MissingDependencyError(HelixError, ImportError):
    """A feature needs a package that is not installed."""


class HelixWarning(UserWarning):
    """Base class of every warning that helixml gives."""


class DTypeWarning(HelixWarning):
    """A computation runs in a wider dtype than its user probably wants."""
