"""Steps of optimizers, norms and scaling against NumPy in float64."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.update import Norms, Update

from .conftest import close, get, put, random, strided, wide

SHAPES = [(3,), (7, 5), (), (0, 2), (300,)]


def some(seed):
    """Return an array of each shape."""
    return [random(shape, seed + i) for i, shape in enumerate(SHAPES)]


def adamw(param, g, m, v, lr, beta1, beta2, eps, weight_decay, step):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    direction = m / (1 - beta1**step) / (np.sqrt(v / (1 - beta2**step)) + eps)
    return param * (1 - lr * weight_decay) - lr * direction, m, v


def sgd(param, g, velocity, lr, momentum, nesterov, weight_decay):
    g = g + weight_decay * param
    velocity = momentum * velocity + g
    return param - lr * (g + momentum * velocity if nesterov else velocity), velocity


def test_adamw_of_many_arrays(runtime, threads):
    params, grads, ms, vs = some(1), some(11), some(21), [abs(v) for v in some(31)]
    kinds = [put(runtime, *arrays) for arrays in (params, grads, ms, vs)]
    how = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1, "step": 3}
    Update(runtime, threads).adamw_many_(*kinds, **how)
    for i, hosts in enumerate(zip(params, grads, ms, vs, strict=True)):
        goals = adamw(*wide(*hosts), **how)
        for kind, goal in zip((0, 2, 3), goals, strict=True):
            close(runtime, kinds[kind][i], goal)
        assert np.array_equal(get(runtime, kinds[1][i]), hosts[1])


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_of_many_arrays(runtime, threads, nesterov):
    params, grads, moving = some(1), some(11), some(21)
    kinds = [put(runtime, *arrays) for arrays in (params, grads, moving)]
    how = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1}
    Update(runtime, threads).sgd_many_(*kinds, **how)
    for i, hosts in enumerate(zip(params, grads, moving, strict=True)):
        param, velocity = sgd(*wide(*hosts), **how)
        close(runtime, kinds[0][i], param)
        close(runtime, kinds[2][i], velocity)


def test_sgd_without_momentum(runtime):
    params, grads = some(1), some(11)
    kinds = [put(runtime, *arrays) for arrays in (params, grads)]
    how = {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.1}
    Update(runtime).sgd_many_(*kinds, [], **how)
    for found, param, grad in zip(kinds[0], params, grads, strict=True):
        close(runtime, found, *wide(param - 0.1 * (grad + 0.1 * param.astype(np.float64))))


def test_a_view_is_updated_where_it_lies(runtime):
    hosts = [random((4, 5), 1), random((4, 5), 2), random((4, 5), 3)]
    arrays = [strided(runtime, host) for host in hosts]
    how = {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
    Update(runtime).sgd_(*arrays, **how)
    param, velocity = sgd(*wide(*hosts), **how)
    close(runtime, arrays[0], param)
    close(runtime, arrays[2], velocity)


def test_what_the_host_knew_is_forgotten(runtime):
    (x,) = put(runtime, random((3,)))
    x.remember(random((3,)))
    Update(runtime).scale_many_([x], factor=2.0)
    assert x.mirror is None


def test_norm_and_scaling_of_many_arrays(runtime, threads):
    hosts = [*some(1), random((40_000,), 9)]
    arrays = put(runtime, *hosts)
    (norm,), _ = Norms(runtime, threads).norm_many(arrays)
    goal = np.sqrt(sum((x * x).sum() for x in wide(*hosts)))
    np.testing.assert_allclose(get(runtime, norm), goal, rtol=1e-6)
    Update(runtime, threads).scale_many_(arrays, factor=0.3)
    for found, host in zip(arrays, hosts, strict=True):
        close(runtime, found, 0.3 * wide(host)[0])
