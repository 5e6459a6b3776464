"""Any single kernel of the CPU can be deleted and nothing but speed changes."""

import pytest

from helixml._core.op import REGISTRY
from helixml.backends import registry
from helixml.testing import harness

TABLE = registry.get("cpu").kernels


def concerned(kernel):
    """Give the checks of the op that a kernel belongs to."""
    name = kernel.removesuffix("_vjp")
    return [check for check in harness.plan("cpu", full=False) if check.op.name == name]


@pytest.mark.parametrize("kernel", sorted(TABLE) or [pytest.param("none", marks=pytest.mark.skip)])
def test_an_op_passes_its_checks_without_a_kernel(kernel):
    checks = concerned(kernel)
    assert {"values", "kernels"} <= {check.name for check in checks}
    with TABLE.without(kernel):
        for check in checks:
            check.run()


@pytest.mark.slow
@pytest.mark.parametrize("kernel", sorted(TABLE) or [pytest.param("none", marks=pytest.mark.skip)])
def test_every_op_passes_every_check_without_a_kernel(kernel):
    with TABLE.without(kernel):
        failures = harness.failures("cpu", full=True)
    assert not failures, "\n".join(failures)


def test_every_kernel_belongs_to_a_fused_op():
    for kernel in TABLE:
        assert REGISTRY[kernel.removesuffix("_vjp")].kind == "fused"
