"""Descriptions of grouped runs, before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmtl_ir.config.experiment import Experiment, Strategy


def announcement(label: str, strategy: Strategy, experiment: Experiment) -> str:
    """Return what a dry run prints for a grouped strategy."""
    grouping = strategy.grouping
    assert grouping is not None
    steps = experiment.training.steps
    shared = "shared by its groups" if grouping.steps == "equal_total" else "for each of its groups"
    proxies = f"; proxies of {max(1, round(grouping.share * steps))} steps come on top, once for all strategies"
    return f"{label}: {grouping.called} groups the tasks when it runs; {steps} steps {shared}{proxies}"


def report_lines(result: Mapping[str, Any]) -> list[str]:
    """Return lines on groups, routing and cost of a finished grouped run. Empty for other runs."""
    found = result.get("grouping")
    if found is None:
        return []
    groups = " | ".join(_group(group) for group in found["groups"])
    lines = [f"{result['label']} (seed {result['seed']}): {groups}"]
    lines += [f"  {note}" for note in found["notes"]]
    oracle = sum(found["psnr_oracle"].values()) / len(found["psnr_oracle"])
    lines += [f"  {accuracy(found)}; mean PSNR with an oracle {oracle:.2f} dB"]
    cost = found["cost"]
    lines.append(
        f"  {cost['models']} models; {cost['stored']:,} parameters stored, {cost['run_per_image']:,.0f} run per image "
        f"({cost['router']:,} of them the router's)"
    )
    return lines


def routing_lines(found: Mapping[str, Any]) -> list[str]:
    """Return lines on the routing accuracy and, per task, on the assigned tasks, the most frequent first."""
    lines = [f"{accuracy(found)}; {found['images']} images, {found['unknown']:.0%} of them beyond the threshold"]
    for task, row in found["confusion"].items():
        taken = sorted((name for name in row if row[name]), key=lambda name: -row[name])
        lines += [f"  {task} was taken for {', '.join(f'{name} {row[name]}' for name in taken)}"] if taken else []
    return lines


def accuracy(found: Mapping[str, Any]) -> str:
    """Return the share of images that each rule, and chance, sends to the right task and to the right group."""
    rules = {name: value for name, value in found["accuracy"].items() if name != "own"}
    shares = ", ".join(f"{name} {one['task']:.0%} / {one['group']:.0%}" for name, one in rules.items())
    return f"routed to the right task / group: {shares}"


def _group(group: Mapping[str, Any]) -> str:
    helpers = [task for task in group["tasks"] if task not in group["serves"]]
    return "+".join(group["serves"]) + (f" (helped by {'+'.join(helpers)})" if helpers else "")
