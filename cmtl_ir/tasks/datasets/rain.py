"""Pairs with rain and raindrops. Forms: the archives of the authors, then the arrangements of known repositories."""

from __future__ import annotations

from cmtl_ir.tasks.datasets.clean import ASK
from cmtl_ir.tasks.datasets.record import Layout, pairs, row

RAIN100 = "Yang et al., CVPR 2017; www.icst.pku.edu.cn/struct/Projects/joint_rain_removal.html"


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


RAIN = (
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
