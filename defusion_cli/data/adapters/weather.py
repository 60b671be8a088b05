"""Snow and haze: Snow100K, RealSnow, RESIDE, Dense-Haze."""

from __future__ import annotations

from defusion_cli.data.adapters.spec import DatasetSpec, Fields, Rule, one_layout

SNOW100K = DatasetSpec(
    id="snow100k",
    title="Snow100K",
    degradations=("snow",),
    layouts=(
        one_layout(
            "official archives (all/, Snow100K-S/, -M/, -L/)",
            Rule("all/synthetic/{stem}", "all/gt/{stem}", part="train"),
            Rule("Snow100K-{subset:S|M|L}/synthetic/{stem}", "Snow100K-{subset:S|M|L}/gt/{stem}", part="test"),
        ),
        one_layout(
            "train/ in place of all/",
            Rule("Snow100K/train/synthetic/{stem}", "Snow100K/train/gt/{stem}", part="train"),
            Rule("Snow100K-{subset:S|M|L}/synthetic/{stem}", "Snow100K-{subset:S|M|L}/gt/{stem}", part="test"),
        ),
    ),
    official={"train": 50000, "test": 50000, "test/s": 16611, "test/m": 16588, "test/l": 16801},
    supplement={"train": 50000, "test": 50000},
    licence="none is stated",
    citation="Liu, Jaw, Huang, Hwang: DesnowNet, IEEE TIP 27(6), 2018",
    source="https://sites.google.com/view/yunfuliu/desnownet",
    notes=(
        "Table 6 of the supplement scores Snow100K-L only: snow100k.l.",
        "mask/ is not used; realistic/ has no clean pictures.",
        "Folders Gt/ and Snow/ with 2500 and 2000 pictures are a subset, and another benchmark.",
    ),
)

REALSNOW = DatasetSpec(
    id="realsnow",
    title="RealSnow",
    degradations=("snow",),
    layouts=(
        one_layout(
            "official archive (video2imgs_IN_testing_re)",
            Rule("video2imgs_IN_test{tag:[^/]*}/{stem}", "video2imgs_GT_test{tag:[^/]*}/{stem}", part="test"),
            Rule("video2imgs_IN_train{tag:[^/]*}/{stem}", "video2imgs_GT_train{tag:[^/]*}/{stem}", part="train"),
        ),
        one_layout(
            "RealSnow/training/input",
            Rule(
                "RealSnow/{split:train|training|test|testing}/{:input|in|snow}/{stem}",
                "RealSnow/{split:train|training|test|testing}/{:gt|target}/{stem}",
            ),
        ),
    ),
    official={"train": 61500, "test": 240},
    supplement={"train": 61500, "test": 240},
    licence="for research",
    citation="Zhu et al.: Learning weather-general and weather-specific features for image restoration under multiple "
    "adverse weather conditions, CVPR 2023",
    source="https://github.com/zhuyr97/WGWS-Net",
    notes=(
        "The training part is crops of video frames. Their names may not tell which video they are of, so seed90 "
        "cannot promise to keep a video on one side.",
    ),
)

_RESIDE = "Li et al.: Benchmarking single-image dehazing and beyond, IEEE TIP 28(1), 2019"
_RESIDE_SOURCE = "https://sites.google.com/view/reside-dehaze-datasets"
_RESIDE_LICENCE = "said to be for academic use; see the site"

RESIDE_ITS = DatasetSpec(
    id="reside-its",
    title="RESIDE ITS",
    degradations=("haze",),
    layouts=(
        one_layout(
            "official archive (ITS/hazy, ITS/clear)",
            Rule(r"hazy/{id:[1-9]\d*}_{n:\d+}_{t}", r"{:clear|gt}/{id:\d+}", part="train"),
            avoid="SOTS",
        ),
        one_layout(
            "train/ITS_haze, train/ITS_clear",
            Rule(r"ITS_haz{:e|y}/{id:\d+}_{n:\d+}_{t}", r"ITS_clear/{id:\d+}", part="train"),
        ),
    ),
    official={"train": 13990},
    supplement={"train": 12591},
    supplement_split="seed90",
    licence=_RESIDE_LICENCE,
    citation=_RESIDE,
    source=_RESIDE_SOURCE,
    group=("id",),
    notes=(
        "1399 backgrounds with ten hazes each (RESIDE-standard). The supplement's 12591 is nine tenths of 13990, which "
        "cuts through one background: seed90 keeps backgrounds whole and comes to 12590.",
    ),
)

RESIDE_OTS = DatasetSpec(
    id="reside-ots",
    title="RESIDE OTS",
    degradations=("haze",),
    layouts=(
        one_layout(
            "official archive (OTS/hazy, OTS/clear)",
            Rule(r"hazy/{id:\d\d\d\d}_{A:0\.\d+|1(?:\.0)?}_{beta:0?\.\d+}", r"{:clear|gt}/{id:\d\d\d\d}", part="train"),
            avoid="SOTS|reside-outdoor/test/",
        ),
        one_layout(
            "parts as unpacked (OTS/part1 … part4)",
            Rule(r"part{:\d}/{id:\d\d\d\d}_{A:0\.\d+|1(?:\.0)?}_{beta:0?\.\d+}", r"clear/{id:\d\d\d\d}", part="train"),
            avoid="SOTS",
        ),
    ),
    official={"train": 72135},
    supplement={},
    licence=_RESIDE_LICENCE,
    citation=_RESIDE,
    source=_RESIDE_SOURCE,
    group=("id",),
    drop_scenes_of="sots-outdoor",
    overlaps=(
        "Both releases of OTS contain scenes of SOTS outdoor. Where SOTS lies in the same folder, or is named by "
        "`exclude` in a mixture file, pictures with its numbers are left out.",
    ),
    notes=(
        "2061 backgrounds × 35 hazes in RESIDE-β; 8970 × 35 = 313950 in RESIDE-v0.",
        "In 0001_0.8_0.2 the airlight A is 0.8 and the scattering coefficient beta is 0.2.",
    ),
)

SOTS_INDOOR = DatasetSpec(
    id="sots-indoor",
    title="RESIDE SOTS indoor",
    degradations=("haze",),
    layouts=(
        one_layout(
            "official archive (SOTS/indoor)",
            Rule(r"indoor/hazy/{id:\d+}_{n:\d+}", r"indoor/{:gt|clear}/{id:\d+}", part="test"),
        ),
        one_layout(
            "reside-indoor/test",
            Rule(r"reside-indoor/test/hazy/{id:\d+}_{n:\d+}", r"reside-indoor/test/{:gt|clear}/{id:\d+}", part="test"),
        ),
    ),
    official={"test": 500},
    supplement={},
    licence=_RESIDE_LICENCE,
    citation=_RESIDE,
    source=_RESIDE_SOURCE,
    group=("id",),
    centre_crop=True,
    notes=("50 scenes × 10 hazes. The clean pictures are a few pixels larger on all sides: their centre is the twin.",),
)

SOTS_OUTDOOR = DatasetSpec(
    id="sots-outdoor",
    title="RESIDE SOTS outdoor",
    degradations=("haze",),
    layouts=(
        one_layout(
            "official archive (SOTS/outdoor)",
            Rule(r"outdoor/hazy/{id:\d+}_{A:[\d.]+}_{beta:[\d.]+}", r"outdoor/{:gt|clear}/{id:\d+}", part="test"),
        ),
        one_layout(
            "reside-outdoor/test",
            Rule(
                r"reside-outdoor/test/hazy/{id:\d+}_{A:[\d.]+}_{beta:[\d.]+}",
                r"reside-outdoor/test/{:gt|clear}/{id:\d+}",
                part="test",
            ),
        ),
    ),
    official={"test": 500},
    supplement={},
    licence=_RESIDE_LICENCE,
    citation=_RESIDE,
    source=_RESIDE_SOURCE,
    group=("id",),
    overlaps=("Scenes of SOTS outdoor are in OTS, too: a model trained on the whole of OTS has seen them.",),
)


def _ntire_part(fields: Fields) -> str:
    number = int(fields["id"])
    return "train" if number <= 45 else "val" if number <= 50 else "test"


DENSE_HAZE = DatasetSpec(
    id="dense-haze",
    title="Dense-Haze",
    degradations=("haze",),
    layouts=(
        one_layout(
            "official archive (Dense_Haze_NTIRE19)",
            Rule(r"{:hazy}/{id:\d+}_hazy", r"GT/{id:\d+}_GT"),
            hint="dense",
        ),
        one_layout("one folder", Rule(r"{:[^/]*dense[^/]*}/{id:\d+}_hazy", r"{:[^/]*dense[^/]*}/{id:\d+}_GT")),
    ),
    official={"all": 55},
    supplement={"train": 49, "test": 6},
    supplement_split="seed90",
    licence="said to be for research, as in the NTIRE challenge; see the site",
    citation="Ancuti, Ancuti, Sbert, Timofte: Dense-Haze, ICIP 2019",
    source="https://data.vision.ee.ethz.ch/cvl/ntire19/dense-haze/",
    group=("id",),
    part_of=_ntire_part,
    notes=(
        "The archive holds 55 pairs although the paper speaks of 33.",
        "official is the split commonly taken for that of NTIRE 2019: 45 for training, 5 for validation, 5 for "
        "testing, by number. The supplement's 49 and 6 come from a split of its own: seed90.",
    ),
)

SPECS = (SNOW100K, REALSNOW, RESIDE_ITS, RESIDE_OTS, SOTS_INDOOR, SOTS_OUTDOOR, DENSE_HAZE)
