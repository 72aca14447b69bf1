"""Coverage of Stein's two-stage interval and power of the paired t-test over seeds, by simulation.

    python -m tests.benchmarks.resolution

prints the tables of resolution.md. Differences are normal with mean 0 and SD 1. The column "all seeds" is the usual
t-interval of all seeds of the two-stage procedure, which a report shows.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from cmtl_ir.measures import seeds

SAMPLES = 20_000
CAP = 100_000
"""Largest number of seeds of a simulated plan. A pilot of two seeds asks for more in some samples."""


def coverage(pilot: int, half_width: float) -> list[str]:
    """Return a row: pilot, SD / d, coverage of Stein's interval and of all seeds, its half-width, and seeds."""
    random, counts, widths = np.random.default_rng([pilot, int(100 * half_width)]), list[int](), list[float]()
    hits = usual = 0
    for _ in range(SAMPLES):
        first = random.normal(0.0, 1.0, pilot)
        count = min(seeds.two_stage_seeds(float(first.std(ddof=1)), pilot, half_width), CAP)
        further = random.normal(0.0, 1.0, count - pilot)
        found = seeds.two_stage_interval(first, further)
        values = np.concatenate([first, further])
        half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
        hits += found.low <= 0.0 <= found.high
        usual += abs(values.mean()) <= half
        counts.append(count)
        widths.append((found.high - found.low) / 2)
    fixed = max(2, int(np.ceil((stats.norm.ppf(0.975) / half_width) ** 2)))
    return [
        f"{pilot}", f"{1 / half_width:g}", f"{hits / SAMPLES:.3f}", f"{usual / SAMPLES:.3f}",
        f"{max(widths) / half_width:.2f}", f"{np.median(counts):.0f}", f"{np.quantile(counts, 0.9):.0f}", f"{fixed}",
    ]  # fmt: skip


def detection(n: int) -> list[str]:
    """Return a row: seeds, smallest detectable difference in SDs, share of samples that find it, and half of it."""
    effect, random = seeds.detectable_effect(n), np.random.default_rng(n)
    shares = []
    for size in (effect, effect / 2, 0.0):
        samples = random.normal(size, 1.0, (SAMPLES, n))
        shares.append(float((stats.ttest_1samp(samples, 0.0, axis=1).pvalue <= 0.05).mean()))
    return [f"{n}", f"{effect:.2f}", *(f"{share:.3f}" for share in shares)]


def table(headings: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    for line in (headings, ["---:"] * len(headings), *rows):
        print(f"| {' | '.join(line)} |", flush=True)
    print()


def main() -> None:
    """Print both tables."""
    aims = [(pilot, d) for pilot in (2, 3, 5, 10) for d in (1.0, 0.5, 0.25) if not (pilot == 2 and d == 0.25)]
    table(
        ["pilot", "SD / d", "coverage", "all seeds", "widest / d", "seeds, median", "90 %", "if SD were known"],
        [coverage(pilot, d) for pilot, d in aims],
    )
    table(
        ["seeds", "detectable / SD", "found", "half of it found", "nothing found"],
        [detection(n) for n in (2, 3, 5, 10, 20)],
    )


if __name__ == "__main__":
    main()
