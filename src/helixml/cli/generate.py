"""``helixml generate``: let a trained model write, byte by byte, to stdout.

The bytes go out as they come; a character of several bytes is never held back or replaced.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from pathlib import Path

import click

from helixml.cli.group import program, shared_options

__all__ = ["command"]


@click.command(name="generate")
@click.argument("run")
@click.option("--prompt", default="", metavar="TEXT", help="What the text begins with.")
@click.option("--bytes", "count", type=click.IntRange(0), default=400, metavar="N", help="[400]")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=0.8,
    metavar="T",
    help="0 takes the likeliest byte, 1 draws as the model means it [0.8].",
)
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="Draw from the K likeliest.")
@click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="[0]")
@shared_options
def command(
    *,
    run: str,
    prompt: str,
    count: int,
    temperature: float,
    top_k: int | None,
    seed: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Let the model in folder RUN go on from a prompt; the new bytes alone go to stdout."""
    from helixml import models
    from helixml.errors import CheckpointError
    from helixml.random import Rng
    from helixml.training import sample_bytes

    folder = Path(run)
    if (folder / "checkpoint").exists() and not (folder / "model.safetensors").exists():
        raise CheckpointError(
            f"generate: the run in {run} is not finished. "
            f"Hint: {program()} train --resume {shlex.quote(run)}"
        )
    model = models.from_pretrained(folder)
    stream = sample_bytes(
        model,
        prompt.encode("utf-8", "surrogateescape") or b"\n",
        temperature=temperature,
        top_k=top_k,
        rng=Rng(seed),
    )
    written = itertools.islice(stream, count)
    if as_json:
        text = bytes(written).decode("utf-8", "replace")
        click.echo(json.dumps({"run": run, "prompt": prompt, "seed": seed, "text": text}))
        return
    if not quiet:
        click.echo(prompt, nl=False, err=True)
    out = sys.stdout.buffer
    for byte in written:
        out.write(bytes([byte]))
        out.flush()
    if not quiet and sys.stdout.isatty():
        click.echo(err=True)
