"""einsum: the order of its products, and calls that samples cannot describe."""

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.profiler import profile

CHAIN = "ij,jk,kl,l->i"


def chain():
    rng = np.random.default_rng(0)
    return [hx.tensor(rng.normal(size=s)) for s in ((20, 30), (30, 25), (25, 10), (10,))]


def test_the_path_is_the_cheapest_and_its_cost_is_what_the_profiler_counts():
    operands = chain()
    found = hx.einsum_path(CHAIN, *operands)
    assert found.path == ((2, 3), (1, 2), (0, 1))  # from the vector on
    assert found.flops == 2 * (25 * 10 + 30 * 25 + 20 * 30)
    assert found.naive_flops == 4 * 20 * 30 * 25 * 10
    assert found.largest == 30
    with profile() as p:
        hx.einsum(CHAIN, *operands)
    assert p.flops == found.flops


def test_left_to_right_is_dearer_and_equal():
    operands = chain()
    from_left = hx.einsum_path(CHAIN, *operands, optimize=False)
    assert from_left.path == ((0, 1), (0, 2), (0, 1))
    assert from_left.flops == 2 * (20 * 30 * 25 + 20 * 25 * 10 + 20 * 10)
    expected = np.einsum(CHAIN, *[x.numpy() for x in operands])
    theirs = np.einsum_path(CHAIN, *[x.numpy() for x in operands])[0]
    for order in (
        True,
        False,
        "greedy",
        "optimal",
        from_left,
        from_left.path,
        theirs[:1] + [(0, 1)] * 3,
    ):
        found = hx.einsum(CHAIN, *operands, optimize=order)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def cheapest(terms, output, sizes):
    """Try every order of pairs of operands, of which nothing is left that can be summed alone."""
    if len(terms) == 1:
        return 0
    costs = []
    for j in range(len(terms)):
        for i in range(j):
            rest = [t for k, t in enumerate(terms) if k not in (i, j)]
            kept = set(output).union(*rest)
            x, y = set(terms[i]), set(terms[j])
            cost = np.prod([sizes[a] for a in x | y]) * (1 if x & y <= kept else 2)
            costs.append(int(cost) + cheapest([*rest, "".join((x | y) & kept)], output, sizes))
    return min(costs)


@pytest.mark.parametrize("seed", range(8))
def test_optimal_paths_are_optimal(seed):
    rng = np.random.default_rng(seed)
    sizes = {a: int(rng.integers(2, 9)) for a in "abcdef"}
    terms = ["".join(rng.choice(list("abcdef"), rng.integers(1, 4), replace=False)) for _ in "wxyz"]
    output = "".join(sorted({a for a in "".join(terms) if rng.random() < 0.4}))
    subscripts = ",".join(terms) + "->" + output
    operands = [hx.tensor(rng.normal(size=[sizes[a] for a in term])) for term in terms]
    alone, best = [], 0
    for i, term in enumerate(terms):
        kept = [a for a in term if a in output or a in "".join(terms[:i] + terms[i + 1 :])]
        alone.append("".join(kept))
        best += int(
            np.prod([sizes[a] for a in term]) - np.prod([sizes[a] for a in kept], initial=1)
        )
    best += cheapest(alone, output, sizes)
    assert hx.einsum_path(subscripts, *operands).flops == best
    assert hx.einsum_path(subscripts, *operands, optimize="greedy").flops >= best
    expected = np.einsum(subscripts, *[x.numpy() for x in operands])
    for order in (True, "greedy", False):
        with profile() as p:
            found = hx.einsum(subscripts, *operands, optimize=order)
        assert p.flops == hx.einsum_path(subscripts, *operands, optimize=order).flops
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_many_operands_are_multiplied_greedily():
    rng = np.random.default_rng(0)
    operands = [hx.tensor(rng.normal(size=(3, 3))) for _ in range(12)]
    letters = "abcdefghijklm"
    subscripts = ",".join(letters[i : i + 2] for i in range(12))
    expected = np.linalg.multi_dot([x.numpy() for x in operands])
    np.testing.assert_allclose(hx.einsum(subscripts, *operands).numpy(), expected, rtol=1e-10)


def test_integers_stay_what_they_are():
    x = hx.asarray(np.full((2, 3), 100, np.int8))
    assert hx.einsum("ij->i", x).dtype == hx.int8
    assert hx.einsum("ij->i", x).tolist() == [44, 44]  # 300 wraps around, as in NumPy
    assert hx.einsum("ij,j", x, np.ones(3, np.int16)).tolist() == [300, 300]


def test_a_path_is_found_for_shapes_alone():
    shapes = [np.broadcast_to(0.0, s) for s in ((10**4, 10**4), (10**4, 10**4), (10**4,))]
    assert hx.einsum_path("ij,jk,k", *shapes).path == ((1, 2), (0, 1))


def test_a_path_for_other_operands_is_refused():
    with pytest.raises(ValueRangeError, match=r"step \(1, 5\) of the path"):
        hx.einsum("ij,jk", hx.ones((2, 2)), hx.ones((2, 2)), optimize=[(1, 5)])


def test_a_diagonal_and_a_permutation_are_tensors_of_their_own():
    x = hx.tensor([[1.0, 2.0], [3.0, 4.0]])
    y, z = hx.einsum("ii->i", x), hx.einsum("ij->ij", x)
    x.assign_(0)
    assert y.tolist() == [1.0, 4.0]
    assert z.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_multi_dot_multiplies_in_the_cheapest_order():
    operands = [hx.ones(s) for s in ((10, 100), (100, 5), (5, 50))]
    with profile() as p:
        hx.linalg.multi_dot(operands)
    assert p.flops == 2 * (10 * 100 * 5 + 10 * 5 * 50)
