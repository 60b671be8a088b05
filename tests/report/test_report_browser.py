"""The page as a person meets it, in a real browser: mouse, finger, keyboard, light and dark, many pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from defusion_cli.images import write_image
from defusion_cli.report import Column, Entry, Page, write_page

pytest.importorskip("websocket", reason="needs websocket-client: pip install websocket-client")
from browser import Tab, find_browser, open_browser

NAMES = ("b/rain.png", "a/snow.png", "c/haze.png", "failed.png")
PSNR = (30.0, 20.0, 25.0, None)
LABELS = {"before": "damaged", "after": "restored", "true": "true"}
PAGE = Page(
    "Restored", "Drag the line", [("mean psnr", "25.00")],
    [Column("psnr", "psnr", "dB", help="RGB"), Column("lpips", "lpips", decimals=4, worst="high")],
    LABELS, [("before", "after"), ("true", "after")], "psnr",
)  # fmt: skip
FIRST = "#cards article:has(.compare) .compare"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A browser for all tests of this file."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with open_browser(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def page(tab: Tab, tmp_path: Path, photo: np.ndarray) -> Iterator[Tab]:
    """A page with three pictures that were restored and one that was not, open at 1000×900."""
    files = {}
    for view, pixels in {"before": photo * 0.5, "after": photo * 0.9, "true": photo}.items():
        files[view] = tmp_path / f"{view}.png"
        write_image(files[view], pixels)
    entries = [
        Entry(name, files if psnr else {}, {"psnr": psnr, "lpips": index / 10}, None if psnr else "It is broken.")
        for index, (name, psnr) in enumerate(zip(NAMES, PSNR, strict=True))
    ]
    write_page(tmp_path / "report.html", PAGE, entries)
    tab.complaints.clear()
    tab.requests.clear()
    tab.size(1000, 900)
    tab.open((tmp_path / "report.html").as_uri())
    yield tab
    assert tab.complaints == []
    outside = [url for url in tab.requests if not url.startswith(("data:", tmp_path.as_uri()))]
    assert outside == [], "the page asks for something outside of itself"


def at(tab: Tab) -> float:
    return float(tab.run(f"document.querySelector('{FIRST}').getAttribute('aria-valuenow')"))


def order(tab: Tab, of: str = "#cards h2") -> list[str]:
    return tab.run(f"[...document.querySelectorAll('{of}')].map(e => e.textContent)")


def test_pictures_load_and_lie_on_one_another(page):
    page.wait("[...document.images].length === 6 && [...document.images].every(i => i.complete && i.naturalWidth)")
    assert page.run("[...document.images].every(i => i.naturalWidth === 160 && i.naturalHeight === 128)")
    boxes = page.run(
        "[...document.querySelectorAll('.compare')].map(c => [...c.querySelectorAll('img')]"
        ".map(i => JSON.stringify(i.getBoundingClientRect())))"
    )
    assert len(boxes) == 3 and all(left == right for left, right in boxes)


def test_the_mouse_moves_the_line_and_uncovers_the_other_picture(page):
    left, top, width, height = page.box(FIRST)
    assert at(page) == 50
    page.drag((left + width / 2, top + height / 2), (left + width * 0.8, top + height / 2))
    assert at(page) == pytest.approx(80, abs=1)
    shown = page.run(f"getComputedStyle(document.querySelector('{FIRST} img.left')).clipPath")
    assert shown.startswith("inset(") and "20" in shown
    page.drag((left + width * 0.8, top + 5), (left - 50, top + 5))
    assert at(page) == 0


def test_a_finger_moves_the_line(page):
    left, top, width, height = page.box(FIRST)
    page.touch(((left + width * 0.5, top + height / 2), (left + width * 0.2, top + height / 2)))
    assert at(page) == pytest.approx(20, abs=2)


def test_the_keyboard_moves_the_line(page):
    page.run(f"document.querySelector('{FIRST}').focus()")
    for key, expected in (("ArrowRight", 52), ("ArrowLeft", 50), ("Home", 0), ("End", 100)):
        page.press(key)
        assert at(page) == expected
    assert page.run(f"document.querySelector('{FIRST}').getAttribute('role')") == "slider"
    assert page.run(f"document.querySelector('{FIRST}').getAttribute('aria-valuetext')") == "100 % damaged"


def test_the_worst_come_first_and_heads_sort_both_ways(page):
    worst_first = ["failed.png", "a/snow.png", "c/haze.png", "b/rain.png"]
    assert order(page) == order(page, "td.name") == worst_first
    for head, expected in (
        ("psnr", ["failed.png", "b/rain.png", "c/haze.png", "a/snow.png"]),
        ("lpips", ["failed.png", "c/haze.png", "a/snow.png", "b/rain.png"]),
        ("name", ["failed.png", "a/snow.png", "b/rain.png", "c/haze.png"]),
    ):
        left, top, width, height = page.box(f"th[data-key={head}] button")
        page.drag((left + width / 2, top + height / 2), (left + width / 2, top + height / 2))
        assert order(page) == order(page, "td.name") == expected
        assert page.run(f"document.querySelector('th[data-key={head}]').ariaSort") != "none"
    assert "It is broken." in page.run("document.querySelector('article .problem').textContent")


def test_a_part_of_the_name_is_enough_to_find(page):
    page.run("const f = document.getElementById('find'); f.value = 'SNOW'; f.dispatchEvent(new Event('input'))")
    visible = page.run("[...document.querySelectorAll('article')].filter(e => e.offsetHeight).length")
    assert (visible, page.run("document.getElementById('count').textContent")) == (1, "1 of 4 pictures")


def test_the_true_picture_can_be_put_in_place_of_the_damaged_one(page):
    before = page.run(f"document.querySelector('{FIRST} img.left').src")
    page.run("document.querySelectorAll('#pairs input')[1].click()")
    assert page.run(f"document.querySelector('{FIRST} .tag.l').textContent") == "true"
    assert page.run(f"document.querySelector('{FIRST} img.left').src") != before


def test_zoom_by_wheel_keys_and_dragging(page):
    page.run("document.querySelector('article button').click()")
    assert page.run("document.getElementById('viewer').open")

    def scale() -> float:
        return float(page.run("document.getElementById('scale').value").split()[0])

    fitted = scale()
    page.wheel(500, 400, -600)
    page.wait(f"parseFloat(document.getElementById('scale').value) > {fitted}")
    assert page.run("document.querySelector('#stage .compare').classList.contains('sharp')")
    before = page.run("document.querySelector('#stage .compare').style.transform")
    page.drag((700, 600), (650, 560))
    assert page.run("document.querySelector('#stage .compare').style.transform") != before
    page.press("+")
    larger = scale()
    page.press("-")
    assert larger > scale() > fitted
    page.press("0")
    assert scale() == fitted
    page.press("ArrowRight")
    assert page.run("document.querySelector('#stage .compare').ariaValueNow") == "52"
    name = page.run("document.getElementById('caption').textContent")
    page.press("n")
    assert page.run("document.getElementById('caption').textContent") != name
    page.press("Escape")
    page.wait("!document.getElementById('viewer').open")


def test_two_fingers_zoom_and_one_moves_the_picture_or_the_line(page):
    page.run("document.querySelector('article button').click()")

    def placed() -> tuple[float, float, float]:
        """Left, top and width of the enlarged picture on the screen."""
        return page.box("#stage .compare")[:3]

    centre = [side / 2 for side in page.box("#stage")[2:]]
    before = placed()
    page.touch(*(((centre[0] + 50 * side, centre[1]), (centre[0] + 150 * side, centre[1])) for side in (-1, 1)))
    left, top, width = placed()
    assert width == pytest.approx(3 * before[2], rel=0.02)
    # What lay under the middle of the two fingers lies there still.
    assert (centre[0] - left) / width == pytest.approx((centre[0] - before[0]) / before[2], abs=0.01)
    page.touch(*(((centre[0] + x, centre[1]), (centre[0] + x + 80, centre[1] + 40)) for x in (-60, 60)))
    assert placed() == pytest.approx((left + 80, top + 40, width), abs=3), "two fingers side by side"
    page.touch(((centre[0] - 150, centre[1] + 50), (centre[0] - 230, centre[1] + 10)))
    assert placed() == pytest.approx((left, top, width), abs=3), "one finger beside the line"
    line = page.box("#stage .line")
    x = line[0] + line[2] / 2
    page.touch(((x, centre[1]), (x + 90, centre[1])))
    assert placed() == pytest.approx((left, top, width), abs=3), "the line alone moves"
    after = page.box("#stage .line")
    assert after[0] + after[2] / 2 == pytest.approx(x + 90, abs=3)
    assert page.run("visualViewport.scale") == 1, "the page itself is not enlarged"


def test_light_and_dark(page, tmp_path):
    def paper() -> str:
        return page.run("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.size(1000, 900, dark=True)
    dark = paper()
    assert dark != light
    page.run("document.getElementById('theme').click()")
    assert paper() == light


@pytest.mark.parametrize("width", [320, 1600])
def test_nothing_sticks_out_at_the_side(page, width):
    page.size(width, 700)
    assert page.run("document.documentElement.scrollWidth") <= width


def test_a_thousand_pictures_open_at_once(tab, tmp_path, photo):
    write_image(tmp_path / "a.png", photo)
    files = dict.fromkeys(("before", "after"), tmp_path / "a.png")
    entries = [Entry(f"{number:04d}.png", files, {"psnr": 20 + number % 97 / 10}) for number in range(1000)]
    folder = write_page(tmp_path / "many.html", PAGE, entries, inline_bytes=1_000_000)
    assert folder is not None and len(list(folder.iterdir())) == 2000
    tab.complaints.clear()
    tab.requests.clear()
    seconds = tab.open((tmp_path / "many.html").as_uri())
    tab.wait("document.images[0].complete && document.images[0].naturalWidth")
    assert len(order(tab)) == 1000
    assert len([url for url in tab.requests if url.endswith(".jpg")]) < 100, "only what is near the window is loaded"
    tab.run("document.querySelector('#cards article:last-child').scrollIntoView()")
    tab.wait("(() => { const i = document.querySelector('#cards article:last-child img');"
             " return i.complete && i.naturalWidth })()")  # fmt: skip
    assert tab.complaints == []
    assert seconds < 3
