"""Pairs of rain, haze, snow and raindrops. Forms: the authors' archives first, then what well-known repositories made."""

from __future__ import annotations

from cmtl_ir.tasks.layout_clean import ASK, RESEARCH
from cmtl_ir.tasks.layout_record import Layout, pairs, row

RAIN100 = "Yang et al., CVPR 2017; www.icst.pku.edu.cn/struct/Projects/joint_rain_removal.html"
RESIDE = "RESIDE (Li et al., TIP 2019); sites.google.com/view/reside-dehaze-datasets"
SNOW100K = "test/Snow100K-{0}/synthetic/{{name}} > test/Snow100K-{0}/gt/{{name}}"
SNOW100K_FLAT = "Snow100K-{0}/synthetic/{{name}} > Snow100K-{0}/gt/{{name}}"
HAZE_OF_SOTS = ("hazy/{name}_* > gt/{name}", "hazy/{name}_* > clear/{name}", "input/{name}_* > target/{name}")


def _rain100(name: str, folder: str, archive: str, count: int) -> Layout:
    of_train, of_test = (f"rain_data_{split}_{archive}" for split in ("train", "test"))
    return row(
        name,
        "rain",
        folder,
        RAIN100,
        ASK,
        train=pairs(
            count,
            f"{of_train}/rain/{{name}}x2 > {of_train}/norain/{{name}}",
            "train/rainy/rain-{name} > train/gt/norain-{name}",  # AirNet, PromptIR
            "rainy/rain-{name} > gt/norain-{name}",
        ),
        test=pairs(
            100,
            f"{of_test}/rain/X2/{{name}}x2 > {of_test}/norain/{{name}}",
            "rainy/rain-{name} > norain-{name}",  # PReNet
        ),
    )


def _rain() -> tuple[Layout, ...]:
    return (
        _rain100("rain100l", "Rain100L", "Light", 200),
        _rain100("rain100h", "Rain100H", "Heavy", 1800),
        row(
            "rain13k",
            "rain",
            "Rain13K",
            "several sets put together by Jiang et al. (MSPFN), CVPR 2020; links in github.com/swz30/Restormer",
            "those of its parts",
            train=pairs(13712, "train/Rain13K/input/{name} > train/Rain13K/target/{name}"),
            test100=pairs(None, "test/Test100/input/{name} > test/Test100/target/{name}"),
            test1200=pairs(1200, "test/Test1200/input/{name} > test/Test1200/target/{name}"),
            test2800=pairs(2800, "test/Test2800/input/{name} > test/Test2800/target/{name}"),
        ),
        row(
            "rain1400",
            "rain",
            "Rain1400",
            "Fu et al. (DDN), CVPR 2017; xueyangfu.github.io/projects/cvpr2017.html",
            ASK,
            train=pairs(12600, "training/rainy_image/{name}_* > training/ground_truth/{name}"),
            test=pairs(1400, "testing/rainy_image/{name}_* > testing/ground_truth/{name}"),
        ),
        row(
            "spa",
            "rain",
            "SPA-Data",
            "real rain (Wang et al., CVPR 2019); stevewongv.github.io/derain-project.html",
            ASK,
            train=pairs(638492),
            test=pairs(1000, "real_test_1000/rain/{name} > real_test_1000/gt/{name}gt"),
        ),
        row(
            "outdoor_rain",
            "rain and veil",
            "Outdoor-Rain",
            "Li, Cheong and Tan, CVPR 2019; github.com/liruoteng/HeavyRainRemoval (`test` is its test1)",
            ASK,
            train=pairs(9000, "train/in/{name}_s*_a* > train/gt/{name}"),
            test=pairs(
                750,
                "test1/in/{name}_s*_a* > test1/gt/{name}",
                "test1/input/{name}_s*_a* > test1/gt/{name}",  # TransWeather
                "test1/input/{name} > test1/gt/{name}",
            ),
        ),
        row(
            "raindrop",
            "raindrops",
            "RainDrop",
            "Qian et al., CVPR 2018; github.com/rui1996/DeRaindrop (`test` is its test_a)",
            ASK,
            train=pairs(861, "train/data/{name}_rain > train/gt/{name}_clean"),
            test=pairs(58, "test_a/data/{name}_rain > test_a/gt/{name}_clean"),
            test_b=pairs(249, "test_b/data/{name}_rain > test_b/gt/{name}_clean"),
        ),
    )


def _haze() -> tuple[Layout, ...]:
    return (
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


def _snow() -> tuple[Layout, ...]:
    return (
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


def _mixtures() -> tuple[Layout, ...]:
    """All-Weather keeps three kinds in one folder; they are told apart by the names of the sets that they come from."""
    of_rain, of_drops = (f"{{0}}input/{one} > {{0}}gt/{one}" for one in ("im_{{name}}", "{{name}}_rain"))
    every = "{0}input/{{name}} > {0}gt/{{name}}"
    both = ("train/", "")
    return (
        row(
            "allweather",
            "rain, snow, raindrops",
            "All-Weather",
            "of Outdoor-Rain, Snow100K and RainDrop (Valanarasu et al., CVPR 2022); github.com/jeya-maria-jose/TransWeather",
            "those of its parts",
            train=pairs(18069, *(every.format(one) for one in both)),
            rain=pairs(None, *(of_rain.format(one) for one in both)),
            raindrops=pairs(None, *(of_drops.format(one) for one in both)),
            snow=pairs(None, *(every.format(one) for one in both), without=("im_*", "*_rain")),
        ),
        row(
            "weatherstream",
            "rain, snow, fog",
            "WeatherStream",
            "real scenes over time (Zhang et al., CVPR 2023); github.com/UCLA-VMG/WeatherStream. Arrange it by weather",
            ASK,
            **{
                f"{split}_{weather}": pairs(
                    None,
                    *(f"{split}/{weather}/input/{{name}} > {split}/{weather}/{gt}/{{name}}" for gt in ("target", "gt")),
                )
                for split in ("train", "test")
                for weather in ("rain", "snow", "fog")
            },
        ),
    )


WEATHER = (*_rain(), *_haze(), *_snow(), *_mixtures())
