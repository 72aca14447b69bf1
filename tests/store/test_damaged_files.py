"""A damaged or missing file is named with the way out, and what does not need it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cmtl_ir.base.errors import UserError
from cmtl_ir.store import folder, listing, lookup
from cmtl_ir.store.layout import RUNS, WEIGHTS, run_folder
from tests import tiny

ROWS = [{"label": "joint", "seed": 0, "hash": "abc"}]
DAMAGES = {
    "empty": "",
    "cut short": '[{"label": "joint", "se',
    "zeros": "\0" * 64,
    "of another kind": '{"label": "joint"}',
    "without hashes": '[{"label": "joint", "seed": 0}]',
    "no text": b"\xff\xfe\xfa",
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with the comparisons `quick` and `other` of one finished run."""
    run = run_folder(tmp_path, "abc")
    run.mkdir(parents=True)
    folder.write_result(run, {"psnr": {"rain": 20.0}})
    (run / WEIGHTS).touch()
    for name in ("quick", "other"):
        (tmp_path / name).mkdir()
        listing.list_runs(tmp_path / name, ROWS)
    return tmp_path


def damage(file: Path, content: str | bytes) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("kind", [pytest.param(one, marks=pytest.mark.error(f"runs.json: {one}")) for one in DAMAGES])
def test_a_damaged_list_of_runs_is_named_and_blocks_nothing_else(
    kind: str, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = out / "quick" / RUNS
    damage(file, DAMAGES[kind])
    uses: list[Callable[[], object]] = [
        lambda: listing.listed_runs(out / "quick"),
        lambda: listing.list_runs(out / "quick", ROWS),
    ]
    for use in uses:
        with pytest.raises(UserError, match=f"{file} is damaged: move it away .*give the experiment's command again"):
            use()
    assert lookup.find_run("other/joint", out) == run_folder(out, "abc")
    assert str(file) in caplog.text and "is damaged" in caplog.text


def test_fresh_sets_a_damaged_list_aside(out: Path) -> None:
    file = out / "quick" / RUNS
    damage(file, "")
    listing.list_runs(out / "quick", ROWS, fresh=True)
    assert listing.listed_runs(out / "quick") == ROWS
    assert [one.read_text() for one in file.parent.glob(f"{RUNS}.before-*")] == [""]


@pytest.mark.error("experiment.yaml: damaged")
@pytest.mark.parametrize("content", ["", "tasks: [", "name: quick\ntasks: {}\n", "\0\0\0"])
def test_a_damaged_experiment_is_named_and_fresh_replaces_it(content: str, tmp_path: Path) -> None:
    resolved = tiny.experiment().resolved()
    file = listing.claim_folder(resolved, tmp_path) / "experiment.yaml"
    whole = file.read_text()
    damage(file, content)
    with pytest.raises(UserError, match=r"tiny/experiment\.yaml is damaged .*move it away .*the same command"):
        listing.claim_folder(resolved, tmp_path)
    listing.claim_folder(resolved, tmp_path, fresh=True)
    assert file.read_text() == whole


@pytest.mark.error("result.json: damaged")
def test_a_damaged_result_is_named(out: Path) -> None:
    run = run_folder(out, "abc")
    damage(run / "result.json", json.dumps({"psnr": 1.0})[:-3])
    with pytest.raises(UserError, match=r"abc/result\.json is damaged .*copy it from a backup, or delete it"):
        folder.read_result(run)


@pytest.mark.error("run: weights are missing")
def test_a_finished_run_without_its_network_is_named_with_the_way_out(out: Path) -> None:
    run = run_folder(out, "abc")
    (run / WEIGHTS).unlink()
    assert folder.has_result(run) and not folder.is_finished(run)
    for name in ("quick/joint", "quick/joint/0", "abc", str(run)):
        with pytest.raises(UserError, match=r"abc is finished, but weights\.safetensors is missing: copy it .*or give"):
            lookup.find_run(name, out)


def test_a_grouped_run_is_finished_with_all_its_networks(out: Path) -> None:
    grouped = run_folder(out, "def")
    grouped.mkdir()
    folder.write_groups(grouped, {"groups": [{"run": "abc"}]})
    folder.write_result(grouped, {})
    assert folder.is_finished(grouped)
    (run_folder(out, "abc") / WEIGHTS).unlink()
    assert not folder.is_finished(grouped)
