"""The page as bytes: what is in it, beside it, and what it survives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from defusion_cli.errors import UsageError
from defusion_cli.images import read_pixels, write_image
from defusion_cli.report import Column, Entry, Page, write_page
from defusion_cli.report.pictures import MAX_SIDE_PX

PAGE = Page(
    "Title", "Sub", [("pictures", "2")], [Column("psnr", "psnr", "dB")], {"before": "damaged", "after": "restored"},
    [("before", "after")], "psnr",
)  # fmt: skip


def content(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1], parse_constant=pytest.fail)


@pytest.fixture
def pictures(tmp_path: Path, photo: np.ndarray) -> dict[str, Path]:
    write_image(tmp_path / "a.png", photo * 0.5)
    write_image(tmp_path / "b.png", photo)
    return {"before": tmp_path / "a.png", "after": tmp_path / "b.png"}


def test_a_small_page_is_one_file_without_addresses(tmp_path, pictures):
    assert write_page(tmp_path / "r/page.html", PAGE, [Entry("x", pictures, {"psnr": 30.0})]) is None
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["page.html"]
    text = (tmp_path / "r/page.html").read_text("utf-8")
    assert not re.search(r"https?://|src=\"(?!data:)|@import|url\(", text)
    (entry,) = content(tmp_path / "r/page.html")["entries"]
    assert entry["size"] == [160, 128]
    assert all(source.startswith("data:image/jpeg;base64,") for source in entry["views"].values())


def test_many_pictures_lie_beside_the_page_and_stale_ones_go(tmp_path, pictures):
    path = tmp_path / "my page #1.html"
    entries = [Entry(str(number), pictures) for number in range(4)]
    folder = write_page(path, PAGE, entries, inline_bytes=20_000)
    assert folder == tmp_path / "my page #1_files"
    assert len(list(folder.iterdir())) == 8
    rows = content(path)["entries"]
    assert rows[3]["views"]["after"] == "my%20page%20%231_files/00003-after.jpg"
    assert np.abs(read_pixels(folder / "00003-after.jpg") - read_pixels(pictures["after"])).mean() < 0.02
    (folder / "mine.txt").touch()
    assert write_page(path, PAGE, entries[:3], inline_bytes=20_000) == folder
    assert len(list(folder.iterdir())) == 7
    assert write_page(path, PAGE, entries[:1]) is None
    assert [left.name for left in folder.iterdir()] == ["mine.txt"]


def test_large_pictures_are_reduced_and_small_ones_are_not(tmp_path, rng):
    write_image(tmp_path / "wide.png", rng.random((40, 3000, 3)).astype(np.float32))
    write_page(tmp_path / "p.html", PAGE, [Entry("w", dict.fromkeys(("before", "after"), tmp_path / "wide.png"))])
    assert content(tmp_path / "p.html")["entries"][0]["size"] == [MAX_SIDE_PX, 27]


def test_names_and_numbers_that_break_naive_pages(tmp_path, pictures):
    names = ["</script><script>alert(1)</script>.png", "a&b<i>.png", "\udcff.png", "ü 雪 $x.png"]
    values = [float("inf"), float("-inf"), float("nan"), None]
    entries = [Entry(name, pictures, {"psnr": value}) for name, value in zip(names, values, strict=True)]
    write_page(tmp_path / "p.html", PAGE, entries)
    rows = content(tmp_path / "p.html")["entries"]
    assert [row["name"] for row in rows] == [*names[:2], "?.png", names[3]]
    assert [row["values"]["psnr"] for row in rows] == [1e300, -1e300, None, None]


def test_a_picture_that_cannot_be_read_is_a_problem_of_its_entry(tmp_path, pictures):
    entries = [Entry("gone", {**pictures, "after": tmp_path / "none.png"}), Entry("x", pictures)]
    write_page(tmp_path / "p.html", PAGE, entries)
    gone, good = content(tmp_path / "p.html")["entries"]
    assert gone["views"] == {} and "none.png" in gone["problem"]
    assert len(good["views"]) == 2 and good["problem"] is None


@pytest.mark.parametrize("name", ["page.pdf", "page", "folder.html"])
def test_what_is_no_page_is_refused(tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match="names no page"):
        write_page(tmp_path / name, PAGE, [])
