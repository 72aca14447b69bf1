"""What is to be known about each network before it is chosen: prototype, license, sides and inputs.

The prototypes are those of the survey's figure of all-in-one architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROTOTYPES = {
    "a": "an encoder and a decoder per task",
    "b": "an encoder per task and a shared decoder",
    "c": "one network for all tasks",
    "d": "a shared encoder and a decoder per task",
    "e": "a pretrained middle between heads and tails of tasks",
    "f": "a mixture of experts",
    "g": "a pretrained vision-language prior",
    "h": "visual prompts",
    "i": "text prompts",
    "j": "a question with an example and its answer",
}
NONE, RESEARCH = "none published", "non-commercial use"


@dataclass(frozen=True)
class Source:
    """Facts about a network that its code does not show."""

    prototype: str
    """Key of `PROTOTYPES`."""
    license: str
    """Under which the authors publish their weights; "none published" where they name none."""
    multiple: str
    """What height and width are padded to inside the network; every size is accepted."""
    beside: str = "nothing"
    """What it reads in addition to the image."""

    def __str__(self) -> str:
        return "\n".join(
            [
                f"prototype ({self.prototype}): {PROTOTYPES[self.prototype]}",
                f"license of the authors' weights: {self.license}",
                f"padded inside to a multiple of: {self.multiple}",
                f"reads in addition to the image: {self.beside}",
            ]
        )


TASK = "the task number"
SOURCES: dict[str, Source] = {
    "adair": Source("c", "MIT", "8"),
    "airnet": Source("c", NONE, "1"),
    "anyir": Source("c", NONE, "8"),
    "biden": Source("d", "MIT, parts BSD", "4", f"{TASK}, unless `head: first`"),
    "captnet": Source("h", RESEARCH, "16"),
    "dehazeformer": Source("c", "MIT", "4"),
    "dgunet": Source("c", NONE, "8"),
    "dgunet_plus": Source("c", NONE, "8"),
    "dynet": Source("h", RESEARCH, "8"),
    "fsnet": Source("c", "MIT", "8"),
    "gridformer": Source("c", NONE, "4"),
    "grl": Source("c", "MIT", "the largest of window, stripes and groups"),
    "hair": Source("c", NONE, "8"),
    "idr": Source("c", "MIT", "8", f"{TASK}, in stage 1"),
    "instructir": Source("i", "MIT", "2^levels", f"{TASK}, or a text vector per image"),
    "ipt": Source("e", "Apache-2.0", "1 (tiles of `image_size`)", f"{TASK}, with several tasks"),
    "ir_sde": Source("g", "MIT", "16", f"{TASK}, or a degradation vector per image"),
    "mambair": Source("c", "Apache-2.0", "1"),
    "mambair_unet": Source("c", "Apache-2.0", "8"),
    "measnet": Source("f", NONE, "8"),
    "mirnet_v2": Source("c", RESEARCH, "4"),
    "moce_ir": Source("f", "Apache-2.0", "8"),
    "mprnet": Source("c", RESEARCH, "8"),
    "msbdn": Source("c", "MIT", "16"),
    "nafnet": Source("c", "MIT", "2^levels"),
    "promptgip": Source("j", NONE, "`patch`, as a square", f"{TASK}, or an example pair per image"),
    "promptir": Source("h", RESEARCH, "8"),
    "prores": Source("h", "MIT", "`patch`", f"{TASK}, or a prompt picture per image"),
    "restormer": Source("c", RESEARCH, "8"),
    "retinexformer": Source("c", "MIT", "4"),
    "srresnet": Source("c", "Apache-2.0", "1", f"{TASK}, with `prompt: explicit`"),
    "swinir": Source("c", "Apache-2.0", "`window`"),
    "transweather": Source("c", "MIT", "16"),
    "unet": Source("c", "MIT", "8"),
    "utilityir": Source("c", "Apache-2.0", "4", "nothing, or type and severity of the degradation per image"),
    "uwadn": Source("c", NONE, "1"),
    "weather_diffusion": Source("c", "MIT", "`stride`"),
    "wgws": Source("f", NONE, "4", f"{TASK}, in stage 2"),
    "independent_networks": Source("a", "no weights: a composition", "that of the network", TASK),
    "own_encoders": Source("b", "no weights: a composition", "that of the network", TASK),
}


def reads_task_number(fields: Mapping[str, Any]) -> bool:
    """Return whether the network of these fields reads the task number. One of a user's own file is taken to do so."""
    source = SOURCES.get(fields["name"])
    if source is None:  # a network made of another one, or of a file
        return reads_task_number(fields["of"]) if isinstance(fields.get("of"), Mapping) else True
    asked = "prompt: explicit" not in source.beside or fields.get("prompt") == "explicit"
    return source.beside.startswith(TASK) and asked
