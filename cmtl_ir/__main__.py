"""`python -m cmtl_ir` is `cmtl-ir`."""

from cmtl_ir.cli import main

main()
