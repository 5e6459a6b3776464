"""Any single kernel of the CPU can be deleted and nothing but speed changes."""

import pytest

from helixml._core.op import REGISTRY
from helixml.backends import registry
from helixml.backends.dispatch import KernelTable
from helixml.testing import harness

TABLE = registry.get("cpu").kernels
PARTS = 8  # of all checks, for several processes


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


def used(check):
    """Run a check; return the names of the kernels that it was computed by."""
    found = set()
    find = KernelTable.find

    def noting(table, name, *args):
        function = find(table, name, *args)
        if function is not None:
            found.add(name)
        return function

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KernelTable, "find", noting)
        check.run()
    return found


@pytest.mark.usefixtures("with_kernels")
@pytest.mark.skipif(not len(TABLE), reason="there are no kernels")
def test_kernels_that_a_check_uses_are_noticed():
    assert {"softmax"} <= used(concerned("softmax")[0])


# A check that does not use a kernel cannot tell whether it is there.
@pytest.mark.slow
@pytest.mark.skipif(not len(TABLE), reason="there are no kernels")
@pytest.mark.parametrize("part", range(PARTS))
def test_every_check_of_every_op_passes_without_any_kernel_that_it_uses(part):
    failures = []
    for check in list(harness.plan("cpu", full=True))[part::PARTS]:
        for kernel in sorted(used(check)):
            try:
                with TABLE.without(kernel):
                    check.run()
            except AssertionError as error:
                failures.append(f"without {kernel}: {check}: {error}")
    assert not failures, "\n".join(failures)


def test_every_kernel_belongs_to_a_fused_op():
    for kernel in TABLE:
        assert REGISTRY[kernel.removesuffix("_vjp")].kind == "fused"
