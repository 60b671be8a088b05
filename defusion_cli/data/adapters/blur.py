"""Motion blur and defocus: GoPro, RealBlur, DPDD."""

from __future__ import annotations

from defusion_cli.data.adapters.spec import DatasetSpec, Layout, Rule, one_layout, repack

GOPRO = DatasetSpec(
    id="gopro",
    title="GoPro",
    degradations=("motion-blur",),
    layouts=(
        one_layout(
            "official archive (GOPRO_Large)",
            Rule(
                "{split:train|test}/{scene}/{subset:blur|blur_gamma}/{frame}",
                "{split:train|test}/{scene}/sharp/{frame}",
            ),
        ),
        one_layout("repack of Restormer (train/GoPro/input)", repack("train|test", "GoPro")),
        one_layout(
            "repack of NAFNet (GoPro/train/input)",
            Rule("GoPro/{split:train|test}/{:input|blur}/{stem}", "GoPro/{split:train|test}/{:target|sharp}/{stem}"),
        ),
    ),
    official={"train": 2103, "test": 1111},
    supplement={"train": 2103, "test": 1111},
    licence="said to be CC BY 4.0; see the site",
    citation="Nah, Kim, Lee: Deep multi-scale convolutional neural network for dynamic scene deblurring, CVPR 2017",
    source="https://seungjunnah.github.io/Datasets/gopro",
    group=("scene",),
    default_subsets=("blur_gamma",),
    notes=(
        "Two blurred versions lie side by side: blur (linear response) and blur_gamma (gamma 2.2). blur_gamma is used "
        "unless you say gopro.blur; the authors' own loader for GOPRO_Large takes it, too.",
    ),
)


def _realblur(letter: str, folder: str) -> DatasetSpec:
    return DatasetSpec(
        id=f"realblur-{letter.lower()}",
        title=f"RealBlur-{letter}",
        degradations=("motion-blur",),
        layouts=(
            one_layout(
                "official archive",
                Rule(f"{folder}/{{scene}}/blur/blur_{{shot}}", f"{folder}/{{scene}}/gt/gt_{{shot}}"),
            ),
            one_layout(
                f"repack of Restormer (test/RealBlur_{letter}/input)", repack("train|test", f"RealBlur_{letter}")
            ),
        ),
        official={"train": 3758, "test": 980},
        supplement={},
        family="RealBlur-J and RealBlur-R",
        family_supplement={"train": 7516, "test": 1961},
        licence="CC BY 4.0",
        citation="Rim, Lee, Won, Cho: Real-world blur dataset for learning and benchmarking deblurring, ECCV 2020",
        source="https://github.com/rimchang/RealBlur",
        group=("scene",),
        lists={part: f"RealBlur_{letter}_{part}_list.txt" for part in ("train", "test")},
        overlaps=("RealBlur-J and RealBlur-R show the same scenes: train and test on the same side of the split.",),
        notes=(
            "The supplement counts J and R together: 7516 for training (2 × 3758) and 1961 for testing, one more than "
            "2 × 980.",
            "Published scores are taken after registration of the two pictures.",
        ),
    )


REALBLUR_J = _realblur("J", "RealBlur-J_ECC_IMCORR_centroid_itensity_ref")
REALBLUR_R = _realblur("R", "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref")
"""``itensity`` is how the archives spell it."""

DPDD = DatasetSpec(
    id="dpdd",
    title="DPDD",
    degradations=("defocus-blur",),
    layouts=(
        Layout(
            "official archive (dd_dp_dataset_canon)",
            (
                Rule(
                    "{split:train|val|test}_{subset:c|l|r}/source/{source}",
                    "{split:train|val|test}_{subset:c|l|r}/target/{target}",
                ),
            ),
            position_gap=2,
        ),
        Layout(
            "repack of Restormer (test/DPDD/inputC)",
            (
                Rule(
                    "{split:train|val|test}/DPDD/input{subset:c|l|r}/{source}",
                    "{split:train|val|test}/DPDD/target/{target}",
                ),
            ),
            position_gap=2,
        ),
    ),
    official={"train": 350, "val": 74, "test": 76},
    supplement={"train": 350, "test": 76},
    licence="the repository is MIT; the pictures carry no terms of their own",
    citation="Abuolaim, Brown: Defocus deblurring using dual-pixel data, ECCV 2020",
    source="https://github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel",
    default_subsets=("c",),
    notes=(
        "The names of a pair differ by one or two (1P0A0890 and 1P0A0891): pictures pair by position after sorting, "
        "and a larger difference is an error.",
        "16 bits per channel. c is the combined picture; dpdd.l and dpdd.r are the two dual-pixel views.",
    ),
)

SPECS = (GOPRO, REALBLUR_J, REALBLUR_R, DPDD)
