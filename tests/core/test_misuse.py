"""Public functions that are no ops answer nonsense with the library's own errors.

For ops the harness does this, argument by argument.
"""

# ruff: noqa: PLW0108  a table of calls reads best if all are written alike

import numpy as np
import pytest

import helixml as hx
from helixml.errors import HelixError

NONSENSE = [
    "text", None, -1, 2.5, 10**30, float, {}, object(), (0, 0), [1], (1, "a"), [[1], [1, 2]],
    np.array(["a"]), np.ones(2), float("nan"), True, slice(None),
]  # fmt: skip
X = hx.ones((2, 3))
RNG = hx.random.Rng(0)

# name -> (function of one argument to get wrong)
FUNCTIONS = {
    "tensor": lambda v: hx.tensor(v),
    "tensor dtype": lambda v: hx.tensor([1.0], dtype=v),
    "tensor device": lambda v: hx.tensor([1.0], device=v),
    "asarray": lambda v: hx.asarray(v),
    "asarray dtype": lambda v: hx.asarray([1.0], dtype=v),
    "zeros": lambda v: hx.zeros(small(v)),
    "zeros dtype": lambda v: hx.zeros((2,), dtype=v),
    "zeros device": lambda v: hx.zeros((2,), device=v),
    "zeros_like": lambda v: hx.zeros_like(v),
    "zeros_like dtype": lambda v: hx.zeros_like(X, dtype=v),
    "full": lambda v: hx.full((2,), v),
    "full dtype": lambda v: hx.full((2,), 1.0, dtype=v),
    "full integer": lambda v: hx.full((2,), v, dtype="int32"),
    "full_like": lambda v: hx.full_like(X, v),
    "arange": lambda v: hx.arange(small(v)),
    "arange stop": lambda v: hx.arange(0, small(v)),
    "arange step": lambda v: hx.arange(0, 3, v),
    "linspace": lambda v: hx.linspace(v, 1.0, 3),
    "linspace stop": lambda v: hx.linspace(0.0, v, 3),
    "linspace num": lambda v: hx.linspace(0.0, 1.0, small(v)),
    "eye": lambda v: hx.eye(small(v)),
    "eye columns": lambda v: hx.eye(2, small(v)),
    "eye k": lambda v: hx.eye(2, k=v),
    "getitem": lambda v: X[v],
    "setitem index": lambda v: X.detach().__setitem__(v, 1.0),
    "setitem value": lambda v: X.detach().__setitem__(0, v),
    "at set": lambda v: X.at[0].set(v),
    "at add": lambda v: X.at[0].add(v),
    "at index": lambda v: X.at[v].add(1.0),
    "assign_": lambda v: hx.zeros((2,)).assign_(v),
    "astype": lambda v: X.astype(v),
    "to": lambda v: X.to(v),
    "reshape": lambda v: X.reshape(v),
    "reshape two": lambda v: X.reshape(2, v),
    "permute_dims": lambda v: X.permute_dims(v),
    "sum": lambda v: X.sum(axis=v),
    "add": lambda v: X + v,
    "radd": lambda v: v + X if not isinstance(v, str) else None,
    "matmul": lambda v: X @ v,
    "comparison": lambda v: v > X,
    "backward": lambda v: (hx.ones((2,)) * _leaf()).backward(v),
    "gradients ys": lambda v: hx.autograd.gradients(v, _leaf()),
    "gradients xs": lambda v: hx.autograd.gradients(_leaf().sum(), v),
    "gradients cotangents": lambda v: hx.autograd.gradients(_leaf() * 2, _leaf(), cotangents=v),
    "grad argnums": lambda v: hx.grad(lambda x: x.sum(), argnums=v)(X),
    "grad argument": lambda v: hx.grad(lambda x: x.sum())(v),
    "grad result": lambda v: hx.grad(lambda x: v)(X),
    "stack": lambda v: hx.stack(v),
    "stack member": lambda v: hx.stack([X, v]),
    "concat member": lambda v: hx.concat([X, v]),
    "split": lambda v: hx.split(X, v),
    "Rng": lambda v: hx.random.Rng(v),
    "seed": lambda v: hx.random.seed(v if v is not True else -1),
    "load_state": lambda v: RNG.load_state(v),
    "fork": lambda v: RNG.fork(v),
    "uniform": lambda v: RNG.uniform(small(v)),
    "uniform low": lambda v: RNG.uniform((2,), v),
    "uniform dtype": lambda v: RNG.uniform((2,), dtype=v),
    "normal std": lambda v: RNG.normal((2,), std=v),
    "normal mean": lambda v: RNG.normal((2,), mean=v),
    "integers": lambda v: RNG.integers(0, v, (2,)),
    "integers shape": lambda v: RNG.integers(0, 2, small(v)),
    "bernoulli": lambda v: RNG.bernoulli(v, (2,)),
    "permutation": lambda v: RNG.permutation(small(v)),
    "dropout": lambda v: hx.ops.dropout(v, 0.5),
    "dropout p": lambda v: hx.ops.dropout(X, v),
    "dropout rng": lambda v: hx.ops.dropout(X, 0.5, rng=v),
    "set_num_threads": lambda v: hx.set_num_threads(v) if v is not None else None,
    "promote": lambda v: hx.promote(v, hx.float32),
    "result_type": lambda v: hx.result_type(v),
    "Device": lambda v: hx.Device(v),
}


def small(v):
    """Keep the one value that would ask for all memory from being a size."""
    return -1 if isinstance(v, int) and v > 1000 else v


def _leaf():
    return hx.tensor([1.0, 2.0], requires_grad=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nonsense_is_refused_or_taken_but_never_another_error(name):
    threads, state = hx.get_num_threads(), hx.random.default_rng().state
    wrong = []
    try:
        for value in NONSENSE:
            try:
                FUNCTIONS[name](value)
            except HelixError:
                continue
            except Exception as error:
                wrong.append(f"{value!r}: {error!r}")
    finally:
        hx.set_num_threads(threads)
        hx.random.default_rng().load_state(state)
    assert wrong == []
