"""The report of a comparison: an HTML page, a Markdown text, and separate files of every table and figure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cmtl_ir.base import escaping, yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import write_whole
from cmtl_ir.base.version import __version__
from cmtl_ir.config.progressive import batch_in_words
from cmtl_ir.config.start import OUTSIDE

from .data import fairness, sources
from .data.frames import Frames
from .data.study import Study
from .figures import captions
from .figures.captions import Figure
from .summary import summary
from .tables import formats, scores, suites
from .tables.formats import Cell, Table, number

Format = Literal["md", "html", "all"]
LONG = 60
"""Maximum number of lines of a table in report.md. A longer table is linked there, and scrolls in report.html."""
EMBEDDED = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Report:
    """Files of a written report, with its summary and warnings."""

    pages: list[Path]
    folder: Path
    figures: list[Figure]
    summary: list[str]
    warnings: list[str]
    logged: str


def write(
    frames: Frames,
    folder: Path,
    kind: Format = "all",
    baseline: str | None = None,
    log_to: str | None = None,
    conflict_at: Sequence[tuple[int, int]] = (),
) -> Report:
    """Write tables and figures into a folder, and report.md, report.html or both. Log them to a tracking store.

    `conflict_at`: windows of steps (first, last) of the conflict heat-maps. If empty, training is cut into three.
    `log_to`: URI of the tracking store, or `None` to log nothing.
    Raise UserError if no run is finished, the baseline is unknown, or `conflict_at` is given and no run has a history
    of conflicts.
    """
    if conflict_at and frames.finished and frames.conflict_blocks.empty:
        raise UserError(f"--conflict-at: {_no_conflicts(frames)}")
    study = Study.of(frames, baseline, conflict_at)
    drawn = captions.draw(study, folder / "figures")
    made = scores.all_tables(study)
    _write_tables(made, folder / "tables")
    pages = []
    if kind in ("md", "all"):
        pages.append(_written(folder / "report.md", markdown(study, made, drawn)))
    if kind in ("html", "all"):
        pages.append(_written(folder / "report.html", page(study, made, drawn)))
    logged = ""
    if log_to is not None:
        files = [one.file(suffix) for one in drawn for suffix in (".png", ".pdf")]
        logged = sources.log_files(log_to, frames.name, {"report": pages, "report/figures": files})
    return Report(pages, folder, drawn, summary(study), [*study.reasons, *study.cautions, *study.missing], logged)


def _no_conflicts(frames: Frames) -> str:
    """Return why there is no history of conflicts, and the way out."""
    if all(OUTSIDE in frames.configs.get(one.run, {}).get("identity", {}) for one in frames.finished):
        return f"{frames.name} is an outside model, whose gradients were never logged; train it with conflict.every=10"
    return f"no run of {frames.name} has a history of conflicts; set conflict.every=10 and train again"


def windows(given: Sequence[str]) -> list[tuple[int, int]]:
    """Parse windows of steps as a user writes them: `400` or `100-300`. Raise UserError if one is malformed."""
    found = []
    for text in given:
        first, _, last = text.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()) or int(last or first) < int(first):
            raise UserError(f"--conflict-at {text!r}: a step, as in 400, or a span of steps, as in 100-300")
        found.append((int(first), int(last or first)))
    return found


def _written(path: Path, text: str) -> Path:
    return write_whole(path, text)


def _write_tables(made: Sequence[Table], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    writers = {"md": formats.markdown, "tex": formats.latex, "csv": formats.comma_separated}
    for table in made:
        for suffix, writer in writers.items():
            _written(folder / f"{table.name}.{suffix}", writer(table))


# ------------------------------------------------------------------------------------------------------- Markdown


def markdown(study: Study, made: Sequence[Table], drawn: Sequence[Figure]) -> str:
    """Return the text of report.md. Figures and long tables are linked relative to the folder of the report."""
    frames = study.frames
    parts = [f"# {escaping.markdown(frames.name)}"]
    parts += [f"- {escaping.markdown_paragraph(sentence)}" for sentence in summary(study)]
    parts += [f"> **Not ranked.** {escaping.markdown(reason)}" for reason in study.reasons]
    notes = [*study.cautions, *study.missing]
    parts += [f"> {escaping.markdown_paragraph(sentence, code=True)}" for sentence in notes]
    parts += [_short(table) for table in made]
    parts += [_shown(one) for one in drawn]
    parts += [formats.markdown(runs_table(study))]
    experiment = escaping.markdown_code(yaml.dump(frames.experiment), "yaml")
    parts += [f"### Experiment\n\n{experiment}"] if frames.experiment else []
    return _spaced(parts)


def _short(table: Table) -> str:
    """Return a table as Markdown, or a link to its file if it has more than `LONG` lines."""
    if len(table.rows) <= LONG:
        return formats.markdown(table)
    file = f"tables/{table.name}.md"
    return f"### {escaping.markdown_paragraph(table.title)}\n\n{len(table.rows)} lines: [{file}]({file}).\n"


def _shown(figure: Figure) -> str:
    """Return a figure as Markdown: title, image and caption."""
    title, caption = escaping.markdown(figure.title), escaping.markdown_paragraph(figure.caption)
    return f"### {title}\n\n![{title}](figures/{figure.name}.png)\n\n{caption}"


def _spaced(parts: Sequence[str]) -> str:
    """Join parts with blank lines, except between the items of one list."""
    text = ""
    for before, part in zip(["", *parts], parts, strict=False):
        joined = before.startswith("- ") and part.startswith("- ")
        text += ("\n" if joined else "\n\n" if text else "") + part.rstrip("\n")
    return text + "\n"


# ------------------------------------------------------------------------------------------------------- the page


def page(study: Study, made: Sequence[Table], drawn: Sequence[Figure]) -> str:
    """Return a self-contained HTML page. Figures are embedded, and no network is needed."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        name=study.frames.name,
        where=study.frames.source.where,
        version=__version__,
        baseline=study.baseline,
        facts=_facts(study),
        summary=summary(study),
        reasons=study.reasons,
        missing=[*study.cautions, *study.missing],
        tables={table.name: _prepared(table) for table in made},
        figures={one.name: _embedded(one) for one in drawn},
        beyond=[table.name for table in made if table.name.startswith(suites.PREFIX)],
        others=[(scale.name, scale.label) for scale in study.scales[1:]],
        runs=_prepared(runs_table(study)),
        experiment=yaml.dump(study.frames.experiment) if study.frames.experiment else "",
        environments=_environments(study.frames),
    )


def _prepared(table: Table) -> dict[str, Any]:
    """Return a table as the template reads it. Rows that belong to no strategy keep their place when sorted."""
    rows = [{"cells": row, "fixed": row[0].text.startswith("(")} for row in table.rows]
    places = range(len(table.headings))
    in_words = {i for i in places if i < table.words or all(row[i].value is None for row in table.rows)}
    texts = {"LaTeX": formats.latex(table), "CSV": formats.comma_separated(table)}
    return {"table": table, "rows": rows, "texts": texts, "words": in_words}


def _embedded(figure: Figure) -> dict[str, str]:
    file = figure.file(".png" if figure.name == "restored" else ".svg")
    content = base64.b64encode(file.read_bytes()).decode()
    return {"title": figure.title, "caption": figure.caption, "data": f"data:{EMBEDDED[file.suffix]};base64,{content}"}


def _facts(study: Study) -> dict[str, str]:
    """Return heading -> short description of what was compared."""
    experiment, frames = study.frames.experiment, study.frames
    seeds = sorted({one.seed for one in frames.finished})
    steps = sorted({frames.steps[one.run] for one in frames.finished if fairness.reference_task(frames, one) is None})
    facts = {
        "strategies": ", ".join(study.labels),
        "baseline": study.baseline,
        "tasks": ", ".join(frames.tasks),
        "seeds": ", ".join(map(str, seeds)),
        "steps": " or ".join(f"{step:,}" for step in steps),
    }
    if experiment:
        facts["batch"] = batch_in_words(experiment["training"])
        facts["backbone"] = _named(experiment["backbone"])
        # an empty list is stored only where the backbone's published training has auxiliary objectives
        without = [
            label for label, one in experiment.get("strategies", {}).items() if (one or {}).get("auxiliary") == []
        ]
        if without:
            facts["backbone"] += f"; without the auxiliary objectives of its publication: {', '.join(without)}"
    return facts | ({"metric protocol": study.protocol} if study.protocol else {})


def _named(fields: dict[str, Any]) -> str:
    """Return a name with its settings, such as `nafnet (width 8, middle 1)`."""
    others = ", ".join(f"{key} {value}" for key, value in fields.items() if key != "name" and value not in (None, []))
    return f"{fields['name']} ({others})" if others else str(fields["name"])


def runs_table(study: Study) -> Table:
    """Return the table of all runs, finished or not, with their mean scores."""
    names = [scale.name for scale in study.scales]
    means = study.scores.groupby(["label", "seed"])[names].mean().to_dict("index")
    rows = []
    for row in study.frames.runs.to_dict("records"):
        texts = [Cell(text) for text in (row["label"], row["parts"] or "neutral parts", row["run"], row["status"])]
        own = means.get((row["label"], row["seed"]), {})
        found = [number(own.get(scale.name), scale.digits) for scale in study.scales]
        rows.append([*texts, number(row["seed"], 0), number(row["steps"], 0), *found])
    means_of = [f"mean {scale.heading}" for scale in study.scales]
    headings = ["strategy", "parts", "run", "state", "seed", "steps", *means_of]
    return Table("runs", "All runs", headings, rows, words=4)


def _environments(frames: Frames) -> list[tuple[str, str]]:
    """Return (number of runs, environment they ran in) of every distinct environment."""
    shown: dict[str, int] = {}
    for config in frames.configs.values():
        text = ", ".join(f"{key} {value}" for key, value in config.get("environment", {}).items() if value is not None)
        shown[text] = shown.get(text, 0) + 1
    return [(f"{count} run{'s' if count > 1 else ''}", text or "not recorded") for text, count in shown.items()]
