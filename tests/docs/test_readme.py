"""README.md and docs/ tell the truth: code prints what it shows, commands and files exist."""

import importlib.util
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest

import helixml as hx
from helixml.backends import registry
from helixml.backends.base import BackendBase
from helixml.backends.protocol import ComputeBackend
from helixml.cli import main
from helixml.testing import contract

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BACKEND = (ROOT / "docs" / "backend.md").read_text(encoding="utf-8")
PRINT = re.compile(r"^\s*print\(.*\)\s*# (?P<shown>.+)$")


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands():
    """Give the command lines of the shell blocks as lists of words."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


CODE = [*blocks("python"), *blocks("python", BACKEND)]


@pytest.mark.usefixtures("on_the_cpu")
@pytest.mark.parametrize("code", CODE, ids=lambda code: code.splitlines()[2][:20])
def test_code_prints_what_it_shows(code, capsys, request):
    request.addfinalizer(lambda: registry.unregister("mine"))
    lines = code.splitlines()
    shown = [match["shown"] for line in lines if (match := PRINT.match(line))]
    assert len(shown) == sum("print(" in line for line in lines)  # every print shows its output
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.splitlines() == shown


def test_there_is_code_to_show():
    code = "\n".join(blocks("python"))
    for name in ("requires_grad=True", ".backward()", ".grad)", "hx.no_grad()", "hx.grad(",
                 "hx.nn.", "hx.optim."):  # fmt: skip
        assert name in code


@pytest.mark.usefixtures("on_the_cpu")
def test_numpy_functions_stay_on_the_tape_and_arrays_are_views():
    x = hx.tensor([0.5, 2.0], requires_grad=True)
    for y in (np.sin(x), np.ones(2, np.float32) * x):
        assert isinstance(y, hx.Tensor)
        assert y.requires_grad
    view = np.asarray(x)
    assert not view.flags.writeable
    assert np.shares_memory(view, x.numpy())


def test_the_third_line_tells_it_from_others():
    line = README.splitlines()[2]
    assert "not related to `nexusqi/helixml` or to `helixml/helix`" in line


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_exist(words):
    if words[0] == ".venv/bin/helixml":
        command = main.get_command(click.Context(main), words[1])
        assert command is not None
        options = {name for option in command.params for name in option.opts}
        assert {word for word in words[2:] if word.startswith("--")} <= options
    else:
        assert words[:2] == ["python3", "dev.py"]
        help_text = load_dev().__doc__
        for word in words[2:]:
            assert word in help_text


def load_dev():
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_options_take_their_values():
    """Let click read each command line, without running it."""
    seen = 0
    for words in commands():
        if words[0] == ".venv/bin/helixml":
            main.get_command(click.Context(main), words[1]).make_context(words[1], words[2:])
            seen += 1
    assert seen >= 4


def test_the_page_on_backends_names_what_there_is():
    for line in blocks("sh", BACKEND):
        for command in line.splitlines():
            words = shlex.split(command, comments=True)
            assert words[:3] == ["python", "-m", "helixml.testing.contract"]
            contract.parser().parse_args(words[3:])
    for name in re.findall(r"`([a-z_]+)`", BACKEND):
        known = {*vars(ComputeBackend), *ComputeBackend.__annotations__, "shape", "size", "dtype"}
        assert name in known | {"surface", "arrays", "ops", "repeats", "bool", "int64", "float32"}
    project = (ROOT / "examples" / "backend" / "pyproject.toml").read_text(encoding="utf-8")
    assert blocks("toml", BACKEND)[0] in project
    missing = registry.missing(type("Bare", (BackendBase,), {}))
    for word in ("asarray", "to_numpy", "ensure", "dtype_of", "copy", "assign"):
        assert word in missing  # what a subclass of BackendBase must bring, says the page


def test_files_exist():
    pages = README + BACKEND
    named = re.findall(r"`((?:src|tests|examples)/[^`]*)`", pages)
    linked = [link for link in re.findall(r"\]\(([^)]+)\)", pages) if "://" not in link]
    assert named
    assert linked
    assert [path for path in named + linked if not (ROOT / path).exists()] == []
