"""Linear algebra beyond what the op harness reaches: complex numbers, degenerate matrices, eig.

A gradient of complex numbers is dL/dRe + i dL/dIm: along dx the loss changes by Re(sum(g^* dx)).
Losses do not depend on the phases of vectors, and their cotangents are worked out here by hand.
"""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

import helixml as hx
from helixml import autograd, linalg
from helixml.backends import registry
from helixml.errors import NotPositiveDefiniteError, SingularMatrixError
from helixml.testing import check_gradients

DEVICES = ("cpu", "reference", "array_api_strict")


@pytest.fixture(params=DEVICES)
def device(request):
    report = registry.available()[request.param]
    if report != "ok":
        pytest.skip(report)
    return request.param


def numbers(*shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def hermitian(n, seed=0):
    x = numbers(n, n, seed=seed)
    return x + x.conj().T + np.diag(np.arange(n))


def inner(x, y):
    return float(np.sum(np.conj(x) * y).real)


def check(function, loss, cotangents, *points, step=1e-5):
    """Compare gradients with difference quotients of ``loss`` of the results in NumPy."""
    tensors = [hx.tensor(p, requires_grad=True) for p in points]

    def results(*arrays):
        found = function(*[hx.tensor(a) for a in arrays])
        return [y.numpy() for y in (found if isinstance(found, tuple) else (found,))]

    found = function(*tensors)
    ys = list(found) if isinstance(found, tuple) else [found]
    given = [hx.tensor(c) for c in cotangents(*[y.numpy() for y in ys])]
    gradients = autograd.gradients(ys, tensors, cotangents=given)
    for i, (point, gradient) in enumerate(zip(points, gradients, strict=True)):
        assert gradient.dtype == point.dtype
        direction = numbers(*point.shape, seed=7)
        if point.dtype.kind != "c":
            direction = direction.real
        slope = 0.0
        for steps, weight in ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)):
            moved = list(points)
            moved[i] = point + steps * step * direction
            slope += weight * loss(*results(*moved)) / step
        assert inner(gradient.numpy(), direction) == pytest.approx(slope, rel=1e-6, abs=1e-7)


def linear(*weights):
    """Return a loss that is linear in the results, and its cotangents."""
    return (
        lambda *ys: sum(inner(w, y) for w, y in zip(weights, ys, strict=True)),
        lambda *ys: weights,
    )


SQUARE = numbers(3, 3) + 2 * np.eye(3)
POSITIVE = SQUARE @ SQUARE.conj().T


@pytest.mark.parametrize(
    ("function", "points", "weights"),
    [
        (linalg.inv, [SQUARE], [numbers(3, 3, seed=1)]),
        (linalg.det, [SQUARE], [numbers(seed=1)]),
        (linalg.slogdet, [SQUARE], [numbers(seed=1), np.float64(0.7)]),
        (linalg.expm, [SQUARE], [numbers(3, 3, seed=1)]),
        (linalg.cholesky, [POSITIVE], [numbers(3, 3, seed=1)]),
        (lambda x: linalg.cholesky(x, upper=True), [POSITIVE], [numbers(3, 3, seed=1)]),
        (linalg.solve, [SQUARE, numbers(3, 2)], [numbers(3, 2, seed=1)]),
        (linalg.solve, [SQUARE, numbers(3)], [numbers(3, seed=1)]),
        (linalg.triangular_solve, [SQUARE, numbers(3, 2)], [numbers(3, 2, seed=1)]),
        (linalg.pinv, [numbers(3, 2)], [numbers(2, 3, seed=1)]),
        (linalg.pinv, [numbers(2, 3)], [numbers(3, 2, seed=1)]),
        (linalg.eigvalsh, [hermitian(3)], [np.array([0.3, -1.0, 2.0])]),
        (linalg.svdvals, [numbers(3, 2)], [np.array([0.3, -1.0])]),
        (linalg.qr, [SQUARE], [numbers(3, 3, seed=1), numbers(3, 3, seed=2)]),
        (linalg.qr, [numbers(4, 2)], [numbers(4, 2, seed=1), numbers(2, 2, seed=2)]),
        (linalg.qr, [numbers(2, 3)], [numbers(2, 2, seed=1), numbers(2, 3, seed=2)]),
        (linalg.vector_norm, [numbers(2, 3)], [np.float64(0.7)]),
        (lambda x: linalg.vector_norm(x, ord=3), [numbers(2, 3)], [np.float64(0.7)]),
        (lambda x: linalg.vector_norm(x, ord=1), [numbers(2, 3)], [np.float64(0.7)]),
        (lambda x: linalg.vector_norm(x, ord=math.inf), [numbers(2, 3)], [np.float64(0.7)]),
        (lambda x: linalg.matrix_norm(x, ord="nuc"), [numbers(2, 3)], [np.float64(0.7)]),
        (lambda x: linalg.matrix_norm(x, ord=1), [numbers(2, 3)], [np.float64(0.7)]),
    ],
)
def test_gradients_of_complex_matrices(function, points, weights):
    check(function, *linear(*weights), *points)


def test_the_gradient_of_complex_eigenvectors():
    c, d, a = numbers(3, 3, seed=1), np.diag([1.0, -2.0, 0.5]), np.array([0.3, -1.0, 2.0])

    def loss(w, v):
        return inner(a, w) + inner(c, v @ d @ v.conj().T)

    check(linalg.eigh, loss, lambda w, v: (a, (c + c.conj().T) @ v @ d), hermitian(3))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)])
def test_the_gradient_of_complex_singular_vectors(shape, full):
    k, c = min(shape), numbers(*shape, seed=1)
    a = np.array([0.3, -1.0, 2.0])[:k]
    d = np.zeros(shape if full else (k, k))
    d[range(k), range(k)] = np.array([1.0, -2.0, 0.5])[:k]

    def loss(u, s, vh):
        return inner(a, s) + inner(c, u @ d @ vh)

    def cotangents(u, s, vh):
        return c @ vh.conj().T @ d.T, a, d.T @ u.conj().T @ c

    def function(x):
        return linalg.svd(x, full_matrices=full)

    check(function, loss, cotangents, numbers(*shape))


@pytest.mark.parametrize("shape", [(4, 2), (2, 4)])
def test_what_full_matrices_add_has_the_gradient_of_its_span(shape):
    k, n = min(shape), max(shape)
    c = numbers(n, n, seed=1)

    def loss(u, s, vh):
        rest = (u if shape[0] == n else vh.conj().T)[:, k:]
        return inner(c, rest @ rest.conj().T)

    def cotangents(u, s, vh):
        found = [np.zeros_like(u), np.zeros_like(s), np.zeros_like(vh)]
        if shape[0] == n:
            found[0][:, k:] = (c + c.conj().T) @ u[:, k:]
        else:
            found[2][k:] = vh[k:] @ (c + c.conj().T)
        return found

    check(linalg.svd, loss, cotangents, numbers(*shape))


def test_what_a_complete_qr_adds_has_the_gradient_of_its_span():
    c = numbers(4, 4, seed=1)

    def loss(q, r):
        return inner(c, q[:, 2:] @ q[:, 2:].conj().T)

    def cotangents(q, r):
        g = np.zeros_like(q)
        g[:, 2:] = (c + c.conj().T) @ q[:, 2:]
        return g, np.zeros_like(r)

    check(lambda x: linalg.qr(x, mode="complete"), loss, cotangents, numbers(4, 2))


@pytest.mark.parametrize("x", [numbers(3, 3), numbers(3, 3).real], ids=["complex", "real"])
def test_the_gradient_of_eigenvalues_and_vectors(x):
    c, b = numbers(3, 3, seed=1), numbers(3, 3, seed=2).real
    d, a = np.diag([1.0, -2.0, 0.5j]), numbers(3, seed=3)

    def loss(w, v):
        return inner(a, w) + inner(c, v @ d @ np.linalg.inv(v)) + float(np.sum(b * abs(v) ** 2))

    def cotangents(w, v):
        inverse = np.linalg.inv(v).conj().T
        gv = c @ inverse @ d.conj() - inverse @ d.conj() @ v.conj().T @ c @ inverse
        return a, gv + 2 * b * v

    check(linalg.eig, loss, cotangents, x)
    check(linalg.eigvals, *linear(a), x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_decompositions_multiply_to_what_was_decomposed(device, dtype):
    kind = np.dtype(dtype)
    close = {"rtol": 0, "atol": 100 * np.finfo(kind).eps}
    one = numbers(2, 3, 3)
    host = (one if kind.kind == "c" else one.real).astype(kind)
    x = hx.tensor(host, device=device)
    definite = hx.tensor(host @ np.conj(host.mT) + np.eye(3, dtype=kind), device=device)
    lower = linalg.cholesky(definite).numpy()
    np.testing.assert_allclose(lower @ np.conj(lower.mT), definite.numpy(), **close)
    w, v = (t.numpy() for t in linalg.eigh(definite))
    assert w.dtype == np.zeros((), kind).real.dtype
    np.testing.assert_allclose(v * w[:, None] @ np.conj(v.mT), definite.numpy(), **close)
    np.testing.assert_allclose(linalg.eigvalsh(definite).numpy(), w, **close)
    for part in (x, x[:, :, :2], x[:, :2, :]):
        u, s, vh = (t.numpy() for t in linalg.svd(part, full_matrices=False))
        np.testing.assert_allclose(u * s[:, None] @ vh, part.numpy(), **close)
        np.testing.assert_allclose(linalg.svdvals(part).numpy(), s, **close)
        for mode in ("reduced", "complete"):
            q, r = (t.numpy() for t in linalg.qr(part, mode=mode))
            np.testing.assert_allclose(q @ r, part.numpy(), **close)
            np.testing.assert_allclose(
                np.conj(q.mT) @ q, np.eye(q.shape[-1]) + 0 * r[:, :1, :1], **close
            )
        p = linalg.pinv(part).numpy()
        np.testing.assert_allclose(part.numpy() @ p @ part.numpy(), part.numpy(), **close)
    w, v = (t.numpy() for t in linalg.eig(x))
    assert w.dtype == v.dtype == np.result_type(kind, np.complex64)
    np.testing.assert_allclose(host @ v, v * w[:, None], **close)
    np.testing.assert_allclose(np.linalg.norm(v, axis=-2), np.ones((2, 3)), **close)
    sign, log = (t.numpy() for t in linalg.slogdet(x))
    np.testing.assert_allclose(sign * np.exp(log), linalg.det(x).numpy(), **close)
    np.testing.assert_allclose(sign * np.exp(log), np.linalg.det(host), **close)
    z = linalg.solve(x, x[:, :, :2]).numpy()
    np.testing.assert_allclose(host @ z, host[:, :, :2], **close)
    z = linalg.triangular_solve(definite, x, upper=True).numpy()
    np.testing.assert_allclose(np.triu(definite.numpy()) @ z, host, **close)
    one, half = linalg.expm(x).numpy(), linalg.expm(x / 2).numpy()
    np.testing.assert_allclose(half @ half, one, **close)


# Degenerate matrices


def gradient(function, x):
    x = hx.tensor(x, dtype="float64", requires_grad=True)
    return autograd.gradients(function(x), x).numpy()


def test_equal_eigenvalues_have_a_gradient_where_their_vectors_are_not_read():
    found = gradient(lambda x: (linalg.eigh(x).eigenvalues ** 2).sum(), np.eye(3))
    np.testing.assert_allclose(found, 2 * np.eye(3), atol=1e-14)
    found = gradient(lambda x: linalg.svd(x).S.sum(), np.eye(3))
    np.testing.assert_allclose(found, np.eye(3), atol=1e-14)
    weights = hx.tensor(np.arange(9.0).reshape(3, 3))
    for function in (linalg.eigh, lambda x: linalg.svd(x)[::2]):
        read = gradient(lambda x, f=function: (f(x)[1] * weights).sum(), np.eye(3))
        assert not np.isfinite(read).all()


def test_the_gradient_of_a_function_of_equal_eigenvalues_is_never_wrong():
    def exponential(x):
        w, v = linalg.eigh(x)
        return ((v * hx.exp(w)) @ v.mT)[0, 1]

    found = gradient(exponential, np.eye(2))  # e / 2 off the diagonal is right, and 0 is wrong
    assert np.isnan(found).any() or found[0, 1] == pytest.approx(math.e / 2)


def test_a_function_of_equal_eigenvalues_as_expm_has_its_gradient():
    found = gradient(lambda x: linalg.expm(x)[0, 1], np.eye(2))
    np.testing.assert_allclose(found, [[0, math.e], [0, 0]], atol=1e-14)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_gradient_of_the_determinant_of_a_singular_matrix(rank):
    x = np.diag([2.0, 3.0, 0.0]) if rank == 2 else np.diag([2.0 * rank, 0.0, 0.0])
    expected = np.diag([0.0, 0.0, 6.0]) if rank == 2 else np.zeros((3, 3))
    np.testing.assert_allclose(gradient(linalg.det, x), expected, atol=1e-14)


def test_the_norm_of_zeros_has_a_gradient_of_zeros():
    for p in (2, 1, 3, 0.5, math.inf):
        found = gradient(lambda x, p=p: linalg.vector_norm(x, ord=p), np.zeros(3))
        assert found.tolist() == [0.0] * 3, p


def test_equal_magnitudes_share_the_gradient_of_the_largest():
    found = gradient(lambda x: linalg.vector_norm(x, ord=math.inf), [2.0, -2.0, 1.0])
    assert found.tolist() == [0.5, -0.5, 0.0]


def test_a_singular_matrix_is_an_error_of_numpy_and_a_value_error():
    for error in (SingularMatrixError, np.linalg.LinAlgError, ValueError):
        with pytest.raises(error, match=r"inv: the matrix of shape \(2, 2\) is singular"):
            linalg.inv(hx.zeros((2, 2)))
    with pytest.raises(NotPositiveDefiniteError, match=r"cholesky: matrix \(1, 0\) of shape"):
        linalg.cholesky(hx.tensor([[[[1.0]]], [[[-1.0]]]]))


def test_the_gradient_of_slogdet_of_a_singular_matrix_says_so():
    x = hx.zeros((2, 2))
    x.requires_grad = True
    found = linalg.slogdet(x)
    assert found.logabsdet.item() == -math.inf
    with pytest.raises(SingularMatrixError, match="inv"):
        found.logabsdet.backward()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_decompositions_refuse_what_is_not_finite(device, value):
    x = hx.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, value]]], device=device)
    for name in ("eigh", "eigvalsh", "eig", "eigvals", "svd", "svdvals", "pinv", "matrix_rank"):
        with pytest.raises(ArithmeticError, match=r"\w+: matrix \(1,\) holds nan or inf"):
            getattr(linalg, name)(x)


# What is made of them


def test_a_pickled_op_is_loaded_where_linear_algebra_was_not():
    code = f"import pickle; print(pickle.loads({pickle.dumps(linalg.inv)!r}))"
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert found == "<primitive op inv>\n"


def test_a_negative_power_is_one_of_the_inverse():
    x = np.array([[4.0, 1.0], [2.0, 3.0]])
    found = linalg.matrix_power(hx.tensor(x), -3)
    np.testing.assert_allclose(found.numpy(), np.linalg.matrix_power(x, -3), rtol=1e-12)
    check_gradients(lambda t: linalg.matrix_power(t, -2), x, orders=2)


def test_a_least_squares_problem_of_low_rank_has_the_shortest_solution():
    x, y = np.array([[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]), np.array([2.0, 3.0, 1.0])
    found = linalg.lstsq(hx.tensor(x), hx.tensor(y))
    expected = np.linalg.lstsq(x, y)[0]
    np.testing.assert_allclose(found.solution.numpy(), expected, rtol=1e-6)
    assert found.rank.item() == 1


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("count", [1, 7])
def test_few_triangles_and_many_are_solved_alike(count, upper, unit):
    x, y = numbers(count, 3, 3), numbers(3, 2)
    triangle = (np.triu if upper else np.tril)(x)
    if unit:
        triangle[:, range(3), range(3)] = 1
    z = linalg.triangular_solve(x, y, upper=upper, unit_diagonal=unit).numpy()
    np.testing.assert_allclose(triangle @ z, np.broadcast_to(y, z.shape), rtol=1e-10)
    x[-1, 1, 1] = 0
    if not unit:
        with pytest.raises(SingularMatrixError, match=rf"matrix \({count - 1},\) has a 0"):
            linalg.triangular_solve(x, y, upper=upper)


def test_a_tolerance_for_each_matrix(device):
    x = hx.tensor([[[1.0, 0.0], [0.0, 0.1]], [[1.0, 0.0], [0.0, 0.1]]], device=device)
    rtol = hx.tensor([0.5, 0.01], device=device)
    assert linalg.matrix_rank(x, rtol=rtol).tolist() == [1, 2]
    assert linalg.pinv(x, rtol=rtol)[:, 1, 1].tolist() == [0.0, pytest.approx(10.0)]
