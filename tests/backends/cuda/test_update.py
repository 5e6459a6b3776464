"""Steps of optimizers, norms and scaling of many arrays, each in one launch."""

import numpy as np
import pytest

from .conftest import close, random, wide

# More than one chunk, one that begins nowhere round, scalars and nothing
SHAPES = [(3, 5), (), (40_001,), (0, 2), (7,)]


def lists(cp, hosts):
    return [cp.asarray(x) for x in hosts]


def adamw(p, g, m, v, step):
    """Take a step with lr 0.1, betas 0.9 and 0.99, eps 1e-3, weight decay 0.1."""
    m = 0.9 * m + 0.1 * g
    v = 0.99 * v + 0.01 * g * g
    direction = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.99**step)) + 1e-3)
    return p * (1 - 0.01) - 0.1 * direction, m, v


def test_adamw_steps_many_parameters(cp, backend, dtype):
    hosts = [[random(s, dtype, i + 9 * k) for i, s in enumerate(SHAPES)] for k in range(4)]
    hosts[3] = [abs(x) for x in hosts[3]]
    arrays = [lists(cp, kind) for kind in hosts]
    backend.kernels["adamw_many_"].function(
        *arrays, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-3, weight_decay=0.1, step=3
    )
    for at in range(len(SHAPES)):
        goals = adamw(*wide(*(kind[at] for kind in hosts)), 3)
        for found, goal in zip((arrays[0], arrays[2], arrays[3]), goals, strict=True):
            close(found[at], goal)
        assert arrays[1][at].get().tobytes() == hosts[1][at].tobytes()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [None, 0.9])
def test_sgd_steps_many_parameters(cp, backend, dtype, momentum, nesterov):
    hosts = [[random(s, dtype, i + 9 * k) for i, s in enumerate(SHAPES)] for k in range(3)]
    arrays = [lists(cp, kind) for kind in hosts]
    velocities = [None] * len(SHAPES) if momentum is None else arrays[2]
    backend.kernels["sgd_many_"].function(
        arrays[0], arrays[1], velocities,
        lr=0.1, momentum=momentum or 0.0, nesterov=nesterov, weight_decay=0.1,
    )  # fmt: skip
    for at in range(len(SHAPES)):
        p, g, u = wide(*(kind[at] for kind in hosts))
        g = g + 0.1 * p
        if momentum is not None:
            u = momentum * u + g
            close(arrays[2][at], u)
            g = g + momentum * u if nesterov else u
        close(arrays[0][at], p - 0.1 * g)


def test_lion_steps_many_parameters(cp, backend, dtype):
    hosts = [[random(s, dtype, i + 9 * k) for i, s in enumerate(SHAPES)] for k in range(3)]
    arrays = [lists(cp, kind) for kind in hosts]
    backend.kernels["lion_many_"].function(*arrays, lr=0.1, beta1=0.75, beta2=0.5, weight_decay=0.1)
    for at in range(len(SHAPES)):
        p, g, m = wide(*(kind[at] for kind in hosts))
        close(arrays[0][at], p - 0.1 * (np.sign(0.75 * m + 0.25 * g) + 0.1 * p))
        close(arrays[2][at], 0.5 * m + 0.5 * g)
        assert arrays[1][at].get().tobytes() == hosts[1][at].tobytes()


def test_lion_stays_where_nothing_pulls_and_shows_what_is_no_number(cp, backend):
    p, g, m = (cp.asarray(np.array(x, np.float32)) for x in ([1, 2], [0, np.nan], [0, 1]))
    backend.kernels["lion_many_"].function(
        [p], [g], [m], lr=0.1, beta1=0.9, beta2=0.9, weight_decay=0.0
    )
    np.testing.assert_array_equal(p.get(), np.array([1, np.nan], np.float32))


def test_a_step_writes_through_strides(cp, backend):
    host, g = random((4, 6), np.float32), random((6, 4), np.float32, 1)
    param = cp.asarray(host)
    backend.kernels["sgd_"].function(
        param.T, cp.asarray(g), None, lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.0
    )
    close(param, host - 0.5 * g.T)


def test_the_norm_of_many_arrays(cp, backend, dtype, order):
    hosts = [random(s, dtype, i) for i, s in enumerate(SHAPES)]
    (norm,), kept = backend.kernels["norm_many"].function(lists(cp, hosts))
    assert kept == ()
    assert norm.dtype == dtype
    close(norm, np.sqrt(sum((x**2).sum() for x in wide(*hosts))))


def test_a_norm_whose_squares_are_beyond_float32(cp, backend):
    (norm,), _ = backend.kernels["norm_many"].function([cp.asarray(np.full(4, 1e30, np.float32))])
    assert norm.get() == np.float32(2e30)


def test_many_arrays_are_scaled(cp, backend, dtype):
    hosts = [random(s, dtype, i) for i, s in enumerate(SHAPES)]
    arrays = lists(cp, hosts)
    backend.kernels["scale_many_"].function(arrays, factor=0.3)
    for x, host in zip(arrays, wide(*hosts), strict=True):
        close(x, 0.3 * host)


def test_all_parameters_take_one_launch(cp, backend):
    if not hasattr(cp, "cuemu"):
        pytest.skip("a GPU counts no launches")
    arrays = [lists(cp, [np.ones(5, np.float32)] * 9) for _ in range(4)]
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "eps": 1e-8, "weight_decay": 0.0}
    before = sum(cp.cuemu.launches.values()), cp.cuemu.copies["to device"]
    for step in (1, 2):
        backend.kernels["adamw_many_"].function(*arrays, **options, step=step)
        if step == 1:
            copied = cp.cuemu.copies["to device"]
    assert sum(cp.cuemu.launches.values()) - before[0] == 2
    assert copied > before[1]
    assert cp.cuemu.copies["to device"] == copied  # the tables were there
