"""The contract on every device beside the CPU: slow, so cut into parts that processes share.

A part is a run of neighbouring checks: what an op compiles is ready for the next check of it.
"""

import sys

import pytest

from helixml.testing import contract
from serving import serving

# Device, whether every sample is checked, and in how many parts.
RUNS = (
    *(("reference", False, 4), ("array_api_strict", False, 2), ("torch", True, 8)),
    *(("jax", False, 8), ("wgpu", False, 8), ("cuda", False, 8)),
)
# JAX compiles each function anew for each shape and dtype, which takes ten times as long as all the
# rest; what the engine does around them is checked on the other devices.
ONLY = {"jax": "^surface|^arrays|-values$|-backward$"}
PARTS = [
    pytest.param(name, full, (part, parts), id=f"{name}-{part}-of-{parts}")
    for name, full, parts in RUNS
    for part in range(1, parts + 1)
]


@pytest.fixture(autouse=True)
def forget_what_was_compiled():
    """Free the memory of what JAX compiled for a part: the next one needs other functions."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "full", "part"), PARTS)
def test_the_contract_is_kept(name, full, part):
    with serving(name) as device:
        report = contract.run(device, full, only=ONLY.get(name, ""), part=part)
    assert report.ok, str(report)
    assert len(report.passed) > 100
