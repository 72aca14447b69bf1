"""A suite from a file: test sets of the user, as tasks are written in an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cmtl_ir.base import names, yaml
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.problems import problems_of
from cmtl_ir.suites.blocks import OWN
from cmtl_ir.suites.line import Line
from cmtl_ir.tasks.config import TaskConfig
from cmtl_ir.tasks.sources import BY_NAME, SplitConfig


def lines(path: Path, trained: Mapping[str, TaskConfig]) -> list[Line]:
    """Return a line for each test set in a file, `{NAME: {input: FOLDER, target: FOLDER}}` or any other task.

    All pairs of a task are tested. The key `given` names the trained task whose number a network is given. Raise
    ConfigError with every mistake.
    """
    made, mistakes = [], []
    for name, content in yaml.read(path).items():
        if not isinstance(content, Mapping):
            mistakes.append(f"{name}: expected a task, such as {{input: FOLDER, target: FOLDER}}, found {content!r}")
            continue
        given = content.get("given")
        if given is not None and given not in trained:
            mistakes.append(f"{name}.given: the run was trained on {', '.join(trained)}, not on {given!r}")
        try:
            config = _task(str(name), {key: value for key, value in content.items() if key != "given"})
        except ValidationError as error:
            mistakes += [str(one) for one in problems_of(error, TaskConfig, str(name))]
            continue
        made.append(Line(path.stem, str(name), "given", OWN, config, given=given))
    if mistakes or not made:
        listed = "\n".join(f"  {mistake}" for mistake in mistakes or ["no test set"])
        raise ConfigError(f"{path}:\n{listed}")
    return made


def _task(name: str, content: Mapping[str, Any]) -> TaskConfig:
    """Return a task whose pairs are all test images."""
    names.task(name)
    config = TaskConfig.model_validate(dict(content))
    if not config.paired or config.test is not None:
        return config
    fields = BY_NAME if config.dataset is not None else [one for one in SplitConfig.model_fields if one not in BY_NAME]
    own = {field: getattr(config, field) for field in fields if field != "clean"}
    return config.model_copy(update={"test": SplitConfig.model_validate(own)})
