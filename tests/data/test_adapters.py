"""Look-alike trees of every data set, with their oddities: they are recognised, pair up, and split without leaks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from lookalikes import BITS, COUNTS, SIDD_DIR, TREES, lists, touch, write_set
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.data.adapters import (
    DATASETS,
    Selection,
    Tree,
    check,
    dataset,
    find,
    load,
    parse_selection,
    twins_by_name,
)
from defusion_cli.data.mixture import parse_sources, read_mixture
from defusion_cli.data.sources import PhotoSource, parse_source, set_photos
from defusion_cli.data.synthesis import SynthesisConfig, ViewMaker
from defusion_cli.errors import DataError, UsageError
from defusion_cli.images import Picture, read_image, write_image
from defusion_cli.plugins import installed_plugins


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A name of its own: that of the test would end up in the paths from which sets are recognised.
    return tmp_path_factory.mktemp("folder")


def test_every_set_has_a_tree():
    assert set(TREES) == set(COUNTS) == set(DATASETS)


@pytest.mark.parametrize("name", TREES)
def test_a_set_is_recognised_and_pairs_up(name, root):
    write_set(root, name)
    reports = check(root, watch=lambda done: None)
    assert [report.spec.id for report in reports] == [name]
    assert not reports[0].problems
    counts = {row.name: row.pairs for row in reports[0].rows}
    assert tuple(counts.get(part, 0) for part in ("train", "val", "test")) == COUNTS[name]


@pytest.mark.parametrize("name", TREES)
def test_a_set_is_loaded_for_training(name, root):
    """Every part of it: what the test pictures need to be read is the same."""
    write_set(root, name)
    spec, plugins = dataset(name), installed_plugins()
    for part, count in zip(("train", "val", "test"), COUNTS[name], strict=True):
        if not count:
            continue
        source = parse_source(f"{name}={root}:2") if part == "train" else None
        photos = source.photos if source else set_photos(Selection(spec), root, part=part)
        assert len(photos) == count
        assert {read_image(photo.clean).bits for photo in photos} == {BITS.get(name, 8)}
        assert all((photo.damaged is not None) == spec.paired for photo in photos)
        maker = ViewMaker([PhotoSource(photos)], ["noise"], plugins, SynthesisConfig(blind_share=0, absent_share=0))
        for seed in range(4):
            view = maker.draw(np.random.default_rng(seed), 64)
            assert view.lq.shape == view.target.shape and view.lq.shape[1:] == (3, 64, 64)
            assert not spec.paired or set(view.shown) == set(photos[0].ids)


@pytest.mark.parametrize("name", [name for name in TREES if dataset(name).paired and name not in ("pairs", "dpdd")])
def test_names_alone_pair_the_results_of_a_set(name, root):
    """Results in the folders of the set beside one part of its archive; and in one folder beside the clean pictures."""
    touch(root, TREES[name])
    pairs = find(dataset(name), Tree(root), named=True).pairs
    part = [pair for pair in pairs if (pair.part, pair.subset) == (pairs[-1].part, pairs[-1].subset)]
    top = common([file for pair in part for file in (pair.damaged, pair.clean)])
    results, clean = common([pair.damaged for pair in part]), common([pair.clean for pair in part])
    archive = [path.relative_to(top) for path in top.rglob("*.*")]
    alone = sorted({pair.clean.relative_to(clean) for pair in part})
    for below, references, start in ((top, archive, top), (results, alone, clean)):
        names = [pair.damaged.relative_to(below) for pair in part]
        twins = twins_by_name(dataset(name), names, references)
        assert [start / twins.clean[name] for name in names] == [pair.clean for pair in part]


def common(paths: list[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in paths]))


def test_results_of_dpdd_pair_by_position_or_not_at_all(root):
    touch(root, TREES["dpdd"])
    source, target = (sorted((root / "dd_dp_dataset_canon/test_c" / side).iterdir()) for side in ("source", "target"))
    twins = twins_by_name(dataset("dpdd"), [Path(p.name) for p in source], [Path(p.name) for p in target])
    assert [twins.clean[Path(p.name)].name for p in source] == [p.name for p in target]
    fewer = twins_by_name(dataset("dpdd"), [Path(p.name) for p in source[1:]], [Path(p.name) for p in target])
    assert not fewer.clean and fewer.problem == "2 pictures beside 3"


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


def test_a_subset_without_the_wanted_part(root):
    touch(root, TREES["raindrop"])
    with pytest.raises(DataError, match=r"RainDrop\.a for train") as caught:
        parse_source(f"raindrop.a={root}")
    assert "parts test" in str(caught.value) and "train," not in str(caught.value)


def test_dpdd_pairs_by_position_and_notices_a_missing_file(root):
    touch(root, TREES["dpdd"])
    pairs = load(Selection(dataset("dpdd")), root)[1]
    assert [(p.damaged.stem, p.clean.stem) for p in pairs if p.damaged][1] == ("1P0A0902", "1P0A0901")
    (root / "dd_dp_dataset_canon/train_c/source/1P0A0890.png").unlink()
    with pytest.raises(DataError, match="does not pair up"):
        load(Selection(dataset("dpdd")), root)
    assert "1P0A0891.png has no twin" in check(root)[0].problems[0]
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


SIDD_SCENES = (28, 15, 15, 15, 19, 19, 20, 20, 6, 3)  # instances of the ten scenes in SIDD Medium


def test_seed90_of_sidd_is_as_near_as_whole_scenes_come(root):
    scenes = [scene for scene, count in enumerate(SIDD_SCENES, 1) for _ in range(count)]
    names = [SIDD_DIR.format(number, scene, kind, shot) for number, scene in enumerate(scenes, 1)
             for kind in ("NOISY", "GT") for shot in ("010", "011")]  # fmt: skip
    touch(root, names)
    report = check(root, split="seed90")[0]
    counts = {row.name: (row.pairs, row.supplement) for row in report.rows}
    assert (counts["train"], counts["test"]) == ((290, 288), (30, 32))
    sums = {0}
    for count in SIDD_SCENES:
        sums |= {each + count for each in sums}
    assert 16 not in sums and 15 in sums
    assert any("288 and 32" in line and "no choice of whole scenes" in line for line in report.remarks)
    official = check(root)[0]
    assert [(row.name, row.pairs, row.official) for row in official.rows] == [("train", 320, 320), ("all", 320, None)]
    assert "the supplement has train 288, test 32: --split seed90 counts as it does" in official.remarks


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


def test_both_halves_of_realblur_are_added_up(root):
    touch(root, TREES["realblur-j"] + TREES["realblur-r"])
    lists(root, "J", "")
    lists(root, "R", "BM3D_")
    remarks = [line for report in check(root) for line in report.remarks]
    expected = "RealBlur-J and RealBlur-R together: train 4 (supplement 7516), test 4 (supplement 1961)"
    assert remarks.count(expected) == 1


def test_ots_leaves_out_the_scenes_of_sots(root):
    touch(root, TREES["reside-ots"])
    touch(root / "other", TREES["sots-outdoor"])
    assert {p.fields["id"] for p in load(Selection(dataset("reside-ots")), root)[1]} == {"2040"}
    remarks = " ".join(r for report in check(root) for r in report.remarks)
    assert "4 pairs show scenes of RESIDE SOTS outdoor" in remarks


def test_pictures_of_raindrop_a_are_found_in_b(root):
    """By content: test_b is JPEG, and here its numbers differ, too."""
    write_set(root, "raindrop")
    for side, what in (("data", "rain"), ("gt", "clean")):
        pixels = read_image(root / f"test_a/test_a/{side}/0_{what}.png").pixels
        write_image(root / f"test_b/{side}/7_{what}.jpg", pixels)
    remarks = check(root, watch=lambda done: None)[0].remarks
    expected = "1 of the 2 pictures of raindrop.a are in .b, too: test_a/test_a/gt/0_clean.png is test_b/gt/7_clean.jpg"
    assert expected in remarks


def test_orphans_and_a_misnamed_folder_are_named_with_the_fix(root):
    touch(root, [name.replace("/sharp/", "/clear/") for name in TREES["gopro"]])
    report = check(root, dataset("gopro"))[0]
    assert any("without a clean twin" in line for line in report.problems)
    assert any("mv " in line and "clear" in line and "sharp" in line for line in report.advice)
    touch(root, ["RainDS/RainDS_real/test_set/rainstreak/IMG_7435.png", *TREES["rainds-real"]])
    report = check(root, dataset("rainds-real"))[0]
    assert "1 picture without a clean twin: RainDS/RainDS_real/test_set/rainstreak/IMG_7435.png" in report.problems[0]


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
    (root / "SOTS/indoor/gt/1401.png").write_bytes(b"no picture")
    problems = check(root, watch=lambda done: None)[0].problems
    assert "1 picture that cannot be read: SOTS/indoor/gt/1401.png" in problems
    assert "2 pictures of another size than their clean twins" in problems[1]


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
    write_set(root, "flickr2k")
    done = run(app, ["data", "check", str(root)])
    assert (done.exit_code, "2650" in done.stdout, "2649 are missing" in done.stdout) == (0, True, True)
    assert run(app, ["data", "check", str(root), "--set", "gopro"]).exit_code == 3
    assert run(app, ["data", "check", str(root / "none")]).exit_code == 3
    assert run(app, ["data", "chek"]).exit_code == 2


def test_real_pairs(real_data):
    for name, count in (("rain100h-15", 15), ("sots-indoor-8", 8), ("polyu-20", 20), ("raindrop-4", 4)):
        folder = real_data / "val" / name
        report = check(folder, watch=lambda done: None)[0]
        assert (report.spec.id, report.rows[0].pairs, report.problems) == ("pairs", count, [])
        maker = ViewMaker([parse_source(f"pairs={folder}")], ["noise"], installed_plugins(), SynthesisConfig())
        view = maker.draw(np.random.default_rng(0), 64)
        assert 0 < np.abs((view.lq - view.target).numpy()).mean() < 0.5


def test_the_real_live1(real_data):
    report = check(real_data / "val/live1", watch=lambda done: None)[0]
    assert report.spec.id == "live1" and report.complete and report.rows[0].pairs == 29
