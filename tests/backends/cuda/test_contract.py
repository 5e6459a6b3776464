"""The contract suite on the CUDA backend; ops are drawn in turn for the quick form."""

import pytest

from helixml.testing import contract

# Ops whose kernels, or whose CuPy functions, differ from NumPy's.
OPS = (
    "rms_norm",
    "cross_entropy",
    "take",
    "adamw_",
    "where",
    "matmul",
    "sum",
    "tril",
    "sign",
    "drop",
)


def test_the_backend_has_the_functions_of_the_contract(device):
    found = [c for c in contract.checks(device, full=False) if c.group == "surface"]
    assert found
    for check in found:
        check.run()


@pytest.mark.parametrize("name", contract.ARRAY_CHECKS)
def test_arrays_keep_the_contract(device, backend, name):
    contract.every_dtype(contract.ARRAY_CHECKS[name], backend)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_ops_keep_the_contract(device, op):
    for check in contract.checks(device, full=False):
        if check.group == "ops" and str(check).startswith(f"ops: {op}-"):
            check.run()


@pytest.mark.slow
def test_the_backend_keeps_the_whole_contract(device):
    report = contract.run(device, full=False)
    assert report.ok, str(report)
