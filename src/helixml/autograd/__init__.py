"""Derivatives: of tensors on the tape, and of functions.

`gradients` and ``y.backward()`` work on the tape; `grad`, `value_and_grad`, `jacobian` and
`hessian` turn a function into a function; `vjp`, `jvp` and `hvp` give products with such matrices
without making them. All of them are thin: the walk is `helixml._core.tape.walk`. `custom_vjp` and
`numpy_op` give functions a gradient rule of their own. `register_hook` and `retain_grad` look at
gradients on the way, `saved_hooks` changes how the tape keeps values, `checkpoint` computes them
again instead, and `is_recomputing` tells a function so. `straight_through` lends a function the
gradient of another, `fixed_point` and `root` differentiate solutions of equations. `gradient_flow`
says where gradients vanish, `explain_memory` what the graph keeps.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

from helixml._core import capturing
from helixml._core.capturing import uncaptured
from helixml._core.modes import is_recomputing, recomputing
from helixml._core.tensor import OPS
from helixml.autograd.functions import grad, value_and_grad
from helixml.autograd.hooks import register_hook, retain_grad
from helixml.autograd.reverse import backward, gradients, pull_definition

if TYPE_CHECKING:
    from helixml.autograd.custom import custom_vjp, numpy_op
    from helixml.autograd.explain import KeptValue, MemoryReport, explain_memory
    from helixml.autograd.flow import GradientFlow, gradient_flow
    from helixml.autograd.implicit import fixed_point, root
    from helixml.autograd.matrices import hessian, jacobian
    from helixml.autograd.products import hvp, jvp, vjp
    from helixml.autograd.recompute import checkpoint, checkpoint_sequence
    from helixml.autograd.saved import saved_hooks
    from helixml.autograd.surrogate import straight_through

setattr(OPS, "backward", backward)  # noqa: B010  as ops/__init__.py fills it
setattr(OPS, "pull_definition", pull_definition)  # noqa: B010
setattr(OPS, "register_hook", register_hook)  # noqa: B010
setattr(OPS, "retain_grad", retain_grad)  # noqa: B010

__all__ = [
    "GradientFlow",
    "KeptValue",
    "MemoryReport",
    "capturing",
    "checkpoint",
    "checkpoint_sequence",
    "custom_vjp",
    "explain_memory",
    "fixed_point",
    "grad",
    "gradient_flow",
    "gradients",
    "hessian",
    "hvp",
    "is_recomputing",
    "jacobian",
    "jvp",
    "numpy_op",
    "recomputing",
    "register_hook",
    "retain_grad",
    "root",
    "saved_hooks",
    "straight_through",
    "uncaptured",
    "value_and_grad",
    "vjp",
]

# Loaded on first use: most programs need none of them.
_LAZY = {
    "GradientFlow": "flow",
    "KeptValue": "explain",
    "MemoryReport": "explain",
    "checkpoint": "recompute",
    "checkpoint_sequence": "recompute",
    "custom_vjp": "custom",
    "explain_memory": "explain",
    "fixed_point": "implicit",
    "gradient_flow": "flow",
    "hessian": "matrices",
    "hvp": "products",
    "jacobian": "matrices",
    "jvp": "products",
    "numpy_op": "custom",
    "root": "implicit",
    "saved_hooks": "saved",
    "straight_through": "surrogate",
    "vjp": "products",
}


def __getattr__(name: str) -> _Any:  # PEP 562
    if name in _LAZY:
        return getattr(_import_module(f"helixml.autograd.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'helixml.autograd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
