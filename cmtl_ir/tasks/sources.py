"""The records of an experiment file that say where images come from: folders, pairs of folders, named data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from cmtl_ir.base.record import Record
from cmtl_ir.tasks.datasets.table import find_layout


class DatasetSource(Record):
    """Clean images of a data set known by name (`cmtl-ir data list`)."""

    dataset: str
    """Name of a set of clean images."""
    root: str | None = None
    """Folder of the set. null: the folder of its name below `data.root`."""
    split: str | None = None
    """Split of the set. null: the split of the role at hand (train, val or test)."""

    @model_validator(mode="after")
    def _known(self) -> DatasetSource:
        _check(self.dataset, self.split, paired=False)
        return self


def _read(given: Any) -> Any:
    """Report one mistake per value, instead of one per member of the union."""
    if isinstance(given, Mapping):
        return DatasetSource.model_validate(given)
    if isinstance(given, list):
        return [_read(one) for one in given]
    if not isinstance(given, str | DatasetSource | None):
        raise ValueError("expected `embedded`, a folder, {dataset: NAME} or a list of these")
    return given


Source = Annotated[str | DatasetSource | list[str | DatasetSource], BeforeValidator(_read)]
"""`embedded`, a folder, an image file, `{dataset: NAME}`, or a list of these except `embedded`."""


BY_NAME = ("dataset", "root", "split")
"""Fields of pairs from a named data set; the remaining fields describe folders."""


class PairsConfig(Record):
    """Degraded images and their clean partners: two folders matched by file name, or a named data set."""

    dataset: str | None = None
    """Name of a set of pairs (`cmtl-ir data list`) with known folders and patterns. null: folders are given."""
    root: str | None = None
    """Folder of that set. null: the folder of its name below `data.root`."""
    split: str | None = None
    """Split of the set. null: the split of the role at hand (train, val or test)."""
    input: str | None = None
    """Folder of degraded images. null: `dataset` is given."""
    target: str | None = None
    """Folder of clean images, which may be the same folder. null: `dataset` is given."""
    input_name: str = "{name}"
    """Pattern of a degraded image's path without extension: `{word}` must match on both sides, `*` is free."""
    target_name: str = "{name}"
    """Pattern of a clean image's path without extension."""
    without: tuple[str, ...] = ()
    """Patterns of paths to leave out, in both folders."""
    sizes: Literal["equal", "centre"] = "equal"
    """equal: both images of a pair must have one size. centre: the larger one is cut about its centre."""
    spare_targets: bool = False
    """True: clean images without a degraded partner are accepted, as in a folder of targets that several sets share."""

    @field_validator("without", mode="before")
    @classmethod
    def _list_of_patterns(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @field_validator("without")
    @classmethod
    def _patterns(cls, without: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in without:
            pattern_expression(pattern)
        return without

    @model_validator(mode="after")
    def _complete(self) -> PairsConfig:
        if self.dataset is not None:
            self._by_name_alone()
            return self
        if self.root is not None or self.split is not None:
            raise ValueError("root: and split: belong to a dataset: NAME")
        if (self.input is None) != (self.target is None):
            raise ValueError(f"{'target' if self.target is None else 'input'} is missing: a pair has two folders")
        shared, other = (pattern_expression(one).groupindex.keys() for one in (self.input_name, self.target_name))
        if shared != other or not shared:
            raise ValueError(f"input_name {self.input_name!r} and target_name {self.target_name!r} share no {{name}}")
        return self

    def _by_name_alone(self) -> None:
        assert self.dataset is not None
        _check(self.dataset, self.split, paired=True)
        fields = {name: field for name, field in PairsConfig.model_fields.items() if name not in BY_NAME}
        given = [name for name, field in fields.items() if getattr(self, name) != field.default]
        if given:
            raise ValueError(f"dataset: brings its own {' and '.join(given)}; name folders or a data set, not both")

    @property
    def paired(self) -> bool:
        """Whether pairs are given at all."""
        return self.input is not None or self.dataset is not None

    @property
    def written_fields(self) -> list[str]:
        """Names of the fields that apply: of a named set or of two folders."""
        return [name for name in PairsConfig.model_fields if (name in BY_NAME) == (self.dataset is not None)]


class SplitConfig(PairsConfig):
    """Images for one split of one task: pairs, or clean images that the task degrades."""

    clean: Source | None = None
    """Clean images that the task degrades. null: pairs are given."""

    @model_validator(mode="after")
    def _one_kind(self) -> SplitConfig:
        if self.paired == (self.clean is not None):
            raise ValueError("expected either input: and target: folders, dataset: or clean: a folder")
        return self


def _check(name: str, split: str | None, *, paired: bool) -> None:
    layout = find_layout(name)
    if layout.paired and not paired:
        raise ValueError(f"{name} holds pairs: name it as `dataset: {name}` of a task, not as clean images")
    if paired and not layout.paired:
        raise ValueError(f"{name} holds clean images: write `clean: {{dataset: {name}}}` next to a degradation")
    if split is not None and split not in layout.splits:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(layout.splits)}")


def pattern_expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern such as `{name}_*` as a regular expression. Raise ValueError if it has one `{word}` twice.

    Each `{word}` captures as little as it can and `*` matches any text. Letter case does not matter.
    """
    pieces = re.split(r"(\{[a-z_]+\}|\*)", pattern)
    words = [piece for piece in pieces if piece.startswith("{") and piece.endswith("}")]
    if len(set(words)) < len(words):
        raise ValueError(f"the pattern {pattern!r} has one {{word}} twice; give each a name of its own")
    return re.compile("".join(_piece(piece) for piece in pieces), re.IGNORECASE)


def _piece(piece: str) -> str:
    if piece == "*":
        return ".*"
    return f"(?P<{piece[1:-1]}>.+?)" if piece.startswith("{") and piece.endswith("}") else re.escape(piece)
