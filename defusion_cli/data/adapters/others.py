"""Noise, clean photographs, underwater pictures, and pairs of your own: SIDD, DIV2K … WED, EUVP, TURBID, pairs."""

from __future__ import annotations

from defusion_cli.data.adapters.spec import DatasetSpec, Layout, Rule, one_layout, repack

_INSTANCE = r"{instance:\d\d\d\d}_{scene:\d\d\d}_{phone}_{iso}_{shutter}_{temperature}_{light}"

SIDD = DatasetSpec(
    id="sidd",
    title="SIDD Medium",
    degradations=("noise",),
    layouts=(
        one_layout(
            "official archive (SIDD_Medium_Srgb/Data)",
            Rule(
                rf"{_INSTANCE}/{{number:(?:\d+_)?}}NOISY_SRGB_{{shot:\d+}}",
                rf"{_INSTANCE}/{{number:(?:\d+_)?}}GT_SRGB_{{shot:\d+}}",
                part="train",
            ),
        ),
        one_layout("repack of Restormer (train/SIDD/input_crops)", repack("train|val|test", "SIDD")),
    ),
    official={"train": 320},
    supplement={"train": 288, "test": 32},
    supplement_split="seed90",
    licence="said to be MIT; see the site",
    citation="Abdelhamed, Lin, Brown: A high-quality denoising dataset for smartphone cameras, CVPR 2018",
    source="https://abdokamel.github.io/sidd/",
    group=("scene",),
    notes=(
        "160 scene instances of ten scenes, two shots each; SIDD Small has one each. There is no official test part "
        "here: papers score 1280 blocks of 256 × 256 from two .mat files.",
        "The supplement has 288 and 32, a tenth of 320; seed90 keeps scenes together and comes to 290 and 30. The ten "
        "scenes have 28, 15, 15, 15, 19, 19, 20, 20, 6 and 3 instances of two pictures: no choice of whole scenes has "
        "the 32 of the supplement, which must have split them.",
    ),
)

_CLEAN = "none: clean photographs, damaged on the fly"

DIV2K = DatasetSpec(
    id="div2k",
    title="DIV2K",
    degradations=("jpeg",),
    layouts=(
        one_layout(
            "official archives (DIV2K_train_HR, DIV2K_valid_HR)",
            Rule("", r"DIV2K_train_HR/{id:\d+}", part="train"),
            Rule("", r"DIV2K_valid_HR/{id:\d+}", part="val"),
        ),
    ),
    official={"train": 800, "val": 100},
    supplement={"all": 900},
    licence="said to be for academic research only; see the site",
    citation="Agustsson, Timofte: NTIRE 2017 challenge on single image super-resolution, CVPR workshops 2017",
    source="https://data.vision.ee.ethz.ch/cvl/DIV2K/",
    overlaps=(
        "The supplement trains on 900 = 800 + 100: a model that saw the validation part cannot be scored on it.",
    ),
    notes=("The pictures of the hidden test part were never released.",),
)

FLICKR2K = DatasetSpec(
    id="flickr2k",
    title="Flickr2K",
    degradations=("jpeg",),
    layouts=(
        one_layout("official archive (Flickr2K_HR)", Rule("", r"Flickr2K_HR/{id:\d+}", part="train")),
        one_layout("Flickr2K/", Rule("", r"Flickr2K/{id:\d+}", part="train")),
    ),
    official={"train": 2650},
    supplement={"train": 2650},
    licence="none is stated; the pictures belong to users of Flickr",
    citation="Timofte et al.: NTIRE 2017 challenge on single image super-resolution, CVPR workshops 2017",
    source="https://github.com/limbee/NTIRE2017",
)

LIVE1 = DatasetSpec(
    id="live1",
    title="LIVE1",
    degradations=("jpeg",),
    layouts=(one_layout("LIVE1/ or refimgs/", Rule("", "{:live1|refimgs}/{name}", part="test")),),
    official={"test": 29},
    supplement={"test": 29},
    licence="said to be for research; see the site",
    citation="Sheikh, Sabir, Bovik: A statistical evaluation of recent full reference image quality assessment "
    "algorithms, IEEE TIP 15(11), 2006",
    source="https://live.ece.utexas.edu/research/quality/",
    overlaps=("Many of the 29 scenes are those of the Kodak pictures.",),
    notes=("Named by subject. Compressed with quality 10 … 90 when scored.",),
)

WED = DatasetSpec(
    id="wed",
    title="WED",
    degradations=("rain", "snow", "noise"),
    layouts=(
        one_layout("official archive (pristine_images)", Rule("", r"pristine_images/{id:\d+}", part="train")),
        one_layout("WED/", Rule("", r"{:wed|WaterlooED|WaterlooExploration}/{id:\d+}", part="train")),
    ),
    official={"train": 4744},
    supplement={},
    licence="said to be for research; see the site",
    citation="Ma et al.: Waterloo exploration database, IEEE TIP 26(2), 2017",
    source="https://kedema.org/project/exploration/index.html",
    notes=("The base of the mixed set: defusion degrade --recipe mixed-wed pristine_images/ mixed/",),
)

EUVP = DatasetSpec(
    id="euvp",
    title="EUVP",
    degradations=("underwater",),
    layouts=(
        one_layout(
            "official archive (Paired/, test_samples/)",
            Rule(
                "{subset:underwater_dark|underwater_imagenet|underwater_scenes}/trainA/{stem}",
                "{subset:underwater_dark|underwater_imagenet|underwater_scenes}/trainB/{stem}",
                part="train",
            ),
            Rule("test_samples/Inp/{stem}", "test_samples/GTr/{stem}", part="test"),
        ),
    ),
    official={
        "train/underwater_dark": 5550,
        "train/underwater_imagenet": 3700,
        "train/underwater_scenes": 2185,
        "test": 515,
    },
    supplement={"test": 515},
    licence="said to be for academic use; see the site",
    citation="Islam, Xia, Sattar: Fast underwater image enhancement for improved visual perception, RA-L 5(2), 2020",
    source="https://irvlab.cs.umn.edu/resources/euvp-dataset",
    notes=(
        "A is distorted, B is good. The sizes of the training subsets are as commonly quoted.",
        "Unpaired/ and the folders validation/ have no references. The supplement uses this set for testing only.",
    ),
)

_MEDIA = "{subset:milk|deepblue|chlorophyll}"

TURBID = DatasetSpec(
    id="turbid",
    title="TURBID",
    degradations=("underwater",),
    layouts=(
        one_layout("TURBID 3D/ref_DeepBlue.jpg", Rule(rf"{_MEDIA}/{{n:\d+}}", f"ref_{_MEDIA}", part="test")),
        one_layout("TURBID 3D/DeepBlue/ref.jpg", Rule(rf"{_MEDIA}/{{n:\d+}}", f"{_MEDIA}/ref", part="test")),
    ),
    official={},
    supplement={"test": 60},
    licence="said to be for research; see the site",
    citation="Duarte, Codevilla, Gaya, Botelho: A dataset to evaluate underwater image restoration methods, "
    "OCEANS 2016",
    source="http://amandaduarte.com.br/turbid/",
    group=("subset",),
    notes=(
        "Every picture of a medium is compared with the one reference of that medium.",
        "How the supplement chose its 60 is not known: name yours in a list, turbid@FILE.",
    ),
)

_DAMAGED, _TWIN = "{:degraded|input|lq}{sub:(?:/.*)?}/{stem}", "{:clean|target|gt|hq}{sub:(?:/.*)?}/{stem}"

PAIRS = DatasetSpec(
    id="pairs",
    title="your own pairs",
    degradations=(),
    layouts=(
        Layout(
            "degraded/ (input/, lq/) and clean/ (target/, gt/, hq/)", (Rule(_DAMAGED, _TWIN, "train"),), from_root=True
        ),
    ),
    official={},
    supplement={},
    licence="yours",
    citation="",
    source="",
    notes=("A pair has the same name in both folders, whatever the suffix.",),
)

SPECS = (SIDD, DIV2K, FLICKR2K, LIVE1, WED, EUVP, TURBID, PAIRS)
