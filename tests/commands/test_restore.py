"""``defusion restore`` from outside: what is written, said and returned."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.diffusion import DefusionPipeline, DegradationUNet, make_scheduler
from defusion_cli.images import read_image, read_pixels, write_image
from defusion_cli.tokenizer import InstructionTokenizer

LEDGER = "defusion-restore.jsonl"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with random weights that changes what it is given."""
    torch.manual_seed(0)
    unet = DegradationUNet(widths=(8, 8), blocks=(1, 1), condition_dim=32, heads=2)
    for module in unet.modules():
        if hasattr(module, "film"):
            torch.nn.init.normal_(module.film.weight, std=0.5)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    torch.nn.init.normal_(unet.conv_in.weight, std=0.05)
    tokenizer = InstructionTokenizer(
        block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1, attention_levels=1, latent_channels=8, norm_num_groups=4
    )
    folder = tmp_path_factory.mktemp("model")
    DefusionPipeline(unet, tokenizer, make_scheduler()).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: np.ndarray) -> Path:
    """A working folder with two pictures in ``in/``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write_image(Path("in/a.png"), photo[:50, :61])
    write_image(Path("in/sub/b.jpg"), photo[30:70, :33])
    return tmp_path


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["restore", *args])


def test_a_folder_with_a_sheet_and_again(folder: Path, model: str) -> None:
    options = ("in", "out", "--degradation", "rain", "--degradation", "noise", "--model", model, "--compare", "s.png")
    done = run(*options)
    assert (done.exit_code, done.stdout) == (0, "s.png\n"), done.output
    assert "2 restored" in done.stderr and "blind" not in done.stderr
    for name in ("a.png", "sub/b.jpg"):
        before, after = read_pixels(Path("in", name)), read_pixels(Path("out", name))
        assert before.shape == after.shape and not np.array_equal(before, after)
    assert [json.loads(line)["instruction"] for line in Path("out", LEDGER).read_text().splitlines()] == [
        "rain + noise"
    ] * 2
    bytes_before = Path("out/a.png").read_bytes()
    Path("out/.defusion-1-00000000.tmp").touch()
    os.utime("out/.defusion-1-00000000.tmp", (0, 0))  # a run was killed long ago
    again = run(*options)
    assert not Path("out/.defusion-1-00000000.tmp").exists()
    assert again.exit_code == 0 and "2 done before" in again.stderr
    run(*options, "--overwrite")
    assert Path("out/a.png").read_bytes() == bytes_before
    assert read_pixels(Path("s.png")).shape[1] > 900


@pytest.mark.parametrize("options", [("--degradation", "rain"), ("--degradation", "noise", "--steps", "2"), ()])
def test_a_picture_comes_out_the_same_alone_and_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: np.ndarray, options: tuple[str, ...]
) -> None:
    """With the default model: whatever else is in the folder, and in whatever order."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    noisy = np.clip(photo + rng.normal(0, 0.1, photo.shape), 0, 1).astype(np.float32)
    crops = [noisy[:96, :96], noisy, noisy[20:121, 30:147], noisy[::-1], noisy[:128, :128], noisy[32:, 64:]]
    for number, crop in enumerate(crops):
        write_image(Path(f"in/{number}.png"), crop)
    assert run("in", "together", *options).exit_code == 0
    for name in sorted(os.listdir("in"))[::-1]:
        assert run(f"in/{name}", f"alone/{name}", *options).exit_code == 0
        restored = Path("together", name).read_bytes()
        assert restored == Path("alone", name).read_bytes() and restored != Path("in", name).read_bytes()


def test_the_way_of_instructing_matters_and_so_do_seed_and_steps(folder: Path, model: str) -> None:
    assert run("in/a.png", "blind.png", "--model", model, "--degradation", "blind").exit_code == 0
    ways = {
        "blind2": ("--degradation", "blind"),
        "rain": ("--degradation", "rain"),
        "example": ("--example", "in/a.png", "blind.png"),
        "seed": ("--degradation", "blind", "--steps", "3", "--seed", "7"),  # one step sees nothing of the noise
        "steps": ("--degradation", "blind", "--steps", "3"),
    }
    made = {}
    for name, options in ways.items():
        done = run("in/a.png", f"{name}.png", "--model", model, *options)
        assert done.exit_code == 0, done.output
        made[name] = Path(f"{name}.png").read_bytes()
    assert made.pop("blind2") == Path("blind.png").read_bytes()
    made["blind"] = Path("blind.png").read_bytes()
    alike = [(a, b) for a, b in itertools.combinations(made, 2) if made[a] == made[b]]
    assert not alike
    lines = [json.loads(line)["name"] for line in Path(LEDGER).read_text().splitlines()]
    assert lines == ["blind.png", *(f"{name}.png" for name in ways)]


def test_a_single_file_is_not_done_twice(folder: Path, model: str) -> None:
    command = ("in/sub/b.jpg", "b.png", "--degradation", "blind", "--model", model)
    assert run(*command).exit_code == 0
    Path("sub").mkdir()
    for name in (".defusion-1-00000000.tmp", "sub/.defusion-1-00000000.tmp"):
        Path(name).touch()
        os.utime(name, (0, 0))
    made = Path("b.png").stat().st_mtime_ns
    again = run(*command)
    assert (again.exit_code, again.stdout) == (0, "b.png\n") and "1 done before" in again.stderr, again.output
    assert Path("b.png").stat().st_mtime_ns == made
    assert not list(Path().glob(".*.tmp")) and list(Path("sub").glob(".*.tmp"))  # nothing below is ours
    assert run(*command, "--scale", "0.5").exit_code == 0  # ours, but made otherwise
    assert Path("b.png").stat().st_mtime_ns != made
    Path("b.png").write_bytes(b"somebody's")
    refused = run(*command)
    assert refused.exit_code == 3 and "add --overwrite" in refused.stderr
    assert Path("b.png").read_bytes() == b"somebody's"


def test_a_broken_file_is_named_and_the_rest_done(folder: Path, model: str) -> None:
    Path("in/c.png").write_bytes(Path("in/a.png").read_bytes()[:100])
    done = run("in", "out", "--degradation", "blind", "--model", model, "--json")
    assert done.exit_code == 3
    report = json.loads(done.stdout)
    assert (report["kind"], report["counts"]) == ("defusion-restore", {"restored": 2, "skipped": 0, "failed": 1})
    assert [f["state"] for f in report["files"]] == ["restored", "failed", "restored"]
    assert "in/c.png" in done.stderr and not Path("out/c.png").exists()


def test_what_is_not_restored_comes_back_as_it_was(folder: Path, model: str, photo: np.ndarray) -> None:
    deep = (photo[:40, :40] * 65535).round().astype(np.uint16)
    assert cv2.imwrite("in/deep.png", deep[..., ::-1])
    alpha = np.arange(40 * 40, dtype=np.uint8).reshape(40, 40)
    Image.fromarray(np.dstack([(photo[:40, :40] * 255).astype(np.uint8), alpha])).save("in/alpha.png", dpi=(300, 300))
    turned = Image.fromarray((photo[:40, :30] * 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a cat"
    turned.save("in/turned.jpg", exif=exif)
    assert run("in", "out", "--degradation", "blind", "--model", model).exit_code == 0
    samples = cv2.imread("out/deep.png", cv2.IMREAD_UNCHANGED)
    assert samples.dtype == np.uint16 and len(np.unique(samples & 255)) > 50
    with Image.open("out/alpha.png") as image:
        np.testing.assert_array_equal(np.asarray(image)[..., 3], alpha)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    with Image.open("out/turned.jpg") as image:
        assert image.size == (40, 30)
        assert image.getexif()[0x010E] == "a cat" and image.getexif().get(0x0112, 1) == 1
    assert read_image(Path("out/deep.png")).bits == 16


def test_a_dry_run_writes_nothing(folder: Path, model: str) -> None:
    done = run("in", "out", "--degradation", "haze", "--model", model, "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "in/a.png -> out/a.png: haze\nin/sub/b.jpg -> out/sub/b.jpg: haze\n")
    assert sorted(path.name for path in folder.iterdir()) == ["in"]


@pytest.mark.parametrize("words", [("haze,snow",), ("haze+snow",), ("haze", "--degradation", "snow")])
def test_several_kinds_are_named_in_one_word_or_one_by_one(folder: Path, model: str, words: tuple[str, ...]) -> None:
    done = run("in/a.png", "out.png", "--degradation", *words, "--model", model, "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "in/a.png -> out.png: haze + snow\n")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("in", "out", "--degradation", "snwo"), 2, "did you mean snow"),
        (("in", "out", "--degradation", "rain,snwo"), 2, "did you mean snow"),
        (("in", "out", "--degradation", "snow,blind"), 2, "goes with no other"),
        (("in", "out", "--degradation", "snow", "--degradation", "blind"), 2, "goes with no other"),
        (("in", "out"), 2, "no folder recogniser"),
        (("in", "out", "--degradation", "auto"), 2, "as in --degradation rain"),
        (("in", "out", "--degradation", "auto", "--degradation", "snow"), 2, "goes with no other"),
        (("none", "out", "--degradation", "blind"), 3, "none does not exist"),
        (("in", "in", "--degradation", "blind"), 2, "--overwrite"),
        (("in", "out", "--degradation", "blind", "--report", "sheet.txt"), 2, "--report"),
        (("in", "out", "--degradation", "blind", "--reference", "in"), 2, "add --report report.html"),
        (
            ("in", "out", "--degradation", "blind", "--report", "r.html", "--reference", "none"),
            3,
            "none does not exist",
        ),
        (("in", "out", "--degradation", "blind", "--compare", "in/a.png"), 2, "would replace in/a.png"),
        (("in/a.png", "o.png", "--degradation", "blind", "--compare", "in/sub/b.jpg"), 2, "--reference FILE"),
        (("in", "out", "--degradation", "blind", "--model", "./nowhere"), 2, "names no model"),
        (("in", "out", "--degradation", "blind", "--device", "abacus"), 2, "accepted: auto, cpu"),
        (("in", "out", "--example", "in/a.png", "in/sub/b.jpg"), 3, "differ in size"),
        (("in", "out", "--example", "in/a.png", "missing.png"), 3, "missing.png"),
        (("in", "out", "--degradation", "blind", "--steps", "51"), 2, "--steps"),
        (("in", "out", "--degradation", "blind", "--tile", "100"), 2, "--tile"),
    ],
)
def test_refusals(folder: Path, model: str, args: tuple[str, ...], code: int, says: str) -> None:
    done = run(*args) if "--model" in args else run(*args, "--model", model)
    assert done.exit_code == code, done.output
    assert says in done.stderr and "Traceback" not in done.output
    assert not Path("out").exists()


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom defusion_cli.app import app\n"
        "done = CliRunner().invoke(app, ['restore', '--help'])\n"
        "assert done.exit_code == 0 and 'Example' in done.output\n"
        "print(sorted({'torch', 'diffusers', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_settings_file_gives_the_instruction(folder: Path, model: str) -> None:
    Path("defusion.toml").write_text(f'[restore]\nin = "in"\nout = "out"\nmodel = "{model}"\ndegradation = "jpeg"\n')
    done = run("--dry-run")
    assert done.exit_code == 0 and done.stdout.count(": jpeg") == 2, done.output


def _page(path: str) -> dict[str, Any]:
    text = Path(path).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.split('id="data">')[1].split("</script>")[0])
    return found


def test_a_page_with_scores(folder: Path, model: str, photo: np.ndarray) -> None:
    write_image(Path("true/a.jpg"), photo[:50, :61])
    Path("in/broken.png").write_bytes(b"x")
    options = ("in", "out", "--degradation", "rain", "--model", model, "--report", "r.html", "--reference", "true")
    done = run(*options)
    assert (done.exit_code, done.stdout) == (3, "r.html\n"), done.output
    assert "2 of 3 pictures have no scores" in done.stderr
    page = _page("r.html")
    entries = {entry["name"]: entry for entry in page["entries"]}
    assert set(entries["a.png"]["views"]) == {"before", "after", "true"}
    assert set(entries["sub/b.jpg"]["views"]) == {"before", "after"}
    assert "broken.png" in entries["broken.png"]["problem"]
    values = entries["a.png"]["values"]
    before, after, true = (read_pixels(Path(name)) for name in ("in/a.png", "out/a.png", "true/a.jpg"))
    assert values["psnr"] == pytest.approx(-10 * np.log10(np.mean((after - true) ** 2)), abs=0.01)
    assert values["psnr_gain"] == pytest.approx(values["psnr"] + 10 * np.log10(np.mean((before - true) ** 2)), abs=0.01)
    assert values["change"] == pytest.approx(255 * np.abs(after - before).mean(), abs=1e-3)
    assert values["shown"] == "rain" and values["seconds"] > 0
    assert page["first"] == {"key": "psnr", "falling": False}


def test_a_page_of_pictures_that_were_done_before(folder: Path, model: str) -> None:
    run("in", "out", "--degradation", "blind", "--model", model)
    done = run("in", "out", "--degradation", "blind", "--model", model, "--report", "r.html")
    assert done.exit_code == 0
    page = _page("r.html")
    assert [entry["notes"] for entry in page["entries"]] == [["done before"]] * 2
    assert page["first"] == {"key": "change", "falling": True}


def test_a_page_tells_what_was_recognised_and_how_sure_that_is(folder: Path) -> None:
    from defusion_cli.commands.report_pages import write_restore_page
    from defusion_cli.restore.plan import plan_jobs
    from defusion_cli.restore.run import Outcome

    jobs = plan_jobs(Path("in"), Path("out"))
    for job in jobs:
        write_image(job.target, read_pixels(job.source))
    outcomes = [Outcome(job, "restored", 1.0, (61, 50)) for job in jobs]
    write_restore_page(Path("r.html"), outcomes, "auto", None, {"a.png": ("rain + noise", 0.87)})
    page = _page("r.html")
    values = {entry["name"]: entry["values"] for entry in page["entries"]}
    assert (values["a.png"]["shown"], values["a.png"]["confidence"]) == ("rain + noise", pytest.approx(87))
    assert values["sub/b.jpg"]["shown"] == "auto" and "confidence" not in values["sub/b.jpg"]
    assert "confidence" in [column["key"] for column in page["columns"]]


def test_the_scale_can_be_forced_and_is_told(folder: Path, model: str) -> None:
    made = {}
    for scale in ("auto", "1", "0.25"):
        done = run("in/a.png", f"{scale}.png", "--degradation", "blind", "--model", model, "--scale", scale, "--json")
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        made[scale] = Path(f"{scale}.png").read_bytes(), report["files"][0]["scales"], report["settings"]["scale"]
        assert ("a.png: worked on at 1/4 of its size" in done.stderr) == (scale == "0.25")
    assert made["auto"] == (made["1"][0], [1.0], "auto")  # a small picture is never reduced
    assert made["0.25"][0] != made["1"][0] and made["0.25"][1:] == ([0.25], 0.25)
    Path("defusion.toml").write_text("[restore]\nscale = 0.25\n")
    assert run("in/a.png", "toml.png", "--degradation", "blind", "--model", model).exit_code == 0
    assert Path("toml.png").read_bytes() == made["0.25"][0]
    refused = run("in/a.png", "x.png", "--degradation", "blind", "--model", model, "--scale", "0.3")
    assert refused.exit_code == 2 and "0.3" in refused.stderr and not Path("x.png").exists()


def test_pictures_that_cannot_be_read_are_counted(folder: Path, model: str) -> None:
    for name in ("a.NEF", "sub/b.nef", "c.gif", "notes.txt"):
        Path("in", name).write_bytes(b"x")
    done = run("in", "out", "--degradation", "blind", "--model", model)
    assert done.exit_code == 0 and "left out, as they cannot be read: 1 .gif, 2 .nef (" in done.output


def test_a_report_that_cannot_be_written_is_told_before_the_work(folder: Path, model: str) -> None:
    Path("page.html").mkdir()
    done = run("in", "out", "--degradation", "blind", "--model", model, "--report", "page.html")
    assert done.exit_code == 2 and "--report names no page" in done.stderr and not Path("out").exists()
    for name in ("page.html", "sheet.png"):
        done = run("in", "out", "--degradation", "blind", "--model", model, "--report", f"in/a.png/{name}")
        assert done.exit_code == 3 and "in/a.png" in done.stderr and not Path("out").exists(), done.output
