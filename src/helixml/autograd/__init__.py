"""Derivatives: of tensors on the tape, and of functions.

`gradients` and ``y.backward()`` work on the tape; `grad` and `value_and_grad` turn a function into
a function. All of them are thin: the walk is `helixml._core.tape.walk`.
"""

from helixml._core.tensor import OPS
from helixml.autograd.functions import grad, value_and_grad
from helixml.autograd.reverse import backward, gradients, pull_definition

setattr(OPS, "backward", backward)  # noqa: B010  as ops/__init__.py fills it
setattr(OPS, "pull_definition", pull_definition)  # noqa: B010

__all__ = ["grad", "gradients", "value_and_grad"]
