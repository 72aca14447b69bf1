"""What a comparison leaves to look at: the table, the forgetting curves, the restored samples."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from cmtl_ir.runs.plan import Comparison

from .data.frames import Frames
from .data.study import Study
from .figures.curves import forgetting_curves
from .figures.strips import restored_strips


def leave_figures_and_tables(comparison: Comparison) -> list[Path]:
    """Write table.csv, table.md, forgetting.png/.pdf and restored.png/.pdf of the finished runs; returns the files."""
    results = comparison.results()
    if not results:
        return []
    folder = comparison.folder
    files = [_csv(folder / "table.csv", results), _markdown(folder / "table.md", results)]
    study = Study.of(Frames.of_folder(folder))
    files += forgetting_curves(study, folder / "forgetting")
    files += restored_strips(study, folder / "restored")
    return files


def _rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for result in results:
        row: dict[str, Any] = {"strategy": result["label"], "seed": result["seed"], "run": result["hash"]}
        for task, psnr in result["psnr"].items():
            row |= {f"psnr/{task}": psnr, f"ssim/{task}": result["ssim"][task]}
        row["psnr/mean"] = sum(result["psnr"].values()) / len(result["psnr"])
        row["forgetting_db/mean"] = result["continual"]["mean_forgetting_db"]
        row |= {"steps": result["steps"], "parameters": result["parameters"]}
        rows.append(row)
    return rows


def _csv(path: Path, results: list[dict[str, Any]]) -> Path:
    rows = _rows(results)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _markdown(path: Path, results: list[dict[str, Any]]) -> Path:
    tasks = list(results[0]["psnr"])
    lines = [
        "| strategy | seed | " + " | ".join(tasks) + " | mean | forgetting dB |",
        "|---|---|" + "---|" * (len(tasks) + 2),
    ]
    first = results[0]
    lines.append(_line("(degraded input)", "", first["psnr_input"], first["ssim_input"], None))
    lines += [
        _line(one["label"], one["seed"], one["psnr"], one["ssim"], one["continual"]["mean_forgetting_db"])
        for one in results
    ]
    path.write_text("PSNR dB / SSIM\n\n" + "\n".join(lines) + "\n")
    return path


def _line(label: str, seed: Any, psnr: dict[str, float], ssim: dict[str, float], forgetting: float | None) -> str:
    cells = [f"{psnr[task]:.2f} / {ssim[task]:.4f}" for task in psnr]
    mean = sum(psnr.values()) / len(psnr)
    forgotten = "" if forgetting is None else f"{forgetting:.2f}"
    return f"| {label} | {seed} | " + " | ".join(cells) + f" | {mean:.2f} | {forgotten} |"
