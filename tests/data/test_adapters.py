"""Look-alike trees of every data set, with their oddities: they are recognised, pair up, and split without leaks."""

# ruff: noqa: E501 (one line a tree)
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.data.adapters import DATASETS, Selection, Tree, check, dataset, find, load, parse_selection
from defusion_cli.data.mixture import parse_sources, read_mixture
from defusion_cli.data.sources import parse_source
from defusion_cli.data.synthesis import SynthesisConfig, ViewMaker
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import Picture, read_image, write_image
from defusion_cli.plugins import installed_plugins

ITENSITY = "RealBlur-{}_{}ECC_IMCORR_centroid_itensity_ref"
SIDD_DIR = "SIDD_Medium_Srgb/Data/{0:04d}_{1:03d}_S6_00100_00060_3200_L/{0:04d}_{2}_SRGB_{3}.PNG"


def realblur(letter: str, infix: str) -> list[str]:
    top = ITENSITY.format(letter, infix)
    return [
        f"{top}/{s}/{f}_{k}.png"
        for s in ("scene001", "scene244_reflect")
        for k in (1, 2)
        for f in ("blur/blur", "gt/gt")
    ]


TREES: dict[str, list[str]] = {
    "gopro": [
        f"GOPRO_Large/{split}/{scene}/{kind}/{n:06d}.png"
        for split, scene in (("train", "GOPR0372_07_00"), ("test", "GOPR0384_11_00"))
        for kind in ("blur", "blur_gamma", "sharp")
        for n in (47, 48)
    ],
    "realblur-j": realblur("J", ""),
    "realblur-r": realblur("R", "BM3D_"),
    # Names of a pair are off by one, in either direction, and once by two.
    "dpdd": [f"dd_dp_dataset_canon/{split}_c/{side}/1P0A{n:04d}.png" for split in ("train", "val", "test")
             for side, numbers in (("source", (890, 902, 910)), ("target", (891, 901, 912))) for n in numbers],
    "snow100k": [f"media/jdway/GameSSD/overlapping/{top}/{kind}/{name}.jpg" for top in ("all", "Snow100K-S", "Snow100K-M", "Snow100K-L")
                 for kind in ("gt", "mask", "synthetic") for name in ("beautiful_smile_1", "city_2")],
    "realsnow": [f"RealSnow/video2imgs_{side}_{part}_re/{n}.jpg" for side in ("IN", "GT") for part in ("testing", "training") for n in (1, 2)],
    "reside-its": [f"ITS/hazy/{i}_{k}_0.90{k}79.png" for i in (1, 2, 1399) for k in range(1, 11)] + [f"ITS/clear/{i}.png" for i in (1, 2, 1399)],
    "reside-ots": [f"OTS/hazy/{i:04d}_{a}_{b}.jpg" for i in (1, 2040) for a in (0.8, 1) for b in (0.04, 0.2)]
    + [f"OTS/clear/{i:04d}.jpg" for i in (1, 2040)],
    "sots-indoor": [f"SOTS/indoor/hazy/{i}_{k}.png" for i in (1400, 1401) for k in (1, 10)] + [f"SOTS/indoor/gt/{i}.png" for i in (1400, 1401)],
    "sots-outdoor": [f"SOTS/outdoor/hazy/{i:04d}_0.8_0.2.jpg" for i in (1, 7)] + [f"SOTS/outdoor/gt/{i:04d}.png" for i in (1, 7)],
    "dense-haze": [f"Dense_Haze_NTIRE19/{f}" for n in range(1, 56) for f in (f"hazy/{n:02d}_hazy.png", f"GT/{n:02d}_gt.PNG")],
    "raindrop": [f"{top}/{side}/{n}_{what}.{suffix}" for top, suffix in (("train", "png"), ("test_a/test_a", "png"), ("test_b", "jpg"))
                 for side, what in (("data", "rain"), ("gt", "clean")) for n in (0, 1)],
    "rainds-real": [f"RainDS/RainDS_real/{part}/{kind}/{n}.png" for part in ("train_set", "test_set")
                    for kind in ("gt", "raindrop", "rainstreak", "rainstreak_raindrop") for n in (2, 218)],
    "rainds-syn": [f"RainDS/RainDS_syn/train/{kind}-{n}.png".replace("/*", f"/{pie}") for pie in ("", "pie-") for n in (1, 2)
                   for kind in ("gt/*norain", "raindrop/*rd", "rainstreak/*rain", "rainstreak_raindrop/*rd-rain")],
    "rain1400": [f"rainy_image_dataset/{part}/rainy_image/{n}_{k}.jpg" for part in ("training", "testing") for n in (1, 2) for k in range(1, 15)]
    + [f"rainy_image_dataset/{part}/ground_truth/{n}.jpg" for part in ("training", "testing") for n in (1, 2)],
    "outdoor-rain": [f"train/in/im_{n:04d}_s{s}_a{a}.png" for n in range(296, 306) for s in (80, 85, 90, 95, 100) for a in ("04", "05", "06")]
    + [f"train/gt/im_{n:04d}.png" for n in range(296, 306)],
    "lhp-rain": [f"LHP-Rain/{part}/{side}/{n}.png" for part in ("train", "test") for side in ("input", "gt") for n in (1, 2)],
    "sidd": [SIDD_DIR.format(i, scene, kind, shot) for i, scene in enumerate((1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 1)
             for kind in ("NOISY", "GT") for shot in ("010", "011")],
    "div2k": ["DIV2K_train_HR/0001.png", "DIV2K_train_HR/0002.png", "DIV2K_valid_HR/0801.png"],
    "flickr2k": ["Flickr2K/Flickr2K_HR/000001.png"],
    "live1": ["LIVE1/bikes.bmp", "LIVE1/sailing1.bmp"],
    "wed": ["exploration_database_and_code/pristine_images/00001.bmp"],
    "euvp": [f"EUVP/Paired/underwater_dark/{side}/{n}.jpg" for side in ("trainA", "trainB") for n in (1, 2)]
    + ["EUVP/Paired/underwater_dark/validation/9.jpg"]
    + [f"EUVP/test_samples/{side}/test_p1_.jpg" for side in ("Inp", "GTr")],
    "turbid": ["TURBID 3D/ref_DeepBlue.jpg", "TURBID 3D/ref_Milk.jpg", "TURBID 3D/DeepBlue/01.jpg", "TURBID 3D/DeepBlue/02.jpg", "TURBID 3D/Milk/01.jpg"],
    "pairs": ["degraded/a/1.png", "degraded/2.jpg", "clean/a/1.bmp", "clean/2.png"],
}  # fmt: skip

# Pairs expected by part, in the usual subsets.
COUNTS = {
    "gopro": (2, 0, 2), "realblur-j": None, "realblur-r": None, "dpdd": (3, 3, 3), "snow100k": (2, 0, 6),
    "realsnow": (2, 0, 2), "reside-its": (30, 0, 0), "reside-ots": (8, 0, 0), "sots-indoor": (0, 0, 4),
    "sots-outdoor": (0, 0, 2), "dense-haze": (45, 5, 5), "raindrop": (2, 0, 4), "rainds-real": (2, 0, 2),
    "rainds-syn": (4, 0, 0), "rain1400": (28, 0, 28), "outdoor-rain": (75, 0, 75), "lhp-rain": (2, 0, 2),
    "sidd": (22, 0, 0), "div2k": (2, 1, 0), "flickr2k": (1, 0, 0), "live1": (0, 0, 2), "wed": (1, 0, 0),
    "euvp": (2, 0, 1), "turbid": (0, 0, 3), "pairs": (2, 0, 0),
}  # fmt: skip


def touch(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A name of its own: that of the test would end up in the paths from which sets are recognised.
    return tmp_path_factory.mktemp("folder")


def lists(root: Path, letter: str, infix: str) -> None:
    top = ITENSITY.format(letter, infix)
    for part, scene in (("train", "scene001"), ("test", "scene244_reflect")):
        lines = [f"{top}/{scene}/gt/gt_{k}.png {top}/{scene}/blur/blur_{k}.png " for k in (1, 2)]
        (root / f"RealBlur_{letter}_{part}_list.txt").write_text("\n".join(lines))


def test_every_set_has_a_tree():
    assert set(TREES) == set(COUNTS) == set(DATASETS)


@pytest.mark.parametrize("name", TREES)
def test_a_set_is_recognised_and_pairs_up(name, root):
    touch(root, TREES[name])
    lists(root, "J", "")
    lists(root, "R", "BM3D_")
    reports = check(root)
    assert [report.spec.id for report in reports] == [name]
    assert not reports[0].problems
    wanted = COUNTS[name] or (2, 0, 2)
    counts = {row.name: row.pairs for row in reports[0].rows}
    assert tuple(counts.get(part, 0) for part in ("train", "val", "test")) == wanted


def test_all_sets_side_by_side_are_told_apart(root):
    for name in TREES.keys() - {"pairs"}:
        touch(root / f"disk{list(TREES).index(name)}", TREES[name])
    assert {report.spec.id for report in check(root)} == set(TREES) - {"pairs"}


@pytest.mark.parametrize("folder", ["GOPRO_Large", "GOPRO_Large/test"])
def test_any_folder_of_a_set_may_be_named(folder, root):
    touch(root, TREES["gopro"])
    assert [report.spec.id for report in check(root / folder)] == ["gopro"]


def test_pairs_are_those_of_the_key(root):
    touch(root, TREES["rain1400"] + TREES["rainds-syn"])
    for pair in find(dataset("rain1400"), Tree(root), named=True).pairs:
        assert pair.damaged is not None and pair.damaged.stem.rsplit("_", 1)[0] == pair.clean.stem
    for pair in find(dataset("rainds-syn"), Tree(root), named=True).pairs:
        assert pair.damaged is not None and pair.damaged.name.startswith("pie-") == pair.clean.name.startswith("pie-")
        assert pair.damaged.stem.rsplit("-")[-1] == pair.clean.stem.rsplit("-")[-1]


def test_dpdd_pairs_by_position_and_notices_a_missing_file(root):
    touch(root, TREES["dpdd"])
    pairs = load(Selection(dataset("dpdd")), root)[1]
    assert [(p.damaged.stem, p.clean.stem) for p in pairs if p.damaged][1] == ("1P0A0902", "1P0A0901")
    (root / "dd_dp_dataset_canon/train_c/source/1P0A0890.png").unlink()
    with pytest.raises(DataError, match="does not pair up"):
        load(Selection(dataset("dpdd")), root)
    (root / "dd_dp_dataset_canon/train_c/target/1P0A0912.png").unlink()
    assert "a file before it is missing" in check(root)[0].problems[0]


@pytest.mark.parametrize(("name", "group"), [("outdoor-rain", "id"), ("sidd", "scene"), ("dense-haze", "id")])
def test_seed90_holds_out_a_tenth_and_leaks_no_scene(name, group, root):
    touch(root, TREES[name])
    selection = Selection(dataset(name), split="seed90")
    train, test = (load(selection, root, part)[1] for part in ("train", "test"))
    assert not {p.fields[group] for p in train} & {p.fields[group] for p in test}
    assert len(test) / (len(train) + len(test)) == pytest.approx(0.1, abs=0.02)


def test_seed90_gives_the_numbers_of_the_supplement(root):
    touch(root, TREES["dense-haze"])
    counts = {row.name: (row.pairs, row.supplement) for row in check(root, split="seed90")[0].rows}
    assert (counts["train"], counts["test"]) == ((49, 49), (6, 6))


def test_a_list_is_a_split(root):
    touch(root, TREES["gopro"])
    (root / "mine.txt").write_text("# these\ntest/GOPR0384_11_00/blur_gamma/000048.png\n000047.png\n")
    pairs = load(Selection(dataset("gopro"), split=str(root / "mine.txt")), root)[1]
    assert sorted((p.fields["split"], p.fields["frame"]) for p in pairs) == [
        ("test", "000047"),
        ("test", "000048"),
        ("train", "000047"),
    ]
    (root / "mine.txt").write_text("nothing.png\n")
    with pytest.raises(DataError, match="not in the set"):
        load(Selection(dataset("gopro"), split=str(root / "mine.txt")), root)


def test_realblur_without_its_lists_says_which_file_is_missing(root):
    touch(root, TREES["realblur-j"])
    report = check(root)[0]
    assert "RealBlur_J_train_list.txt" in report.problems[0]


def test_ots_leaves_out_the_scenes_of_sots(root):
    touch(root, TREES["reside-ots"])
    touch(root / "other", TREES["sots-outdoor"])
    assert {p.fields["id"] for p in load(Selection(dataset("reside-ots")), root)[1]} == {"2040"}
    remarks = " ".join(r for report in check(root) for r in report.remarks)
    assert "4 pairs show scenes of RESIDE SOTS outdoor" in remarks


def test_orphans_and_a_misnamed_folder_are_named_with_the_fix(root):
    touch(root, [name.replace("/sharp/", "/clear/") for name in TREES["gopro"]])
    report = check(root, dataset("gopro"))[0]
    assert any("have no clean twin" in line for line in report.problems)
    assert any("mv " in line and "clear" in line and "sharp" in line for line in report.advice)
    touch(root, ["RainDS/RainDS_real/test_set/rainstreak/IMG_7435.png", *TREES["rainds-real"]])
    report = check(root, dataset("rainds-real"))[0]
    assert "1 pictures have no clean twin: RainDS/RainDS_real/test_set/rainstreak/IMG_7435.png" in report.problems[0]


def grey(side: int, bits: int = 8) -> tuple[np.ndarray, Picture]:
    pixels = np.full((side, side, 3), 0.5, np.float32)
    return pixels, Picture(pixels, bits=bits)


def test_sizes_are_compared_and_sots_is_cut(root):
    for name in TREES["sots-indoor"]:
        write_image(root / name, *grey(104 if "/gt/" in name else 96))
    assert not check(root, watch=lambda done: None)[0].problems
    photos = load(Selection(dataset("sots-indoor")), root, "test")[1]
    assert len(photos) == 4
    write_image(root / "SOTS/indoor/gt/1400.png", *grey(90))
    assert "2 pictures differ in size" in check(root, watch=lambda done: None)[0].problems[0]


def test_pairs_of_a_set_reach_training(root):
    for name in TREES["dpdd"]:
        write_image(root / name, *grey(96, 16))
    source = parse_source(f"dpdd={root}:2")
    assert (len(source.photos), source.weight, source.photos[0].degradation) == (3, 2.0, "defocus-blur")
    assert read_image(source.photos[0].clean).bits == 16
    view = ViewMaker([source], ["noise"], installed_plugins(), SynthesisConfig(blind_share=0)).draw(
        np.random.default_rng(0), 64
    )
    assert view.shown == ("defocus-blur",)
    assert view.lq.shape[1:] == (3, 64, 64)


def test_names_of_sources(root):
    touch(root, TREES["rainds-real"] + TREES["pairs"])
    both = parse_source(f"rainds-real.rainstreak_raindrop={root}")
    assert both.photos[0].ids == ("rain", "raindrop")
    # `raindrop` is a set and a degradation: a folder of plain pairs is taken for what it is.
    assert len(parse_source(f"raindrop={root}").photos) == 2
    assert len(parse_source(f"rain+noise={root}/degraded,{root}/clean").photos) == 2
    assert parse_source(f"pairs={root}").photos[0].ids == ()
    assert parse_selection("snow") is None
    with pytest.raises(UsageError, match="no subset"):
        parse_source(f"rainds-real.rainstrek={root}")


def test_the_mixture_file_of_the_supplement_loads(root):
    example = Path(__file__).parents[2] / "examples/all-in-one.toml"
    entries = read_mixture(example)[1]
    assert len(entries) == 15
    folder = root / "datasets"
    for entry in entries:
        names = TREES[entry.set]
        touch(folder / entry.path, names)
        if entry.set.startswith("realblur"):
            lists(folder / entry.path, entry.set[-1].upper(), "" if entry.set[-1] == "j" else "BM3D_")
    (root / "all.toml").write_text(example.read_text())
    sources = parse_sources([str(root / "all.toml")])
    assert [source.weight for source in sources] == [entry.weight for entry in entries]
    assert {photo.degradation for photo in sources[-1].photos} == {"jpeg"}
    assert sources[-1].photos[0].damaged is None
    assert len(sources[-2].photos) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[source]]\nset='gopro'\npaht='x'", "unknown key"),
        ("[[source]]\nset='gopr'\npath='x'", "no such data set"),
        ("[[source]]\npath='x'\nweight='a'", "wrong value"),
        ("[[source]]\npath='x'\nweight=0", "cannot be used"),
        ("[[source]]\npath='x'\npaired=true", "what its pairs show"),
        ("nonsense", "not TOML"),
        ("root='.'", "names no sources"),
    ],
)
def test_a_wrong_mixture_file_is_explained(text, message, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        parse_sources([str(tmp_path / "a.toml")])


def test_all_missing_sources_are_named_together(tmp_path):
    (tmp_path / "a.toml").write_text("[[source]]\nset='gopro'\npath='x'\n[[source]]\npath='y'\n")
    with pytest.raises(DataError, match="2 of 2 sources") as caught:
        parse_sources([str(tmp_path / "a.toml")])
    assert "x" in str(caught.value) and "y" in str(caught.value)


def test_the_command(root):
    run = CliRunner().invoke
    assert all(name in run(app, ["data", "list"]).stdout for name in DATASETS)
    assert "itensity" in run(app, ["data", "list", "--set", "realblur-j"]).stdout
    touch(root, TREES["flickr2k"])
    done = run(app, ["data", "check", str(root)])
    assert (done.exit_code, "2650" in done.stdout, "2649 are missing" in done.stdout) == (0, True, True)
    assert run(app, ["data", "check", str(root), "--set", "gopro"]).exit_code == 3
    assert run(app, ["data", "check", str(root / "none")]).exit_code == 3
    assert run(app, ["data", "chek"]).exit_code == 2


def test_real_pairs(real_data):
    for name, count in (("rain100h-15", 15), ("sots-indoor-8", 8), ("polyu-20", 20), ("raindrop-4", 4)):
        report = check(real_data / "val" / name, watch=lambda done: None)[0]
        assert (report.spec.id, report.rows[0].pairs, report.problems) == ("pairs", count, [])
