"""The front door: the commands, and what the terminal shows. The one room that knows all others, lazily."""

from cmtl_ir.cli.commands import main

__all__ = ["main"]
