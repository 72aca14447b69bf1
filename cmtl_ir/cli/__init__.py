"""The command line: the commands, and their output on the terminal. Other packages are imported lazily."""

from cmtl_ir.cli.process import main

__all__ = ["main"]
