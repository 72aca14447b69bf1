"""Files written at the end of a comparison: the table of runs, the forgetting curves and the restored samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.base import escaping
from cmtl_ir.base.escaping import csv_text, markdown_paragraph
from cmtl_ir.base.files import write_whole
from cmtl_ir.measures.curve import continual_of, scales_in
from cmtl_ir.measures.scale import DEFAULT, PSNR, Scale
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.runs.two_stage import Scores, SeedPlan, seed_scores

from .data.frames import Frames
from .data.study import Study
from .figures.curves import forgetting_curves
from .figures.strips import restored_strips
from .tables.formats import Table, comma_separated, markdown, table_name
from .tables.runs import groups_of, mean, runs_table
from .tables.two_stage import two_stage_table


def leave_figures_and_tables(comparison: Comparison, plan: SeedPlan | None = None) -> list[Path]:
    """Write table.csv, table.md, forgetting.png/.pdf and restored.png/.pdf of the finished runs. Return the files.

    `plan`: plan of a two-stage comparison, which adds two_stage.csv and two_stage.md, or `None` for another one.
    """
    results = comparison.results()
    if not results:
        return []
    folder, scales = comparison.folder, scales_in(results)
    files = [_csv(folder / "table.csv", results, scales), _markdown(folder / "table.md", results, scales)]
    files += _two_stage(folder, plan, seed_scores(comparison.runs)) if plan is not None else []
    study = Study.of(Frames.of_folder(folder))
    for scale in scales if scales != DEFAULT else (PSNR,):
        files += forgetting_curves(study, folder / table_name("forgetting", scale), scale)
    files += restored_strips(study, folder / "restored")
    return files


def _two_stage(folder: Path, plan: SeedPlan, scores: Scores) -> list[Path]:
    table = two_stage_table(plan, scores)
    if table is None:
        return []
    written = {"csv": comma_separated(table), "md": markdown(table)}
    for suffix, text in written.items():
        (folder / f"{table.name}.{suffix}").write_text(text)
    return [folder / f"{table.name}.{suffix}" for suffix in written]


def _row(result: dict[str, Any], scales: Sequence[Scale]) -> dict[str, Any]:
    row: dict[str, Any] = {"strategy": result["label"], "seed": result["seed"], "run": result["hash"]}
    for task in result[PSNR.name]:
        row |= {f"{scale.name}/{task}": result.get(scale.name, {}).get(task) for scale in scales}
    row["psnr/mean"] = mean(result[PSNR.name])
    row["forgetting_db/mean"] = result["continual"]["mean_forgetting_db"]
    for scale in (one for one in scales if one not in DEFAULT):
        row[f"{scale.name}/mean"] = mean(result[scale.name]) if scale.name in result else None
        row[f"forgetting_{scale.name}/mean"] = continual_of(result, scale)["mean_forgetting_db"]
    return row | {"steps": result["steps"], "parameters": result["parameters"]}


def _csv(path: Path, results: list[dict[str, Any]], scales: Sequence[Scale]) -> Path:
    rows = [_row(result, scales) for result in results]
    return write_whole(path, csv_text([list(rows[0]), *(list(row.values()) for row in rows)]))


def _markdown(path: Path, results: list[dict[str, Any]], scales: Sequence[Scale]) -> Path:
    tasks = list(results[0][PSNR.name])
    return write_whole(path, "\n".join(_text(runs_table(results, tasks, together)) for together in groups_of(scales)))


def _text(table: Table) -> str:
    lines = [f"| {' | '.join(map(escaping.markdown, table.headings))} |", "|" + "---|" * len(table.headings)]
    lines += [f"| {' | '.join(escaping.markdown(cell.text) for cell in row)} |" for row in table.rows]
    return f"{markdown_paragraph(table.title)}\n\n" + "\n".join(lines) + "\n"
