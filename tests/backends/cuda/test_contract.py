"""The contract suite on the CUDA backend."""

import pytest

from helixml.testing import contract


def test_the_backend_has_the_functions_of_the_contract(device):
    found = [c for c in contract.checks(device, full=False) if c.group == "surface"]
    assert found
    for check in found:
        check.run()


@pytest.mark.parametrize("name", contract.ARRAY_CHECKS)
def test_arrays_keep_the_contract(device, backend, name):
    contract.every_dtype(contract.ARRAY_CHECKS[name], backend)
