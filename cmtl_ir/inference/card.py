"""The model card of a trained network: tasks, data, scores, strategy, what it has forgotten, licence and citation."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cmtl_ir.backbones.sources import SOURCES
from cmtl_ir.base import yaml
from cmtl_ir.base.escaping import printable
from cmtl_ir.config.citations import bibtex
from cmtl_ir.config.start import OUTSIDE
from cmtl_ir.measures.statistics import image_interval
from cmtl_ir.store.folder import read_identity, read_result
from cmtl_ir.store.layout import PER_IMAGE


def model_card(run: Path, file: str) -> str:
    """Return the card of a finished run in Markdown. `file` is the name of the file with its network."""
    identity = read_identity(run)
    name = identity["backbone"]["name"]
    lines = [
        f"# {name} for {', '.join(identity['tasks'])}",
        "",
        f"`{file}` holds the network of the run `{run.name}` (seed {identity['seed']}), and `network.json` its fields.",
        "It takes images [B, 3, H, W] in [0, 1], and the numbers [B] of their tasks in the order below.",
        "",
        "## Tasks and scores",
        "",
        *_scores(run, identity),
        "",
        f"Protocol: {identity['protocol']}. Intervals: 95 %, BCa bootstrap over test images.",
        "",
        "## Training",
        "",
        *_forgotten(identity),
        *_training(identity),
        "",
        "## Licence",
        "",
        *_licence(identity),
        "",
        "## Citation",
        "",
        *_block("bibtex", "\n\n".join(_citations(identity))),
    ]
    return "\n".join(lines) + "\n"


def _scores(run: Path, identity: Mapping[str, Any]) -> Iterator[str]:
    """Rows of a table: task, PSNR with its interval, SSIM, PSNR of the input, and hashes of the data."""
    result = read_result(run)
    images: dict[str, list[float]] = {}
    if (run / PER_IMAGE).is_file():
        with (run / PER_IMAGE).open(newline="") as table:
            for row in csv.DictReader(table):
                images.setdefault(row["task"], []).append(float(row["psnr"]))
    yield "| number | task | PSNR [dB] | SSIM | PSNR of the input | training data | test data |"
    yield "|---|---|---|---|---|---|---|"
    for number, (task, psnr) in enumerate(result["psnr"].items()):
        found = image_interval(images.get(task, []))
        span = f" ({found.low:.2f} to {found.high:.2f})" if not found.reason else f" (no interval: {found.reason})"
        learned, tested = identity["tasks"].get(task, "none"), identity.get("tests", {}).get(task, "none")
        yield (
            f"| {number} | {printable(task)} | {psnr:.2f}{span} | {result['ssim'][task]:.4f} "
            f"| {result['psnr_input'][task]:.2f} | {learned} | {tested} |"
        )


def _forgotten(identity: Mapping[str, Any]) -> list[str]:
    """Lines about unlearning. Empty for a run that has forgotten nothing."""
    lines = [f"Trained without: {', '.join(identity['without'])}.", ""] if identity.get("without") else []
    if "unlearning" in identity:
        lines += ["Unlearned:", "", *_block("yaml", yaml.dump(identity["unlearning"])), ""]
    return lines


def _training(identity: Mapping[str, Any]) -> list[str]:
    """Lines about the training. That of an outside model is not known."""
    if OUTSIDE in identity:
        backbone = _block("yaml", yaml.dump({"backbone": identity["backbone"]}))
        return [f"Trained elsewhere. SHA-256 of its tensors: {identity[OUTSIDE]}.", "", *backbone]
    return _block("yaml", yaml.dump({key: identity[key] for key in ("backbone", "training", "strategy")}))


def _licence(identity: Mapping[str, Any]) -> list[str]:
    name = identity["backbone"]["name"]
    known = SOURCES[name].license if name in SOURCES else "not known to this suite"
    if OUTSIDE in identity:
        return [f"That of the checkpoint. Licence of the {name} authors' release: {known}."]
    return [
        f"These weights were trained from data of their own. Licence of the {name} authors' release: {known}.",
        "The terms of the training images apply in addition (`cmtl-ir data list`).",
    ]


def _citations(identity: Mapping[str, Any]) -> list[str]:
    """BibTeX of the network and of every part of the strategy, each entry once."""
    named = [("backbone", identity["backbone"]["name"])]
    named += [
        (family, part["name"])
        for family, part in identity["strategy"].items()
        if isinstance(part, Mapping) and isinstance(part.get("name"), str)
    ]
    texts = [bibtex(family, name) for family, name in named]
    return list(dict.fromkeys(entry for text in texts for entry in text.split("\n\n")))


def _block(kind: str, text: str) -> list[str]:
    return [f"```{kind}", text.rstrip(), "```"]
