from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.images import Picture, read_pixels, write_image
from defusion_cli.scoring import engine
from defusion_cli.scoring.metrics import find_metrics
from defusion_cli.scoring.protocols import GENERAL

NAMES = ("a", "b", "sub/c")


@pytest.fixture
def folders(tmp_path, monkeypatch, photo, rng):
    """A working folder with three true pictures in ``ref``, noisy ones in ``in`` and less noisy ones in ``out``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for index, name in enumerate(NAMES):
        clean = photo[: 128 - 16 * index]
        noise = rng.normal(0, 1, clean.shape)
        write_image(Path(f"ref/{name}.png"), clean)
        write_image(Path(f"in/{name}.png"), (clean + 0.1 * noise).astype(np.float32))
        write_image(Path(f"out/{name}.png"), (clean + (0.02 + 0.01 * index) * noise).astype(np.float32))
    return tmp_path


def run(*args: str):
    return CliRunner().invoke(app, ["score", *args])


def report(*args: str, code: int = 0) -> dict:
    done = run("--json", *args)
    assert done.exit_code == code, done.output
    found = json.loads(done.stdout)
    assert (found["kind"], found["version"]) == ("defusion-score", 1)
    return found


def test_the_table_names_every_protocol(folders):
    done = run("out", "ref")
    assert done.exit_code == 0
    for word in ("psnr", "ssim", "lpips", "RGB", "Y full range", "AlexNet", "whole picture", "±", "protocol pyiqa"):
        assert word in done.stdout
    assert "3 scored" in done.stderr


def test_means_errors_and_every_picture(folders):
    found = report("--metrics", "psnr,mae", "--protocol", "rgb", "out", "ref")
    expected = [
        peak_signal_noise_ratio(read_pixels(Path(f"ref/{n}.png")), read_pixels(Path(f"out/{n}.png")), data_range=1)
        for n in NAMES
    ]
    assert [row["name"] for row in found["pairs"]] == [f"{name}.png" for name in NAMES]
    assert [row["scores"]["psnr"] for row in found["pairs"]] == pytest.approx(expected, abs=1e-5)
    psnr = found["metrics"]["psnr"]
    assert psnr["mean"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert psnr["standard_error"] == pytest.approx(np.std(expected, ddof=1) / math.sqrt(3), abs=1e-5)
    assert (psnr["n"], psnr["definition"], psnr["lower_is_better"]) == (3, "RGB; whole picture", False)
    assert found["metrics"]["mae"]["lower_is_better"] and found["protocol"]["name"] == "rgb"
    assert found["versions"]["numpy"] == np.__version__
    assert (found["protocol"]["psnr_colour"], found["protocol"]["window"]) == ("rgb", "gaussian")


def test_the_baseline_gives_the_gain(folders):
    found = report("--metrics", "psnr,lpips", "--baseline", "in", "out", "ref")
    for name, sign in (("psnr", 1), ("lpips", -1)):
        gains = [sign * (row["scores"][name] - row["baseline_scores"][name]) for row in found["pairs"]]
        assert min(gains) > 0
        assert found["metrics"][name]["gain"] == pytest.approx(np.mean(gains))
        assert found["metrics"][name]["gain_standard_error"] == pytest.approx(np.std(gains, ddof=1) / math.sqrt(3))
    table = run("--metrics", "lpips", "--baseline", "in", "out", "ref").stdout
    assert f"+{found['metrics']['lpips']['gain']:.4f}" in table


def test_csv_has_one_line_a_picture(folders):
    assert run("--metrics", "psnr", "--baseline", "in", "--csv", "scores.csv", "out", "ref").exit_code == 0
    rows = list(csv.DictReader(Path("scores.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in rows] == [f"{name}.png" for name in NAMES]
    assert all(float(row["psnr"]) > float(row["psnr_baseline"]) and row["problem"] == "" for row in rows)


def test_markdown_and_latex(folders):
    lines = run("--metrics", "psnr", "--style", "markdown", "out", "ref").stdout.splitlines()
    assert lines[0].startswith("| metric | mean ± standard error | N |") and lines[1].startswith("| --- |")
    assert lines[2].startswith("| psnr ↑ |") and len({line.count("|") for line in lines[:3]}) == 1
    latex = run("--metrics", "ssim", "--style", "latex", "out", "ref").stdout
    assert r"\begin{tabular}{llll}" in latex and r"$\pm$" in latex and "ssim $\\uparrow$ &" in latex


def test_table_6_beside_what_was_measured(folders):
    done = run("--metrics", "lpips", "--table6", "--task", "deraining", "out", "ref")
    assert done.exit_code == 0
    assert "12.93 ①" in done.stdout and "17.82 ②" in done.stdout and "measured here" in done.stdout
    assert "does not say how" in done.stdout
    assert run("--metrics", "lpips", "--table6", "out", "ref").stdout.count("measured here") == 6
    by_set = run("--metrics", "lpips", "--table6", "--set", "sidd", "out", "ref").stdout
    assert "32.77 ①" in by_set and by_set.count("measured here") == 1
    tasks = report("--metrics", "lpips", "--table6", "out", "ref")["table6"]["tasks"]
    assert {len(task["rows"]) for task in tasks.values()} == {9} and len(tasks) == 6
    assert tasks["desnowing"]["rows"][0]["fid"] is None


def test_plots(folders):
    done = run("--metrics", "psnr", "--baseline", "in", "--plot", "plots", "out", "ref")
    assert done.exit_code == 0
    with Image.open("plots/gain.png") as scatter:
        assert scatter.size[0] > 300
    sheet = read_pixels(Path("plots/best-and-worst.png"))
    # The picture with the largest gain comes first: its true version is in the third column.
    first = read_pixels(Path("ref/a.png"))
    assert np.abs(sheet[22 : 22 + 128, 8 + 2 * 328 : 8 + 2 * 328 + 160] - first).max() < 0.01


def test_a_project_folder_names_its_paths(folders):
    Path("defusion.toml").write_text('[score]\nout = "out"\nref = "ref"\nprotocol = "y"\nmetrics = ["psnr"]\n')
    assert list(report()["metrics"]) == ["psnr"]
    found = report("--metrics", "lpips,ssim")
    assert list(found["metrics"]) == ["lpips", "ssim"] and "studio" in found["metrics"]["ssim"]["definition"]


def test_references_larger_by_design(folders, photo):
    write_image(Path("hazy/1_1.png"), photo[10:-10, 10:-10])
    write_image(Path("clear/1.png"), photo)
    found = report("--metrics", "mae,ssim", "--protocol", "paper", "--set", "sots-indoor", "hazy", "clear")
    assert found["metrics"]["mae"]["mean"] == pytest.approx(0, abs=1e-7)
    found = report("--metrics", "psnr", "--protocol", "rgb", "--set", "sots-indoor", "hazy", "clear")
    assert "about its centre" in found["metrics"]["psnr"]["definition"]


def test_realblur_is_registered_before_it_is_scored(folders, photo):
    moved = np.roll(photo, (1, -2), axis=(0, 1)) * 0.8
    write_image(Path("deblurred/scene1/blur_3.png"), moved)
    for scene, picture in ((1, photo), (2, photo[::-1].copy())):
        write_image(Path(f"set/scene{scene}/gt/gt_3.png"), picture)
        write_image(Path(f"set/scene{scene}/blur/blur_3.png"), moved)
    args = ("--metrics", "psnr,ssim", "--set", "realblur-j", "--baseline", "set", "deblurred", "set")
    registered = report("--protocol", "paper", *args)
    plain = report("--protocol", "rgb", *args)
    assert registered["pairs"][0]["ref"].endswith("scene1/gt/gt_3.png")
    assert registered["pairs"][0]["baseline"].endswith("scene1/blur/blur_3.png")
    assert registered["metrics"]["psnr"]["mean"] > plain["metrics"]["psnr"]["mean"] + 15
    assert registered["metrics"]["psnr"]["gain"] == pytest.approx(0, abs=0.1)
    assert "homography" in registered["metrics"]["ssim"]["definition"]


def test_live1_has_psnr_b(folders):
    found = report("--metrics", "psnr,psnrb", "--protocol", "paper", "--set", "live1", "out", "ref")["metrics"]
    assert found["psnr"]["mean"] - 1 < found["psnrb"]["mean"] <= found["psnr"]["mean"]
    assert "blocking" in found["psnrb"]["definition"]


def test_dpdd_is_paired_by_position(folders, photo):
    for index, (source, target) in enumerate(((890, 891), (902, 901))):
        write_image(Path(f"restored/1P0A0{source}.png"), np.roll(photo, index, axis=1))
        write_image(Path(f"target/1P0A0{target}.png"), np.roll(photo, index, axis=1))
    found = report("--metrics", "mae", "--set", "dpdd", "restored", "target")
    assert found["metrics"]["mae"]["mean"] < 1e-6 and found["pairing"]["rule"] == "DPDD, by position after sorting"
    Path("restored/1P0A0890.png").unlink()
    done = run("--metrics", "mae", "--set", "dpdd", "restored", "target")
    assert done.exit_code == 3 and "1 pictures beside 2" in done.stderr


def test_no_reference_metrics_need_no_reference(folders):
    scores = report("--metrics", "gmsd,entropy", "out", "ref")["metrics"]
    assert scores["gmsd"]["lower_is_better"]
    assert report("--metrics", "entropy", "out")["metrics"]["entropy"]["mean"] == scores["entropy"]["mean"]


def test_an_unreadable_picture_in_the_middle(folders):
    good = report("--metrics", "psnr", "out", "ref")
    Path("out/b.png").write_bytes(Path("out/b.png").read_bytes()[:2000])
    done = run("--metrics", "psnr", "--csv", "scores.csv", "out", "ref")
    assert done.exit_code == 3
    assert "b.png: not scored." in done.stderr and "2 scored, 1 failed" in done.stderr
    found = report("--metrics", "psnr", "out", "ref", code=3)
    assert [row["scores"] for row in found["pairs"]] == [good["pairs"][0]["scores"], {}, good["pairs"][2]["scores"]]
    assert found["metrics"]["psnr"]["n"] == 2 and "damaged" in found["pairs"][1]["problem"]
    assert "damaged" in list(csv.DictReader(Path("scores.csv").read_text(encoding="utf-8").splitlines()))[1]["problem"]


def test_sizes_that_differ_are_never_scored(folders):
    write_image(Path("out/a.png"), read_pixels(Path("out/a.png"))[:-1])
    done = run("--metrics", "psnr,lpips", "out", "ref")
    assert done.exit_code == 3
    assert "different sizes" in done.stderr and "160×127 and 160×128" in done.stderr and "2 scored" in done.stderr


def test_grey_against_colour(folders, photo):
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    write_image(Path("out/a.png"), grey, like=Picture(grey, grey=True))
    done = run("--metrics", "psnr", "out", "ref")
    assert done.exit_code == 3 and "out/a.png is grey; ref/a.png is colour" in done.stderr
    write_image(Path("ref/a.png"), grey)  # three equal channels are grey, too
    assert run("--metrics", "psnr", "out", "ref").exit_code == 0


def test_depth_and_alpha_are_remarked(folders, photo):
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    alpha[:50] = 0
    write_image(Path("ref/a.png"), photo, like=Picture(photo, bits=16))
    write_image(Path("out/b.png"), photo[:112], like=Picture(photo[:112], alpha=alpha[:112]))
    done = run("--metrics", "psnr", "out", "ref")
    assert done.exit_code == 0
    assert "8-bit against 16-bit" in done.stderr and "transparency is ignored" in done.stderr


def test_what_has_no_partner_is_named_and_the_rest_scored(folders, photo):
    write_image(Path("out/stranger.png"), photo)
    write_image(Path("ref/unused.png"), photo)
    found = report("--metrics", "psnr", "out", "ref", code=3)
    assert found["metrics"]["psnr"]["n"] == 3
    assert "stranger.png" in found["pairing"]["orphans"][0] and found["pairing"]["unused_references"] == 1
    Path("out/stranger.png").unlink()
    assert "1 picture of REF not compared" in run("--metrics", "psnr", "out", "ref").stderr


@pytest.mark.parametrize(
    ("args", "code", "sentences"),
    [
        ([], 2, ["OUT is needed"]),
        (["--metrics", "lpisp", "out", "ref"], 2, ["no such metric", "lpisp", "did you mean lpips"]),
        (["--metrics", "nonsense", "out", "ref"], 2, ["psnr, ssim, lpips", "fix: defusion score --metrics list"]),
        (["--metrics", " , ", "out", "ref"], 2, ["--metrics names none"]),
        (["--metrics", "entropy,psnr,lpips", "out"], 2, ["psnr, lpips need the true pictures"]),
        (["--protocol", "paper", "out", "ref"], 2, ["needs the data set", "gopro"]),
        (["--set", "raindorp", "out", "ref"], 2, ["did you mean raindrop?"]),
        (["--style", "html", "out", "ref"], 2, ["--style", "latex"]),
        (["--task", "derain", "--metrics", "lpips", "out", "ref"], 2, ["did you mean deraining?"]),
        (["--table6", "--metrics", "psnr", "out", "ref"], 2, ["FID and LPIPS only"]),
        (["--plot", "plots", "--metrics", "psnr", "out", "ref"], 2, ["--baseline DEGRADED"]),
        (["--baseline", "in", "--metrics", "entropy", "out"], 2, ["--baseline needs the true pictures"]),
        (["--device", "cuda:77", "--metrics", "lpips", "out", "ref"], 2, ["cuda:77 cannot be used"]),
        (["--metrics", "psnr", "out", "nowhere"], 3, ["nowhere does not exist"]),
        (["--metrics", "psnr", "empty", "ref"], 3, ["empty holds no picture"]),
        (["--metrics", "psnr", "other", "ref"], 3, ["No picture in other has a partner in ref"]),
    ],
)
def test_mistakes_are_told_in_sentences(folders, photo, args, code, sentences):
    Path("empty").mkdir()
    write_image(Path("other/nobody.png"), photo)
    done = run(*args)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output and done.stdout == ""
    for sentence in sentences:
        assert sentence in done.stderr


def test_all_metrics_can_be_listed(folders):
    done = run("--metrics", "list")
    lines = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.count("│") > 4]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert done.exit_code == 0 and {"psnr", "ssimc", "fid-clean", "lpips", "niqe", "musiq"} < set(rows)
    assert rows["lpips"][:2] == ["lower", "yes"] and rows["musiq"][:2] == ["higher", "no"]
    found = json.loads(run("--metrics", "list", "--json").stdout)
    assert found["kind"] == "defusion-metrics" and {metric["name"] for metric in found["metrics"]} == set(rows) - {""}
    assert {metric.name for metric in find_metrics(",".join(rows), GENERAL["pyiqa"], True)} == set(rows)


def test_a_metric_that_cannot_take_a_picture_loses_that_picture_only(folders, photo):
    write_image(Path("out/a.png"), photo[:8, :8])
    write_image(Path("ref/a.png"), photo[:8, :8])
    found = report("--metrics", "lpips", "out", "ref", code=3)
    assert found["metrics"]["lpips"]["n"] == 2 and "has no lpips" in found["pairs"][0]["problem"]


def test_a_picture_equal_to_the_true_one_is_told(folders):
    Path("out/a.png").write_bytes(Path("ref/a.png").read_bytes())
    args = ("--metrics", "psnr,psnry,mae", "--protocol", "rgb", "out", "ref")
    done = run(*args)
    assert "(a.png): the picture equals the true one: infinite psnr and psnry, in the mean, too" in done.stderr
    found = report(*args)
    assert found["metrics"]["psnr"]["mean"] is found["pairs"][0]["scores"]["psnr"] is None
    assert "equals the true one" in found["pairs"][0]["notes"][0] and "notes" not in found["pairs"][1]
    Path("in/a.png").write_bytes(Path("ref/a.png").read_bytes())
    gain = report(*args, "--baseline", "in")["metrics"]["psnr"]
    assert gain["mean"] is gain["baseline"] is None and 0 < gain["gain"] < 20, "two perfect pictures: no gain"
    capped = report("--metrics", "psnr", "ref", "ref")
    assert capped["metrics"]["psnr"]["mean"] == pytest.approx(80) and "notes" not in capped["pairs"][0]


def test_a_score_that_is_not_a_number_is_a_failure(folders, monkeypatch):
    monkeypatch.setattr(engine, "run_metric", lambda network, pictures, references: [math.nan] * len(pictures))
    found = report("--metrics", "psnr,lpips", "out", "ref", code=3)
    assert found["failed"] == 3 and "lpips: what it gives is not a number" in found["pairs"][0]["problem"]


def test_a_page_with_gains_and_one_without(folders):
    done = run("out", "ref", "--baseline", "in", "--metrics", "psnr,mae", "--report", "r.html")
    assert done.exit_code == 0 and "r.html written" in done.stderr
    page = json.loads(Path("r.html").read_text("utf-8").split('id="data">')[1].split("</script>")[0])
    rows = {row["name"]: row for row in report("out", "ref", "--baseline", "in", "--metrics", "psnr,mae")["pairs"]}
    assert [entry["name"] for entry in page["entries"]] == list(rows)
    for entry in page["entries"]:
        row = rows[entry["name"]]
        assert set(entry["views"]) == {"before", "after", "true"}
        assert entry["values"]["psnr"] == row["scores"]["psnr"]
        assert entry["values"]["mae_gain"] == row["baseline_scores"]["mae"] - row["scores"]["mae"]
    run("out", "ref", "--metrics", "mae,psnr", "--report", "r.html")
    page = json.loads(Path("r.html").read_text("utf-8").split('id="data">')[1].split("</script>")[0])
    assert all(set(entry["views"]) == {"after", "true"} for entry in page["entries"])
    assert page["first"] == {"key": "mae", "falling": True}
    assert run("out", "ref", "--report", "r.pdf").exit_code == 2


@pytest.mark.parametrize("option", ["--csv", "--report"])
def test_what_cannot_be_written_is_told_before_the_work(folders, option):
    done = run("out", "ref", "--metrics", "psnr", option, "ref/a.png/made.html")
    assert done.exit_code == 3 and "ref/a.png" in done.stderr and "scored" not in done.stderr


def test_numbers_are_shown_even_if_the_table_cannot_be_written(folders):
    Path("made.csv").mkdir()
    done = run("out", "ref", "--metrics", "psnr", "--csv", "made.csv")
    assert done.exit_code == 3 and "made.csv" in done.stderr and "psnr" in done.stdout
