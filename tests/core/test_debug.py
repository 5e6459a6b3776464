"""Debug mode: nodes remember the user's line."""

import inspect

import pytest

import helixml as hx
from helixml import config
from helixml.errors import InplaceError

pytestmark = pytest.mark.usefixtures("plain_settings")


def test_debug_mode_remembers_the_line_of_each_node():
    x = hx.tensor([1.0], requires_grad=True)
    with config.using(debug=True):
        line = inspect.currentframe().f_lineno + 1
        y = hx.exp(x)
    assert y._node.origin == f"{__file__}:{line}"
    assert f"grad_fn=exp@{__file__}:{line}" in repr(y)


def test_debug_mode_points_through_composite_ops_at_the_user():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    with config.using(debug=True):
        line = inspect.currentframe().f_lineno + 1
        y = hx.log_softmax(x)
    assert y._node.origin == f"{__file__}:{line}"


def test_debug_mode_remembers_lines_of_fused_ops():
    x = hx.ones((2, 3))
    w = hx.tensor([1.0, 1.0, 1.0], requires_grad=True)
    with config.using(debug=True):
        line = inspect.currentframe().f_lineno + 1
        y = hx.rms_norm(x, w)
    assert y._node.origin == f"{__file__}:{line}"


def test_without_debug_mode_nothing_is_remembered():
    y = hx.exp(hx.tensor([1.0], requires_grad=True))
    assert y._node.origin is None


def test_debug_mode_names_the_line_that_reads_what_was_overwritten():
    x, w = hx.tensor([1.0]), hx.tensor([2.0], requires_grad=True)
    with config.using(debug=True):
        line = inspect.currentframe().f_lineno + 1
        y = x * w
    x.assign_(3.0)
    with pytest.raises(InplaceError) as caught:
        y.backward()
    assert f"(called at {__file__}:{line}) reads 'x'" in str(caught.value)
    assert f"overwritten in place by assign_ at {__file__}:{line + 1}" in str(caught.value)
