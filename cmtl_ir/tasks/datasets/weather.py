"""Pairs with haze, snow and mixed weather. Forms: the authors' archives, then arrangements of known repositories."""

from __future__ import annotations

from cmtl_ir.tasks.datasets.clean import ASK, RESEARCH
from cmtl_ir.tasks.datasets.record import Part, pairs, row

RESIDE = "RESIDE (Li et al., TIP 2019); sites.google.com/view/reside-dehaze-datasets"
SNOW100K = "test/Snow100K-{0}/synthetic/{{name}} > test/Snow100K-{0}/gt/{{name}}"
SNOW100K_FLAT = "Snow100K-{0}/synthetic/{{name}} > Snow100K-{0}/gt/{{name}}"
HAZE_OF_SOTS = ("hazy/{name}_* > gt/{name}", "hazy/{name}_* > clear/{name}", "input/{name}_* > target/{name}")

HAZE = (
    row(
        "ots",
        "haze",
        "OTS",
        f"outdoor training set, beta version. {RESIDE}",
        RESEARCH,
        train=pairs(
            72135,
            "haze/{name}_* > clear/{name}",
            "haze/OTS/{name}_* > clear/clear_images/{name}",
            "hazy/{name}_* > clear/{name}",
            "synthetic/part*/{name}_* > original/{name}",  # AirNet, PromptIR
            "part*/{name}_* > clear/{name}",
            "hazy/{name}_* > gt/{name}",
        ),
    ),
    row(
        "its",
        "haze",
        "ITS",
        f"indoor training set. {RESIDE}",
        RESEARCH,
        train=pairs(
            13990,
            "hazy/{name}_*_* > clear/{name}",
            "train/ITS_haze/{name}_*_* > train/ITS_clear/{name}",
            "hazy/{name}_*_* > gt/{name}",
        ),
    ),
    row(
        "sots_outdoor",
        "haze",
        "SOTS/outdoor",
        f"outdoor test set. {RESIDE}",
        RESEARCH,
        test=pairs(500, *HAZE_OF_SOTS),
    ),
    row(
        "sots_indoor",
        "haze",
        "SOTS/indoor",
        f"indoor test set, whose clean images have 10 more pixels a side. {RESIDE}",
        RESEARCH,
        test=pairs(500, *HAZE_OF_SOTS, centre=True),
    ),
    row(
        "hsts",
        "haze",
        "HSTS",
        f"the synthetic half of its hybrid test set; the other has no clean images. {RESIDE}",
        RESEARCH,
        test=pairs(10, "synthetic/synthetic/{name} > synthetic/original/{name}"),
    ),
    row(
        "dense_haze",
        "haze",
        "Dense-HAZE",
        "Ancuti et al., ICIP 2019; data.vision.ee.ethz.ch/cvl/ntire19/dense-haze",
        RESEARCH,
        all=pairs(55, "hazy/{name}_hazy > GT/{name}_GT", "{name}_hazy > {name}_GT"),
    ),
    row(
        "nh_haze",
        "haze",
        "NH-HAZE",
        "Ancuti et al., CVPRW 2020; data.vision.ee.ethz.ch/cvl/ntire20/nh-haze",
        RESEARCH,
        all=pairs(55, "{name}_hazy > {name}_GT"),
    ),
)


SNOW = (
    row(
        "snow100k",
        "snow",
        "Snow100K",
        "Liu et al. (DesnowNet), TIP 2018; sites.google.com/view/yunfuliu/desnownet (`test` is its large subset)",
        ASK,
        train=pairs(
            50000,
            "train/synthetic/{name} > train/gt/{name}",
            "Snow100K-training/all/synthetic/{name} > Snow100K-training/all/gt/{name}",
            "all/synthetic/{name} > all/gt/{name}",
        ),
        test=pairs(16801, SNOW100K.format("L"), SNOW100K_FLAT.format("L")),
        test_m=pairs(16588, SNOW100K.format("M"), SNOW100K_FLAT.format("M")),
        test_s=pairs(16611, SNOW100K.format("S"), SNOW100K_FLAT.format("S")),
    ),
    row(
        "csd",
        "snow",
        "CSD",
        "Chen et al. (HDCW-Net), ICCV 2021; github.com/weitingchen83/ICCV2021-Single-Image-Desnowing-HDCWNet",
        ASK,
        train=pairs(8000, "Train/Snow/{name} > Train/Gt/{name}"),
        test=pairs(2000, "Test/Snow/{name} > Test/Gt/{name}"),
    ),
    row(
        "realsnow",
        "snow",
        "RealSnow",
        "Zhu et al. (WGWS-Net), CVPR 2023; github.com/zhuyr97/WGWS-Net",
        ASK,
        train=pairs(1650),
        test=pairs(240),
    ),
)


CDD11_KINDS = (
    *("low", "haze", "rain", "snow", "low_haze", "low_rain", "low_snow", "haze_rain", "haze_snow"),
    *("low_haze_rain", "low_haze_snow"),
)
"""The kinds and their number agree with the table of results in the authors' repository. That the folders have these
names was not checked against the published archive."""
CDD11 = "CDD-11_{0}/{1}/{{name}} > CDD-11_{0}/clear/{{name}}"
"""Where images lie: from memory, like the numbers of images (1183 and 200 per kind); neither was checked against the
published archive."""


def _cdd11(split: str, count: int) -> Part:
    """Return all eleven kinds of a split: each folder next to `clear`."""
    return pairs(11 * count, CDD11.format(split, "*"), without=("clear/*",))


MIXED = (
    row(
        "cdd11",
        "composites",
        "CDD-11",
        "low light, haze, rain, snow and seven composites of them (Guo et al. (OneRestore), ECCV 2024); "
        "github.com/gy65896/OneRestore. `test_low_haze` and so on are its kinds. Folders and counts are not "
        "checked against the archive",
        ASK,
        train=_cdd11("train", 1183),
        test=_cdd11("test", 200),
        **{f"test_{kind}": pairs(200, CDD11.format("test", kind)) for kind in CDD11_KINDS},
    ),
    row(
        "allweather",
        "mixed weather",
        "All-Weather",
        "parts of three sets (Valanarasu et al., CVPR 2022); github.com/jeya-maria-jose/TransWeather. "
        "One folder holds all three kinds; `rain`, `raindrops` and `snow` separate them by the names of their origin",
        "those of its parts",
        train=pairs(18069, "train/input/{name} > train/gt/{name}", "input/{name} > gt/{name}"),
        rain=pairs(None, "train/input/im_{name} > train/gt/im_{name}", "input/im_{name} > gt/im_{name}"),
        raindrops=pairs(None, "train/input/{name}_rain > train/gt/{name}_rain", "input/{name}_rain > gt/{name}_rain"),
        snow=pairs(
            None,
            "train/input/{name} > train/gt/{name}",
            "input/{name} > gt/{name}",
            without=("im_*", "*_rain"),
        ),
    ),
    row(
        "weatherstream",
        "mixed weather",
        "WeatherStream",
        "real scenes over time (Zhang et al., CVPR 2023); github.com/UCLA-VMG/WeatherStream. Its own tree is not known "
        "to us: arrange it by weather, as in train_rain/input and train_rain/target",
        ASK,
        train_rain=pairs(None),
        train_snow=pairs(None),
        train_fog=pairs(None),
        test_rain=pairs(None),
        test_snow=pairs(None),
        test_fog=pairs(None),
    ),
)
WEATHER = (*HAZE, *SNOW, *MIXED)
