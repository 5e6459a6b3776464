"""The kernels of optimizer steps against float64 formulas, and the step of many arrays against one.

Errors are the largest error over the largest value of an array.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from helixml.backends.cpu import kernels, threads

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels import _kernels

K = {kernel[0]: kernel[1] for kernel in kernels.KERNELS}
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}
ADAMW = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}
SGD = [
    {"lr": 0.1, "momentum": momentum, "nesterov": nesterov, "weight_decay": decay}
    for momentum, nesterov in ((0.9, True), (0.9, False), (0.0, False))
    for decay in (0.1, 0.0)
]
RUN = _kernels.UPDATE_RUN
SHAPES = [(3, 5), (), (RUN - 20,), (0, 2), (17,), (2 * RUN + 3,), (1,), (0,)]

pytestmark = pytest.mark.usefixtures("instruction_set")


def arrays(rng, shapes, dtype):
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def adamw_operands(rng, shapes, dtype):
    params, grads, ms, vs = (arrays(rng, shapes, dtype) for _ in range(4))
    return params, grads, ms, [np.asarray(np.abs(v)) for v in vs]


def sgd_operands(rng, shapes, dtype, options):
    params, grads, velocities = (arrays(rng, shapes, dtype) for _ in range(3))
    return params, grads, velocities if options["momentum"] else [None] * len(shapes)


def copies(operands):
    return [[None if x is None else x.copy() for x in group] for group in operands]


def same_bits(one, other):
    for group, wanted in zip(one, other, strict=True):
        for x, y in zip(group, wanted, strict=True):
            assert (x is None) == (y is None)
            assert x is None or x.tobytes() == y.tobytes()


def near(found, wanted, dtype):
    for x, exact in zip(found, wanted, strict=True):
        assert x.shape == exact.shape
        if exact.size:
            assert np.abs(x - exact).max() <= TOLERANCE[dtype] * np.abs(exact).max()


def textbook_adamw(param, grad, m, v, lr, beta1, beta2, eps, weight_decay, step):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    mean, square = m / (1 - beta1**step), v / (1 - beta2**step)
    return param - lr * weight_decay * param - lr * mean / (np.sqrt(square) + eps), m, v


def textbook_sgd(param, grad, velocity, lr, momentum, nesterov, weight_decay):
    g = grad + weight_decay * param
    if velocity is None:
        return (param - lr * g,)
    u = momentum * velocity + g
    return param - lr * (g + momentum * u if nesterov else u), u


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_adamw_takes_the_textbook_step(rng, dtype):
    for shape in SHAPES:
        operands = [group[0] for group in adamw_operands(rng, [shape], dtype)]
        wanted = textbook_adamw(*(x.astype("f8") for x in operands), **ADAMW, step=2)
        K["adamw_"](*operands, **ADAMW, step=2)
        near([operands[0], *operands[2:]], wanted, dtype)


@pytest.mark.parametrize("options", SGD)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sgd_takes_the_textbook_step(rng, dtype, options):
    for shape in SHAPES:
        operands = [group[0] for group in sgd_operands(rng, [shape], dtype, options)]
        wanted = textbook_sgd(*(None if x is None else x.astype("f8") for x in operands), **options)
        K["sgd_"](*operands, **options)
        near([x for x in operands[::2] if x is not None], wanted, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_step_of_many_arrays_is_that_of_each(three_threads, rng, dtype):
    cases = [("adamw", adamw_operands(rng, SHAPES, dtype), {**ADAMW, "step": 3})]
    cases += [("sgd", sgd_operands(rng, SHAPES, dtype, o), o) for o in SGD]
    for name, operands, options in cases:
        each = copies(operands)
        for one in zip(*each, strict=True):
            K[f"{name}_"](*one, **options)
        for n in (1, 2, 3):
            threads.set_num_threads(n)
            many = copies(operands)
            K[f"{name}_many_"](*many, **options)
            same_bits(many, each)


def test_elements_do_not_depend_on_their_place(rng):
    """Where vectors and items end must not show."""
    whole = [group[0] for group in adamw_operands(rng, [(2 * RUN + 77,)], "float32")]
    cuts = [0, 1, 6, 40, 1000, RUN + 3, 2 * RUN + 77]
    parts = [[x[a:b].copy() for a, b in pairwise(cuts)] for x in whole]
    K["adamw_"](*whole, **ADAMW, step=1)
    K["adamw_many_"](*parts, **ADAMW, step=1)
    same_bits([[np.concatenate(group)] for group in parts], [[x] for x in whole])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_write_through_views(rng, name):
    shapes = [(4, 6), (300, 200)]
    if name == "adamw":
        operands, options = adamw_operands(rng, shapes, "float64"), {**ADAMW, "step": 1}
    else:
        operands, options = sgd_operands(rng, shapes, "float64", SGD[0]), SGD[0]
    memory = [[np.zeros((2 * x.shape[1], x.shape[0])) for x in group] for group in operands]
    views = [[x[::2].T for x in group] for group in memory]
    for group, wanted in zip(views, operands, strict=True):
        for view, x in zip(group, wanted, strict=True):
            view[...] = x
    K[f"{name}_many_"](*operands, **options)
    K[f"{name}_many_"](*views, **options)
    same_bits(views, operands)
    assert not any(x[1::2].any() for group in memory for x in group)


def test_steps_take_memory_that_is_not_aligned(rng):
    operands = [group[0] for group in adamw_operands(rng, [(5,)], "float32")]
    odd = []
    for x in operands:
        memory = np.zeros(x.nbytes + 1, np.uint8)[1:].view("f4")
        memory[...] = x
        odd.append(memory)
    K["adamw_"](*operands, **ADAMW, step=1)
    K["adamw_"](*odd, **ADAMW, step=1)
    same_bits([odd], [operands])


def test_sgd_without_decay_leaves_infinite_parameters_infinite():
    param = np.array([np.inf, -np.inf, 1.0])
    K["sgd_"](param, np.ones(3), None, **SGD[-1])
    assert param.tolist() == [np.inf, -np.inf, 0.9]


def test_a_gradient_may_be_a_broadcast(rng):
    operands = [group[0] for group in sgd_operands(rng, [(40,)], "float64", SGD[0])]
    grad = np.broadcast_to(np.float64(0.5), (40,))
    wanted = textbook_sgd(operands[0], grad, operands[2], **SGD[0])
    K["sgd_"](operands[0], grad, operands[2], **SGD[0])
    near([operands[0], operands[2]], wanted, "float64")


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_norm_of_many_is_as_exact_as_its_dtype(three_threads, rng, dtype):
    xs = arrays(rng, SHAPES, dtype)
    exact = np.sqrt(sum((x.astype("f8") ** 2).sum() for x in xs))
    found = set()
    for n in (1, 2, 3):
        threads.set_num_threads(n)
        (norm,), residuals = K["norm_many"](xs)
        assert (norm.shape, norm.dtype, residuals) == ((), dtype, ())
        found.add(norm.tobytes())
    assert len(found) == 1
    assert abs(norm - exact) <= np.finfo(dtype).eps * exact


@pytest.mark.parametrize(
    ("values", "norm"),
    [
        ([3e30, 4e30], 5e30),
        ([3e-30, 4e-30], 5e-30),
        ([3e38, 3e38], np.inf),
        ([1.0, -np.inf], np.inf),
        ([np.inf, np.nan], np.nan),
        ([0.0, -0.0], 0.0),
    ],
)
def test_the_norm_at_the_edges_of_float32(values, norm):
    (found,), _ = K["norm_many"]([np.array(values[:1], "f4"), np.array(values[1:], "f4")])
    assert np.allclose(found, np.float64(norm), rtol=1e-7, atol=0, equal_nan=True)


def test_the_norm_of_nothing_is_zero():
    assert K["norm_many"]([np.zeros((0, 3)), np.zeros(0)])[0][0] == 0


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_scaling_is_multiplication(three_threads, rng, dtype):
    xs = [*arrays(rng, SHAPES, dtype), np.array([np.inf, -np.inf, np.nan, -0.0, 1e-40], dtype)]
    wanted = [x * 0.3 for x in xs]
    for n in (1, 3):
        threads.set_num_threads(n)
        found = [x.copy() for x in xs]
        assert K["scale_many_"](found, factor=0.3) is None
        same_bits([found], [[np.asarray(x) for x in wanted]])


def test_norm_and_scaling_through_views(rng):
    memory = rng.standard_normal((200, 300))
    view, before = memory[::2].T, memory.copy()
    assert np.isclose(K["norm_many"]([view])[0][0], np.linalg.norm(before[::2]), rtol=1e-14)
    K["scale_many_"]([view], factor=2.0)
    assert (memory[::2] == 2 * before[::2]).all()
    assert (memory[1::2] == before[1::2]).all()
