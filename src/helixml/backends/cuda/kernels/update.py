"""Steps of AdamW, SGD and Lion on the device, norms and scaling of many arrays; see update.cu.

A step for one parameter is that for many with a single array. Where the chunks of arrays lie
follows from their sizes, and stays on the device as long as these sizes come again; addresses have
a place there, which is filled anew when they change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.rows import Array, dense
from helixml.backends.cuda.launch import Program, current_device
from helixml.backends.dispatch import Kernel
from helixml.errors import BackendError

_BLOCK = 256
_CHUNK = 1 << 14  # entries that a block updates, at most
_TABLES = 64  # that are kept on the device


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels, for CuPy's module."""
    update = Update(cp)
    return [
        Kernel("adamw_", update.adamw_, FLOATS),
        Kernel("adamw_many_", update.adamw_many_, FLOATS),
        Kernel("sgd_", update.sgd_, FLOATS),
        Kernel("sgd_many_", update.sgd_many_, FLOATS),
        Kernel("lion_many_", update.lion_many_, FLOATS),
        Kernel("norm_many", update.norm_many, FLOATS),
        Kernel("scale_many_", update.scale_many_, FLOATS),
    ]


class Update:
    """The kernels of update.cu."""

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "update.cu")
        self._kept: dict[tuple[Any, ...], tuple[tuple[int, ...], Array]] = {}

    def adamw_(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        step: int,
    ) -> None:
        """Overwrite param, m and v with their values after step number ``step``, from 1.

        Parameters
        ----------
        param, grad, m, v : one shape, any strides.
        """
        self.adamw_many_(
            [param], [grad], [m], [v], lr=lr, beta1=beta1, beta2=beta2, eps=eps,
            weight_decay=weight_decay, step=step,
        )  # fmt: skip

    def adamw_many_(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        ms: Sequence[Array],
        vs: Sequence[Array],
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        step: int,
    ) -> None:
        """Do `adamw_` for the arrays at each position, of one shape; all are of one dtype."""
        corrections = [1 / (1 - beta1**step), 1 / (1 - beta2**step)]
        numbers = [lr, beta1, beta2, 1 - beta1, 1 - beta2, eps, 1 - lr * weight_decay, *corrections]
        self._overwrite("adamw", [params, grads, ms, vs], numbers)

    def sgd_(
        self,
        param: Array,
        grad: Array,
        velocity: Array | None,
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """Overwrite param and velocity, of one shape, with their values after a step."""
        self.sgd_many_(
            [param], [grad], [velocity], lr=lr, momentum=momentum, nesterov=nesterov,
            weight_decay=weight_decay,
        )  # fmt: skip

    def sgd_many_(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        velocities: Sequence[Array | None],
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """Do `sgd_` for the arrays at each position; all velocities are None, or none is."""
        moving = [velocity for velocity in velocities if velocity is not None]
        if moving:
            numbers = [lr, weight_decay, momentum, nesterov]
            self._overwrite("sgd_momentum", [params, grads, moving], numbers)
        else:
            self._overwrite("sgd", [params, grads], [lr, weight_decay])

    def scale_many_(self, xs: Sequence[Array], *, factor: float) -> None:
        """Multiply all arrays with ``factor``."""
        self._overwrite("scale", [xs], [factor])

    def lion_many_(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        ms: Sequence[Array],
        *,
        lr: float,
        beta1: float,
        beta2: float,
        weight_decay: float,
    ) -> None:
        """Overwrite params and ms, at each position of one shape, with what a step makes them."""
        numbers = [lr, beta1, beta2, 1 - beta1, 1 - beta2, 1 - lr * weight_decay]
        self._overwrite("lion", [params, grads, ms], numbers)

    def norm_many(self, xs: Sequence[Array]) -> tuple[tuple[Array], tuple[()]]:
        """Return the Euclidean norm of all elements, summed in float64; no residual."""
        cp = self._cp
        xs = [dense(cp, x) for x in xs]
        chunks = self._chunks(xs)
        dtype = xs[0].dtype
        sums = cp.empty((len(chunks) // 3,), dtypes.float64)
        self._program.launch(
            "squares",
            [self._table("squares", [xs]), chunks, len(xs), sums],
            dtype=dtype,
            grid=sums.size,
            block=_BLOCK,
        )
        result = cp.empty((), dtype)
        self._program.launch("root", [sums, sums.size, result], dtype=dtype, grid=1, block=1024)
        return (result,), ()

    def _overwrite(
        self, name: str, kinds: Sequence[Sequence[Array]], numbers: Sequence[float]
    ) -> None:
        """Run a kernel on arrays side by side; what is not dense is copied there and back."""
        cp = self._cp
        lines = [[dense(cp, x) for x in arrays] for arrays in kinds]
        chunks = self._chunks(lines[0])
        if not chunks.size:
            return
        self._program.launch(
            name,
            [self._table(name, lines), chunks, len(lines[0]), *numbers],
            dtype=lines[0][0].dtype,
            grid=chunks.size // 3,
            block=_BLOCK,
        )
        for kind, (given, used) in enumerate(zip(kinds, lines, strict=True)):
            for array, result in zip(given, used, strict=True):
                if result is not array and kind != 1:
                    array[...] = result.reshape(array.shape)

    def _table(self, name: str, kinds: Sequence[Sequence[Array]]) -> Array:
        """Return the addresses of arrays, kind by kind, in a place of the kernel's and their sizes.

        They change from step to step: gradients are made anew.
        """
        addresses = tuple(x.data.ptr for arrays in kinds for x in arrays)
        key = ("addresses", name, *(x.size for x in kinds[0]))
        return self._on_device(key, addresses, lambda: np.array(addresses, dtypes.uint64))

    def _chunks(self, arrays: Sequence[Array]) -> Array:
        """Return array, first entry and number of entries for each block."""
        sizes = tuple(x.size for x in arrays)

        def listed() -> np.ndarray[Any, Any]:
            found = [
                (number, first, min(_CHUNK, size - first))
                for number, size in enumerate(sizes)
                for first in range(0, size, _CHUNK)
            ]
            return np.array(found, dtypes.int64).reshape(-1)

        return self._on_device(("sizes", *sizes), (), listed)

    def _on_device(
        self,
        key: tuple[Any, ...],
        values: tuple[int, ...],
        make: Callable[[], np.ndarray[Any, Any]],
    ) -> Array:
        """Return a table that was kept, filled anew if it is to hold other values; or a new one.

        Each stream and each thread has its own, so that none is filled anew before it is read.
        """
        stream = self._cp.cuda.get_current_stream()
        if stream.is_capturing():
            raise BackendError(f"{key[1]}: tables are sent to the device, which no graph repeats.")
        key = (current_device(self._cp), stream.ptr, threading.get_ident(), *key)
        held, table = self._kept.get(key, (None, None))
        if table is None:
            if len(self._kept) >= _TABLES:
                self._kept.clear()
            table = self._cp.asarray(make())
        elif held != values:
            table.set(make())
        self._kept[key] = values, table
        return table
