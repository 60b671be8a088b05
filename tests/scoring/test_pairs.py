from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from defusion_cli.data.adapters import dataset
from defusion_cli.errors import DataError
from defusion_cli.images import write_image
from defusion_cli.scoring.pairs import Pair, pair_folders


@pytest.fixture
def tree(tmp_path):
    """Writes a small picture under each name and returns the folder."""

    def make(folder: str, *names: str) -> Path:
        for name in names:
            write_image(tmp_path / folder / name, np.zeros((4, 4, 3), np.float32))
        return tmp_path / folder

    return make


def names_of(pairing, what="ref"):
    return [(pair.out.name, getattr(pair, what).name) for pair in pairing.pairs]


def test_the_name_decides_and_not_the_order(tree):
    found = pair_folders(tree("out", "b.png", "c.jpg"), tree("ref", "a.png", "b.png", "c.png"))
    assert names_of(found) == [("b.png", "b.png"), ("c.jpg", "c.png")]
    assert (found.orphans, found.unused) == ((), 1)


def test_a_baseline_is_not_shared(tree):
    out, ref = tree("out", "a/x.png", "b/x.png"), tree("ref", "a/x.png", "b/x.png")
    found = pair_folders(out, ref, tree("base", "b/x.png"))
    assert [(pair.name, pair.baseline.parent.name) for pair in found.pairs] == [("b/x.png", "b")]
    assert "a/x.png has no partner" in found.orphans[0]


def test_folders_inside_count(tree):
    found = pair_folders(tree("out", "1/x.png", "2/x.png"), tree("ref", "2/x.png", "1/x.png"))
    assert [(p.name, p.ref.parent.name) for p in found.pairs] == [("1/x.png", "1"), ("2/x.png", "2")]


def test_unique_names_are_enough_where_the_arrangement_differs(tree):
    found = pair_folders(tree("out", "run/x.png", "run/y.png"), tree("ref", "y.png", "x.png"))
    assert names_of(found) == [("x.png", "x.png"), ("y.png", "y.png")]
    assert "same file name" in found.rule


def test_what_has_no_partner_is_named(tree):
    out, ref = tree("out", "a.png", "z.png"), tree("ref", "a.png")
    found = pair_folders(out, ref)
    assert found.orphans == (f"{out / 'z.png'} has no partner in {ref}",)
    found = pair_folders(out, tree("ref", "z.png"), tree("base", "a.png"))
    assert names_of(found, "baseline") == [("a.png", "a.png")]
    assert "base" in found.orphans[0]


@pytest.mark.parametrize(
    ("data_set", "outputs", "references", "expected"),
    [
        ("rain1400", ["9_1.jpg", "9_14.jpg", "10_2.jpg"], ["9.jpg", "10.jpg"], ["10.jpg", "9.jpg", "9.jpg"]),
        ("sots-indoor", ["1400_1.png", "1400_2.png"], ["1400.png"], ["1400.png", "1400.png"]),
        ("sots-outdoor", ["0001_0.8_0.2.jpg"], ["0001.png"], ["0001.png"]),
        ("raindrop", ["7_rain.png", "10_rain.jpg"], ["7_clean.png", "10_clean.jpg"], ["10_clean.jpg", "7_clean.png"]),
        ("dense-haze", ["01_hazy.png"], ["01_GT.png"], ["01_GT.png"]),
        ("outdoor-rain", ["im_0301_s80_a04.png", "im_0301_s85_a05.png"], ["im_0301.png"], ["im_0301.png"] * 2),
        ("realblur-j", ["s1/blur_2.png", "s2/blur_2.png"], ["s1/gt_2.png", "s2/gt_2.png"], ["gt_2.png"] * 2),
        ("sidd", ["d/0001_NOISY_SRGB_010.PNG"], ["d/0001_GT_SRGB_010.PNG"], ["0001_GT_SRGB_010.PNG"]),
    ],
)
def test_names_of_data_sets(tree, data_set, outputs, references, expected):
    found = pair_folders(tree("out", *outputs), tree("ref", *references), tree("base", *outputs), dataset(data_set))
    assert [pair.ref.name for pair in found.pairs] == expected
    assert (found.orphans, found.unused) == ((), 0)
    assert all(pair.baseline.name == pair.out.name for pair in found.pairs)


def test_realblur_pairs_within_a_scene(tree):
    found = pair_folders(
        tree("out", "s1/blur_2.png"), tree("ref", "s1/gt_2.png", "s2/gt_2.png"), None, dataset("realblur-j")
    )
    assert found.pairs[0].ref.parent.name == "s1"


def test_ambiguous_names(tree):
    with pytest.raises(DataError, match="one name") as caught:
        pair_folders(tree("out", "a.png", "a.jpg"), tree("ref", "a.png"))
    assert "a.jpg and a.png" in str(caught.value)
    with pytest.raises(DataError, match="one name"):
        pair_folders(tree("good", "a.png"), tree("twins", "a.png", "a.bmp"))


def test_nothing_to_pair(tree, tmp_path):
    with pytest.raises(DataError, match=r"No picture in .* has a partner"):
        pair_folders(tree("out", "a.png"), tree("ref", "b.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"(?s)holds no picture.*AVIF or HEIC"):
        pair_folders(tmp_path / "out", tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        pair_folders(tmp_path / "out", tmp_path / "nowhere", None)


def test_without_references(tree):
    found = pair_folders(tree("out", "a.png", "b.png"), None)
    assert [(pair.name, pair.ref) for pair in found.pairs] == [("a.png", None), ("b.png", None)]


def test_two_files_are_a_pair(tmp_path: Path) -> None:
    for name in ("out/a.png", "true/b.png", "lq/c.jpg"):
        write_image(tmp_path / name, np.zeros((8, 8, 3), np.float32))
    out, ref, baseline = (tmp_path / name for name in ("out/a.png", "true/b.png", "lq/c.jpg"))
    assert list(pair_folders(out, ref, baseline).pairs) == [Pair("a.png", out, ref, baseline)]
    assert list(pair_folders(out, None).pairs) == [Pair("a.png", out)]
    with pytest.raises(DataError, match="true is a folder"):
        pair_folders(out, ref.parent)
    with pytest.raises(DataError, match=r"d\.jpg does not exist"):
        pair_folders(out, ref, tmp_path / "d.jpg")
