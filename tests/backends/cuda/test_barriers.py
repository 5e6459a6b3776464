"""No race, no touch outside of an array, and no barrier that is not needed."""

import shutil
from pathlib import Path

import pytest

from helixml.testing.cuemu import sanitizers

CHECKS = Path(__file__).with_name("barrier_checks.py")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("g++"), reason="kernels are compiled by g++"),
]


@pytest.mark.parametrize("sanitizer", sanitizers.SANITIZERS)
def test_kernels_are_clean(sanitizer):
    (outcome,) = sanitizers.check(CHECKS, sanitizers=[sanitizer], timeout=600)
    assert outcome.clean, outcome.summary or outcome.report


@pytest.mark.parametrize("name", ["check_cross_entropy", "check_column_sums"])
def test_every_barrier_is_missed(name):
    mutants = sanitizers.mutate(CHECKS, names=[name], sanitizers=["thread"], timeout=300)
    assert mutants
    assert [mutant.barrier.line for mutant in mutants if not mutant.red] == []
