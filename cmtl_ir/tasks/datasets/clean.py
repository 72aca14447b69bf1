"""Sets of clean photographs, for tasks that degrade them and for tests."""

from __future__ import annotations

from cmtl_ir.tasks.datasets.record import images, row

RESEARCH = "research use"
ASK = "no licence known to us: see the authors' page"
BERKELEY = "non-commercial research and education"
BSDS = "www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html"
SELF_EX = "github.com/jbhuang0604/SelfExSR"
HIGH = ("image_SRF_2/{name}_HR", "image_SRF_4/{name}_HR", "HR/{name}", "GTmod12/{name}", "{name}")
"""Places of the high-resolution images in super-resolution sets, which also hold low-resolution images."""

CLEAN = (
    row(
        "bsd400",
        "clean",
        "BSD400",
        f"train and test of BSDS500, as denoisers train on them (Zhang et al., DnCNN, TIP 2017); {BSDS}",
        BERKELEY,
        train=images(400, "{name}"),
    ),
    row(
        "bsds500",
        "clean",
        "BSDS500",
        f"Arbelaez et al., TPAMI 2011; {BSDS}",
        BERKELEY,
        train=images(200, "images/train/{name}", "data/images/train/{name}"),
        val=images(100, "images/val/{name}", "data/images/val/{name}"),
        test=images(200, "images/test/{name}", "data/images/test/{name}"),
    ),
    row(
        "wed",
        "clean",
        "WED",
        "Waterloo Exploration Database (Ma et al., TIP 2017); ece.uwaterloo.ca/~k29ma/exploration",
        RESEARCH,
        train=images(4744, "pristine_images/{name}", "{name}"),
    ),
    row(
        "div2k",
        "clean",
        "DIV2K",
        "Agustsson and Timofte, CVPRW 2017; data.vision.ee.ethz.ch/cvl/DIV2K (its public `valid` is `test` here)",
        "academic research",
        train=images(800, "DIV2K_train_HR/{name}"),
        test=images(100, "DIV2K_valid_HR/{name}"),
    ),
    row(
        "flickr2k",
        "clean",
        "Flickr2K",
        "Lim et al. (EDSR), CVPRW 2017; cv.snu.ac.kr/research/EDSR/Flickr2K.tar",
        ASK,
        train=images(2650, "Flickr2K_HR/{name}", "{name}"),
    ),
    row(
        "cbsd68",
        "clean",
        "CBSD68",
        "68 images of BSDS500 in colour (Roth and Black, CVPR 2005); github.com/clausmichele/CBSD68-dataset",
        BERKELEY,
        test=images(68, "original_png/{name}", "CBSD68/original_png/{name}", "{name}"),
    ),
    row(
        "kodak24",
        "clean",
        "Kodak24",
        "Kodak lossless true colour suite; r0k.us/graphics/kodak",
        "released for unrestricted use",
        test=images(24, "{name}"),
    ),
    row(
        "mcmaster",
        "clean",
        "McMaster",
        "Zhang, Wu, Buades and Li, JEI 2011; www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm",
        ASK,
        test=images(18, "{name}"),
    ),
    row("set5", "clean", "Set5", f"Bevilacqua et al., BMVC 2012; {SELF_EX}", ASK, test=images(5, *HIGH)),
    row("set14", "clean", "Set14", f"Zeyde, Elad and Protter, 2010; {SELF_EX}", ASK, test=images(14, *HIGH)),
    row("bsd100", "clean", "BSD100", f"100 images of BSDS500; {SELF_EX}", BERKELEY, test=images(100, *HIGH)),
    row("urban100", "clean", "Urban100", f"Huang et al., CVPR 2015; {SELF_EX}", ASK, test=images(100, *HIGH)),
    row(
        "manga109",
        "clean",
        "Manga109",
        "Matsui et al., MTAP 2017; manga109.org",
        "academic use, on application",
        test=images(109, *HIGH),
    ),
    row(
        "mio100",
        "clean",
        "MiO100",
        "Kong, Dong and Zhang, arXiv 2401.03379; github.com/Xiangtaokong/MiOIR",
        ASK,
        test=images(100, "HQ/{name}", "GT/{name}", "{name}"),
    ),
)
