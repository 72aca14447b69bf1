"""Images per second of ours in bf16 with a compiled network. The first step is mostly compilation."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import torch

from tests.benchmarks.gpu.cases import Sizes, learner_of, measured, with_peak
from tests.benchmarks.gpu.throughput import HEADER, bare, row


def table(sizes: Sizes) -> None:
    """Print two lines per network. Tiny networks are traced only, since their kernels would take minutes to build."""
    print(HEADER, flush=True)
    traced = patch.object(torch, "compile", partial(torch.compile, backend="eager"))
    for case in sizes.cases()[: 1 if sizes.tiny else None]:
        found = with_peak(sizes, partial(bare, case, sizes))
        base = found[0].seconds
        print(row(case, "bare, float32", found, base), flush=True)
        with traced if sizes.tiny else nullcontext():
            learner = learner_of(sizes, case, precision="bf16", compile=True)
        found = with_peak(sizes, partial(measured, learner, sizes))
        print(row(case, "ours, bf16, compiled", found, base), flush=True)
        del learner
