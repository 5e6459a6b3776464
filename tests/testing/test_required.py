"""Tests are skipped without what they need, and fail where it must be there."""

import pytest

from required import require


@pytest.mark.parametrize("words", [None, "", "torch", "torch,nvrtc"])
def test_without_being_asked_for_it_is_skipped(words, monkeypatch):
    monkeypatch.delenv("HELIXML_REQUIRE", raising=False)
    if words is not None:
        monkeypatch.setenv("HELIXML_REQUIRE", words)
    with pytest.raises(pytest.skip.Exception, match="no adapter"):
        require("wgpu", "no adapter")


@pytest.mark.parametrize("words", ["wgpu", "torch, wgpu ,jax"])
def test_what_is_asked_for_fails(words, monkeypatch):
    monkeypatch.setenv("HELIXML_REQUIRE", words)
    with pytest.raises(pytest.fail.Exception, match="asks for wgpu: no adapter"):
        require("wgpu", "no adapter")
