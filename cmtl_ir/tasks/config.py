"""The records of an experiment file that describe images and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from cmtl_ir.base import errors
from cmtl_ir.base.record import OmitIfDefault, Record
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.tasks.degradations._limits import number
from cmtl_ir.tasks.sources import PairsConfig, Source, SplitConfig

Share = Annotated[float, Field(gt=0, lt=1)]


class DataConfig(Record):
    """Clean images that all degradation tasks share, and how training crops are cut."""

    root: str | None = None
    """Folder that holds the data sets named by `dataset:`. null: the environment variable CMTL_IR_DATA."""
    clean: Source = "embedded"
    """Images for every split that is not named below: `embedded` (photographs inside the installed packages, two of
    them for test), a folder, `{dataset: NAME}` or a list. A tenth of the images is held out for test if `test` is not
    given and the source has no test images of its own."""
    train: Source | None = None
    """Training images. null: from `clean`."""
    val: Share | Source | None = None
    """Validation images, on which checkpoints and searches select: a folder, or a share of the training images that is
    then not trained on. null: none."""
    test: Source | None = None
    """Test images. null: from `clean`."""
    holdout: Annotated[Literal["fixed", "rotate"], OmitIfDefault()] = "fixed"
    """Which images are held out where no test images are given. fixed: the same under every seed. rotate: the next ones
    under each seed, so that every image is a test image under some seed. Strategies of one seed share their images, and
    no image is trained on and tested on in one run. Of the embedded photographs, two are held out either way."""
    textures: Annotated[bool, OmitIfDefault()] = False
    """Whether degradation tasks also train on five embedded images, which are never tested on: brick, camera, grass,
    gravel, hubble_deep_field."""
    dead_leaves: Annotated[int, OmitIfDefault()] = Field(default=0, ge=0, le=9999)
    """Number of synthetic images of 256x256 pixels that degradation tasks also train on: opaque shapes of random size
    that cover each other. Every training image is drawn equally often, so 5 photographs and 20 of these are 80 %
    synthetic. They are rendered at their first use and kept in the cache."""
    labelled: Annotated[float, OmitIfDefault()] = Field(default=1.0, gt=0, le=1)
    """Share of the training photographs whose clean images may be read, by a hash of their names; at least one. A
    photograph that several tasks degrade is labelled in all of them or in none, and the same ones under every seed. The
    other photographs are for methods that train on degraded images alone (curriculum `mean_teacher`)."""
    unlabelled: Annotated[dict[str, str | list[str]], OmitIfDefault()] = Field(default={})
    """Task -> folder or folders of degraded images without truth, in addition to the training images of the task. Only
    for methods that train on degraded images alone; not together with `labelled`. {}: none."""
    patch: int = Field(default=48, ge=8)
    """Side of a training crop in pixels."""
    flips: Literal["dihedral", "horizontal", "none"] = "dihedral"
    """Random flips of training crops: all eight including quarter turns, left-right only, or none."""
    gpu_gigabytes: float = Field(default=2.0, ge=0)
    """Gigabytes of training images to keep on the GPU. Crops of the remaining images come from the host and are the
    same. 0 keeps none."""
    on_error: Literal["stop", "skip"] = "stop"
    """What to do with a file that cannot be used: stop with its name, or leave it out with a warning."""
    bits: Annotated[int | None, OmitIfDefault()] = Field(default=None, ge=8, le=16)
    """Bits that the values of 16-bit files use, such as 12 for camera raw whose white is 4095. null: 16, but a file
    whose values fit into 14 bits is refused. 16: such files are accepted as dark images. 8-bit files ignore this."""
    test_limit: int | None = Field(default=None, ge=1)
    """Number of test images, the first by name. null: all."""
    test_crop: int | None = Field(default=None, ge=8)
    """Side in pixels of the central square of each image that is tested. null: whole images."""

    @field_validator("patch", "dead_leaves", "bits", "test_limit", "test_crop", "gpu_gigabytes", mode="before")
    @classmethod
    def _numbers(cls, given: Any) -> Any:
        return number(given)

    @model_validator(mode="after")
    def _unlabelled_images_have_one_origin(self) -> DataConfig:
        if self.unlabelled and self.labelled < 1:
            raise ValueError(
                "labelled and unlabelled: unlabelled images are a share of the photographs or the folders "
                "of `unlabelled`, not both; remove one of the keys"
            )
        if any(one == "embedded" for one in self.unlabelled.values()):
            raise ValueError("unlabelled: the embedded photographs are clean; name a folder of degraded images")
        return self

    @field_validator("val")
    @classmethod
    def _val_is_not_embedded(cls, val: float | Source | None) -> float | Source | None:
        if val == "embedded":
            raise ValueError("the embedded photographs are for training and test; hold out a share, such as 0.2")
        return val


class TaskConfig(PairsConfig):
    """One task: `{degradation: NAME, its fields ...}` on clean images, or pairs: `{input: FOLDER, target: FOLDER}` or
    `{dataset: NAME, root: FOLDER}`."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})

    degradation: Annotated[Degradation | None, WithJsonSchema({"type": ["string", "null"]})] = None
    """Name of a degradation, whose fields are further keys of the task. null: the task has pairs."""
    clean: Source | None = None
    """Clean images of this task alone. null: the clean images of `data`."""
    repeats: int = Field(default=1, ge=1)
    """Factor by which the images count when tasks are mixed in proportion to their size."""
    val: SplitConfig | None = None
    """Validation images of this task. null: as `data.val` says."""
    test: SplitConfig | None = None
    """Test images of this task. null: the test images of `data`, or a tenth of the pairs."""

    @field_validator("repeats", mode="before")
    @classmethod
    def _number(cls, given: Any) -> Any:
        return number(given)

    @model_validator(mode="before")
    @classmethod
    def _with_degradation(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or isinstance(given.get("degradation"), Degradation):
            return given
        known = {key: value for key, value in given.items() if key in cls.model_fields}
        own = {key: value for key, value in given.items() if key not in cls.model_fields}
        kind = known.get("degradation")
        if kind is not None:
            return {**known, "degradation": degradation_from(kind, own, list(cls.model_fields))}
        if own:
            raise _problems([_unknown_key((key,), value, list(cls.model_fields)) for key, value in own.items()])
        return known

    @model_validator(mode="after")
    def _one_source(self) -> TaskConfig:
        if (self.degradation is None) != self.paired:
            known = ", ".join(registry.names("degradation"))
            raise ValueError(
                f"expected either degradation: NAME ({known}), input: and target: folders, or dataset: NAME"
            )
        if self.paired and any(split and split.clean for split in (self, self.val, self.test)):
            raise ValueError("clean: needs a degradation; a task of pairs has input: and target: folders, or dataset:")
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        """Return the task as an experiment file has it, with every default; reading it gives this record again."""
        if self.degradation is None:
            kind: dict[str, Any] = {name: getattr(self, name) for name in self.written_fields}
        else:
            kind = {"degradation": self.degradation.called, **self.degradation.model_dump(mode="json")}
            kind["clean"] = self.clean
        splits = {"val": self.val, "test": self.test}
        return {**kind, "repeats": self.repeats, **{key: one and one.model_dump() for key, one in splits.items()}}


# ----------------------------------------------------------------------------- degradations from plain values


def degradation_from(name: Any, fields: Mapping[str, Any], other_keys: list[str]) -> Degradation:
    """Make a degradation by its name. Raise one ValidationError with the path of every mistake.

    `other_keys`: keys of the task that are not fields of the degradation, suggested for misspelt ones.
    """
    try:
        cls: type[Any] = registry.load("degradation", str(name))
    except (ValueError, ImportError) as error:
        raise _problems([_problem(("degradation",), str(error), name)]) from None
    try:
        made: Degradation = cls.model_validate(dict(fields))
    except ValidationError as error:
        known = [*cls.model_fields, *other_keys]
        raise _problems([_as_problem(one, known) for one in error.errors(include_url=False)]) from None
    made.call_it(str(name))
    return made


def _as_problem(one: Any, known: list[str]) -> InitErrorDetails:
    if one["type"] == "extra_forbidden" and len(one["loc"]) == 1:
        return _unknown_key(one["loc"], one["input"], known)
    return _problem(one["loc"], one["msg"].removeprefix("Value error, "), one["input"])


def _unknown_key(location: tuple[int | str, ...], given: Any, known: list[str]) -> InitErrorDetails:
    return _problem(location, f"unknown key; {errors.suggestion(str(location[-1]), known)}", given)


def _problem(location: tuple[int | str, ...], message: str, given: Any) -> InitErrorDetails:
    kind = PydanticCustomError("task", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=location, input=given)


def _problems(problems: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data("TaskConfig", problems)
