"""``python -m helixml.cli`` does what ``helixml`` does."""

from helixml.cli import main

main(prog_name="helixml")
