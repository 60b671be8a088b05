"""Raindrops and rain: RainDrop, RainDS, Rain1400, Outdoor-Rain, LHP-Rain."""

from __future__ import annotations

from defusion_cli.data.adapters.spec import DatasetSpec, Fields, Rule, one_layout

RAINDROP = DatasetSpec(
    id="raindrop",
    title="RainDrop",
    degradations=("raindrop",),
    layouts=(
        one_layout(
            "official archives (train/data, test_a/data, test_b/data)",
            Rule("train/data/{id}_rain", "train/gt/{id}_clean", part="train"),
            Rule("test_{subset:a|b}/data/{id}_rain", "test_{subset:a|b}/gt/{id}_clean", part="test"),
        ),
    ),
    official={"train": 861, "test/a": 58, "test/b": 249},
    supplement={"train": 861, "test": 307},
    licence="none is stated",
    citation="Qian, Tan, Yang, Su, Liu: Attentive generative adversarial network for raindrop removal from a single "
    "image, CVPR 2018",
    source="https://github.com/rui1996/DeRaindrop",
    nested_subsets=("a", "b"),
    overlaps=(
        "test_a is a part of test_b, as its authors write: the supplement's 307 = 58 + 249 counts 58 pictures twice. "
        "Score raindrop.a and raindrop.b separately.",
    ),
    notes=("test_b is JPEG, the others are PNG. The authors write 239 for test_b; on disk there are 249.",),
)

_RAINDS = {"raindrop": ("raindrop",), "rainstreak": ("rain",), "rainstreak_raindrop": ("rain", "raindrop")}
_SUBSETS = "{subset:raindrop|rainstreak|rainstreak_raindrop}"
_RAINDS_TERMS = {
    "degradations": ("rain", "raindrop"),
    "subset_degradations": _RAINDS,
    "licence": "none is stated",
    "citation": "Quan, Yu, Liang, Yang: Removing raindrops and rain streaks in one go, CVPR 2021",
    "source": "https://github.com/Songforrr/RainDS_CCN",
}

RAINDS_REAL = DatasetSpec(
    id="rainds-real",
    title="RainDS real",
    layouts=(
        one_layout(
            "official archive (RainDS_real)",
            Rule(
                f"RainDS_real/{{split:train|train_set|test|test_set}}/{_SUBSETS}/{{id}}",
                "RainDS_real/{split:train|train_set|test|test_set}/gt/{id}",
            ),
        ),
    ),
    official={
        **{f"train/{subset}": 150 for subset in _RAINDS},
        **{f"test/{subset}": 98 for subset in _RAINDS},
    },
    supplement={"train": 150, "test": 98},
    group=("split", "id"),
    default_subsets=("raindrop",),
    notes=(
        "Three damaged versions of every picture: rainds-real.raindrop (used unasked: the supplement lists RainDS "
        "under raindrop removal, but does not say which), .rainstreak and .rainstreak_raindrop.",
        "test_set/rainstreak holds a stray IMG_7435.png that has no clean picture.",
    ),
    **_RAINDS_TERMS,  # type: ignore[arg-type]
)

RAINDS_SYN = DatasetSpec(
    id="rainds-syn",
    title="RainDS syn",
    layouts=(
        one_layout(
            "official archive (RainDS_syn)",
            Rule(
                f"RainDS_syn/{{split:train|train_set|test|test_set}}/{_SUBSETS}/"
                "{pie:(?:pie-)?}{:rd-rain|rd|rain}-{id}",
                "RainDS_syn/{split:train|train_set|test|test_set}/gt/{pie:(?:pie-)?}norain-{id}",
            ),
        ),
    ),
    official={},
    supplement={},
    group=("split", "pie", "id"),
    default_subsets=("raindrop",),
    notes=("pie-norain-1 and norain-1 are different pictures: the prefix is part of the key.",),
    **_RAINDS_TERMS,  # type: ignore[arg-type]
)

RAIN1400 = DatasetSpec(
    id="rain1400",
    title="Rain1400",
    degradations=("rain",),
    layouts=(
        one_layout(
            "official archive (rainy_image_dataset)",
            Rule(
                r"{split:training|testing|train|test}/rainy_image/{id:\d+}_{style:\d+}",
                r"{split:training|testing|train|test}/ground_truth/{id:\d+}",
            ),
        ),
        one_layout(
            "Rain1400/train/input",
            Rule(
                r"{split:training|testing|train|test}/{:input|rain}/{id:\d+}_{style:\d+}",
                r"{split:training|testing|train|test}/{:target|gt|norain}/{id:\d+}",
            ),
            hint="rain1400|ddn",
        ),
    ),
    official={"train": 12600, "test": 1400},
    supplement={"train": 12600, "test": 1400},
    licence="none is stated",
    citation="Fu et al.: Removing rain from single images via a deep detail network, CVPR 2017",
    source="https://xueyangfu.github.io/projects/cvpr2017.html",
    group=("split", "id"),
    notes=(
        '900 and 100 pictures, each under 14 rains. MSPFN\'s "Rain14000" trains on 800 × 14 of them: another split.',
    ),
)


def _outdoor_rain_part(fields: Fields) -> str:
    return "test" if 301 <= int(fields["id"].removeprefix("im_")) <= 350 else "train"


OUTDOOR_RAIN = DatasetSpec(
    id="outdoor-rain",
    title="Outdoor-Rain",
    degradations=("rain",),
    layouts=(
        one_layout(
            "official archive (in/, gt/)",
            Rule(r"{:in|input}/{id:im_\d+}_s{s:\d+}_a{a:\d+}", r"{:gt}/{id:im_\d+}"),
        ),
    ),
    official={"train": 8250, "test": 750},
    supplement={"train": 8100, "test": 900},
    supplement_split="seed90",
    licence="none is stated",
    citation="Li, Cheong, Tan: Heavy rain image restoration, CVPR 2019",
    source="https://github.com/liruoteng/HeavyRainRemoval",
    group=("id",),
    part_of=_outdoor_rain_part,
    overlaps=(
        "The usual test set (test1, im_0301 to im_0350, 750 pictures) lies inside the 9000 released ones: official "
        "keeps them out of training.",
    ),
    notes=(
        "600 backgrounds under 15 rains: s is the strength, a the label of the airlight. The pictures show streaks and "
        "a veil of rain.",
    ),
)

LHP_RAIN = DatasetSpec(
    id="lhp-rain",
    title="LHP-Rain",
    degradations=("rain",),
    layouts=(
        one_layout(
            "LHP-Rain/test/input",
            Rule(
                "{split:train|val|test}/{:input|rain}/{stem}",
                "{split:train|val|test}/{:gt|target}/{stem}",
            ),
            hint="LHP",
        ),
    ),
    official={"test": 300},
    supplement={"test": 300},
    licence="for research",
    citation="Guo et al.: From sky to the ground: a large-scale benchmark and simple baseline towards real rain "
    "removal, ICCV 2023",
    source="https://github.com/yunguo224/LHP-Rain",
    notes=(
        "The site offers 3000 full-size pairs and patches of them. 300 is taken to be the full-size test part; the "
        "1000 test patches of 512 × 512 are something else.",
        "Some files have an alpha channel, which is ignored. The supplement uses this set for testing only.",
    ),
)

SPECS = (RAINDROP, RAINDS_REAL, RAINDS_SYN, RAIN1400, OUTDOOR_RAIN, LHP_RAIN)
