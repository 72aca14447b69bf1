"""The key `unlearning:` of an experiment file: which runs forget which tasks, by which methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from cmtl_ir.base.errors import suggestion
from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.base.record import Record
from cmtl_ir.strategy.making import part_from
from cmtl_ir.strategy.unlearning import Unlearner


class UnlearningConfig(Record):
    """A request to forget, carried out on the finished runs of a strategy, once per seed."""

    run: str
    """Label of the strategy whose runs forget."""
    forget: list[str] = Field(min_length=1)
    """Names of the tasks to forget."""
    methods: dict[str, Unlearner] = Field(min_length=1)
    """Label -> method: `{}` (the label is its name), a name, or {name: ..., field: value}."""
    retain: bool = True
    """Whether data of the retained tasks may be read."""

    def resolved(self) -> dict[str, Any]:
        """Return the request as plain data, with every default."""
        methods = {label: {"name": one.called, **one.model_dump(mode="json")} for label, one in self.methods.items()}
        return {"run": self.run, "forget": self.forget, "methods": methods, "retain": self.retain}


def methods_from(given: Mapping[str, Any], problems: list[Problem]) -> dict[str, Unlearner]:
    """Return the method of each label, given as a name or fields. Mistakes are added to `problems`."""
    made: dict[str, Unlearner] = {}
    for label, fields in given.items():
        named = {"name": label, **fields} if isinstance(fields, Mapping) else fields or label
        part = part_from("unlearning", named, f"unlearning.methods.{label}", problems)
        if isinstance(part, Unlearner):
            made[str(label)] = part
    return made


def unlearning_from(
    raw: Any, tasks: Sequence[str], labels: Sequence[str], problems: list[Problem]
) -> UnlearningConfig | None:
    """Return the record of the key, or `None` if it is absent or wrong. Mistakes are added to `problems`."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or not isinstance(raw.get("methods"), Mapping) or not raw["methods"]:
        problems.append(Problem("unlearning", "expected {run: LABEL, forget: [TASK], methods: {NAME: {}}}"))
        return None
    methods = methods_from(raw["methods"], problems)
    try:
        made = UnlearningConfig.model_validate({**raw, "methods": methods or {"none": Unlearner()}})
    except ValidationError as error:
        problems += problems_of(error, UnlearningConfig, "unlearning")
        return None
    if made.run not in labels:
        problems.append(Problem("unlearning.run", f"no strategy {made.run!r}; {suggestion(made.run, list(labels))}"))
    for task in made.forget:
        if task not in tasks:
            problems.append(Problem("unlearning.forget", f"no task {task!r}; {suggestion(task, list(tasks))}"))
    return made
