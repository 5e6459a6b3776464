"""What tests need that need not be there: without it they are skipped, or fail where it must be.

The environment variable ``HELIXML_REQUIRE`` names what must be there, words with commas between:
``wgpu``, ``nvrtc``, ``hiprtc``, ``cupy``, ``torch``, ``jax``. So CI skips nothing unnoticed.
"""

import os
from collections.abc import Callable
from typing import NoReturn

import pytest

import helixml as hx

__all__ = ["need", "need_dtype", "require"]


def require(name: str, reason: str) -> NoReturn:
    """End the test that lacks ``name``: skip it, or fail it where HELIXML_REQUIRE names it."""
    wanted = {word.strip() for word in os.environ.get("HELIXML_REQUIRE", "").split(",")}
    if name in wanted:
        pytest.fail(f"HELIXML_REQUIRE asks for {name}: {reason}", pytrace=False)
    pytest.skip(reason)


def need(name: str, find: Callable[[], object]) -> None:
    """Do without the test where ``find`` does not find ``name``, or fail it: see `require`."""
    try:
        find()
    except hx.errors.MissingDependencyError as error:
        require(name, str(error))


def need_dtype(name: str) -> None:
    """Skip the test where the device that the suite runs on has no such dtype, and says so."""
    try:
        hx.zeros((1,), name)
    except hx.errors.DTypeError as error:
        if f"has no {name}; it has " not in str(error):
            raise
        pytest.skip(str(error))
