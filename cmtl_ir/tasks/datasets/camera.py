"""Pairs with blur, noise, low light and shadow."""

from __future__ import annotations

from cmtl_ir.tasks.datasets.clean import ASK
from cmtl_ir.tasks.datasets.record import pairs, row

REALBLUR = "Rim et al., ECCV 2020; github.com/rimchang/RealBlur (`all` is its archive, the others MPRNet's arrangement)"
SCENES = "{scene}/blur/blur_{frame} > {scene}/gt/gt_{frame}"
LOL_V2 = "Yang et al., TIP 2021; github.com/flyywh/CVPR-2020-Semi-Low-Light"
SIDE_BY_SIDE = "{scene}/{shot}_NOISY_SRGB_{frame} > {scene}/{shot}_GT_SRGB_{frame}"

CAMERA = (
    row(
        "gopro",
        "motion blur",
        "GoPro",
        "Nah, Kim and Lee, CVPR 2017; seungjunnah.github.io/Datasets/gopro",
        "CC BY 4.0",
        train=pairs(2103, "train/{scene}/blur/{frame} > train/{scene}/sharp/{frame}"),
        test=pairs(1111, "test/{scene}/blur/{frame} > test/{scene}/sharp/{frame}"),
    ),
    row(
        "hide",
        "motion blur",
        "HIDE",
        "Shen et al., ICCV 2019; github.com/joanshen0508/HA_deblur",
        ASK,
        train=pairs(6397, "train/{name} > GT/{name}", spare=True),
        test=pairs(
            2025,
            "test/test-*/{name} > GT/{name}",
            spare=True,
        ),
    ),
    *(
        row(
            f"realblur_{sensor.lower()}",
            "motion blur",
            f"RealBlur_{sensor}",
            REALBLUR,
            ASK,
            train=pairs(3758),
            test=pairs(980),
            all=pairs(4738, SCENES),
        )
        for sensor in ("J", "R")
    ),
    row(
        "lol_v1",
        "low light",
        "LOL",
        "Wei et al. (RetinexNet), BMVC 2018; daooshee.github.io/BMVC2018website",
        ASK,
        train=pairs(485, "our485/low/{name} > our485/high/{name}"),
        test=pairs(15, "eval15/low/{name} > eval15/high/{name}"),
    ),
    row(
        "lol_v2_real",
        "low light",
        "LOL-v2/Real_captured",
        f"{LOL_V2} (pairs share the number at the end of their names)",
        ASK,
        train=pairs(689, "Train/Low/low{name} > Train/Normal/normal{name}"),
        test=pairs(100, "Test/Low/low{name} > Test/Normal/normal{name}"),
    ),
    row(
        "lol_v2_synthetic",
        "low light",
        "LOL-v2/Synthetic",
        LOL_V2,
        ASK,
        train=pairs(900, "Train/Low/{name} > Train/Normal/{name}"),
        test=pairs(100, "Test/Low/{name} > Test/Normal/{name}"),
    ),
    row(
        "sidd",
        "noise",
        "SIDD",
        "Abdelhamed, Lin and Brown, CVPR 2018; abdokamel.github.io/sidd (sRGB; `test`: its 1,280 validation blocks)",
        ASK,
        train=pairs(320, f"Data/{SIDE_BY_SIDE.replace(' > ', ' > Data/')}", SIDE_BY_SIDE),
        test=pairs(1280),
    ),
    row(
        "polyu",
        "noise",
        "PolyU",
        "Xu et al., arXiv 1804.02603; github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset",
        ASK,
        all=pairs(100, "CroppedImages/{name}_real > CroppedImages/{name}_mean", "{name}_real > {name}_mean"),
    ),
    row(
        "istd",
        "shadow",
        "ISTD",
        "Wang, Li and Yang (ST-CGAN), CVPR 2018; github.com/DeepInsight-PCALab/ST-CGAN",
        ASK,
        train=pairs(1330, "train/train_A/{name} > train/train_C/{name}"),
        test=pairs(540, "test/test_A/{name} > test/test_C/{name}"),
    ),
    row(
        "srd",
        "shadow",
        "SRD",
        "Qu et al. (DeshadowNet), CVPR 2017; links in github.com/vinthony/ghost-free-shadow-removal",
        ASK,
        train=pairs(2680, "Train/shadow/{name} > Train/shadow_free/{name}_no_shadow"),
        test=pairs(
            408,
            "test_data/shadow/{name} > test_data/shadow_free/{name}_no_shadow",
            "test_data/shadow/{name} > test_data/shadow_free/{name}_free",
        ),
    ),
)
