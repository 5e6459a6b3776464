"""Races and touches outside of arrays are found, and no barrier goes unmissed."""

import re
from pathlib import Path

import pytest

from helixml.errors import ValueRangeError
from helixml.testing import cuemu
from helixml.testing.cuemu import mutation, sanitizers
from helixml.testing.cuemu.__main__ import main

CHECKS = Path(__file__).with_name("cuemu_checks.py")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not cuemu.is_available(), reason="kernels are compiled by g++"),
]


def run(name, sanitizer):
    (outcome,) = sanitizers.check(CHECKS, names=[name] if name else [], sanitizers=[sanitizer])
    return outcome


@pytest.mark.parametrize("sanitizer", sanitizers.SANITIZERS)
def test_clean_kernels_are_clean(sanitizer):
    outcome = run("", sanitizer)
    assert outcome.clean, outcome.report


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("fault_no_barrier", "kernel.cu:1[0-9]"),
        ("fault_no_last_barrier", "kernel.cu:1[0-9]"),
        ("fault_no_warp_barrier", "kernel.cu:[45]"),
        ("fault_blocks_without_atomic", "kernel.cu:3"),
        ("fault_blocks_between_barriers", "kernel.cu:8"),
    ],
)
def test_the_thread_sanitizer_finds_each_race_and_its_line(name, line):
    outcome = run(name, "thread")
    assert outcome.verdict == "found"
    assert "data race" in outcome.summary
    assert re.search(line, outcome.report)
    assert "thread (" in outcome.report


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fault_read_outside", "heap-buffer-overflow"),
        ("fault_write_outside_shared", "index 32 out of bounds"),
        ("fault_load_misaligned", "misaligned address"),
    ],
)
def test_the_address_sanitizer_finds_each_touch_outside_and_its_line(name, words):
    outcome = run(name, "address")
    assert outcome.verdict == "found", outcome.report
    assert words in outcome.report
    assert "kernel.cu:" in outcome.report


def test_every_barrier_that_is_removed_is_missed_by_the_thread_sanitizer():
    mutants = sanitizers.mutate(CHECKS, sanitizers=["thread"])
    assert len(mutants) == 8
    assert [mutant.barrier.line for mutant in mutants if not mutant.red] == []


def test_mutation_refuses_checks_that_fail_as_they_are():
    with pytest.raises(ValueRangeError, match=r"fail with all barriers.*AssertionError"):
        sanitizers.mutate(CHECKS, names=["fault_no_barrier"])


def test_the_command_prints_a_line_a_run_and_tells_by_its_exit_code(capsys):
    plain = ["--sanitizer", "plain"]
    assert main(["check", str(CHECKS), "check_neighbours", *plain]) == 0
    assert main(["check", str(CHECKS), "fault_no_barrier", *plain]) == 1
    assert main(["mutate", str(CHECKS), "check_neighbours", *plain]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["plain: clean", "plain: failed AssertionError"]
    assert re.fullmatch(r"source \w{16}, line 5: __syncwarp\(\); missed by plain", lines[2])


def test_a_file_without_checks_fails(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    (outcome,) = sanitizers.check(path, sanitizers=["plain"])
    assert (outcome.verdict, outcome.summary) == (
        "failed",
        f"ValueRangeError: {path} has no function check_...",
    )


def test_a_check_that_does_not_end_is_hung(tmp_path):
    path = tmp_path / "endless.py"
    path.write_text("def check_forever():\n    while True:\n        pass\n")
    (outcome,) = sanitizers.check(path, sanitizers=["plain"], timeout=3)
    assert outcome.verdict == "hung"


def test_a_process_that_dies_fails_its_job_alone(tmp_path):
    path = tmp_path / "dies.py"
    path.write_text(
        "import os\nfrom helixml.testing.cuemu import mutation\n"
        "def check_death():\n"
        "    if mutation._active == ('x', 1):\n        os._exit(3)\n"
    )
    jobs = [mutation.Barrier("x", number, 1, "") for number in range(3)]
    outcomes, _ = sanitizers._run(path, [], "plain", 60.0, jobs)
    assert [outcome.verdict for outcome in outcomes] == ["clean", "failed", "clean"]


def test_an_unknown_sanitizer_is_refused():
    with pytest.raises(ValueRangeError, match=r"unknown sanitizer 'memory'.*Hint: \('plain'"):
        sanitizers.check(CHECKS, sanitizers=["memory"])


def test_a_removed_barrier_leaves_lines_and_other_statements_alone():
    source = "a();\n// __syncthreads();\nif (b) __syncthreads();\nc();\n"
    assert [barrier.line for barrier in mutation.barriers(source)] == [3]
    assert mutation.remove(source, 0).splitlines()[2:] == ["if (b) ;", "c();"]
