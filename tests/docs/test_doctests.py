"""Every example in every docstring of the package runs and shows what it says.

Docstrings are read from the sources, so that compiled and decorated functions are tested too.
"""

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest

import helixml

pytestmark = pytest.mark.usefixtures("plain_settings")

ROOT = Path(helixml.__file__).parent
EXTRAS = ("einops", "sklearn")  # modules that stand on the package of their name


def docstrings(path):
    """Give (name, line, docstring) of everything in a file that has examples."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node)
            if text and ">>>" in text:
                yield getattr(node, "name", path.stem), getattr(node, "lineno", 1), text


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


EXAMPLES = [
    pytest.param(path, line, text, id=f"{module_name(path)}:{name}")
    for path in sorted(ROOT.rglob("*.py"))
    for name, line, text in docstrings(path)
]


@pytest.mark.parametrize(("path", "line", "text"), EXAMPLES)
def test_example(path, line, text):
    if path.stem in EXTRAS:
        pytest.importorskip(path.stem)
    names = dict(vars(import_module(module_name(path))))
    test = doctest.DocTestParser().get_doctest(text, names, path.name, str(path), line)
    output = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=output.append)
    assert not runner.failures, "".join(output)


def test_there_are_examples():
    assert len(EXAMPLES) > 20
