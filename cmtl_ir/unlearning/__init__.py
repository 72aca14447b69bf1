"""Machine unlearning of finished runs: requests, their runs, audits, and a report.

The contract of an unlearner is in `cmtl_ir.strategy.unlearning`; files of users may import it from here as well.
"""

from cmtl_ir.strategy.unlearning import Descent as Descent
from cmtl_ir.strategy.unlearning import Ensemble as Ensemble
from cmtl_ir.strategy.unlearning import Request as Request
from cmtl_ir.strategy.unlearning import Rerun as Rerun
from cmtl_ir.strategy.unlearning import Unlearner as Unlearner
