"""What steps wait for their samples: with new samples in every step, and with those of the first step again."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from cmtl_ir.training import loop as training
from cmtl_ir.training.samples import Samples
from tests.benchmarks.gpu.cases import Case, Sizes, Window, learner_of, measured
from tests.benchmarks.loop import waiting


def without_samples(case: Case, sizes: Sizes) -> Window:
    """Train on the samples of the first step again and again."""
    kept: list[Samples] = []
    draw = training.next_samples

    def first_again(*given: Any) -> Samples:
        if not kept:
            kept.append(draw(*given))
        return kept[0]

    with patch.object(training, "next_samples", first_again):
        return measured(learner_of(sizes, case, precision="bf16"), sizes)


def table(sizes: Sizes) -> None:
    """Print one line per network, in bf16."""
    print("| network | images/s | with one batch again | times | the host waits, share of a step |")
    print("|---|--:|--:|--:|--:|", flush=True)
    for case in sizes.cases()[: 1 if sizes.tiny else None]:
        with waiting() as waits:
            window = measured(learner_of(sizes, case, precision="bf16"), sizes)
        waited = sum(waits[sizes.warm :]) / len(waits[sizes.warm :])
        again = without_samples(case, sizes)
        rates = [case.batch / one.seconds for one in (window, again)]
        share = waited / window.seconds
        print(
            f"| {case.title} | {rates[0]:.1f} | {rates[1]:.1f} | {rates[0] / rates[1]:.3f} | {share:.1%} |", flush=True
        )
