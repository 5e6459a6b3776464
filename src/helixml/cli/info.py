"""``helixml info``: versions, backends and what each found, whether the engine is compiled.

Everything printed is asked of the running library: each backend's own ``capabilities()``, and the
file that each module of the engine was loaded from.
"""

from __future__ import annotations

import json
import platform
import sys
from typing import Any

import click

from helixml.cli.group import shared_options

__all__ = ["command"]


@click.command(name="info")
@shared_options
def command(*, quiet: bool, as_json: bool) -> None:
    """Say what helixml found on this machine: backends, threads, instruction set, kernels."""
    facts = _facts()
    if as_json:
        click.echo(json.dumps(facts, default=str))
        return
    backends = facts.pop("backends")
    for name, value in facts.items():
        click.echo(f"{name}: {value}")
    for kind, found in backends.items():
        click.echo(f"backend {kind}: {found['status']}")
        for name, value in found.get("capabilities", {}).items():
            click.echo(f"  {name}: {', '.join(value) if isinstance(value, list) else value}")
        if "measured" in found:
            click.echo(f"  measured: {found['measured']}")


def _facts() -> dict[str, Any]:
    """Collect what there is to say."""  # Any: texts, numbers and lists, as JSON holds them
    import numpy as np

    import helixml as hx
    from helixml import config
    from helixml._core import tape
    from helixml.backends import registry

    backends: dict[str, dict[str, Any]] = {}
    for kind, status in registry.available().items():
        backends[kind] = {"status": status}
        if status == "ok":
            backends[kind]["capabilities"] = dict(registry.get(kind).capabilities())
    default = config.get().device
    if backends.get(default, {}).get("status") == "ok":  # measured once, and then read from a file
        backends[default]["measured"] = str(hx.hardware.capabilities(default))
    return {
        "helixml": hx.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": hx.get_num_threads(),
        "engine": "plain Python" if str(tape.__file__).endswith(".py") else "compiled",
        "cache": str(config.cache_dir()),
        "program": sys.executable,
        "backends": backends,
    }
