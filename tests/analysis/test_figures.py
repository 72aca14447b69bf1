"""Claims about figures: what is drawn is what was logged, and a strategy looks the same everywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skimage import io as images

from cmtl_ir.analysis.data.columns import COLUMNS
from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.analysis.figures import bars, captions, curves, fonts, matrices, stages, strips, style, weights
from cmtl_ir.analysis.figures import conflict as conflict_figures
from cmtl_ir.analysis.tables import conflict as conflict_table
from cmtl_ir.analysis.tables import formats
from cmtl_ir.base import yaml
from cmtl_ir.measures.scale import PSNR
from cmtl_ir.measures.statistics import ratio_of_sums
from tests.analysis import forged, invented


@pytest.fixture(scope="module")
def study(trained: Path) -> Study:
    return Study.of(Frames.of_folder(trained))


@pytest.fixture(scope="module")
def raw(trained: Path) -> pd.DataFrame:
    """conflict.csv of pcgrad, seed 0, read by pandas alone."""
    rows = pd.read_json(trained / "runs.json", dtype=False)
    run = rows[(rows.label == "pcgrad") & (rows.seed.astype(int) == 0)].hash.item()
    return pd.read_csv(trained.parent / "store" / run / "conflict.csv")


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_of_a_frame_is_explained(study: Study, name: str) -> None:
    frame = getattr(study.frames, name)
    assert list(frame.columns) == list(COLUMNS[name]) and len(frame) > 0


def test_forgetting_curves_end_in_what_the_matrix_r_says(study: Study) -> None:
    """Best evaluation before the end minus the end; at stage ends alone that is R's forgetting."""
    table = curves.forgetting_table(study)
    own = study.frames.curves[(study.frames.curves["label"] == "sequential") & (study.frames.curves["seed"] == 0)]
    scores = own.pivot_table(index="step", columns="task", values="psnr")
    last = scores.index.max()
    for task in ("noise", "rain"):
        assert table.loc[("sequential", task, last), 0] == pytest.approx(
            scores[task][:-1].max() - scores[task].iloc[-1]
        )


def test_forgetting_at_stage_ends_is_rs(tmp_path: Path) -> None:
    stages = {"sequential": [{"noise": 27.5, "rain": 17.0}, {"noise": 21.0, "rain": 26.0}]}
    final = {("joint", 0): {"noise": 27.0, "rain": 25.0}, ("sequential", 0): {"noise": 21.0, "rain": 26.0}}
    study = Study.of(Frames.of_folder(forged.comparison(tmp_path, final, stages=stages)))
    table = curves.forgetting_table(study)
    assert list(table.index) == [("sequential", "noise", 60)]  # rain was learnt last, joint has one point
    assert (
        table.iloc[0, 0]
        == pytest.approx(6.5)
        == pytest.approx(study.measures.set_index("label").forgetting["sequential"])
    )


def test_a_task_is_not_forgotten_before_it_was_learnt(study: Study) -> None:
    table = curves.forgetting_table(study)
    haze = table.loc[[key for key in table.index if key[:2] == ("sequential", "haze")]]
    ends = sorted(study.frames.matrices[study.frames.matrices["label"] == "sequential"]["step"].unique())
    assert all(step > ends[-2] for _, _, step in haze.index)


def test_the_conflict_rate_is_the_share_of_pairs_with_opposed_gradients(study: Study, raw: pd.DataFrame) -> None:
    pairs = raw[raw.row_a != raw.row_b]
    expected = pairs.groupby("step").cosine.agg(lambda cosines: (cosines < 0).sum() / cosines.notna().sum())
    shown = conflict_table.conflict_rate(study.frames.conflict)["pcgrad"][0].dropna()
    assert shown.to_dict() == pytest.approx(expected.to_dict())


def test_a_strategy_s_rates_are_means_over_its_logged_steps(trained: Path, raw: pd.DataFrame) -> None:
    frames = Frames.of_folder(trained)
    frames.conflict_blocks = frames.conflict_blocks[frames.conflict_blocks["seed"] == 0]
    table = conflict_table.rates_table(Study.of(frames))
    assert table is not None
    found = next(row for row in table.rows if row[0].text == "pcgrad")
    pairs, moved = raw[raw.row_a != raw.row_b].dropna(subset="cosine"), raw.dropna(subset="displacement")
    moved = moved[moved.row_a == moved.row_b]
    assert found[2].value == pytest.approx((pairs.cosine < 0).groupby(pairs.step).mean().mean())
    assert found[3].value == pytest.approx((moved.displacement > 0).groupby(moved.step).mean().mean())
    cosines = pairs.groupby(["row_a", "row_b"]).cosine.mean()
    assert found[4].value == pytest.approx(cosines.min()) and " – ".join(cosines.idxmin()) in found[4].text


def test_the_heat_map_shows_the_mean_of_a_window_symmetrically(study: Study, raw: pd.DataFrame) -> None:
    frame = study.frames.conflict
    own = frame[(frame["label"] == "pcgrad") & (frame["seed"] == 0)]
    shown = conflict_table.mean_cosines(own[own["step"].between(4, 8)])
    pair = raw[(raw.row_a == "haze") & (raw.row_b == "noise") & raw.step.isin([4, 8])]
    assert shown.loc["haze", "noise"] == shown.loc["noise", "haze"] == pytest.approx(np.mean(pair.cosine))
    assert np.isnan(np.diag(shown)).all()


def test_windows_of_steps_can_be_chosen(trained: Path, tmp_path: Path) -> None:
    study = Study.of(Frames.of_folder(trained), conflict_at=[(0, 0), (4, 8)])
    text = conflict_figures.conflict_heatmaps(study, tmp_path / "conflict")[2].read_text()
    assert "<!-- step 0 -->" in text and "<!-- steps 4–8 -->" in text and "<!-- steps 0–" not in text


def test_blocks_are_told_apart_from_the_whole_network() -> None:
    """Two steps of one pair, and of it in a block; a row with itself is no pair."""
    cosines = [("", 0.5), ("", -0.1), ("encoder", -0.4), ("encoder", -0.2)]
    rows = [{"label": "joint", "block": block, "row_a": "a", "row_b": "b", "cosine": one} for block, one in cosines]
    rows.append({"label": "joint", "block": "encoder", "row_a": "a", "row_b": "a", "cosine": 1.0})
    found = conflict_table.of_blocks(pd.DataFrame(rows))
    assert found.loc["joint", ""].tolist() == pytest.approx([0.2, 0.5])
    assert found.loc["joint", "encoder"].tolist() == pytest.approx([-0.3, 1.0])


def test_no_block_was_logged_so_there_is_no_table_of_blocks(study: Study) -> None:
    assert conflict_table.blocks_table(study) is None and len(study.frames.conflict) > 0


def test_the_corrected_cosine_pools_the_halves(study: Study) -> None:
    """Many steps of two rows whose halves agree: the ratio of sums, and its interval never leaves [-1, 1]."""
    rng = np.random.default_rng(0)
    steps = np.arange(40)
    series = {
        ("a", "b"): 0.9 + 0.8 * rng.normal(size=40),
        ("a", "a"): 1 + 0.2 * rng.normal(size=40),
        ("b", "b"): np.ones(40),
    }
    rows = [
        {"seed": 0, "step": step, "row_a": a, "row_b": b, "crossed": values[step], "cosine": 0.1}
        for (a, b), values in series.items() for step in steps
    ]  # fmt: skip
    found = conflict_table.corrected(pd.DataFrame(rows), "a", "b")
    expected = ratio_of_sums(series["a", "b"], series["a", "a"], series["b", "b"])
    assert found == expected and found.high > 1 > found.estimate
    assert conflict_table.corrected_cell(found).high == 1.0
    opposed = [{**row, "crossed": 1.6 * row["crossed"]} if row["row_b"] != row["row_a"] else row for row in rows]
    beyond = conflict_table.corrected(pd.DataFrame(opposed), "a", "b")
    assert ratio_of_sums(*(1.6 * series["a", "b"], series["a", "a"], series["b", "b"])).estimate > 1
    assert conflict_table.corrected_cell(beyond).text == "not measurable"
    lost = conflict_table.corrected(pd.DataFrame([{**row, "crossed": 0.0} for row in rows]), "a", "b")
    assert conflict_table.corrected_cell(lost).text == "not measurable"


def test_every_figure_is_drawn_in_three_formats_with_a_caption(study: Study, tmp_path: Path) -> None:
    made = captions.draw(study, tmp_path)
    own = list(captions.of_metric(PSNR))
    common = [name for name in captions.DRAWN if name != "severity"]  # no run was scored on suites
    assert [one.name for one in made] == [*own, *common, *(f"{name}_ssim" for name in own)]
    for one in made:
        assert one.caption.endswith(".") and {file.suffix for file in one.files} == {".png", ".pdf", ".svg"}
        assert all(file.stat().st_size > 1000 for file in one.files)
    again = matrices.matrix_heatmaps(study, tmp_path / "again")
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in made[3].files]


def test_seeds_are_averaged_in_a_matrix_only_where_they_went_through_the_same_stages() -> None:
    rows = [
        {"label": "random", "seed": seed, "stage": stage, "stage_name": name, "task": task, "psnr": 20.0 + seed}
        for seed, order in enumerate([("noise", "rain"), ("rain", "noise"), ("noise", "rain")])
        for stage, name in enumerate(order)
        for task in ("noise", "rain")
    ]
    frame = pd.DataFrame(rows)
    found = matrices.same_stages(frame, "random")
    assert list(found) == ["random, seed 0, 2", "random, seed 1"]
    assert sorted(set(found["random, seed 0, 2"]["seed"])) == [0, 2]
    assert list(matrices.same_stages(frame[frame["seed"] != 1], "random")) == ["random"]


def test_many_matrices_stand_below_one_another(tmp_path: Path) -> None:
    finals = {(f"sequential{number}", 0): {"noise": 20.0, "rain": 30.0} for number in range(12)}
    stages = {label: [{"noise": 28.0, "rain": 19.0}, {"noise": 20.0, "rain": 30.0}] for label, _ in finals}
    study = Study.of(Frames.of_folder(forged.comparison(tmp_path, finals, stages=stages)))
    drawn = matrices.matrix_heatmaps(study, tmp_path / "matrices")[0]
    height, width = images.imread(drawn).shape[:2]
    assert width < 150 * 16 and height > 150 * 3


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three strategies on 16 tasks, of which the last one trained them in another order under every seed."""
    home = tmp_path_factory.mktemp("long")
    tasks = [f"task_{place:02d}" for place in range(16)]
    return Study.of(Frames.of_folder(invented.comparison(home, 3, range(5), tasks)))


def test_a_legend_of_many_names_does_not_squeeze_a_single_panel(long: Study, tmp_path: Path) -> None:
    drawn = images.imread(weights.weight_trajectories(long, tmp_path / "weights")[0])
    assert drawn.shape[1] > 150 * 5  # the legend is to the right; matplotlib's warnings are errors here


def test_many_large_matrices_have_small_cells(long: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six matrices with 256 numbers each would be 46 inches high."""
    figures = list[Any]()
    monkeypatch.setattr(matrices, "save", lambda figure, path: figures.append(figure) or [path])
    monkeypatch.setattr(matrices, "MOST", 5)
    matrices.matrix_heatmaps(long, tmp_path / "matrices")
    (figure,) = figures
    assert figure.get_size_inches().max() < 16 and not any(axis.texts for axis in figure.axes)
    assert figure.get_suptitle() == "the first 5 of 6 matrices"
    style.pyplot().close(figure)


def test_a_strategy_keeps_its_look_whatever_else_is_finished() -> None:
    """Of 30 strategies, no two share colour and marker (a point), nor dashes and marker (a line in grey)."""
    names = [f"strategy{number}" for number in range(30)]
    looks = list(style.looks(names).values())
    for shared in (("color", "marker"), ("linestyle", "marker"), ("color", "linestyle")):
        assert len({tuple(str(look[part]) for part in shared) for look in looks}) == 30
    assert style.looks(names)["strategy7"] == style.looks(names[:9])["strategy7"]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invented.comparison(tmp_path_factory.mktemp("made_up"), 4, [0, 1], ("noise", "rain", "haze"))


def test_stages_are_named_and_seeds_of_other_orders_are_not_averaged(made_up: Path, tmp_path: Path) -> None:
    study = Study.of(Frames.of_folder(made_up))
    found = {one.title: [name for _, name in one.ends] for one in stages.schedules(study)}
    assert found["strategy01"] == ["noise", "rain", "haze"] and found["strategy00"] == ["joint"]
    assert {"strategy02, seed 0", "strategy02, seed 1"} <= set(found)
    text = curves.score_curves(study, tmp_path / "curves")[2].read_text()
    drawn = ["stages", "mean over 3 tasks", "strategy02, seed 1", "noise", "rain", "haze"]
    assert all(f"<!-- {one} -->" in text for one in drawn)
    # evaluated once: named beside its point in each of the three panels, at the end of the mean, and in the legend
    assert text.count("strategy03 -->") == 5


def test_weights_that_only_count_samples_are_not_drawn_nor_are_unfinished_seeds(made_up: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(made_up.parent, tmp_path / "copied")) / made_up.name
    table = weights.trajectories(Study.of(Frames.of_folder(copied)))
    assert {key: list(one.columns) for key, one in table.items()} == {("strategy01", "weight"): [0, 1]}
    run = next(row["hash"] for row in json.loads((copied / "runs.json").read_text()) if row["label"] == "strategy01")
    (copied.parent / "store" / run / "result.json").unlink()  # of seed 0
    assert list(weights.trajectories(Study.of(Frames.of_folder(copied)))["strategy01", "weight"].columns) == [1]


def test_values_are_printed_and_two_seeds_are_points(made_up: Path, tmp_path: Path) -> None:
    study = Study.of(Frames.of_folder(made_up))
    text = bars.gain_bars(study, tmp_path / "gains")[2].read_text()
    means = study.measures.groupby("label")["gain"].mean()
    assert all(f"<!-- {gain:+.2f} -->" in text for gain in means) and "LineCollection" not in text
    assert conflict_figures.without_rates(study) == "No conflict was logged of: strategy00."


def test_a_script_without_a_font_is_spelled_out_and_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(fonts, "_others_installed", dict)
    fonts.font_of.cache_clear()
    for name in ("one", "two"):
        with style.house() as plots:
            figure, axis = plots.subplots()
            axis.set(title="雨 and Ωδ", yticks=[0, 1], yticklabels=["ノイズ", "b"])
            text = style.save(figure, tmp_path / name)[2].read_text()
        assert r"<!-- \u96e8 and Ωδ -->" in text and r"<!-- \u30ce\u30a4\u30ba -->" in text
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "figures: no installed font has the characters of CJK, KATAKANA"
    ]
    fonts.font_of.cache_clear()


def test_figures_without_data_are_left_out(tmp_path: Path) -> None:
    study = Study.of(Frames.of_folder(forged.comparison(tmp_path, {("joint", 0): {"noise": 27.0, "rain": 25.0}})))
    drawn = [one.name for one in captions.draw(study, tmp_path / "figures")]
    # one evaluation: nothing can have been forgotten
    assert drawn == ["curves", "gains", "curves_ssim", "gains_ssim"]


def test_constant_weights_are_not_drawn(study: Study) -> None:
    assert set(weights.trajectories(study)) == {("pcgrad", "surgery")}


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({"a": (1.0, 20.0), "b": (2.0, 21.0), "c": (3.0, 20.5)}, ["a", "b"]),
        ({"a": (1.0, 20.0), "b": (1.0, 21.0)}, ["b"]),
        ({"a": (1.0, 20.0)}, ["a"]),
    ],
)
def test_the_pareto_front_is_what_no_other_beats_in_both(
    points: dict[str, tuple[float, float]], front: list[str]
) -> None:
    assert bars.undominated(points) == front


def test_the_crop_lies_where_the_strategies_differ_and_there_is_something_to_see() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((200, 300, 3), 128, np.uint8)
    clean[100:164, 200:264] = rng.integers(0, 255, (64, 64, 3))
    one, other = clean.copy(), clean.copy()
    other[100:164, 200:264] //= 2
    top, left, side = strips.most_telling([one, other], clean)
    assert side == 64 and abs(top - 100) <= 2 and abs(left - 200) <= 2


def test_tables_are_written_for_latex_and_markdown() -> None:
    cells = [formats.Cell("a_b & 5%"), formats.Cell("-1.25 ± 0.10", -1.25, style="better"), formats.NOTHING]
    table = formats.Table("t", "A title", ["strategy", "dB", "x"], [cells], ["σ < 3."])
    latex = formats.latex(table)
    assert r"a\_b \& 5\% & \textbf{$-$1.25 $\pm$ 0.10} & -- \\" in latex
    assert r"\toprule" in latex and r"\caption{A title. $\sigma$ $<$ 3.}" in latex
    assert "| a_b & 5% | **-1.25 ± 0.10** | – |" in formats.markdown(table)


def test_the_figures_of_the_run_command_are_those_of_the_report(trained: Path, study: Study, tmp_path: Path) -> None:
    from cmtl_ir.analysis.comparison import leave_figures_and_tables
    from cmtl_ir.runs import comparison
    from tests import tiny
    from tests.analysis.conftest import STRATEGIES

    made = comparison.run(tiny.experiment(STRATEGIES, seeds=[0, 1]), trained.parent, "cpu")  # all finished
    files = leave_figures_and_tables(made)
    assert {file.name for file in files} >= {"table.csv", "table.md", "forgetting.png", "restored.png"}
    drawn = curves.forgetting_curves(study, tmp_path / "forgetting")
    assert (trained / "forgetting.png").read_bytes() == drawn[0].read_bytes()
    assert yaml.read(trained / "experiment.yaml")["seeds"] == [0, 1]
