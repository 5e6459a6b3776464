"""The kernels for sequences: no race, no touch outside of an array."""

import shutil
from pathlib import Path

import pytest

from helixml.testing.cuemu import sanitizers

CHECKS = Path(__file__).with_name("sequence_barrier_checks.py")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="kernels are compiled by g++")
@pytest.mark.parametrize("sanitizer", sanitizers.SANITIZERS)
def test_kernels_are_clean(sanitizer):
    (outcome,) = sanitizers.check(CHECKS, sanitizers=[sanitizer], timeout=600)
    assert outcome.clean, outcome.summary or outcome.report
