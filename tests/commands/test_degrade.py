from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from defusion_cli.app import app
from defusion_cli.images import read_image, read_pixels, write_image

FIXTURES = Path(__file__).parents[1] / "fixture_plugins"
MANIFEST = "defusion-manifest.jsonl"


@pytest.fixture
def folder(tmp_path, monkeypatch, photo):
    """A working folder with three pictures in ``in/``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    write_image(Path("in/a.png"), photo)
    write_image(Path("in/sub/b.jpg"), photo[:64, :80])
    write_image(Path("in/sub/deeper/c.tif"), photo[20:90, 5:70])
    return tmp_path


def run(*args: str):
    return CliRunner().invoke(app, ["degrade", *args])


def contents(folder: str) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def entries(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, MANIFEST).read_text().splitlines()[1:]]


def test_a_folder_keeps_its_structure_and_gets_a_manifest(folder):
    done = run("--plugin", "snow", "in", "out")
    assert (done.exit_code, done.stdout) == (0, f"out/{MANIFEST}\n")
    assert "3 written" in done.stderr
    assert sorted(contents("out")) == ["a.png", MANIFEST, "sub/b.png", "sub/deeper/c.tif"]
    for entry in entries("out"):
        source, output = Path("in", entry["source"]), Path("out", entry["output"])
        assert entry["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
        assert entry["output_sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
        assert set(entry["versions"]) >= {"defusion", "numpy", "opencv", "pillow"}
        before, after = read_pixels(source), read_pixels(output)
        assert before.shape == after.shape
        assert not np.array_equal(before, after)


def test_several_kinds_are_named_in_one_word_or_one_by_one(folder):
    made = []
    for out, *words in (("o1", "haze,noise"), ("o2", "haze+noise"), ("o3", "haze", "--plugin", "noise")):
        assert run("--plugin", *words, "in", out).exit_code == 0
        made.append({name: pixels for name, pixels in contents(out).items() if name != MANIFEST})
    assert made[0] == made[1] == made[2]


def test_same_bytes_whatever_the_jobs_and_the_other_files(folder, photo):
    options = ("--plugin", "rain", "--plugin", "noise", "--variants", "2", "--severity", "0.5")
    assert run(*options, "--jobs", "1", "in", "one").exit_code == 0
    assert run(*options, "--jobs", "2", "in", "two").exit_code == 0
    assert contents("one") == contents("two")
    write_image(Path("in/0.png"), photo)
    assert run(*options, "in", "three").exit_code == 0
    assert contents("three")["a_v2.png"] == contents("one")["a_v2.png"]
    assert contents("three")["a_v2.png"] != contents("one")["a_v1.png"]


def test_the_seed_and_the_severity_matter(folder):
    for name, options in {"s0": [], "s1": ["--seed", "1"]}.items():
        assert run("--plugin", "noise", *options, "in", name).exit_code == 0
    assert contents("s0")["a.png"] != contents("s1")["a.png"]
    clean, damage = read_pixels(Path("in/a.png")), []
    for severity in ("0", "0.5", "1"):
        assert run("--plugin", "noise", "--severity", severity, "in", severity).exit_code == 0
        damage.append(np.abs(read_pixels(Path(severity, "a.png")) - clean).mean())
    assert damage == sorted(damage)


def test_parameters_are_forced(folder):
    assert (
        run("--plugin", "rain", "--set", "rain.wind-deg=10", "--set", "rain.blend=screen", "in", "out").exit_code == 0
    )
    for entry in entries("out"):
        params = entry["recipe"]["stages"][0]["params"]
        assert (params["wind_deg"], params["blend"]) == (10, "screen")


def test_all_orders_have_the_same_realisations(folder):
    done = run("--plugin", "rain", "--plugin", "noise", "--plugin", "jpeg", "--orders", "all", "in/a.png", "out")
    assert done.exit_code == 0
    found = entries("out")
    assert len(found) == 6
    assert found[0]["output"] == "jpeg+noise+rain/a.png"
    stages = [sorted(entry["recipe"]["stages"], key=lambda s: s["plugin"]) for entry in found]
    assert all(s == stages[0] for s in stages)
    assert len({entry["output_sha256"] for entry in found}) == 6


def test_physical_order_is_that_of_the_light(folder):
    assert run("--plugin", "jpeg", "--plugin", "rain", "--orders", "physical", "in/a.png", "out").exit_code == 0
    assert [stage["plugin"] for stage in entries("out")[0]["recipe"]["stages"]] == ["rain", "jpeg"]


def test_the_manifest_makes_every_file_again(folder):
    assert run("--plugin", "haze", "--plugin", "noise", "--variants", "2", "in", "out").exit_code == 0
    done = run("--from-manifest", f"out/{MANIFEST}", "--jobs", "2", "in", "again")
    assert done.exit_code == 0
    assert contents("again") == contents("out")


def test_the_manifest_names_pictures_that_are_not_as_they_were(folder, photo):
    assert run("--plugin", "noise", "in", "out").exit_code == 0
    write_image(Path("in/a.png"), 1 - photo)
    done = run("--from-manifest", f"out/{MANIFEST}", "in", "again")
    assert done.exit_code == 3
    assert "in/a.png is not the picture that the manifest was made from" in done.stderr
    assert "2 written, 1 failed" in done.stderr


def test_a_promise_that_is_not_kept_is_told(folder):
    assert run("--plugin", "noise", "in/a.png", "out").exit_code == 0
    path = Path("out", MANIFEST)
    path.write_text(path.read_text().replace(entries("out")[0]["output_sha256"], "0" * 64))
    done = run("--from-manifest", str(path), "in", "again")
    assert done.exit_code == 3
    assert "does not have the bytes that the manifest promises" in done.stderr
    assert Path("again/a.png").exists()


def spoil(folder: str, change) -> None:
    path = Path(folder, MANIFEST)
    lines = path.read_text().splitlines()
    entry = json.loads(lines[1])
    change(entry)
    path.write_text("\n".join([lines[0], json.dumps(entry)]) + "\n")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda e: e.update(output="../a.png"), "outside of the folder"),
        (lambda e: e.update(output="/tmp/a.png"), "outside of the folder"),
        (lambda e: e.update(output="x/../../a.png"), "outside of the folder"),
        (lambda e: e.update(output="..\\a.png"), "outside of the folder"),
        (lambda e: e.update(output="C:a.png"), "outside of the folder"),
        (lambda e: e.update(source="../in/a.png"), "outside of the folder"),
        (lambda e: e.update(source=""), "outside of the folder"),
        (lambda e: e.update(output="\ud800.png"), "outside of the folder"),
        (lambda e: e.update(source="\ud800.png"), "outside of the folder"),
        (lambda e: e.update(output="\x1b[31ma.png"), "control characters"),
        (lambda e: e.update(source="a\n.png"), "control characters"),
        (lambda e: e.update(output="a\x7f.png"), "control characters"),
        (lambda e: e.update(output="a.sh"), "no picture"),
        (lambda e: e.update(command="rm"), "is not an entry"),
        (lambda e: e.pop("recipe"), "is not an entry"),
        (lambda e: e.update(source=1), "wrong type"),
        (lambda e: e.update(recipe={}), "not a recipe"),
        (lambda e: e["recipe"]["stages"][0].update(version="0"), "another version"),
        (lambda e: e["recipe"].update(depth_seed=-1), "seed is not usable"),
        (lambda e: e.update(source="link.png"), "link that leaves"),
        (lambda e: e.update(output="out-link/a.png"), "link that leaves"),
        (lambda e: e.update(source="loop/a.png"), "link that leaves"),
    ],
)
def test_untrusted_manifests_are_refused(folder, change, sentence):
    assert run("--plugin", "noise", "in/a.png", "out").exit_code == 0
    Path("secret.png").write_bytes(Path("in/a.png").read_bytes())
    Path("in/link.png").symlink_to(folder / "secret.png")
    Path("in/loop").symlink_to("loop")
    Path("again").mkdir()
    Path("again/out-link").symlink_to(folder)
    spoil("out", change)
    done = run("--from-manifest", f"out/{MANIFEST}", "in", "again")
    assert done.exit_code == 3
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in Path("again").iterdir()] == ["out-link"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]\n", '{"kind": "defusion-manifest", "version": 9}\n', "\udcff", "[" * 10**5]
)
def test_what_is_no_manifest_is_refused(folder, text):
    Path("m.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = run("--from-manifest", "m.jsonl", "in", "out")
    assert done.exit_code == 3
    assert "Traceback" not in done.stderr


def test_unreadable_files_are_named_and_the_rest_is_done(folder):
    Path("in/0.png").write_bytes(Path("in/a.png").read_bytes()[:500])
    Path("in/1.jpg").write_text("not a picture")
    Path("in/2.png").symlink_to("nowhere.png")
    done = run("--plugin", "noise", "in", "out")
    assert done.exit_code == 3
    for name in ("in/0.png", "in/1.jpg", "in/2.png"):
        assert name in done.stderr
    assert "3 written, 3 failed" in done.stderr
    assert len(contents("out")) == 4


def test_a_rerun_keeps_what_is_there_and_makes_what_is_missing(folder):
    options = ("--plugin", "noise", "in", "out")
    assert run(*options).exit_code == 0
    before = contents("out")
    stamp = Path("out/a.png").stat().st_mtime_ns
    Path("out/sub/b.png").unlink()
    done = run(*options)
    assert done.exit_code == 0
    assert "1 written, 2 already there" in done.stderr
    assert contents("out") == before
    assert Path("out/a.png").stat().st_mtime_ns == stamp


def test_what_was_made_otherwise_is_not_overwritten_unasked(folder):
    assert run("--plugin", "noise", "in", "out").exit_code == 0
    before = contents("out")
    done = run("--plugin", "noise", "--seed", "1", "in", "out")
    assert done.exit_code == 3
    assert done.stderr.count("--overwrite") == 1
    assert "3 failed" in done.stderr
    assert contents("out") == before
    assert run("--plugin", "noise", "--seed", "1", "--overwrite", "in", "out").exit_code == 0
    assert contents("out") != before


def test_a_picture_that_a_crash_left_out_of_the_manifest_is_taken_in(folder):
    options = ("--plugin", "noise", "in", "out")
    assert run(*options).exit_code == 0
    before = contents("out")
    lines = Path("out", MANIFEST).read_text().splitlines()
    Path("out", MANIFEST).unlink()
    Path("out/.defusion-journal.jsonl").write_text(f"\n{lines[1]}\n{lines[2][:99]}")
    done = run(*options)
    assert done.exit_code == 0
    assert "3 already there" in done.stderr
    assert contents("out") == before


def test_leftovers_of_a_killed_run_go_away(folder):
    for name, age_s in (("out/sub/.defusion-1-00.tmp", 4000), ("out/.defusion-2-00.tmp", 10)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"half")
        os.utime(name, (time.time() - age_s,) * 2)
    assert run("--plugin", "noise", "in", "out").exit_code == 0
    assert [name for name in contents("out") if name.endswith(".tmp")] == [".defusion-2-00.tmp"]


def test_earlier_pictures_stay_in_the_manifest(folder):
    assert run("--plugin", "noise", "in/a.png", "out").exit_code == 0
    assert run("--plugin", "haze", "in/sub", "out").exit_code == 0
    assert [entry["output"] for entry in entries("out")] == ["a.png", "b.png", "deeper/c.tif"]


def test_lossy_twins_do_not_collide(folder, photo):
    write_image(Path("in/a.jpg"), photo)
    assert run("--plugin", "noise", "in", "out").exit_code == 0
    assert {"a.png", "a.jpg.png"} <= set(contents("out"))


def test_lossy_twins_without_a_lossless_one_keep_their_suffixes(folder, photo):
    write_image(Path("in/sub/b.webp"), photo[:30, :40])
    Path("in/sub/b.heic").write_bytes(b"what not every installation can read")
    done = run("--plugin", "noise", "in", "out")
    assert done.exit_code == 3 and "sub/b.heic.png: " in done.stderr
    assert sorted(contents("out")) == ["a.png", MANIFEST, "sub/b.jpg.png", "sub/b.webp.png", "sub/deeper/c.tif"]


def test_what_is_not_damaged_comes_back(folder, photo):
    grey = (photo[..., 0] * 65535).astype(np.uint16)
    Image.fromarray(grey).save("in/grey.png")
    Image.fromarray(np.dstack([(photo * 255).astype(np.uint8), np.full(photo.shape[:2], 7, np.uint8)])).save(
        "in/rgba.png"
    )
    assert run("--plugin", "noise", "in", "out").exit_code == 0
    picture = read_image(Path("out/grey.png"))
    assert (picture.bits, picture.grey) == (16, True)
    assert (read_image(Path("out/rgba.png")).alpha == 7).all()


def test_dry_run_writes_nothing(folder):
    done = run("--plugin", "noise", "--dry-run", "in", "out")
    assert done.exit_code == 0
    assert "in/sub/b.jpg -> out/sub/b.png: noise(" in done.stdout
    assert not Path("out").exists()


def test_json_report(folder):
    done = run("--plugin", "noise", "--json", "in", "out")
    report = json.loads(done.stdout)
    assert report["kind"] == "defusion-degrade"
    assert (report["version"], report["written"], report["failed"]) == (1, 3, 0)
    assert report["manifest"] == f"out/{MANIFEST}"


@pytest.mark.parametrize(
    ("args", "code", "sentences"),
    [
        (["in", "out"], 2, ["No degradation was named", "--plugin snow"]),
        (["--plugin", "snwo", "in", "out"], 2, ["did you mean snow?"]),
        (["--plugin", "snow", "in"], 2, ["IN and OUT are needed"]),
        (["--plugin", "snow", "in", "in"], 2, ["both input and output"]),
        (["--plugin", "snow", "in", "in/a.png"], 2, ["is not a folder"]),
        (["--plugin", "snow", "in/a.png", "b.png"], 2, ["looks like a picture"]),
        (["--plugin", "snow", "in/a.png", "in"], 2, ["one of the inputs"]),
        (["--plugin", "snow", "nowhere", "out"], 3, ["nowhere does not exist"]),
        (["--plugin", "snow", "empty", "out"], 3, ["no pictures in empty"]),
        (["--plugin", "snow", "--set", "wind=1", "in", "out"], 2, ["ID.NAME=VALUE"]),
        (["--plugin", "snow", "--set", "rain.wind_deg=1", "in", "out"], 2, ["plugin that is not used"]),
        (["--plugin", "rain", "--set", "rain.wnd_deg=1", "in", "out"], 2, ["did you mean rain.wind_deg?"]),
        (["--plugin", "rain", "--set", "rain.wind_deg=1e9", "in", "out"], 2, ["rain.wind_deg is out of range"]),
        (["--plugin", "snow", "--severity", "2", "in", "out"], 2, ["--severity"]),
        (["--plugin", "snow", "--orders", "any", "in", "out"], 2, ["given, physical, all"]),
        (["--plugin", "snow", "--plugin", "snow", "--orders", "all", "in", "out"], 2, ["each plugin once"]),
        (["--plugin", "snow", "--from-manifest", "m", "in", "out"], 2, ["--from-manifest says all"]),
        (["--from-manifest", "m.jsonl", "in", "out"], 3, ["m.jsonl cannot be read"]),
    ],
)
def test_mistakes_are_explained(folder, args, code, sentences):
    Path("empty").mkdir()
    before = contents(".")
    done = run(*args)
    assert done.exit_code == code, done.stderr
    for sentence in sentences:
        assert sentence in done.stderr
    assert contents(".") == before


def test_six_orders_times_many_plugins_are_refused(folder):
    six = [arg for name in ("rain", "snow", "haze", "noise", "jpeg", "raindrop") for arg in ("--plugin", name)]
    done = run(*six, "--orders", "all", "in", "out")
    assert done.exit_code == 2
    assert "up to 5" in done.stderr


def test_outputs_inside_the_input_are_not_taken_as_inputs(folder):
    options = ("--plugin", "noise", "in", "in/out")
    assert run(*options).exit_code == 0
    done = run(*options)
    assert "3 already there" in done.stderr


def test_preview_shows_ground_and_photo(folder):
    done = run("--plugin", "rain", "--plugin", "noise", "--orders", "all")
    assert (done.exit_code, done.stdout) == (0, "defusion-preview-rain+noise.png\n")
    sheet = read_pixels(Path(done.stdout.strip()))
    # Four columns: untouched, two orders, the residual; the photograph is 600 px wide, the ground 224 px high.
    assert sheet.shape[1] == 4 * (600 + 24)
    assert sheet.shape[0] == 224 + 400 + 2 * 40
    done = run("--plugin", "snow", "--dry-run")
    assert not Path("defusion-preview-snow.png").exists()


def test_the_list_names_everything(folder):
    done = run("--list")
    assert done.exit_code == 0
    for word in ("motion-blur", "raindrop", "defusion 0."):
        assert word in done.stdout
    done = run("--list", "--plugin", "rain")
    for word in ("rain.wind_deg", "deg", "density"):
        assert word in done.stdout
    listed = json.loads(run("--list", "--json").stdout)
    assert {row["id"] for row in listed["degradations"]} >= {"rain", "snow"}
    assert listed["broken"] == []
    one = json.loads(run("--list", "--json", "--plugin", "noise").stdout)["degradations"]
    assert [row["name"] for row in one[0]["params"]][:2]
    assert run("--list", "--plugin", "rian").exit_code == 2


def defusion(*args: str, plugins: str = "", **options):
    folders = [*(str(FIXTURES / name) for name in plugins.split()), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, folders))
    env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "160"}
    command = [sys.executable, "-m", "defusion_cli", "degrade", *args]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_third_party_plugins_good_and_bad(folder, photo):
    write_image(Path("in/dark.png"), photo * 0.1)
    listing = defusion("--list", plugins="tint broken raising")
    out, err = listing.communicate(timeout=300)
    assert listing.returncode == 0, err
    assert "fixture-tint 1.0" in out
    assert "a colour filter [in front of the lens]" in out
    assert "broken: ModuleNotFoundError: No module named 'a_library_that_nobody_has'" in out
    run = defusion("--plugin", "tint", "--plugin", "raising", "--jobs", "2", "in", "out", plugins="tint raising")
    _, err = run.communicate(timeout=300)
    assert run.returncode == 4
    assert "dark.png: The degradation 'raising' failed. (found ZeroDivisionError: too dark for me)" in err
    assert "3 written, 1 failed" in err
    broken = defusion("--plugin", "broken", "in", "out2", plugins="broken")
    _, err = broken.communicate(timeout=300)
    assert broken.returncode == 4
    assert "fixture-broken" in err


@pytest.mark.parametrize(
    ("jobs", "number", "code"),
    [
        *(("1", signal.SIGINT, 130), ("2", signal.SIGINT, 130), ("1", signal.SIGTERM, 143), ("2", signal.SIGTERM, 143)),
        *(("1", signal.SIGHUP, 143), ("2", signal.SIGHUP, 143)),
    ],
)
def test_interrupted_work_is_kept_and_continued(folder, photo, jobs, number, code):
    _many(photo)
    options = ("--plugin", "defocus-blur", "--plugin", "haze", "--severity", "1", "many", "out", "--jobs", jobs)
    # The tests may themselves have been started with nohup.
    process = defusion(*options, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    _wait_for_a_picture()
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Finished files are kept" in err and "Traceback" not in err
    assert not list(Path("out").glob(".*"))
    done = contents("out")
    assert 1 <= sum(name.endswith(".png") for name in done) < 16
    if number == signal.SIGINT:  # SIGTERM may come between a picture and its entry, which the rerun then makes
        assert {entry["output"] for entry in entries("out")} == set(done) - {MANIFEST}
    assert run(*options).exit_code == 0
    assert run(*options[:-4], "many", "undisturbed").exit_code == 0
    assert contents("out") == contents("undisturbed")


def _many(photo):
    for number in range(16):
        write_image(Path(f"many/{number:02}.png"), photo)


def _wait_for_a_picture():
    deadline = time.monotonic() + 300
    while not list(Path("out").glob("*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks for processes in /proc")
def test_workers_leave_with_a_killed_parent(folder, photo):
    _many(photo)
    process = defusion("--plugin", "haze", "many", "out", "--jobs", "2")
    _wait_for_a_picture()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.kill()
    deadline = time.monotonic() + 300  # one may still be importing
    while any(map(_lives, children)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _lives(process: str) -> bool:
    try:
        return bool(Path("/proc", process, "cmdline").read_bytes())  # one that waits to be buried has none
    except OSError:
        return False


def test_a_full_disk_is_one_sentence(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    done = run("--plugin", "noise", "--jobs", "1", "in", "out")
    assert done.exit_code == 1
    assert "The disk is full" in done.stderr
    assert contents("out") == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_sentence(folder):
    Path("out").mkdir(mode=0o500)
    done = run("--plugin", "noise", "in", "out")
    assert done.exit_code == 3
    assert "Permission denied" in done.stderr


def test_nothing_of_torch_is_imported(folder):
    code = (
        "import sys\nfrom defusion_cli.app import app\n"
        "try: app(['degrade', '--plugin', 'noise', 'in', 'out'])\n"
        "except SystemExit as e: assert not e.code\n"
        "try: app(['degrade', '--plugin', 'noise'])\n"
        "except SystemExit as e: assert not e.code\n"
        "print({'torch', 'diffusers', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
