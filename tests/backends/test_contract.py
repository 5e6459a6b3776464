"""The contract suite: green on our backends, red on broken ones, and a to-do list for new ones."""

import shutil
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

from helixml.backends import registry
from helixml.backends.array_api import ArrayApiBackend
from helixml.device import Device
from helixml.errors import ValueRangeError
from helixml.testing import contract

DEVICES = ("cpu", "reference", "array_api_strict")
# What the quick run does for each op beyond the harness, which tests/ops runs for every device.
QUICK = ("surface", "arrays", "repeats")


def quick_checks(device):
    return [c for c in contract.checks(device, full=False) if c.group in QUICK]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("group", QUICK)
def test_our_backends_keep_the_contract(device, group):
    found = [check for check in quick_checks(device) if check.group == group]
    assert found
    for check in found:
        check.run()


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_our_backends_keep_the_whole_contract(device):
    report = contract.run(device)
    assert report.ok, str(report)
    assert len(report.passed) > 500


@pytest.mark.slow
def test_numpy_s_own_namespace_keeps_the_contract(toys):
    report = contract.run("toy", full=False)
    assert report.ok, str(report)


def test_the_quick_contract_of_a_third_party(toys):
    for check in quick_checks("toy"):
        check.run()


def test_the_checks_cover_every_op_with_samples():
    from helixml._core.op import REGISTRY

    wanted = {op.name for op in REGISTRY.values() if op.make_samples is not None}
    named = {check.name for check in contract.checks("cpu") if check.group == "repeats"}
    assert named == wanted


@pytest.mark.slow
def test_a_broken_backend_is_found_out(toys):
    registry.register("toy", toys.Broken)
    failed = {}
    for check in contract.checks("toy", full=False):
        try:
            check.run()
        except AssertionError as error:
            failed[str(check)] = str(error)
        except Exception as error:
            failed[str(check)] = repr(error)
    assert "also has tune" in failed["surface: has no public name beside the protocol"]
    assert "max(x, /, *, axis)" in failed["surface: takes the protocol's parameters"]
    assert "two runs differ" in failed["repeats: exp"]
    assert "was written" in failed["repeats: cos"]
    assert "ops: exp-values" in failed
    assert "ops: sin-values" not in failed
    assert "arrays: are created" not in failed


def test_what_is_missing_is_listed_by_the_ops_it_unlocks(toys):
    registry.register("toy", lambda: toys.without("ceil", "exp", "where", "log"))
    report = contract.run("toy", full=False)
    assert not report.ok
    text = report.failed["surface: has every function and attribute of the protocol"]
    assert text == "lacks ceil, exp, log, where"
    assert list(report.unlocks) == ["where", "exp", "log", "ceil"]
    counts = list(report.unlocks.values())
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1  # ceil alone needs ceil
    assert "To do, in this order:\n  where " in str(report)
    assert "ceil                     1 op waits for it" in str(report)


def test_derived_functions_count_for_what_they_are_derived_from():
    waiting = contract.waiting_ops()
    assert {"sigmoid", "silu", "softplus"} <= waiting["exp"]
    assert "take" in waiting["scatter_add"]  # its gradient
    assert "take" in waiting["argsort"]  # which scatter_add is derived from
    assert "sin" not in waiting["exp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name is ''"),
        ({"device": "toy"}, "device is 'toy', not a Device"),
        ({"device": Device("other")}, "device is 'other', asked for 'toy'"),
        ({"device_kinds": ("cpu",)}, "does not name 'toy'"),
        ({"array_type": "ndarray"}, "array_type is 'ndarray'"),
        ({"dtypes": (np.dtype("float32"), np.dtype("S3"))}, "no dtype of helixml"),
        ({"dtypes": (np.dtype("float32"),)}, "dtypes lacks .*bool.*which every op may use"),
        ({"capabilities": lambda: {1: 2}}, "capabilities"),
        ({"memory": lambda: {"used": -1}}, "memory"),
        ({"synchronize": lambda: 3}, "synchronize returned something"),
    ],
)
def test_declarations_are_checked(change, message, toys):
    backend = toys.whole()
    for name, value in change.items():
        setattr(backend, name, value)
    with pytest.raises(AssertionError, match=message):
        contract.declares_itself(backend, "toy")


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (("levitate", ("float32",)), "there is no fused op of that name"),
        (("sin", ("float32",)), "there is no fused op of that name"),
        (("adamw__vjp", ("float32",)), "adamw_ has no gradient"),
        (("softmax", ()), "serves no dtype"),
        (("softmax", ("float16",)), "serves float16, which the backend does not hold"),
    ],
)
def test_kernels_are_checked(kernel, message, toys):
    from helixml.backends.dispatch import Kernel, KernelTable

    backend = toys.whole()
    backend.kernels = KernelTable([Kernel(kernel[0], print, kernel[1])])
    with pytest.raises(AssertionError, match=message):
        contract.declares_kernels(backend, "toy")


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "helixml.testing.contract", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_for_a_device_that_is_not_there():
    done = command("nowhere")
    assert done.returncode == 1
    assert "device 'nowhere': no backend serves it" in done.stderr
    assert done.stdout == ""


def test_the_command_gives_1_for_a_broken_backend_and_0_for_a_good_one(toys, capsys, monkeypatch):
    registry.register("toy", lambda: toys.without("log"))
    assert contract.main(["toy", "--quick"]) == 1
    assert "To do, in this order:\n  log " in capsys.readouterr().out
    registry.register("toy", toys.whole)
    monkeypatch.setattr(contract.harness, "plan", lambda *args, **kwargs: iter(()))
    assert contract.main(["toy", "--quick"]) == 0
    assert "0 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_on_the_cpu():
    done = command("cpu", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("backend cpu: ")


def test_a_subclass_of_the_array_backend_may_add_private_names():
    class Tuned(ArrayApiBackend):
        def _tune(self):
            """Be nobody's business."""

    contract.has_nothing_else(Tuned(np, Device("toy")), "toy")


def test_arrays_that_lack_what_the_engine_reads(toys):
    class Bare(np.ndarray):
        @property
        def size(self):
            raise AttributeError("size")

    backend = toys.whole()
    real = backend.asarray
    backend.asarray = lambda value, /, **options: real(value, **options).view(Bare)
    backend.to_numpy = lambda x, /: x.view(np.ndarray)
    with pytest.raises(AssertionError, match=r"arrays have no size, which the engine reads"):
        contract.every_dtype(contract.check_transfer, backend)


def test_parts_of_the_checks_are_together_all_of_them():
    def names(*part):
        return contract.run("cpu", full=False, only="^arrays", part=part).passed

    thirds = [names(k, 3) for k in (1, 2, 3)]
    assert sorted(chain(*thirds)) == sorted(names(1, 1))
    assert max(map(len, thirds)) - min(map(len, thirds)) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "levitate"}, "no check of 'cpu' has a name with 'levitate' in it.*matmul-values"),
        ({"part": (3, 2)}, "no part 3 of 2"),
        ({"part": (0, 2)}, "no part 0 of 2"),
    ],
)
def test_a_part_that_is_not_there(options, message):
    with pytest.raises(ValueRangeError, match=message):
        contract.run("cpu", full=False, **options)


def test_the_command_line_takes_several_devices_and_parts(capsys):
    words = ["cpu", "reference", "--quick", "--only", "surface", "--part", "1/2"]
    assert contract.main(words) == 0
    text = capsys.readouterr().out
    assert text == "backend cpu: 2 checks passed, 0 failed\n\n" + (
        "backend reference: 2 checks passed, 0 failed\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which device"),
        (["cpu", "--part", "1"], "--part is like 1/4, not '1'"),
        (["cuda", "--emulated", "sideways"], "invalid choice: 'sideways'"),
    ],
)
def test_a_command_line_that_says_too_little(words, message, capsys):
    with pytest.raises(SystemExit):
        contract.main(words)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")
def test_the_emulator_stands_in_for_a_gpu_in_any_order_of_threads(capsys):
    try:
        words = ["cuda", "--emulated", "reverse", "--quick", "--only", "are created|^surface"]
        assert contract.main(words) == 0
        assert "backend cuda: 6 checks passed, 0 failed" in capsys.readouterr().out
    finally:
        registry.unregister("cuda")


def test_a_table_of_nothing_is_refused(capsys):
    assert contract.main(["--table", "cpu", "--only", "levitate"]) == 1
    assert "no op has a name with 'levitate' in it" in capsys.readouterr().err


def test_the_command_line_prints_the_table(capsys):
    assert contract.main(["--table", "cpu", "--only", "^soft(max|plus)$"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[:4]] == [
        "| op",
        "|:--|:--|",
        "| softmax",
        "| softplus",
    ]
