"""Photographs inside the packages that cmtl-ir depends on, so that a first experiment needs no download.

They are found as files without importing the packages. The test photographs are not among the training photographs.

Textures are grey or astronomical images for training alone (`data.textures`). Every image here is in the public domain,
CC0 or CC BY 2.0. Left out are images of the same packages whose documentation names no licence (moon, motorcycle, page)
or only "no known copyright restrictions" (coins, ihc), and images that are blurred or show no natural scene (clock,
cell, retina).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cmtl_ir.tasks.images.decode import DataError

Split = Literal["train", "test", "texture"]
"""Role of a photograph unless the roles of train and test rotate. A texture is only trained on, if at all."""


@dataclass(frozen=True)
class Photograph:
    """One photograph inside an installed package."""

    file: str
    """Path whose first part is the package and whose rest is below the folder of the package."""
    split: Split
    project: str
    """Name of the package for pip."""
    credit: str
    """Attribution and licence, for documentation."""

    @property
    def name(self) -> str:
        """File name, which is the name of the image in the store."""
        return self.file.rpartition("/")[2]

    def path(self) -> Path:
        """Return the installed file. Raise DataError with the package to install if it is missing."""
        package, _, below = self.file.partition("/")
        spec = importlib.util.find_spec(package)
        for home in (spec.submodule_search_locations or []) if spec is not None else []:
            if (Path(home) / below).is_file():
                return Path(home) / below
        raise DataError(
            f"the embedded photograph {self.name} is missing: `pip install --force-reinstall {self.project}`, "
            "or name a folder of your own with `--set data.clean=FOLDER`"
        )


SKLEARN = "CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/), shipped with scikit-learn, unchanged"
PHOTOGRAPHS = (
    Photograph(
        "skimage/data/astronaut.png",
        "train",
        "scikit-image",
        "Eileen Collins, NASA Great Images database, public domain, shipped with scikit-image",
    ),
    Photograph(
        "skimage/data/chelsea.png", "train", "scikit-image", "Chelsea the cat, Stefan van der Walt, CC0, scikit-image"
    ),
    Photograph(
        "skimage/data/rocket.jpg",
        "train",
        "scikit-image",
        "Launch of DSCOVR on a Falcon 9, SpaceX Photos, public domain, shipped with scikit-image",
    ),
    Photograph(
        "sklearn/datasets/images/flower.jpg",
        "train",
        "scikit-learn",
        f"flower, vultilion, https://www.flickr.com/photos/vultilion/6056698931/, {SKLEARN}",
    ),
    Photograph(
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "train",
        "matplotlib",
        "Grace Hopper, James S. Davis, U.S. Navy, public domain, shipped with matplotlib",
    ),
    Photograph(
        "skimage/data/coffee.png", "test", "scikit-image", "coffee, Rachel Michetti, CC0, shipped with scikit-image"
    ),
    Photograph(
        "sklearn/datasets/images/china.jpg",
        "test",
        "scikit-learn",
        f"china, danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035/, {SKLEARN}",
    ),
    Photograph(
        "skimage/data/brick.png",
        "texture",
        "scikit-image",
        "brick wall, grey, CC0Textures (Bricks25), CC0, scikit-image",
    ),
    Photograph(
        "skimage/data/camera.png", "texture", "scikit-image", "photographer, grey, Lav Varshney, CC0, scikit-image"
    ),
    Photograph(
        "skimage/data/grass.png", "texture", "scikit-image", "grass, grey, linolafett (DeviantArt), CC0, scikit-image"
    ),
    Photograph(
        "skimage/data/gravel.png", "texture", "scikit-image", "gravel, grey, CC0Textures (Gravel04), CC0, scikit-image"
    ),
    Photograph(
        "skimage/data/hubble_deep_field.jpg",
        "texture",
        "scikit-image",
        "Hubble eXtreme Deep Field, NASA, public domain, shipped with scikit-image",
    ),
)


def embedded_files(*splits: Split) -> dict[str, Path]:
    """Return name -> file of the embedded photographs of some splits, sorted by name."""
    return {photo.name: photo.path() for photo in sorted(PHOTOGRAPHS, key=lambda p: p.name) if photo.split in splits}


if __name__ == "__main__":
    for photograph in PHOTOGRAPHS:
        print(f"{photograph.name} ({photograph.split}): {photograph.credit}")
