"""Backends: what computes on raw arrays, and nothing that knows a Tensor.

`protocol` says what a backend is, `registry` finds one by its device, `base` derives most of it
from a few array functions, `dispatch` chooses kernels.
"""
