"""docs/claims.md: a pure function of stored results and listed claims, which invents nothing."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmtl_ir.analysis.claims import __main__ as command
from cmtl_ir.analysis.claims.collecting import adjusted_rand, rows_of
from cmtl_ir.analysis.claims.judging import Claim, judged, read_claims
from cmtl_ir.analysis.claims.page import page, page_of
from cmtl_ir.analysis.claims.results import Results, Row, write
from cmtl_ir.analysis.claims.tables import baseline, table, tables
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.config import reading
from tests.analysis import forged

DOCS = Path(__file__).parents[2] / "docs"
PLAIN: dict[str, Any] = {"claim": "A beats B", "source": "yu2020pcgrad", "command": "cmtl-ir run made_up",
                         "study": "made_up", "label": "a", "against": "b"}  # fmt: skip


def claim(**fields: Any) -> Claim:
    return Claim.model_validate({**PLAIN, **fields})


def study(differences: list[float], measure: str = "psnr") -> dict[str, Results]:
    """A study in which `a` is above `b` by a difference per seed, on one of two tasks by twice as much."""
    rows = []
    for seed, difference in enumerate(differences):
        for task, share in (("noise", 2.0), ("rain", 0.0)):
            rows.append(Row("a", seed, f"a{seed}", task, measure, 20.0 + seed + share * difference))
            rows.append(Row("b", seed, f"b{seed}", task, measure, 20.0 + seed))
    return {"made_up": Results(rows)}


CLEAR, OTHER, SMALL, WIDE = [0.3, 0.4, 0.35], [-0.3, -0.4, -0.35], [0.01, -0.01, 0.0], [0.9, -0.8, 0.3]


@pytest.mark.parametrize(
    ("direction", "least", "verdicts"),
    [  # of CLEAR, OTHER, SMALL, WIDE
        ("higher", 0.0, ["holds", "fails", "not resolved", "not resolved"]),
        ("higher", 0.2, ["holds", "fails", "fails", "not resolved"]),
        ("lower", 0.2, ["fails", "holds", "fails", "not resolved"]),
        ("not_lower", 0.2, ["holds", "fails", "holds", "not resolved"]),
        ("not_higher", 0.2, ["fails", "holds", "holds", "not resolved"]),
        ("differs", 0.2, ["holds", "holds", "fails", "not resolved"]),
        ("equal", 0.2, ["fails", "fails", "holds", "not resolved"]),
    ],
)
def test_a_claim_holds_fails_or_is_not_resolved(direction: str, least: float, verdicts: list[str]) -> None:
    made = claim(direction=direction, least=least)
    found = [judged(made, study(values)).verdict.removesuffix(" here") for values in (CLEAR, OTHER, SMALL, WIDE)]
    assert found == verdicts


def test_the_effect_is_the_paired_difference_with_students_interval_and_what_it_could_have_shown() -> None:
    from scipy import stats

    found = judged(claim(), study(WIDE))
    expected = stats.ttest_1samp(WIDE, 0).confidence_interval(0.95)
    assert found.effect is not None and found.effect.n == 3
    assert (found.effect.low, found.effect.high) == pytest.approx(expected)
    generator = np.random.default_rng(0)  # the smallest difference seen is one that 80 % of samples show
    samples = generator.normal(found.seen, np.std(WIDE, ddof=1), (20_000, 3))
    assert np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue <= 0.05) == pytest.approx(0.8, abs=0.01)
    on_noise = judged(claim(tasks=["noise"]), study(WIDE)).effect
    assert on_noise is not None and on_noise.estimate == pytest.approx(2 * np.mean(WIDE))
    against = judged(claim(against=20.0), study([0.0, 0.0])).effect
    assert against is not None and against.estimate == 0.5  # seed 1 starts one higher


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"study": "other"}, r"no other\.csv"),
        ({"label": "c"}, r"no psnr of c in made_up\.csv"),
        ({"against": "c", "measure": "ssim"}, r"no ssim of a and c in made_up\.csv"),
        ({"tasks": ["haze"]}, r"no psnr of a and b in made_up\.csv"),
    ],
)
def test_what_is_not_stored_is_not_measured(fields: dict[str, Any], said: str) -> None:
    found = judged(claim(**fields), study(CLEAR))
    assert found.verdict == "not measured" and found.effect is None and re.fullmatch(said, found.missing)
    assert f"| – | – | not measured ({found.missing}) |" in page([found])


def test_seeds_without_a_partner_or_a_task_are_left_out_and_one_seed_resolves_nothing() -> None:
    rows = [Row("a", 0, "x", "noise", "psnr", 21.0), Row("b", 0, "y", "noise", "psnr", 20.0)]
    more = [Row("a", 1, "z", "noise", "psnr", 99.0), Row("b", 2, "w", "noise", "psnr", 1.0)]
    found = judged(claim(), {"made_up": Results([*rows, *more])})
    assert found.verdict == "not resolved" and "| +1.00 dB | 1 | not resolved (one seed) |" in page([found])


def test_the_page_shows_effect_seeds_and_verdict() -> None:
    text = page([judged(claim(least=0.2), study(values)) for values in (CLEAR, WIDE)])
    assert "2 claims: 1 holds here, 1 not resolved." in text
    assert "| `a` − `b`, psnr: higher, at least 0.2 dB | yu2020pcgrad | `cmtl-ir run made_up` |" in text
    assert re.search(r"\| \+0\.35 \[\+0\.23, \+0\.47\] dB \| 3 \| \*\*holds here\*\* \|", text)
    assert re.search(r"\| 3 \| not resolved \(\d\.\d\d dB\) \|", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,seed\na,1\n", "expected the columns label, seed, run, task, measure, value"),
        ("a,x,r,noise,psnr,1\n", "line 2: expected numbers as seed and value"),
        ("a,0,r,noise,psnr,nan\n", "line 2: the value is nan; leave out what was not measurable"),
        ("a,0,r,noise,psnr,1\na,0,r,noise,psnr,2\n", "two values of psnr for a, seed 0, 'noise'"),
    ],
)
def test_malformed_results_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "made_up.csv"
    file.write_text(text if text.startswith("label") else "label,seed,run,task,measure,value\n" + text)
    with pytest.raises(UserError, match=re.escape(said)):
        Results.read(file)


def test_malformed_claims_are_refused_with_their_path(tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.dump({"claims": [{**PLAIN, "directoin": "lower"}, {**PLAIN, "direction": "equal"}]}))
    with pytest.raises(ConfigError, match=r"(?s)claims\.0\.directoin: unknown key; did you mean direction.*"
                                          r"claims\.1: least: is required for the direction equal"):  # fmt: skip
        read_claims(file)


def test_results_of_a_comparison_are_collected_and_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = {(label, seed): {"noise": 26.0 + seed + bonus, "rain": 25.0}
             for label, bonus in (("a", 0.4), ("b", 0.0)) for seed in (0, 1)}  # fmt: skip
    stages = {"a": [{"noise": 28.0, "rain": 18.0}, {"noise": 26.4, "rain": 25.0}]}
    folder = forged.comparison(tmp_path, final, stages=stages, unfinished=[("b", 1)])
    claims = tmp_path / "claims"
    assert (
        command.main(["--folder", str(claims), "collect", "forged", "--out", str(tmp_path), "--study", "made_up"]) == 0
    )
    found = Results.read(claims / "made_up.csv")
    assert found.means("a", "psnr", ["noise"]) == pytest.approx({0: 26.4, 1: 27.4})
    assert found.means("b", "psnr", ["noise"]) == pytest.approx({0: 26.0})
    assert found.means("a", "forgetting", None) == pytest.approx({0: 1.6, 1: 1.6}) and not found.means(
        "b", "forgetting", None
    )
    again = write(tmp_path / "again.csv", list(reversed(rows_of(folder))))
    assert again.read_bytes() == (claims / "made_up.csv").read_bytes()
    (claims / "claims.yaml").write_text(yaml.dump({"claims": [PLAIN]}))
    capsys.readouterr()
    assert command.main(["--folder", str(claims)]) == 0 and "+0.20 dB | 1 |" in capsys.readouterr().out
    assert command.main(["--folder", str(claims), "collect", "nothing", "--out", str(tmp_path)]) == 2
    assert "holds no comparison" in capsys.readouterr().err


def test_scores_of_suites_are_collected_per_range_and_adapter(tmp_path: Path) -> None:
    folder = forged.comparison(tmp_path, {("a", 0): {"noise": 26.0, "rain": 25.0}})
    (run,) = (tmp_path / "store").iterdir()
    lines = ["suite,block,task,line,level,image,answer,psnr,psnr_input"]
    for image, gain in (("x", 1.0), ("y", -3.0)):
        lines += [f"severity,beyond,noise,severity 4,4,{image},none,{20 + gain},20",
                  f"severity,beyond,noise,severity 5,5,{image},none,{24 + gain},20",
                  f"severity,inside,noise,severity 3,3,{image},none,27,20",
                  f"composite,zero-shot,haze_noise,double,,{image},chain:rounds=2,{20 + gain},20"]  # fmt: skip
    (run / "suites.csv").write_text("\n".join(lines) + "\n")
    found = {(row.label, row.task, row.measure): row.value for row in rows_of(folder) if "/" in row.measure}
    assert found == {
        ("a", "noise", "gain/severity/beyond"): (-1.0 + 3.0) / 2, ("a", "noise", "harm/severity/beyond"): 0.25,
        ("a", "noise", "gain/severity/inside"): 7.0, ("a", "noise", "harm/severity/inside"): 0.0,
        ("a+chain:rounds=2", "haze_noise", "gain/composite"): -1.0,
        ("a+chain:rounds=2", "haze_noise", "harm/composite"): 0.5,
    }  # fmt: skip


def test_the_agreement_of_groups_is_hubert_and_arabies() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    one = dict(zip("abcdef", [0, 0, 1, 1, 2, 2], strict=True))
    for order in list(itertools.permutations([0, 0, 1, 1, 1, 2]))[::97]:
        expected = sklearn.adjusted_rand_score(list(one.values()), order)
        assert adjusted_rand(one, dict(zip("abcdef", order, strict=True))) == pytest.approx(expected, abs=1e-12)
    assert adjusted_rand(one, one) == 1 and np.isnan(adjusted_rand(dict.fromkeys("ab", 0), dict.fromkeys("ab", 0)))


# ------------------------------------------------------------------------------------------------ the page itself


def test_the_page_is_made_of_the_stored_files() -> None:
    expected = page_of(DOCS / "claims")
    assert (DOCS / "claims.md").read_text() == expected, "python -m cmtl_ir.analysis.claims > docs/claims.md"


def test_listed_claims_name_papers_commands_and_strategies_that_exist() -> None:
    papers = set(re.findall(r"@\w+\{(\w+),", (DOCS.parent / "cmtl_ir" / "papers.bib").read_text()))
    shipped = reading.shipped_experiments()
    for one in read_claims(DOCS / "claims" / "claims.yaml"):
        assert one.source in papers | {"ours"}, one.source
        known = {"original"}
        for raw in [reading.read_raw(shipped[word]) for word in one.command.split() if word in shipped]:
            labels = {label for label, strategy in raw["strategies"].items() if strategy is not None}
            known |= labels | set(raw.get("unlearning", {}).get("methods", {}))
            known |= {f"{label}_tuned" for label in raw.get("tune", {}).get("strategies", [])}
            adapters = ["self_ensemble", *raw.get("evaluation", {}).get("adapt", [])]
            known |= {f"{label}+{adapter}" for label in labels for adapter in adapters}
        assert {one.label, one.against} - {0.0} <= known, one


def numbers(label: str, seed: int, noise: float, rain: float, **whole: float) -> list[Row]:
    """The scores of a run over inputs of 18 and 20 dB, and measures of the run as a whole."""
    per_task = {
        ("noise", "psnr"): noise,
        ("rain", "psnr"): rain,
        ("noise", "psnr_input"): 18.0,
        ("rain", "psnr_input"): 20.0,
    }
    rows = [Row(label, seed, f"{label}{seed}", task, measure, value) for (task, measure), value in per_task.items()]
    return [*rows, *(Row(label, seed, f"{label}{seed}", "", measure, value) for measure, value in whole.items())]


def test_the_table_of_a_study_has_paired_differences_tasks_below_their_input_and_the_time() -> None:
    rows = [
        *numbers("joint", 0, 24.0, 22.0, cpu_seconds=1800.0), *numbers("joint", 1, 25.0, 23.0, cpu_seconds=1800.0),
        *numbers("later", 0, 25.0, 19.0, forgetting=1.5), *numbers("later", 1, 26.0, 19.0, forgetting=1.5),
    ]  # fmt: skip
    lines = table("made_up", Results(rows), "joint").splitlines()
    assert lines[4] == "| (degraded input) | 19.00 |  | 18.00 | 20.00 |  |  |  |  |"
    assert lines[5].startswith("| **joint** | 23.50 ± 6.35 |  | 24.50 | 22.50 | 0 |  | 2 | 1800 |")  # t(1) = 12.7062
    assert lines[6] == "| later | 22.25 ± 3.18 | -1.25 ± 3.18 | 25.50 | 19.00 | 1 | 1.50 ± 0.00 | 2 |  |"
    assert lines[-1] == "2 runs, 1.0 hours of processor time."


def test_tables_take_joint_or_what_the_claims_compare_with_as_baseline_and_need_scores() -> None:
    made = [claim(), claim(against="c"), claim(against="c")]
    one = Results([*numbers("a", 0, 24.0, 22.0), *numbers("b", 0, 24.0, 22.0), *numbers("c", 0, 24.0, 22.0)])
    assert baseline(made, "made_up", one) == "c" and baseline(made, "another", one) is None
    assert baseline(made, "made_up", Results(numbers("joint", 0, 24.0, 22.0))) == "joint"
    assert tables(made, {"made_up": Results([Row("a", 0, "a0", "", "forgetting", 1.0)])}) == ""
