"""Settings: context-local, checked by name, read from the environment once."""

import os
import subprocess
import sys
import threading

import pytest

from helixml import config
from helixml.errors import ConfigError


def test_using_changes_settings_for_a_block():
    before = config.get()
    with config.using(debug=True, num_threads=1) as inside:
        assert config.get() is inside
        assert inside.debug
        with config.using(debug=False):
            assert not config.get().debug
            assert config.get().num_threads == 1
    assert config.get() == before


def test_unknown_settings_name_the_nearest():
    with (
        pytest.raises(ConfigError, match=r"'debgu' is not a setting. Hint: did you mean 'debug'\?"),
        config.using(debgu=True),
    ):
        pass
    with pytest.raises(ConfigError, match=r"settings are device, num_threads"), config.using(xyz=1):
        pass


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        config.get().debug = True


def test_settings_belong_to_the_thread():
    seen = []
    with config.using(num_threads=3):
        thread = threading.Thread(target=lambda: seen.append(config.get().num_threads))
        thread.start()
        thread.join()
    assert seen != [3]


def settings_of_new_process(**environment):
    code = "from helixml import config; print(config.get())"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HELIXML_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_settings_come_from_the_environment():
    done = settings_of_new_process(
        HELIXML_DEVICE="reference",
        HELIXML_NUM_THREADS="3",
        HELIXML_PURE="yes",
        HELIXML_KERNELS="off",
        HELIXML_DEBUG="1",
    )
    for text in ("device='reference'", "num_threads=3", "pure=True", "kernels=False", "debug=True"):
        assert text in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("HELIXML_PURE", "maybe", "set it to 1 or 0"),
        ("HELIXML_NUM_THREADS", "-1", "set it to 1,"),
    ],
)
def test_bad_environment_is_an_error(name, value, hint):
    done = settings_of_new_process(**{name: value})
    assert done.returncode != 0
    assert "ConfigError" in done.stderr
    assert hint in done.stderr


def test_cache_dir_follows_xdg(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(config.cache_dir()) == "/somewhere/helixml"


@pytest.mark.skipif("high" in config.precisions, reason="this machine has it")
def test_a_precision_that_this_machine_lacks_is_refused():
    with pytest.raises(ConfigError, match="needs a processor with AMX"):
        config.matmul_precision("high")
    with (
        pytest.raises(ConfigError, match="needs a processor with AMX"),
        config.using(matmul_precision="high"),
    ):
        pass
    assert config.get().matmul_precision == "highest"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match='it is "highest" or "high"'):
        config.matmul_precision("medium")
