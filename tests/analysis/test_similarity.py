"""Claims about similarity matrices: what is written is what was measured, and groups are shown where they follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cmtl_ir.analysis import similarity
from cmtl_ir.strategy.grouping import Group, Matrix

TASKS = ("noise", "rain", "haze", "blur")
COSINES = np.array([[1.0, 0.6, -0.2, np.nan], [0.6, 1.0, 0.1, 0.3], [-0.2, 0.1, 1.0, 0.4], [np.nan, 0.3, 0.4, 1.0]])
DISTANCES = np.array([[0.0, 1.0, 5.0, 2.0], [1.0, 0.0, 4.0, 3.0], [5.0, 4.0, 0.0, 2.5], [2.0, 3.0, 2.5, 0.0]])
MATRICES = {
    "conflict": Matrix("gradient cosine", TASKS, COSINES, "cosine"),
    "grids": Matrix("distance", TASKS, DISTANCES, "KL", similar_is_high=False),
}
GROUPS = {"conflict": [Group(("noise", "rain"), ("noise", "rain")), Group(("haze", "blur", "rain"), ("haze", "blur"))]}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("similar")
    return {file.suffix: file for file in similarity.leave_similarity(MATRICES, folder, ["a note"], GROUPS)}


def test_the_csv_holds_every_entry(files: dict[str, Path]) -> None:
    read = pd.read_csv(files[".csv"])
    own = read[read.measure == "grids"].pivot(index="row", columns="column", values="value")
    assert (own.loc[list(TASKS), list(TASKS)].to_numpy() == DISTANCES).all()


def test_the_text_names_the_groups_and_who_only_helps(files: dict[str, Path]) -> None:
    text = files[".md"].read_text()
    assert text.count("Groups: ") == 1 and "Groups: noise + rain | haze + blur + (rain)" in text and "- a note" in text


def test_in_a_task_s_row_those_that_train_with_it_are_framed(files: dict[str, Path], tmp_path: Path) -> None:
    """noise with rain and haze with blur on both sides of the diagonal; rain, which only helps, in the others' rows."""
    bare = similarity.heatmaps(MATRICES, tmp_path / "bare")
    count = [file.read_text().lower().count("stroke: #d55e00") for file in (files[".svg"], bare[2])]
    assert count == [6, 0]


def test_no_group_is_shown_of_a_measure_without_a_measurable_pair(tmp_path: Path) -> None:
    lost = Matrix("gradient cosine", TASKS, np.where(np.eye(4, dtype=bool), 1.0, np.nan), "cosine")
    made = {file.suffix: file for file in similarity.leave_similarity({"conflict": lost}, tmp_path, groups=GROUPS)}
    text, drawn = made[".md"].read_text(), made[".svg"].read_text().lower()
    assert "Groups:" not in text and "No pair of tasks was measurable" in text
    assert "stroke: #d55e00" not in drawn and "<!-- no pair was measurable -->" in drawn


def test_agreement_is_spearmans_over_the_pairs_that_both_measured() -> None:
    """High is similar in one and low in the other; noise with blur was not measurable."""
    cosines, distances = [0.6, -0.2, 0.1, 0.3, 0.4], [1.0, 5.0, 4.0, 3.0, 2.5]
    expected = -stats.spearmanr(cosines, distances).statistic
    assert similarity.agreement(*MATRICES.values()) == pytest.approx(expected) and expected > 0.8
    few = Matrix("two tasks", TASKS[:2], COSINES[:2, :2], "")
    assert np.isnan(similarity.agreement(few, few))
