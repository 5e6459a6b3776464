"""Where cuSOLVER finds no result, the host decides whether there is one."""

from fractions import Fraction

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ConvergenceError, NotPositiveDefiniteError, SingularMatrixError

# Singular but for its rounding: LAPACK, which takes its columns, finds pivots that are not 0;
# cuSOLVER is given its rows.
BORDERLINE = np.array([[0.6, 0.5, 0.3], [0.3, 0.1, 0.1], [0.9, 0.6, 0.4]])


@pytest.fixture
def by_rows(cp):
    """Only where inverses come from rows; the stand-in sees to that."""
    if not hasattr(cp, "cuemu"):
        pytest.skip("cuSOLVER rounds as it likes")
    with pytest.raises(np.linalg.LinAlgError):
        cp.linalg.inv(cp.asarray(BORDERLINE))


@pytest.mark.parametrize("stacked", [False, True])
def test_a_matrix_that_is_singular_by_rounding_has_what_it_has_on_the_host(
    by_rows, device, stacked
):
    host = np.stack([np.eye(3), BORDERLINE]) if stacked else BORDERLINE
    x = hx.tensor(host, device=device, requires_grad=True)
    np.testing.assert_allclose(hx.linalg.inv(x).numpy(), np.linalg.inv(host), rtol=1e-6)
    determinant = hx.linalg.det(x)
    determinant.sum().backward()
    goal = np.linalg.det(host)[..., None, None] * np.swapaxes(np.linalg.inv(host), -1, -2)
    np.testing.assert_allclose(x.grad.numpy(), goal, rtol=1e-6)


def cofactors(x):
    """Return the exact cofactors of a 3 x 3 matrix, rounded once."""
    exact = [[Fraction(entry) for entry in row] for row in x.tolist()]

    def minor(i, j):
        (a, b), (c, d) = ([v for k, v in enumerate(exact[r]) if k != j] for r in range(3) if r != i)
        return float((-1) ** (i + j) * (a * d - b * c))

    return np.array([[minor(i, j) for j in range(3)] for i in range(3)])


@pytest.mark.parametrize("stacked", [False, True])
def test_the_gradient_of_a_determinant_is_exact_where_its_matrix_is_nearly_singular(
    device, stacked
):
    rng = np.random.default_rng(0)
    for _ in range(8):
        rows = rng.standard_normal((3, 3))
        rows[2] = rows[0] - 2 * rows[1] + 1e-9 * rows[2]  # of condition 1e9 or more
        x = hx.tensor(rows[None] if stacked else rows, device=device, requires_grad=True)
        hx.linalg.det(x).sum().backward()
        found, goal = x.grad.numpy().reshape(3, 3), cofactors(rows)
        assert np.abs(found - goal).max() < 1e-13 * np.abs(goal).max()


def failing(name):
    def fails(*arguments, **options):
        raise np.linalg.LinAlgError(f"Error reported by {name} in cuSOLVER. devInfo = [3].")

    return fails


REGULAR = np.array([[4.0, 1.0], [1.0, 3.0]])
CALLS = {
    "cholesky": (hx.linalg.cholesky, np.linalg.cholesky),
    "eigh": (lambda x: hx.linalg.eigh(x)[0], lambda x: np.linalg.eigh(x)[0]),
    "eigvalsh": (hx.linalg.eigvalsh, np.linalg.eigvalsh),
    "inv": (hx.linalg.inv, np.linalg.inv),
    "qr": (lambda x: abs(hx.linalg.qr(x)[1]), lambda x: abs(np.linalg.qr(x)[1])),
    "solve": (lambda x: hx.linalg.solve(x, x[0]), lambda x: np.linalg.solve(x, x[0])),
    "svd": (hx.linalg.svdvals, np.linalg.svdvals),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_only_the_device_finds_impossible_is_the_hosts(cp, device, monkeypatch, name):
    monkeypatch.setattr(cp.linalg, name, failing(name))
    ours, numpys = CALLS[name]
    found = ours(hx.tensor(REGULAR, device=device))
    assert found.device == device
    np.testing.assert_allclose(found.numpy(), numpys(REGULAR), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (hx.linalg.inv, SingularMatrixError),
        (lambda x: hx.linalg.solve(x, x), SingularMatrixError),
        (hx.linalg.cholesky, NotPositiveDefiniteError),
        (lambda x: hx.linalg.svd(x + np.nan), ConvergenceError),
    ],
)
def test_what_the_host_finds_impossible_is_the_hosts_error(device, call, error):
    with pytest.raises(error):
        call(hx.tensor([[1.0, 2.0], [2.0, 4.0]], device=device) * -1)
