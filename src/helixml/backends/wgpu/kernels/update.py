"""Steps of AdamW and SGD on the device, and the norm and scaling of many arrays.

The kernels are in update.wgsl and norms.wgsl. A dispatch binds at most 8 arrays, so that many
arrays are many dispatches, which the runtime sends together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.copies import copy_into
from helixml.backends.wgpu.kernels.parts import Parts
from helixml.backends.wgpu.kernels.rows import THREADS, Family
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime

_RUN = 16  # entries of an invocation, as in norms.wgsl


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels."""
    update, norms = Update(runtime), Norms(runtime)
    steps = ("adamw_", "adamw_many_", "sgd_", "sgd_many_", "scale_many_")
    return [
        *(Kernel(name, getattr(update, name), ("float32",)) for name in steps),
        Kernel("norm_many", norms.norm_many, ("float32",)),
    ]


class Update(Family):
    """The kernels of update.wgsl."""

    file = "update.wgsl"

    def adamw_(
        self,
        param: WgpuArray,
        grad: WgpuArray,
        m: WgpuArray,
        v: WgpuArray,
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
        numbers = {
            "size": param.size,
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "rest1": 1 - beta1,
            "rest2": 1 - beta2,
            "eps": eps,
            "keep": 1 - lr * weight_decay,
            "m_scale": 1 / (1 - beta1**step),
            "v_scale": 1 / (1 - beta2**step),
        }
        self._overwrite("adamw", [param, grad, m, v], numbers)

    def adamw_many_(
        self,
        params: Sequence[WgpuArray],
        grads: Sequence[WgpuArray],
        ms: Sequence[WgpuArray],
        vs: Sequence[WgpuArray],
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        step: int,
    ) -> None:
        """Do `adamw_` for the arrays at each position."""
        for arrays in zip(params, grads, ms, vs, strict=True):
            self.adamw_(
                *arrays, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay,
                step=step,
            )  # fmt: skip

    def sgd_(
        self,
        param: WgpuArray,
        grad: WgpuArray,
        velocity: WgpuArray | None = None,
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """Overwrite param and velocity, of one shape, with their values after a step."""
        numbers = {
            "size": param.size,
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
        }
        if velocity is None:
            self._overwrite("sgd", [param, grad], numbers)
        else:
            self._overwrite(
                "sgd_momentum", [param, grad, velocity], numbers, {"NESTEROV": nesterov}
            )

    def sgd_many_(
        self,
        params: Sequence[WgpuArray],
        grads: Sequence[WgpuArray],
        velocities: Sequence[WgpuArray | None],
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """Do `sgd_` for the arrays at each position."""
        for arrays in zip_longest(params, grads, velocities):
            self.sgd_(
                *arrays, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
            )

    def scale_many_(self, xs: Sequence[WgpuArray], *, factor: float) -> None:
        """Multiply all arrays with ``factor``."""
        for x in xs:
            self._overwrite("scale", [x], {"size": x.size, "factor": factor})

    def _overwrite(
        self,
        entry: str,
        arrays: Sequence[WgpuArray],
        numbers: dict[str, float],
        constants: Mapping[str, int] | None = None,
    ) -> None:
        """Run a kernel; what is not dense is copied there and, but for the gradient, back."""
        dense = [self.dense(x) for x in arrays]
        self.each(entry, dense, numbers, arrays[0].size, constants=constants)
        for position, (x, result) in enumerate(zip(arrays, dense, strict=True)):
            if position != 1:
                x.storage.version += 1
                if result is not x:
                    copy_into(self.runtime, x, result)


class Norms(Family):
    """The kernels of norms.wgsl."""

    file = "norms.wgsl"

    def __init__(self, runtime: Runtime, threads: int = THREADS) -> None:
        super().__init__(runtime, threads)
        self._parts = Parts(runtime)

    def norm_many(self, xs: Sequence[WgpuArray]) -> tuple[tuple[WgpuArray], tuple[()]]:
        """Return the Euclidean norm of all elements, summed in float32; no residual.

        There is no float64 on the device: an element beyond 1.8e19 makes the norm infinite.
        """
        xs = [self.dense(x) for x in xs]
        chunk = self.threads * _RUN
        chunks = [max(1, -(-x.size // chunk)) for x in xs]
        sums = self.runtime.empty((sum(chunks),), xs[0].dtype)
        first = 0
        for x, count in zip(xs, chunks, strict=True):
            Program.of(self.runtime, self.file).launch(
                "squares",
                [x, sums],
                {"size": x.size, "first": first, "count": count},
                groups=count,
                trips=_RUN + self.threads.bit_length(),
                constants={"THREADS": self.threads, "LANES": self.threads},
            )
            first += count
        result = self.runtime.empty((), xs[0].dtype)
        self.each("root", [self._parts.total(sums, 0), result], {}, 1)
        return (result,), ()
